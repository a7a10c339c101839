"""The power of a study: the smallest difference that its seeds, arms and looks can show, and its examples' noise.

Pure, and said before the first run, when nothing but a guess or earlier runs of the base tell how much seeds differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from stn_bench.stats import FEWEST_SEEDS, Design, binomial_error, detectable, known, spread
from stn_bench.study.plan import Plan, PlannedQuestion
from stn_bench.system.format import counted
from stn_bench.tracking.results import Results

ASSUMED = "assumed"


@dataclass(frozen=True)
class Assumption:
    """A number that the power rests on.

    Args:
        value: the number.
        source: "assumed", or the runs that it was measured on, such as "3 runs of base".
    """

    value: float
    source: str


ASSUMED_SD = Assumption(0.01, ASSUMED)
"""Standard deviation of a fraction over seeds where no runs of the base tell: one point."""

ASSUMED_MEAN = Assumption(0.9, ASSUMED)
"""Fraction that the base gets right where none of its runs tells, for what the number of examples leaves uncertain."""

ASSUMED_CORRELATION = Assumption(0.0, ASSUMED)
"""Of arm and base over the seeds: pairing then gains nothing; a positive one makes smaller differences detectable."""


@dataclass(frozen=True)
class Power:
    """What one question can show, in units of the metric.

    Args:
        question: the question's name.
        design: how it is asked.
        sd: standard deviation of the base over seeds; None for a metric of which nothing can be assumed.
        mean: mean of the base; None for a metric that is no fraction.
        examples: number of test examples that the metric is a fraction of; None where that is not known.
        collapsed: the one value that all runs of the base have, of which no spread can be told; `sd` is then None.
    """

    question: str
    design: Design
    sd: Assumption | None
    mean: Assumption | None
    examples: int | None
    collapsed: Assumption | None = None

    @property
    def smallest(self) -> float | None:
        """The smallest true difference that is found with 80 % power once all seeds are trained."""
        return self._smallest(0)

    @property
    def smallest_at_first(self) -> float | None:
        """The same at the first look."""
        return self._smallest(1) if len(self.design.looks) > 1 else None

    @property
    def example_error(self) -> float | None:
        """Standard error that the number of examples alone gives the fraction of one model."""
        if self.mean is None or self.examples is None:
            return None
        return known(binomial_error(self.mean.value, self.examples))

    def _smallest(self, looks: int) -> float | None:
        if self.sd is None or self.design.seeds < FEWEST_SEEDS or not self.design.arms:
            return None
        return known(detectable(self.design, self.sd.value, ASSUMED_CORRELATION.value, looks))


def powers(results: Results) -> tuple[Power, ...]:
    """Return what each question of a study can show, in the plan's order."""
    return tuple(_power(question, results) for question in results.plan.questions)


def _power(question: PlannedQuestion, results: Results) -> Power:
    plan = results.plan
    values = list(results.of(question.base).values(plan.metric.name).values())
    measured, runs = spread(values), f"{counted(len(values), 'run')} of {question.base.label}"
    is_fraction = plan.metric.scale == "fraction"
    sd, mean = (ASSUMED_SD, ASSUMED_MEAN) if is_fraction else (None, None)
    is_collapsed = measured.n >= FEWEST_SEEDS and len(set(values)) == 1
    if measured.n >= FEWEST_SEEDS:
        sd = None if is_collapsed else Assumption(measured.sd, runs)
    return Power(
        question=question.ablation.name,
        design=_design(question, plan),
        sd=sd,
        mean=Assumption(measured.mean, runs) if mean and values else mean,
        examples=plan.metric.examples(question.base.config),
        collapsed=Assumption(measured.mean, runs) if is_collapsed else None,
    )


def _design(question: PlannedQuestion, plan: Plan) -> Design:
    study = plan.study
    tests = plan.families[0] if study.family == "study" else 0
    return Design(study.all_looks, len(question.tested), tests, study.correction, plan.levels)


__all__ = ["ASSUMED_CORRELATION", "ASSUMED_MEAN", "ASSUMED_SD", "Assumption", "Power", "powers"]
