"""The results of a study: which of its planned runs are finished, and what tuning chose."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stn_bench.settings import canonical
from stn_bench.stats import is_number
from stn_bench.study.fixed import Reads
from stn_bench.study.plan import Plan, PlannedArm, RunSpec
from stn_bench.subject import Metric, Subject
from stn_bench.system.errors import CatalogueError, ConfigError, DataError
from stn_bench.system.text import did_you_mean, shorten
from stn_bench.tracking.identity import Identity, former_identities, identify, own_code
from stn_bench.tracking.record import RunRecord, schema_digest, settings_digest, settings_today
from stn_bench.tracking.store import FinishedRun, LostRunsError, RunStore


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
        crashed_trials: tuning runs whose last try raised an error.
    """

    arm: PlannedArm
    trials: tuple[RunRecord, ...]
    chosen: Mapping[str, Any] | None
    runs: Mapping[int, RunRecord]
    crashed: Mapping[int, RunRecord]
    confirmed: Mapping[int, RunRecord] = field(default_factory=dict)
    unconfirmed: Mapping[int, RunRecord] = field(default_factory=dict)
    crashed_trials: tuple[RunRecord, ...] = ()

    @property
    def ended(self) -> frozenset[int]:
        """Seeds of the verdict phase whose run has finished, diverged or crashed."""
        return frozenset(self.runs) | frozenset(self.crashed)

    @property
    def finished(self) -> dict[int, RunRecord]:
        """The runs of the verdict phase that finished without diverging, by seed."""
        return {seed: run for seed, run in self.runs.items() if run.outcome == "finished"}

    def values(self, metric: str) -> dict[int, float]:
        """Return the metric by seed, of the verdict's runs that finished without diverging, where it is finite."""
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
    """The results of a study, arm by arm, in the plan's order; of runs that are `lost`, the records are gone."""

    plan: Plan
    arms: tuple[ArmResults, ...]
    lost: tuple[FinishedRun, ...] = ()

    def of(self, arm: PlannedArm) -> ArmResults:
        """Return the results of one arm."""
        return self._by_label[arm.label]

    def called(self, name: str) -> str:
        """Return what an arm of a question is called by whoever made its runs, if not by its name; else ""."""
        return ""

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
        """The last try of every tuning trial and seed that has only crashed, arm by arm."""
        return tuple(
            record
            for arm in self.arms
            for record in (*arm.crashed_trials, *arm.crashed.values(), *arm.unconfirmed.values())
        )

    def trained_as(self, run_keys: Collection[str]) -> Results:
        """Return the results without the verdict's runs that merely stand in for a planned one."""
        return replace(self, arms=tuple(arm.trained_as(run_keys) for arm in self.arms))


def check_data(plan: Plan, data: Path) -> None:
    """Check that the data which are there can serve every run of a plan.

    Raises:
        CatalogueError: if they cannot: settings ask for more of them, or for others; the arm is named.
    """
    if plan.subject.split is None:
        return
    for arm in plan.arms:
        asked = {canonical(spec.settings): spec for spec in (*arm.verdict_specs({}), *arm.tuning_specs())}
        for spec in asked.values():
            try:
                plan.subject.split(plan.subject.read(spec.settings), data)
            except (ConfigError, DataError) as error:
                raise CatalogueError(f"studies/{plan.study.name}.toml: {arm.label}: {error}") from None


def check_code(plan: Plan) -> None:
    """Check that the code which settings name is there, before the data are made with which run keys are found.

    Raises:
        CatalogueError: if it is not; the arm is named.
    """
    for arm in plan.arms:
        try:
            if plan.subject.foreign_code(arm.config):
                identify(plan.subject, arm.settings, 0, "")
        except ConfigError as error:
            raise CatalogueError(f"studies/{plan.study.name}.toml: {arm.label}: {error}") from None


