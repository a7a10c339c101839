"""The results of a study: which of its planned runs are finished, and what tuning chose."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stn_bench.study.plan import Plan, PlannedArm, RunSpec
from stn_bench.subject import Metric, Subject
from stn_bench.tracking.identity import Identity, former_keys, identify
from stn_bench.tracking.record import RunRecord, schema_digest, settings_digest, settings_today
from stn_bench.tracking.store import FinishedRun, RunStore


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
        return self._by_label[arm.label]

    @functools.cached_property
    def _by_label(self) -> dict[str, ArmResults]:
        return {results.arm.label: results for results in self.arms}

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


def choose(trials: Iterable[RunRecord], metrics: Sequence[Metric]) -> dict[str, Any]:
    """Return the hyperparameters of the best trial: by the first metric, ties by the next ones, then the earlier.

    Args:
        trials: finished tuning runs; one that diverged comes last.
        metrics: what tuning looks at, each in its own direction.
    """

    def rank(record: RunRecord) -> tuple[float, ...]:
        values = [-metric.sign * record.metrics.get(metric.name, math.nan) for metric in metrics]
        is_sound = record.outcome == "finished" and all(map(math.isfinite, values[:1]))
        ranks = [value if math.isfinite(value) else math.inf for value in values]
        return (*ranks, record.trial or 0) if is_sound else (math.inf, *ranks[1:], record.trial or 0)

    return dict(min(trials, key=rank).chosen)


def common_seeds(arms: Iterable[ArmResults]) -> tuple[int, ...]:
    """Return the seeds that all of some arms have runs of; arms without any are left out.

    What a run takes is compared on these: a shared machine may be half as fast on the day of another seed.
    """
    trained = [set(arm.runs) for arm in arms if arm.runs]
    return tuple(sorted(set.intersection(*trained))) if trained else ()


Finder = Callable[[RunSpec], str | None]
"""A planned run -> the store's name of a run that is it, or stands in for it."""


def gather(plan: Plan, store: RunStore, datasets: Path) -> Results:
    """Return the finished runs of a plan.

    A run belongs to a planned one if its run key is that one's, or was so in an older version. Where none is, because
    the run was trained by other code, other libraries or on another machine, the latest with the same settings, phase,
    seed and data stands in: a report is made from the store as it is. Whether to train again is decided by the run key
    alone. Crashed runs are found in the same way, for the seeds that have no finished one.
    """
    find = _finder(store.finished(), plan.subject, store, datasets)
    find_crashed = _finder(store.crashed(plan.study.name), plan.subject, store, datasets)
    return Results(plan, tuple(_gather_arm(arm, plan.tuning, store, find, find_crashed) for arm in plan.arms))


def _finder(runs: Iterable[FinishedRun], subject: Subject, store: RunStore, datasets: Path) -> Finder:
    """Return what finds a planned run among these, of which the latest comes first."""
    oldest_first = list(runs)[::-1]
    by_key = {run.run_key: run.run_id for run in oldest_first}
    by_settings = {(run.settings, run.phase, run.seed): run for run in oldest_first}
    by_name = {(run.study, run.ablation, run.arm, run.phase, run.seed, run.trial): run for run in oldest_first}
    unkeyed, schema = subject.settings.unkeyed, schema_digest(subject.settings)

    def find(spec: RunSpec) -> str | None:
        keys = keys_of(spec, subject, datasets)
        found = next((by_key[key] for key in keys if key in by_key), None)
        if found:
            return found
        run = by_settings.get((settings_digest(spec.settings, unkeyed), spec.phase, spec.seed))
        if run is None:
            trial = "" if spec.trial is None else str(spec.trial)
            run = by_name.get((spec.study, spec.ablation, spec.arm, spec.phase, spec.seed, trial))
            if run is None or run.schema == schema or not _agrees(store.records([run.run_id])[0], spec, subject):
                return None
        identity = identity_of(spec, subject, datasets)
        return run.run_id if identity is None or run.dataset == identity.dataset else None

    return find


def _agrees(record: RunRecord, spec: RunSpec, subject: Subject) -> bool:
    """Return whether a run of another day's settings has those of a planned one, so far as both know them."""
    before, unkeyed = settings_today(record, subject.settings), subject.settings.unkeyed
    return settings_digest(before, unkeyed, record.identity.start) == settings_digest(spec.settings, unkeyed)


def keys_of(spec: RunSpec, subject: Subject, datasets: Path) -> tuple[str, ...]:
    """Return the run key of a planned run, behind it those that older versions gave it; () while data are not made."""
    identity = identity_of(spec, subject, datasets)
    if identity is None:
        return ()
    return (identity.run_key, *former_keys(subject, identity))


def run_key(spec: RunSpec, subject: Subject, datasets: Path) -> str | None:
    """Return the run key of a planned run, or None as long as its data are not made."""
    identity = identity_of(spec, subject, datasets)
    return identity.run_key if identity else None


def identity_of(spec: RunSpec, subject: Subject, datasets: Path) -> Identity | None:
    """Return the identity of a planned run, or None as long as its data are not made."""
    fingerprint = fingerprint_of(spec.settings, subject, datasets)
    return None if fingerprint is None else identify(subject, spec.settings, spec.seed, fingerprint)


def fingerprint_of(settings: Mapping[str, Any], subject: Subject, datasets: Path) -> str | None:
    """Return the fingerprint of a run's data: None while they are not made, "" where the training loads its own."""
    return subject.fingerprint(subject.read(settings), datasets) if subject.fingerprint else ""


def _gather_arm(
    arm: PlannedArm, tuning: Sequence[Metric], store: RunStore, find: Finder, find_crashed: Finder
) -> ArmResults:
    trials = _records(arm.tuning_specs(), store, find)
    complete = len(trials) == arm.trials
    chosen = (choose(trials, tuning) if trials else {}) if complete else None
    if chosen is None:
        return ArmResults(arm, trials, chosen, {}, {})
    found = []
    for specs in (arm.verdict_specs(chosen), arm.confirm_specs(chosen)):
        runs = {record.seed: record for record in _records(specs, store, find)}
        crashed = _records([spec for spec in specs if spec.seed not in runs], store, find_crashed)
        found += [runs, {record.seed: record for record in crashed}]
    return ArmResults(arm, trials, chosen, *found)


def _records(specs: Iterable[RunSpec], store: RunStore, find: Finder) -> tuple[RunRecord, ...]:
    found = [run_id for run_id in map(find, specs) if run_id]
    return tuple(store.records(found))
