"""The progress of a run in lines: how long a job took, and the time that is left where something tells it."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stn_bench.cli.progress import MOST_ARMS, Progress
from stn_bench.runner import progress
from stn_bench.runner.progress import ProgressLines
from stn_bench.runner.worker import JobEnded, JobEpoch, JobStarted


class Told:
    """A run whose events come at times of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, jobs: dict[str, str], epochs: int | None) -> None:
        self.lines: list[str] = []
        self.now = 0.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))
        plan: Any = SimpleNamespace(
            study=SimpleNamespace(name="mine"), subject=SimpleNamespace(curve=None, example="example")
        )
        self.watcher = ProgressLines(plan.study.name, plan.subject, self.lines.append)
        made: Any = {
            key: SimpleNamespace(name=key, epochs=epochs, spec=SimpleNamespace(label=arm)) for key, arm in jobs.items()
        }
        self.watcher.phase("verdict", made, 0)

    def at(self, seconds: float, event: Any) -> str:
        """Tell of an event, and return the head of the run after it."""
        self.now = seconds
        self.watcher.event(event)
        return self.watcher._head().rpartition("; time left: about ")[2] if "left" in self.watcher._head() else ""


def ended(key: str) -> JobEnded:
    return JobEnded(key, "finished", "")


@pytest.fixture
def six() -> dict[str, str]:
    return {f"{arm} {seed}": arm for seed in (1, 2, 3) for arm in ("base", "wide")}


def test_nothing_is_said_before_a_job_tells_it(monkeypatch: pytest.MonkeyPatch, six: dict[str, str]) -> None:
    told = Told(monkeypatch, six, epochs=None)
    assert told.at(5, JobStarted("base 1")) == ""
    assert told.at(5, JobStarted("wide 1")) == ""
    assert told.at(25, ended("base 1")) == "", "the first jobs load libraries, which the others find loaded"


def test_a_job_after_the_first_ones_tells_it(monkeypatch: pytest.MonkeyPatch, six: dict[str, str]) -> None:
    told = Told(monkeypatch, six, epochs=None)
    told.at(5, JobStarted("base 1"))
    told.at(5, JobStarted("wide 1"))
    told.at(25, ended("base 1"))
    told.at(25, JobStarted("base 2"))
    told.at(26, ended("wide 1"))
    told.at(26, JobStarted("wide 2"))
    assert told.at(29, ended("base 2")) == "6 s", "wide 2, base 3 and wide 3, of 4 seconds each, two at once"


def test_an_arm_that_takes_longer_counts_so(monkeypatch: pytest.MonkeyPatch, six: dict[str, str]) -> None:
    told = Told(monkeypatch, six, epochs=None)
    told.at(0, JobStarted("base 1"))
    told.at(10, ended("base 1"))
    told.at(10, JobStarted("base 2"))
    told.at(12, ended("base 2"))
    told.at(12, JobStarted("wide 1"))
    assert told.at(32, ended("wide 1")) == "42 s", "base 3 of 2 seconds, wide 2 and 3 of 20, one at once"


def test_epochs_of_a_long_job_tell_it_before_it_ends(monkeypatch: pytest.MonkeyPatch, six: dict[str, str]) -> None:
    told = Told(monkeypatch, six, epochs=10)
    told.at(0, JobStarted("base 1"))
    assert told.at(60, JobEpoch("base 1", 1, {}, 60.0)) == "", "a first epoch compiles"
    assert told.at(100, JobEpoch("base 1", 2, {}, 100.0)) == ""
    assert told.at(140, JobEpoch("base 1", 3, {}, 140.0)) == "38 min 0 s", "7 and 50 epochs of 40 seconds"
    assert told.lines[-1] == "base 1: epoch 3/10; time left: about 38 min 0 s"


