"""An arm minus its base, paired by seed: the difference, how sure it is, and how large beside the seeds' own spread.

With 3 to 10 seeds the bootstrap's intervals are too narrow, and signed-rank tests cannot reach 5 % below six seeds, so
the intervals and tests are Student's. Where four arms or more were trained on the same seeds and spread alike, they
share one estimate of the error, which has more degrees of freedom than two arms alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stn_bench.stats.values import ALPHA, FEWEST_SEEDS, ROUNDING, Direction, Values

Method = Literal["paired t", "pooled", "paired t (spreads differ)"]

FEWEST_POOLED = 4
"""Arms, the base among them, from which on the error is estimated from all of them together."""

UNSTABLE = 2.0
"""An arm whose residuals spread over twice as much as the median arm's forbids pooling: the others would lend it
certainty that it has not."""

FEWEST_FLIPS = 6
"""Pairs from which on the sign-flip test can reach 5 %: its smallest p is 2^(1 - n)."""

NEARLY = 1e-9
"""Tolerance for rounding in a spread: exactly twice as much is not over twice, in any order of the arms."""

MOST_EXACT = 20
"""Pairs up to which all 2^n flips are counted; beyond, some are drawn."""

DRAWN_FLIPS = 9_999

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
        p: two-sided p of the t-test that the mean difference is 0.
        wins: number of pairs in which the arm is the better one.
        losses: number of pairs in which it is the worse one.
        se: standard error of the mean difference.
        df: degrees of freedom of `se`.
        sd: standard deviation of the paired differences.
        method: where `se` comes from: the pairs alone, or the layout of all arms and seeds.
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
    method: Method = "paired t"
    flip_p: float = math.nan
    correlation: float = math.nan
    level: float = 1 - ALPHA

    @property
    def disagrees(self) -> bool:
        """Whether the sign-flip test and the t-test fall on different sides of 5 %."""
        return not math.isnan(self.flip_p) and (self.p < ALPHA) != (self.flip_p < ALPHA)

    def equivalence_p(self, margin: float) -> float:
        """Return the larger p of the two one-sided tests against ±margin (Schuirmann 1987)."""
        from scipy import special

        if math.isnan(self.se):
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
    """A mean over n seeds with its 95 % t-interval; NaN where too few values tell."""

    n: int
    mean: float
    low: float
    high: float


def compare(arm: Values, base: Values, direction: Direction = "maximize", alpha: float = ALPHA) -> Comparison:
    """Return the comparison of two arms by the paired t-test.

    With one pair there is no interval and no p; they are NaN. Differences that are all the same, but for rounding,
    have an interval of no width.

    Args:
        arm: its values by seed.
        base: the base's.
        direction: which way the metric is better.
        alpha: 1 minus the level of the interval.
    """
    seeds = sorted(arm.keys() & base.keys())
    differences = np.array([arm[seed] - base[seed] for seed in seeds], np.float64)
    sign = 1 if direction == "maximize" else -1
    wins, losses = (int(np.sum(sign * way * differences > 0)) for way in (1, -1))
    mean = math.fsum(differences) / len(seeds) if seeds else math.nan
    found = Comparison(len(seeds), mean, math.nan, math.nan, math.nan, wins, losses, level=1 - alpha)
    if len(seeds) < 2:
        return found
    noise = _noise(arm, base, seeds)
    sd = 0.0 if np.ptp(differences) <= noise else float(differences.std(ddof=1))
    flip_p = sign_flip_p(differences, noise * len(seeds))
    found = replace(found, sd=sd, flip_p=flip_p, correlation=_correlation(arm, base, seeds))
    return _with_error(found, sd / math.sqrt(len(seeds)), len(seeds) - 1, "paired t")


def estimate(values: Sequence[float]) -> SeedMean:
    """Return the mean of some values and Student's interval of it."""
    found = compare(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    return SeedMean(found.n, found.difference, found.low, found.high)


def compare_arms(
    arms: Sequence[Values], base: Values, direction: Direction = "maximize", alpha: float = ALPHA
) -> list[Comparison]:
    """Return the comparison of each arm with the base: by the pooled layout where it holds, else by the paired t-test.

    The pooled layout holds the arms that have all the base's seeds. The model is metric ~ arm + seed, least squares;
    its residual variance has (arms - 1)(seeds - 1) degrees of freedom.
    """
    paired = [compare(arm, base, direction, alpha) for arm in arms]
    pooled = [index for index, arm in enumerate(arms) if base.keys() <= arm.keys()]
    if len(pooled) + 1 < FEWEST_POOLED or len(base) < FEWEST_SEEDS:
        return paired
    seeds = sorted(base)
    table = np.array([[values[seed] for seed in seeds] for values in (base, *(arms[index] for index in pooled))])
    if is_unstable(table):
        return [replace(c, method="paired t (spreads differ)") if i in pooled else c for i, c in enumerate(paired)]
    se, df = math.sqrt(2 * residual_variance(table) / len(seeds)), (len(table) - 1) * (len(seeds) - 1)
    return [_with_error(c, se, df, "pooled") if i in pooled else c for i, c in enumerate(paired)]


def residuals(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what arm and seed leave of the values, `(arms, seeds)`: the residuals of the additive layout."""
    return np.asarray(table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean())


def residual_variance(table: NDArray[np.float64]) -> float:
    """Return the pooled error variance of the additive layout, `(arms, seeds)`."""
    arms, seeds = table.shape
    squares: list[float] = (residuals(table) ** 2).ravel().tolist()
    return float(math.fsum(squares) / ((arms - 1) * (seeds - 1)))


def is_unstable(table: NDArray[np.float64]) -> bool:
    """Whether one arm's residuals spread over twice as much as the median arm's, `(arms, seeds)`."""
    spreads = np.sqrt((residuals(table) ** 2).sum(axis=1))
    return bool(spreads.max() > UNSTABLE * np.median(spreads) * (1 + NEARLY))


def _with_error(found: Comparison, se: float, df: float, method: Method) -> Comparison:
    """Return a comparison with the interval and the p that a standard error gives it."""
    from scipy import special  # the functions behind scipy.stats.t, without what a call to it costs

    noise = ROUNDING * max(1.0, abs(found.difference))
    if se <= noise:
        p = 0.0 if abs(found.difference) > noise else 1.0
        return replace(found, low=found.difference, high=found.difference, p=p, se=0.0, df=float(df), method=method)
    reach = float(special.stdtrit(df, (1 + found.level) / 2)) * se
    return replace(
        found,
        low=found.difference - reach,
        high=found.difference + reach,
        p=float(2 * special.stdtr(df, -abs(found.difference) / se)),
        se=se,
        df=float(df),
        method=method,
    )


def _noise(arm: Values, base: Values, seeds: Sequence[int]) -> float:
    return ROUNDING * max(max(abs(arm[seed]), abs(base[seed])) for seed in seeds)


def _correlation(arm: Values, base: Values, seeds: Sequence[int]) -> float:
    ours, theirs = (np.array([values[seed] for seed in seeds]) for values in (arm, base))
    if len(seeds) < FEWEST_SEEDS or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return math.nan
    ours, theirs = ((values - values.mean()) / np.ptp(values) for values in (ours, theirs))
    return float(np.clip(ours @ theirs / math.sqrt((ours @ ours) * (theirs @ theirs)), -1, 1))


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
        return float(np.mean(np.abs(_flipped_sums(differences)) >= reach))
    flipped = np.abs(_drawn_signs(len(differences)) @ differences)
    return float((1 + np.sum(flipped >= reach)) / (1 + DRAWN_FLIPS))


@functools.lru_cache(maxsize=1)
def _drawn_signs(pairs: int) -> NDArray[np.float64]:
    """Return the flips that are drawn, `(flips, pairs)`: the same for every comparison of so many pairs."""
    return np.random.default_rng(0).choice((-1.0, 1.0), size=(DRAWN_FLIPS, pairs))


def _flipped_sums(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum under every choice of signs but the first's, which would only mirror them."""
    sums = differences[:1]
    for difference in differences[1:]:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


def hedges(comparison: Comparison) -> float:
    """Return the mean difference in standard deviations of the differences, with Hedges' factor for few pairs."""
    if comparison.n < FEWEST_SEEDS or not comparison.sd > 0:
        return math.nan
    return float(comparison.difference / comparison.sd * (1 - 3 / (4 * (comparison.n - 1) - 1)))


def superiority_bound(wins: int, n: int) -> float:
    """Return the exact 95 % bound of P(arm > base): at least this where it wins half or more, else at most this."""
    from scipy import stats

    if not n:
        return math.nan
    more = 2 * wins >= n
    interval = stats.binomtest(wins, n, alternative="greater" if more else "less").proportion_ci(1 - ALPHA)
    return float(interval.low if more else interval.high)


def error_ratios(arms: Sequence[Values], base: Values, alpha: float = ALPHA) -> list[Ratio]:
    """Return each arm's error rate over the base's, from accuracies by seed: the geometric mean of the paired ratios.

    Near 100 % differences in points shrink while error rates still halve. NaN where a run made no error at all.
    """
    tables = [{seed: 1 - value for seed, value in values.items()} for values in (*arms, base)]
    if any(error <= 0 for errors in tables for error in errors.values()):
        sound = [all(error > 0 for error in errors.values()) for errors in tables]
        tables = [errors if ok else {} for errors, ok in zip(tables, sound, strict=True)]
    logs = [{seed: math.log(error) for seed, error in errors.items()} for errors in tables]
    found = compare_arms(logs[:-1], logs[-1], "minimize", alpha)
    return [Ratio(math.exp(c.difference), math.exp(c.low), math.exp(c.high)) for c in found]
