"""From Python and notebooks: code says what a file says, and trains what the command trains.

Slow tests start processes; the others train in none.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from commands import call
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_root, write
from matplotlib.figure import Figure
from stores import open_store

import stn_bench
from stn_bench import Ablation, Arm, Study
from stn_bench.figure import Figure as Drawn
from stn_bench.figure import new_figure
from stn_bench.runner.job import Job, train_job
from stn_bench.runner.runner import study_note
from stn_bench.study.catalogue import bundled_root
from stn_bench.study.load import load_plan
from stn_bench.study.plan import Plan
from stn_bench.study.preregistration import preregister, write_preregistration
from stn_bench.system.errors import CatalogueError, ConfigError, Interrupted, PlanError, ReportError
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.results import Keys

WAVES = """
def train(*, seed, run, degree=1, noise=0.5, epochs=2):
    value = 1.0 / degree + noise * 0.001 * seed
    for epoch in range(1, epochs + 1):
        run.log(epoch, {"train.error": value / epoch})
    return {"test.error": value}


train.curve = "train.error"
NUMBER = 3
"""
STUDY: dict[str, Any] = {
    "title": "A wave",
    "subject": "waves:train",
    "ablations": ["depth"],
    "seeds": [1, 2, 3],
    "metric": "test.error",
    "direction": "minimize",
    "margin": 0.02,
}
ABLATION: dict[str, Any] = {
    "title": "Degree",
    "question": "Does a cubic err less?",
    "arms": {"cubic": {"set": {"degree": 3}}},
}


@pytest.fixture(autouse=True)
def _forget_the_modules_of_a_root() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in ("waves", "other_waves"):
        if name not in modules:
            sys.modules.pop(name, None)


def toml(tree: Mapping[str, Any]) -> str:
    """Return a tree as TOML, every table an inline one."""

    def inline(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{ " + ", ".join(f"{json.dumps(key)} = {inline(one)}" for key, one in value.items()) + " }"
        return "[" + ", ".join(map(inline, value)) + "]" if isinstance(value, list) else json.dumps(value)

    return "".join(f"{json.dumps(key)} = {inline(value)}\n" for key, value in tree.items())


def in_code(study: Mapping[str, Any] = STUDY, ablation: Mapping[str, Any] = ABLATION) -> Study:
    """Return in code what the files say."""
    arms = [Arm(name, **arm) for name, arm in ablation.get("arms", {}).items()]
    question = Ablation("depth", **{**ablation, "arms": arms})
    return Study("small", **{**study, "ablations": [question]})


def in_files(folder: Path, study: Mapping[str, Any] = STUDY, ablation: Mapping[str, Any] = ABLATION) -> Path:
    """Return a root with these files, and the subject."""
    return with_subject(make_root(folder, study=toml(study), ablation=toml(ablation)))


def with_subject(root: Path, text: str = WAVES) -> Path:
    write(root / "waves.py", text)
    return root


def keys(plan: Plan, root: Path) -> list[str]:
    specs = [spec for arm in plan.arms for spec in (*arm.tuning_specs(), *arm.verdict_specs({}))]
    found = [Keys(plan.subject, root).identity(spec) for spec in specs]
    return [one.run_key for one in found if one]


# The same study ------------------------------------------------------------------------------------------------------

SEEDS = st.lists(st.integers(0, 50), min_size=3, max_size=5, unique=True)
SPACES = st.sampled_from([{"noise": {"low": 0.1, "high": 1.0, "log": True}}, {"noise": {"choices": [0.25, 0.5]}}])
TUNING = st.fixed_dictionaries(
    {
        "trials": st.integers(1, 3),
        "metric": st.just("val.error"),
        "direction": st.just("minimize"),
        "search": SPACES,
    }
)
ARMS = st.dictionaries(
    st.sampled_from(["cubic", "loud", "long"]),
    st.sampled_from(
        [
            {"set": {"degree": 3}, "published": {"test.error": 0.5}},
            {"set": {"epochs": 9}},
            {"set": {"epochs": 7, "degree": 2}, "together": "one schedule", "tuned": False},
        ]
    ),
    min_size=1,
).filter(lambda arms: len({json.dumps(arm) for arm in arms.values()}) == len(arms))
OPTIONAL = {"base": st.just({"epochs": 3}), "max_failed": st.just(1), "family": st.just("study"), "tuning": TUNING}
CLAIMS = st.just([{"says": "It does", "asked": "the same", "arm": "cubic", "needs": {"epochs": 3}}])


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    optional = draw(st.fixed_dictionaries({}, optional=OPTIONAL))
    seeds = draw(SEEDS)
    looks = {"looks": [3, len(seeds)]} if len(seeds) > 3 and draw(st.booleans()) else {}
    return {**STUDY, **optional, **looks, "seeds": seeds}


@settings(max_examples=15)
@given(study=studies(), arms=ARMS, claims=CLAIMS)
def test_a_study_in_code_is_the_plan_that_its_file_is(
    study: dict[str, Any], arms: dict[str, Any], claims: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ablation = {**ABLATION, "arms": arms, **({"claims": claims} if "cubic" in arms else {})}
    root = in_files(tmp_path_factory.getbasetemp() / "same", study, ablation)
    written, read = (load_plan(one, Workspace.at(root)) for one in (in_code(study, ablation), "small"))
    assert (written, written.digest) == (read, read.digest)
    assert keys(written, root) == keys(read, root)
    assert len(keys(read, root)) == read.jobs()


def test_factors_are_the_same_in_code(tmp_path: Path) -> None:
    ablation = {**ABLATION, "arms": {}, "factors": {"degree": [1, 3], "epochs": [2, 4]}}
    root = in_files(tmp_path, STUDY, ablation)
    assert load_plan(in_code(ablation=ablation), Workspace.at(root)) == load_plan("small", Workspace.at(root))


def test_lists_ranges_arrays_and_tables_are_what_they_mean() -> None:
    question = Ablation("depth", title="Degree", question="Q?", arms={"cubic": {"degree": np.int64(3)}})
    assert question == Ablation("depth", title="Degree", question="Q?", arms=[Arm("cubic", {"degree": 3})])
    assert type(question.arms[0].set["degree"]) is int
    for seeds in ([1, 2, 3], (1, 2, 3), range(1, 4), np.arange(1, 4), pd.Series([1, 2, 3])):
        assert Study("small", **{**STUDY, "ablations": question, "seeds": seeds}).seeds == (1, 2, 3)
    nested = Study("small", **{**STUDY, "tuning": {"trials": 1, "search": {"a": {"rate": {"low": 1, "high": 2}}}}})
    assert list(nested.tuning.search) == ["a.rate"]


def test_a_function_and_a_subject_are_named_by_their_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stn_bench.subjects.toy import subject

    write(tmp_path / "other_waves.py", WAVES)
    monkeypatch.syspath_prepend(tmp_path)
    import other_waves  # type: ignore[import-not-found]

    assert Study("small", **{**STUDY, "subject": other_waves.train}).subject == "other_waves:train"
    assert Study("small", **{**STUDY, "subject": subject}).subject == "toy"


# What cannot be used -------------------------------------------------------------------------------------------------


def unimportable(*, seed: int) -> dict[str, float]:
    return {}


unimportable.__module__ = "__main__"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": "1, 2"}, "Study: `seeds`: input should be a list, got '1, 2'"),
        ({"seeds": [1.5]}, "Study: `seeds.0`: input should be a valid integer, got 1.5"),
        ({"seeds": [1, 1]}, "Study: `seeds` must differ from one another, got 1 more than once"),
        ({"sedes": [1]}, "Study: no argument `sedes`. Did you mean `seeds`?"),
        ({"tuning": {"trails": 2}}, "Study: `tuning`: no argument `trails`. Did you mean `trials`?"),
        ({"subject": 3}, "Study: `subject`: input should be a valid string, got 3"),
        ({"subject": unimportable}, "`unimportable` is defined in the notebook or script itself"),
        ({"subject": lambda *, seed: {}}, "is held by no module under a name of its own"),
    ],
)
def test_a_mistake_in_code_is_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Study("small", **{**STUDY, **wrong})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"wide": 64}, r'Ablation: `arms.wide`: expected what the arm sets, such as {"width": 64}, got 64'),
        ([Arm("a", {"b": 1}), Arm("a")], "Ablation: two arms named `a`"),
        (["a"], "Ablation: `arms.0`: input should be a table, got 'a'"),
    ],
)
def test_arms_that_are_none_are_refused(arms: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Ablation("depth", title="Degree", question="Q?", arms=arms)


@pytest.mark.parametrize(
    ("study", "ablation", "message"),
    [
        (
            {},
            {"arms": {"a": {"set": {"degre": 3}}}},
            "Ablation `depth`: [arms.a]: no setting `degre`. Did you mean `deg",
        ),
        (
            {},
            {"arms": {"a": {"set": {"degree": "3"}}}},
            "Ablation `depth`: [arms.a]: `degree`: input should be a valid",
        ),
        ({}, {"arms": {"a": {"set": {"degree": 1}}}}, "Ablation `depth`: [arms.a]: changes nothing in study `small`"),
        ({}, {"arms": {}}, "Ablation `depth`: expected at least one [arms.NAME]"),
        (
            {},
            {"arms": {"A b": {"set": {"degree": 3}}}},
            "Ablation `depth`: [arms.A b]: expected a name of small letters",
        ),
        ({"base": {"nois": 1.0}}, {}, "Study `small`: [base]: no setting `nois`. Did you mean `noise`?"),
        ({"metric": ""}, {}, "Study `small`: expected `metric`"),
        ({"subject": "waves:trian"}, {}, "Study `small`: `subject` waves:trian: `waves` has no `trian`. Did you mean"),
        ({"title": "a\x1b[31m"}, {}, "Study `small`: expected text that a terminal shows as it is"),
        ({"base": {"degree": 2**70}}, {}, "Study `small`: expected whole numbers of at most 64 bits"),
        ({"base": {"a": {1: 2}}}, {}, "Study `small`: expected names for keys, got 1"),
    ],
)
def test_a_study_in_code_that_cannot_be_planned_says_where(
    tmp_path: Path, study: dict[str, Any], ablation: dict[str, Any], message: str
) -> None:
    written = in_code({**STUDY, **study}, {**ABLATION, **ablation})
    with pytest.raises(CatalogueError) as refused:
        stn_bench.results(written, root=with_subject(tmp_path))
    assert message in str(refused.value)
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("name", ["My study", "base", "../up", "con"])
def test_a_study_needs_a_name_that_a_file_may_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(CatalogueError, match="expected a name of small letters"):
        stn_bench.results(Study(name, **{**STUDY, "ablations": ["transformer"]}), root=with_subject(tmp_path))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workers": 0}, ConfigError, "`workers`: expected 1 or more, got 0"),
        ({"settings": {"degre": 2}}, ConfigError, "settings: no setting `degre`. Did you mean `degree`?"),
        ({"settings": {"degree": 2.5}}, ConfigError, "settings: `degree`: input should be a valid integer, got 2.5"),
        ({"confirm": True}, CatalogueError, "Study `small`: confirmation needs fresh seeds"),
    ],
)
def test_run_refuses_what_it_cannot_do_and_leaves_nothing(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        stn_bench.run(in_code(), root=with_subject(tmp_path), **options)
    assert not (tmp_path / "mlruns").exists()


def test_what_is_no_study_is_refused() -> None:
    with pytest.raises(ConfigError, match="run: `study`: expected text or a Study, got \\{"):
        stn_bench.run({"name": "small"})  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="Studdy"):
        _ = stn_bench.Studdy


def test_a_file_of_the_same_name_must_ask_the_same(tmp_path: Path) -> None:
    root = in_files(tmp_path)
    stn_bench.results(in_code(), root=root)
    for other in (in_code({**STUDY, "margin": 0.1}), in_code(ablation={**ABLATION, "title": "Other"})):
        with pytest.raises(
            CatalogueError, match=r"small\.toml is another study of this name \(`(margin|depth)` differs"
        ):
            stn_bench.results(other, root=root)
    with pytest.raises(CatalogueError, match=r"quickstart\.toml is another study of this name"):
        stn_bench.results(Study("quickstart", **{**STUDY, "ablations": [in_code().given["depth"]]}), root=root)


def test_a_frozen_plan_holds_for_code_too(tmp_path: Path) -> None:
    root = with_subject(tmp_path)
    write_preregistration(root, preregister(load_plan(in_code(), Workspace.at(root))))
    with pytest.raises(PlanError, match=r"margin: was 0\.02, is 0\.1"):
        stn_bench.run(in_code({**STUDY, "margin": 0.1}), root=root)


# Where code is found -------------------------------------------------------------------------------------------------


def test_modules_of_a_root_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = in_files(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    for found in (root, str(root), "~/here"):
        assert stn_bench.results("small", root=found).missing == 6


def test_a_module_that_was_changed_is_read_again(tmp_path: Path) -> None:
    """Its settings and its run keys are those that a command would see, in a process that goes on."""

    def planned() -> tuple[list[str], Any]:
        plan = stn_bench.results("small", root=root).analyses[0].plan
        return keys(plan, root), plan.arms[0].settings["noise"]

    root = in_files(tmp_path)
    before = planned()
    with_subject(root, WAVES.replace("noise=0.5", "noise=0.25"))
    assert planned()[1] == 0.25
    with_subject(root, WAVES.replace("0.001", "0.002"))
    changed = planned()
    assert (changed[0] != before[0], changed[1]) == (True, 0.5)
    with_subject(root, WAVES.replace("NUMBER = 3", "NUMBER = 4"))  # nothing that training reaches
    assert planned() == before


def test_the_next_root_has_its_own_module(tmp_path: Path) -> None:
    for name, noise in (("one", 0.5), ("two", 0.125), ("one", 0.5)):
        root = with_subject(in_files(tmp_path / name), WAVES.replace("noise=0.5", f"noise={noise}"))
        assert stn_bench.results("small", root=root).analyses[0].plan.arms[0].settings["noise"] == noise


def test_a_module_from_elsewhere_is_not_taken_for_the_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_subject(tmp_path / "first")
    monkeypatch.syspath_prepend(tmp_path / "first")
    with pytest.raises(CatalogueError, match=r"`waves` is imported from .*first.*, and not from .*second"):
        stn_bench.results("small", root=in_files(tmp_path / "second"))


def test_a_subject_that_runs_its_own_study_while_it_is_imported_is_told_so(tmp_path: Path) -> None:
    body = "import stn_bench\nstn_bench.run('small')\n"
    root = with_subject(in_files(tmp_path), WAVES + body)
    with pytest.raises(
        CatalogueError, match=r"`waves` runs a study while it is imported .* `if __name__ == .__main__.:`"
    ):
        stn_bench.run("small", root=root)


# What comes back -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root whose study of files is trained, in this process."""
    root = in_files(tmp_path_factory.mktemp("trained"))
    workspace = Workspace.at(root)
    plan, store = load_plan("small", workspace), open_store(root / "mlruns")
    experiment = store.open_study("small", study_note(plan))
    for arm in plan.arms:
        for spec in arm.verdict_specs({}):
            identity = Keys(plan.subject, workspace.datasets).identity(spec)
            assert identity is not None
            job = Job.of(plan.subject, spec, identity, workspace, experiment=experiment, parent=None, threads=1)
            train_job(job, store)
    return root


