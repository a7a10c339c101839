"""The pool: the worker processes of a round. One that dies is replaced, one that takes too long is ended."""

from __future__ import annotations

import multiprocessing
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from stn_bench.runner.crashes import Crashes
from stn_bench.runner.worker import (
    SPENT,
    STOP,
    Assignment,
    Event,
    Halt,
    JobEnded,
    JobEvent,
    JobStarted,
    Told,
    run_worker,
)
from stn_bench.system.errors import StnBenchError
from stn_bench.system.global_state import environment
from stn_bench.system.machine import children_without_main, training_environment
from stn_bench.system.signals import Interrupts, children_ignore_interrupts

MAX_DEATHS = 20  # of workers one after the other, none of which came to a job
POLL_SECONDS = 0.5


class Listener(Protocol):
    """Receives the progress."""

    def event(self, event: JobEvent) -> None:
        """A worker tells of a job."""

    def say(self, line: str) -> None:
        """Something happened that a person should know."""


class Registrar(Protocol):
    """Records the end of a job whose worker cannot do so itself."""

    def died(self, run_key: str, cause: str) -> bool:
        """Take note that a job's process died; return whether that was the job's last try."""

    def overran(self, run_key: str, pid: int, seconds: float) -> bool:
        """Take a job from a process that has been at it for too long; return whether it still was."""

    def dropped(self, run_key: str) -> None:
        """Take note that a job's process was ended in the middle of it, since a person wants to stop at once."""


@dataclass
class _Member:
    """A member of the pool: its process, and the job that it is at since a moment of the monotonic clock."""

    process: BaseProcess
    connection: Connection
    job: str = ""
    since: float = 0.0

    def take_note(self, event: JobEvent) -> None:
        """Remember which job it is at."""
        if isinstance(event, JobStarted):
            self.job, self.since = event.run_key, time.monotonic()
        elif isinstance(event, JobEnded):
            self.job = ""


class Pool:
    """The worker processes of a round.

    Args:
        assignment: what they are to do.
        count: how many there are.
        listener: what is told of the progress.
        registrar: what enters the end of jobs whose worker cannot.
        interrupts: how often it was asked to stop; counted elsewhere.
        crashes: what tells whether all jobs share a crash.
    """

    def __init__(
        self,
        assignment: Assignment,
        count: int,
        listener: Listener,
        registrar: Registrar,
        interrupts: Interrupts,
        crashes: Crashes,
    ) -> None:
        self._assignment, self._interrupts = assignment, interrupts
        self._listener, self._registrar, self._crashes = listener, registrar, crashes
        self._context = multiprocessing.get_context("spawn")  # TensorFlow does not survive fork
        self._count = count
        self._deaths = 0
        self._told = 0
        self._halt = ""
        self._workers: list[_Member] = []

    def run(self) -> None:
        """Return when every worker has done its assignment.

        Raises:
            StnBenchError: if the machine or a store keeps any job from being trained, or if their jobs crash alike;
                what is finished is kept.
        """
        try:
            for _ in range(self._count):
                self._workers.append(self._start())
            while self._workers:
                wait([worker.process.sentinel for worker in self._workers] + self._connections(), POLL_SECONDS)
                for worker in tuple(self._workers):
                    self._hear(worker)
                self._end_overdue()
                self._pass_on_interrupts()
        finally:
            for worker in self._workers:
                worker.process.kill()
        if self._halt and not self._interrupts.count:
            raise StnBenchError(self._halt)

    def _connections(self) -> list[Any]:
        return [worker.connection for worker in self._workers]

    def _start(self) -> _Member:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=run_worker, args=(self._assignment, theirs), daemon=True)
        variables = training_environment(self._assignment.threads)  # numpy reads some of them before any code of ours
        with children_ignore_interrupts(), children_without_main(), environment(variables):
            process.start()
        theirs.close()
        return _Member(process, ours)

    def _hear(self, worker: _Member) -> None:
        try:
            while worker.connection.poll():
                self._take_note(worker, worker.connection.recv())
        except (EOFError, OSError):
            worker.process.join(timeout=10)
        if not worker.process.is_alive():
            self._bury(worker)

    def _take_note(self, worker: _Member, event: Event) -> None:
        if isinstance(event, Halt):
            self._stop(event.reason)
            return
        if isinstance(event, Told):
            self._listener.say(event.line)
            return
        worker.take_note(event)
        if isinstance(event, JobStarted):
            self._deaths = 0
        self._tell(worker, event)

    def _tell(self, worker: _Member, event: JobEvent) -> None:
        """Pass an event on, and stop where it says that no job can be trained."""
        self._listener.event(event)
        if shared := self._crashes.take_note(event, worker.process.pid):
            self._stop(shared)

    def _stop(self, reason: str) -> None:
        if not self._halt:
            self._halt = reason
            self._send_home()

    def _bury(self, worker: _Member) -> None:
        self._workers.remove(worker)
        if worker.process.exitcode == 0 or self._interrupts.count or self._halt:
            return
        if worker.process.exitcode == SPENT and not worker.job:
            self._workers.append(self._start())
            return
        cause = _cause(worker.process.exitcode)
        if worker.job:
            outcome = "crashed" if self._registrar.died(worker.job, cause) else "killed"
            self._tell(worker, JobEnded(worker.job, outcome, f"its process died: {cause}", cause))
        else:
            self._count_death(cause)
        if not self._halt:
            self._workers.append(self._start())

    def _count_death(self, cause: str) -> None:
        self._deaths += 1
        if self._deaths > MAX_DEATHS:
            raise StnBenchError(
                f"{self._deaths} workers died before they leased a job (the last by {cause}): see what they lack with "
                f"`stn-bench doctor`, and {self._assignment.workspace.logs}; finished runs are kept"
            )

    def _end_overdue(self) -> None:
        for worker in tuple(self._workers):
            limit = self._assignment.jobs[worker.job].limit if worker.job else None
            if limit is None or time.monotonic() - worker.since < limit:
                continue
            run_key, worker.job = worker.job, ""
            if self._registrar.overran(run_key, worker.process.pid or 0, limit):
                worker.process.kill()
                worker.process.join()
                self._tell(worker, JobEnded(run_key, "crashed", f"took longer than {limit:g} s", "timeout"))

    def _pass_on_interrupts(self) -> None:
        if self._interrupts.count > self._told == 0:
            self._told = 1
            pressed = self._interrupts.signum == signal.SIGINT
            again = "press Ctrl-C again to stop at once" if pressed else "a second signal stops at once"
            self._listener.say(f"stopping at the end of the current epochs; {again}")
            self._send_home()
        if self._interrupts.count > 1:
            self._drop_all()

    def _drop_all(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.job:
                self._registrar.dropped(worker.job)
                worker.job = ""

    def _send_home(self) -> None:
        for worker in self._workers:
            try:
                worker.connection.send(STOP)
            except OSError:
                continue  # it has just ended by itself


def _cause(exitcode: int | None) -> str:
    """Return how a process died, in words: by a signal of that name, or with an exit code."""
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"{name}, out of memory?" if name == "SIGKILL" else name
