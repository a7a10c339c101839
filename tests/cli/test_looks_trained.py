"""A finished study that is given looks, more seeds and fresh seeds: real trainings of the toy, by the command line."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from commands import call, widen
from makers import write

pytestmark = [
    pytest.mark.slow,  # `runner/test_rounds.py` goes the same rounds without processes
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),  # as the queue does
]

ABLATION = """
title = "Speed"
question = "Does it matter how slowly nothing is learned?"

[arms.slower]
set = { "gate" = "none" }

[arms.wider]
set = { "depth" = 3 }
"""
STUDY = """
title = "Tiny: does speed matter?"
subject = "toy"
ablations = ["speed"]
seeds = [1, 2, 3]
margin = 0.1

[base]
"epochs" = 1
"noise" = 0.4
"""
"""The gate is no part of the skill, so that `slower` equals the base to the last example, while `wider` has other
luck, and more of it than three seeds can see through."""

LOOKS = STUDY.replace("seeds = [1, 2, 3]", "seeds = [1, 2, 3, 4, 5]\nlooks = [3, 5]\nconfirm = [101, 102]")


@dataclass(frozen=True)
class Ran:
    """What a command ended with, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def stn_bench(*arguments: object, root: Path) -> Ran:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        widen(patch, 200)
        code = call(*arguments, "--root", root)
    return Ran(code, out.getvalue(), err.getvalue())


def make_question(folder: Path, study: str) -> Path:
    """Write a study and its question to a folder and return it."""
    write(folder / "ablations/speed.toml", ABLATION)
    write(folder / "studies/tiny.toml", study)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root whose study is finished without looks."""
    folder = make_question(tmp_path_factory.mktemp("root"), STUDY)
    done = stn_bench("run", "tiny", "--workers", 1, root=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def looked(root: Path) -> Ran:
    """Run the same study with looks and fresh seeds, and return what it said."""
    (root / "studies/tiny.toml").write_text(LOOKS)
    done = stn_bench("run", "tiny", "--confirm", "--workers", 1, root=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def question(root: Path, looked: Ran) -> dict[str, Any]:
    return dict(json.loads((root / "reports/tiny/report.json").read_text())["ablations"][0])


def test_the_added_seeds_of_the_open_arm_and_its_base_are_trained_and_nothing_else(looked: Ran) -> None:
    assert "look 2 of 2: base, speed/wider" in looked.stdout
    assert "tiny, verdict: 4 runs to train, 9 finished before" in looked.stdout
    assert "speed/slower, seed 4" not in looked.stdout


def test_the_last_lines_say_who_stopped(looked: Ran) -> None:
    assert "stopped at look 1 of 2: speed/slower" in looked.stdout


def test_the_report_has_the_looks(question: dict[str, Any]) -> None:
    arms = {arm["name"]: arm for arm in question["arms"]}
    assert (arms["slower"]["verdict"], arms["slower"]["look"], arms["slower"]["stopped"]) == ("equivalent", 1, True)
    assert (arms["wider"]["look"], arms["wider"]["stopped"]) == (2, False)
    assert {name: (len(arm["seeds"]), arm["planned"]) for name, arm in arms.items()} == {
        "base": (5, 5),
        "slower": (3, 3),
        "wider": (5, 5),
    }


def test_the_last_lines_say_what_fresh_seeds_make_of_the_best_arm(looked: Ran, question: dict[str, Any]) -> None:
    assert f"  {question['confirmation']['arm']} was chosen at " in looked.stdout
    assert "2 fresh seeds (101, 102)" in looked.stdout


def test_the_best_arm_is_confirmed_on_the_fresh_seeds(question: dict[str, Any]) -> None:
    found, arms = question["confirmation"], {arm["name"]: arm for arm in question["arms"]}
    assert found["seeds"] == [101, 102]
    assert found["selected_difference"] == max(arms[name]["difference"] for name in ("slower", "wider"))
    differences = [ours - theirs for ours, theirs in zip(found["values"], found["base_values"], strict=True)]
    assert found["difference"] == pytest.approx(sum(differences) / 2)


def test_runs_csv_tells_the_phases_apart(root: Path, question: dict[str, Any]) -> None:
    rows = csv.DictReader(StringIO((root / "reports/tiny/runs.csv").read_text()))
    best = question["confirmation"]["arm"]
    assert Counter((row["arm"], row["phase"]) for row in rows) == {
        ("base", "verdict"): 5,
        ("slower", "verdict"): 3,
        ("wider", "verdict"): 5,
        ("base", "confirm"): 2,
        (best, "confirm"): 2,
    }


@pytest.mark.usefixtures("looked")
def test_status_counts_the_runs_that_are_wanted(root: Path) -> None:
    status = json.loads(stn_bench("status", "tiny", "--json", root=root).stdout)
    assert (status["planned"], status["finished"]) == (13, 13)
    assert {arm["arm"]: arm["seeds"] for arm in status["arms"]} == {
        "base": "5/5",
        "speed/slower": "3/3",
        "speed/wider": "5/5",
    }
    assert status["arms"][0]["confirmed"] == "2/2"


@pytest.mark.usefixtures("looked")
def test_nothing_is_left_to_train_where_the_runs_are_imported(root: Path, tmp_path: Path) -> None:
    clone = make_question(tmp_path, LOOKS)
    assert "17 runs of study tiny" in stn_bench("export", "tiny", tmp_path / "runs.zip", root=root).stdout
    assert "17 runs of study tiny merged" in stn_bench("import", tmp_path / "runs.zip", root=clone).stdout
    again = stn_bench("run", "tiny", "--confirm", root=clone)
    assert again.returncode == 0, again.stderr
    assert "runs to train" not in again.stdout
    reports = [(folder / "reports/tiny/report.json").read_text() for folder in (root, clone)]
    assert reports[0] == reports[1]


def test_confirming_needs_fresh_seeds(tmp_path: Path) -> None:
    refused = stn_bench("run", "tiny", "--confirm", root=make_question(tmp_path, STUDY))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "studies/tiny.toml: confirmation needs fresh seeds; add `confirm = [..]`" in refused.stderr
    assert not (tmp_path / "mlruns").exists()
