from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from stn_bench.stats import Comparison, Direction, compare, holm, judge, spread

SEEDED = st.dictionaries(st.integers(0, 99), st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=10)


def comparison(low: float, high: float, n: int = 3) -> Comparison:
    return Comparison(n=n, difference=(low + high) / 2, low=low, high=high, p=0.5, wins=0)


def verdict(low: float, high: float, p: float, direction: Direction = "maximize") -> str:
    return judge(comparison(low, high), p, margin=0.01, direction=direction)


def test_compare_agrees_with_scipys_paired_test() -> None:
    arm, base = [0.93, 0.95, 0.91, 0.96], [0.90, 0.94, 0.91, 0.92]
    ours = compare(dict(enumerate(arm)), dict(enumerate(base)))
    theirs = scipy_stats.ttest_rel(arm, base)
    interval = theirs.confidence_interval(0.95)
    assert (ours.p, ours.low, ours.high) == pytest.approx((theirs.pvalue, interval.low, interval.high), rel=1e-12)


def test_compare_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, SD 1, half-width t(0.975, 2) / sqrt(3) = 4.302653 / 1.732051."""
    ours = compare({1: 2.0, 2: 4.0, 3: 6.0}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert (ours.n, ours.difference, ours.wins) == (3, 2.0, 3)
    assert (ours.low, ours.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert ours.p == pytest.approx(0.074180, abs=1e-6)  # t = 2 sqrt(3), 2 df: 1 - t / sqrt(t^2 + 2)


def test_compare_pairs_by_seed_and_not_by_order() -> None:
    ours = compare({3: 0.3, 1: 0.1, 2: 0.2}, {1: 0.0, 2: 0.1, 3: 0.2})
    assert (ours.low, ours.high) == pytest.approx((0.1, 0.1))


def test_compare_leaves_out_seeds_that_one_arm_lacks() -> None:
    assert compare({1: 1.0, 2: 1.0, 9: 5.0}, {1: 0.0, 2: 0.0, 8: 5.0}).n == 2


def test_compare_counts_wins_the_way_that_is_better() -> None:
    arm, base = {1: 0.1, 2: 0.2, 3: 0.3}, {1: 0.2, 2: 0.3, 3: 0.3}
    assert compare(arm, base, "minimize").wins == 2
    assert compare(arm, base, "maximize").wins == 0


def test_equal_differences_have_an_interval_of_no_width() -> None:
    ours = compare({1: 0.5, 2: 0.75}, {1: 0.25, 2: 0.5})
    assert (ours.low, ours.high, ours.p) == (0.25, 0.25, 0.0)


def test_arms_that_agree_on_every_seed_have_p_one() -> None:
    values = {1: 0.5, 2: 0.6, 3: 0.7}
    ours = compare(values, values)
    assert (ours.n, ours.difference, ours.low, ours.high, ours.p) == (3, 0.0, 0.0, 0.0, 1.0)
    assert (ours.wins, ours.losses, ours.sd, ours.se) == (0, 0, 0.0, 0.0)


def test_differences_that_rounding_alone_sets_apart_are_the_same() -> None:
    ours = compare({1: 0.1, 2: 0.2, 3: 0.3}, {1: 0.0, 2: 0.1, 3: 0.2})
    assert (ours.low, ours.high, ours.p) == (ours.difference, ours.difference, 0.0)


def test_one_pair_has_a_difference_and_nothing_else() -> None:
    ours = compare({1: 0.75}, {1: 0.5})
    assert (ours.n, ours.difference) == (1, 0.25)
    assert all(map(math.isnan, (ours.low, ours.high, ours.p)))


def test_no_pair_has_nothing() -> None:
    ours = compare({1: 0.75}, {2: 0.5})
    assert ours.n == 0
    assert math.isnan(ours.difference)


@given(SEEDED, st.randoms())
def test_the_order_of_the_seeds_does_not_matter(pairs: dict[int, tuple[float, float]], random: object) -> None:
    shuffled = list(pairs.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first = compare({s: a for s, (a, _) in pairs.items()}, {s: b for s, (_, b) in pairs.items()})
    second = compare({s: a for s, (a, _) in shuffled}, {s: b for s, (_, b) in shuffled})
    assert first == second


@given(SEEDED)
def test_swapping_arm_and_base_mirrors_the_interval(pairs: dict[int, tuple[float, float]]) -> None:
    arm, base = {s: a for s, (a, _) in pairs.items()}, {s: b for s, (_, b) in pairs.items()}
    one, other = compare(arm, base), compare(base, arm)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-12)


def test_the_interval_covers_the_truth_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(20260101)
    truth, covered = 0.3, 0
    for draws in rng.normal(truth, 1.0, size=(2000, 5)):
        ours = compare(dict(enumerate(draws)), dict.fromkeys(range(5), 0.0))
        covered += ours.low <= truth <= ours.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1, made to rise: 0.03, 0.04, 0.04."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])


@settings(max_examples=25)  # statsmodels collects garbage at each call, 70 ms
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_its_definition(values: list[float]) -> None:
    adjusted, order = holm(values), np.argsort(values)
    expected = np.minimum(1, np.maximum.accumulate([values[i] * (len(values) - k) for k, i in enumerate(order)]))
    assert [adjusted[i] for i in order] == pytest.approx(expected)


def test_holm_agrees_with_statsmodels() -> None:
    values = [0.001, 0.2, 0.03, 0.04, 0.01, 0.01, 0.9]
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_holm_keeps_nan_and_does_not_count_it() -> None:
    adjusted = holm([math.nan, 0.01, math.nan, 0.04])
    assert (adjusted[1], adjusted[3]) == pytest.approx((0.02, 0.04))
    assert math.isnan(adjusted[0])
    assert math.isnan(adjusted[2])


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_holm_of_nothing_known(values: list[float]) -> None:
    assert [math.isnan(p) for p in holm(values)] == [True] * len(values)


@pytest.mark.parametrize(
    ("low", "high", "p", "direction", "word"),
    [
        (0.02, 0.04, 0.01, "maximize", "better"),
        (-0.04, -0.02, 0.01, "maximize", "worse"),
        (0.02, 0.04, 0.01, "minimize", "worse"),
        (-0.04, -0.02, 0.01, "minimize", "better"),
        (-0.009, 0.009, 0.9, "maximize", "equivalent"),
        (0.001, 0.009, 0.01, "maximize", "equivalent"),  # real, and too small to matter
        (-0.02, 0.04, 0.4, "maximize", "undecided"),
        (0.001, 0.04, 0.08, "maximize", "undecided"),  # excludes 0 until Holm has counted the arms
    ],
)
def test_the_word_that_the_numbers_earn(low: float, high: float, p: float, direction: Direction, word: str) -> None:
    assert verdict(low, high, p, direction) == word


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_seeds_are_unreplicated(n: int) -> None:
    assert judge(comparison(0.02, 0.04, n), 0.001, margin=0.01, direction="maximize") == "unreplicated"


def test_spread_by_hand() -> None:
    ours = spread([1.0, 2.0, 4.0])
    assert (ours.n, ours.mean, ours.sd) == pytest.approx((3, 7 / 3, math.sqrt(7 / 3)))


def test_spread_of_one_value_has_no_deviation() -> None:
    assert math.isnan(spread([0.5]).sd)


def test_holms_adjusted_values_rise_with_the_raw_ones() -> None:
    values = [0.001, 0.2, 0.03, 0.04, 0.01]
    adjusted = [p for _, p in sorted(zip(values, holm(values), strict=True))]
    assert all(before <= after for before, after in pairwise(adjusted))
