"""The tables of MLflow's store in a SQLite file: made whole, or not at all."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.tracking import MlflowClient

from stn_bench.system.workspace import make_whole, refuse_foreign, sqlite_file, tables_of

OURS = {"experiments", "runs", "alembic_version"}  # tables by which a store of MLflow's is known


def make_tables(uri: str) -> None:
    """Make the tables of a store in a SQLite file that has none; readers and writers work side by side in it."""
    path = sqlite_file(uri)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not is_half_made(path):
        refuse_foreign(f"tracking store {uri}", path, OURS, "--tracking-uri")
        _write_ahead(path)
        return

    def make(address: str) -> None:
        client = MlflowClient(tracking_uri=address)
        client.search_experiments(max_results=1)
        client._tracking_client.store.engine.dispose()
        _write_ahead(sqlite_file(address) or path)

    make_whole(path, make)


def is_half_made(path: Path) -> bool:
    """Return whether MLflow began to make its tables in a file, and never came to its end.

    It has not even the experiment then that MLflow makes in each store.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = tables_of(connection)
        if not tables:
            return path.stat().st_size == 0
        if "experiments" not in tables or not tables & {"runs", "alembic_version"}:
            return False
        if any(
            connection.execute(f"SELECT 1 FROM {table}").fetchone()
            for table in ("experiments", "runs")
            if table in tables
        ):
            return False
        made = connection.execute("SELECT version_num FROM alembic_version").fetchall() if tables >= OURS else []
    return {version for (version,) in made} <= _steps()


def _steps() -> set[str]:
    """Return the versions of tables that this MLflow goes through before it comes to its own."""
    return {one.revision for one in _script().walk_revisions()} - {newest_tables()}


def newest_tables() -> str:
    """Return the version of this MLflow's tables."""
    return _script().get_current_head() or ""


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_get_alembic_config("sqlite://"))


def _write_ahead(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
