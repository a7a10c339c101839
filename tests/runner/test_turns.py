"""Whose turn it is, against an oracle that sees all jobs at each choice."""

from __future__ import annotations

import random

import pytest

from stn_bench.runner.turns import Seen, Turns

Jobs = dict[int, tuple[int, Seen]]
"""Id of a job -> its arm and its true state."""


def next_of(jobs: Jobs, arms: list[int], *, is_doubtful: bool = False) -> int | None:
    """Return the oracle's choice: the first waiting job of the arm with the fewest leased jobs."""
    waiting = [arm for arm in arms if any(where == arm and s is Seen.WAITING for where, s in jobs.values())]
    if not waiting:
        return None
    leased = {arm: sum(w == arm and s in (Seen.RUNNING, Seen.DONE) for w, s in jobs.values()) for arm in arms}
    among = waiting[:2] if is_doubtful else waiting
    best = min(among, key=lambda arm: leased[arm])
    return min(job for job, (arm, state) in jobs.items() if arm == best and state is Seen.WAITING)


def choose(turns: Turns, jobs: Jobs, *, is_doubtful: bool = False) -> int | None:
    """Choose as a worker does, which looks again only at what it has to."""
    for job in range(turns.last_seen + 1, max(jobs) + 1):
        turns.add(job, *jobs[job])
    turns.last_seen = max(jobs)
    gone = turns.gone({job for job, (_, state) in jobs.items() if state is Seen.RUNNING})
    while (ahead := turns.ahead(is_doubtful=is_doubtful)) or gone:
        for job in [*ahead, *gone]:
            turns.change(job, *jobs[job])
        gone = []
        if ahead and turns.ahead(is_doubtful=is_doubtful)[:1] == ahead[:1]:
            return ahead[0]
    return None


def change_at_random(jobs: Jobs, arms: list[int], rng: random.Random) -> None:
    """Let other workers lease by the same rule, finish, crash, and die, so that their job waits again."""
    for _ in range(rng.randrange(6)):
        running = [job for job, (_, state) in jobs.items() if state is Seen.RUNNING]
        if running and rng.random() < 0.5:
            job = rng.choice(running)
            arm, _ = jobs[job]
            how = rng.choice(["done", "crash", "die"])
            jobs[job] = (arm, Seen.DONE if how == "done" else Seen.FAILED)
            if how == "die":
                jobs[max(jobs) + 1] = (arm, Seen.WAITING)
        elif (job := next_of(jobs, arms)) is not None:  # type: ignore[assignment]
            jobs[job] = (jobs[job][0], Seen.RUNNING)


@pytest.mark.parametrize("seed", range(30))
def test_a_choice_is_that_of_an_oracle_that_sees_everything(seed: int) -> None:
    rng = random.Random(seed)
    arms = list(range(rng.choice([1, 2, 7, 60])))
    jobs: Jobs = {}
    for arm in arms:
        for _ in range(rng.randrange(8)):
            jobs[len(jobs) + 1] = (arm, rng.choice([Seen.WAITING, Seen.WAITING, Seen.DONE]))
    jobs[len(jobs) + 1] = (0, Seen.WAITING)
    turns = Turns(arms)
    while (found := choose(turns, jobs)) is not None:
        assert found == next_of(jobs, arms)
        jobs[found] = (jobs[found][0], Seen.RUNNING)
        turns.change(found, *jobs[found])
        change_at_random(jobs, arms, rng)
    assert next_of(jobs, arms) is None


def test_what_was_done_before_counts() -> None:
    turns = Turns([1, 2], done=[(1, 3), (99, 5)])
    for job, arm in ((10, 1), (11, 2), (12, 2)):
        turns.add(job, arm, Seen.WAITING)
    assert turns.ahead(is_doubtful=False)[0] == 11


def test_jobs_of_other_rounds_are_left_out() -> None:
    turns = Turns([1])
    turns.add(10, 2, Seen.WAITING)
    turns.add(11, 2, Seen.RUNNING)
    assert (turns.any_wait, turns.any_run, list(turns.ahead(is_doubtful=False))) == (False, False, [])


def test_an_arm_is_served_later_once_its_job_has_failed() -> None:
    turns = Turns([1, 2])
    for job, arm in ((10, 1), (11, 2)):
        turns.add(job, arm, Seen.WAITING)
    turns.handicap(1)
    assert turns.ahead(is_doubtful=False)[0] == 11


def test_in_doubt_two_arms_are_served() -> None:
    turns = Turns([1, 2, 3], done=[(1, 5), (2, 5)])
    for job, arm in ((10, 1), (11, 2), (12, 3)):
        turns.add(job, arm, Seen.WAITING)
    assert turns.ahead(is_doubtful=False)[0] == 12
    assert 12 not in turns.ahead(is_doubtful=True)


@pytest.mark.parametrize("arms", [1, 40, 1000])
def test_few_jobs_are_looked_at_again_whatever_there_is(arms: int) -> None:
    turns = Turns(range(arms))
    for job in range(2000):
        turns.add(job, job % arms, Seen.WAITING)
    assert len(turns.ahead(is_doubtful=False)) == 32
