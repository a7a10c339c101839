"""The summary of a study: every number that the report shows, computed once. What `report.json` holds."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from stn_bench.analysis.caveats import Costs, costs_of, flags
from stn_bench.analysis.claims import ClaimSummary, claims_of
from stn_bench.analysis.confirmation import ConfirmationSummary, confirmation_of
from stn_bench.analysis.looks import planned_runs, planned_seeds
from stn_bench.analysis.verdicts import ArmVerdict, failed_seeds, verdicts
from stn_bench.stats import (
    ALPHA,
    Direction,
    Method,
    PictureParts,
    Ratio,
    Verdict,
    effects,
    error_ratios,
    expected_best,
    hedges,
    known,
    known_interval,
    picture_parts,
    published_p,
    spread,
    superiority_bound,
)
from stn_bench.study.catalogue import BASE
from stn_bench.study.plan import COSTLIER, Plan, PlannedAblation
from stn_bench.study.preregistration import is_later
from stn_bench.subjects.stn.metrics import TUNING_METRIC
from stn_bench.system.errors import StnBenchError
from stn_bench.tracking.identity import canonical
from stn_bench.tracking.record import PREDICTIONS, LayerCost, RunRecord
from stn_bench.tracking.results import ArmResults, Results, common_seeds

COSTS = ("parameters", "flops", "seconds", "cpu_seconds", "step_ms", "peak_memory_mb")
MARKED_COSTS = {"flops": "FLOPs", "parameters": "parameters"}
READ_CORRECTLY = "test.accuracy"
"""The metric whose pictures are kept with each run: it alone can be taken apart into seeds and pictures."""

Artifact = Callable[[str, str], Path]
"""(run id, path) -> local path of an artifact of a run."""


class Frozen(BaseModel):
    """A value of the summary; NaN becomes null in JSON."""

    model_config = ConfigDict(frozen=True)


class ArmSummary(Frozen):
    """One arm of one question.

    Args:
        name: the arm's name in the question; "base" for the one that the others are compared with.
        label: the arm's name in the study, where several questions may share it.
        set: what it changes, by dotted path.
        chosen: the hyperparameters that tuning chose.
        planned: number of seeds that its verdict wants as far as can be told today, or has anyway.
        seeds: seeds that finished.
        values: the primary metric of each of those.
        failed: seed -> why it diverged or crashed.
        mean: mean of the values.
        sd: their sample standard deviation.
        difference: mean difference to the base, paired by seed.
        interval: its t-interval, at `level`.
        level: confidence level of the interval: 0.95, or higher where several looks share the 5 %.
        method: where the interval's error comes from: the pairs alone, or the layout of all arms and seeds.
        p: two-sided p of the t-test that the difference is 0.
        p_adjusted: the same times the number of looks, after Holm's correction over the family's arms.
        equivalence_p: p of the two one-sided tests against the margin, times the number of looks.
        sign_flip_p: p of the exact sign-flip test, a second opinion from six seeds on.
        correlation: of the arm and the base over the seeds.
        pairs: number of seeds that the arm and the base both finished and that the verdict uses.
        wins: number of those on which the arm is the better one.
        losses: number of those on which it is the worse one.
        superiority: exact 95 % bound of P(arm > base): at least this if it won half or more, else at most this.
        effect_size: difference in standard deviations of the paired differences, with Hedges' factor.
        error_ratio: error rate over the base's, the geometric mean over the seeds, for accuracies.
        error_ratio_interval: its interval, at `level`.
        seed_se: standard error of the difference that the seeds leave.
        picture_se: standard error of the difference that the test pictures leave.
        verdict: better, worse, equivalent, undecided, unreplicated or invalid; null for the base.
        reason: why an invalid verdict is invalid.
        look: number of the look that the verdict was reached at, from 1.
        stopped: whether the arm was decided before the last look, and trained on no more seeds.
        more_seeds: for an undecided arm, about how many more seeds would decide it; null if a thousand would not.
        together: why the settings that it changes are one factor, where there is more than one.
        match: "flops" if its width was scaled until it costs the base's FLOPs.
        flags: what differs from the base beyond its one factor, in sentences: costs, and settings that go together.
        parameters: number of weights, moving statistics included; like all costs, the mean over the question's `timed`
            seeds.
        flops: floating-point operations to read one picture.
        seconds: seconds of training and validation.
        cpu_seconds: processor seconds of the same, all threads.
        step_ms: milliseconds per training step.
        peak_memory_mb: largest resident memory of the training process in MiB.
        published: numbers that others published for it.
        run_ids: MLflow's ids of the runs of those seeds, in the same order.
        costlier: FLOPs and parameters -> how much more than the base's, as a fraction, where it is over 5 %.
        published_p: Fisher's p of the published accuracies of arm and base, if it is told on how many pictures.
    """

    name: str
    label: str
    set: dict[str, Any]
    chosen: dict[str, Any]
    planned: int
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    failed: dict[int, str]
    mean: float | None
    sd: float | None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    level: float | None = None
    method: Method | None = None
    p: float | None = None
    p_adjusted: float | None = None
    equivalence_p: float | None = None
    sign_flip_p: float | None = None
    correlation: float | None = None
    pairs: int | None = None
    wins: int | None = None
    losses: int | None = None
    superiority: float | None = None
    effect_size: float | None = None
    error_ratio: float | None = None
    error_ratio_interval: tuple[float, float] | None = None
    seed_se: float | None = None
    picture_se: float | None = None
    verdict: Verdict | None = None
    reason: str = ""
    look: int | None = None
    stopped: bool = False
    more_seeds: int | None = None
    together: str = ""
    match: str = ""
    flags: tuple[str, ...] = ()
    parameters: float | None
    flops: float | None
    seconds: float | None
    cpu_seconds: float | None
    step_ms: float | None
    peak_memory_mb: float | None
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...]
    published: dict[str, float]
    run_ids: tuple[str, ...]
    costlier: dict[str, float] = {}
    published_p: float | None = None

    @property
    def disagrees(self) -> bool:
        """Whether the sign-flip test and the t-test fall on different sides of 5 %."""
        if self.p is None or self.sign_flip_p is None:
            return False
        return (self.p < ALPHA) != (self.sign_flip_p < ALPHA)


class EffectSummary(Frozen):
    """A main effect of a factor's level, or the interaction of two; the fields of `stn_bench.stats.Effect`."""

    levels: dict[str, Any]
    value: float
    interval: tuple[float, float]
    p: float
    p_adjusted: float
    method: Method


