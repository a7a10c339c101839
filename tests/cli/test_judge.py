"""`stn-bench judge`: from a CSV, or a foreign MLflow store, to the verdict and the report."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commands import Cli, call, widen
from tiny import make_toy_root

import stn_bench
from stn_bench.cli.options import console

RESULTS = """method,seed,acc
baseline,1,0.912
baseline,2,0.905
baseline,3,0.918
baseline,4,0.909
baseline,5,0.914
mixup,1,0.926
mixup,2,0.921
mixup,3,0.929
mixup,4,0.924
mixup,5,0.931
ResNet-50 (ours),1,0.913
ResNet-50 (ours),2,0.906
ResNet-50 (ours),3,0.917
ResNet-50 (ours),4,0.910
ResNet-50 (ours),5,0.913
"""
ANSWER = """
Does an arm differ from baseline in acc?
  better: with mixup acc rises by 1.46 points [1.17, 1.75], on 5 of 5 seeds
  equivalent: with ResNet-50 (ours) acc stays within the margin: +0.02 points [−0.12, +0.16], better on 3 of 5 seeds
"""
HEAVY = ("keras", "tensorflow", "jax", "mlflow", "optuna", "matplotlib", "torch", "cv2")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.csv"
    path.write_text(RESULTS)
    return path


# From a CSV ----------------------------------------------------------------------------------------------------------


def test_one_command_says_what_came_of_a_csv(cli: Cli, results: Path) -> None:
    code, out, err = cli("judge", results)
    assert code == 0
    assert out.startswith(ANSWER)
    assert re.search(r"ResNet-50 \(ours\) +5/5 +91.18 ± 0.41 +\+0.02 \[−0.12, \+0.16\] +0.704 +equivalent", out)
    assert err == "arm: method, seed: seed, metric: acc, base: baseline; maximize, margin 0.50 points\n"


def test_the_names_of_columns_may_be_said(cli: Cli, results: Path) -> None:
    said = ("--arm", "method", "--seed", "seed", "--metric", "acc", "--base", "baseline", "--margin", 0.005)
    assert cli("judge", results, *said) == cli("judge", results)


def test_the_whole_report_is_written(cli: Cli, results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    code, out, _ = cli("judge", results, "-o", folder, "--format", "md,html,latex,csv")
    assert code == 0
    assert out.endswith(f"report: {folder / 'verdicts.csv'}\n")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *("report.md", "report.json", "report.html", "report.tex", "runs.csv", "verdicts.csv"),
        *("figures/verdicts.png", "figures/method_differences.png"),
    }
    page = (folder / "report.md").read_text()
    assert "Judged from results.csv. Nothing shows how these runs were made" in page
    assert "Base: `method` = baseline." in page
    for said in ("preregistered", "what it changes", "Cost", "Every arm alike", "tuning", "MLflow", "Plan `"):
        assert said not in page, said


def test_json_holds_columns_notes_and_summaries(cli: Cli, results: Path) -> None:
    code, out, _ = cli("judge", results, "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["columns"]["arm"], told["columns"]["metrics"], told["notes"]) == ("method", ["acc"], [])
    assert [arm["verdict"] for arm in told["summaries"][0]["ablations"][0]["arms"]] == [None, "better", "equivalent"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected a CSV file, or --mlflow URI --experiment NAME"),
        (("results.csv", "--mlflow", "x", "--experiment", "y"), "not both"),
        (("--mlflow", "x"), "--mlflow and --experiment belong together"),
        (("none.csv",), "none.csv: no such file"),
        (("results.csv", "--looks", "3,x"), "--looks: expected numbers of seeds by commas"),
        (("results.csv", "--looks", "3,4"), "`looks` must rise from 3"),
        (("results.csv", "--arm", "metod"), "Did you mean `method`?"),
        (("results.csv", "--format", "docx", "-o", "out"), "--format"),
        (
            ("results.csv", "--format", "pdf"),
            "--format pdf: says what is written to a folder; name",
        ),
        (("results.csv", "--margin", "abc"), "--margin: expected a number such as 0.005, got `abc`"),
        (("results.csv", "--margin", "ac=0.1"), "--margin: no metric `ac` is judged. Did you mean `acc`?"),
        (("results.csv", "--direction", "acc=up"), "--direction: expected maximize or minimize, got `up`"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    arguments: tuple[str, ...], said: str, cli: Cli, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results.parent)
    code, out, err = cli("judge", *arguments)
    assert (code, out) == (2, "")
    told = [line for line in err.splitlines() if line.startswith("stn-bench: ")]
    assert len(told) == 1
    assert said in told[0]


TWO = "method,seed,acc,loss\n" + "".join(
    f"{arm},{seed},{acc + seed / 1000 + acc * (seed % 2) / 50},{1 - acc - seed / 900 - acc * (seed % 2) / 50}\n"
    for arm, acc in (("base", 0.5), ("new", 0.6))
    for seed in range(5)
)
BOTH = ("--metric", "acc", "--metric", "loss")


def words(out: str) -> list[str]:
    return re.findall(r"^  (\w+): with", out, re.MULTILINE)


@pytest.mark.parametrize(
    "said",
    [
        ("--direction", "acc=maximize", "--direction", "loss=minimize"),
        ("--direction", "loss=minimize"),  # more of acc is better, as of any metric of which nobody says otherwise
        ("--direction", "maximize", "--direction", "minimize"),
        ("--direction", "loss=minimize", "--margin", "loss=0.01", "--margin", "acc=0.005"),
    ],
)
def test_each_of_several_metrics_has_its_direction(said: tuple[str, ...], cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text(TWO)
    code, out, _ = cli("judge", tmp_path / "two.csv", *BOTH, *said)
    assert (code, words(out)) == (0, ["better", "better"])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            ("--direction", "minimize"),
            "minimize is said of 2 metrics, and `acc` sounds as if more were better; say it of each: "
            "--direction acc=maximize --direction loss=minimize",
        ),
        (("--direction", "maximize"), "and `loss` sounds as if less were better"),
        ((), "is less of `loss` better? Say it: --direction loss=minimize"),
        (("--direction", "acc=maximize", "--direction", "minimize"), "--direction: expected METRIC=VALUE of each"),
        (("--direction", "acc=maximize", "--direction", "acc=minimize"), "of each, once, got acc=maximize, acc=mini"),
    ],
)
def test_a_direction_that_fits_not_all_metrics_is_refused(
    said: tuple[str, ...], told: str, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "two.csv").write_text(TWO)
    code, out, err = cli("judge", tmp_path / "two.csv", *BOTH, *said)
    assert (code, out) == (2, "")
    assert told in err


def scaled(metric: str, base: float, difference: float, part: float, dataset: str = "") -> list[str]:
    """Return rows whose differences are 0.9, 1 and 1.1 times `difference`; the base spreads by a part of itself."""
    rows = []
    for seed, way in enumerate((-1, 0, 1)):
        value = base * (1 + part * way)
        rows.append(f"base,{seed},{value!r}{dataset}")
        rows.append(f"arm,{seed},{value + difference * (1 + way / 10)!r}{dataset}")
    return rows


@pytest.mark.parametrize(
    ("metric", "base", "difference", "part", "row", "told"),
    [
        ("mse", 3e-5, -2e-6, 0.02, "2.80e−05 ± 4e−07", "2.0e−06 [1.5e−06, 2.5e−06]"),
        ("perplexity", 1570.0, -0.302, 1e-4, "1569.70 ± 0.13", "0.30 [0.23, 0.38]"),
        ("error", 9e-5, -3e-5, 1e-3, "0.0060 ± 0.0003", "0.0030 points [0.0023, 0.0037]"),
    ],
)
def test_what_is_small_beside_its_metric_is_told_everywhere_by_the_same_digits(
    metric: str, base: float, difference: float, part: float, row: str, told: str, cli: Cli, tmp_path: Path
) -> None:
    """By hand: s is a tenth of the difference, and t(2 df) / √3 = 2.48."""
    (tmp_path / "small.csv").write_text("\n".join([f"arm,seed,{metric}", *scaled(metric, base, difference, part)]))
    asked = ("--base", "base", "--direction", "minimize", "--margin", abs(difference) / 10)
    code, out, _ = cli("judge", tmp_path / "small.csv", *asked, "-o", tmp_path / "out", "--format", "md,html,latex")
    assert code == 0
    page, html, tex = ((tmp_path / f"out/report.{kind}").read_text() for kind in ("md", "html", "tex"))
    tex = tex.replace("$-$", "−").replace(r"$\pm$", "±")
    for text in (out, page, html, tex):
        assert f"falls by {told}" in text
        assert row in text
        ends = re.findall(r"[\d.e−]*\d", told.partition("[")[2])
        assert f"[−{ends[1]}, −{ends[0]}]" in text


def test_each_data_set_has_the_digits_of_its_own_scale(cli: Cli, tmp_path: Path) -> None:
    rows = scaled("mse", 3e-5, -2e-6, 0.02, ",small") + scaled("mse", 250.0, -20.0, 0.02, ",large")
    (tmp_path / "both.csv").write_text("\n".join(["arm,seed,mse,data", *rows]))
    asked = ("--base", "base", "--direction", "minimize", "--dataset", "data")
    code, out, _ = cli("judge", tmp_path / "both.csv", *asked)
    assert code == 0
    assert "falls by 2.0e−06 [1.5e−06, 2.5e−06]" in out
    assert "falls by 20.0 [15.0, 25.0]" in out


def test_arms_without_a_common_seed_are_named(cli: Cli, tmp_path: Path) -> None:
    runs = [("base", seed) for seed in (1, 2, 3)] + [("new", seed) for seed in (4, 5, 6)]
    rows = [f"{arm},{seed},{0.5 + seed / 100}" for arm, seed in runs]
    (tmp_path / "apart.csv").write_text("\n".join(["method,seed,acc", *rows]))
    code, _, err = cli("judge", tmp_path / "apart.csv")
    assert (code, "New and base have no seed in common" in err) == (0, True)


NASTY = '<img src=x onerror=alert(1)> | [x](http://x) $\\frac{a}$ \\input{x} `rm` "q" é 数'


def test_differences_that_are_all_alike_are_undecided_for_want_of_a_resolution(cli: Cli, tmp_path: Path) -> None:
    rows = [f"{arm},{seed},{value}" for arm, value in (("base", 1.0), ("arm", 0.99)) for seed in (1, 2, 3)]
    (tmp_path / "alike.csv").write_text("\n".join(["arm,seed,acc", *rows]))
    code, out, _ = cli("judge", tmp_path / "alike.csv", "--base", "base")
    assert (code, "more seeds" in out) == (0, False)
    assert "all pairs differ alike, and no test can be made where nothing tells the metric's resolution" in out
    _, out, _ = cli("judge", tmp_path / "alike.csv", "--base", "base", "--resolution", "0.01")
    assert "−1.00 points [−2.76, +0.76]" in out  # by hand: s² = h²/2, t(2 df) = 4.30


def test_differences_that_rounding_alone_tells_apart_are_all_alike(cli: Cli, tmp_path: Path) -> None:
    """0.8 − 0.7 is not 0.7 − 0.6 in floating point: no number of seeds decides that."""
    columns = (("base", (0.7, 0.6, 0.5)), ("arm", (0.8, 0.7, 0.6)))
    rows = [f"{arm},{seed},{value}" for arm, values in columns for seed, value in enumerate(values)]
    (tmp_path / "alike.csv").write_text("\n".join(["arm,seed,acc", *rows]))
    _, out, _ = cli("judge", tmp_path / "alike.csv", "--base", "base")
    assert "all pairs differ alike, and no test can be made" in out
    assert "undecided, no spread" in out
    assert "thousand" not in out


def test_equal_differences_within_the_margin_are_no_equivalence(cli: Cli, tmp_path: Path) -> None:
    rows = [f"{arm},{seed},{value}" for arm, value in (("base", 0.5), ("arm", 0.75)) for seed in range(5)]
    (tmp_path / "alike.csv").write_text("\n".join(["arm,seed,acc", *rows]))
    _, out, _ = cli("judge", tmp_path / "alike.csv", "--base", "base", "--margin", 0.3, "--looks", "3,5")
    assert "undecided: with arm" in out
    assert "equivalent" not in out


@pytest.mark.parametrize(
    ("base", "arm", "said"),
    [
        ((0.5, 0.52, 0.53), (0.5, 0.52, 0.53), ["my `arm` equals the base on each of 3 seeds; perhaps"]),
        ((0.5, 0.52, 0.53), (0.51, 0.53, 0.54), ["my `arm` differs by +1.00 points on each seed alike, so that"]),
        ((0.5, 0.5, 0.5), (0.5, 0.52, 0.53), ["control has one value on all 3 seeds, 50.00 %; perhaps training"]),
        ((0.5, 0.52, 0.53), (0.51, 0.51, 0.54), []),
    ],
)
def test_what_looks_as_if_nothing_was_measured_is_said(
    base: tuple[float, ...], arm: tuple[float, ...], said: list[str], cli: Cli, tmp_path: Path
) -> None:
    table = tmp_path / "results.csv"
    runs = [
        (name, seed, value)
        for name, values in (("control", base), ("my `arm`", arm))
        for seed, value in enumerate(values)
    ]
    table.write_text("method,seed,acc\n" + "".join(f"{name},{seed},{value}\n" for name, seed, value in runs))
    code, out, _ = cli("judge", table)
    assert code == 0
    told = [line for line in out.splitlines() if line.startswith("  ! ")]
    assert [line[: 4 + len(start)] for line, start in zip(told, said, strict=True)] == [
        f"  ! {start}".replace("`", "'") for start in said
    ]
    assert "\n".join(told) in repr(stn_bench.judge(table))


def test_any_name_is_harmless_on_every_page(cli: Cli, tmp_path: Path) -> None:
    quoted = NASTY.replace('"', '""')
    text = RESULTS.replace("ResNet-50 (ours)", f'"{quoted}"').replace("acc", '"a/../c: 数"')
    (tmp_path / "results.csv").write_text(text)
    folder = tmp_path / "out"
    assert cli("judge", tmp_path / "results.csv", "-o", folder, "--format", "md,html,latex,csv")[0] == 0
    assert {path.name for path in folder.iterdir()} >= {"report.md", "figures"}
    page, html, tex = ((folder / f"report.{kind}").read_text() for kind in ("md", "html", "tex"))
    assert "<img src=x" not in html
    assert "http://x" not in re.sub(r"<code>.*?</code>", "", html)
    assert "\\input{x}" not in tex
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows[:3]}) == 1


@pytest.mark.parametrize("metric", ["../../x", "top-1 @ 0.5", "x](http://x) <img src=x>", "z\\"])
def test_names_are_shown_as_they_are(metric: str, cli: Cli, tmp_path: Path) -> None:
    text = RESULTS.replace("ResNet-50 (ours)", "<unk>").replace("mixup", "z\\").replace("acc", metric)
    (tmp_path / "results.csv").write_text(text)
    code, out, _ = cli("judge", tmp_path / "results.csv", "-o", tmp_path / "out")
    assert code == 0
    assert f"better: with z\\ {metric} rises by" in out
    assert re.search(r"^z\\ +5/5", out, re.MULTILINE)
    assert re.search(rf"^arm +seeds +{re.escape(metric)}, %  ", out, re.MULTILINE)
    page = (tmp_path / "out/report.md").read_text()
    assert "| `<unk>` " in page
    bare = re.sub(r"`[^`]*`", "", page)
    assert not re.search(r"(?<!\\)(<img|\]\(http)", bare)


def test_it_loads_nothing_heavy(results: Path) -> None:
    code = f"""
