"""A worker: a process of its own that leases jobs and trains them until none is left."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stn_bench.isolation import watch_imports
from stn_bench.runner.leases import Finished, JobQueue, Lease
from stn_bench.runner.node import code_here, settle_in
from stn_bench.subject import find_subject, is_shipped
from stn_bench.system.errors import (
    NOBODYS_FAULT,
    Interrupted,
    LeaseLostError,
    StnBenchError,
    StoreAwayError,
    StoreError,
)
from stn_bench.system.machine import disk_full, training_environment
from stn_bench.system.own_code import origin, own_lines, root_cause, told
from stn_bench.system.patience import Patience
from stn_bench.system.signals import leave_to_parent
from stn_bench.system.sounds import Direction
from stn_bench.system.text import Discreet, first_line, spell_out, without_secrets
from stn_bench.system.workspace import Workspace, sqlite_file
from stn_bench.tracking.planned_code import NO_CODE, PlannedCode
from stn_bench.tracking.store import finished_record

if TYPE_CHECKING:
    from stn_bench.runner.epochs import EpochEnd
    from stn_bench.runner.job import Job
    from stn_bench.tracking.record import RunRecord
    from stn_bench.tracking.store import KeptRuns

STOP = "stop"
SPENT = 3
"""Exit code of a worker that leaves jobs to a fresh process, since a training has spoilt this one for the next."""


class Places(Protocol):
    """Where runs are kept, and where jobs wait."""

    @property
    def tracking(self) -> KeptRuns:
        """Where every run is kept."""

    @property
    def queue(self) -> JobQueue:
        """Where jobs wait."""

    def wait_aloud(self, tell: Callable[[str], None], should_stop: Callable[[], bool]) -> None:
        """Let whoever waits for a place that is away say so, and wait no longer than until it is asked to stop."""


@dataclass(frozen=True)
class Assignment:
    """The assignment of a worker.

    Args:
        workspace: where all else is.
        places: opens the places of its runs and jobs, in the worker.
        threads: threads to train with.
        names: names under which jobs are leased: in Optuna, those of studies.
        jobs: run key -> the job to train.
        metric: the final metric that the queue is told.
        direction: which way the metric is better.
        is_remote: whether the worker may be on another machine than its parent: it prepares the data there, and
            checks that code and libraries there give the planned runs.
        code: the user's own code that the jobs were planned with.
        have_runs_come: whether runs were imported since the jobs were planned: any of them may be finished.
    """

    workspace: Workspace
    places: Callable[[], Places]
    threads: int
    names: tuple[str, ...]
    jobs: Mapping[str, Job]
    metric: str
    direction: Direction
    is_remote: bool = False
    code: PlannedCode = NO_CODE
    have_runs_come: Callable[[], bool] = bool


class Wire(Protocol):
    """The worker's end of the connection to its parent."""

    def send(self, event: Event) -> None:
        """Tell the parent."""

    def recv(self) -> str:
        """Return the parent's next word, whenever it comes; raise EOFError or OSError if the parent is gone."""


@dataclass(frozen=True)
class JobStarted:
    """A worker has leased a job."""

    run_key: str


@dataclass(frozen=True)
class JobEpoch:
    """A job has finished an epoch, so many seconds after its training began."""

    run_key: str
    epoch: int
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class JobEnded:
    """A job has ended.

    Args:
        run_key: its identity.
        outcome: finished, diverged, crashed or interrupted.
        detail: why, in a line, or "".
        origin: where a crash came from: the same text for the same line of code.
        own_lines: that place in the user's own code, a line for each frame, or "".
    """

    run_key: str
    outcome: str
    detail: str
    origin: str = ""
    own_lines: str = ""


@dataclass(frozen=True)
class Halt:
    """No worker can go on: what is wrong lies with the machine or a store, and not with a job."""

    reason: str


@dataclass(frozen=True)
class Told:
    """Something happened in a worker that a person should know."""

    line: str


JobEvent = JobStarted | JobEpoch | JobEnded
Event = JobEvent | Halt | Told


def log_of(workspace: Workspace, name: str) -> Path:
    """Return the file of what a worker and its libraries print, by the number of its process."""
    return workspace.logs / f"worker-{name}.log"


def run_worker(assignment: Assignment, connection: Wire) -> None:
    """Lease and train jobs until none is left, or the other end of the connection says stop or is gone."""
    leave_to_parent()
    os.environ.update(training_environment(assignment.threads))
    _redirect_noise(log_of(assignment.workspace, str(os.getpid())))
    watch_imports()
    _find_code(assignment)
    stopping = threading.Event()
    threading.Thread(target=_listen, args=(connection, stopping), daemon=True).start()
    try:
        if assignment.is_remote:
            settle_in(assignment)
            assignment = replace(assignment, code=code_here(assignment))
        worker = _Worker(assignment, connection, stopping)
        worker.work()
    except Exception as error:
        _log_traceback()
        reason = disk_full(error) or (error if isinstance(error, StnBenchError) else None)
        if reason is None:
            raise
        connection.send(Halt(str(reason)))
    else:
        if worker.is_spent:
            sys.exit(SPENT)


