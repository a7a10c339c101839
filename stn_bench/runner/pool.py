"""The pool: the workers of a round. One that dies is replaced, one that takes too long is ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from stn_bench.runner.crashes import Crashes
from stn_bench.runner.engine import Engine, Worker
from stn_bench.runner.job import Job
from stn_bench.runner.worker import SPENT, STOP, Assignment, Event, Halt, JobEnded, JobEvent, JobStarted, Told
from stn_bench.system.errors import StnBenchError
from stn_bench.system.signals import Interrupts

MAX_DEATHS = 20  # of workers one after the other, none of which came to a job
POLL_SECONDS = 0.5


class Listener(Protocol):
    """Receives the progress."""

    def event(self, event: JobEvent) -> None:
        """A worker tells of a job."""

    def say(self, line: str) -> None:
        """Something happened that a person should know."""


class Watcher(Listener, Protocol):
    """Receives the progress of a whole run, as the terminal's display does."""

    def preparing(self, data: str, done: int, count: int) -> None:
        """Some examples of the data are made."""

    def phase(self, phase: str, jobs: Mapping[str, Job], reused: int) -> None:
        """A phase begins with these jobs to train, and this many finished before."""


class Registrar(Protocol):
    """Records the end of a job whose worker cannot do so itself."""

    def died(self, run_key: str, cause: str) -> bool:
        """Take note that a job's process died; return whether that was the job's last try."""

    def overran(self, run_key: str, worker: Worker, seconds: float) -> bool:
        """Take a job from a worker that has been at it for too long; return whether it still was."""

    def dropped(self, run_key: str) -> None:
        """Take note that a job's process was ended in the middle of it, since a person wants to stop at once."""


@dataclass
class _Member:
    """A member of the pool: a worker, and the job that it is at since a moment of the monotonic clock."""

    worker: Worker
    job: str = ""
    since: float = 0.0
    is_spared: bool = False  # it was told not to begin, since nothing is left

    def take_note(self, event: JobEvent) -> None:
        """Remember which job it is at."""
        if isinstance(event, JobStarted):
            self.job, self.since = event.run_key, time.monotonic()
        elif isinstance(event, JobEnded):
            self.job = ""


class Pool:
    """The workers of a round.

    Args:
        engine: what starts them.
        assignment: what they are to do.
        count: how many there are.
        listener: what is told of the progress.
        registrar: what enters the end of jobs whose worker cannot.
        interrupts: how often it was asked to stop; counted elsewhere.
        crashes: what tells whether all jobs share a crash.
    """

    def __init__(
        self,
        engine: Engine,
        assignment: Assignment,
        count: int,
        listener: Listener,
        registrar: Registrar,
        interrupts: Interrupts,
        crashes: Crashes,
    ) -> None:
        self._engine, self._assignment, self._interrupts = engine, assignment, interrupts
        self._listener, self._registrar, self._crashes = listener, registrar, crashes
        self._count = count
        self._deaths = 0
        self._told = 0
        self._halt = ""
        self._members: list[_Member] = []

    def run(self) -> None:
        """Return when every worker has done its assignment.

        Raises:
            StnBenchError: if the machine or a store keeps any job from being trained, or if their jobs crash alike;
                what is finished is kept.
        """
        try:
            for _ in range(self._count):
                self._start()
            while self._members:
                self._engine.wait([member.worker for member in self._members], POLL_SECONDS)
                for member in tuple(self._members):
                    self._hear(member)
                self._end_overdue()
                self._pass_on_interrupts()
        finally:
            for member in self._members:
                member.worker.kill(0)
            self._engine.close()
        if self._halt and not self._interrupts.count:
            raise StnBenchError(self._halt)

    def _start(self) -> None:
        self._members.append(_Member(self._engine.start(self._assignment)))

    def _hear(self, member: _Member) -> None:
        ended = member.worker.exit_code()  # before its news: what it told until then is among them
        for event in member.worker.news():
            self._take_note(member, event)
        if ended is not None:
            self._bury(member, ended)

    def _take_note(self, member: _Member, event: Event) -> None:
        if isinstance(event, Halt):
            self._stop(event.reason)
            return
        if isinstance(event, Told):
            self._listener.say(event.line)
            return
        member.take_note(event)
        if isinstance(event, JobStarted):
            self._deaths = 0
        self._tell(member, event)

    def _tell(self, member: _Member, event: JobEvent) -> None:
        """Pass an event on, and stop where it says that no job can be trained."""
        self._listener.event(event)
        if shared := self._crashes.take_note(event, member.worker.name):
            self._stop(shared)

    def _stop(self, reason: str) -> None:
        if not self._halt:
            self._halt = reason
            self._send_home()

    def _bury(self, member: _Member, exit_code: int) -> None:
        self._members.remove(member)
        is_done = exit_code == 0 and not member.job  # a job may end its own process, which then says nothing of it
        if is_done:
            self._spare_the_others()
        if is_done or member.is_spared or self._interrupts.count or self._halt:
            return
        if exit_code == SPENT and not member.job:
            self._start()
            return
        cause = member.worker.cause()
        if member.job:
            outcome = "crashed" if self._registrar.died(member.job, cause) else "killed"
            self._tell(member, JobEnded(member.job, outcome, f"its process died: {cause}", cause))
        else:
            self._count_death(cause)
        if not self._halt:
            self._start()

    def _spare_the_others(self) -> None:
        """Let none begin that still waits for room on a cluster: one has just found nothing that waits or runs."""
        for member in self._members:
            if not (member.worker.pid or member.is_spared):
                member.is_spared = True
                member.worker.tell(STOP)

    def _count_death(self, cause: str) -> None:
        self._deaths += 1
        if self._deaths > MAX_DEATHS:
            raise StnBenchError(
                f"{self._deaths} workers died before they leased a job (the last by {cause}): see what they lack with "
                f"`stn-bench doctor`, and {self._assignment.workspace.logs}; finished runs are kept"
            )

    def _end_overdue(self) -> None:
        for member in tuple(self._members):
            job = self._assignment.jobs.get(member.job)  # another command may have entered one that nobody here knows
            limit = job.limit if job else None
            if limit is None or time.monotonic() - member.since < limit:
                continue
            run_key, member.job = member.job, ""
            if self._registrar.overran(run_key, member.worker, limit):
                member.worker.kill()
                self._tell(member, JobEnded(run_key, "crashed", f"took longer than {limit:g} s", "timeout"))

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
        for member in self._members:
            member.worker.kill(0)
        for member in self._members:
            member.worker.kill()
            if member.job:
                self._registrar.dropped(member.job)
                member.job = ""

    def _send_home(self) -> None:
        for member in self._members:
            member.worker.tell(STOP)