class Fairness(Frozen):
    """What an arm was given to do its best with; equal for every arm, or the verdict is invalid.

    Args:
        trials: tuning trials.
        searched: settings that tuning searched.
        epochs: passes over the training pictures.
        pictures: pictures that it was trained on.
    """

    trials: int
    searched: int
    epochs: int
    pictures: int


class AblationSummary(Frozen):
    """One question: its arms, the base first.

    Args:
        factors: factor -> its levels, the base's first, for questions that cross them.
        effects: main effects and two-way interactions of the factors.
        fairness: arm -> what it was given.
        expected_best: arm -> expected best validation accuracy of 1, 2, … tuning trials.
        confirmation: what fresh seeds say of the best arm; null as long as none were trained.
        remark: what the study's author found out about its runs.
        timed: the seeds whose runs tell the costs: those that all arms have.
    """

    name: str
    title: str
    question: str
    source: str
    remark: str = ""
    published_pictures: int
    arms: tuple[ArmSummary, ...]
    claims: tuple[ClaimSummary, ...]
    factors: dict[str, tuple[Any, ...]] = {}
    effects: tuple[EffectSummary, ...] = ()
    fairness: dict[str, Fairness] = {}
    expected_best: dict[str, tuple[float | None, ...]] = {}
    confirmation: ConfirmationSummary | None = None
    timed: tuple[int, ...] = ()

    @property
    def base(self) -> ArmSummary:
        """The arm that the others are compared with."""
        return self.arms[0]


