"""Live progress: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stn_bench.runner.worker import JobEnded, JobEpoch, JobEvent, JobStarted

if TYPE_CHECKING:
    from stn_bench.runner.job import Job
    from stn_bench.study.plan import Phase, Plan

REPEAT_SECONDS = 30.0  # plain lines tell of the epochs of a job no more often than this
SETTLED = ("finished", "diverged", "crashed")


@dataclass
class _Tracked:
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
    def left(self) -> int:
        """Epochs that are left; a job whose epochs nobody knows counts as one."""
        if self.outcome in SETTLED:
            return 0
        return self.job.epochs - self.epoch if self.job.epochs else 1


class Progress:
    """Shows study, arms, seeds, epochs, metric and time left; a context manager, and the runner's watcher."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan, self._console = plan, console
        self._jobs: dict[str, _Tracked] = {}
        self._phase: Phase | None = None
        self._reused = 0
        self._started = self._told = time.monotonic()
        self._trained = 0  # epochs since this phase began, and jobs whose epochs nobody knows
        self._preparing = ""
        self._crashed = set[str]()
        self._curve = plan.subject.curve
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    @property
    def crashed(self) -> int:
        """Number of jobs that crashed, in all phases."""
        return len(self._crashed)

    def preparing(self, data: str, done: int, count: int) -> None:
        """Show how many examples of the data are made."""
        noun = f"{self._plan.subject.example}s"
        self._preparing = f"making {noun}: {done} of {count} ({data})" if done < count else ""
        if done == count:
            self.say(f"made {count} {noun} ({data})")

    def phase(self, phase: Phase, jobs: Mapping[str, Job], reused: int) -> None:
        """Begin a phase."""
        self._phase, self._reused = phase, reused
        self._jobs = {key: _Tracked(job) for key, job in jobs.items()}
        self._started, self._trained = time.monotonic(), 0
        finished = f", {reused} finished before" if reused else ""
        self.say(f"{self._plan.study.name}, {phase}: {len(jobs)} runs to train{finished}")

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
            self._tell_end(tracked, event)

    def say(self, line: str) -> None:
        """Print a line above the live table, or among the plain lines."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _tell_epoch(self, tracked: _Tracked) -> None:
        if self._console.is_terminal or time.monotonic() - self._told < REPEAT_SECONDS:
            return
        self._told = time.monotonic()
        self.say(f"{tracked.job.name}: epoch {tracked.place}, {tracked.value}; {self._time_left()}")

    def _tell_end(self, tracked: _Tracked, event: JobEnded) -> None:
        tracked.outcome = event.outcome
        if event.outcome == "crashed":
            self._crashed.add(event.run_key)
        self._trained += not tracked.job.epochs
        told = ", ".join(filter(None, (tracked.value, f"{tracked.seconds:.0f} s")))
        detail = f" ({event.detail})" if event.detail else f", {told}"
        done = sum(one.outcome in SETTLED for one in self._jobs.values())
        self.say(f"[{done}/{len(self._jobs)}] {tracked.job.name}: {event.outcome}{detail}")

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

    def _render(self) -> RenderableType:
        if self._preparing or not self._jobs:
            return Text(self._preparing or "opening the stores")
        head = Text(f"{self._plan.study.name}, {self._phase}: ", style="bold")
        head.append(
            f"{sum(c.outcome in SETTLED for c in self._jobs.values())}/{len(self._jobs)} runs; {self._time_left()}"
        )
        table = Table("arm", "runs", "now", "epoch", self._curve.name if self._curve else "", box=None, pad_edge=False)
        for label in dict.fromkeys(tracked.job.spec.label for tracked in self._jobs.values()):
            self._add_arm(table, label, [c for c in self._jobs.values() if c.job.spec.label == label])
        return Group(head, table)

    def _add_arm(self, table: Table, label: str, jobs: list[_Tracked]) -> None:
        done = sum(tracked.outcome in SETTLED for tracked in jobs)
        running = [tracked for tracked in jobs if tracked.outcome == "training"]
        now = ", ".join(tracked.job.name.rpartition(", ")[2] for tracked in running)
        epochs = ", ".join(tracked.place for tracked in running)
        table.add_row(label, f"{done}/{len(jobs)}", now, epochs, ", ".join(tracked.value for tracked in running))


def _in_words(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
