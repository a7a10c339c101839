"""What was frozen, and when: beside runs that ended before, and what changed since."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from commands import Cli
from tiny import make_root

from stn_bench.runner import stores
from stn_bench.study.preregistration import read_preregistration
from stn_bench.tracking.code import forget
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.store import FinishedRun

CODE = """
OFFSET = 1


def shifted(value):
    return value + OFFSET


def train(*, seed, depth=1):
    return {"test.score": shifted(depth)}


def again(*, seed, depth=1):
    return train(seed=seed, depth=depth)


train.data = "numbers.csv"
"""
STUDY = """
title = "Depth"
subject = "deep:train"
ablations = ["depth"]
seeds = [1, 2, 3]
metric = "test.score"
direction = "maximize"
"""
DEPTH = "[arms.two]\nset = { depth = 2 }\n"


class Store:
    """A store with runs that are known by their tags alone."""

    def __init__(self, runs: Iterable[FinishedRun]) -> None:
        self._runs = list(runs)

    def finished(self) -> list[FinishedRun]:
        return [run for run in self._runs if run.outcome == "finished"]

    def crashed(self, study: str) -> list[FinishedRun]:
        return [run for run in self._runs if run.outcome == "crashed" and run.study == study]

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        assert not list(run_ids)
        return []


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_root(tmp_path, STUDY, "deep")
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations/depth.toml").write_text(f'title = "Depth"\nquestion = "Deep?"\n{DEPTH}')
    (tmp_path / "deep.py").write_text(CODE)
    (tmp_path / "numbers.csv").write_text("1\n")
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns/mlflow.db").touch()
    with_runs(monkeypatch, ())
    return tmp_path


def with_runs(monkeypatch: pytest.MonkeyPatch, runs: Iterable[tuple[str, str]]) -> None:
    """Let the store hold runs of other settings, each of a study and with an outcome."""
    held = [
        FinishedRun(str(n), f"key-{n}", "other", "verdict", n, "", how, study) for n, (study, how) in enumerate(runs)
    ]
    monkeypatch.setattr(stores, "open_runs", lambda workspace: Store(held))


def frozen_line(cli: Cli, root: Path) -> str:
    code, out, _ = cli("plan", "deep", "--root", root)
    assert code == 0
    return next(line for line in out.splitlines() if "frozen" in line)


def test_runs_of_other_settings_were_there_before(cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_runs(monkeypatch, [("deep", "finished")] * 3 + [("deep", "crashed"), ("other", "finished")])
    code, out, error = cli("plan", "deep", "--freeze", "--root", root)
    assert (code, "after 4 runs of the study had ended" in out) == (0, True)
    assert "4 runs of study `deep` had ended already" in error
    assert "before the first run" not in frozen_line(cli, root)


def test_without_runs_it_is_before_the_first(cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_runs(monkeypatch, [("other", "finished")])
    assert cli("plan", "deep", "--freeze", "--root", root)[2].count("\n") == 1
    assert ", before the first run, as" in frozen_line(cli, root)


def test_a_change_that_is_declared_late_says_so(cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("plan", "deep", "--freeze", "--root", root)[0] == 0
    with_runs(monkeypatch, [("deep", "finished")])
    (root / "studies/deep.toml").write_text(f"{STUDY}margin = 0.1\n")
    assert cli("plan", "deep", "--freeze", "--because", "too fine", "--root", root)[0] == 0
    fixed = read_preregistration(root, "deep")
    assert fixed is not None
    assert (fixed.runs, [one.runs for one in fixed.deviations]) == (0, [1])


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("deep.py", CODE.replace("OFFSET = 1", "OFFSET = 2"), "code deep:OFFSET: was "),
        ("deep.py", CODE.replace("value + OFFSET", "value - OFFSET"), "code deep:shifted: was "),
        ("numbers.csv", "2\n", "data base: was "),
        ("studies/deep.toml", STUDY.replace("deep:train", "deep:again"), "subject: was deep:train, is deep:again"),
    ],
)
def test_code_and_data_that_change_are_a_deviation(cli: Cli, root: Path, file: str, text: str, named: str) -> None:
    assert cli("plan", "deep", "--freeze", "--root", root)[0] == 0
    (root / file).write_text(text)
    forget()  # as another process would
    assert named in frozen_line(cli, root)
    code, _, error = cli("run", "deep", "--root", root)
    assert (code, named in error, "declare it" in error) == (2, True, True)
    assert cli("plan", "deep", "--freeze", "--because", "a bug", "--root", root)[0] == 0
    assert "1 change declared since" in frozen_line(cli, root)


def test_a_comment_is_no_change(cli: Cli, root: Path) -> None:
    assert cli("plan", "deep", "--freeze", "--root", root)[0] == 0
    forget()
    (root / "deep.py").write_text(f"# a comment\n{CODE}")
    assert "changed" not in frozen_line(cli, root)
