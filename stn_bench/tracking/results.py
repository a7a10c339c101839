"""The results of a study: which of its planned runs are finished, and what tuning chose."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from stn_bench.study.plan import Plan, PlannedArm, RunSpec
from stn_bench.subjects.stn.data.dataset import read_fingerprint
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.subjects.stn.metrics import TUNING_METRIC
from stn_bench.tracking.identity import Identity, identify
from stn_bench.tracking.record import RunRecord, settings_digest


class FinishedRun(Protocol):
    """A finished run as the store lists it."""

    @property
    def run_id(self) -> str:
        """The store's name of the run."""

    @property
    def run_key(self) -> str:
        """Identity of the run."""

    @property
    def settings(self) -> str:
        """Digest of its resolved settings alone."""

    @property
    def phase(self) -> str:
        """Either "tune", "verdict" or "confirm"."""

    @property
    def seed(self) -> int:
        """The run's seed."""

    @property
    def dataset(self) -> str:
        """Fingerprint of its pictures."""


class Store(Protocol):
    """What is read of the tracking store."""

    def finished(self) -> Iterable[FinishedRun]:
        """Return every finished run, the latest first."""

    def crashed(self, study: str) -> Iterable[FinishedRun]:
        """Return the study's crashed runs, the latest first."""

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        """Return the records of runs."""


@dataclass(frozen=True)
class ArmResults:
    """The runs of one arm.

    Args:
        arm: the arm as planned.
        trials: finished tuning runs, by trial.
        chosen: what tuning chose, {} without tuning, or None as long as tuning is not finished.
        runs: finished runs of the verdict phase by seed, diverged ones among them.
        crashed: seeds of the verdict phase whose last try raised an error, with its record.
        confirmed: finished runs on the seeds that confirm, diverged ones among them; they never enter the verdict.
        unconfirmed: seeds of these whose last try raised an error, with its record.
    """

    arm: PlannedArm
    trials: tuple[RunRecord, ...]
    chosen: Mapping[str, Any] | None
    runs: Mapping[int, RunRecord]
    crashed: Mapping[int, RunRecord]
    confirmed: Mapping[int, RunRecord] = field(default_factory=dict)
    unconfirmed: Mapping[int, RunRecord] = field(default_factory=dict)

    @property
    def ended(self) -> frozenset[int]:
        """Seeds of the verdict phase whose run has finished, diverged or crashed."""
        return frozenset(self.runs) | frozenset(self.crashed)

    def values(self, metric: str) -> dict[int, float]:
        """Return the metric by seed, of the verdict's runs that finished without diverging."""
        return _values(self.runs, metric)

    def confirmed_values(self, metric: str) -> dict[int, float]:
        """Return the same of the seeds that confirm."""
        return _values(self.confirmed, metric)

    def trained_as(self, run_keys: Collection[str]) -> ArmResults:
        """Return the results without the verdict's runs that merely stand in for a planned one."""
        runs, crashed = (
            {seed: run for seed, run in found.items() if run.run_key in run_keys}
            for found in (self.runs, self.crashed)
        )
        return replace(self, runs=runs, crashed=crashed)


@dataclass(frozen=True)
class Results:
    """The results of a study, arm by arm, in the plan's order."""

    plan: Plan
    arms: tuple[ArmResults, ...]

    def of(self, arm: PlannedArm) -> ArmResults:
        """Return the results of one arm."""
        return next(results for results in self.arms if results.arm is arm)

    @property
    def finished(self) -> int:
        """Number of finished tuning trials and verdict runs."""
        return sum(len(arm.trials) + len(arm.runs) for arm in self.arms)

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """Every finished run, arm by arm."""
        return tuple(
            record for arm in self.arms for record in (*arm.trials, *arm.runs.values(), *arm.confirmed.values())
        )

    @property
    def crashed(self) -> tuple[RunRecord, ...]:
        """The last try of every seed that has only crashed, arm by arm."""
        return tuple(record for arm in self.arms for record in (*arm.crashed.values(), *arm.unconfirmed.values()))

    def trained_as(self, run_keys: Collection[str]) -> Results:
        """Return the results without the verdict's runs that merely stand in for a planned one."""
        return replace(self, arms=tuple(arm.trained_as(run_keys) for arm in self.arms))


