"""Doubts: what of a study as a whole makes its verdicts doubtful, told in the preview and on the page. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from stn_bench.stats import FEWEST_SEEDS, spread
from stn_bench.study.plan import Plan, PlannedQuestion
from stn_bench.study.spec import BASE
from stn_bench.subject import Metric
from stn_bench.system.format import Unit
from stn_bench.system.sounds import is_no_fraction, sounds
from stn_bench.tracking.results import Results

WIDE = 0.05
"""A margin of a fraction that is wider deserves a word: more than five points hardly ever do not matter."""

SHARE = 0.5
"""Part of the base's mean above which a margin deserves a word."""

SPREADS = 3
"""Standard deviations of the base over seeds that such a margin has to exceed too: a mean may lie near 0."""


def doubts(results: Results) -> tuple[str, ...]:
    """Return what is doubtful of a study's metric and its margin, each in a sentence without its full stop."""
    plan = results.plan
    return (*_directions(plan), *dict.fromkeys(_margin(results)))


def _directions(plan: Plan) -> Iterator[str]:
    for metric in dict.fromkeys((plan.metric, *plan.tuning)):
        if sounds(metric.name) not in (None, metric.direction):
            other = "less" if metric.direction == "maximize" else "more"
            yield f"`{metric.name}` is {metric.direction}d, though its name sounds as if {other} were better"


def _margin(results: Results) -> Iterator[str]:
    plan, metric, margin = results.plan, results.plan.metric, results.plan.study.margin
    unit = metric.unit
    told = f"the margin of {_plain(unit, margin)} is"
    if not margin:
        return
    if metric.scale == "fraction" and margin > WIDE:
        yield f"{told} wide: an arm that is so much worse would still be called equivalent"
    may_be_fraction = metric.scale == "number" and sounds(metric.name) == "maximize" and not results.records
    if may_be_fraction and margin >= SHARE:
        yield f"{told} as wide as `{metric.name}` can be, if that lies between 0 and 1"
    for question in plan.questions:
        values = list(results.of(question.base).values(metric.name).values())
        yield from _beside(_base(question, results), values, metric, margin, told)


def _base(question: PlannedQuestion, results: Results) -> str:
    """Return how a sentence names the base of a question."""
    if question.base.label == BASE:
        return "the base"
    called = results.called(BASE)  # by others, whose bases are told apart by question and data set
    return f"the base `{called}` of {question.ablation.title}" if called else f"the base `{question.base.label}`"


def _beside(name: str, values: list[float], metric: Metric, margin: float, told: str) -> Iterator[str]:
    """Yield whether a margin is wide beside what the base has."""
    if len(values) < FEWEST_SEEDS:
        return
    found, unit = spread(values), metric.unit
    is_wide = margin > SHARE * abs(found.mean) and margin > SPREADS * found.sd
    mean = f"{unit.to_show([found.mean]).value(found.mean)}{unit.suffix}"
    if metric.scale == "fraction":
        errors = 1 - found.mean if metric.direction == "maximize" else found.mean
        if 0 < errors < margin:
            yield f"{told} wider than all errors of {name}, {_plain(unit, errors)}: an arm without any is equivalent"
        elif is_wide and found.mean:
            yield f"{told} wide beside {name}, whose mean is {mean}"
    elif margin > 100 * WIDE and _is_per_cent(metric, values):
        yield f"{told} wide, if `{metric.name}` is in per cent: an arm that is so much worse would still be equivalent"
    elif is_wide:
        yield f"{told} wide beside {name}, whose mean is {mean}"


def _is_per_cent(metric: Metric, values: list[float]) -> bool:
    """Return whether a metric of no declared bounds looks like a fraction in per cent, by its name and its values."""
    is_share = sounds(metric.name) is not None and not is_no_fraction(metric.name)
    return metric.scale == "number" and is_share and min(values) >= 0 and 1 < max(values) <= 100


def _plain(unit: Unit, value: float) -> str:
    return f"{unit.to_show([value]).value(value)}{unit.points}"


__all__ = ["doubts"]
