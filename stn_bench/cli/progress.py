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

from stn_bench.runner.worker import CellEnded, CellEpoch, CellEvent, CellStarted

if TYPE_CHECKING:
    from stn_bench.runner.order import CellOrder
    from stn_bench.study.plan import Phase, Plan

WATCHED = "validation.accuracy"
REPEAT_SECONDS = 30.0  # plain lines tell of the epochs of a cell no more often than this
SETTLED = ("finished", "diverged", "crashed")


@dataclass
class _Cell:
    """A cell as far as it has come."""

    order: CellOrder
    epoch: int = 0
    metric: float | None = None
    seconds: float = 0.0
    outcome: str = ""

    @property
    def epochs(self) -> int:
        return self.order.spec.config.train.epochs

    @property
    def left(self) -> int:
        return 0 if self.outcome in SETTLED else self.epochs - self.epoch


class Progress:
    """Shows study, arms, seeds, epochs, metric and time left; a context manager, and the runner's watcher."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan, self._console = plan, console
        self._cells: dict[str, _Cell] = {}
        self._phase: Phase | None = None
        self._reused = 0
        self._started = self._told = time.monotonic()
        self._trained = 0  # epochs since this phase began
        self._drawing = ""
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def drawing(self, dataset: str, done: int, count: int) -> None:
        """Show how many pictures are drawn."""
        self._drawing = f"drawing pictures: {done} of {count} ({dataset})" if done < count else ""
        if done == count:
            self.say(f"drew {count} pictures ({dataset})")

    def phase(self, phase: Phase, cells: Mapping[str, CellOrder], reused: int) -> None:
        """Begin a phase."""
        self._phase, self._reused = phase, reused
        self._cells = {key: _Cell(order) for key, order in cells.items()}
        self._started, self._trained = time.monotonic(), 0
        finished = f", {reused} finished before" if reused else ""
        self.say(f"{self._plan.study.name}, {phase}: {len(cells)} runs to train{finished}")

    def event(self, event: CellEvent) -> None:
        """Take note of what a worker tells; of a cell that another `run` of the study wants, nothing is shown."""
        cell = self._cells.get(event.run_key)
        if cell is None:
            return
        if isinstance(event, CellStarted):
            cell.epoch, cell.outcome = 0, "training"
        elif isinstance(event, CellEpoch):
            self._trained += 1
            cell.epoch, cell.seconds, cell.metric = event.epoch, event.seconds, event.metrics.get(WATCHED)
            self._tell_epoch(cell)
        elif isinstance(event, CellEnded):
            self._tell_end(cell, event)

    def say(self, line: str) -> None:
        """Print a line above the live table, or among the plain lines."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _tell_epoch(self, cell: _Cell) -> None:
        if self._console.is_terminal or time.monotonic() - self._told < REPEAT_SECONDS:
            return
        self._told = time.monotonic()
        self.say(f"{cell.order.name}: epoch {cell.epoch}/{cell.epochs}, {_metric(cell)}; {self._time_left()}")

    def _tell_end(self, cell: _Cell, event: CellEnded) -> None:
        cell.outcome = event.outcome
        detail = f" ({event.detail})" if event.detail else f", {_metric(cell)}, {cell.seconds:.0f} s"
        done = sum(one.outcome in SETTLED for one in self._cells.values())
        self.say(f"[{done}/{len(self._cells)}] {cell.order.name}: {event.outcome}{detail}")

    def _time_left(self) -> str:
        """Return the time left at the pace of this phase so far: epochs trained by all workers a second."""
        if not self._trained:
            return "time left: not known yet"
        pace = (time.monotonic() - self._started) / self._trained
        return f"time left: about {_duration(pace * sum(cell.left for cell in self._cells.values()))}"

    def _render(self) -> RenderableType:
        if self._drawing or not self._cells:
            return Text(self._drawing or "opening the stores")
        head = Text(f"{self._plan.study.name}, {self._phase}: ", style="bold")
        head.append(
            f"{sum(c.outcome in SETTLED for c in self._cells.values())}/{len(self._cells)} runs; {self._time_left()}"
        )
        table = Table("arm", "runs", "now", "epoch", WATCHED, box=None, pad_edge=False)
        for label in dict.fromkeys(cell.order.spec.label for cell in self._cells.values()):
            self._add_arm(table, label, [c for c in self._cells.values() if c.order.spec.label == label])
        return Group(head, table)

    def _add_arm(self, table: Table, label: str, cells: list[_Cell]) -> None:
        done = sum(cell.outcome in SETTLED for cell in cells)
        running = [cell for cell in cells if cell.outcome == "training"]
        now = ", ".join(cell.order.name.rpartition(", ")[2] for cell in running)
        epochs = ", ".join(f"{cell.epoch}/{cell.epochs}" for cell in running)
        table.add_row(label, f"{done}/{len(cells)}", now, epochs, ", ".join(map(_metric, running)))


def _metric(cell: _Cell) -> str:
    return "" if cell.metric is None else f"{WATCHED} {cell.metric:.3f}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