class Provenance(Frozen):
    """Where the numbers come from.

    Args:
        started: when the first run began, ISO 8601 in UTC.
        ended: when the last one ended.
        datasets: name -> SHA-256 fingerprint of the pictures.
        code: definition -> the digests under which it ran; more than one means mixed code.
        libraries: package -> the versions that it ran with.
        machines: the machines, as described by each run.
    """

    started: str
    ended: str
    datasets: dict[str, str]
    code: dict[str, tuple[str, ...]]
    libraries: dict[str, tuple[str, ...]]
    machines: tuple[str, ...]

    @property
    def code_digest(self) -> str:
        """SHA-256 over all definitions and the digests under which they ran."""
        return hashlib.sha256(canonical(self.code).encode()).hexdigest()

    @property
    def mixed(self) -> tuple[str, ...]:
        """Definitions and libraries of which the runs used more than one version."""
        parts = {**self.code, **self.libraries}
        return tuple(name for name, versions in parts.items() if len(versions) > 1)


class Deviation(Frozen):
    """Something that changed after the plan was frozen: when, what, and why."""

    date: str
    what: str
    why: str


class FrozenSummary(Frozen):
    """The plan as it was frozen, and how the study came to deviate from it.

    Args:
        date: when it was frozen, ISO 8601 in UTC.
        digest: its digest then.
        deviations: every change that was declared since, in their order.
        before_first_run: whether that was before the first of the study's runs began; true as long as there is none.
        undeclared: how the plan differs today besides, which nobody declared.
    """

    date: str
    digest: str
    deviations: tuple[Deviation, ...] = ()
    before_first_run: bool = True
    undeclared: tuple[str, ...] = ()


class Summary(Frozen):
    """A study, summed up.

    Args:
        planned_runs: tuning trials, and verdict runs on the seeds that the verdicts want today.
        finished_runs: those of them that have finished.
        missing_runs: those that the verdicts still wait for; the seeds of arms that a look decided are not among them.
        frozen: the plan as frozen before the first run; null if it was not.
    """

    study: str
    title: str
    scope: str
    digest: str
    metric: str
    direction: Direction
    margin: float
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    family: str
    max_failed: int
    trials: int
    base: dict[str, Any]
    planned_runs: int
    finished_runs: int
    missing_runs: int = 0
    ablations: tuple[AblationSummary, ...]
    provenance: Provenance
    frozen: FrozenSummary | None = None

    @property
    def claims(self) -> tuple[ClaimSummary, ...]:
        """Every claim, in the order of the questions."""
        return tuple(claim for ablation in self.ablations for claim in ablation.claims)


def summarise(results: Results, artifact: Artifact | None = None) -> Summary:
    """Return the summary of a study's results.

    Args:
        results: the study's results.
        artifact: where to read which test pictures a run read correctly; without it, that part is left out.
    """
    plan, found, provenance = results.plan, verdicts(results), _provenance(results.records)
    counts, planned = planned_seeds(results), planned_runs(results)
    read = partial(_read_correctly, artifact=artifact)
    return Summary(
        study=plan.study.name,
        title=plan.study.title,
        scope=plan.study.scope,
        digest=plan.digest,
        metric=plan.study.metric,
        direction=plan.study.direction,
        margin=plan.study.margin,
        seeds=plan.study.seeds,
        looks=plan.study.all_looks,
        family=plan.study.family,
        max_failed=plan.study.max_failed,
        trials=plan.study.tuning.trials,
        base=dict(plan.study.base),
        planned_runs=planned,
        finished_runs=results.finished,
        missing_runs=planned - results.finished,
        ablations=tuple(_ablation(one, results, found[one.ablation.name], read, counts) for one in plan.ablations),
        provenance=provenance,
        frozen=_frozen(plan, provenance.started),
    )