import sys
from stn_bench.cli import main
sys.argv = ["stn-bench", "judge", {str(results)!r}]
try:
    main()
finally:
    print("LOADED", *sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "LOADED"


def test_a_study_that_was_trained_has_the_same_verdict_again(cli: Cli, tmp_path: Path) -> None:
    root = make_toy_root(tmp_path)
    assert cli("run", "tiny", "--root", root, "--workers", 1)[0] == 0
    folder = root / "reports/tiny"
    (trained,) = json.loads((folder / "report.json").read_text())["ablations"]
    asked = (
        "--arm",
        "arm",
        "--seed",
        "seed",
        "--metric",
        "test.score",
        "--base",
        "base",
        "--margin",
        0.05,
        "--resolution",
        0.025,
    )
    code, out, _ = cli("judge", folder / "runs.csv", *asked, "--json")
    (again,) = json.loads(out)["summaries"][0]["ablations"]
    assert code == 0
    for one, other in zip(trained["arms"], again["arms"], strict=True):
        for name in ("verdict", "pairs", "wins", "look"):
            assert one[name] == other[name]
        for name in ("mean", "difference", "p_adjusted"):
            assert other[name] == (one[name] if one[name] is None else pytest.approx(one[name]))


# From a foreign MLflow store -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store as other people's programs leave one: nested, with runs that failed or logged something else."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path_factory.mktemp('foreign') / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("digits")

    def run(arm: str, seed: int, value: float | None, status: str = "FINISHED", **tags: str) -> str:
        made = client.create_run(experiment, tags={**({"arm": arm} if arm else {}), **tags}).info.run_id
        if seed:
            client.log_param(made, "seed", seed)
        for step in range(2 if value is not None else 0):  # by step: the last one counts
            client.log_metric(made, "acc", value if step else 0.1, step=step)
        client.set_terminated(made, status=status)
        return str(made)

    parent = run("", 0, None)
    for line in RESULTS.splitlines()[1:11]:
        arm, seed, value = line.split(",")
        run(arm, int(seed), float(value), **{"mlflow.parentRunId": parent})
    run("mixup", 5, None, "FAILED")  # and made again
    run("mixup", 7, 0.9, "KILLED")
    run("mixup", 8, None)
    return uri


def test_a_foreign_store_is_judged_and_what_is_left_out_is_said(cli: Cli, store: str, tmp_path: Path) -> None:
    asked = ("--mlflow", store, "--experiment", "digits", "--arm", "tags.arm", "--seed", "params.seed")
    code, out, err = cli("judge", *asked, "--metric", "metrics.acc", "--base", "baseline", "-o", tmp_path / "out")
    assert code == 0
    assert "better: with mixup acc rises by 1.46 points [1.17, 1.75], on 5 of 5 seeds" in out
    for said in (
        "1 run left out, a parent of others: ",
        "1 run left out, neither finished nor failed: ",
        "1 run left out, without metrics.acc: ",
        "1 run left out, failed, and made again: ",
    ):
        assert said in err
    assert "Judged from experiment digits. Nothing shows" in (tmp_path / "out/report.md").read_text()


@pytest.mark.parametrize(
    ("experiment", "arm", "said"),
    [
        ("digit", "tags.arm", "no experiment `digit`. Did you mean `digits`?"),
        ("digits", "tags.arms", "no column `tags.arms`. Did you mean `tags.arm`?"),
    ],
)
def test_what_a_foreign_store_has_not_is_said(cli: Cli, store: str, experiment: str, arm: str, said: str) -> None:
    code, out, err = cli("judge", "--mlflow", store, "--experiment", experiment, "--arm", arm, "--seed", "params.seed")
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("address", "said"), [("sqlite:///{}/none.db", "no such file"), ("{}/mlruns", "no such folder")]
)
def test_a_store_that_is_not_there_is_not_made(cli: Cli, tmp_path: Path, address: str, said: str) -> None:
    code, _, err = cli("judge", "--mlflow", address.format(tmp_path), "--experiment", "x")
    assert code == 2
    assert said in err
    assert not list(tmp_path.iterdir())


