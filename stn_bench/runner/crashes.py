"""Crashes of a round: whether its runs share one, so that the others need not be tried."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stn_bench.runner.job import Job
from stn_bench.runner.worker import JobEnded, JobEvent

FEWEST = 2
"""Arms, and seeds or trials, that must have crashed alike, where there are so many."""


class Crashes:
    """Takes note of how jobs end, and tells of a crash that all of a round share.

    One arm that cannot be trained, and one seed on which none can, say nothing of the others. Runs of two arms, and
    on two seeds, that came to their end at the same line before any other was finished say that it is not the arms.

    Args:
        jobs: run key -> job, of those to train.
        reused: number of runs of the phase that are finished already.
        logs: folder of what the workers printed.
    """

    def __init__(self, jobs: Mapping[str, Job], reused: int, logs: Path) -> None:
        self._jobs, self._logs = jobs, logs
        self._any_finished = reused > 0
        self._crashed: dict[str, JobEnded] = {}

    def take_note(self, event: JobEvent, worker: str) -> str:
        """Return why no other job needs to be tried, or "".

        Args:
            event: what happened to a job.
            worker: what the log of the worker is called by that tells of it.
        """
        if not isinstance(event, JobEnded) or event.run_key not in self._jobs:
            return ""
        self._any_finished |= event.outcome in ("finished", "diverged")
        if event.outcome != "crashed":
            return ""
        self._crashed[event.run_key] = event
        return "" if self._any_finished or not self._is_shared() else self._told(event, worker)

    def _is_shared(self) -> bool:
        if len({event.origin for event in self._crashed.values()}) > 1:
            return False
        planned, crashed = self._jobs.values(), [self._jobs[key] for key in self._crashed]
        arms = {job.spec.label for job in crashed}, {job.spec.label for job in planned}
        draws = {(job.spec.seed, job.spec.trial) for job in crashed}, {(j.spec.seed, j.spec.trial) for j in planned}
        return all(len(ours) >= min(FEWEST, len(all_)) for ours, all_ in (arms, draws))

    def _told(self, event: JobEnded, worker: str) -> str:
        study = self._jobs[event.run_key].spec.study
        tried = f"{len(self._crashed)} of {len(self._jobs)} runs"
        return (
            f"study `{study}`: its runs crash alike ({event.detail}); {tried} tried, nothing is finished. Mend it and "
            f"run again; the whole traceback is in {self._logs / f'worker-{worker}.log'}{event.own_lines}"
        )