def test_code_and_command_write_the_same_report_of_the_same_runs(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And neither trains what the other has trained."""
    folder = trained / "reports/small"

    def files() -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    result = stn_bench.run(in_code(), root=trained)
    from_code = files()
    assert result.report == folder / "report.md"
    assert "to train" not in capsys.readouterr().err
    for name in from_code:
        (folder / name).unlink()
    assert call("run", "small", "--root", trained) == 0
    out = capsys.readouterr().out
    assert files() == from_code
    assert repr(result) in out
    (written,) = result.write(trained / "again")
    assert {str(path.relative_to(written)): path.read_bytes() for path in written.rglob("*.*")} == from_code


def test_tables_hold_the_numbers_of_the_runs(trained: Path) -> None:
    result = stn_bench.results("small", root=trained)
    values = {
        (arm, seed): 1 / degree + 0.0005 * seed for arm, degree in (("base", 1), ("cubic", 3)) for seed in (1, 2, 3)
    }
    assert dict(zip(zip(result.runs.arm, result.runs.seed, strict=True), result.runs["test.error"], strict=True)) == (
        pytest.approx(values)
    )
    assert result.verdicts.set_index("name").loc["cubic", ["verdict", "difference"]].tolist() == (
        ["undecided", pytest.approx(1 / 3 - 1)]  # the same on each seed, so that no spread tells
    )
    curves = result.curves.set_index(["arm", "seed", "epoch"])["train.error"].to_dict()
    assert curves == pytest.approx({(*run, epoch): value / epoch for run, value in values.items() for epoch in (1, 2)})
    assert result.missing == 0
    assert result.summary == stn_bench.summary("small", root=trained)
    pd.testing.assert_frame_equal(result.runs, stn_bench.runs("small", root=trained))


def test_figures_are_those_of_matplotlib_and_leave_it_as_it_was(trained: Path, tmp_path: Path) -> None:
    result = stn_bench.results("small", root=trained)
    before = {
        name: dict.__getitem__(mpl.rcParams, name) for name in mpl.rcParams
    }  # to ask it for the backend sets one
    figures = result.figures()
    assert list(figures) == ["verdicts", "depth_differences", "depth_curves", "depth_cost"]
    assert all(isinstance(figure, Figure) for figure in figures.values())
    axes = figures["depth_curves"].axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert any(np.allclose(values, [1.001, 1.001 / 2]) for values in drawn.values()), drawn
    figures["verdicts"].savefig(tmp_path / "verdicts.pdf")
    assert (tmp_path / "verdicts.pdf").read_bytes().startswith(b"%PDF")
    assert {name: dict.__getitem__(mpl.rcParams, name) for name in mpl.rcParams} == before
    assert "matplotlib.pyplot" not in sys.modules or not __import__("matplotlib.pyplot").pyplot.get_fignums()


def test_a_figure_that_was_drawn_with_something_else_is_shown_in_one() -> None:
    with new_figure(2.0, 1.0) as (canvas, png):
        canvas.add_subplot()
    drawn = Drawn("other", "drawn elsewhere", bytes(png.getvalue()))
    assert drawn.canvas.get_size_inches().tolist() == [2.0, 1.0]
    (axes,) = drawn.canvas.axes
    assert axes.images[0].get_size() == (200, 400)


def test_a_notebook_shows_sentences_table_and_figure(trained: Path) -> None:
    result = stn_bench.results("small", root=trained)
    html, markdown = result._repr_html_(), result._repr_markdown_()
    assert '<span class="verdict undecided">undecided</span>' in html
    assert html.count('<img src="data:image/png;base64,') == 1
    assert "| `cubic` |" in markdown
    assert "](figures/" not in markdown
    assert repr(result).splitlines()[0] == "Does a cubic err less?"


def test_results_of_nothing_say_so_and_make_no_store(tmp_path: Path) -> None:
    result = stn_bench.results(in_code(), root=with_subject(tmp_path))
    assert (result.missing, len(result.runs), result.report) == (6, 0, None)
    assert "no seed has finished yet" in repr(result)
    with pytest.raises(ReportError, match="no run is finished yet"):
        result.write(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["waves.py"]


@pytest.mark.parametrize("formats", ["md,htlm", ["htlm"]])
def test_a_format_that_is_none_is_refused(trained: Path, tmp_path: Path, formats: Any) -> None:
    with pytest.raises(
        ReportError, match="formats: expected some of md, html, latex, tables, csv, pdf, svg, got `htlm`"
    ):
        stn_bench.results("small", root=trained).write(tmp_path, formats)


def test_the_address_that_mlflow_had_is_given_back(trained: Path, tmp_path: Path) -> None:
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mine = f"sqlite:///{tmp_path / 'mine.db'}"
    try:
        mlflow.set_tracking_uri(mine)
        os.environ.pop("MLFLOW_TRACKING_URI")
        stn_bench.results("small", root=trained)
        assert mlflow.get_tracking_uri() == mine
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    assert os.environ.get("MLFLOW_TRACKING_URI") == before


# The package ---------------------------------------------------------------------------------------------------------


def test_everything_that_is_promised_is_there_and_loads_late() -> None:
    assert all(hasattr(stn_bench, name) for name in stn_bench.__all__)
    assert set(stn_bench.__all__) <= set(dir(stn_bench))
    code = "import sys, stn_bench; print(*{'pydantic', 'numpy', 'pandas', 'mlflow', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Processes -----------------------------------------------------------------------------------------------------------

SCRIPT = """
import stn_bench
from stn_bench import Ablation, Study

degree = Ablation("depth", title="Degree", question="Does a cubic err less?", arms={"cubic": {"degree": 3}})
study = Study(
    "small", title="A wave", subject="waves:train", ablations=[degree], seeds=[1, 2, 3],
    metric="test.error", direction="minimize", margin=0.02,
)
result = stn_bench.run(study, workers=2)
print(result)
print("missing", result.missing)
"""


def start(folder: Path, *arguments: str, text: str | None = None) -> subprocess.Popen[str]:
    """Start Python in a folder, with standard input as given."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if text is not None:
        assert process.stdin
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
    return process


@pytest.mark.slow
@pytest.mark.parametrize("way", ["file", "text", "input"])
def test_a_script_needs_no_guard_wherever_it_comes_from(tmp_path: Path, way: str) -> None:
    with_subject(tmp_path, WAVES.replace("1.0 / degree", "(1.0 + 0.01 * seed) / degree"))
    write(tmp_path / "script.py", SCRIPT)
    arguments = {"file": ["script.py"], "text": ["-c", SCRIPT], "input": ["-"]}[way]
    out, err = start(tmp_path, *arguments, text=SCRIPT if way == "input" else None).communicate(timeout=200)
    assert out.splitlines()[1].startswith("  better: with degree = 3 (cubic) test error falls by 0.6800"), err
    assert out.splitlines()[-1] == "missing 0"
    assert err.splitlines()[0] == "small, verdict: 6 runs to train"
    assert sum("finished, " in line for line in err.splitlines()) == 6
    again, err = start(tmp_path, *arguments, text=SCRIPT if way == "input" else None).communicate(timeout=200)
    assert (again, err) == (out, "")


@pytest.mark.slow
def test_code_and_command_at_once_train_each_run_once(tmp_path: Path) -> None:
    root = in_files(tmp_path)
    write(root / "script.py", SCRIPT)
    command = start(root, "-m", "stn_bench", "run", "small", "--workers", "1")
    script = start(root, "script.py")
    for process in (command, script):
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
    assert len(stn_bench.runs("small", root=root)) == 6
    store = open_store(root / "mlruns")
    assert len(store.finished()) == 6


@pytest.mark.slow
def test_ctrl_c_stops_a_script_and_the_same_script_goes_on(tmp_path: Path) -> None:
    slow = WAVES.replace("run.log(", "time.sleep(0.5)\n        (run.folder / 'epoch').touch()\n        run.log(")
    with_subject(tmp_path, f"import time\n{slow.replace('epochs=2', 'epochs=20')}")
    write(tmp_path / "script.py", SCRIPT)
    process = start(tmp_path, "script.py")
    assert process.stderr
    assert "6 runs to train" in process.stderr.readline()
    while not list(tmp_path.glob("mlruns/checkpoints/*/*/epoch")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt: stopped; what was finished is kept, and the same call goes on from here" in err
    assert stn_bench.results(in_code(), root=tmp_path).missing == 6


@pytest.mark.parametrize(
    ("signum", "raised", "code"),
    [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143), (signal.SIGHUP, SystemExit, 129)],
)
def test_a_signal_ends_the_call_as_it_ends_a_program(
    signum: int,
    raised: type[BaseException],
    code: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise Interrupted("stopped", signum)

    monkeypatch.setattr("stn_bench.runner.runner.train_study", stop)
    question = Ablation("depth", title="D", question="Q?", arms=[Arm("four", set={"depth": 4})])
    study = Study("toys", title="T", subject="toy", ablations=[question], seeds=[1, 2, 3])
    with pytest.raises(raised) as stopped:
        stn_bench.run(study, root=tmp_path)
    assert getattr(stopped.value, "code", None) == code
    assert "the same call goes on from here" in f"{stopped.value}{capsys.readouterr().err}"


@pytest.mark.slow
def test_a_thread_may_run_a_study(tmp_path: Path) -> None:
    with_subject(tmp_path)
    found: list[int] = []
    work = threading.Thread(
        target=lambda: found.append(stn_bench.run(in_code(), root=tmp_path, workers=1, progress=False).missing)
    )
    work.start()
    work.join()
    assert found == [0]


@pytest.mark.slow
def test_the_python_of_the_readme_runs_as_it_is_printed(tmp_path: Path) -> None:
    readme = (bundled_root() / "README.md").read_text(encoding="utf-8")
    function = readme.partition("### Ask about any function\n")[2].partition("\n### ")[0]
    (module,) = re.findall(r"```python\n# waves.py\n(.*?)```", function, re.DOTALL)
    part = readme.partition("### Work from Python or a notebook\n")[2].partition("\n### ")[0]
    blocks = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    (printed,) = re.findall(r"says:\n\n```\n(.*?)```", part, re.DOTALL)
    write(tmp_path / "waves.py", module)
    out, err = start(tmp_path, "-c", "".join(blocks) + "\nprint(result)\n").communicate(timeout=200)
    assert printed in out, err
    assert (tmp_path / "reports/waves/report.md").is_file()
    assert (tmp_path / "verdicts.pdf").is_file()
