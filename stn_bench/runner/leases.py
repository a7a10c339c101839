"""Leases: what a worker holds of a job, and what it asks of the place where jobs wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

TRIES = 4  # of a job whose worker dies, before nobody tries it again in this run


@dataclass(frozen=True)
class Finished:
    """The result of a job: the value of the study's metric and the run that holds the rest."""

    value: float
    run_id: str
    outcome: str


@dataclass(frozen=True)
class Lease:
    """One try of a job, by the worker that holds it.

    A worker that was silent for longer than the grace period, stopped or swapped out, has lost its job to another,
    whatever it does when it wakes.

    Args:
        run_key: identity of the job.
        is_lost: whether another worker may have the job by now.
        ending: holds the store while the result of the job is written, so that nobody else can take it; raises
            LeaseLostError where somebody has.
        is_first: whether the queue knows of no other try of the job, in any study.
    """

    run_key: str
    is_lost: Callable[[], bool]
    ending: Callable[[], AbstractContextManager[None]]
    is_first: bool = False


class JobQueue(Protocol):
    """A place where jobs wait, as workers and their parent see it."""

    def work(
        self,
        names: Sequence[str],
        objective: Callable[[Lease], Finished],
        should_stop: Callable[[], bool],
        is_doubtful: Callable[[], bool],
    ) -> None:
        """Lease jobs of these names and work on them until none waits; what the objective raises ends a try."""

    def bury(self, names: Iterable[str], run_key: str) -> bool:
        """Give away what dead workers held, and return whether this job is lost: nobody tries it again."""

    def give_up(self, names: Iterable[str], run_key: str, pid: int) -> bool:
        """End the try that a process of this machine is at, for good; return whether it was at it."""


__all__ = ["TRIES", "Finished", "JobQueue", "Lease"]
