"""Comparing an arm with its base over few seeds, paired by seed. Pure numbers in, frozen values out.

The unit is the seed. The interval and the test are Student's on the paired differences: with 3 to 10 seeds the
bootstrap's intervals are too narrow, and signed-rank tests cannot reach 5 % below six seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["better", "worse", "equivalent", "undecided", "unreplicated", "invalid"]
Direction = Literal["maximize", "minimize"]
ALPHA = 0.05
FEWEST_SEEDS = 3
ROUNDING = 1e-14  # relative to the values: differences that differ by less are the same


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (NaN below two values) of n values."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds with its 95 % t-interval; NaN where too few values tell."""

    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """An arm minus its base on the seeds that both have.

    Args:
        n: number of pairs.
        difference: mean of the paired differences, in units of the metric.
        low: lower end of the 95 % t-interval of the mean difference.
        high: upper end.
        p: two-sided p of the paired t-test that the mean difference is 0.
        wins: number of pairs in which the arm is the better one.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    wins: int


def spread(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of some values."""
    array = np.asarray(values, np.float64)
    mean = float(array.mean()) if array.size else math.nan
    return Spread(array.size, mean, float(array.std(ddof=1)) if array.size > 1 else math.nan)


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of some values and Student's interval of it."""
    zeros = dict.fromkeys(range(len(values)), 0.0)
    against_zero = compare(dict(enumerate(values)), zeros)
    return Estimate(against_zero.n, against_zero.difference, against_zero.low, against_zero.high)


def known(value: float) -> float | None:
    """Return a value, or None in place of NaN."""
    return None if math.isnan(value) else value


def known_interval(low: float, high: float) -> tuple[float, float] | None:
    """Return an interval, or None in place of one that is not known."""
    return None if math.isnan(low) else (low, high)


def published_p(right: int, base_right: int, pictures: int) -> float:
    """Return Fisher's exact two-sided p that two counts of pictures read correctly differ by the pictures' luck.

    Whoever publishes one run each leaves no more than this to test; that both read the same pictures, and that another
    seed would read others, is not in it.
    """
    from scipy import stats

    table = [[right, pictures - right], [base_right, pictures - base_right]]
    return float(stats.fisher_exact(table).pvalue)


def compare(arm: Mapping[int, float], base: Mapping[int, float], direction: Direction = "maximize") -> Comparison:
    """Return the paired comparison of two arms, seed -> value of the metric.

    With one pair there is no interval and no p; they are NaN. Differences that are all the same, but for rounding,
    have an interval of no width.
    """
    from scipy import stats

    seeds = sorted(arm.keys() & base.keys())
    differences = np.array([arm[seed] - base[seed] for seed in seeds], np.float64)
    sign = 1 if direction == "maximize" else -1
    wins = int(np.sum(sign * differences > 0))
    mean = float(differences.mean()) if seeds else math.nan
    if len(seeds) < 2:
        return Comparison(len(seeds), mean, math.nan, math.nan, math.nan, wins)
    noise = ROUNDING * max(max(abs(arm[seed]), abs(base[seed])) for seed in seeds)
    if np.ptp(differences) <= noise:
        return Comparison(len(seeds), mean, mean, mean, 0.0 if abs(mean) > noise else 1.0, wins)
    test = stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(1 - ALPHA)
    return Comparison(len(seeds), mean, float(interval.low), float(interval.high), float(test.pvalue), wins)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's method; NaN stays NaN and does not count."""
    from statsmodels.stats.multitest import multipletests

    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = [math.nan] * len(p_values)
    if known:
        for index, p in zip(known, multipletests([p_values[i] for i in known], method="holm")[1], strict=True):
            adjusted[index] = float(p)
    return adjusted


def judge(comparison: Comparison, p_adjusted: float, *, margin: float, direction: Direction) -> Verdict:
    """Return the verdict on an arm whose runs are all sound.

    Args:
        comparison: the arm against its base.
        p_adjusted: its p, adjusted for the arms of the same question.
        margin: differences smaller than this count as equivalent.
        direction: which way the metric is better.
    """
    if comparison.n < FEWEST_SEEDS:
        return "unreplicated"
    if -margin < comparison.low and comparison.high < margin:
        return "equivalent"
    if p_adjusted < ALPHA and not comparison.low <= 0 <= comparison.high:
        return "better" if (comparison.difference > 0) == (direction == "maximize") else "worse"
    return "undecided"
