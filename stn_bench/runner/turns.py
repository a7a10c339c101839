"""Whose turn it is: which waiting job a worker leases next, by what it has seen of the queue so far. Asks nobody."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from itertools import islice

AHEAD = 32  # jobs that are looked at again before one of them is leased
FEWEST = 2  # arms that are served in turn where it is doubtful that any can be trained


class Seen(Enum):
    """What was seen of a job's try: it waits, somebody works on it, it is done, or it came to nothing."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Turns:
    """The jobs of a round as one worker has seen them: the arm with the fewest leased jobs is next.

    A worker looks only at what is new, at what runs, and at the jobs that would be next, so that a choice costs the
    same whatever the number of jobs. Others lease jobs too: what was seen waiting may be gone. The choice is right
    all the same, if the job that it falls on still waits: an arm's jobs are leased in their order, so that none behind
    that one is gone, and what has not been seen of the other arms can only have made them later.

    Args:
        arms: ids of the arms, in the order in which they are served where all have as many leased jobs.
        done: arms, each with the number of its jobs that are done already.
        last_seen: id of the last job that there was when they were counted.
    """

    def __init__(self, arms: Iterable[int], done: Iterable[tuple[int, int]] = (), last_seen: int = 0) -> None:
        self.last_seen = last_seen
        self._waiting: dict[int, deque[int]] = {arm: deque() for arm in arms}
        self._leased = dict.fromkeys(self._waiting, 0) | {arm: n for arm, n in done if arm in self._waiting}
        self._running: dict[int, int] = {}

    @property
    def arms(self) -> Collection[int]:
        """Ids of the arms."""
        return self._waiting.keys()

    @property
    def any_wait(self) -> bool:
        """Whether a job waits, as far as it was seen."""
        return any(self._waiting.values())

    @property
    def any_run(self) -> bool:
        """Whether somebody works on a job, as far as it was seen."""
        return bool(self._running)

    def add(self, job: int, arm: int, seen: Seen) -> None:
        """Take note of a job that was not seen waiting before; jobs of other rounds are left out."""
        if arm not in self._waiting or job in self._running:
            return
        if seen is Seen.WAITING:
            self._waiting[arm].append(job)
        else:
            self._lease(job, arm, seen)

    def change(self, job: int, arm: int, seen: Seen) -> None:
        """Take note of what became of a job that was seen before."""
        if job in self._running and seen is not Seen.RUNNING:
            del self._running[job]
            self._leased[arm] -= seen is Seen.FAILED
        elif seen is not Seen.WAITING and job in self._waiting.get(arm, ()):
            self._waiting[arm].remove(job)
            self._lease(job, arm, seen)

    def _lease(self, job: int, arm: int, seen: Seen) -> None:
        self._leased[arm] += seen is not Seen.FAILED
        if seen is Seen.RUNNING:
            self._running[job] = arm

    def handicap(self, arm: int) -> None:
        """Serve an arm later, by one job: one of its jobs has failed."""
        self._leased[arm] += 1

    def gone(self, running: Collection[int]) -> list[int]:
        """Return the jobs that were seen running, and are not among these."""
        return [job for job in self._running if job not in running]

    def ahead(self, *, is_doubtful: bool) -> Sequence[int]:
        """Return the jobs that are next, the very next one first; none where none waits.

        Args:
            is_doubtful: whether only the first two arms are served, in turn.
        """
        arms = [arm for arm, jobs in self._waiting.items() if jobs][: FEWEST if is_doubtful else None]
        first = heapq.nsmallest(AHEAD, arms, key=self._leased.__getitem__)
        depth = AHEAD // max(len(first), 1)
        return [job for arm in first for job in islice(self._waiting[arm], depth)]
