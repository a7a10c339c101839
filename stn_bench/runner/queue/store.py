"""Optuna's store: how it is opened, read and written, and the studies in it."""

from __future__ import annotations

import contextlib
import datetime
import json
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import StudyModel, StudyUserAttributeModel, TrialModel
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from stn_bench.runner.queue.rows import DIRECTIONS, study_row
from stn_bench.system.postgres import engine_options, is_postgres, see_who_is_gone
from stn_bench.system.sounds import Direction
from stn_bench.system.text import first_line
from stn_bench.system.workspace import tables_of

LOCK_SECONDS = 60  # how long a statement waits for another process's write to end
LAST = ("version_info", "alembic_version")  # tables that Optuna fills last
OURS = {"studies", "trials", "version_info"}  # tables by which a store of Optuna's is known
POSTED = "posted"  # user attribute of a study without trials: what workers elsewhere need

INDEXES = {
    "stn_bench_trials_by_state": ("trials", "(state, study_id)"),
    "stn_bench_trials_by_run_key": ("trial_user_attributes", "(value_json) WHERE key = 'run_key'"),
}
"""Name of an index of ours in Optuna's tables -> its table, and what it holds: without it a look reads all trials."""


class Store(RDBStorage):
    """Optuna's store, with indexes of ours, and a clock that all machines share.

    Args:
        url: SQLAlchemy address of the store.
        heartbeat: seconds between a worker's signs of life.
    """

    def __init__(self, url: str, heartbeat: int) -> None:
        wait = {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite") else engine_options(url)
        super().__init__(url, engine_kwargs=wait)
        self._address, self._heartbeat = url, heartbeat
        self._is_shared, self._was_away = is_postgres(url), False
        self._reached: datetime.datetime | None = None  # when it was reached again, by its own clock
        for name, (table, columns) in INDEXES.items():
            if not any(index["name"] == name for index in sqlalchemy.inspect(self.engine).get_indexes(table)):
                with contextlib.suppress(SQLAlchemyError), self.engine.begin() as connection:  # then looks are slow
                    connection.execute(sqlalchemy.text(f"CREATE INDEX {name} ON {table} {columns}"))

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with Session(self.engine) as session, session.begin():
            if self._is_shared:
                see_who_is_gone(session.connection())
            yield session

    def _read(self, query: sqlalchemy.Select[Any]) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(query).all()

    @property
    def _now(self) -> sqlalchemy.ColumnElement[datetime.datetime]:
        """The time by the clock of the database, the only one that leases depend on, in UTC."""
        now = sqlalchemy.func.now()
        return sqlalchemy.func.timezone("UTC", now) if self._is_shared else now

    def note_away(self) -> None:
        """Take note that the server did not answer: signs of life of others may be missing for that alone."""
        self._was_away = True

    # Studies

    def _ids(self) -> dict[str, int]:
        return dict(self._read(sqlalchemy.select(StudyModel.study_name, StudyModel.study_id)))

    def studies(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the ids of studies, in the order of their names; of those that are there."""
        ids = self._ids()
        return tuple(ids[name] for name in names if name in ids)

    def open_studies(self, directions: Mapping[str, Direction]) -> dict[str, int]:
        """Return name -> id of studies, made where they are missing.

        Args:
            directions: name -> "maximize" or "minimize".
        """
        ids = self._ids()
        if missing := [name for name in directions if name not in ids]:
            try:
                with self._writing() as session:
                    session.add_all(study_row(name, directions[name]) for name in missing)
            except IntegrityError:  # another machine was faster with one of them
                for name in missing:
                    with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
                        self.create_new_study([DIRECTIONS[directions[name]]], name)
            ids = self._ids()
        return {name: ids[name] for name in directions}

    def counts(self, name: str) -> dict[str, int]:
        """Return the number of a study's trials by the name of their state, in the order of the names."""
        query = sqlalchemy.select(TrialModel.state, sqlalchemy.func.count())
        found = self._read(query.where(TrialModel.study_id == self._ids().get(name)).group_by(TrialModel.state))
        return dict(sorted((state.name, count) for state, count in found))

    def posted(self, name: str) -> str:
        """Return the text that a study without trials holds; "" if there is none."""
        query = sqlalchemy.select(StudyUserAttributeModel.value_json)
        query = query.where(StudyUserAttributeModel.study_id == self._ids().get(name))
        return "".join(json.loads(value) for (value,) in self._read(query))

    def post(self, name: str, text: str) -> None:
        """Let a study without trials hold a text, in place of an older one."""
        study = self.open_studies({name: "maximize"})[name]
        with self._writing() as session:
            old = sqlalchemy.delete(StudyUserAttributeModel).where(StudyUserAttributeModel.study_id == study)
            session.execute(old)
            session.add(StudyUserAttributeModel(study_id=study, key=POSTED, value_json=json.dumps(text)))


def is_half_made(path: Path) -> bool:
    """Return whether Optuna began to make its tables in a file, and never came to its end: no job is in it then."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = tables_of(connection)
        if not tables:
            return path.stat().st_size == 0
        if "studies" not in tables or not tables <= {*StudyModel.metadata.tables, *LAST}:
            return False
        if connection.execute("SELECT count(*) FROM studies").fetchone()[0]:
            return False
        told = [one for one in LAST if one in tables]
        return not tables >= OURS or len(
            [one for one in told if connection.execute(f"SELECT 1 FROM {one}").fetchone()]
        ) < len(LAST)


def refusal(error: Exception, url: str) -> str:
    """Return why a store cannot be opened, and what to do: Optuna upgrades none by itself."""
    reason = first_line(str(error))
    if isinstance(error, ArgumentError):  # no such kind of database, or no address at all
        return "is no address of a database; expected one such as postgresql+psycopg://USER@HOST/NAME"
    if "optuna storage upgrade" in reason:
        command = f"optuna storage upgrade --storage {shlex.quote(url)}"
        return f"was written by an older Optuna than {optuna.__version__}; make a copy of it, then run: {command}"
    if "no longer compatible with the table schema" in reason:
        return f"was written by a newer Optuna than {optuna.__version__}; run: pip install --upgrade optuna"
    return f"cannot be opened ({reason}); check that it exists and is Optuna's"
