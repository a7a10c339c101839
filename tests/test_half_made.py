"""A store whose making was cut short is made again: neither MLflow nor Optuna makes its tables in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow.store.db.utils import _get_latest_schema_revision

from stn_bench.runner.queue import Queue
from stn_bench.system.workspace import sqlite_address
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.mlflow.tables import is_half_made


@contextmanager
def cut_short(statements: int) -> Iterator[None]:
    """Interrupt whoever makes tables, after a number of statements."""
    count = 0

    def interrupt(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > statements:
            raise KeyboardInterrupt

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", interrupt)
    try:
        yield
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", interrupt)


def open_queue(folder: Path) -> Queue:
    return Queue(sqlite_address(folder / "optuna.db"), 15, folder / "search.lock")


@pytest.mark.parametrize("statements", [1, 20, 30])
def test_a_queue_whose_making_was_cut_short_is_made_again(tmp_path: Path, statements: int) -> None:
    with pytest.raises(KeyboardInterrupt), cut_short(statements):
        open_queue(tmp_path)
    assert not (tmp_path / "optuna.db").exists()
    open_queue(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["optuna.db", "search.lock"]


@pytest.mark.parametrize("lost", ["trials", "version_info", "alembic_version"])
def test_a_queue_that_an_older_version_half_made_is_made_again(tmp_path: Path, lost: str) -> None:
    open_queue(tmp_path)
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as store:
        store.execute(f"DROP TABLE {lost}")
    open_queue(tmp_path)
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as store:
        assert store.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


FIRST = "CREATE TABLE experiments (id); CREATE TABLE runs (id); CREATE TABLE metrics (id);"


@pytest.mark.parametrize(
    ("made", "is_half"),
    [
        ("", True),
        (FIRST, True),
        (
            FIRST + "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('451aebb31d03');",
            True,
        ),
        (FIRST + "INSERT INTO experiments VALUES (0);", False),  # of an older MLflow, which is upgraded
        (FIRST + "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('ffff');", False),
        (FIRST + "INSERT INTO runs VALUES (1);", False),  # whatever it is, runs are not lost
        ("CREATE TABLE songs (id);", False),
        (FIRST + "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('HEAD');", False),
    ],
)
def test_which_tracking_stores_were_half_made(tmp_path: Path, made: str, is_half: bool) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        store.executescript(made.replace("HEAD", _get_latest_schema_revision()))
    assert is_half_made(tmp_path / "mlflow.db") == is_half


@pytest.mark.slow
def test_a_tracking_store_that_was_half_made_is_made_again(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        store.executescript(FIRST)
    (tmp_path / "mlflow.db.1.partial").touch()  # of a process that was killed
    assert Tracking(sqlite_address(tmp_path / "mlflow.db"), tmp_path / "artifacts", tmp_path / "lock").finished() == []
    assert not list(tmp_path.glob("*.partial*"))