def _values(runs: Mapping[int, RunRecord], metric: str) -> dict[int, float]:
    return {
        seed: run.metrics[metric]
        for seed, run in sorted(runs.items())
        if run.outcome == "finished" and metric in run.metrics
    }


def choose(trials: Iterable[RunRecord]) -> dict[str, Any]:
    """Return the hyperparameters of the best trial by validation accuracy; ties go to lower loss, then earlier."""

    def rank(record: RunRecord) -> tuple[float, float, int]:
        accuracy, loss = record.metrics.get(TUNING_METRIC, -1.0), record.metrics.get("best.validation.loss", math.inf)
        sound = record.outcome == "finished" and math.isfinite(accuracy)
        return (-accuracy if sound else 1.0, loss if math.isfinite(loss) else math.inf, record.trial or 0)

    return dict(min(trials, key=rank).chosen)


def common_seeds(arms: Iterable[ArmResults]) -> tuple[int, ...]:
    """Return the seeds that all of some arms have runs of; arms without any are left out.

    What a run takes is compared on these: a shared machine may be half as fast on the day of another seed.
    """
    trained = [set(arm.runs) for arm in arms if arm.runs]
    return tuple(sorted(set.intersection(*trained))) if trained else ()


Finder = Callable[[RunSpec], str | None]


def gather(plan: Plan, store: Store, datasets: Path) -> Results:
    """Return the finished runs of a plan.

    A run belongs to a planned cell if its run key is the cell's. Where none is, because the run was trained by other
    code, other libraries or on another machine, the latest with the same settings, phase, seed and pictures stands in:
    a report is made from the store as it is. Whether to train again is decided by the run key alone. Crashed runs are
    found in the same way, for the seeds that have no finished one.
    """
    find = _finder(store.finished(), datasets)
    find_crashed = _finder(store.crashed(plan.study.name), datasets)
    return Results(plan, tuple(_gather_arm(arm, store, find, find_crashed) for arm in plan.arms))


def _finder(runs: Iterable[FinishedRun], datasets: Path) -> Finder:
    """Return what finds a planned run among these, of which the latest comes first."""
    oldest_first = list(runs)[::-1]
    by_key = {run.run_key: run.run_id for run in oldest_first}
    by_settings = {(run.settings, run.phase, run.seed): run for run in oldest_first}

    def find(spec: RunSpec) -> str | None:
        identity = identity_of(spec, datasets)
        if identity and identity.run_key in by_key:
            return by_key[identity.run_key]
        run = by_settings.get((settings_digest(spec.config), spec.phase, spec.seed))
        return run.run_id if run and (identity is None or run.dataset == identity.dataset) else None

    return find


def run_key(spec: RunSpec, datasets: Path) -> str | None:
    """Return the run key of a planned run, or None as long as its pictures are not made."""
    identity = identity_of(spec, datasets)
    return identity.run_key if identity else None


def identity_of(spec: RunSpec, datasets: Path) -> Identity | None:
    """Return the identity of a planned run, or None as long as its pictures are not made."""
    fingerprint = read_fingerprint(DatasetSpec.of(spec.config), datasets)
    return identify(spec.config, spec.seed, fingerprint) if fingerprint else None


def _gather_arm(arm: PlannedArm, store: Store, find: Finder, find_crashed: Finder) -> ArmResults:
    trials = _records(arm.tuning_specs(), store, find)
    complete = len(trials) == arm.trials
    chosen = (choose(trials) if trials else {}) if complete else None
    if chosen is None:
        return ArmResults(arm, trials, chosen, {}, {})
    found = []
    for specs in (arm.verdict_specs(chosen), arm.confirm_specs(chosen)):
        runs = {record.seed: record for record in _records(specs, store, find)}
        crashed = _records([spec for spec in specs if spec.seed not in runs], store, find_crashed)
        found += [runs, {record.seed: record for record in crashed}]
    return ArmResults(arm, trials, chosen, *found)


def _records(specs: Iterable[RunSpec], store: Store, find: Finder) -> tuple[RunRecord, ...]:
    found = [run_id for run_id in map(find, specs) if run_id]
    return tuple(store.records(found))
