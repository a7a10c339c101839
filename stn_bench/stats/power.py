"""What a number of seeds can show, before they are trained and after."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stn_bench.stats.comparison import FEWEST_POOLED, Comparison
from stn_bench.stats.values import ALPHA

POWER = 0.8
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Design:
    """How a question will be asked.

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
    from scipy import optimize

    if design.seeds < 2 or math.isnan(sd):
        return math.nan
    se = sd * math.sqrt(2 * (1 - correlation) / design.seeds)

    def lacking(effect: float) -> float:
        return power(effect, design.df, design.alpha) - POWER

    high = 1.0
    while lacking(high) < 0:
        high *= 2
    return se * float(optimize.brentq(lacking, 0.0, high, xtol=1e-6))


def power(effect: float, df: float, alpha: float = ALPHA) -> float:
    """Return the chance that a two-sided t-test finds an effect, in standard errors of the mean difference."""
    from scipy import stats

    limit = stats.t.ppf(1 - alpha / 2, df)
    return float(stats.nct.sf(limit, df, effect) + stats.nct.cdf(-limit, df, effect))


def more_seeds(comparison: Comparison, margin: float, alpha: float = ALPHA) -> int | None:
    """Return about how many more seeds would decide a comparison with 80 % power, if it goes on as it began.

    Decided is a difference found, or shown to lie within the margin, whichever needs fewer. The observed difference
    and spread stand for the true ones, so that this is a guess, and a rough one below five seeds. None: over a thousand.
    """
    from scipy import stats

    if comparison.n < 2 or not comparison.se > 0:
        return None
    sd, seen = comparison.se * math.sqrt(comparison.n), abs(comparison.difference)
    counts = np.arange(comparison.n + 1, MOST_SEEDS + 1)
    se, df = sd / np.sqrt(counts), counts - 1
    limit = stats.t.ppf(1 - alpha / 2, df)
    found = stats.nct.sf(limit, df, seen / se) >= POWER
    within = (margin - seen) / se - limit >= stats.t.ppf((1 + POWER) / 2, df)
    enough = counts[found | within]
    return int(enough[0]) - comparison.n if enough.size else None
