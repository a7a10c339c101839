from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from stn_bench.stats import Design, compare, detectable, level, more_seeds
from stn_bench.stats.power import Observed

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import many
import verdicts as simulated

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
    assert detectable(Design((n,), 1), sd=1.0, correlation=0.5) == pytest.approx(effect, rel=0.03)


@pytest.mark.parametrize(("n", "effect"), AMONG_SEVEN.items())
def test_what_it_can_show_as_one_of_seven_comparisons_by_the_classic(n: int, effect: float) -> None:
    design = Design((n,), 1, tests=7, correction="holm")
    assert detectable(design, sd=1.0, correlation=0.5) == pytest.approx(effect, rel=0.04)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_detectable_agrees_with_statsmodels(n: int) -> None:
    theirs = TTestPower().solve_power(nobs=n, power=0.8, alpha=0.05)
    assert detectable(Design((n,), 1), sd=1.0, correlation=0.5) == pytest.approx(theirs, rel=0.03)


def test_seeds_that_go_together_show_more() -> None:
    """The paired difference's standard deviation is sqrt(2 (1 - correlation)) times an arm's."""
    apart, together = (detectable(Design((5,), 1), 0.01, correlation) for correlation in (0.0, 0.75))
    assert apart == pytest.approx(2 * together)


@pytest.mark.parametrize("correction", ["ranked", "holm"])
@pytest.mark.parametrize(
    ("looks", "arms"), [((3,), 1), ((3,), 4), ((3,), 8), ((5,), 8), ((8,), 15), ((3, 5, 8), 4), ((4, 6, 8), 8)]
)
def test_what_is_called_detectable_is_found_in_80_of_100_studies(
    looks: tuple[int, ...], arms: int, correction: Literal["ranked", "holm"]
) -> None:
    """Other studies than those it was found by, judged by the code for many: 80 % within three points.

    It was 65 % with 4 arms and 3 seeds, 52 % with 8. The classic is judged here by its first step.
    """
    effect = detectable(Design(looks, arms, correction=correction), sd=1.0, correlation=0.5)
    drawn = simulated.Setting("normal", arms, looks, effect).draw(8000, np.random.default_rng([arms, *looks]))
    if correction == "ranked":
        found = many.judge_many(drawn, looks).sign[:, 0] > 0
    else:
        ps = [stats.ttest_1samp(drawn[:, 0, :count], 0, axis=1).pvalue for count in looks]
        found = np.min(ps, axis=0) <= level(looks, 1) / arms
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_levels_that_were_calibrated_for_the_looks_count() -> None:
    even, calibrated = (detectable(Design((6, 9), 2, levels=known), sd=1.0) for known in ({}, {2: 0.029}))
    assert calibrated < even


def test_one_seed_or_no_known_spread_shows_nothing() -> None:
    assert math.isnan(detectable(Design((1,), 2), sd=0.01))
    assert math.isnan(detectable(Design((5,), 2), sd=math.nan))


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
    assert more_seeds(seen, 1e-9, 0.05 / 8) == needed - 5


def test_a_difference_as_large_as_the_margin_may_take_over_a_thousand_seeds() -> None:
    assert more_seeds(compare(paired(5, 0.01), zeros(5)), margin=0.01) is None


@pytest.mark.parametrize("alpha", [0.01, 0.02, 0.05])
def test_neither_the_order_of_other_arms_nor_their_side_matters(alpha: float) -> None:
    beside = [
        Observed(0.3, 1.0),
        Observed(-0.8, 0.7),
        Observed(1.1, 1.2),
        Observed(-0.2, 0.4),
        Observed(math.inf, 0.0),
    ]
    mirrored = [one._replace(difference=-one.difference) for one in beside]
    for d in (0.4, 0.5, 0.7, 0.9):
        ours, theirs = compare(paired(5, d), zeros(5)), compare(zeros(5), paired(5, d))
        told = {
            more_seeds(seen, 1e-9, alpha, alpha / 2, others)
            for seen in (ours, theirs)
            for order in (beside, mirrored)
            for others in itertools.islice(itertools.permutations(order), 0, None, 24)
        }
        assert len(told) == 1, told


def test_one_pair_or_no_spread_tells_nothing_of_more_seeds() -> None:
    assert more_seeds(compare({1: 0.5}, {1: 0.4}), 0.01) is None
    assert more_seeds(compare({1: 0.5, 2: 0.6}, {1: 0.5, 2: 0.6}), 0.01) is None


def test_among_very_many_arms_the_rank_of_today_counts() -> None:
    seen, larger, smaller = compare(paired(5, 1.0), zeros(5)), (9.0, 1.0), (0.1, 0.1)
    second = 0.05 * (0.8 / 4 + 0.2 / 51)
    beside = [Observed(*larger), *[Observed(*smaller)] * 49]
    assert more_seeds(seen, 1e-9, 0.05, 0.025, beside) == more_seeds(seen, 1e-9, second)
    few = [Observed(*larger), *[Observed(*smaller)] * 9]
    assert more_seeds(seen, 1e-9, 0.05, 0.025, few) == pytest.approx(
        more_seeds(seen, 1e-9, 0.05 * (0.8 / 4 / (1 - 2.0**-11) + 0.2 / 11)), abs=1
    )
