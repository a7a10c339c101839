"""Live progress: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stn_bench.runner.progress import ProgressLines, TrackedJob

if TYPE_CHECKING:
    from stn_bench.subject import Subject

MOST_ARMS = 40
"""Arms that are all shown; of more, those in which something is trained."""


class Progress(ProgressLines):
    """Shows study, arms, seeds, epochs, metric and time left."""

    def __init__(self, study: str, subject: Subject, console: Console) -> None:
        super().__init__(study, subject, self._print)
        self._console = console
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _print(self, line: str) -> None:
        """Print a line above the live table, or among the plain lines."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _tell_epoch(self, tracked: TrackedJob) -> None:
        if not self._console.is_terminal:
            super()._tell_epoch(tracked)

    def _render(self) -> RenderableType:
        if self._preparing or not self._jobs:
            return Text(self._head())
        table = Table("arm", "runs", "now", "epoch", self._curve.name if self._curve else "", box=None, pad_edge=False)
        training: dict[str, list[TrackedJob]] = {}
        for tracked in tuple(self._training.values()):
            training.setdefault(tracked.job.spec.label, []).append(tracked)
        labels = [label for label in self._of_arm if len(self._of_arm) <= MOST_ARMS or label in training]
        for label in labels:
            self._add_arm(table, label, training.get(label, []))
        if left_out := len(self._of_arm) - len(labels):
            table.add_row(f"{left_out} more arms")
        return Group(Text(self._head(), style="bold"), table)

    def _add_arm(self, table: Table, label: str, running: list[TrackedJob]) -> None:
        done, jobs = self._settled_of[label], self._of_arm[label]
        now = ", ".join(tracked.job.name.rpartition(", ")[2] for tracked in running)
        epochs = ", ".join(tracked.place for tracked in running)
        table.add_row(label, f"{done}/{jobs}", now, epochs, ", ".join(tracked.value for tracked in running))
