"""Runs that have ended, as MLflow's store tells them by their tags: asked of its tables in SQL, where it has such.

MLflow's own search loads every tag, parameter and metric of a run, a millisecond for each. The tables are MLflow's own
business, so they are read alone, never written, and only where MLflow itself has opened a store of this form before.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn_bench.tracking.store import FinishedRun

KIND = "kind"
FILES = "files"  # tag of a run: the files that it kept, where it says; of a server nobody asks for others
ORIGINAL = "original_run_id"  # tag of an imported run: its id in the store that trained it, and in its record
NEEDED = frozenset({"run_key", "phase", "outcome", "seed"})
TOLD = ("settings", "dataset", "outcome", "study", "ablation", "arm", "trial", "schema")
TAGS = (KIND, ORIGINAL, FILES, *sorted({*NEEDED, *TOLD}))
BETWEEN = ", "  # names of files
SEED = re.compile(r"-?[0-9]{1,20}")
ACTIVE = "active"
WORKSPACE = "default"  # MLflow's client sees but one of its workspaces

SIDE_BY_SIDE = 8
"""Questions that a server is asked at once: it answers them in processes of its own."""

FEW = 200  # runs that it tells at the first question; if there are more, they are asked for in parts
PAGE = 1000  # and at each of the next
PARTS = "0123456789abcdef"  # the first digit of a run's id, which MLflow draws at random

Rows = Sequence[Any]
Ask = Callable[[str, Mapping[str, Any]], Rows]
"""(SELECT with `:name` in it, names -> values) -> its rows."""

Search = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""(a question to `runs/search` of MLflow's REST interface) -> its answer."""


@dataclass(frozen=True)
class EndedRun:
    """A run of ours that ended by itself.

    Args:
        run: the run, by its tags.
        original: the id that it had where it was trained: the same in every store.
        started: when it began, in milliseconds since 1970.
        ended: when it ended.
        home: address of its artifacts.
        files: the files that it kept, where they lie below that; None where nothing tells.
    """

    run: FinishedRun
    original: str
    started: int
    ended: int
    home: str
    files: frozenset[str] | None = None

    @property
    def age(self) -> tuple[int, str]:
        """What runs are sorted by: the later its end, the larger; the same order in every store."""
        return self.ended, self.original


@dataclass(frozen=True)
class Wanted:
    """Which runs are asked for: those of cells, in studies that are not deleted.

    Args:
        status: MLflow's word for how they ended.
        study: the study that they belong to, deleted or not; "": any.
        tags: tags that they have.
    """

    status: str
    study: str = ""
    tags: tuple[tuple[str, str], ...] = ()


def files_tag(names: Iterable[str], longest: int) -> dict[str, str]:
    """Return the tag that tells which files a run kept; none where it would be too long, or names have commas."""
    told = BETWEEN.join(sorted(names))
    return {} if len(told) > longest or any("," in name for name in names) else {FILES: told}


def ended_run(
    run_id: str, started: int | None, ended: int | None, home: str, tags: Mapping[str, str]
) -> list[EndedRun]:
    """Return a run by what MLflow tells of it; nothing if it is none of ours: a store holds those of others, too."""
    if tags.get(KIND) != "run" or not tags.keys() >= NEEDED or not SEED.fullmatch(tags["seed"]):
        return []
    told = {name: tags.get(name, "") for name in TOLD}
    run = FinishedRun(run_id, tags["run_key"], phase=tags["phase"], seed=int(tags["seed"]), **told)
    files = frozenset(tags[FILES].split(BETWEEN)) if FILES in tags else None
    return [EndedRun(run, tags.get(ORIGINAL, run_id), started or 0, ended or 0, home, files)]


def ended_runs(ask: Ask, wanted: Wanted) -> list[EndedRun] | None:
    """Return runs that have ended, in no order; None where MLflow itself has to be asked, or to refuse."""
    experiments = [dict(row) for row in _named(ask("SELECT * FROM experiments", {}))]
    if any(one.get("workspace", WORKSPACE) != WORKSPACE for one in experiments):
        return None
    asked = [one for one in experiments if one["name"] == wanted.study or not wanted.study]
    homes = {one["experiment_id"] for one in asked if one["lifecycle_stage"] == ACTIVE}
    if wanted.study and len(homes) < len(asked):
        return None
    which, values = "lifecycle_stage = :active AND status = :status", {"active": ACTIVE, "status": wanted.status}
    for number, (name, value) in enumerate(wanted.tags):
        which += f' AND run_uuid IN (SELECT run_uuid FROM tags WHERE "key" = :name{number} AND value = :value{number})'
        values |= {f"name{number}": name, f"value{number}": value}
    runs = ask(f"SELECT run_uuid, start_time, end_time, artifact_uri, experiment_id FROM runs WHERE {which}", values)
    names = ", ".join(f"'{name}'" for name in TAGS)
    rows = ask(
        f'SELECT run_uuid, "key", value FROM tags '
        f'WHERE "key" IN ({names}) AND run_uuid IN (SELECT run_uuid FROM runs WHERE {which})',
        values,
    )
    tags: dict[str, dict[str, str]] = {}
    for run_id, name, value in rows:
        tags.setdefault(run_id, {})[name] = value
    return [
        found
        for run_id, started, ended, home, experiment in runs
        if experiment in homes
        for found in ended_run(run_id, started, ended, home or "", tags.get(run_id, {}))
    ]


