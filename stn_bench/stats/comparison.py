"""An arm minus its base, paired by seed: the difference, how sure it is, and how large beside the seeds' own spread.

With 3 to 10 seeds the bootstrap's intervals are too narrow, and signed-rank tests cannot reach 5 % below six seeds,
so the intervals and tests are Student's, of the pairs alone: an error that arms share borrows certainty from equal
spreads and equal correlations, which real ablations do not have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stn_bench.stats.values import ALPHA, FEWEST_SEEDS, ROUNDING, Direction, Values, is_number

FEWEST_FLIPS = 6
"""Pairs from which on the sign-flip test can reach 5 %: its smallest p is 2^(1 - n)."""

MOST_EXACT = 20
"""Pairs up to which all 2^n flips are counted; beyond, some are drawn."""

DRAWN_FLIPS = 9_999

BLOCKS = 9
"""Parts in which the drawn flips are summed, so that not all of them are in memory twice."""

MOST_DRAWN = 2_000
"""Pairs up to which flips are drawn: of more, Student's p needs no second opinion, and the draws would fill memory."""


@dataclass(frozen=True)
class Comparison:
    """An arm minus its base on the seeds that both have; NaN where too few seeds tell.

    Args:
        n: number of pairs.
        difference: mean of the paired differences, in units of the metric.
        low: lower end of the t-interval of the mean difference.
        high: upper end.
        p: two-sided p of the t-test that the mean difference is 0; NaN where the pairs differ all by the same and no
            resolution says how much they could have differed.
        wins: number of pairs in which the arm is the better one.
        losses: number of pairs in which it is the worse one.
        se: standard error of the mean difference; no less than the metric's resolution allows.
        df: degrees of freedom of `se`.
        sd: standard deviation of the paired differences.
        size: root mean square of the paired differences, what the arms of a family are ranked by.
        flip_p: p of the exact sign-flip test on the pairs, a second opinion from six pairs on.
        correlation: Pearson's, of the two arms over the seeds; pairing pays where it is above 0.
        level: confidence level of the interval.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    wins: int
    losses: int = 0
    se: float = math.nan
    df: float = math.nan
    sd: float = math.nan
    size: float = math.nan
    flip_p: float = math.nan
    correlation: float = math.nan
    level: float = 1 - ALPHA

    @property
    def disagrees(self) -> bool:
        """Whether the sign-flip test and the t-test fall on different sides of 5 %."""
        return not math.isnan(self.flip_p) and (self.p < ALPHA) != (self.flip_p < ALPHA)

    def equivalence_p(self, margin: float) -> float:
        """Return the larger p of the two one-sided tests against ±margin (Schuirmann 1987).

        NaN where no test can be made, as of `p`: a copy of the base is equivalent, and three equal differences without
        a known resolution are nothing.
        """
        from scipy import special

        if math.isnan(self.se) or math.isnan(self.p):
            return math.nan
        if self.se == 0:
            return 0.0 if abs(self.difference) < margin else 1.0
        return float(special.stdtr(self.df, (abs(self.difference) - margin) / self.se))


@dataclass(frozen=True)
class Ratio:
    """A ratio with its interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SeedMean:
    """A mean over n seeds with its 95 % t-interval; NaN where too few values tell.

    Its standard error is 0 where the values are all the same and no resolution says how much they could have differed:
    the interval shows what was seen, and tells nothing.
    """

    n: int
    mean: float
    low: float
    high: float
    se: float = math.nan


