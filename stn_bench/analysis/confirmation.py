"""The confirmation of a question's best arm: chosen on the study's seeds, and judged on seeds that chose nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from stn_bench.analysis.analyse import Analysis
from stn_bench.analysis.verdicts import ALL_ALIKE, failed_seeds
from stn_bench.stats import FEWEST_SEEDS, Comparison, Verdict, compare, known, known_interval
from stn_bench.study.metrics import step_of
from stn_bench.study.plan import PlannedQuestion
from stn_bench.tracking.results import ArmResults


class ConfirmationSummary(BaseModel):
    """The best arm of a question, chosen on the study's seeds and trained again on seeds that chose nothing.

    Args:
        arm: the arm that was chosen.
        seeds: the fresh seeds that both it and the base finished.
        values: its primary metric on each of them.
        base_values: the base's.
        selected_difference: difference to the base on the seeds that chose it; the best of several looks too good.
        selected_interval: its interval.
        difference: difference to the base on the fresh seeds.
        interval: its 95 % t-interval.
        p: two-sided p of the paired t-test; one comparison, nothing to correct for.
        wins: number of fresh seeds on which it is the better one.
        agrees: whether the fresh seeds bear the verdict out: their interval excludes 0 on the side of the selected
            difference, or, where the verdict was equivalent, lies within the margin. Never where nothing can be said.
        failed: fresh seed -> why the arm or the base diverged or crashed on it.
        words: what the report calls the arm, where its file says so; else left out.
        reason: why nothing can be said, where that is so: more of them failed than the study allows, some are still to
            come, fewer than three are pairs, or no test can be made; else left out.
    """

    model_config = ConfigDict(frozen=True)

    arm: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    base_values: tuple[float, ...]
    selected_difference: float | None
    selected_interval: tuple[float, float] | None
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    wins: int | None
    agrees: bool
    failed: dict[int, str] = {}
    words: str = Field("", exclude_if=lambda words: not words)
    reason: str = Field("", exclude_if=lambda reason: not reason)


def confirmation_of(question: PlannedQuestion, analysis: Analysis) -> ConfirmationSummary | None:
    """Return what fresh seeds say of a question's best arm; None as long as it and its base have no such seed yet."""
    plan, results, name = analysis.plan, analysis.results, analysis.selected.get(question.ablation.name)
    if name is None:
        return None
    arm, base = results.of(question.arms[name]), results.of(question.base)
    ours, theirs = (one.confirmed_values(plan.metric.name) for one in (arm, base))
    seeds = [seed for seed in plan.study.confirm if seed in ours and seed in theirs]
    if not seeds:
        return None
    verdict = analysis.verdicts[question.ablation.name][name]
    step = max(step_of(plan.metric, one.arm.config) for one in (arm, base))
    selected, fresh = verdict.judgement.comparison, compare(ours, theirs, plan.metric.direction, resolution=step)
    reason = _silence((arm, base), fresh, analysis)
    failed = _told(base, plan.metric.name) | _told(arm, plan.metric.name)
    return ConfirmationSummary(
        arm=name,
        seeds=tuple(seeds),
        values=tuple(ours[seed] for seed in seeds),
        base_values=tuple(theirs[seed] for seed in seeds),
        selected_difference=known(selected.difference),
        selected_interval=known_interval(selected.low, selected.high),
        difference=known(fresh.difference),
        interval=known_interval(fresh.low, fresh.high),
        p=known(fresh.p),
        wins=fresh.wins,
        agrees=not reason and _agrees(selected, fresh, verdict.word, plan.study.margin),
        failed=failed,
        words=question.written(name).label,
        reason=reason,
    )


def _agrees(selected: Comparison, fresh: Comparison, word: Verdict, margin: float) -> bool:
    if word == "equivalent":
        return -margin < fresh.low and fresh.high < margin
    return fresh.low > 0 if selected.difference > 0 else fresh.high < 0 and selected.difference < 0


def _silence(arms: Sequence[ArmResults], fresh: Comparison, analysis: Analysis) -> str:
    """Return why fresh seeds of an arm and its base can say nothing, or ""."""
    study, metric = analysis.plan.study, analysis.plan.metric.name
    planned = len(study.confirm)
    for one in arms:
        failed = len(_failed(one, metric))
        if failed > study.max_failed:
            return f"{failed} of {planned} fresh seeds of `{one.arm.name}` failed"
    ended = set(study.confirm).intersection(*(one.confirmed.keys() | one.unconfirmed.keys() for one in arms))
    if len(ended) < planned:
        return f"{len(ended)} of {planned} fresh seeds have ended"
    if fresh.n < FEWEST_SEEDS:
        return "it takes three"
    return ALL_ALIKE if math.isnan(fresh.p) else ""


def _told(arm: ArmResults, metric: str) -> dict[int, str]:
    """Return fresh seed -> which arm failed on it, and why."""
    return {seed: f"`{arm.arm.name}` {why}" for seed, why in _failed(arm, metric).items()}


def _failed(arm: ArmResults, metric: str) -> Mapping[int, str]:
    """Return fresh seed -> why it diverged or crashed, or has no finite value, as for the verdict's seeds."""
    return failed_seeds(replace(arm, runs=arm.confirmed, crashed=arm.unconfirmed), metric)


__all__ = ["ConfirmationSummary", "confirmation_of"]