def test_epochs_of_an_earlier_try_are_no_time_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, {"base 1": "base", "base 2": "base"}, epochs=10)
    told.at(0, JobStarted("base 1"))
    told.at(90, JobEpoch("base 1", 10, {}, 900.0))
    assert told.at(90, ended("base 1")) == "15 min 0 s"


def test_the_last_job_is_shared_by_no_workers(monkeypatch: pytest.MonkeyPatch, six: dict[str, str]) -> None:
    told = Told(monkeypatch, six, epochs=None)
    told.at(0, JobStarted("base 1"))
    told.at(0, JobStarted("wide 1"))
    for key in list(six)[:5]:
        told.at(0, JobStarted(key))
        left = told.at(100, ended(key))
    assert left == "1 min 40 s"


def test_behind_the_last_epoch_nothing_is_left_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, {"base 1": "base"}, epochs=3)
    told.at(0, JobStarted("base 1"))
    told.at(60, JobEpoch("base 1", 1, {}, 60.0))
    assert told.at(160, JobEpoch("base 1", 2, {}, 160.0)) == "1 min 40 s"
    assert told.at(260, JobEpoch("base 1", 3, {}, 260.0)) == ""


def test_a_job_that_tells_of_no_epoch_is_told_with_its_time(
    monkeypatch: pytest.MonkeyPatch, six: dict[str, str]
) -> None:
    told = Told(monkeypatch, six, epochs=None)
    told.at(0, JobStarted("base 1"))
    told.at(75, ended("base 1"))
    assert told.lines[-1] == "[1/6] base 1: finished, 75 s"


KEYS = [f"{arm} {seed}" for arm in ("base", "wide") for seed in (1, 2)]
OUTCOMES = ("finished", "diverged", "crashed", "killed", "interrupted")


def watcher_of(jobs: dict[str, str], kind: Any = ProgressLines, *rest: Any) -> Any:
    subject = SimpleNamespace(curve=None, example="example")
    made = {key: SimpleNamespace(name=key, epochs=3, spec=SimpleNamespace(label=arm)) for key, arm in jobs.items()}
    watcher = kind("mine", subject, *rest)
    watcher.phase("verdict", made, 0)
    return watcher


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(("start", *OUTCOMES))), max_size=30))
def test_what_is_counted_is_what_is_there(events: list[tuple[str, str]]) -> None:
    """Whatever the order: a job may end in ways that let it begin again, and be told of twice."""
    watcher = watcher_of({key: key.partition(" ")[0] for key in KEYS}, ProgressLines, lambda line: None)
    for key, what in events:
        watcher.event(JobStarted(key) if what == "start" else JobEnded(key, what, ""))
        jobs = watcher._jobs
        assert watcher._settled() == sum(one.is_settled for one in jobs.values())
        assert set(watcher._training) == {name for name, one in jobs.items() if one.outcome == "training"}
        for arm in ("base", "wide"):
            of_arm = [one for one in jobs.values() if one.job.spec.label == arm]
            assert watcher._settled_of[arm] == sum(one.is_settled for one in of_arm)


@pytest.mark.parametrize(("arms", "shown"), [(MOST_ARMS, MOST_ARMS), (MOST_ARMS + 1, 1)])
def test_a_table_of_many_arms_shows_those_that_train(arms: int, shown: int) -> None:
    console = Console(file=io.StringIO(), width=200, height=200)
    watcher = watcher_of({f"arm{n} 1": f"arm{n}" for n in range(arms)}, Progress, console)
    watcher.event(JobStarted("arm0 1"))
    watcher.event(JobEnded("arm0 1", "finished", ""))
    watcher.event(JobStarted("arm1 1"))
    console.print(watcher._render())
    table = console.file.getvalue().splitlines()[2:]  # type: ignore[attr-defined]
    assert sum(bool(re.match(r"arm\d", line)) for line in table) == shown
    assert any(line.split()[:2] == ["arm1", "0/1"] for line in table)
    assert table[-1].strip() == f"{arms - shown} more arms" or shown == arms
