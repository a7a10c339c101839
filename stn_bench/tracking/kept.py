"""The file of records beside the store: what was read of finished runs once need not be read from MLflow again.

It is never the truth. A record is taken from it only for a run that the store has just named, and only while the
record's own file is the one that it was read from. If it is missing, damaged or of another version, it is made again;
if it cannot be written, it is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stn_bench.tracking.record import RunRecord

OURS = 0x53544E42  # SQLite's `application_id`: by it a file is known as this one
FORM = 1  # its `user_version`: one of another form is made again
LOCKED_SECONDS = 5.0  # for how long another process is waited for; behind that the file is done without
AT_ONCE = 500  # runs in a question
DIGEST = 16
TABLES = (
    "CREATE TABLE records (run_id TEXT PRIMARY KEY, source TEXT, code TEXT, content BLOB, digest BLOB)",
    "CREATE TABLE code (name TEXT PRIMARY KEY, content BLOB)",
    "CREATE TABLE notes (name TEXT PRIMARY KEY, content TEXT, digest BLOB)",
)


class KeptRecords:
    """Records of finished runs in a SQLite file; several processes may use it at once.

    Args:
        file: the file, made where it is missing.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._is_usable = file, True
        self._code: dict[str, dict[str, str]] = {}  # runs of one arm have the same: they share it

    def read(self, sources: Mapping[str, str]) -> dict[str, RunRecord]:
        """Return the records of runs that are here, by their ids.

        Args:
            sources: id of a run -> what its record is to have been read from.
        """
        names = list(sources)
        some = (names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE))
        found: dict[str, RunRecord] = {}
        self._use(lambda file: [found.update(self._read(file, {name: sources[name] for name in one})) for one in some])
        return found

    def _read(self, file: sqlite3.Connection, sources: Mapping[str, str]) -> dict[str, RunRecord]:
        marks = ",".join("?" * len(sources))
        query = f"SELECT run_id, source, code, content, digest FROM records WHERE run_id IN ({marks})"
        found: dict[str, RunRecord] = {}
        for run_id, source, code, content, digest in file.execute(query, list(sources)).fetchall():
            if source == sources[run_id] and digest == _digest(run_id, source, code, content):
                found |= self._whole(file, run_id, code, content)
        return found

    def _whole(self, file: sqlite3.Connection, run_id: str, code: str, content: bytes) -> dict[str, RunRecord]:
        if code not in self._code:
            row = file.execute("SELECT content FROM code WHERE name = ?", (code,)).fetchone()
            if row is None or _name_of(row[0]) != code:
                return {}
            self._code[code] = dict(json.loads(row[0]))
        try:
            bare = RunRecord.model_validate_json(content)
        except ValueError:
            return {}
        return {run_id: bare.model_copy(update={"identity": replace(bare.identity, code=self._code[code])})}

    def keep(self, records: Iterable[tuple[str, str, bytes]]) -> None:
        """Keep records that can be read, each as JSON behind its run's id and what it was read from."""
        rows, codes = [], {}
        for run_id, source, text in records:
            tree = json.loads(text)  # of the very text: a record that was read and written again may say less
            code = json.dumps(tree["identity"].pop("code")).encode()
            name, tree["identity"]["code"] = _name_of(code), {}
            codes[name], content = code, json.dumps(tree).encode()
            rows.append((run_id, source, name, content, _digest(run_id, source, name, content)))

        def write(file: sqlite3.Connection) -> None:
            with file:
                file.executemany("INSERT OR REPLACE INTO code VALUES (?, ?)", codes.items())
                file.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", rows)

        if rows:
            self._use(write)

    def note(self, name: str) -> str:
        """Return a note, or "" where there is none."""
        query = "SELECT content, digest FROM notes WHERE name = ?"
        row = self._use(lambda file: file.execute(query, (name,)).fetchone())
        return str(row[0]) if row and row[1] == _digest(name, row[0]) else ""

    def write_note(self, name: str, content: str) -> None:
        """Write a note of what was seen or done, in place of an older one."""

        def write(file: sqlite3.Connection) -> None:
            with file:
                file.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (name, content, _digest(name, content)))

        if self.note(name) != content:
            self._use(write)

    def _use(self, what: Callable[[sqlite3.Connection], Any]) -> Any:
        """Return what comes of using the file; None where it cannot be used, or is damaged and must be made again."""
        if not self._is_usable:
            return None
        try:
            with contextlib.closing(self._opened()) as connection:
                return what(connection)
        except sqlite3.OperationalError:  # it is locked, or cannot be written: it is done without
            self._is_usable = False
        except (sqlite3.DatabaseError, ValueError, TypeError):  # damaged, or not as we write it
            self._remove()
        return None

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=LOCKED_SECONDS)
        try:
            if not self._is_made(connection):
                self._make(connection)
            connection.execute("PRAGMA synchronous = OFF")  # what a loss of power damages is made again
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if self._is_made(connection):  # another process was faster
                return
            for table in TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {OURS}")
            connection.execute(f"PRAGMA user_version = {FORM}")

    def _is_made(self, connection: sqlite3.Connection) -> bool:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (form,) = connection.execute("PRAGMA user_version").fetchone()
        if tables and owner != OURS:
            raise sqlite3.OperationalError(f"{self._file} is another program's")
        if tables and form != FORM:
            raise sqlite3.DatabaseError(f"{self._file} is of another version")
        return bool(tables)

    def _remove(self) -> None:
        for file in (self._file, self._file.with_name(f"{self._file.name}-journal")):
            with contextlib.suppress(OSError):
                file.unlink()


def _name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(*parts: Any) -> bytes:
    whole = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.digest()


__all__ = ["KeptRecords"]
