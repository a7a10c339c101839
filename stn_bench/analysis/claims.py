"""What came of each claim: a published sentence beside the comparison, or the measurement, that tests it here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from stn_bench.analysis.verdicts import ArmVerdict, unfair_reason
from stn_bench.stats import (
    FEWEST_SEEDS,
    Comparison,
    Direction,
    Verdict,
    compare,
    estimate,
    judge,
    known,
    known_interval,
)
from stn_bench.study.catalogue import BASE, Claim
from stn_bench.study.plan import Plan, PlannedAblation
from stn_bench.subjects.stn.metrics import is_better_high
from stn_bench.tracking.results import ArmResults, Results

Outcome = Literal["reproduced", "contradicted", "undecided", "not asked at this scale"]


class ClaimSummary(BaseModel):
    """A claim and what came of it.

    Args:
        ablation: the question that it belongs to.
        says: the claim.
        asked: what was asked here.
        arm: the arm that it is about; "" where nothing was asked.
        against: the arm that it was compared with; "" where the arm's own metric was measured.
        metric: what was compared or measured.
        outcome: reproduced, contradicted, undecided, or not asked at this scale.
        reason: why it is undecided or was not asked, where the numbers do not say it.
        value: the mean paired difference, or the mean of the metric where it was measured.
        interval: its t-interval over the seeds: that of the question's table where the claim is in it, else at 95 %.
        bound: the value that the metric lies above if the claim holds, where it was measured.
        p: two-sided p of the t-test, without correction.
    """

    model_config = ConfigDict(frozen=True)

    ablation: str
    says: str
    asked: str
    arm: str
    against: str
    metric: str
    outcome: Outcome
    reason: str = ""
    value: float | None = None
    interval: tuple[float, float] | None = None
    bound: float | None = None
    p: float | None = None


Judged = Mapping[str, ArmVerdict]
"""Arm -> the verdict of its question's table, corrected for the arms of the question."""


def claims_of(planned: PlannedAblation, results: Results, judged: Judged) -> tuple[ClaimSummary, ...]:
    """Return what came of the claims about one question."""
    arms = {BASE: results.of(planned.base)} | {written.name: results.of(arm) for written, arm in planned.arms}
    test = _Test(results.plan, planned.ablation.name, arms, judged)
    return tuple(test.summary(claim) for claim in planned.ablation.claims)


class _Test:
    """Tests the claims about one question."""

    def __init__(self, plan: Plan, ablation: str, arms: Mapping[str, ArmResults], judged: Judged) -> None:
        self._study, self._ablation, self._arms, self._judged = plan.study, ablation, arms, judged

    def summary(self, claim: Claim) -> ClaimSummary:
        """Return what came of a claim."""
        missing = _missing_settings(claim, self._arms[claim.arm or BASE])
        if not claim.arm or missing:
            return self._written(claim, outcome="not asked at this scale", reason=missing)
        return self._measured(claim, claim.above) if claim.above is not None else self._compared(claim)

    def _written(self, claim: Claim, **found: Any) -> ClaimSummary:
        return ClaimSummary(
            ablation=self._ablation,
            says=claim.says,
            asked=claim.asked,
            arm=claim.arm,
            against="" if claim.above is not None or not claim.arm else claim.against,
            metric=claim.metric or self._study.metric,
            bound=claim.above,
            **found,
        )

    def _measured(self, claim: Claim, bound: float) -> ClaimSummary:
        values = self._arms[claim.arm].values(claim.metric or self._study.metric)
        mean = estimate(list(values.values()))
        found: dict[str, Any] = {"value": known(mean.mean), "interval": known_interval(mean.low, mean.high)}
        if len(values) < FEWEST_SEEDS:
            return self._written(claim, outcome="undecided", reason=f"{len(values)} seeds finished", **found)
        outcome = "reproduced" if mean.low > bound else "contradicted" if mean.high < bound else "undecided"
        return self._written(claim, outcome=outcome, **found)

    def _compared(self, claim: Claim) -> ClaimSummary:
        arm, against = self._arms[claim.arm], self._arms[claim.against]
        metric, direction = claim.metric or self._study.metric, self._direction(claim)
        in_table = self._in_table(claim)
        comparison = compare(arm.values(metric), against.values(metric), direction)
        if in_table is not None:
            comparison = in_table.judgement.comparison
        found: dict[str, Any] = {
            "value": known(comparison.difference),
            "interval": known_interval(comparison.low, comparison.high),
            "p": known(comparison.p),
        }
        unfair = in_table.reason if in_table else unfair_reason(arm, against, self._study.max_failed)
        if unfair:
            return self._written(claim, outcome="undecided", reason=unfair, **found)
        verdict = in_table.word if in_table else self._verdict(claim, comparison, direction)
        return self._written(claim, outcome=_outcome(verdict, claim), **found)

    def _in_table(self, claim: Claim) -> ArmVerdict | None:
        """Return the verdict of the question's table where the claim is in it."""
        is_there = claim.metric in ("", self._study.metric) and claim.against == BASE
        return self._judged.get(claim.arm) if is_there else None

    def _direction(self, claim: Claim) -> Direction:
        if not claim.metric or claim.metric == self._study.metric:
            return self._study.direction
        return "maximize" if is_better_high(claim.metric) else "minimize"

    def _verdict(self, claim: Claim, comparison: Comparison, direction: Direction) -> Verdict:
        """Return the claim's own verdict, of a comparison that is in no table."""
        is_primary = claim.metric in ("", self._study.metric)
        margin = self._study.margin if is_primary else 0.0  # no margin is set for other metrics
        return judge(comparison, comparison.p, margin=margin, direction=direction)


def _outcome(verdict: Verdict, claim: Claim) -> Outcome:
    """Return what a verdict says of a claim that expects a difference: none beyond the margin contradicts it too."""
    if verdict == claim.expect:
        return "reproduced"
    return "contradicted" if verdict in ("better", "worse", "equivalent") else "undecided"


def _missing_settings(claim: Claim, arm: ArmResults) -> str:
    """Return which settings the claim needs and the arm has not, or ""."""
    settings = arm.arm.config.resolved().flat()
    missing = [f"`{path}` = {value}" for path, value in claim.needs.items() if settings[path] != value]
    return f"needs {', '.join(missing)}" if missing else ""


__all__ = ["ClaimSummary", "claims_of"]
