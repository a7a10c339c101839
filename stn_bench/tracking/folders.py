"""Runs in folders: the store of a machine that reaches no other. It needs no library, and is read as an archive.

    runs/ID/record.json    a run that ended by itself
    runs/ID/…              what it keeps beside that
    tries/ID/              a run that is being trained, or was when its process died

ID is the beginning of the run key. A run appears whole: its folder is renamed once its record is in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stn_bench.subject import DataNote, TrainedModel
from stn_bench.system.errors import MachineError, StoreError
from stn_bench.system.files import write_whole
from stn_bench.system.machine import disk_full
from stn_bench.system.patience import Patience
from stn_bench.tracking.record import RECORD, RunRecord

ID_LENGTH = 32  # as MLflow's ids have it


class RunFolders:
    """A store of runs in one folder, which one `work` at a time writes, with its workers.

    Args:
        folder: the folder, made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._runs, self._tries = folder / "runs", folder / "tries"
        self.patience = Patience(0)  # a folder is not away
        for one in (self._runs, self._tries):
            one.mkdir(parents=True, exist_ok=True)

    # Writing ---------------------------------------------------------------------------------------------------

    def start_run(self, experiment: str, parent: str | None, name: str, tags: Mapping[str, str]) -> str:
        """Start the run of a job and return its id; what an earlier, dead try left is gone."""
        self.kill_open(experiment, run_key=tags["run_key"])
        return self.start_first_run(experiment, parent, name, tags)

    def start_first_run(self, experiment: str, parent: str | None, name: str, tags: Mapping[str, str]) -> str:
        """Do as `start_run`, where no earlier try can be open."""
        run_id = tags["run_key"][:ID_LENGTH]
        (self._tries / run_id).mkdir(parents=True, exist_ok=True)
        return run_id

    def note_run(self, run_id: str, note: str) -> None:
        """Do nothing: a run has no page here. Whoever imports it writes one."""

    def log_settings(
        self, run_id: str, settings: Mapping[str, Any], data: DataNote | None = None, fingerprint: str = ""
    ) -> None:
        """Do nothing: the record will hold them."""

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float], now: int | None = None) -> None:
        """Do nothing: the record will hold them."""

    def log_model(self, run_id: str, name: str, model: TrainedModel) -> None:
        """Keep a model's own file with a run: it takes MLflow to keep one in MLflow's form."""
        if model.keep:
            model.keep(self._tries / run_id)

    def log_files(self, run_id: str, folder: Path) -> None:
        """Keep a folder's files with a run."""
        shutil.copytree(folder, self._tries / run_id, dirs_exist_ok=True)

    def finish_run(self, record: RunRecord, metrics: Mapping[str, float]) -> None:
        """Write the record, and put the run in its place: the moment from which it counts as done."""
        partial, home = self._tries / record.run_id, self._runs / record.run_id
        try:
            write_whole(partial / RECORD, f"{record.model_dump_json()}\n".encode())
            shutil.rmtree(home, ignore_errors=True)  # it crashed before
            partial.replace(home)
        except OSError as error:
            reason = error.strerror or error
            raise disk_full(error) or MachineError(f"{home}: a run cannot be written ({reason})") from None

    def kill_run(self, run_id: str) -> None:
        """Drop a run that was stopped before its end."""
        shutil.rmtree(self._tries / run_id, ignore_errors=True)

    def kill_open(self, experiment: str, /, *, run_key: str) -> None:
        """Drop what a dead try of a job left."""
        self.kill_run(run_key[:ID_LENGTH])

    # Reading ---------------------------------------------------------------------------------------------------

    def finished_as(self, run_key: str, is_trial: bool) -> str | None:
        """Return the id of the finished run with this run key, or None. In one study no trial is a verdict's."""
        record = self._record(run_key[:ID_LENGTH])
        return record.run_id if record and record.run_key == run_key and record.outcome != "crashed" else None

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        """Return the records of runs; those that a fault left unreadable are left out, and trained again."""
        return list(filter(None, map(self._record, run_ids)))

    def ended(self) -> list[RunRecord]:
        """Return the records of all runs that have ended, crashed ones too."""
        return self.records(sorted(one.name for one in self._runs.iterdir()))

    def file(self, run_id: str, path: str) -> Path:
        """Return a file of a run.

        Raises:
            StoreError: if the run keeps none of that name.
        """
        found = self._runs / run_id / path
        if not found.is_file():
            raise StoreError(f"run {run_id}: keeps no file `{path}`")
        return found

    def files(self, run_id: str) -> Iterator[tuple[str, Path]]:
        """Yield the name and the path of each file that a run keeps beside its record."""
        home = self._runs / run_id
        for path in sorted(home.rglob("*")):
            name = path.relative_to(home).as_posix()
            if path.is_file() and name != RECORD:
                yield name, path

    def _record(self, run_id: str) -> RunRecord | None:
        try:
            return RunRecord.model_validate_json((self._runs / run_id / RECORD).read_bytes())
        except (OSError, ValidationError):
            return None