def as_read(plan: Plan, data: Path, *, freezing: bool = False) -> Plan:
    """Return a plan with what its runs read of the user's now: the code that they reach, and the data of its bases.

    Args:
        plan: the plan; one that is not frozen is left as it is.
        data: folder of the data.
        freezing: whether it is about to be frozen.

    Raises:
        ConfigError: if settings name code that cannot be found.
    """
    if plan.reads is not None or not (plan.preregistration or freezing):
        return plan
    subject = plan.subject
    code = {name: digest for arm in plan.arms for name, digest in own_code(subject, arm.settings).items()}
    bases = {question.base.label: question.base.settings for question in plan.questions}
    found = {label: fingerprint_of(settings, subject, data) for label, settings in bases.items()}
    return replace(plan, reads=Reads(code, {label: text for label, text in found.items() if text}))


def _values(runs: Mapping[int, RunRecord], metric: str) -> dict[int, float]:
    return {
        seed: run.metrics[metric]
        for seed, run in sorted(runs.items())
        if run.outcome == "finished" and is_number(run.metrics.get(metric, math.nan))
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
    """Return the seeds that all of some arms finished without diverging; arms without any are left out.

    What a run takes is compared on these: a shared machine may be half as fast on the day of another seed.
    """
    trained = [set(finished) for arm in arms if (finished := arm.finished)]
    return tuple(sorted(set.intersection(*trained))) if trained else ()


Finder = Callable[[RunSpec], str | None]
"""A planned run -> the store's name of a run that is it, or stands in for it."""


class Keys:
    """The identities of planned runs as code, libraries and data are now; what their seeds share is worked out once.

    Args:
        subject: what is trained.
        datasets: folder of the data.
    """

    def __init__(self, subject: Subject, datasets: Path) -> None:
        self._subject, self._datasets = subject, datasets
        self._shared: dict[int, _Shared] = {}

    def __call__(self, spec: RunSpec) -> tuple[str, ...]:
        """Return the run key of a planned run, behind it those of older versions; () while its data are not made."""
        shared = self._of(spec.settings)
        return tuple(key(spec.seed) for key in (*shared.key, *shared.former))

    def run_key(self, spec: RunSpec) -> str | None:
        """Return the run key of a planned run, or None as long as its data are not made."""
        return next((key(spec.seed) for key in self._of(spec.settings).key), None)

    def former(self, spec: RunSpec) -> tuple[str, ...]:
        """Return the run keys that older versions gave a planned run, the latest first."""
        return tuple(key(spec.seed) for key in self._of(spec.settings).former)

    def identity(self, spec: RunSpec) -> Identity | None:
        """Return the identity of a planned run, or None as long as its data are not made."""
        found = self._of(spec.settings).identity
        return found and replace(found, seed=spec.seed)

    def settings(self, spec: RunSpec) -> str:
        """Return the digest of a planned run's settings."""
        return self._of(spec.settings).digest

    def _of(self, settings: Mapping[str, Any]) -> _Shared:
        found = self._shared.get(id(settings))
        if found is None:
            found = self._shared[id(settings)] = self._made(settings)
        return found

    def _made(self, settings: Mapping[str, Any]) -> _Shared:
        subject = self._subject
        digest = settings_digest(settings, subject.settings)
        fingerprint = fingerprint_of(settings, subject, self._datasets)
        if fingerprint is None:
            return _Shared(settings, digest)
        identity = identify(subject, settings, 0, fingerprint)
        former = tuple(one.keyed() for one in former_identities(subject, identity))
        return _Shared(settings, digest, identity, (identity.keyed(),), former)


@dataclass(frozen=True)
class _Shared:
    """What planned runs of the same settings share; it holds these, so that no others are taken for them."""

    settings: Mapping[str, Any]
    digest: str
    identity: Identity | None = None
    key: tuple[Callable[[int], str], ...] = ()
    former: tuple[Callable[[int], str], ...] = ()


def gather(plan: Plan, store: RunStore, datasets: Path, keys: Keys | None = None) -> Results:
    """Return the finished runs of a plan.

    A run belongs to a planned one if its run key is that one's, or was so in an older version. Where none is, because
    the run was trained by other code, other libraries or on another machine, the latest with the same settings, phase,
    seed and data stands in: a report is made from the store as it is. Whether to train again is decided by the run key
    alone. Crashed runs are found in the same way, for the seeds that have no finished one.

    Args:
        plan: the plan.
        store: where its runs are.
        datasets: folder of the data.
        keys: the run keys of today, where they are known already.

    Raises:
        CatalogueError: if no finished run has the metric that is asked for; one that merely stands in says nothing.
    """
    keys, lost = keys or Keys(plan.subject, datasets), list[FinishedRun]()
    while True:
        try:
            return replace(_gathered(plan, store, datasets, keys), lost=tuple(lost))
        except LostRunsError as error:  # the store leaves these out from now on
            lost += error.runs


def _gathered(plan: Plan, store: RunStore, datasets: Path, keys: Keys) -> Results:
    plan = as_read(plan, datasets)
    find = _finder(store.finished(), plan.subject, store, keys)
    find_crashed = _finder(store.crashed(plan.study.name), plan.subject, store, keys)
    trials = _read([arm.tuning_specs() for arm in plan.arms], store, find)
    lost = _read([_without(arm, found) for arm, found in zip(plan.arms, trials, strict=True)], store, find_crashed)
    for metric in plan.tuning[:1]:
        _check_returned(
            metric.name, plan, [arm.tuning_specs() for arm in plan.arms], trials, keys, "[tuning] `metric`"
        )
    chosen = [_chosen(arm, found, plan.tuning) for arm, found in zip(plan.arms, trials, strict=True)]
    known = list(zip(plan.arms, chosen, strict=True))
    phases = (
        [() if best is None else arm.verdict_specs(best) for arm, best in known],
        [() if best is None else arm.confirm_specs(best) for arm, best in known],
    )
    ended = [found for specs in phases for found in _ended(specs, store, find, find_crashed)]
    runs = [list(found.values()) for found in ended[0]]
    _check_returned(plan.metric.name, plan, phases[0], runs, keys)
    parts = zip(plan.arms, trials, chosen, *ended, lost, strict=True)
    return Results(plan, tuple(ArmResults(*part) for part in parts))


def _check_returned(
    metric: str,
    plan: Plan,
    specs: Iterable[Iterable[RunSpec]],
    found: Iterable[Sequence[RunRecord]],
    keys: Keys,
    where: str = "`metric`",
) -> None:
    """See that runs which another study trained have a metric that this one asks for.

    Raises:
        CatalogueError: if one that is no mere stand-in lacks it.
    """
    returned: dict[str, set[str]] = {}  # label of an arm whose runs lack it -> what they have
    is_there = False
    for arm, planned, records in zip(plan.arms, specs, found, strict=True):
        finished = [record for record in records if record.outcome == "finished"]
        lacking = [record for record in finished if metric not in record.metrics]
        is_there |= len(lacking) < len(finished)
        own = {key for spec in planned for key in keys(spec)} if lacking else set()
        names = {name for record in lacking if record.run_key in own for name in record.metrics}
        if named := {name for name in names if not name.startswith("cost.")}:
            returned[arm.label] = named
    if not returned:
        return
    whose = (
        f"finished runs of {', '.join(returned)} did not return" if is_there else "none of its finished runs returned"
    )
    known = sorted(set().union(*returned.values()))
    raise CatalogueError(
        f"study `{plan.study.name}`: {where}: {shorten(whose)} `{shorten(metric)}`.{did_you_mean(metric, known)} "
        f"They returned: {shorten(', '.join(known))}"
    )


def _finder(runs: Iterable[FinishedRun], subject: Subject, store: RunStore, keys: Keys) -> Finder:
    """Return what finds a planned run among these, of which the latest comes first.

    A run of another subject stands in for none, though it be of the same settings: what it measured is another thing.
    Nor does a tuning trial stand in for a run of a verdict, since it saw no test example; nor such a run for a trial,
    since nothing tells what a search chose there.
    """
    oldest_first = list(runs)[::-1]
    if not oldest_first:
        return lambda spec: None
    by_key = {(run.run_key, run.is_trial): run.run_id for run in oldest_first}
    by_settings: dict[tuple[str, str, int], list[FinishedRun]] = {}
    by_name: dict[tuple[str, str, str, str, int, str], list[FinishedRun]] = {}
    for run in reversed(oldest_first):
        by_settings.setdefault((run.settings, run.phase, run.seed), []).append(run)
        by_name.setdefault((run.study, run.ablation, run.arm, run.phase, run.seed, run.trial), []).append(run)
    schema = schema_digest(subject.settings)

    def is_of_subject(run: FinishedRun) -> bool:
        return store.records([run.run_id])[0].subject == subject.name

    def find(spec: RunSpec) -> str | None:
        known = ((key, spec.phase == "tune") for key in keys(spec))
        if found := next((by_key[key] for key in known if key in by_key), None):
            return found
        identity = keys.identity(spec)

        def of_its_data(runs: Iterable[FinishedRun]) -> Iterator[FinishedRun]:
            return (one for one in runs if identity is None or one.dataset == identity.dataset)

        alike = of_its_data(by_settings.get((keys.settings(spec), spec.phase, spec.seed), []))
        run = next((one for one in alike if is_of_subject(one)), None)
        if run is None:
            trial = "" if spec.trial is None else str(spec.trial)
            name = (spec.study, spec.ablation, spec.arm, spec.phase, spec.seed, trial)
            run = next(of_its_data(by_name.get(name, [])), None)
            if run is None or run.schema == schema or not is_of_subject(run):
                return None
            if not _agrees(store.records([run.run_id])[0], spec, subject):
                return None
        return run.run_id

    return find


def _agrees(record: RunRecord, spec: RunSpec, subject: Subject) -> bool:
    """Return whether a run of another day's settings has those of a planned one, so far as both know them."""
    schema = subject.settings
    before = settings_digest(settings_today(record, schema), schema, record.identity.start)
    return before == settings_digest(spec.settings, schema)


def fingerprint_of(settings: Mapping[str, Any], subject: Subject, datasets: Path) -> str | None:
    """Return the fingerprint of a run's data: None while they are not made, "" where the training loads its own."""
    return subject.fingerprint(subject.read(settings), datasets) if subject.fingerprint else ""


def _without(arm: PlannedArm, trials: Sequence[RunRecord]) -> list[RunSpec]:
    """Return the tuning trials of an arm that none of these is."""
    known = {record.trial for record in trials}
    return [spec for spec in arm.tuning_specs() if spec.trial not in known]


def _chosen(arm: PlannedArm, trials: Sequence[RunRecord], tuning: Sequence[Metric]) -> dict[str, Any] | None:
    if len(trials) < arm.trials:
        return None
    return choose(trials, tuning) if trials else {}


BySeed = dict[int, RunRecord]


def _ended(
    specs: Sequence[Sequence[RunSpec]], store: RunStore, find: Finder, find_crashed: Finder
) -> tuple[list[BySeed], list[BySeed]]:
    """Return arm by arm the runs by seed, and of the seeds without one those that crashed."""
    runs = [_by_seed(found) for found in _read(specs, store, find)]
    left = [[spec for spec in some if spec.seed not in found] for some, found in zip(specs, runs, strict=True)]
    return runs, [_by_seed(found) for found in _read(left, store, find_crashed)]


def _by_seed(records: Iterable[RunRecord]) -> BySeed:
    return {record.seed: record for record in records}


def _read(specs: Sequence[Sequence[RunSpec]], store: RunStore, find: Finder) -> list[tuple[RunRecord, ...]]:
    """Return arm by arm the records of what is found of planned runs; the store is asked for all of them at once."""
    names = [[run_id for run_id in map(find, some) if run_id] for some in specs]
    records = iter(store.records([run_id for some in names for run_id in some]))
    return [tuple(itertools.islice(records, len(some))) for some in names]
