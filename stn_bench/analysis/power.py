"""The reach of a study: the smallest difference that its seeds, arms and looks can show, and its pictures' noise.

Pure, and said before the first run, when nothing but a guess or earlier runs of the base tell how much seeds differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from stn_bench.stats import FEWEST_SEEDS, Design, binomial_error, detectable, known, spread
from stn_bench.study.plan import Plan, PlannedAblation
from stn_bench.tracking.results import Results

ASSUMED = "assumed"


@dataclass(frozen=True)
class Assumption:
    """A number that the reach rests on.

    Args:
        value: the number.
        source: "assumed", or the runs that it was measured on, such as "3 runs of base".
    """

    value: float
    source: str


ASSUMED_SD = Assumption(0.01, ASSUMED)
"""Standard deviation of an accuracy over seeds where no runs of the base tell: one point."""

ASSUMED_ACCURACY = Assumption(0.9, ASSUMED)
"""Accuracy of the base where none of its runs tells, for what the number of pictures leaves uncertain."""

ASSUMED_CORRELATION = Assumption(0.0, ASSUMED)
"""Of arm and base over the seeds: pairing then gains nothing; a positive one makes the reach finer."""

PICTURES = {"test.": "test", "best.validation.": "validation", "last.validation.": "validation"}
"""Beginning of a metric -> the part of the pictures that it is measured on."""


@dataclass(frozen=True)
class Reach:
    """What one question can show, in units of the metric.

    Args:
        ablation: the question's name.
        design: how it is asked.
        first: how it is asked at the first look, or None where that is the only one.
        sd: standard deviation of the base over seeds; None for a metric of which nothing can be assumed.
        accuracy: accuracy of the base; None for a metric that is no accuracy.
        pictures: number of pictures that the metric is measured on.
    """

    ablation: str
    design: Design
    first: Design | None
    sd: Assumption | None
    accuracy: Assumption | None
    pictures: int

    @property
    def smallest(self) -> float | None:
        """The smallest true difference that is found with 80 % power once all seeds are trained."""
        return self._smallest(self.design)

    @property
    def smallest_at_first(self) -> float | None:
        """The same at the first look."""
        return self._smallest(self.first) if self.first else None

    @property
    def picture_error(self) -> float | None:
        """Standard error that the number of pictures alone gives the accuracy of one model."""
        return known(binomial_error(self.accuracy.value, self.pictures)) if self.accuracy else None

    def _smallest(self, design: Design) -> float | None:
        if self.sd is None or design.seeds < FEWEST_SEEDS or not design.arms:
            return None
        return known(detectable(design, self.sd.value, ASSUMED_CORRELATION.value))


def reaches(results: Results) -> tuple[Reach, ...]:
    """Return what each question of a study can show."""
    return tuple(_reach(planned, results) for planned in results.plan.ablations)


def _reach(planned: PlannedAblation, results: Results) -> Reach:
    study, values = results.plan.study, list(results.of(planned.base).values(results.plan.study.metric).values())
    measured, runs = spread(values), f"{len(values)} run{'s' if len(values) > 1 else ''} of {planned.base.label}"
    is_accuracy = study.metric.endswith("accuracy")
    sd, accuracy = (ASSUMED_SD, ASSUMED_ACCURACY) if is_accuracy else (None, None)
    data, part = (
        planned.base.config.data,
        next((p for m, p in PICTURES.items() if study.metric.startswith(m)), "train"),
    )
    return Reach(
        ablation=planned.ablation.name,
        design=_design(planned, results.plan, len(study.seeds)),
        first=_design(planned, results.plan, study.all_looks[0]) if len(study.all_looks) > 1 else None,
        sd=Assumption(measured.sd, runs) if measured.n >= FEWEST_SEEDS else sd,
        accuracy=Assumption(measured.mean, runs) if accuracy and values else accuracy,
        pictures={"test": data.test, "validation": data.validation, "train": data.train}[part],
    )


def _design(planned: PlannedAblation, plan: Plan, seeds: int) -> Design:
    tests = sum(len(one.arms) for one in plan.ablations) if plan.study.family == "study" else 0
    return Design(seeds, len(planned.arms), len(plan.study.all_looks), tests)
