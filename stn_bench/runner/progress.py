"""The progress of a run in lines: which phase, which job ended and how, and the time that is left."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stn_bench.runner.worker import JobEnded, JobEpoch, JobEvent, JobStarted

if TYPE_CHECKING:
    from stn_bench.runner.job import Job
    from stn_bench.subject import Subject

REPEAT_SECONDS = 30.0  # lines tell of the epochs of a job no more often than this
LONG_SECONDS = 60.0  # beside this, it hardly counts that a worker loads libraries in its first job
MANY = 500  # jobs of which the time left is reckoned anew once a second, and not at each event
SETTLED = ("finished", "diverged", "crashed")


@dataclass
class TrackedJob:
    """A job as far as it has come.

    Args:
        job: the job.
        epoch: the last epoch that it has finished.
        value: the value of the curve there.
        outcome: how it ended, or that it is training.
        started: when it began, on the clock of this process.
        ended: when it came to its end.
        first: the first epoch that it finished in this try, and when.
        last: when it finished its last one.
        is_warm: whether it began after another job had ended, so that its process had loaded its libraries.
    """

    job: Job
    epoch: int = 0
    value: str = ""
    outcome: str = ""
    started: float = 0.0
    ended: float = 0.0
    first: tuple[int, float] | None = None
    last: float = 0.0
    is_warm: bool = False

    @property
    def place(self) -> str:
        """The epoch that it has finished, and of how many, where that is known."""
        return f"{self.epoch}/{self.job.epochs}" if self.job.epochs else str(self.epoch)

    @property
    def is_settled(self) -> bool:
        """Whether it has come to its end."""
        return self.outcome in SETTLED

    @property
    def seconds(self) -> float:
        """Seconds from its start to its end."""
        return self.ended - self.started

    @property
    def left(self) -> int:
        """Epochs that are left; a job whose epochs nobody knows counts as one."""
        if self.is_settled:
            return 0
        return self.job.epochs - self.epoch if self.job.epochs else 1

    @property
    def pace(self) -> float | None:
        """Seconds that one of its epochs takes, or all of it where nobody knows those; None while nothing tells."""
        epochs = self.job.epochs or 1
        if self.outcome == "finished" and (self.is_warm or self.seconds >= LONG_SECONDS):
            before = self.first[0] - 1 if self.first and self.job.epochs else 0  # those of an earlier try
            return self.seconds / max(epochs - before, 1)
        if not (self.first and self.job.epochs) or self.last - self.first[1] < LONG_SECONDS:
            return None
        if self.epoch == self.first[0]:  # it tells of one epoch in several parts
            return None
        return (self.last - self.first[1]) / (self.epoch - self.first[0])


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
        self._of_arm, self._settled_of = Counter[str](), Counter[str]()  # jobs by arm, and those at their end
        self._training: dict[str, TrackedJob] = {}
        self._left, self._reckoned = "", -math.inf  # the time left, and when it was reckoned
        self._phase = ""
        self._told = time.monotonic()
        self._paces: dict[str, list[float]] = {}  # label of an arm -> those of its jobs that have ended
        self._at_once = 1  # jobs that trained at once
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
        self._phase, self._at_once = phase, 1
        self._jobs = {key: TrackedJob(job) for key, job in jobs.items()}
        self._of_arm, self._settled_of = Counter(job.spec.label for job in jobs.values()), Counter()
        self._training, self._reckoned = {}, -math.inf
        finished = f", {reused} finished before" if reused else ""
        self.say(f"{self._study}, {phase}: {len(jobs)} runs to train{finished}")

    def event(self, event: JobEvent) -> None:
        """Take note of a worker's event; events of jobs that another `run` of the study added are not shown."""
        tracked = self._jobs.get(event.run_key)
        if tracked is None:
            return
        now, label, was_settled = time.monotonic(), tracked.job.spec.label, tracked.is_settled
        if isinstance(event, JobStarted):
            is_warm = self._settled() > 0
            self._settled_of[label] -= was_settled
            tracked = TrackedJob(tracked.job, outcome="training", started=now, is_warm=is_warm)
            self._jobs[event.run_key] = self._training[event.run_key] = tracked
            self._at_once = max(self._at_once, len(self._training))
        elif isinstance(event, JobEpoch):
            tracked.epoch, tracked.value, tracked.last = event.epoch, self._value(event.metrics), now
            tracked.first = tracked.first or (event.epoch, now)
            self._tell_epoch(tracked)
        elif isinstance(event, JobEnded):
            tracked.outcome, tracked.ended = event.outcome, now
            self._training.pop(event.run_key, None)
            self._settled_of[label] += tracked.is_settled - was_settled
            if event.outcome == "crashed":
                self._crashed.add(event.run_key)
            self._keep_pace(tracked, self._paces)
            self._tell_end(tracked, event)

    def _tell_epoch(self, tracked: TrackedJob) -> None:
        if time.monotonic() - self._told >= REPEAT_SECONDS:
            self._told = time.monotonic()
            told = ", ".join(filter(None, (f"epoch {tracked.place}", tracked.value)))
            self.say(f"{tracked.job.name}: {told}{self._time_left()}")

    def _tell_end(self, tracked: TrackedJob, event: JobEnded) -> None:
        told = ", ".join(filter(None, (tracked.value, f"{tracked.seconds:.0f} s")))
        detail = f" ({event.detail})" if event.detail else f", {told}"
        self.say(f"[{self._settled()}/{len(self._jobs)}] {tracked.job.name}: {event.outcome}{detail}")

    def _settled(self) -> int:
        return self._settled_of.total()

    def _value(self, metrics: Mapping[str, float]) -> str:
        """Return the value of the curve that is drawn, as far as an epoch tells it."""
        if self._curve is None or self._curve.name not in metrics:
            return ""
        return f"{self._curve.name} {metrics[self._curve.name]:.3f}"

    def _time_left(self) -> str:
        """Return the time left, from what jobs took so far: each at the pace of its arm; "" while none tells."""
        now = time.monotonic()
        if len(self._jobs) <= MANY or now - self._reckoned >= 1.0:
            self._left, self._reckoned = self._reckon(), now
        return self._left

    def _reckon(self) -> str:
        known = {label: list(paces) for label, paces in tuple(self._paces.items())}
        for one in tuple(self._training.values()):  # a terminal's table is drawn by a thread
            self._keep_pace(one, known)
        if not known or not any(one.left for one in self._jobs.values()):
            return ""
        typical = statistics.median(pace for paces in known.values() for pace in paces)
        medians = {label: statistics.median(paces) for label, paces in known.items()}
        left = [one.left * medians.get(one.job.spec.label, typical) for one in self._jobs.values() if one.left]
        return f"; time left: about {_in_words(max([sum(left) / self._at_once, *left]))}"

    @staticmethod
    def _keep_pace(tracked: TrackedJob, paces: dict[str, list[float]]) -> None:
        if (pace := tracked.pace) is not None:
            paces.setdefault(tracked.job.spec.label, []).append(pace)

    def _head(self) -> str:
        """Return how far the phase is, in a line."""
        if self._preparing or not self._jobs:
            return self._preparing or "opening the stores"
        settled = f"{self._settled()}/{len(self._jobs)} runs"
        return f"{self._study}, {self._phase}: {settled}{self._time_left()}"


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
