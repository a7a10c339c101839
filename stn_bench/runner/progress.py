"""The progress of a run in lines: which phase, which job ended and how, and the time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stn_bench.runner.worker import JobEnded, JobEpoch, JobEvent, JobStarted

if TYPE_CHECKING:
    from stn_bench.runner.job import Job
    from stn_bench.subject import Subject

REPEAT_SECONDS = 30.0  # lines tell of the epochs of a job no more often than this
SETTLED = ("finished", "diverged", "crashed")


@dataclass
class TrackedJob:
    """A job as far as it has come."""

    job: Job
    epoch: int = 0
    value: str = ""
    seconds: float = 0.0
    outcome: str = ""

    @property
    def place(self) -> str:
        """The epoch that it has finished, and of how many, where that is known."""
        return f"{self.epoch}/{self.job.epochs}" if self.job.epochs else str(self.epoch)

    @property
    def is_settled(self) -> bool:
        """Whether it has come to its end."""
        return self.outcome in SETTLED

    @property
    def left(self) -> int:
        """Epochs that are left; a job whose epochs nobody knows counts as one."""
        if self.is_settled:
            return 0
        return self.job.epochs - self.epoch if self.job.epochs else 1


class ProgressLines:
    """Tells of a run in lines; a context manager, and the runner's watcher.

    Args:
        study: name of the study that is run.
        subject: what it trains.
        say: prints a line.
    """

    def __init__(self, study: str, subject: Subject, say: Callable[[str], None]) -> None:
        self._study, self._subject, self.say = study, subject, say
        self._jobs: dict[str, TrackedJob] = {}
        self._phase = ""
        self._started = self._told = time.monotonic()
        self._trained = 0  # epochs since this phase began, and jobs whose epochs nobody knows
        self._preparing = ""
        self._crashed = set[str]()
        self._curve = subject.curve

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    @property
    def crashed(self) -> int:
        """Number of jobs that crashed, in all phases."""
        return len(self._crashed)

    def preparing(self, data: str, done: int, count: int) -> None:
        """Take note of how many examples of the data are made."""
        noun = f"{self._subject.example}s"
        self._preparing = f"making {noun}: {done} of {count} ({data})" if done < count else ""
        if done == count:
            self.say(f"made {count} {noun} ({data})")

    def phase(self, phase: str, jobs: Mapping[str, Job], reused: int) -> None:
        """Begin a phase."""
        self._phase = phase
        self._jobs = {key: TrackedJob(job) for key, job in jobs.items()}
        self._started, self._trained = time.monotonic(), 0
        finished = f", {reused} finished before" if reused else ""
        self.say(f"{self._study}, {phase}: {len(jobs)} runs to train{finished}")

    def event(self, event: JobEvent) -> None:
        """Take note of a worker's event; events of jobs that another `run` of the study added are not shown."""
        tracked = self._jobs.get(event.run_key)
        if tracked is None:
            return
        if isinstance(event, JobStarted):
            tracked.epoch, tracked.outcome = 0, "training"
        elif isinstance(event, JobEpoch):
            self._trained += bool(tracked.job.epochs)
            tracked.epoch, tracked.seconds, tracked.value = event.epoch, event.seconds, self._value(event.metrics)
            self._tell_epoch(tracked)
        elif isinstance(event, JobEnded):
            tracked.outcome = event.outcome
            if event.outcome == "crashed":
                self._crashed.add(event.run_key)
            self._trained += not tracked.job.epochs
            self._tell_end(tracked, event)

    def _tell_epoch(self, tracked: TrackedJob) -> None:
        if time.monotonic() - self._told >= REPEAT_SECONDS:
            self._told = time.monotonic()
            self.say(f"{tracked.job.name}: epoch {tracked.place}, {tracked.value}; {self._time_left()}")

    def _tell_end(self, tracked: TrackedJob, event: JobEnded) -> None:
        told = ", ".join(filter(None, (tracked.value, f"{tracked.seconds:.0f} s")))
        detail = f" ({event.detail})" if event.detail else f", {told}"
        self.say(f"[{self._settled()}/{len(self._jobs)}] {tracked.job.name}: {event.outcome}{detail}")

    def _settled(self) -> int:
        return sum(one.is_settled for one in self._jobs.values())

    def _value(self, metrics: Mapping[str, float]) -> str:
        """Return the value of the curve that is drawn, as far as an epoch tells it."""
        if self._curve is None or self._curve.name not in metrics:
            return ""
        return f"{self._curve.name} {metrics[self._curve.name]:.3f}"

    def _time_left(self) -> str:
        """Return the time left at the pace of this phase so far: epochs trained by all workers a second."""
        if not self._trained:
            return "time left: not known yet"
        pace = (time.monotonic() - self._started) / self._trained
        return f"time left: about {_in_words(pace * sum(tracked.left for tracked in self._jobs.values()))}"

    def _head(self) -> str:
        """Return how far the phase is, in a line."""
        if self._preparing or not self._jobs:
            return self._preparing or "opening the stores"
        settled = f"{self._settled()}/{len(self._jobs)} runs"
        return f"{self._study}, {self._phase}: {settled}; {self._time_left()}"


class ProgressLine(ProgressLines):
    """Tells of a run in one line that is written over, and of what went wrong in lines that stay."""

    def __init__(self, study: str, subject: Subject) -> None:
        super().__init__(study, subject, self._keep)
        self._width, self._shown = 0, ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("", "\r" if self._width else "")

    def preparing(self, data: str, done: int, count: int) -> None:
        """Show how many examples of the data are made."""
        super().preparing(data, done, count)
        self._write(self._head())

    def event(self, event: JobEvent) -> None:
        """Show a worker's event."""
        super().event(event)
        if (head := self._head()) != self._shown:
            self._write(head)

    def _tell_epoch(self, tracked: TrackedJob) -> None:
        pass  # the line shows it

    def _tell_end(self, tracked: TrackedJob, event: JobEnded) -> None:
        if event.outcome != "finished":
            super()._tell_end(tracked, event)

    def _keep(self, line: str) -> None:
        self._write(line, "\n")
        self._width = 0

    def _write(self, line: str, end: str = "") -> None:
        sys.stderr.write(f"\r{line.ljust(self._width)}{end}" if self._width or end != "\n" else f"{line}{end}")
        sys.stderr.flush()
        self._width, self._shown = len(line), line


def progress_of(study: str, subject: Subject, *, is_shown: bool) -> ProgressLines:
    """Return what tells of a run on standard error: one line where it can be written over, else a line a job."""
    if not is_shown:
        return ProgressLines(study, subject, lambda line: None)
    can_rewrite = sys.stderr.isatty() or "ipykernel" in sys.modules
    return ProgressLine(study, subject) if can_rewrite else ProgressLines(study, subject, _tell)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _in_words(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


__all__ = ["ProgressLine", "ProgressLines", "TrackedJob", "progress_of"]
