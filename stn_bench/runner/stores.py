"""The stores of a workspace: the one place that opens them. MLflow and Optuna take seconds to load, so late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.runner.queue import Queue
    from stn_bench.tracking.mlflow import Tracking


@dataclass(frozen=True)
class Stores:
    """Both stores of a workspace.

    Args:
        tracking: where every run is kept.
        queue: where jobs wait.
    """

    tracking: Tracking
    queue: Queue


def open_stores(workspace: Workspace) -> Stores:
    """Return both stores, made where they are missing.

    Raises:
        StoreError: if one cannot be opened.
    """
    return Stores(open_tracking(workspace), open_queue(workspace))


def open_tracking(workspace: Workspace) -> Tracking:
    """Return the tracking store, made where it is missing.

    Raises:
        StoreError: if it cannot be opened.
    """
    from stn_bench.tracking.mlflow import Tracking

    return Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))


@contextmanager
def borrowing_mlflow() -> Iterator[None]:
    """Give MLflow's global address back afterwards: in a notebook it is the user's own, for runs of his own."""
    from stn_bench.tracking.mlflow import fluent_address, point_fluent_calls_at

    before = fluent_address()
    try:
        yield
    finally:
        point_fluent_calls_at(before)


def open_queue(workspace: Workspace) -> Queue:
    """Return the job queue, made where it is missing. Its lock keeps its old name, so that older commands share it.

    Raises:
        StoreError: if it cannot be opened.
    """
    from stn_bench.runner.queue import Queue

    return Queue(workspace.queue, workspace.heartbeat, workspace.lock("search"))
