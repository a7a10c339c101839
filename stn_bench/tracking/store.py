"""The content of a store of runs, and the ways to read it, independent of the library that keeps it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stn_bench.study.plan import arm_label
from stn_bench.subject import DataNote, TrainedModel
from stn_bench.system.errors import StoreError
from stn_bench.system.patience import Patience
from stn_bench.tracking.record import RunRecord

SHOWN = 3  # lost runs that a line names before it counts the rest


@dataclass(frozen=True)
class FinishedRun:
    """A run that ended by itself, by its tags: enough to know whose result it is, without reading its record.

    Args:
        run_id: the store's name of the run.
        run_key: identity of the run.
        settings: digest of its resolved settings alone.
        phase: "tune", "verdict" or "confirm".
        seed: the run's seed.
        dataset: fingerprint of its data.
        outcome: finished, diverged or crashed.
        study: the study that trained it.
        ablation: the ablation that owned its arm there.
        arm: the arm.
        trial: number of its tuning trial, or "".
        schema: digest of the names of all settings of its day; "" where nothing tells.
    """

    run_id: str
    run_key: str
    settings: str
    phase: str
    seed: int
    dataset: str
    outcome: str = ""
    study: str = ""
    ablation: str = ""
    arm: str = ""
    trial: str = ""
    schema: str = ""

    @property
    def is_trial(self) -> bool:
        """Whether it tunes."""
        return self.phase == "tune"


class LostRunsError(StoreError):
    """Runs have ended in the store, and their records are gone; it leaves them out from then on.

    Args:
        told: the line that says so, see `lost_line`.
        runs: these runs.
    """

    def __init__(self, told: str, runs: Sequence[FinishedRun] = ()) -> None:
        super().__init__(told)
        self.runs = tuple(runs)


def lost_line(runs: Sequence[FinishedRun]) -> str:
    """Return what is lost, and what to do, in a line."""
    named = [f"{one.run_id} ({arm_label(one.ablation, one.arm)}, seed {one.seed})" for one in runs[:SHOWN]]
    more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    what, them = ("runs", "them") if len(runs) > 1 else ("run", "it")
    studies = " and ".join(f"`stn-bench run {name}`" for name in dict.fromkeys(one.study for one in runs))
    return (
        f"lost: the files of {what} {', '.join(named)}{more} were removed from the store's artifacts; "
        f"{studies} trains {them} again"
    )


@dataclass(frozen=True)
class StoredRun:
    """Any run of the store by its tags, its end and its models; one that trained nothing has "" for what it lacks."""

    run_id: str
    run_key: str
    settings: str
    phase: str
    seed: str
    status: str
    models: tuple[str, ...]
    study: str = ""


@dataclass(frozen=True)
class ArmPage:
    """An arm's parent run, as the store shows it: its id, whether it is closed, its aggregates and its tags."""

    run_id: str
    is_closed: bool
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    def says(self, metrics: Mapping[str, float], tags: Mapping[str, str]) -> bool:
        """Return whether it says this already; a tag that is "" is one that it must not have."""
        told = all(self.metrics.get(name) == value for name, value in metrics.items())
        return self.is_closed and told and all(self.tags.get(name, "") == value for name, value in tags.items())


@dataclass(frozen=True)
class ImportedRun:
    """A run that another store trained, with all that MLflow is to show of it here.

    Args:
        record: its record, kept as it is, with the id that the run had there.
        name: its name.
        tags: its flat tags.
        data: what it was trained on, where that is known.
        files: its artifacts by path.
        note: Markdown for its page.
    """

    record: RunRecord
    name: str
    tags: Mapping[str, str]
    data: DataNote | None
    files: Mapping[str, bytes]
    note: str = ""


class RunStore(Protocol):
    """The reading side of a store of runs."""

    def finished(self) -> Iterable[FinishedRun]:
        """Return every finished run, the latest first."""

    def crashed(self, study: str) -> Iterable[FinishedRun]:
        """Return the study's crashed runs, the latest first."""

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        """Return the records of runs."""


class RunWriter(Protocol):
    """The writing side of a store of runs, as a training sees it."""

    @property
    def patience(self) -> Patience:
        """How long it is waited for where it is away."""

    def start_run(self, experiment: str, parent: str | None, name: str, tags: Mapping[str, str]) -> str:
        """Start a run and return its id; what earlier, dead tries left open is closed."""

    def start_first_run(self, experiment: str, parent: str | None, name: str, tags: Mapping[str, str]) -> str:
        """Do as `start_run`, where no earlier try can be open."""

    def note_run(self, run_id: str, note: str) -> None:
        """Write Markdown to the page of a run."""

    def log_settings(
        self, run_id: str, settings: Mapping[str, Any], data: DataNote | None = None, fingerprint: str = ""
    ) -> None:
        """Write a run's parameters and, where they are known, the data that it reads."""

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float], now: int | None = None) -> None:
        """Write one epoch's metrics, of the moment `now` in milliseconds since 1970."""

    def log_files(self, run_id: str, folder: Path) -> None:
        """Keep a folder's files with a run."""

    def log_model(self, run_id: str, name: str, model: TrainedModel) -> None:
        """Keep a model with a run."""

    def finish_run(self, record: RunRecord, metrics: Mapping[str, float]) -> None:
        """Write the record, and close the run: the moment from which it counts as done."""

    def kill_run(self, run_id: str) -> None:
        """Close a run that was stopped before its end."""

    def kill_open(self, experiment: str, /, *, run_key: str) -> None:
        """Close the open runs of a job."""

    def file(self, run_id: str, path: str) -> Path:
        """Return a local path to a file of a run."""


def finished_record(store: KeptRuns, run_key: str, is_trial: bool) -> RunRecord | None:
    """Return the record of the finished run with a run key, the latest that is not lost, or None."""
    while run_id := store.finished_as(run_key, is_trial):
        with contextlib.suppress(LostRunsError):  # the store names it no more
            return next(iter(store.records([run_id])), None)
    return None


class KeptRuns(RunWriter, Protocol):
    """A store where workers write runs, and find those that others finished."""

    def finished_as(self, run_key: str, is_trial: bool) -> str | None:
        """Return the id of the finished run with this run key, or None.

        Args:
            run_key: the run key.
            is_trial: whether a tuning trial is looked for: it saw no test example, and is no run of a verdict.
        """

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        """Return the records of runs."""