def compare(
    arm: Values,
    base: Values,
    direction: Direction = "maximize",
    alpha: float = ALPHA,
    resolution: float = 0.0,
) -> Comparison:
    """Return the comparison of two arms by the paired t-test, on the seeds where both have a number.

    With one pair there is no interval and no p; they are NaN. Differences that are all the same, but for rounding, of
    a metric without a known resolution have an interval no wider than rounding: it shows what was seen, and no test
    can be made.

    Args:
        arm: its values by seed.
        base: the base's.
        direction: which way the metric is better.
        alpha: 1 minus the level of the interval.
        resolution: the smallest step of the metric, 0 where there is none. The variance of the differences counts as
            half its square at least: whole numbers of errors often agree by chance.
    """
    seeds, differences = _paired(arm, base)
    sign = 1 if direction == "maximize" else -1
    wins, losses = (int(np.sum(sign * way * differences > 0)) for way in (1, -1))
    mean = math.fsum(differences) / len(seeds) if seeds else math.nan
    found = Comparison(len(seeds), mean, math.nan, math.nan, math.nan, wins, losses, level=1 - alpha)
    if not seeds:
        return found
    found = replace(found, size=root_mean_square(differences))
    if len(seeds) < 2:
        return found
    noise = _noise(arm, base, seeds)
    sd = 0.0 if np.ptp(differences) <= noise else root_mean_square(differences - mean, len(seeds) - 1)
    flip_p = sign_flip_p(differences, noise * len(seeds))
    found = replace(found, sd=sd, flip_p=flip_p, correlation=_correlation(arm, base, seeds))
    floored = max(sd, resolution / math.sqrt(2))
    if not floored:
        p, unsure = 1.0 if abs(mean) <= noise else math.nan, noise if np.ptp(differences) else 0.0
        return replace(found, low=mean - unsure, high=mean + unsure, p=p, se=0.0, df=len(seeds) - 1.0)
    return _tested(found, floored)


def _paired(arm: Values, base: Values) -> tuple[list[int], NDArray[np.float64]]:
    """Return the seeds where both have a number, sorted, and the difference on each."""
    seeds = sorted(seed for seed in arm.keys() & base.keys() if is_number(arm[seed]) and is_number(base[seed]))
    return seeds, np.array([arm[seed] - base[seed] for seed in seeds], np.float64)


def _tested(found: Comparison, sd: float) -> Comparison:
    """Return a comparison with what Student's t says of its mean and this standard deviation, above 0."""
    from scipy import special  # the functions behind scipy.stats.t, without what a call to it costs

    mean, se, df = found.difference, sd / math.sqrt(found.n), found.n - 1.0
    reach = float(special.stdtrit(df, (1 + found.level) / 2)) * se
    p = float(2 * special.stdtr(df, -abs(mean) / se))
    return replace(found, low=mean - reach, high=mean + reach, p=p, se=se, df=df)


def root_mean_square(values: NDArray[np.float64], count: int = 0) -> float:
    """Return the root of the mean of squares, of any size, in any order; over `count` values where it is given."""
    largest = float(np.abs(values).max())
    if not largest or not math.isfinite(largest):
        return largest
    return largest * math.sqrt(math.fsum((values / largest) ** 2) / (count or len(values)))


def estimate(values: Sequence[float], resolution: float = 0.0) -> SeedMean:
    """Return the mean of some values and Student's interval of it.

    Args:
        values: the values.
        resolution: the smallest step of the metric, 0 where there is none. The variance of the values counts as a
            quarter of its square at least, so that two arms' difference has the half that `compare` gives it.
    """
    nothing = dict.fromkeys(range(len(values)), 0.0)
    found = compare(dict(enumerate(values)), nothing, resolution=resolution / math.sqrt(2))
    return SeedMean(found.n, found.difference, found.low, found.high, found.se)


def _noise(arm: Values, base: Values, seeds: Sequence[int]) -> float:
    return ROUNDING * max(max(abs(arm[seed]), abs(base[seed])) for seed in seeds)


def _correlation(arm: Values, base: Values, seeds: Sequence[int]) -> float:
    ours, theirs = (np.array([values[seed] for seed in seeds]) for values in (arm, base))
    if len(seeds) < FEWEST_SEEDS or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return math.nan
    ours, theirs = ((values - values.mean()) / np.ptp(values) for values in (ours, theirs))
    product, *squares = (_product(*pair) for pair in ((ours, theirs), (ours, ours), (theirs, theirs)))
    return min(1.0, max(-1.0, product / math.sqrt(squares[0] * squares[1])))


