"""The runs of somebody else's store of MLflow's, which is only read."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from alembic.util import CommandError
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.file_store import FileStore
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from stn_bench.system.errors import StoreError
from stn_bench.system.postgres import check_answers
from stn_bench.system.text import did_you_mean, shorten
from stn_bench.system.workspace import refuse_foreign, sqlite_address, sqlite_file, tables_of
from stn_bench.tracking.ended import PAGE
from stn_bench.tracking.mlflow.refusals import outdated, refusal
from stn_bench.tracking.mlflow.tables import OURS, newest_tables

LOG = logging.getLogger()
"""Where MLflow tells what it leaves out of a store in folders."""


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
        with _left_as_it_is(uri):
            runs = _runs(uri, experiment)
    except (MlflowException, OSError, ImportError, sqlite3.DatabaseError, SQLAlchemyError, CommandError) as error:
        raise StoreError(f"tracking store {uri}: {refusal(error, uri)}") from None
    return list(map(_as_text, runs))


def _runs(uri: str, experiment: str) -> list[Run]:
    """Return the runs of an experiment.

    Raises:
        StoreError: if there is no such experiment.
    """
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = [one.name for one in client.search_experiments()]
        told = f"{did_you_mean(experiment, known)} Known: {shorten(', '.join(known))}" if known else " It has none."
        raise StoreError(f"tracking store {uri}: no experiment `{shorten(experiment)}`.{told}")
    runs: list[Run] = []
    token = None
    while page := client.search_runs([found.experiment_id], max_results=PAGE, page_token=token):
        runs += page
        token = page.token
        if not token:
            break
    return runs


# The store is only read ----------------------------------------------------------------------------------------------


def _check_foreign(uri: str) -> None:
    """See that a store is there and MLflow's: left to itself, MLflow would make one. Its old folders are read too.

    Raises:
        StoreError: if it is not.
    """
    file, folder = sqlite_file(uri), _folder(uri)
    if file is not None:
        _check_file(uri, file)
    elif folder is not None:
        if not folder.is_dir():
            hint = f"; a file of SQLite is meant by sqlite:///{uri}" if folder.is_file() else ""
            raise StoreError(f"tracking store {uri}: no such folder, and no address{hint}")
        if not _holds_runs(folder):
            raise StoreError(f"tracking store {uri}: {_elsewhere(folder)}")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")


def _folder(uri: str) -> Path | None:
    """Return the folder that an address means, or None."""
    if uri.startswith("file:"):
        return Path(local_file_uri_to_path(uri))
    return None if "://" in uri else Path(uri)


def _check_file(uri: str, file: Path) -> None:
    """See that a file of SQLite is a store of this MLflow's: one that is older or empty, MLflow would fill up.

    Raises:
        StoreError: if it is not.
    """
    if not file.is_file():
        raise StoreError(f"tracking store {uri}: no such file")
    refuse_foreign(f"tracking store {uri}", file, OURS, "--mlflow")
    with contextlib.closing(sqlite3.connect(file)) as connection:
        is_empty = not tables_of(connection)
        found = [] if is_empty else connection.execute("SELECT version_num FROM alembic_version").fetchall()
    if is_empty:
        raise StoreError(f"tracking store {uri}: has no table; expected a store of MLflow's")
    if (version := str(found[0][0]) if found else "") != newest_tables():
        raise StoreError(f"tracking store {uri}: {outdated(version, uri)}")


def _holds_runs(folder: Path) -> bool:
    """Return whether a folder is a store as MLflow kept one in folders: each experiment says what it is."""
    return any(folder.glob("*/meta.yaml"))


def _elsewhere(folder: Path) -> str:
    """Return what to say of a folder that is no store: where one lies in it, its address."""
    for place in (folder, folder / "mlruns"):
        for file in sorted(place.glob("*.db")):
            if _is_store(file):
                return f"holds {file.relative_to(folder).as_posix()}; say {sqlite_address(file)}"
        if _holds_runs(place):
            return f"holds {place.name}; say {place.as_posix()}"
    return "no store of MLflow's is there"


def _is_store(file: Path) -> bool:
    """Return whether a file is MLflow's; SQLite makes no file beside one that it is told never changes."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)) as connection:
            return tables_of(connection) >= OURS
    except sqlite3.Error:
        return False


@contextlib.contextmanager
def _left_as_it_is(uri: str) -> Iterator[None]:
    """Read a store in folders without a trace in it, and without tracebacks of what MLflow leaves out there.

    MLflow makes a folder for what is deleted as soon as it opens one, and wants it each time.
    """
    folder = _folder(uri) if sqlite_file(uri) is None else None
    trash = folder / FileStore.TRASH_FOLDER_NAME if folder else None
    was_there = trash is None or trash.exists()
    if trash:
        with contextlib.suppress(OSError):  # MLflow says why it cannot be used
            trash.mkdir(exist_ok=True)
    LOG.addFilter(_without_traceback)
    try:
        yield
    finally:
        LOG.removeFilter(_without_traceback)
        if trash and not was_there:
            with contextlib.suppress(OSError):  # by now somebody else's
                trash.rmdir()


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


def _as_text(run: Run) -> dict[str, str]:
    told = {"run_id": str(run.info.run_id), "status": str(run.info.status)}
    told["parent"] = str(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""))
    told |= {f"metrics.{name}": repr(float(value)) for name, value in run.data.metrics.items()}
    told |= {f"params.{name}": str(value) for name, value in run.data.params.items()}
    return told | {f"tags.{name}": str(value) for name, value in run.data.tags.items()}
