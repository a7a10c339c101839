"""MLflow's global address and active run, which logging a model needs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import mlflow

from stn_bench.tracking.mlflow.refusals import URI_VARIABLE


def fluent_address() -> str | None:
    """Return MLflow's global address, or None where nobody set one."""
    return str(mlflow.get_tracking_uri()) if mlflow.is_tracking_uri_set() else None


def point_fluent_calls_at(uri: str | None) -> None:
    """Set MLflow's global address, which logging a model needs, and no more than that; None: nobody's.

    MLflow also puts it into the environment, where the next workspace of this process, or a child, would take it for
    the user's own choice.
    """
    before = os.environ.get(URI_VARIABLE)
    mlflow.set_tracking_uri(uri)
    if before is None:
        os.environ.pop(URI_VARIABLE, None)
    else:
        os.environ[URI_VARIABLE] = before


@contextlib.contextmanager
def active(run_id: str) -> Iterator[None]:
    """Make a run MLflow's active one, and leave it running.

    As a context of its own, MLflow would close it as FINISHED: a worker that is killed then, or a disk that is full,
    would leave a finished run without its record.
    """
    mlflow.start_run(run_id=run_id)
    try:
        yield
    finally:
        mlflow.end_run("RUNNING")
