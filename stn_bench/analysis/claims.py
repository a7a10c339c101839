"""What came of each claim: a published sentence beside the comparison, or the measurement, that tests it here."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from stn_bench.analysis.analyse import Analysis
from stn_bench.analysis.verdicts import ALL_ALIKE, NO_TEST, ArmVerdict, failed_reason, failed_seeds, unfair_reason
from stn_bench.stats import FEWEST_SEEDS, Comparison, Verdict, compare, estimate, judge, known, known_interval
from stn_bench.study.metrics import step_of
from stn_bench.study.plan import PlannedQuestion
from stn_bench.study.spec import BASE, Claim
from stn_bench.subject import Metric, Scale
from stn_bench.system.format import Unit, counted, size_of
from stn_bench.tracking.results import ArmResults

ClaimOutcome = Literal["reproduced", "contradicted", "undecided", "not asked at this scale"]


class ClaimSummary(BaseModel):
    """A claim and what came of it.

    Args:
        ablation: the question that it belongs to.
        says: the claim.
        asked: what was asked here.
        arm: the arm that it is about; "" where nothing was asked.
        against: the arm that it was compared with; "" where the arm's own metric was measured.
        metric: what was compared or measured.
        scale: what that is measured in.
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
    scale: Scale
    outcome: ClaimOutcome
    reason: str = ""
    value: float | None = None
    interval: tuple[float, float] | None = None
    bound: float | None = None
    p: float | None = None

    @property
    def unit(self) -> Unit:
        """How values and differences of its metric are written."""
        unit = Unit.of(self.metric, is_fraction=self.scale == "fraction")
        if self.value is None:
            return unit
        return unit.to_show((self.value, *(self.interval or ())), [size_of(self.value, self.interval)])


def claims_of(question: PlannedQuestion, analysis: Analysis) -> tuple[ClaimSummary, ...]:
    """Return what came of the claims about one question."""
    return tuple(_Test(claim, question, analysis).summary() for claim in question.ablation.claims)


