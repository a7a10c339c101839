"""The runs of somebody else's store of MLflow's, which is only read."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from alembic.util import CommandError
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from stn_bench.system.errors import StoreError
from stn_bench.system.postgres import check_answers
from stn_bench.system.text import did_you_mean, shorten
from stn_bench.system.workspace import refuse_foreign, sqlite_file
from stn_bench.tracking.ended import PAGE
from stn_bench.tracking.mlflow.refusals import refusal
from stn_bench.tracking.mlflow.tables import OURS


def foreign_runs(uri: str, experiment: str) -> list[dict[str, str]]:
    """Return the runs of somebody else's experiment, the latest first, as text by column; the store is only read.

    Columns are named as `mlflow.search_runs` names them, `metrics.*` (the last value of one that was logged by step),
    `params.*` and `tags.*`; beside them stand `run_id`, `status` and `parent`.

    Raises:
        StoreError: if the store cannot be read, or has no such experiment.
    """
    check_answers("tracking store", uri, "--tracking-uri")
    try:
        _check_foreign(uri)
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            known = [one.name for one in client.search_experiments()]
            raise StoreError(
                f"tracking store {uri}: no experiment `{shorten(experiment)}`.{did_you_mean(experiment, known)} "
                f"Known: {shorten(', '.join(known))}"
            )
        runs: list[Run] = []
        token = None
        while page := client.search_runs([found.experiment_id], max_results=PAGE, page_token=token):
            runs += page
            token = page.token
            if not token:
                break
    except (MlflowException, OSError, ImportError, sqlite3.DatabaseError, SQLAlchemyError, CommandError) as error:
        raise StoreError(f"tracking store {uri}: {refusal(error, uri)}") from None
    return list(map(_as_text, runs))


def _check_foreign(uri: str) -> None:
    """See that a store is there and MLflow's: left to itself, MLflow would make one. Its old folders are read too.

    Raises:
        StoreError: if it is not.
    """
    file = sqlite_file(uri)
    folder = Path(uri.removeprefix("file://").removeprefix("file:"))
    if file is not None:
        if not file.is_file():
            raise StoreError(f"tracking store {uri}: no such file")
        refuse_foreign(f"tracking store {uri}", file, OURS, "--mlflow")
    elif uri.startswith("file:") or "://" not in uri:
        if not folder.is_dir():
            hint = f"; a file of SQLite is meant by sqlite:///{uri}" if folder.is_file() else ""
            raise StoreError(f"tracking store {uri}: no such folder, and no address{hint}")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")


def _as_text(run: Run) -> dict[str, str]:
    told = {"run_id": str(run.info.run_id), "status": str(run.info.status)}
    told["parent"] = str(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""))
    told |= {f"metrics.{name}": repr(float(value)) for name, value in run.data.metrics.items()}
    told |= {f"params.{name}": str(value) for name, value in run.data.params.items()}
    return told | {f"tags.{name}": str(value) for name, value in run.data.tags.items()}
