"""`stn-bench judge`: from a CSV, or a foreign MLflow store, to the verdict and the report."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commands import call, widen
from tiny import make_toy_root

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
  equivalent: with ResNet-50 (ours) acc stays within the margin: +0.02 points [−0.12, +0.16], ahead on 3 of 5 seeds
"""
HEAVY = ("keras", "tensorflow", "jax", "mlflow", "optuna", "matplotlib", "torch", "cv2")
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line and return exit code, output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = call(*arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    widen(monkeypatch, 200)
    monkeypatch.setenv("COLUMNS", "200")
    return run


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


NASTY = '<img src=x onerror=alert(1)> | [x](http://x) $\\frac{a}$ \\input{x} `rm` "q" é 数'


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
    asked = ("--arm", "arm", "--seed", "seed", "--metric", "test.score", "--base", "base", "--margin", 0.05)
    code, out, _ = cli("judge", folder / "runs.csv", *asked, "--json")
    (again,) = json.loads(out)["summaries"][0]["ablations"]
    assert code == 0
    for one, other in zip(trained["arms"], again["arms"], strict=True):
        for name in ("verdict", "pairs", "wins", "look", "method"):
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
