"""The reading side of MLflow's store: which runs have ended, their records and their files, whatever the store is."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from stn_bench.system.errors import StoreAwayError, StoreError
from stn_bench.system.text import without_secrets
from stn_bench.tracking.ended import ORIGINAL, SIDE_BY_SIDE, EndedRun, Wanted, local_folder
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.record import RECORD, RunRecord
from stn_bench.tracking.store import FinishedRun, LostRunsError, lost_line

IMPORTED = "the run was imported, and models stay where they were trained"
"""Why a run that was trained elsewhere lacks a file."""

URI = "MLFLOW_TRACKING_URI"

Listing = Callable[[Wanted], list[EndedRun]]


class Fetch(Protocol):
    """Gets an artifact that does not lie in a folder here."""

    def __call__(self, run_id: str, path: str, home: str = "") -> Path:
        """Return a local path of an artifact.

        Args:
            run_id: id of the run here.
            path: path of the artifact, below the run's or below one of its models'.
            home: where it is the run's own and their address is known, that address: the store need not be asked.

        Raises:
            StoreError: if there is no such artifact.
        """


Deleted = Callable[[str], str]
"""The beginning of an id or of a run key -> what to do about such a run if it was deleted in the store, else ""."""


class StoredRuns:
    """The runs of a store that have ended by themselves.

    Args:
        uri: address of the store.
        listing: asks the store which runs have ended.
        fetch: gets an artifact that does not lie in a folder here.
        deleted: looks for a run that nobody finds among those that were deleted.
        kept: the file of records beside the store; None to do without.
    """

    def __init__(
        self, uri: str, listing: Listing, fetch: Fetch, deleted: Deleted, kept: KeptRecords | None = None
    ) -> None:
        self._uri, self._listing, self._fetch, self._deleted, self._kept = uri, listing, fetch, deleted, kept
        self._known: dict[str, EndedRun] = {}
        self._here: dict[str, EndedRun] = {}  # imported runs, by the id that they had where they were trained
        self._read: dict[str, tuple[str, RunRecord]] = {}
        self._came: dict[tuple[str, str], Path] = {}  # what a server sent, by run and path
        self._lost = set[str]()  # runs whose records are gone
        self._lacking = set[tuple[str, str]]()  # what it said that it has not

    def finished(self) -> list[FinishedRun]:
        """Return every finished run in the store, the latest first."""
        return [one.run for one in self._ended(Wanted("FINISHED"))]

    def crashed(self, study: str) -> list[FinishedRun]:
        """Return the runs of a study that raised an error, the latest first."""
        return [one.run for one in self._ended(Wanted("FAILED", study))]

    def finished_as(self, run_key: str, is_trial: bool) -> str | None:
        """Return the id of the finished run with this run key, the latest if there are more, or None.

        A tuning trial is looked for as such: it saw no test example, and is no run of a verdict.
        """
        found = self._ended(Wanted("FINISHED", tags=(("run_key", run_key),)))
        return next((one.run.run_id for one in found if is_trial == one.run.is_trial), None)

    def find_run(self, name: str) -> str:
        """Return the id of the finished run whose id, here or where it was trained, or run key begins with `name`.

        Raises:
            StoreError: if there is none, or more than one; of one that was deleted, it says how to have it back.
        """
        runs = self._ended(Wanted("FINISHED"))
        found = [
            one.run.run_id
            for one in runs
            if any(known.startswith(name) for known in (one.run.run_id, one.original, one.run.run_key))
        ]
        if not found and (advice := self._deleted(name)):
            raise StoreError(f"tracking store {self._uri}: {advice}")
        if len(found) != 1:
            raise StoreError(
                f"tracking store {self._uri}: {len(found)} finished runs begin with `{name}`; expected one"
            )
        return found[0]

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        """Return the records of finished runs, in the order of their ids in this store.

        The record of an imported run names it by the id that it had where it was trained.

        Raises:
            LostRunsError: if the files of some are gone from here; no method names these runs any more.
            StoreError: if one cannot be read.
        """
        wanted = list(run_ids)
        sources = {run_id: self._source(run_id) for run_id in wanted}
        known = {run_id: self._read[run_id][1] for run_id in wanted if self._is_read(run_id, sources[run_id])}
        missing = {run_id: source for run_id, source in sources.items() if source and run_id not in known}
        if self._kept and missing:
            known |= self._kept.read(missing)
        fresh = []
        lacking = [one for one in sources if one not in known]
        self._leave_out_lost(lacking)
        for run_id, file in zip(lacking, self._files(lacking, RECORD), strict=True):
            known[run_id], content = _record_in(file)
            if source := sources[run_id]:
                fresh.append((run_id, source, content))
        if self._kept and fresh:
            self._kept.keep(fresh)
        self._read |= {run_id: (sources[run_id], record) for run_id, record in known.items()}
        return [known[run_id] for run_id in wanted]

    def keep(self, record: RunRecord, home: str) -> None:
        """Keep a record that was just written to a server, so that nobody who shares this file asks it back."""
        if self._kept and home and local_folder(home) is None:
            content = json.dumps(record.tree).encode()
            self._kept.keep([(record.run_id, self._source_at(home), content)])

    def file(self, run_id: str, path: str) -> Path:
        """Return a local path to an artifact of a run, under its id here or where it was trained.

        Raises:
            StoreError: if the run has no such artifact.
        """
        if run_id not in self._known and run_id not in self._here:
            for status in ("FAILED", "FINISHED"):
                self._ended(Wanted(status, tags=((ORIGINAL, run_id),)))
        return self._artifact(self._here[run_id].run.run_id if run_id in self._here else run_id, path)

    def _ended(self, wanted: Wanted) -> list[EndedRun]:
        there = (one for one in self._listing(wanted) if one.run.run_id not in self._lost)
        found = sorted(there, key=lambda one: one.age, reverse=True)
        self._known |= {one.run.run_id: one for one in found}
        imported = [one for one in found if one.original != one.run.run_id]
        self._here |= {one.original: one for one in sorted(imported, key=lambda one: one.started)}
        return found

    def _is_read(self, run_id: str, source: str) -> bool:
        return bool(source) and run_id in self._read and self._read[run_id][0] == source

    def _files(self, run_ids: Sequence[str], path: str) -> Iterator[Path]:
        """Yield the files of a path that runs have, several asked for at once where a server has them."""
        far = [one for one in run_ids if one in self._known and local_folder(self._known[one].home) is None]
        pool = ThreadPoolExecutor(SIDE_BY_SIDE)
        try:
            coming = {one: pool.submit(self._artifact, one, path) for one in far}
            for run_id in run_ids:
                yield coming[run_id].result() if run_id in coming else self._artifact(run_id, path)
        finally:
            pool.shutdown(cancel_futures=True)  # where one cannot be had, the others are not waited for

    def _leave_out_lost(self, run_ids: Iterable[str]) -> None:
        """See which of some runs have lost their records: those that are gone, while such of other runs lie there.

        Where none is left, a disk may be away for now, or the folder be moved.
        """
        gone = [(one, file) for one in run_ids if (file := self._local(one, RECORD)) and _is_gone(file)]
        homes = {file: file.parents[2] for _, file in gone}
        in_place = {home for home in set(homes.values()) if next(home.glob(f"*/*/{RECORD}"), None)}
        if lost := [one for one, file in gone if homes[file] in in_place]:
            self._lost |= set(lost)
            runs = [self._known[one].run for one in lost]
            raise LostRunsError(lost_line(runs), runs)

    def _artifact(self, run_id: str, path: str) -> Path:
        local = self._local(run_id, path)
        if local and local.is_file():
            return local
        if local and local.parent.is_dir():  # a run may keep no such file, and then nobody else has it either
            raise self._lacks(self._known[run_id], path)
        if local and path == RECORD:
            raise StoreError(
                f"run {run_id}: {local} is not there, nor is any other run's beside it. Bring the folder back, "
                f"such as by mounting its disk; if it is lost for good: "
                f"{URI}={shlex.quote(without_secrets(self._uri))} mlflow runs delete --run-id {run_id}"
            )
        return self._sent(run_id, path)

    def _sent(self, run_id: str, path: str) -> Path:
        """Return a local path to what a server sent, once: what a run that has ended lacks, it will always lack."""
        known, place = self._known.get(run_id), (run_id, path)
        if known is None:
            return self._fetch(run_id, path)
        if place in self._lacking or (known.files is not None and path not in known.files):
            raise self._lacks(known, path)
        if place not in self._came:
            try:
                self._came[place] = self._fetch(run_id, path, known.home)
            except StoreAwayError:
                raise
            except StoreError:
                self._lacking.add(place)
                raise
        return self._came[place]

    def _lacks(self, run: EndedRun, path: str) -> StoreError:
        reason = IMPORTED if run.original != run.run.run_id else f"no such file, in {run.home}"
        return StoreError(f"run {run.run.run_id}: artifact `{path}` cannot be read ({reason})")

    def _local(self, run_id: str, path: str) -> Path | None:
        """Return where an artifact lies if it is in a folder here: MLflow would ask the store thrice."""
        known = self._known.get(run_id)
        folder = local_folder(known.home) if known else None
        return folder / path if folder else None

    def _source(self, run_id: str) -> str:
        """Return what changes if the record of a run does: its file's time and size; a server's has its address.

        It is "" for a run that is not known to have ended.
        """
        known = self._known.get(run_id)
        if known is None:
            return ""
        if local := self._local(run_id, RECORD):
            try:
                found = local.stat()
            except OSError:
                return ""
            return f"{found.st_ctime_ns} {found.st_size}"
        return self._source_at(known.home)

    def _source_at(self, home: str) -> str:
        return hashlib.sha256(f"{without_secrets(self._uri)} {home}".encode()).hexdigest()


def _is_gone(file: Path) -> bool:
    """Return whether there is no such file; one that cannot be looked at may be there."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _record_in(path: Path) -> tuple[RunRecord, bytes]:
    """Return the record in a file, and the bytes that it was read from."""
    try:
        content = path.read_bytes()
        return RunRecord.model_validate_json(content), content
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise StoreError(f"{path}: not a record that this version of stn-bench can read") from None


__all__ = ["IMPORTED", "Fetch", "Listing", "StoredRuns"]
