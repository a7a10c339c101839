from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from stn_bench.stats import Design, compare, compare_arms, detectable, more_seeds
from stn_bench.stats.power import power

ALONE = {3: 3.27, 4: 2.13, 5: 1.68, 6: 1.43, 7: 1.28, 8: 1.16, 10: 1.00}
AMONG_SEVEN = {3: 8.64, 4: 4.16, 5: 2.88, 6: 2.28, 7: 1.93, 8: 1.69, 10: 1.40}


def paired(n: int, d: float) -> dict[int, float]:
    """Return n differences with a mean of `d` and a standard deviation of 1."""
    raw = np.random.default_rng(n).normal(size=n)
    return dict(enumerate(((raw - raw.mean()) / raw.std(ddof=1) + d).tolist()))


def zeros(n: int) -> dict[int, float]:
    return dict.fromkeys(range(n), 0.0)


def share_found(n: int, d: float, alpha: float = 0.05, studies: int = 2000) -> float:
    """Return how often a paired t-test at level alpha finds a difference of d standard deviations."""
    drawn = np.random.default_rng([n, 7]).normal(d, 1, (studies, n))
    return float(np.mean([compare(dict(enumerate(row)), zeros(n)).p < alpha for row in drawn.tolist()]))


@pytest.mark.parametrize(("n", "effect"), ALONE.items())
def test_what_a_number_of_seeds_can_show(n: int, effect: float) -> None:
    """In standard deviations of the paired difference, which at a correlation of a half are those of an arm."""
    assert detectable(Design(n, 1), sd=1.0, correlation=0.5) == pytest.approx(effect, abs=0.02)


@pytest.mark.parametrize(("n", "effect"), AMONG_SEVEN.items())
def test_what_it_can_show_as_one_of_seven_comparisons(n: int, effect: float) -> None:
    assert detectable(Design(n, 1, tests=7), sd=1.0, correlation=0.5) == pytest.approx(effect, rel=0.03)


@pytest.mark.parametrize(("n", "looks"), [(3, 1), (5, 1), (5, 3), (10, 3)])  # its search fails for 3 seeds, 3 looks
def test_detectable_agrees_with_statsmodels(n: int, looks: int) -> None:
    theirs = TTestPower().solve_power(nobs=n, power=0.8, alpha=0.05 / looks)
    assert detectable(Design(n, 1, looks), sd=1.0, correlation=0.5) == pytest.approx(theirs, rel=1e-3)


def test_seeds_that_go_together_show_more() -> None:
    """The paired difference's standard deviation is sqrt(2 (1 - correlation)) times an arm's."""
    apart, together = (detectable(Design(5, 1), 0.01, correlation) for correlation in (0.0, 0.75))
    assert apart == pytest.approx(2 * together)


def test_detectable_is_found_in_80_of_100_simulated_studies() -> None:
    n = 6
    effect = detectable(Design(n, 1), sd=1.0, correlation=0.5)
    assert share_found(n, effect) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("arms", [1, 4, 8, 30])
@pytest.mark.parametrize("looks", [1, 3])
def test_detectable_is_known_far_out_in_the_tails(arms: int, looks: int) -> None:
    design = Design(3, arms, looks)  # at 8 standard errors and beyond, scipy cannot tell the other side's tail
    effect = detectable(design, sd=math.sqrt(3 / 2))
    limit = stats.t.ppf(1 - design.alpha / 2, design.df)
    assert stats.nct.sf(limit, design.df, effect) == pytest.approx(0.8, abs=1e-4)


def test_detectable_of_a_pooled_design_is_found_in_80_of_100_simulated_studies() -> None:
    """Four arms, of which one has the effect, found by the real comparison at the level of Holm's first."""
    design, rng, studies = Design(8, 4), np.random.default_rng(2), 1000
    effect, found = detectable(design, sd=1.0), 0
    for table in rng.normal(0, 1, (studies, 5, 8)):
        table[1] += effect
        base, *arms = (dict(enumerate(row)) for row in table.tolist())
        found += compare_arms(arms, base)[0].p < design.alpha
    assert found / studies == pytest.approx(0.8, abs=0.04)  # three standard errors


def test_one_seed_or_no_known_spread_shows_nothing() -> None:
    assert math.isnan(detectable(Design(1, 2), sd=0.01))
    assert math.isnan(detectable(Design(5, 2), sd=math.nan))


@pytest.mark.parametrize("df", [2, 9])
def test_power_without_an_effect_is_the_level(df: float) -> None:
    assert power(0.0, df, 0.03) == pytest.approx(0.03)


@pytest.mark.parametrize(("d", "n"), [(0.5, 5), (0.8, 3), (1.0, 5), (2.0, 3), (0.3, 10)])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_more_seeds_agrees_with_statsmodels(d: float, n: int, alpha: float) -> None:
    needed = math.ceil(TTestPower().solve_power(effect_size=d, power=0.8, alpha=alpha))
    assert more_seeds(compare(paired(n, d), zeros(n)), 1e-9, alpha) == max(needed - n, 1)


def test_with_so_many_more_seeds_80_of_100_studies_are_decided() -> None:
    n, d = 4, 0.9
    more = more_seeds(compare(paired(n, d), zeros(n)), margin=1e-9)
    assert more is not None
    assert share_found(n + more, d) >= 0.8 - 0.03
    assert share_found(n + more - 1, d) <= 0.8 + 0.03


@pytest.mark.parametrize("margin", [0.75, 1.5])
def test_with_so_many_more_seeds_80_of_100_studies_of_equals_are_equivalent(margin: float) -> None:
    n = 4
    more = more_seeds(compare(paired(n, 0.0), zeros(n)), margin)
    assert more is not None
    drawn = np.random.default_rng(11).normal(0, 1, (1000, n + more))
    found = [compare(dict(enumerate(row)), zeros(n + more)) for row in drawn.tolist()]
    assert np.mean([-margin < one.low and one.high < margin for one in found]) == pytest.approx(0.8, abs=0.05)


def test_what_the_correction_leaves_of_the_level_asks_for_more_seeds() -> None:
    seen = compare(paired(5, 1.0), zeros(5))
    needed = math.ceil(TTestPower().solve_power(effect_size=1.0, power=0.8, alpha=0.05 / 8))
    assert more_seeds(seen, 1e-9, share=1 / 8) == needed - 5


def test_a_difference_as_large_as_the_margin_may_take_over_a_thousand_seeds() -> None:
    assert more_seeds(compare(paired(5, 0.01), zeros(5)), margin=0.01) is None


def test_one_pair_or_no_spread_tells_nothing_of_more_seeds() -> None:
    assert more_seeds(compare({1: 0.5}, {1: 0.4}), 0.01) is None
    assert more_seeds(compare({1: 0.5, 2: 0.6}, {1: 0.5, 2: 0.6}), 0.01) is None
