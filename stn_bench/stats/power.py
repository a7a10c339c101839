"""The power of a number of seeds, before and after training."""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from stn_bench.stats.comparison import Comparison
from stn_bench.stats.levels import Levels, by_rank, level, over_looks
from stn_bench.stats.values import ALPHA

POWER = 0.8
PRECISION = 1e-3  # of an effect, in standard deviations of a paired difference
MOST_SEEDS = 1000
STUDIES = 4_000  # simulated, to tell the power of a design: a standard error of 0.6 points at 80 %
MOST_SIMULATED = 32  # arms; of more, the weights of the first ranks are the same to a part in a hundred, and take long
SEED = 20_261_126


class Observed(NamedTuple):
    """What an arm showed: the mean and the standard deviation of its differences to the base."""

    difference: float
    sd: float


@dataclass(frozen=True)
class Design:
    """The design of a question.

    Args:
        looks: numbers of seeds at which all arms are looked at.
        arms: number of arms beside the base.
        tests: number of comparisons in the family; the arms, unless it is wider.
        correction: "ranked", the rule; "holm", the classic.
        levels: the levels of these looks, where they were calibrated.
    """

    looks: tuple[int, ...]
    arms: int
    tests: int = 0
    correction: Literal["ranked", "holm"] = "ranked"
    levels: Levels = field(default_factory=dict, hash=False)

    @property
    def seeds(self) -> int:
        """Number of seeds at the last look."""
        return self.looks[-1]

    @property
    def family(self) -> int:
        """Number of comparisons in the family."""
        return max(self.tests or self.arms, 1)


def detectable(design: Design, sd: float, correlation: float = 0.0, at: int = 0) -> float:
    """Return the smallest true difference that a design finds with 80 % power, in units of `sd`'s metric.

    One arm has the effect, all arms the same spread. The power is that of simulated studies, the same for each effect.

    Args:
        design: how the question is asked.
        sd: standard deviation of an arm over seeds.
        correlation: of two arms over the seeds.
        at: number of looks after which it must be found; all of them unless told.
    """
    if design.looks[0] < 2 or math.isnan(sd):
        return math.nan
    return smallest_effect(design, at or len(design.looks)) * sd * math.sqrt(2 * (1 - correlation))


@functools.lru_cache(maxsize=64)
def smallest_effect(design: Design, looks: int) -> float:
    """Return the effect that is found with 80 % power by so many looks, in standard deviations of a difference."""
    low, high = 0.0, 1.0
    while power(design, high, looks) < POWER:
        low, high = high, 2 * high
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (middle, high) if power(design, middle, looks) < POWER else (low, middle)
    return high


def power(design: Design, effect: float, looks: int) -> float:
    """Return the share of simulated studies that find the one arm with an effect by some look, on its own side."""
    family = min(design.family, MOST_SIMULATED)
    used = design.looks[:looks]
    differences = _noise(family, used[-1]).copy()
    differences[:, 0] += effect
    sides = np.stack([differences[:, 0, :count].mean(axis=1) > 0 for count in used], axis=-1)
    if design.correction == "ranked":
        found = over_looks(differences, used)[:, 0] <= level(design.looks, design.family, design.levels)
    else:
        limit = level(design.looks, 1, design.levels) / design.family
        found = over_looks(differences[:, :1], used)[:, 0] <= limit
    return float(np.mean((found & sides).any(axis=-1)))


@functools.lru_cache(maxsize=4)
def _noise(arms: int, seeds: int) -> np.ndarray:
    """Return paired differences with a standard deviation of 1, `(studies, arms, seeds)`, of a base that all share."""
    rng = np.random.default_rng([SEED, arms, seeds])
    return (rng.normal(size=(STUDIES, arms, seeds)) - rng.normal(size=(STUDIES, 1, seeds))) / math.sqrt(2)


def more_seeds(
    comparison: Comparison,
    margin: float,
    alpha: float = ALPHA,
    equivalence_alpha: float = ALPHA / 2,
    beside: Sequence[Observed] = (),
) -> int | None:
    """Return roughly how many more seeds would decide a comparison with 80 % power, if it goes on as it began.

    An arm is decided if a difference is found, or shown to lie within the margin, whichever needs fewer seeds. So many
    seeds do so in 80 of 100 studies whose true differences and spreads are those observed. The true ones are others,
    so this is a rough guess, the rougher the fewer seeds it rests on. None: over a thousand.

    Args:
        comparison: what was seen so far.
        margin: smaller differences count as equivalent.
        alpha: two-sided level at which a difference is found.
        equivalence_alpha: one-sided level at which equivalence is.
        beside: what other arms showed, that share `alpha` with this one by their ranks; (): it has all of it.
    """
    from scipy import special, stats

    if comparison.n < 2 or not comparison.se > 0:
        return None
    seen = Observed(abs(comparison.difference), comparison.se * math.sqrt(comparison.n))
    # Each place has its own fixed draws, so that neither the arms' order nor the sign of the metric may choose them:
    # the arms stand as the rule ranks them, those first that moved most.
    sides = [Observed(abs(one.difference), one.sd) for one in beside]
    beside = sorted(sides, key=lambda one: (math.hypot(*one), one), reverse=True)
    if len(beside) >= MOST_SIMULATED:  # the rank of today, in place of those to come
        rank = sum(math.hypot(*one) > math.hypot(*seen) for one in beside)
        alpha, beside = alpha * float(by_rank(1 + len(beside))[rank]), ()

    def are_enough(count: int) -> bool:
        se, df = seen.sd / math.sqrt(count), count - 1
        limit, reach = special.stdtrit(df, [1 - alpha / 2, 1 - equivalence_alpha])
        found = _share_found(count, alpha, seen, beside) if beside else stats.nct.sf(limit, df, seen.difference / se)
        within = (margin - seen.difference) / se - reach >= special.stdtrit(df, (1 + POWER) / 2)
        return bool(found >= POWER or within)

    # More seeds are never worse, so that halving finds the first number that is enough.
    counts = range(comparison.n + 1, MOST_SEEDS + 1)
    index = bisect_left(counts, True, key=are_enough)
    return index + 1 if index < len(counts) else None


def _share_found(count: int, alpha: float, seen: Observed, beside: Sequence[Observed]) -> float:
    """Return the share of simulated studies of so many seeds in which an arm passes by the weight of its rank."""
    from scipy import special

    mean, variance = _drawn(count, (seen, *beside))
    ranks = (mean**2 + variance * (count - 1) / count).argsort(axis=1)[:, ::-1].argmin(axis=1)
    limits = special.stdtrit(count - 1, 1 - alpha * by_rank(1 + len(beside)) / 2)
    return float(np.mean(mean[:, 0] >= limits[ranks] * np.sqrt(variance[:, 0] / count)))


def _drawn(count: int, arms: Sequence[Observed]) -> tuple[np.ndarray, np.ndarray]:
    """Return means and variances of differences, `(studies, arms)`: the same draws for every number of seeds.

    The chi-square is Wilson and Hilferty's (1931), so that what more seeds bring is smooth.
    """
    df, (normal, other) = count - 1, _normal(len(arms))
    root = np.maximum(1 - 2 / (9 * df) + other * math.sqrt(2 / (9 * df)), 0)
    chi_square = root * root * root  # numpy's cube rounds by the processor
    true, sd = np.array(arms).T
    return true + sd / math.sqrt(count) * normal, sd**2 * chi_square


@functools.lru_cache(maxsize=4)
def _normal(arms: int) -> np.ndarray:
    return np.random.default_rng([SEED, arms]).normal(size=(2, STUDIES, arms))