def _frozen(plan: Plan, started: str) -> FrozenSummary | None:
    frozen = plan.frozen
    if frozen is None:
        return None
    return FrozenSummary(
        date=frozen.date,
        digest=frozen.digest,
        deviations=tuple(
            Deviation(date=one.date, what="; ".join(one.changes), why=one.because) for one in frozen.deviations
        ),
        before_first_run=not (started and is_later(frozen.date, started)),
        undeclared=tuple(frozen.changes(plan)),
    )


Reader = Callable[[RunRecord], NDArray[np.bool_] | None]


def _ablation(
    planned: PlannedAblation,
    results: Results,
    found: Mapping[str, ArmVerdict],
    read: Reader,
    counts: Mapping[str, int],
) -> AblationSummary:
    ablation, study = planned.ablation, results.plan.study
    base = results.of(planned.base)
    rows = {written.name: results.of(trained) for written, trained in planned.arms}
    timed = common_seeds((base, *rows.values()))
    ours = _arm(BASE, base, study.metric, ablation.published, ablation.base, timed)
    ours = ours.model_copy(update={"flags": flags(planned, BASE, Costs(), Costs())})
    seeds = {name: _shared_seeds(arm, base, found[name], study.seeds) for name, arm in rows.items()}
    arms = []
    for written, _ in planned.arms:
        arm = _arm(written.name, rows[written.name], study.metric, written.published, written.set, timed)
        pair = (rows[written.name], base)
        ratio = _ratio(*pair, study.metric, seeds[written.name], found[written.name])
        parts = _parts(*pair, study.metric, seeds[written.name], read)
        arm = _compared(arm, found[written.name], ratio, parts)
        raised = flags(planned, written.name, _costs_of(rows[written.name], timed), _costs_of(base, timed))
        arm = arm.model_copy(update={"together": written.together, "match": written.match or "", "flags": raised})
        arms.append(_beside(arm, ours, ablation.published_pictures))
    return AblationSummary(
        name=ablation.name,
        title=ablation.title,
        question=ablation.question,
        source=ablation.source,
        remark=study.remarks.get(ablation.name, ""),
        published_pictures=ablation.published_pictures,
        arms=tuple(arm.model_copy(update={"planned": counts[arm.label]}) for arm in (ours, *arms)),
        claims=claims_of(planned, results, found),
        factors=_factor_levels(planned),
        effects=_effects(planned, results),
        fairness={name: _fairness(arm) for name, arm in {BASE: base, **rows}.items()},
        expected_best={name: curve for name, arm in {BASE: base, **rows}.items() if (curve := _expected_best(arm))},
        confirmation=confirmation_of(planned, results, found),
        timed=timed,
    )


def _shared_seeds(arm: ArmResults, base: ArmResults, verdict: ArmVerdict, order: tuple[int, ...]) -> list[int]:
    """Return the seeds that a verdict uses, in the study's order."""
    both = arm.runs.keys() & base.runs.keys() - set(failed_seeds(arm)) - set(failed_seeds(base))
    return [seed for seed in order if seed in both][: verdict.judgement.comparison.n]


def _ratio(arm: ArmResults, base: ArmResults, metric: str, seeds: list[int], verdict: ArmVerdict) -> Ratio | None:
    """Return the ratio of the arms' error rates; None unless the metric is an accuracy."""
    if not metric.endswith("accuracy"):
        return None
    ours, theirs = ({seed: one.values(metric)[seed] for seed in seeds} for one in (arm, base))
    return error_ratios([ours], theirs, 1 - verdict.judgement.comparison.level)[0]


