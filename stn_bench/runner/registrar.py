"""The registrar: enters the end of jobs whose worker cannot, since it is dead or hangs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from stn_bench.runner.engine import Worker
from stn_bench.runner.job import Job
from stn_bench.runner.leases import TRIES
from stn_bench.runner.worker import Places
from stn_bench.system.errors import StoreAwayError
from stn_bench.system.machine import now


@dataclass(frozen=True)
class JobRegistrar:
    """Enters the end of the jobs of a round.

    Args:
        places: where runs are kept and jobs wait.
        names: names under which the jobs are leased.
        jobs: run key -> job.
        timeout: the setting that says how long a job may take, or "".
    """

    places: Places
    names: tuple[str, ...]
    jobs: Mapping[str, Job]
    timeout: str
    lost: set[str] = field(default_factory=set)

    def died(self, run_key: str, cause: str) -> bool:
        """Take note that a job's process died; return whether that was the job's last try."""
        is_lost = self.places.queue.bury(self.names, run_key)
        if is_lost and run_key not in self.lost:  # the workers of two tries may be found dead at once
            self.lost.add(run_key)
            self._crash(run_key, f"its process died in each of {TRIES} tries (the last: {cause})")
        return is_lost

    def lost_elsewhere(self, run_key: str) -> None:
        """Record a job that nobody tries again, since each machine that tried it died or gave it up."""
        if not self._is_finished(run_key):
            self._crash(run_key, f"its worker died in each of {TRIES} tries, and its machine told nothing of it")

    def overran(self, run_key: str, worker: Worker, seconds: float) -> bool:
        """Take a job from a worker that has been at it for too long; return whether it still was."""
        is_ours = self.places.queue.give_up(self.names, run_key, worker.host, worker.pid)
        if is_ours and not self._is_finished(run_key):  # it may have been about to tell the queue
            self._crash(run_key, f"it took longer than `{self.timeout}` = {seconds:g} s")
        return is_ours

    def dropped(self, run_key: str) -> None:
        """Close the run of a job whose process was ended in the middle of it."""
        if job := self.jobs.get(run_key):
            with contextlib.suppress(StoreAwayError):  # then the next try closes it
                self.places.tracking.kill_open(job.experiment, run_key=run_key)

    def _is_finished(self, run_key: str) -> bool:
        job = self.jobs.get(run_key)
        return self.places.tracking.finished_as(run_key, job is not None and job.is_trial) is not None

    def _crash(self, run_key: str, reason: str) -> None:
        job, started, tracking = self.jobs[run_key], now(), self.places.tracking
        run_id = tracking.start_run(job.experiment, job.parent, job.name, job.tags)
        tracking.note_run(run_id, job.note)
        record = job.record(run_id, started, "crashed", reason)
        tracking.patience.insist(lambda: tracking.finish_run(record, {}))