class _Test:
    """The test of one claim."""

    def __init__(self, claim: Claim, question: PlannedQuestion, analysis: Analysis) -> None:
        plan = analysis.plan
        self._claim, self._question, self._analysis, self._study = claim, question, analysis, plan.study
        self._metric: Metric = plan.metrics[claim.metric] if claim.metric else plan.metric
        self._is_primary = self._metric.name == plan.metric.name

    def summary(self) -> ClaimSummary:
        """Return what came of the claim."""
        claim, settings = self._claim, self._question.arms[self._claim.arm or BASE].settings
        missing = [f"`{path}` = {value}" for path, value in claim.needs.items() if settings[path] != value]
        if not claim.arm or missing:
            reason = f"needs {', '.join(missing)}" if missing else ""
            return self._written(outcome="not asked at this scale", reason=reason)
        return self._compared() if claim.above is None else self._measured(claim.above)

    def _written(self, **found: Any) -> ClaimSummary:
        claim = self._claim
        return ClaimSummary(
            ablation=self._question.ablation.name,
            says=claim.says,
            asked=claim.asked,
            arm=claim.arm,
            against="" if claim.above is not None or not claim.arm else claim.against,
            metric=self._metric.name,
            scale=self._metric.scale,
            bound=claim.above,
            **found,
        )

    def _results(self, name: str) -> ArmResults:
        return self._analysis.results.of(self._question.arms[name])

    def _measured(self, bound: float) -> ClaimSummary:
        arm = self._results(self._claim.arm)
        values = arm.values(self._metric.name)
        mean = estimate(list(values.values()), step_of(self._metric, arm.arm.config))
        found: dict[str, Any] = {"value": known(mean.mean), "interval": known_interval(mean.low, mean.high)}
        called = self._analysis.results.called
        failed = failed_reason(arm, self._metric.name, self._study.max_failed, called=called)
        reason = failed or self._awaited(arm)
        if not reason and len(values) < FEWEST_SEEDS:
            reason = f"{counted(len(values), 'seed')} finished"
        elif not reason and not mean.se:
            reason = f"all seeds have one value, and {NO_TEST}"
        if reason:
            return self._written(outcome="undecided", reason=reason, **found)
        outcome = "reproduced" if mean.low > bound else "contradicted" if mean.high < bound else "undecided"
        return self._written(outcome=outcome, **found)

    def _compared(self) -> ClaimSummary:
        in_table = self._in_table()
        comparison, reason, verdict = _of_table(in_table) if in_table else self._of_pair()
        found: dict[str, Any] = {
            "value": known(comparison.difference),
            "interval": known_interval(comparison.low, comparison.high),
            "p": known(comparison.p),
        }
        if reason:
            return self._written(outcome="undecided", reason=reason, **found)
        return self._written(outcome=_outcome(verdict, self._claim), **found)

    def _of_pair(self) -> tuple[Comparison, str, Verdict]:
        """Return the claim's own comparison, why it decides nothing, and its verdict."""
        metric, study = self._metric, self._study
        arm, against = self._results(self._claim.arm), self._results(self._claim.against)
        ours, theirs = (one.values(metric.name) for one in (arm, against))
        step = max(step_of(metric, one.arm.config) for one in (arm, against))
        comparison = compare(ours, theirs, metric.direction, resolution=step)
        called = self._analysis.results.called
        unfair = unfair_reason(arm, against, metric.name, study.max_failed, called=called)
        reason = unfair or self._awaited(arm, against)
        if not reason and comparison.n >= FEWEST_SEEDS and math.isnan(comparison.p):
            reason = ALL_ALIKE
        margin = study.margin if self._is_primary else 0.0  # no margin is set for other metrics
        equivalence_p = comparison.equivalence_p(margin)
        verdict = judge(
            comparison, comparison.p, margin=margin, direction=metric.direction, equivalence_p=equivalence_p
        )
        return comparison, reason, verdict

    def _awaited(self, *arms: ArmResults) -> str:
        """Return how many seeds have ended that all of some arms will have, or "" once none is to come.

        Whoever reads a claim after each seed has a chance of a false alarm at each, so that none is read before.
        """
        lacks = {}
        for arm in arms:
            seeds = self._analysis.final_seeds[arm.arm.label]
            ended = arm.values(self._metric.name).keys() | failed_seeds(arm, self._metric.name).keys()
            lacks[len(set(seeds) - ended)] = len(seeds)
        most = max(lacks)
        return _of_seeds(most, lacks[most]) if most else ""

    def _in_table(self) -> ArmVerdict | None:
        """Return the verdict of the question's table where the claim is in it, corrected for the question's arms."""
        if not self._is_primary or self._claim.against != BASE:
            return None
        return self._analysis.verdicts[self._question.ablation.name].get(self._claim.arm)


def _of_table(row: ArmVerdict) -> tuple[Comparison, str, Verdict]:
    """Return the comparison of a row of the question's table, why it decides nothing, and its verdict."""
    judgement = row.judgement
    awaited = _of_seeds(judgement.lacks, judgement.rules.looks[0]) if judgement.lacks else ""
    return judgement.comparison, row.reason or awaited, row.word


def _of_seeds(lacks: int, seeds: int) -> str:
    """Return how many of some seeds are there, as "3 of 8 seeds"."""
    return f"{seeds - lacks} of {counted(seeds, 'seed')}"


def _outcome(verdict: Verdict, claim: Claim) -> ClaimOutcome:
    """Return what a verdict says of a claim that expects a difference: none beyond the margin contradicts it too."""
    if verdict == claim.expect:
        return "reproduced"
    return "contradicted" if verdict in ("better", "worse", "equivalent") else "undecided"


__all__ = ["ClaimOutcome", "ClaimSummary", "claims_of"]
