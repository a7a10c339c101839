"""The power of a number of seeds, before and after training."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from stn_bench.stats.comparison import FEWEST_POOLED, Comparison
from stn_bench.stats.values import ALPHA

POWER = 0.8
PRECISION = 1e-7  # of an effect, in standard errors
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Design:
    """The design of a question.

    Args:
        seeds: number of seeds that all arms are trained on.
        arms: number of arms beside the base.
        looks: number of looks at the growing data.
        tests: number of comparisons that Holm's correction counts; the arms, unless the family is wider.
    """

    seeds: int
    arms: int
    looks: int = 1
    tests: int = 0

    @property
    def alpha(self) -> float:
        """The level that the first arm of Holm's order must reach."""
        return ALPHA / (self.looks * max(self.tests or self.arms, 1))

    @property
    def df(self) -> int:
        """Degrees of freedom of the error: of the pooled layout where it is used, else of the pairs."""
        pooled = self.arms + 1 >= FEWEST_POOLED
        return (self.arms if pooled else 1) * (self.seeds - 1)


def detectable(design: Design, sd: float, correlation: float = 0.0) -> float:
    """Return the smallest true difference that a design finds with 80 % power, in units of `sd`'s metric.

    Args:
        design: how the question is asked.
        sd: standard deviation of an arm over seeds.
        correlation: of two arms over the seeds.
    """
    if design.seeds < 2 or math.isnan(sd):
        return math.nan
    low, high = 0.0, 1.0
    while power(high, design.df, design.alpha) < POWER:
        low, high = high, 2 * high
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, design.df, design.alpha) < POWER else (low, middle)
    return high * sd * math.sqrt(2 * (1 - correlation) / design.seeds)


def power(effect: float, df: float, alpha: float = ALPHA) -> float:
    """Return the chance that a two-sided t-test finds an effect, in standard errors of the mean difference."""
    from scipy import special  # the functions behind scipy.stats.nct, without the second that it takes to load

    limit = special.stdtrit(df, 1 - alpha / 2)
    other_side = float(special.nctdtr(df, effect, -limit))  # NaN where it is too small to be told
    return float(1 - special.nctdtr(df, effect, limit)) + (0.0 if math.isnan(other_side) else other_side)


def more_seeds(comparison: Comparison, margin: float, alpha: float = ALPHA, share: float = 1.0) -> int | None:
    """Return about how many more seeds would decide a comparison with 80 % power, if it goes on as it began.

    An arm is decided if a difference is found, or shown to lie within the margin, whichever needs fewer seeds. The
    observed difference and spread stand for the true ones, so this is a guess, a rough one below five seeds. None:
    over a thousand.

    Args:
        comparison: what was seen so far.
        margin: smaller differences count as equivalent.
        alpha: 1 minus the level of the interval.
        share: the part of `alpha` that the correction over the arms leaves to a difference.
    """
    from scipy import special, stats

    if comparison.n < 2 or not comparison.se > 0:
        return None
    sd, seen = comparison.se * math.sqrt(comparison.n), abs(comparison.difference)

    def are_enough(count: int) -> bool:
        se, df = sd / math.sqrt(count), count - 1
        limit, reach = special.stdtrit(df, [1 - share * alpha / 2, 1 - alpha / 2])
        found = stats.nct.sf(limit, df, seen / se) >= POWER
        within = (margin - seen) / se - reach >= special.stdtrit(df, (1 + POWER) / 2)
        return bool(found or within)

    # More seeds are never worse, so that halving finds the first number that is enough.
    counts = range(comparison.n + 1, MOST_SEEDS + 1)
    index = bisect_left(counts, True, key=are_enough)
    return index + 1 if index < len(counts) else None
