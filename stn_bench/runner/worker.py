"""A worker: a process of its own that claims cells and trains them until none is left."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stn_bench.system.errors import (
    ClaimLostError,
    DataError,
    Discreet,
    Interrupted,
    MachineError,
    StnBenchError,
    StoreError,
    without_secrets,
)
from stn_bench.system.machine import disk_full, training_environment
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.runner.order import CellOrder
    from stn_bench.runner.queue import Claim, Finished
    from stn_bench.tracking.record import RunRecord

STOP = "stop"
NOBODYS_FAULT = (DataError, MachineError, StoreError)  # no arm can help these: the study stops, nothing is recorded
Better = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Shift:
    """What a worker is to do.

    Args:
        workspace: where the stores are.
        threads: threads to train with.
        names: Optuna studies to claim cells from.
        orders: run key -> the cell to train.
        metric: the final metric that is told to Optuna.
        direction: which way the metric is better.
    """

    workspace: Workspace
    threads: int
    names: tuple[str, ...]
    orders: Mapping[str, CellOrder]
    metric: str
    direction: Better


@dataclass(frozen=True)
class CellStarted:
    """A worker has claimed a cell."""

    run_key: str


@dataclass(frozen=True)
class CellEpoch:
    """A cell has finished an epoch."""

    run_key: str
    epoch: int
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class CellEnded:
    """A cell has ended: finished, diverged, crashed or interrupted."""

    run_key: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class Halt:
    """No worker can go on: what is wrong lies with the machine or a store, and not with a cell."""

    reason: str


CellEvent = CellStarted | CellEpoch | CellEnded
Event = CellEvent | Halt


def run_worker(shift: Shift, connection: Connection) -> None:
    """Claim and train cells until none is left, or the other end of the connection says stop or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means, and tells us
    os.environ.update(training_environment(shift.threads))
    _redirect_noise(shift.workspace.logs / f"worker-{os.getpid()}.log")
    if any(order.spec.config.model.factory for order in shift.orders.values()):
        shift.workspace.find_code()
    stopping = threading.Event()
    threading.Thread(target=_listen, args=(connection, stopping), daemon=True).start()
    try:
        _Worker(shift, connection, stopping).work()
    except Exception as error:
        traceback.print_exc()  # for the log
        reason = disk_full(error) or (error if isinstance(error, StnBenchError) else None)
        if reason is None:
            raise
        connection.send(Halt(str(reason)))


def _redirect_noise(path: Path) -> None:
    """Send what libraries write to the terminal, from C++ too, to a file: the terminal shows the progress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.stdout, sys.stderr = Discreet(sys.stdout), Discreet(sys.stderr)


def _listen(connection: Connection, stopping: threading.Event) -> None:
    try:
        while connection.recv() == STOP:
            stopping.set()
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone: an orphan must not go on training


class _Worker:
    def __init__(self, shift: Shift, connection: Connection, stopping: threading.Event) -> None:
        # Imported here and not above: the environment must be set before Keras and TensorFlow are loaded.
        from stn_bench.runner.queue import Search
        from stn_bench.tracking.mlflow import Tracking

        workspace = shift.workspace
        self._shift, self._connection, self._stopping = shift, connection, stopping
        self._search = Search(workspace.search, workspace.heartbeat, workspace.lock("search"))
        self._tracking = Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))

    def work(self) -> None:
        self._search.work(self._shift.names, self._train, self._stopping.is_set)

    def _train(self, claim: Claim) -> Finished:
        from stn_bench.runner.queue import Finished

        self._connection.send(CellStarted(claim.run_key))
        try:
            record = self._finished_before(claim.run_key) or self._train_cell(claim)
        except (Interrupted, ClaimLostError):
            self._connection.send(CellEnded(claim.run_key, "interrupted", ""))
            raise
        except Exception as error:
            traceback.print_exc()  # for the log
            outcome = "crashed"
            if isinstance(error, NOBODYS_FAULT):
                self._connection.send(Halt(str(error)))
                self._stopping.set()
                outcome = "interrupted"
            detail = without_secrets(f"{type(error).__name__}: {error}")
            self._connection.send(CellEnded(claim.run_key, outcome, detail))
            raise
        self._connection.send(CellEnded(claim.run_key, record.outcome, record.reason))
        value = record.metrics.get(self._shift.metric, self._worst())
        return Finished(value, record.run_id, record.outcome)

    def _finished_before(self, run_key: str) -> RunRecord | None:
        """Return the record of a cell whose last worker finished it, and died before Optuna knew."""
        run_id = self._tracking.finished_as(run_key)
        return self._tracking.records([run_id])[0] if run_id else None

    def _train_cell(self, claim: Claim) -> RunRecord:
        from stn_bench.runner.cell import train_cell
        from stn_bench.subjects.stn.data.dataset import open_dataset
        from stn_bench.subjects.stn.data.spec import DatasetSpec
        from stn_bench.subjects.stn.nn.train import EpochEnd

        def should_stop() -> bool:
            if claim.is_lost():
                raise ClaimLostError
            return self._stopping.is_set()

        def tell(epoch: EpochEnd) -> None:
            self._connection.send(CellEpoch(claim.run_key, epoch.epoch, epoch.metrics, epoch.seconds))

        order = self._shift.orders[claim.run_key]
        dataset = open_dataset(DatasetSpec.of(order.spec.config), self._shift.workspace.datasets)
        return train_cell(order, dataset, self._tracking, on_epoch=tell, should_stop=should_stop, ending=claim.ending)

    def _worst(self) -> float:
        return float("-inf") if self._shift.direction == "maximize" else float("inf")
