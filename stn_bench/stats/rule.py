"""The rule: which arms of a family differ from their base, so that at most one family in twenty has a false one.

Every arm has its own paired t-test; nothing is pooled, so that no arm lends another the certainty that it lacks.
What many arms cost is mostly bought back by testing those first that moved most. Under normal noise an arm without
effect has a t that is independent of its sum of squared differences, so that arms may be *ranked* by that sum, and
the 5 % shared unevenly by rank: at one look the family-wise error is at most 5 %, whatever the arms' spreads and
correlations.

    Kropf and Läuter (2002), "Multiple tests for different sets of variables using a data-driven ordering of
        hypotheses, with an application to gene expression data", Biometrical Journal 44, 789-800.
    Westfall, Kropf and Finos (2004), "Weighted FWE-controlling methods in high-dimensional situations", in Recent
        Developments in Multiple Comparison Procedures, IMS Lecture Notes 47, 143-154.

For a family S of k arms:

1. An arm of rank r in S, the largest root mean square of its differences first, has the weight
   w = 0.8 · 2^(-r) / (1 - 2^(-k)) + 0.2 / k. The weights of a family add up to 1.
2. T(S) of an arm is its smallest p / w over the looks so far at which its difference has the sign that it has now.
3. Step down from S = all arms: take off the arm with the smallest T. Its adjusted p is 0.05 · T / x_s, s arms being
   left, at most 1, and never smaller than that of the arm before. x_s is the level of one look (`levels`): 5 % where
   there is one look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from stn_bench.stats.values import ALPHA

FAVOUR = 0.8
"""The part of the level that halves from rank to rank; the rest is shared evenly, so that no arm is without."""

NEARLY = 1e-9
"""Relative: sizes that differ by less share their ranks, whatever the order of the arms and the unit of the metric.

A mean difference that is smaller beside its size has no sign.
"""

Name = TypeVar("Name", bound=Hashable)


class Shown(NamedTuple):
    """An arm at one look.

    Args:
        p: two-sided p of its paired t-test on the seeds of the look.
        size: root mean square of its paired differences.
        sign: of its mean difference: 1, -1 or 0.
    """

    p: float
    size: float
    sign: int


def sign_of(difference: float, size: float) -> int:
    """Return the sign of a mean difference; one that rounding may have made is 0, whatever the unit of the metric."""
    return 0 if abs(difference) <= NEARLY * size else (difference > 0) - (difference < 0)


AWAITED = Shown(1.0, math.inf, 0)
"""An arm that is still to come ranks first: what it shows then can only make the others' p smaller."""

UNTESTABLE = Shown(1.0, -1.0, 0)
"""An arm that has too few seeds for a test ranks last."""

Looks = Sequence[Shown]
"""What an arm showed at each look so far. One that has stopped keeps its size and its sign, with a p of 1."""

Level = Callable[[int], float]
"""Number of arms without effect -> x_s."""


def adjusted(family: Mapping[Name, Looks], level: Level) -> dict[Name, float]:
    """Return the adjusted p of each arm of a family, all of which have as many looks."""
    left, found, largest = dict(family), dict.fromkeys(family, 1.0), 0.0
    while left and largest < 1:
        tested = _tested(left)
        smallest = min(tested, key=lambda name: tested[name])
        largest = max(largest, min(1.0, ALPHA * tested[smallest] / level(len(left))))
        found[smallest] = largest
        del left[smallest]
    return found


def _tested(arms: Mapping[Name, Looks]) -> dict[Name, float]:
    """Return T of each arm of a set."""
    smallest = dict.fromkeys(arms, math.inf)
    for look in zip(*arms.values(), strict=True):
        for (name, seen), one, weight in zip(arms.items(), look, weights([one.size for one in look]), strict=True):
            if one.sign == seen[-1].sign:
                smallest[name] = min(smallest[name], one.p / weight)
    return smallest


def weights(sizes: Sequence[float]) -> list[float]:
    """Return the part of the level that each arm of a set has, by the rank of its size; equal sizes share theirs."""
    count = len(sizes)
    by_rank = [FAVOUR * 2.0**-rank / (1 - 2.0**-count) + (1 - FAVOUR) / count for rank in range(1, count + 1)]
    order, found, start = sorted(range(count), key=lambda index: -sizes[index]), [0.0] * count, 0
    for end in range(1, count + 1):
        if end < count and _are_equal(sizes[order[end - 1]], sizes[order[end]]):
            continue
        for index in order[start:end]:
            found[index] = math.fsum(by_rank[start:end]) / (end - start)
        start = end
    return found


def _are_equal(larger: float, smaller: float) -> bool:
    return larger == smaller or (math.isfinite(larger) and larger - smaller <= NEARLY * larger)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's method; NaN stays NaN and does not count."""
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    found, largest = [math.nan] * len(p_values), 0.0
    for left, (p, index) in zip(range(len(known), 0, -1), known, strict=True):
        found[index] = largest = max(largest, min(1.0, left * p))
    return found


def classic(family: Mapping[Name, Looks], level: Level) -> dict[Name, float]:
    """Return the adjusted p by the classic: paired t, the looks by the level of one arm alone, Holm over the arms."""
    smallest = [min(one.p for one in looks if one.sign == looks[-1].sign) for looks in family.values()]
    return dict(zip(family, holm([min(1.0, p * ALPHA / level(1)) for p in smallest]), strict=True))
