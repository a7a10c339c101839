"""Factors: main effects and two-way interactions of settings whose every combination was trained, seeds as blocks.

An effect is a contrast of the combinations, worked out seed by seed: what the combinations of one sign have beside
those of the other. So it is judged as an arm beside a base is, by the same rule, and the effects of a question are a
family.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_bench.stats.values import FEWEST_SEEDS
from stn_bench.stats.verdict import Outcomes, Question, Rules, judge_questions

Levels = tuple[Any, ...]
"""One level of each factor, in the factors' order."""


@dataclass(frozen=True)
class Effect:
    """A main effect, or an interaction of two factors.

    Args:
        levels: factor -> the level whose effect it is, beside the factor's first level; two factors interact.
        value: for one factor, the mean change of the metric when it goes from its first level to this one; for two,
            how much that change differs between the other factor's level and its first.
        low: lower end of its interval.
        high: upper end.
        level: confidence level of the interval.
        p: two-sided p of the t-test that it is 0; NaN where it is the same on each seed and no resolution is known.
        p_adjusted: the same, adjusted for the looks and for the effects of the question.
        holm_p: the same by the classic.
        n: number of seeds that all combinations have.
    """

    levels: Mapping[str, Any]
    value: float
    low: float
    high: float
    level: float
    p: float
    p_adjusted: float
    holm_p: float
    n: int


def effects(factors: Mapping[str, Sequence[Any]], cells: Mapping[Levels, Outcomes], rules: Rules) -> list[Effect]:
    """Return every main effect and every two-way interaction; [] before all cells have the seeds of the first look.

    Args:
        factors: factor -> its levels, the base's first.
        cells: one level of each factor -> its outcomes by seed. Every combination must be there.
        rules: what the study fixed.
    """
    combinations = [cells[levels].sound() for levels in itertools.product(*factors.values())]
    named = list(_named(factors))
    contrasts = [_question(_weights(one, factors), combinations) for one in named]
    judged = judge_questions(contrasts, replace(rules, family="study", margin=0.0))
    found = [(levels, one[""]) for levels, one in zip(named, judged, strict=True)]
    if any(one.lacks or one.comparison.n < FEWEST_SEEDS for _, one in found):
        return []
    return [
        Effect(
            levels=levels,
            value=one.comparison.difference,
            low=one.comparison.low,
            high=one.comparison.high,
            level=one.comparison.level,
            p=one.comparison.p,
            p_adjusted=one.p_adjusted,
            holm_p=one.holm_p,
            n=one.comparison.n,
        )
        for levels, one in found
    ]


def _named(factors: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for order in (1, 2):
        for names in itertools.combinations(factors, order):
            for levels in itertools.product(*(factors[name][1:] for name in names)):
                yield dict(zip(names, levels, strict=True))


def _weights(named: Mapping[str, Any], factors: Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
    """Return the contrast's weight of each combination: products of +1 at the level, -1 at the first, 0 elsewhere."""
    signs = [
        [1.0 if name not in named else float(level == named[name]) - float(level == levels[0]) for level in levels]
        for name, levels in factors.items()
    ]
    weights = np.array([math.prod(combination) for combination in itertools.product(*signs)])
    others = math.prod(len(levels) for name, levels in factors.items() if name not in named)
    return weights / others


def _question(weights: NDArray[np.float64], cells: Sequence[Outcomes]) -> Question:
    """Return a contrast as an arm, the combinations of positive weight, beside a base, those of negative weight.

    A seed counts once it has ended in every combination. The resolution is such that the floor of the contrast's
    variance is that of independent values, each with a variance of a quarter of its squared step.
    """
    ended = set.intersection(*(cell.values.keys() | cell.failed for cell in cells))
    common = sorted(set.intersection(*(set(cell.values) for cell in cells)))
    steps = np.array([cell.resolution for cell in cells])
    resolution = math.sqrt(float((weights**2 * steps**2).sum()) / 2)

    def side(sign: int) -> Outcomes:
        parts = [(abs(weight), cell) for weight, cell in zip(weights, cells, strict=True) if sign * weight > 0]
        values = {seed: math.fsum(weight * cell.values[seed] for weight, cell in parts) for seed in common}
        return Outcomes(values, frozenset(ended - set(common)), resolution, all(cell.is_closed for cell in cells))

    return Question(side(-1), {"": side(1)})