def _product(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the inner product, the same on every processor: `@` is BLAS's, which rounds as each processor adds."""
    return math.fsum(one * other)


def sign_flip_p(differences: NDArray[np.float64], rounding: float = 0.0) -> float:
    """Return the two-sided p that the differences' signs are chance (Fisher's randomisation test).

    NaN below six pairs, and above 2,000.

    Args:
        differences: of the pairs.
        rounding: sums that differ by no more are the same. Accuracies are whole numbers of examples, so that many
            flips have the observed sum, but for rounding.
    """
    if not FEWEST_FLIPS <= len(differences) <= MOST_DRAWN:
        return math.nan
    reach = abs(math.fsum(differences)) - rounding
    if len(differences) <= MOST_EXACT:
        sums = _flipped_sums(differences)
        return float(np.count_nonzero(np.abs(sums, out=sums) >= reach) / len(sums))
    blocks = np.array_split(_drawn_signs(len(differences)), BLOCKS)  # not by `@`, as in `_product`
    flipped = np.abs(np.concatenate([(signs * differences).sum(axis=1) for signs in blocks]))
    return float((1 + np.sum(flipped >= reach)) / (1 + DRAWN_FLIPS))


@functools.lru_cache(maxsize=1)
def _drawn_signs(pairs: int) -> NDArray[np.float64]:
    """Return the flips that are drawn, `(flips, pairs)`: the same for every comparison of so many pairs."""
    return np.random.default_rng(0).choice((-1.0, 1.0), size=(DRAWN_FLIPS, pairs))


def _flipped_sums(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum under every choice of signs but the first's, which would only mirror them."""
    sums = np.empty(2 ** (len(differences) - 1))
    sums[0] = differences[0]
    for number, difference in enumerate(differences[1:]):
        known, mirrored = sums[: 2**number], sums[2**number : 2 ** (number + 1)]
        np.subtract(known, difference, out=mirrored)
        known += difference
    return sums


def hedges(comparison: Comparison) -> float:
    """Return the mean difference in standard deviations of the differences, with Hedges' factor for few pairs."""
    if comparison.n < FEWEST_SEEDS or not comparison.sd > 0:
        return math.nan
    return float(comparison.difference / comparison.sd * (1 - 3 / (4 * (comparison.n - 1) - 1)))


def superiority(wins: int, losses: int) -> tuple[float, float]:
    """Return the exact 95 % interval (Clopper-Pearson) of P(arm > base), of the pairs that differ; ties say nothing.

    NaN twice where no pair differs.
    """
    from scipy import stats

    if not wins + losses:
        return math.nan, math.nan
    interval = stats.binomtest(wins, wins + losses).proportion_ci(1 - ALPHA)
    return float(interval.low), float(interval.high)


def error_ratio(arm: Values, base: Values, alpha: float = ALPHA, resolution: float = 0.0) -> Ratio:
    """Return the arm's error rate over the base's, from accuracies by seed: the geometric mean of the paired ratios.

    Near 100 % differences in points shrink while error rates still halve. NaN where a run made no error at all. The
    interval is no surer than that of the difference: a step of the metric floors the variance of the logarithms too
    (a step over the error rate, by the delta method), and where no test can be made there is none.

    Args:
        arm: its accuracies by seed.
        base: the base's.
        alpha: 1 minus the level of the interval.
        resolution: the smallest step of the metric, 0 where there is none.
    """
    tables = [{seed: 1 - value for seed, value in values.items()} for values in (arm, base)]
    if any(error <= 0 for errors in tables for error in errors.values()):
        return Ratio(math.nan, math.nan, math.nan)
    ours, theirs = ({seed: math.log(error) for seed, error in errors.items()} for errors in tables)
    inverse = np.array([1 / error for errors in tables for error in errors.values()])
    found = compare(ours, theirs, "minimize", alpha, resolution * root_mean_square(inverse) if inverse.size else 0.0)
    if not found.se > 0 or not (resolution or _has_spread(arm, base)):
        return Ratio(math.exp(found.difference), math.nan, math.nan)
    return Ratio(math.exp(found.difference), math.exp(found.low), math.exp(found.high))


def _has_spread(arm: Values, base: Values) -> bool:
    """Return whether the differences of two or more pairs differ by more than rounding."""
    seeds, differences = _paired(arm, base)
    return bool(np.ptp(differences) > _noise(arm, base, seeds))