def searched_runs(search: Search, experiments: Sequence[str], which: str) -> list[EndedRun]:
    """Return runs that have ended, in no order, as a server tells them that has no tables for us.

    It tells each run whole, a millisecond of one of its processes: many runs are asked for in parts side by side.

    Args:
        search: asks the server.
        experiments: ids of the studies whose runs are asked for.
        which: MLflow's filter.
    """
    asked = {"experiment_ids": list(experiments), "filter": which}
    first = search({**asked, "max_results": FEW})
    if not first.get("next_page_token"):
        return _those_in(first)
    parts = [{**asked, "filter": f"{which} and attributes.run_id LIKE '{part}%'"} for part in PARTS]
    pool = ThreadPoolExecutor(SIDE_BY_SIDE)
    try:
        return [run for found in pool.map(lambda part: _all_pages(search, part), parts) for run in found]
    finally:
        pool.shutdown(cancel_futures=True)  # where one is refused, the others are not waited for


def _all_pages(search: Search, asked: Mapping[str, Any]) -> list[EndedRun]:
    found: list[EndedRun] = []
    token: dict[str, str] = {}
    while True:
        page = search({**asked, "max_results": PAGE, **token})
        found += _those_in(page)
        if not page.get("next_page_token"):
            return found
        token = {"page_token": page["next_page_token"]}


def _those_in(page: Mapping[str, Any]) -> list[EndedRun]:
    found: list[EndedRun] = []
    for run in page.get("runs", ()):
        info, tags = run["info"], {tag["key"]: tag.get("value", "") for tag in run["data"].get("tags", ())}
        started, ended = (int(info.get(name, 0)) for name in ("start_time", "end_time"))
        found += ended_run(info["run_id"], started, ended, info.get("artifact_uri", ""), tags)
    return found


def study_state(ask: Ask, study: str) -> list[list[Any]]:
    """Return how every run of a study stands, arms, reports and deleted ones too: whatever is done to one shows."""
    rows = ask(
        "SELECT r.run_uuid, r.status, r.lifecycle_stage, r.end_time, e.lifecycle_stage FROM runs r "
        "JOIN experiments e ON e.experiment_id = r.experiment_id WHERE e.name = :study ORDER BY r.run_uuid",
        {"study": study},
    )
    return [list(row) for row in rows]


def _named(rows: Rows) -> Iterator[Iterable[tuple[str, Any]]]:
    """Yield the columns of rows by name, whether they are Python's SQLite's or SQLAlchemy's."""
    for row in rows:
        names = row.keys() if isinstance(row, sqlite3.Row) else row._fields
        yield zip(names, tuple(row), strict=True)


@contextlib.contextmanager
def reading(file: Path) -> Iterator[Ask]:
    """Lend the tables of a SQLite file, as they are at one moment; nothing can be written.

    In a folder where nobody may write SQLite could make no `-shm` file beside it, so that it has to be told that
    nobody writes; unless what was last written still waits in a `-wal` file, all of it is in the file then.

    Raises:
        sqlite3.Error: if the file cannot be read.
    """
    waiting = file.with_name(f"{file.name}-wal")
    is_settled = not os.access(file.parent, os.W_OK) and not (waiting.exists() and waiting.stat().st_size)
    address = f"file:{urllib.parse.quote(str(file))}?mode=ro{'&immutable=1' if is_settled else ''}"
    with contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=20)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        yield lambda query, values: connection.execute(query, values).fetchall()


def revision_of(ask: Ask) -> str:
    """Return the form of the tables, by MLflow's own name for it."""
    return ",".join(sorted(str(row[0]) for row in ask("SELECT version_num FROM alembic_version", {})))


def local_folder(home: str) -> Path | None:
    """Return the folder here that an address of artifacts names; None for a server's."""
    for prefix in ("file://localhost/", "file:///", "file:/", "/"):
        if home.startswith(prefix):
            path = home.removeprefix(prefix)
            return Path("/", path if prefix == "/" else urllib.parse.unquote(path))
    return None


__all__ = [
    "ACTIVE",
    "FILES",
    "KIND",
    "ORIGINAL",
    "PAGE",
    "SIDE_BY_SIDE",
    "Ask",
    "EndedRun",
    "Search",
    "Wanted",
    "ended_run",
    "ended_runs",
    "files_tag",
    "local_folder",
    "reading",
    "revision_of",
    "searched_runs",
    "study_state",
]
