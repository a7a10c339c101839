"""A store that was moved or copied with its root: MLflow's absolute addresses are brought to where its files are now.

MLflow writes the address of each experiment, run and model as it makes them, and never looks at it again: a store that
was moved finds none of its files, and a copy writes into the files of its original.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from stn_bench.system.workspace import sqlite_file

LOCK_SECONDS = 60  # how long we wait for another program's write to end
HOMES = (
    "SELECT DISTINCT artifact_location, '' FROM experiments WHERE artifact_location IS NOT NULL",
    "SELECT substr(artifact_uri, 1, length(artifact_uri) - 43), run_uuid FROM runs "
    "WHERE artifact_uri LIKE '%/' || run_uuid || '/artifacts'",
)
"""Folders of artifacts that a store knows, and a run in each; 43 letters are `/RUN/artifacts`."""
OWN_FOLDERS = (("runs", "artifact_uri"), ("logged_models", "artifact_location"))
OTHERS = (
    ("experiments", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)


@dataclass(frozen=True)
class _Move:
    """A store's folder as its addresses have it, and as it is."""

    former: Path
    here: Path

    def follow(self, address: str) -> tuple[Path, Path, str] | None:
        """Return what an address named, what it should name and the address of that; None for one from elsewhere."""
        path = _local(address)
        if path is None or not path.is_relative_to(self.former):
            return None
        now = self.here / path.relative_to(self.former)
        return path, now, now.as_uri() if address.startswith("file:") else str(now)


def bring_home(uri: str, artifacts: Path) -> None:
    """Bring the addresses in a SQLite store to its own folder of artifacts, where that is beside it; all or none.

    Experiments that somebody keeps elsewhere on purpose stay there. Files of runs that were written to the former
    place since a copy was made are copied, too; nothing is ever written there.

    Args:
        uri: address of the store.
        artifacts: folder of its artifacts.

    Raises:
        OSError: if such files cannot be copied.
        sqlite3.DatabaseError: if the store cannot be written; nothing is changed.
    """
    file = sqlite_file(uri)
    if file is None or file.parent.resolve() != artifacts.parent.resolve():
        return
    artifacts = artifacts.resolve()
    with closing(sqlite3.connect(file, timeout=LOCK_SECONDS, isolation_level=None)) as store:
        if not list(_moves(store, file, artifacts)):
            return
        store.execute("BEGIN IMMEDIATE")  # closed before its COMMIT, as where we are killed, it leaves all as it was
        for move in _moves(store, file, artifacts):  # another program may have been faster
            for table, column in OWN_FOLDERS:
                _rewrite(store, table, column, move, _keep_folder)
            for table, column in OTHERS:
                _rewrite(store, table, column, move)
        store.execute("COMMIT")


def _moves(store: sqlite3.Connection, file: Path, artifacts: Path) -> Iterator[_Move]:
    """Yield from where to where a store was moved; a copy of a copy may know several places."""
    runs: dict[Path, list[str]] = {}
    for query in HOMES:
        for address, run in store.execute(query):
            home = _local(address)
            if home is not None and home != artifacts:
                runs.setdefault(home, []).append(run)
    for home, known in runs.items():
        if home.resolve() != artifacts and _was_home(home, file, artifacts, known):
            whole = home.name == artifacts.name  # else the link to a folder elsewhere leads to another than before
            yield _Move(home.parent, artifacts.parent) if whole else _Move(home, artifacts)


def _was_home(home: Path, file: Path, artifacts: Path, runs: list[str]) -> bool:
    """Return whether a folder was the store's own: its runs have files here, or it is gone, or it has a store."""
    if any((artifacts / run).is_dir() for run in runs if run):
        return True
    return (home.parent.name, home.name) == (artifacts.parent.name, artifacts.name) and (
        (home.parent / file.name).exists() or not home.parent.exists()
    )


def _rewrite(
    store: sqlite3.Connection, table: str, column: str, move: _Move, keep: Callable[[Path, Path], None] | None = None
) -> None:
    if column not in {name for _, name, *_ in store.execute(f"PRAGMA table_info({table})")}:
        return  # the table of another version of MLflow
    for row, address in store.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL").fetchall():
        if found := move.follow(address):
            then, now, new = found
            if keep:
                keep(then, now)
            store.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))


def _keep_folder(then: Path, now: Path) -> None:
    """Copy files that are only in the former place: a copy of a store wrote there before it was brought home."""
    if now.exists() or not then.is_dir():
        return
    partial = now.with_name(f".{now.name}.{os.getpid()}.partial")
    try:
        shutil.copytree(then, partial)
        partial.rename(now)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _local(address: str) -> Path | None:
    """Return the absolute path that an address names on this machine, as MLflow reads it; None for any other."""
    if address.startswith("file:"):
        parts = urllib.parse.urlsplit(address)
        path = Path(urllib.request.url2pathname(parts.path)) if not parts.netloc else Path()
    else:
        path = Path(address)
    return path if path.is_absolute() else None