def _parts(arm: ArmResults, base: ArmResults, metric: str, seeds: list[int], read: Reader) -> PictureParts | None:
    """Return what seeds and what pictures leave uncertain, or None where the pictures are not known one by one."""
    if metric != READ_CORRECTLY or len(seeds) < 2:
        return None
    correct = [read(one.runs[seed]) for one in (arm, base) for seed in seeds]
    known_ones = [one for one in correct if one is not None]
    if len(known_ones) < len(correct) or len({one.shape for one in known_ones}) > 1:
        return None
    return picture_parts(np.stack(known_ones[: len(seeds)]), np.stack(known_ones[len(seeds) :]))


def _read_correctly(record: RunRecord, artifact: Artifact | None) -> NDArray[np.bool_] | None:
    """Return which test pictures a run read correctly, `(pictures,)`, or None if that was not kept."""
    if artifact is None:
        return None
    try:
        with np.load(artifact(record.run_id, PREDICTIONS), allow_pickle=False) as file:
            return np.asarray(file["labels"] == file["predicted"])
    except (OSError, KeyError, ValueError, StnBenchError):
        return None


def _factor_levels(planned: PlannedAblation) -> dict[str, tuple[Any, ...]]:
    base = planned.base.config.resolved().flat()
    return {
        path: (base[path], *(level for level in levels if level != base[path]))
        for path, levels in planned.ablation.factors.items()
    }


def _effects(planned: PlannedAblation, results: Results) -> tuple[EffectSummary, ...]:
    factors, metric = _factor_levels(planned), results.plan.study.metric
    if not factors:
        return ()
    cells = {}
    for moved, arm in (
        (set[str](), planned.base),
        *((set(written.set), trained) for written, trained in planned.arms),
    ):
        if moved <= factors.keys():
            settings = arm.config.resolved().flat()
            cells[tuple(settings[path] for path in factors)] = results.of(arm).values(metric)
    if not cells.keys() >= set(itertools.product(*factors.values())):  # the study leaves some combinations out
        return ()
    return tuple(
        EffectSummary(
            levels=dict(effect.levels),
            value=effect.value,
            interval=(effect.low, effect.high),
            p=effect.p,
            p_adjusted=effect.p_adjusted,
            method=effect.method,
        )
        for effect in effects(factors, cells)
    )


def _fairness(arm: ArmResults) -> Fairness:
    config = arm.arm.config
    return Fairness(
        trials=arm.arm.trials,
        searched=len(arm.arm.space),
        epochs=config.train.epochs,
        pictures=config.data.train,
    )


def _expected_best(arm: ArmResults) -> tuple[float | None, ...]:
    """Return the expected best validation accuracy by number of trials; a diverged trial reads nothing."""
    scores = [trial.metrics.get(TUNING_METRIC, 0.0) if trial.outcome == "finished" else 0.0 for trial in arm.trials]
    return tuple(map(known, expected_best(scores))) if len(scores) == arm.arm.trials else ()


def _costs_of(arm: ArmResults, timed: Collection[int]) -> Costs:
    return costs_of(arm.arm.config, arm.runs.values(), timed)


def _beside(arm: ArmSummary, base: ArmSummary, pictures: int) -> ArmSummary:
    """Return an arm with what it costs beside its base, and what their published accuracies can carry."""
    costlier = {}
    for name in MARKED_COSTS:
        ours, theirs = getattr(arm, name), getattr(base, name)
        if ours and theirs and ours / theirs - 1 > COSTLIER:
            costlier[name] = ours / theirs - 1
    return arm.model_copy(update={"costlier": costlier, "published_p": _published_p(arm, base, pictures)})


def _published_p(arm: ArmSummary, base: ArmSummary, pictures: int) -> float | None:
    ours, theirs = arm.published.get("accuracy"), base.published.get("accuracy")
    if not pictures or ours is None or theirs is None:
        return None
    return published_p(round(ours * pictures), round(theirs * pictures), pictures)


