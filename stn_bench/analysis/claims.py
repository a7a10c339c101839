"""What came of each claim: a published sentence beside the comparison, or the measurement, that tests it here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from stn_bench.analysis.analyse import Analysis
from stn_bench.analysis.verdicts import ArmVerdict, unfair_reason
from stn_bench.stats import FEWEST_SEEDS, Verdict, compare, estimate, judge, known, known_interval
from stn_bench.study.metrics import step_of
from stn_bench.study.plan import PlannedQuestion
from stn_bench.study.spec import BASE, Claim
from stn_bench.subject import Metric, Scale
from stn_bench.system.format import Unit
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
        values = () if self.value is None else (self.value, *(self.interval or ()))
        return Unit.of(self.metric, is_fraction=self.scale == "fraction").to_show(values)


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
        values = self._results(self._claim.arm).values(self._metric.name)
        mean = estimate(list(values.values()))
        found: dict[str, Any] = {"value": known(mean.mean), "interval": known_interval(mean.low, mean.high)}
        if len(values) < FEWEST_SEEDS:
            return self._written(outcome="undecided", reason=f"{len(values)} seeds finished", **found)
        outcome = "reproduced" if mean.low > bound else "contradicted" if mean.high < bound else "undecided"
        return self._written(outcome=outcome, **found)

    def _compared(self) -> ClaimSummary:
        claim, direction = self._claim, self._metric.direction
        arm, against = self._results(claim.arm), self._results(claim.against)
        if in_table := self._in_table():
            comparison, unfair, verdict = in_table.judgement.comparison, in_table.reason, in_table.word
        else:
            ours, theirs = (one.values(self._metric.name) for one in (arm, against))
            step = max(step_of(self._metric, one.arm.config) for one in (arm, against))
            comparison = compare(ours, theirs, direction, resolution=step)
            called = self._analysis.results.called
            unfair = unfair_reason(arm, against, self._metric.name, self._study.max_failed, called=called)
            margin = self._study.margin if self._is_primary else 0.0  # no margin is set for other metrics
            verdict = judge(comparison, comparison.p, margin=margin, direction=direction)
        found: dict[str, Any] = {
            "value": known(comparison.difference),
            "interval": known_interval(comparison.low, comparison.high),
            "p": known(comparison.p),
        }
        if unfair:
            return self._written(outcome="undecided", reason=unfair, **found)
        return self._written(outcome=_outcome(verdict, claim), **found)

    def _in_table(self) -> ArmVerdict | None:
        """Return the verdict of the question's table where the claim is in it, corrected for the question's arms."""
        if not self._is_primary or self._claim.against != BASE:
            return None
        return self._analysis.verdicts[self._question.ablation.name].get(self._claim.arm)


def _outcome(verdict: Verdict, claim: Claim) -> ClaimOutcome:
    """Return what a verdict says of a claim that expects a difference: none beyond the margin contradicts it too."""
    if verdict == claim.expect:
        return "reproduced"
    return "contradicted" if verdict in ("better", "worse", "equivalent") else "undecided"


__all__ = ["ClaimOutcome", "ClaimSummary", "claims_of"]