def _redirect_noise(path: Path) -> None:
    """Send what libraries write to the terminal, from C++ too, to a file: the terminal shows the progress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    spell_out(sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = Discreet(sys.stdout), Discreet(sys.stderr)


def _log_traceback() -> None:
    """Write the traceback of an error to the log; where its disk is full, the error itself must still be told."""
    with contextlib.suppress(OSError):
        traceback.print_exc()


def _listen(connection: Wire, stopping: threading.Event) -> None:
    try:
        while connection.recv() == STOP:
            stopping.set()
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone: an orphan must not go on training


def _find_code(assignment: Assignment) -> None:
    """Let code of the user's be found where some job names it: as its subject, or in its settings."""
    for job in assignment.jobs.values():
        if not is_shipped(job.subject):
            assignment.workspace.find_code()
            return
    for job in assignment.jobs.values():
        subject = find_subject(job.subject)
        if subject.foreign_code(subject.read(job.spec.settings)):
            assignment.workspace.find_code()
            return


class _Worker:
    def __init__(self, assignment: Assignment, connection: Wire, stopping: threading.Event) -> None:
        self._assignment, self._connection, self._stopping = assignment, connection, stopping
        self._has_finished = self._has_crashed = self.is_spent = False
        patience = Patience(should_stop=stopping.is_set, tell=self._tell)
        self._places = patience.insist(self._open)  # late: what it loads reads the environment
        self._places.wait_aloud(self._tell, stopping.is_set)

    def _open(self) -> Places:
        workspace = self._assignment.workspace
        try:
            return self._assignment.places()
        except StoreError as error:
            if sqlite_file(workspace.tracking) and sqlite_file(workspace.queue):
                raise
            raise StoreAwayError(str(error)) from error  # its parent has opened it a while ago

    def _tell(self, line: str) -> None:
        self._connection.send(Told(line))

    def work(self) -> None:
        def should_stop() -> bool:
            return self._stopping.is_set() or self.is_spent

        self._places.queue.work(self._assignment.names, self._train, should_stop, self._is_doubtful)

    def _spend(self, residue: Sequence[str]) -> None:
        """Train nothing more in this process: a training left what cannot be put back."""
        self.is_spent = True
        sys.stderr.write(f"this process trains nothing more: {', '.join(residue)} cannot be put back\n")  # for the log

    def _is_doubtful(self) -> bool:
        """Return whether all jobs so far have crashed, so that the next should tell whether all will."""
        return self._has_crashed and not self._has_finished

    def _train(self, lease: Lease) -> Finished:
        self._connection.send(JobStarted(lease.run_key))
        try:
            record = self._finished_before(lease) or self._train_job(lease)
        except (Interrupted, LeaseLostError):
            self._connection.send(JobEnded(lease.run_key, "interrupted", ""))
            raise
        except Exception as error:
            _log_traceback()
            outcome, self._has_crashed = "crashed", True
            if isinstance(error, NOBODYS_FAULT):
                self._connection.send(Halt(str(error)))
                self._stopping.set()
                outcome = "interrupted"
            said = without_secrets(told(error))
            head, _, rest = said.partition("\n")
            names_lines = head == first_line(said) and rest.startswith("  ")
            lines = f"\n{rest}" if names_lines else own_lines(root_cause(error))
            self._connection.send(JobEnded(lease.run_key, outcome, first_line(said), origin(error), lines))
            raise
        self._has_finished = True
        self._connection.send(JobEnded(lease.run_key, record.outcome, record.reason))
        worst = float("-inf") if self._assignment.direction == "maximize" else float("inf")
        return Finished(record.metrics.get(self._assignment.metric, worst), record.run_id, record.outcome)

    def _finished_before(self, lease: Lease) -> RunRecord | None:
        """Return the record of a job that another try finished: its worker died before Optuna knew, say."""
        if lease.is_first and not self._assignment.have_runs_come():  # a search reads the run keys of all runs
            return None
        return self._finished(lease)

    def _finished(self, lease: Lease) -> RunRecord | None:
        return finished_record(self._places.tracking, lease.run_key, self._is_trial(lease))

    def _is_finished(self, lease: Lease) -> bool:
        return self._places.tracking.finished_as(lease.run_key, self._is_trial(lease)) is not None

    def _is_trial(self, lease: Lease) -> bool:
        job = self._assignment.jobs.get(lease.run_key)
        return job is not None and job.is_trial

    def _train_job(self, lease: Lease) -> RunRecord:
        from stn_bench.runner.job import train_job

        def should_stop() -> bool:
            if lease.is_lost():
                raise LeaseLostError
            return self._stopping.is_set()

        def tell(epoch: EpochEnd) -> None:
            self._connection.send(JobEpoch(lease.run_key, epoch.epoch, epoch.metrics, epoch.seconds))

        @contextlib.contextmanager
        def ending() -> Iterator[None]:
            with lease.ending():
                if self._assignment.have_runs_come() and self._is_finished(lease):
                    raise LeaseLostError  # it was imported meanwhile, and counts once
                yield

        if lease.run_key not in self._assignment.jobs:
            raise StoreError(f"job {lease.run_key[:12]}: was planned by other code than this worker's; run again")
        job = self._assignment.jobs[lease.run_key]
        try:
            return train_job(
                job,
                self._places.tracking,
                on_epoch=tell,
                should_stop=should_stop,
                ending=ending,
                on_residue=self._spend,
                is_first=lease.is_first,
                check_code=self._assignment.code.check,
            )
        except LeaseLostError:
            if self._assignment.have_runs_come() and (imported := self._finished(lease)):
                return imported
            raise