def test_into_another_programs_database_nothing_is_written(cli: Cli, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE recipes (name)")
        other.commit()
    before = (tmp_path / "other.db").read_bytes()
    code, _, err = cli("judge", "--mlflow", f"sqlite:///{tmp_path / 'other.db'}", "--experiment", "x")
    assert code == 2
    assert "is another program's database" in err
    assert (tmp_path / "other.db").read_bytes() == before


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_a_folder_that_is_no_store_says_what_it_holds_and_is_left_alone(cli: Cli, store: str, tmp_path: Path) -> None:
    for name in ("mlruns/artifacts", "empty", "st/mlruns"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("mlruns", "st/mlruns"):
        shutil.copy(store.removeprefix("sqlite:///"), tmp_path / name / "mlflow.db")
    (tmp_path / "zero.db").touch()
    with closing(sqlite3.connect(tmp_path / "st/mlruns/mlflow.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    with closing(sqlite3.connect(tmp_path / "mlruns/mlflow.db")) as old:
        old.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        old.execute("DROP TABLE metrics")  # MLflow would make it again
        old.commit()
    before = contents(tmp_path)
    for address, said in {
        tmp_path / "mlruns": f"holds mlflow.db; say sqlite:///{tmp_path}/mlruns/mlflow.db",
        tmp_path / "st": f"holds mlruns/mlflow.db; say sqlite:///{tmp_path}/st/mlruns/mlflow.db",
        (tmp_path / "st/mlruns").as_uri(): f"holds mlflow.db; say sqlite:///{tmp_path}/st/mlruns/mlflow.db",
        tmp_path / "empty": "no store of MLflow's is there",
        f"sqlite:///{tmp_path}/zero.db": "has no table; expected a store of MLflow's",
        f"sqlite:///{tmp_path}/mlruns/mlflow.db": "was written by an older MLflow than",
    }.items():
        code, out, err = cli("judge", "--mlflow", address, "--experiment", "digits")
        assert (code, out) == (2, "")
        assert said in err
        assert "WARNING" not in err
        assert contents(tmp_path) == before


def test_a_store_in_folders_is_read_and_left_as_it_is(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = tmp_path / "old store"
    client = MlflowClient(tracking_uri=str(folder))
    experiment = client.create_experiment("digits")
    for line in RESULTS.splitlines()[1:11]:
        arm, seed, value = line.split(",")
        made = client.create_run(experiment, tags={"arm": arm}).info.run_id
        client.log_param(made, "seed", seed)
        client.log_metric(made, "acc", float(value))
        client.set_terminated(made)
    (folder / ".trash").rmdir()  # as of a copy without empty folders
    (folder / "stray").mkdir()
    before = contents(tmp_path)
    for address in (folder, folder.as_uri()):
        code, out, _ = cli("judge", "--mlflow", address, "--experiment", "digits")
        assert (code, "better: with mixup acc rises by 1.46 points" in out) == (0, True)
        assert contents(tmp_path) == before
    assert cli("judge", "--mlflow", folder, "--experiment", "x")[0] == 2
    assert any("stray" in record.message for record in caplog.records)
    assert not any(record.exc_info for record in caplog.records)


def test_a_run_that_only_failed_is_a_seed_that_failed(cli: Cli, store: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store)
    experiment: Any = client.get_experiment_by_name("digits")
    made = client.create_run(experiment.experiment_id, tags={"arm": "mixup"}).info.run_id
    client.log_param(made, "seed", 1 + 5)
    client.set_terminated(made, status="FAILED")
    asked = ("--mlflow", store, "--experiment", "digits", "--arm", "tags.arm", "--seed", "params.seed")
    _, out, err = cli("judge", *asked, "--metric", "metrics.acc")
    assert "invalid: with mixup nothing can be said, 1 of 6 seeds of mixup failed" in out
    assert "1 run has no finite value and failed: mixup on seed 6 (no value, FAILED)" in err


def test_a_failed_run_that_was_made_again_is_known_however_its_seed_is_written(cli: Cli, store: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store)
    experiment: Any = client.get_experiment_by_name("digits")
    made = client.create_run(experiment.experiment_id, tags={"arm": "mixup"}).info.run_id
    client.log_param(made, "seed", "4.0")
    client.set_terminated(made, status="FAILED")
    asked = ("--mlflow", store, "--experiment", "digits", "--arm", "tags.arm", "--seed", "params.seed")
    code, _, err = cli("judge", *asked, "--metric", "metrics.acc")
    assert (code, "2 runs left out, failed, and made again: " in err) == (0, True)
    client.delete_run(made)


def test_looks_of_many_arms_share_evenly_and_the_page_says_so(cli: Cli, tmp_path: Path) -> None:
    rows = [f"arm{arm},{seed},{0.5 + 0.01 * ((7 * arm + 3 * seed) % 11)}" for arm in range(18) for seed in range(8)]
    (tmp_path / "many.csv").write_text("\n".join(["method,seed,acc", *rows]))
    code, _, _ = cli("judge", tmp_path / "many.csv", "--base", "arm0", "--looks", "4,6,8", "-o", tmp_path / "out")
    assert code == 0
    page = (tmp_path / "out/report.md").read_text()
    assert "2.21 % for 1 arm and 1.67 % for 17 arms (an even share of the looks) without an effect" in page


def test_values_too_large_to_square_are_failed_runs_and_no_traceback(cli: Cli, tmp_path: Path) -> None:
    rows = [f"{arm},{seed},{sign}1.5e308" for arm, sign in (("base", ""), ("arm", "-")) for seed in range(4)]
    rows += [f"sound,{seed},{1 + 0.1 * seed}" for seed in range(4)]
    (tmp_path / "huge.csv").write_text("\n".join(["method,seed,cost", *rows]))
    code, out, _ = cli("judge", tmp_path / "huge.csv", "--base", "sound", "--direction", "minimize")
    assert code == 0
    assert "4 of 4 seeds of arm failed" in out


@pytest.mark.parametrize(("step", "is_doubtful"), [(0.01, True), (0.5, True), (0.001, False), (1 / 597, False)])
def test_a_resolution_that_the_values_deny_is_doubted(cli: Cli, results: Path, step: float, is_doubtful: bool) -> None:
    code, _, err = cli("judge", results, "--resolution", step)
    assert code == 0
    assert ("But values differ by less than a quarter of one such step" in err) == is_doubtful


@pytest.mark.parametrize(("columns", "is_broken"), [(120, False), (80, False), (70, True)])
def test_the_table_fits_the_terminal_and_breaks_no_interval(
    columns: int, is_broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("mobilenet v2", 0), ("mine", 1), ("other", 2)]
    noise = (0.011, -0.004, 0.007, -0.013, 0.002)
    lines = [
        f"{name},{s},{0.8 + noise[s] + place * noise[(s + 2 * place) % 5]}" for name, place in rows for s in range(5)
    ]
    table = tmp_path / "results.csv"
    table.write_text("method,seed,acc\n" + "\n".join(lines), encoding="utf-8")
    widen(monkeypatch, columns)
    monkeypatch.setattr(console, "_force_terminal", True)
    assert call("judge", table, "--base", "mobilenet v2") == 0
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    printed = shown.partition("\n\n")[2].rpartition("\n\n")[2].splitlines()
    assert max(map(len, printed)) <= columns
    intervals = re.findall(r"\[[+−]\d+\.\d+, [+−]\d+\.\d+\]", "\n".join(printed))
    assert len(intervals) == 2, printed
    assert any(line.strip().startswith("± ") for line in printed) == is_broken
    assert ("roughly" in "".join(printed)) == (columns == 120)
    assert re.search(r"undecided[^\n]*more seeds?", shown)


def test_in_a_file_the_table_is_as_wide_as_it_needs_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "results.csv"
    table.write_text(RESULTS, encoding="utf-8")
    widen(monkeypatch, 60)
    assert call("judge", table) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.split(r" {2,}", last) == [
        "ResNet-50 (ours)", "5/5", "91.18 ± 0.41", "+0.02 [−0.12, +0.16]", "0.704", "equivalent",
    ]  # fmt: skip


def test_a_column_of_nothing_but_decimal_commas_is_told_by_its_row(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text('method,seed,acc\nbase,1,"0,5"\nmine,1,"0,7"\n', encoding="utf-8")
    code, _, err = cli("judge", table)
    assert code == 2
    assert "results.csv, row 2: `acc`: expected a number, got `0,5` (and 1 more); a comma is a decimal point" in err