def _arm(
    name: str,
    arm: ArmResults,
    metric: str,
    published: Mapping[str, float],
    changes: Mapping[str, Any],
    timed: Collection[int],
) -> ArmSummary:
    values = arm.values(metric)
    spreads = spread(list(values.values()))
    one = next(iter(arm.runs.values()), None)
    return ArmSummary(
        name=name,
        label=arm.arm.label,
        set=dict(changes),
        chosen=dict(arm.chosen or {}),
        planned=len(arm.arm.seeds),
        seeds=tuple(values),
        values=tuple(values.values()),
        failed=failed_seeds(arm),
        mean=known(spreads.mean),
        sd=known(spreads.sd),
        **_costs(arm, timed),
        layers=one.layers if one else (),
        uncounted=one.uncounted if one else (),
        published=dict(published),
        run_ids=tuple(arm.runs[seed].run_id for seed in values),
    )


def _compared(summary: ArmSummary, verdict: ArmVerdict, ratio: Ratio | None, parts: PictureParts | None) -> ArmSummary:
    judgement, comparison = verdict.judgement, verdict.judgement.comparison
    return summary.model_copy(
        update={
            "difference": known(comparison.difference),
            "interval": known_interval(comparison.low, comparison.high),
            "level": comparison.level,
            "method": comparison.method,
            "p": known(comparison.p),
            "p_adjusted": known(judgement.p_adjusted),
            "equivalence_p": known(judgement.equivalence_p),
            "sign_flip_p": known(comparison.flip_p),
            "correlation": known(comparison.correlation),
            "pairs": comparison.n,
            "wins": comparison.wins,
            "losses": comparison.losses,
            "superiority": known(superiority_bound(comparison.wins, comparison.n)),
            "effect_size": known(hedges(comparison)),
            "error_ratio": ratio and known(ratio.value),
            "error_ratio_interval": ratio and known_interval(ratio.low, ratio.high),
            "seed_se": known(comparison.se),
            "picture_se": parts and known(parts.pictures),
            "verdict": verdict.word,
            "reason": verdict.reason,
            "look": judgement.look,
            "stopped": judgement.stopped,
            "more_seeds": judgement.more_seeds if verdict.word == "undecided" else None,
        }
    )


def _costs(arm: ArmResults, timed: Collection[int]) -> dict[str, float | None]:
    runs = [run for seed, run in arm.runs.items() if not timed or seed in timed]
    return {name: known(spread(_cost_values(runs, name)).mean) for name in COSTS}


def _cost_values(runs: Iterable[RunRecord], name: str) -> list[float]:
    return [run.metrics[f"cost.{name}"] for run in runs if f"cost.{name}" in run.metrics]


def _provenance(records: tuple[RunRecord, ...]) -> Provenance:
    return Provenance(
        started=min((record.started for record in records), default=""),
        ended=max((record.ended for record in records), default=""),
        datasets=_datasets(records),
        code=_versions(records, lambda record: record.identity.code),
        libraries=_versions(records, lambda record: record.identity.libraries),
        machines=tuple(sorted({describe(record.machine) for record in records})),
    )


def _datasets(records: tuple[RunRecord, ...]) -> dict[str, str]:
    found = {}
    for record in records:
        data = {path: value for path, value in record.settings.items() if path.startswith("data.")}
        name = f"{data['data.source']}, {data['data.count']} pictures, {data['data.shapes']}"
        found[f"{name}, seed {data['data.seed']}"] = record.identity.dataset
    return dict(sorted(found.items()))


def _versions(
    records: tuple[RunRecord, ...], part: Callable[[RunRecord], Mapping[str, str]]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for record in records:
        for name, version in part(record).items():
            found.setdefault(name, set()).add(version)
    return {name: tuple(sorted(versions)) for name, versions in sorted(found.items())}


def describe(machine: Mapping[str, Any]) -> str:
    """Return a machine in one line."""
    return (
        f"{machine['processor']}, {machine['cores']} cores ({machine['threads']} threads a run), "
        f"{machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}"
    )


__all__ = ["AblationSummary", "ArmSummary", "ConfirmationSummary", "Provenance", "Summary", "summarise"]
