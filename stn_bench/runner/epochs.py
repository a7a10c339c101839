"""The epochs of a training: written to its run as they end, or once its store answers again."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stn_bench.runner.returned import check_rises, read_epoch, read_metrics
from stn_bench.study.metrics import without_tests
from stn_bench.system.errors import Interrupted, StoreAwayError, SubjectError

if TYPE_CHECKING:
    from stn_bench.runner.job import Job
    from stn_bench.tracking.store import RunWriter

AGAIN_SECONDS = 10.0  # between two tries to write epochs to a store that is away


@dataclass(frozen=True)
class EpochEnd:
    """A finished epoch: its number from 1, how many there will be as far as it is known, its metrics, and seconds."""

    epoch: int
    epochs: int | None
    metrics: Mapping[str, float]
    seconds: float


class Epochs:
    """Passes on what a training tells of its epochs, and stops it where it is time.

    A store that is away stops no training: its epochs are written as soon as it answers again, and before its run is
    closed. What is not written as a process dies, the next try writes: it tells of the epochs of the checkpoint again.

    Args:
        job: what is trained.
        tracking: where its run is.
        run_id: the run.
        on_epoch: called with each finished epoch.
        should_stop: asked after each epoch.
    """

    def __init__(
        self,
        job: Job,
        tracking: RunWriter,
        run_id: str,
        on_epoch: Callable[[EpochEnd], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._job, self._tracking, self._run_id = job, tracking, run_id
        self._on_epoch, self._should_stop, self._began = on_epoch, should_stop, time.monotonic()
        self._process = os.getpid()
        self.history: dict[str, list[float]] = {}  # of each metric as far as it was told; NaN in epochs between
        self._unsent: list[tuple[int, Mapping[str, float], int]] = []  # each with the moment of its end
        self._try_again = 0.0

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Take note of a finished epoch.

        Raises:
            Interrupted: if it is time to stop.
            SubjectError: if a metric was told for this epoch already, or for a later one, or in a process that the
                training began, whose connections to the store are this one's.
        """
        if os.getpid() != self._process:
            raise SubjectError(
                f"subject `{self._job.subject}`: `run.log` was called in a process that training began; send the "
                "numbers to the one that `train` was called in, and log them there"
            )
        epoch, metrics = read_epoch(self._job.subject, epoch), read_metrics(self._job.subject, metrics)
        if self._job.is_trial:
            metrics = without_tests(metrics)
        for name, value in metrics.items():
            series = self.history.setdefault(name, [])
            check_rises(self._job.subject, name, epoch, len(series))
            series += [math.nan] * (epoch - 1 - len(series)) + [value]
        self._unsent.append((epoch, metrics, int(time.time() * 1000)))
        if time.monotonic() >= self._try_again:
            try:
                self._send()
            except StoreAwayError:  # the training goes on
                self._try_again = time.monotonic() + AGAIN_SECONDS
        self._on_epoch(EpochEnd(epoch, self._job.epochs, metrics, time.monotonic() - self._began))
        if self._should_stop() and epoch != self._job.epochs:
            raise Interrupted(f"stopped after epoch {epoch}; run again to go on from there")

    def send_all(self) -> None:
        """Write what was not written yet, however long that takes, before the run is closed."""
        self._tracking.patience.insist(self._send)

    def _send(self) -> None:
        while self._unsent:
            self._tracking.log_epoch(self._run_id, *self._unsent[0])
            del self._unsent[0]
