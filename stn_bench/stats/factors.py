"""Factors: main effects and two-way interactions of settings whose every combination was trained, seeds as blocks.

The model is metric ~ combination + seed. An effect is a contrast of the combinations' means; its error is the
layout's, or, where one combination is unstable, that of the contrast's own values by seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_bench.stats.comparison import Method, is_unstable, residual_variance
from stn_bench.stats.values import ALPHA, FEWEST_SEEDS, ROUNDING, Values
from stn_bench.stats.verdict import holm

Levels = tuple[Any, ...]
"""One level of each factor, in the factors' order."""


@dataclass(frozen=True)
class Effect:
    """A main effect, or an interaction of two factors.

    Args:
        levels: factor -> the level whose effect it is, beside the factor's first level; two factors interact.
        value: for one factor, the mean change of the metric when it goes from its first level to this one; for two,
            how much that change differs between the other factor's level and its first.
        low: lower end of the 95 % interval.
        high: upper end.
        p: two-sided p that it is 0.
        p_adjusted: the same after Holm's correction over the effects of the question.
        method: where its error comes from.
    """

    levels: Mapping[str, Any]
    value: float
    low: float
    high: float
    p: float
    p_adjusted: float
    method: Method


def effects(factors: Mapping[str, Sequence[Any]], cells: Mapping[Levels, Values]) -> list[Effect]:
    """Return every main effect and every two-way interaction; [] with fewer than three seeds common to all cells.

    Args:
        factors: factor -> its levels, the base's first.
        cells: one level of each factor -> values by seed. Every combination must be there.
    """
    combinations = list(itertools.product(*factors.values()))
    seeds = sorted(set.intersection(*(set(cells[levels]) for levels in combinations)))
    if len(seeds) < FEWEST_SEEDS:
        return []
    table = np.array([[cells[levels][seed] for seed in seeds] for levels in combinations], np.float64)
    found = [_effect(named, _weights(named, factors), table) for named in _named(factors)]
    adjusted = holm([effect.p for effect in found])
    return [replace(effect, p_adjusted=p) for effect, p in zip(found, adjusted, strict=True)]


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


def _effect(named: Mapping[str, Any], weights: NDArray[np.float64], table: NDArray[np.float64]) -> Effect:
    from scipy import special

    combinations, seeds = table.shape
    by_seed = weights @ table
    method: Method = "paired t (spreads differ)" if is_unstable(table) else "pooled"
    if method == "pooled":
        variance, df = residual_variance(table) * math.fsum(weights**2), (combinations - 1) * (seeds - 1)
    else:
        variance, df = float(by_seed.var(ddof=1)), seeds - 1
    value, se = math.fsum(by_seed) / seeds, math.sqrt(variance / seeds)
    noise = ROUNDING * float(np.abs(table).max())
    if se <= noise:  # the cells differ by the same in every seed, but for rounding
        return Effect(dict(named), value, value, value, float(abs(value) <= noise), math.nan, method)
    reach = float(special.stdtrit(df, 1 - ALPHA / 2)) * se
    p = float(2 * special.stdtr(df, -abs(value) / se))
    return Effect(dict(named), value, value - reach, value + reach, p, math.nan, method)
