"""The quick way to a store in a SQLite file: runs are read without loading MLflow, which takes a second and a half.

It is taken only where this very MLflow has opened a store with tables of this form before: what the tables mean is
MLflow's own business.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from stn_bench.system.machine import package_version
from stn_bench.system.workspace import sqlite_file
from stn_bench.tracking.ended import EndedRun, Wanted, ended_runs, reading, revision_of, study_state
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.stored import StoredRuns

OPENED = "opened"
"""The note of which MLflow has opened which form of tables."""


def note_opened(uri: str, kept: KeptRecords) -> None:
    """Take note that MLflow has opened a store, if that is a file.

    Raises:
        sqlite3.Error: if it cannot be read.
    """
    if file := sqlite_file(uri):
        kept.write_note(OPENED, _opened(file))


def _opened(file: Path) -> str:
    """Return which MLflow is installed, the form of a store's tables, and which file it is.

    A store that was moved or copied with its root has addresses of elsewhere, until MLflow's door has opened it.
    """
    with reading(file) as ask:
        found = file.stat()
        told = [package_version("mlflow"), revision_of(ask), str(file.resolve()), found.st_dev, found.st_ino]
    return " ".join(map(str, told))


class Door(Protocol):
    """The store as MLflow itself reads it."""

    def ended(self, wanted: Wanted) -> list[EndedRun]:
        """Return runs that have ended, in no order."""

    def fetch(self, run_id: str, path: str, home: str = "") -> Path:
        """Return a local path to an artifact of a run, by its id here."""

    def deleted(self, name: str) -> str:
        """Return what to do about a deleted run whose id or run key begins with `name`; "" if there is none."""


def quick_runs(uri: str, kept: KeptRecords, door: Callable[[], Door]) -> StoredRuns | None:
    """Return the runs of a store that can be read without MLflow; None if it cannot.

    Args:
        uri: address of the store.
        kept: the file of records beside it.
        door: opens the store by MLflow, for what cannot be had without it.
    """
    file = sqlite_file(uri)
    known = kept.note(OPENED) if file and file.is_file() else ""
    if not file or not known or not _is_known(file, known):
        return None

    def listing(wanted: Wanted) -> list[EndedRun]:
        with contextlib.suppress(sqlite3.Error), reading(file) as ask:
            found = ended_runs(ask, wanted)
            if found is not None:
                return found
        return door().ended(wanted)

    def fetch(run_id: str, path: str, home: str = "") -> Path:
        return door().fetch(run_id, path, home)

    return StoredRuns(uri, listing, fetch, lambda name: door().deleted(name), kept)


def quick_state(uri: str, study: str) -> list[list[Any]] | None:
    """Return how every run of a study stands in a SQLite file; None where that cannot be read."""
    file = sqlite_file(uri)
    if file and file.is_file():
        with contextlib.suppress(sqlite3.Error), reading(file) as ask:
            return study_state(ask, study)
    return None


def _is_known(file: Path, known: str) -> bool:
    with contextlib.suppress(sqlite3.Error, OSError):
        return _opened(file) == known
    return False


__all__ = ["OPENED", "Door", "note_opened", "quick_runs", "quick_state"]
