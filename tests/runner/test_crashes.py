"""Which crashes stop a study: those that all of its runs share, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import ablation, arm, study

from stn_bench.runner.crashes import Crashes
from stn_bench.runner.job import Job
from stn_bench.runner.worker import JobEnded, JobStarted
from stn_bench.study.plan import make_plan
from stn_bench.subject import find_subject
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.identity import Identity

TOY = find_subject("toy")
ARMS = [arm(f"deep_{depth}", {"depth": depth}) for depth in (4, 5, 6)]
PLACE = "ZeroDivisionError own.py:2"


def jobs_of(arms: int = 2, seeds: int = 3, trials: int = 0) -> dict[str, Job]:
    """Return arm, seed or trial, such as "0 1" -> its job."""
    asked = study(subject="toy", seeds=tuple(range(1, seeds + 1)))
    planned = make_plan(asked, (ablation(*ARMS[: max(1, arms - 1)]),), TOY).arms[:arms]
    found = {}
    for index, one in enumerate(planned):
        for spec in one.verdict_specs({}):
            key = f"{index} {spec.seed}"
            identity = Identity(spec.settings, spec.seed, "", {key: key}, {})
            found[key] = Job.of(TOY, spec, identity, Workspace.at(Path()), experiment="", parent="", threads=1)
    return found


def crash(key: str, origin: str = PLACE) -> JobEnded:
    return JobEnded(key, "crashed", "ZeroDivisionError: division by zero", origin, "\n  own.py:2: 1 / 0")


def told(crashes: Crashes, *events: JobEnded) -> list[bool]:
    return [bool(crashes.take_note(event, "7")) for event in events]


def test_two_arms_and_two_seeds_that_crash_at_one_line_stop_the_study() -> None:
    crashes = Crashes(jobs_of(arms=4), 0, Path("logs"))
    assert told(crashes, crash("0 1"), crash("1 1")) == [False, False]
    line, *own = crashes.take_note(crash("0 2"), "7").splitlines()
    assert line == (
        "study `small`: its runs crash alike (ZeroDivisionError: division by zero); 3 of 12 runs tried, nothing is "
        "finished. Mend it and run again; the whole traceback is in logs/worker-7.log"
    )
    assert own == ["  own.py:2: 1 / 0"]


@pytest.mark.parametrize(
    "keys", [["0 1", "0 2", "0 3"], ["0 1", "1 1", "2 1", "3 1"]], ids=["one arm alone", "one seed alone"]
)
def test_a_crash_of_one_arm_or_of_one_seed_alone_stops_nothing(keys: list[str]) -> None:
    assert not any(told(Crashes(jobs_of(arms=4), 0, Path()), *map(crash, keys)))


def test_crashes_at_two_places_stop_nothing() -> None:
    crashes = Crashes(jobs_of(), 0, Path())
    assert not any(told(crashes, crash("0 1"), crash("1 1", "ValueError own.py:9"), crash("0 2"), crash("1 2")))


@pytest.mark.parametrize("outcome", ["finished", "diverged"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_run_that_came_to_its_end_stops_nothing(outcome: str, place: int) -> None:
    events = [crash("0 1"), crash("1 1"), crash("0 2"), crash("1 2")]
    events.insert(place, JobEnded("1 3", outcome, ""))
    assert not any(told(Crashes(jobs_of(), 0, Path()), *events))


def test_runs_that_were_finished_before_stop_nothing() -> None:
    assert not any(told(Crashes(jobs_of(), 1, Path()), crash("0 1"), crash("1 1"), crash("0 2")))


def test_where_there_is_one_arm_or_one_seed_left_it_is_enough() -> None:
    jobs = jobs_of()
    assert told(Crashes({"0 1": jobs["0 1"]}, 0, Path()), crash("0 1")) == [True]
    assert told(Crashes({"0 1": jobs["0 1"], "1 1": jobs["1 1"]}, 0, Path()), crash("0 1"), crash("1 1")) == [
        False,
        True,
    ]


@given(st.permutations([f"{arm} {seed}" for arm in range(3) for seed in (1, 2, 3)]))
def test_a_shared_crash_is_known_before_an_arm_and_a_seed_are_through(order: list[str]) -> None:
    """Whatever order the runs end in: an arm has three seeds, a seed three arms, and one more run tells."""
    stops = told(Crashes(jobs_of(arms=3), 0, Path()), *map(crash, order))
    assert 2 <= stops.index(True) + 1 <= 4


def test_other_events_and_jobs_of_others_are_no_crashes() -> None:
    crashes = Crashes(jobs_of(), 0, Path())
    assert crashes.take_note(JobStarted("0 1"), 7) == ""
    assert told(crashes, crash("another"), JobEnded("0 1", "killed", ""), JobEnded("0 1", "interrupted", "")) == [
        False,
        False,
        False,
    ]
