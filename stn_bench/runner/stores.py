"""The stores of a workspace: the one place that opens them. MLflow and Optuna take seconds to load, so late."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.study.plan import Plan
from stn_bench.system.workspace import Workspace, sqlite_file
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.quick import quick_runs
from stn_bench.tracking.results import gather
from stn_bench.tracking.stored import StoredRuns

if TYPE_CHECKING:
    from stn_bench.runner.queue import Queue
    from stn_bench.tracking.mlflow import Tracking

IMPORTED = "imported"
"""The note of the last import."""


@dataclass(frozen=True)
class Stores:
    """Both stores of a workspace.

    Args:
        tracking: where every run is kept.
        queue: where jobs wait.
    """

    tracking: Tracking
    queue: Queue

    @contextmanager
    def waiting_until(self, should_stop: Callable[[], bool]) -> Iterator[None]:
        """Let whoever waits for a store that is away wait no longer than until it is asked to stop, for a while."""
        both = (self.tracking.patience, self.queue.patience)
        before = [one.should_stop for one in both]
        for one in both:
            one.should_stop = should_stop
        try:
            yield
        finally:
            for one, was in zip(both, before, strict=True):
                one.should_stop = was

    def wait_aloud(self, tell: Callable[[str], None], should_stop: Callable[[], bool] = lambda: False) -> None:
        """Let whoever waits for a store that is away say so, and wait no longer than until it is asked to stop."""
        for store in (self.tracking, self.queue):
            store.patience.tell, store.patience.should_stop = tell, should_stop


def open_stores(workspace: Workspace) -> Stores:
    """Return both stores, made where they are missing.

    Raises:
        StoreError: if one cannot be opened.
    """
    _check_opens("job queue", workspace.queue, "--storage")
    return Stores(open_tracking(workspace), open_queue(workspace))


def _check_opens(what: str, address: str, option: str) -> None:
    """See that a server lets us in, before the library is loaded that uses it; what is wrong is told in seconds."""
    if sqlite_file(address) is None:
        from stn_bench.system.postgres import check_opens

        check_opens(what, address, option)


def open_tracking(workspace: Workspace) -> Tracking:
    """Return the tracking store, made where it is missing.

    Raises:
        StoreError: if it cannot be opened.
    """
    _check_opens("tracking store", workspace.tracking, "--tracking-uri")
    from stn_bench.tracking.mlflow import Tracking

    kept = KeptRecords(workspace.records)
    return Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"), kept)


def note_import(workspace: Workspace) -> None:
    """Take note that runs were imported just now: what waits to be trained here may be finished."""
    KeptRecords(workspace.records).write_note(IMPORTED, f"{time.time_ns()}")


def last_import(workspace: Workspace) -> str:
    """Return which import into this root was the last; "" if there was none."""
    return KeptRecords(workspace.records).note(IMPORTED)


def have_runs_come(workspace: Workspace, since: str) -> bool:
    """Return whether runs were imported into this root since an import, or any where there was none."""
    return last_import(workspace) != since


def open_runs(workspace: Workspace) -> StoredRuns | Tracking:
    """Return the runs of the tracking store, to be read: without MLflow where that can be done.

    Raises:
        StoreError: if it cannot be opened.
    """
    door = functools.cache(lambda: open_tracking(workspace))
    return quick_runs(workspace.tracking, KeptRecords(workspace.records), door) or door()


@contextmanager
def borrowing_mlflow() -> Iterator[None]:
    """Give MLflow's global address back afterwards: in a notebook it is the user's own, for runs of his own."""
    from stn_bench.tracking.mlflow.fluent import fluent_address, point_fluent_calls_at

    before = fluent_address()
    try:
        yield
    finally:
        point_fluent_calls_at(before)


def analyse_stored(plan: Plan, workspace: Workspace) -> tuple[Analysis, StoredRuns | Tracking]:
    """Return what the results of a plan say that are in the tracking store, and its runs.

    Raises:
        StoreError: if it cannot be opened.
    """
    runs = open_runs(workspace)
    return analyse(gather(plan, runs, workspace.datasets)), runs


def open_queue(workspace: Workspace) -> Queue:
    """Return the job queue, made where it is missing. Its lock keeps its old name, so that older commands share it.

    Raises:
        StoreError: if it cannot be opened.
    """
    _check_opens("job queue", workspace.queue, "--storage")
    from stn_bench.runner.queue import Queue

    return Queue(workspace.queue, workspace.heartbeat, workspace.lock("search"))
