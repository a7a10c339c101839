"""The summary of a study: every number that the report shows, computed once. What `report.json` holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from stn_bench.catalogue import BASE
from stn_bench.identity import canonical
from stn_bench.plan import COSTLIER, Plan, PlannedAblation
from stn_bench.record import LayerCost, RunRecord
from stn_bench.report.claims import ClaimSummary, claims_of, failed_seeds, unfair_reason
from stn_bench.results import ArmResults, Results
from stn_bench.stats import (
    Comparison,
    Direction,
    Verdict,
    compare,
    holm,
    judge,
    known,
    known_interval,
    published_p,
    spread,
)

COSTS = ("parameters", "flops", "seconds", "cpu_seconds", "step_ms", "peak_memory_mb")
MARKED_COSTS = {"flops": "FLOPs", "parameters": "parameters"}


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
        planned: number of seeds planned.
        seeds: seeds that finished.
        values: the primary metric of each of those.
        failed: seed -> why it diverged or crashed.
        mean: mean of the values.
        sd: their sample standard deviation.
        difference: mean difference to the base, paired by seed.
        interval: its 95 % t-interval.
        p: two-sided p of the paired t-test.
        p_adjusted: the same after Holm's correction over the question's arms.
        pairs: number of seeds that the arm and the base both finished.
        wins: number of those on which the arm is the better one.
        verdict: better, worse, equivalent, undecided, unreplicated or invalid; "" for the base.
        reason: why an invalid verdict is invalid.
        parameters: number of weights, moving statistics included; like all costs, the mean over its runs.
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
    p: float | None = None
    p_adjusted: float | None = None
    pairs: int | None = None
    wins: int | None = None
    verdict: Verdict | None = None
    reason: str = ""
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


class AblationSummary(Frozen):
    """One question: its arms, the base first."""

    name: str
    title: str
    question: str
    source: str
    published_pictures: int
    arms: tuple[ArmSummary, ...]
    claims: tuple[ClaimSummary, ...]

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


class Summary(Frozen):
    """A study, summed up."""

    study: str
    title: str
    scope: str
    digest: str
    metric: str
    direction: Direction
    margin: float
    seeds: tuple[int, ...]
    trials: int
    base: dict[str, Any]
    planned_runs: int
    finished_runs: int
    ablations: tuple[AblationSummary, ...]
    provenance: Provenance

    @property
    def claims(self) -> tuple[ClaimSummary, ...]:
        """Every claim, in the order of the questions."""
        return tuple(claim for ablation in self.ablations for claim in ablation.claims)


def summarise(results: Results) -> Summary:
    """Return the summary of a study's results."""
    plan = results.plan
    return Summary(
        study=plan.study.name,
        title=plan.study.title,
        scope=plan.study.scope,
        digest=plan.digest,
        metric=plan.study.metric,
        direction=plan.study.direction,
        margin=plan.study.margin,
        seeds=plan.study.seeds,
        trials=plan.study.tuning.trials,
        base=dict(plan.study.base),
        planned_runs=plan.cells(),
        finished_runs=results.finished,
        ablations=tuple(_ablation(planned, results) for planned in plan.ablations),
        provenance=_provenance(results.records),
    )


def _ablation(planned: PlannedAblation, results: Results) -> AblationSummary:
    ablation, plan = planned.ablation, results.plan
    base = results.of(planned.base)
    rows = [(arm, results.of(trained)) for arm, trained in planned.arms]
    metric, direction = plan.study.metric, plan.study.direction
    comparisons = [compare(arm.values(metric), base.values(metric), direction) for _, arm in rows]
    adjusted = holm([comparison.p for comparison in comparisons])
    judged = [
        _compared(_arm(written.name, arm, metric, written.published, written.set), arm, base, comparison, p, plan)
        for (written, arm), comparison, p in zip(rows, comparisons, adjusted, strict=True)
    ]
    ours = _arm(BASE, base, metric, ablation.published, ablation.base)
    return AblationSummary(
        name=ablation.name,
        title=ablation.title,
        question=ablation.question,
        source=ablation.source,
        published_pictures=ablation.published_pictures,
        arms=(ours, *(_beside(arm, ours, ablation.published_pictures) for arm in judged)),
        claims=claims_of(planned, results, {arm.name: arm.verdict for arm in judged}),
    )


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
    name: str, arm: ArmResults, metric: str, published: Mapping[str, float], changes: Mapping[str, Any]
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
        **_costs(arm),
        layers=one.layers if one else (),
        uncounted=one.uncounted if one else (),
        published=dict(published),
        run_ids=tuple(arm.runs[seed].run_id for seed in values),
    )


def _compared(
    summary: ArmSummary, arm: ArmResults, base: ArmResults, comparison: Comparison, p: float, plan: Plan
) -> ArmSummary:
    reason = unfair_reason(arm, base)
    verdict = judge(comparison, p, margin=plan.study.margin, direction=plan.study.direction)
    return summary.model_copy(
        update={
            "difference": known(comparison.difference),
            "interval": known_interval(comparison.low, comparison.high),
            "p": known(comparison.p),
            "p_adjusted": known(p),
            "pairs": comparison.n,
            "wins": comparison.wins,
            "verdict": "invalid" if reason else verdict,
            "reason": reason,
        }
    )


def _costs(arm: ArmResults) -> dict[str, float | None]:
    runs = arm.runs.values()
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


__all__ = ["AblationSummary", "ArmSummary", "Provenance", "Summary", "summarise"]
