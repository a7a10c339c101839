"""The content of a store of runs, and the ways to read it, independent of the library that keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from stn_bench.subject import DataNote
from stn_bench.tracking.record import RunRecord


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
