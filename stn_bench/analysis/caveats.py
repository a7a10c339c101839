"""Caveats: what sets an arm apart from its base besides its one factor, and what makes its values doubtful. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from stn_bench.analysis.analyse import Analysis
from stn_bench.analysis.cost import Costs
from stn_bench.analysis.verdicts import budget_reason, factor_reason
from stn_bench.stats import FEWEST_SEEDS, Values, spread
from stn_bench.study.plan import COSTLIER, PlannedQuestion
from stn_bench.study.spec import BASE
from stn_bench.subject import Metric
from stn_bench.system.format import in_short, relative
from stn_bench.tracking.results import ArmResults

ERRORS = 2
"""Standard errors, of a share of the test examples, within which an arm is no better than a guess."""

NEARLY = 1e-12
"""Relative to the values: differences that differ by less are the same."""


class Change(NamedTuple):
    """A setting that differs: what it is in the base, and in the arm."""

    was: Any
    now: Any


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Change]:
    """Return every setting that differs between an arm's resolved settings and its base's, by dotted path."""
    return {path: Change(theirs[path], value) for path, value in ours.items() if value != theirs[path]}


def caveats(question: PlannedQuestion, name: str, costs: Mapping[str, Costs]) -> tuple[str, ...]:
    """Return what a reader should know of an arm beside its base, each in a sentence without its full stop.

    Args:
        question: the question.
        name: the arm's name in it; "base" for the base itself.
        costs: what each arm of the question costs, by name.
    """
    arm, base = question.arms[name], question.base
    told = arm.subject.caveats
    if name == BASE:
        return tuple(told(base.config, None)) if told else ()
    special = told(arm.config, base.config) if told else ()
    return (*_factors(question, name), *_idle(question, name), *special, *_dearer(costs[name], costs[BASE]))


def _factors(question: PlannedQuestion, name: str) -> Iterator[str]:
    written, moved = question.written(name), question.moved(name)
    if reason := factor_reason(question, name):
        yield f"moves {reason}; without a reason in `together` that makes its verdict invalid"
    elif written.together and len(moved) > 1:
        yield f"moves {len(moved)} settings as one factor: {written.together}"
    if reason := budget_reason(question.arms[name], question.base):
        yield f"{reason}; that makes its verdict invalid"


def _idle(question: PlannedQuestion, name: str) -> Iterator[str]:
    """Yield the settings of an arm's own that nothing reads."""
    arm, written = question.arms[name], question.written(name)
    for path in (*question.moved(name), *(path for path in arm.space if path not in written.set)):
        if path in arm.idle:
            meant = f"; meant so: {written.no_effect}" if written.no_effect else ""
            yield f"`{path}` has no effect here: {arm.idle[path]}{meant}"


def _dearer(ours: Costs, theirs: Costs) -> Iterator[str]:
    for what, one, other, text in (
        ("parameters", ours.parameters, theirs.parameters, in_short),
        ("FLOPs", ours.flops, theirs.flops, in_short),
        ("CPU time a step", ours.cpu_step_ms, theirs.cpu_step_ms, step_time),
    ):
        if one and other and abs(one - other) > COSTLIER * other:
            yield f"{what} {relative(one / other)}: {text(one)} against {text(other)}"


def suspicions(question: PlannedQuestion, name: str, analysis: Analysis) -> tuple[str, ...]:
    """Return what in an arm's values looks as if nothing had been measured, each in a sentence without its full stop.

    Args:
        question: the question.
        name: the arm's name in it; "base" for the base itself.
        analysis: what the study's results say. Of an arm that is worse the verdict says the most already.
    """
    results, metric = analysis.results, analysis.plan.metric
    arm = results.of(question.arms[name])
    ours, theirs = arm.values(metric.name), results.of(question.base).values(metric.name)
    verdict = analysis.verdicts[question.ablation.name].get(name)
    shift = _one_shift(ours, theirs) if name != BASE else None
    told = []
    if shift:
        by = f"{metric.unit.to_show([], [shift]).signed(shift)}{metric.unit.points}"
        told.append(f"differs by {by} on each seed alike, so that no spread tells how sure this is")
    if verdict and verdict.word == "worse":
        return tuple(told)
    if shift == 0:
        both = len(ours.keys() & theirs.keys())
        told.append(f"equals the base on each of {both} seeds; perhaps training does not use what it sets")
    if len(ours) >= FEWEST_SEEDS and len(set(ours.values())) == 1:
        value = _plain_value(metric, next(iter(ours.values())))
        told.append(f"has one value on all {len(ours)} seeds, {value}; perhaps training does not use the seed")
    if chance := _chance(arm, metric):
        mean = spread(list(ours.values())).mean
        if ours and mean <= chance:
            told.append(f"is right no more often than by chance, 1 in {round(1 / chance)}")
    elif told_of_class := _hardly_better(arm, ours, metric):
        told.append(told_of_class)
    return tuple(told)


def _one_shift(ours: Values, theirs: Values) -> float | None:
    """Return by how much an arm differs from its base if it is the same on each seed, but for rounding; else None."""
    both = sorted(ours.keys() & theirs.keys())
    if len(both) < FEWEST_SEEDS:
        return None
    if all(ours[seed] == theirs[seed] for seed in both):
        return 0.0
    shifts = [ours[seed] - theirs[seed] for seed in both]
    largest = max(max(abs(ours[seed]), abs(theirs[seed])) for seed in both)
    return shifts[0] if max(shifts) - min(shifts) <= NEARLY * largest else None


def _chance(arm: ArmResults, metric: Metric) -> float | None:
    """Return how often guessing is right, where the metric is a fraction of right answers and classes are known."""
    describe = arm.arm.subject.describe
    if not describe or metric.scale != "fraction" or not metric.name.endswith("accuracy"):
        return None
    note = describe(arm.arm.settings)
    return 1 / note.classes if note and note.classes > 1 else None


def _hardly_better(arm: ArmResults, ours: Values, metric: Metric) -> str:
    """Return that an arm is hardly better than the most frequent answer alone, where it is and the metric tells."""
    often = metric.chance(arm.arm.config) if metric.chance and ours else None
    if often is None:
        return ""
    count = metric.examples(arm.arm.config)
    error = math.sqrt(often * (1 - often) / count) if count else 0.0
    if spread(list(ours.values())).mean > often + ERRORS * error:
        return ""
    value = _plain_value(metric, often)
    return f"is hardly better than always saying the most frequent class of the test, {value}"


def _plain_value(metric: Metric, value: float) -> str:
    return f"{metric.unit.to_show([value]).value(value)}{metric.unit.suffix}"


def step_time(milliseconds: float) -> str:
    """Return the time of a training step, such as "3.1 ms"."""
    return f"{milliseconds:.1f} ms"


def in_words(changes: Mapping[str, Change]) -> list[str]:
    """Return each changed setting as "`path` was → is"."""
    return [f"{path} {_plain(change.was)} → {_plain(change.now)}" for path, change in changes.items()]


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:zg}".replace("-", "−") if isinstance(value, float) else str(value)


__all__ = ["Change", "caveats", "difference", "in_words", "step_time", "suspicions"]
