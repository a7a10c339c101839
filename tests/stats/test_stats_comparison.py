from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols
from statsmodels.stats.weightstats import ttost_paired

from stn_bench.stats import (
    Comparison,
    Values,
    compare,
    compare_arms,
    error_ratios,
    hedges,
    sign_flip_p,
    superiority_bound,
)
from stn_bench.stats.comparison import MOST_EXACT

SEEDED = st.dictionaries(st.integers(0, 99), st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=10)
THOUSANDTHS = st.lists(st.integers(-50, 50), min_size=6, max_size=9)
PATTERN = np.array(
    [1.0, -1.0, 0.0]
)  # of an arm over three seeds; where the arms' multiples add up to 0, the residuals


def by_seed(values: np.ndarray | list[float]) -> dict[int, float]:
    return dict(enumerate(map(float, values)))


def draws(arms: int, seeds: int, seed: int = 0) -> tuple[dict[int, float], list[Values]]:
    """Return a base and arms that share their seeds' luck."""
    random = np.random.default_rng(seed)
    table = random.normal(0.9, 0.02, seeds) + random.normal(0, 0.01, (arms + 1, seeds))
    return by_seed(table[0]), [by_seed(row) for row in table[1:]]


def patterned(multiples: list[float]) -> tuple[dict[int, float], list[Values]]:
    """Return a base and arms whose residuals are these multiples of one pattern, each arm with a mean of its own."""
    base, *arms = (by_seed(0.1 * number + times * PATTERN) for number, times in enumerate(multiples))
    return base, arms


def layout(base: Values, arms: list[Values]) -> object:
    """Return statsmodels' least squares fit of value ~ arm + seed."""
    rows = [(f"arm{number}", seed, value) for number, arm in enumerate([base, *arms]) for seed, value in arm.items()]
    return ols("value ~ C(arm) + C(seed)", pd.DataFrame(rows, columns=["arm", "seed", "value"])).fit()


# the paired t-test


def test_compare_agrees_with_scipys_paired_test() -> None:
    arm, base = [0.93, 0.95, 0.91, 0.96], [0.90, 0.94, 0.91, 0.92]
    ours, theirs = compare(by_seed(arm), by_seed(base)), scipy_stats.ttest_rel(arm, base)
    interval = theirs.confidence_interval(0.95)
    assert (ours.p, ours.low, ours.high) == pytest.approx((theirs.pvalue, interval.low, interval.high), rel=1e-12)
    assert (ours.df, ours.se) == pytest.approx((theirs.df, ours.difference / theirs.statistic))


def test_the_level_of_the_interval_can_be_chosen() -> None:
    arm, base = [0.93, 0.95, 0.91, 0.96], [0.90, 0.94, 0.91, 0.92]
    ours = compare(by_seed(arm), by_seed(base), alpha=0.05 / 3)
    interval = scipy_stats.ttest_rel(arm, base).confidence_interval(1 - 0.05 / 3)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert ours.level == pytest.approx(1 - 0.05 / 3)


def test_compare_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, SD 1, half-width t(0.975, 2) / sqrt(3) = 4.302653 / 1.732051."""
    ours = compare({1: 2.0, 2: 4.0, 3: 6.0}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert (ours.n, ours.difference, ours.wins, ours.losses, ours.sd) == (3, 2.0, 3, 0, 1.0)
    assert (ours.low, ours.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert ours.p == pytest.approx(0.074180, abs=1e-6)  # t = 2 sqrt(3), 2 df: 1 - t / sqrt(t^2 + 2)


def test_compare_pairs_by_seed_and_not_by_order() -> None:
    ours = compare({3: 0.3, 1: 0.1, 2: 0.2}, {1: 0.0, 2: 0.1, 3: 0.2})
    assert (ours.low, ours.high) == pytest.approx((0.1, 0.1))


def test_compare_leaves_out_seeds_that_one_arm_lacks() -> None:
    assert compare({1: 1.0, 2: 1.0, 9: 5.0}, {1: 0.0, 2: 0.0, 8: 5.0}).n == 2


def test_compare_counts_wins_the_way_that_is_better() -> None:
    arm, base = {1: 0.1, 2: 0.2, 3: 0.3}, {1: 0.2, 2: 0.3, 3: 0.3}
    fewer, more = compare(arm, base, "minimize"), compare(arm, base, "maximize")
    assert (fewer.wins, fewer.losses, more.wins, more.losses) == (2, 0, 0, 2)


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
    assert str(first) == str(second)  # in words, since NaN is not equal to itself


@given(SEEDED)
def test_swapping_arm_and_base_mirrors_the_interval(pairs: dict[int, tuple[float, float]]) -> None:
    arm, base = {s: a for s, (a, _) in pairs.items()}, {s: b for s, (_, b) in pairs.items()}
    one, other = compare(arm, base), compare(base, arm)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-12)
    assert (one.wins, one.losses) == (other.losses, other.wins)


def test_the_interval_covers_the_truth_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(20260101)
    truth, covered = 0.3, 0
    for drawn in rng.normal(truth, 1.0, size=(2000, 5)):
        ours = compare(by_seed(drawn), dict.fromkeys(range(5), 0.0))
        covered += ours.low <= truth <= ours.high
    assert 0.93 <= covered / 2000 <= 0.97


@given(SEEDED)
def test_the_correlation_is_pearsons(pairs: dict[int, tuple[float, float]]) -> None:
    rounded = {seed: (round(a, 3), round(b, 3)) for seed, (a, b) in pairs.items()}
    arm, base = ({seed: pair[side] for seed, pair in rounded.items()} for side in (0, 1))
    ours = compare(arm, base).correlation
    if len(set(arm.values())) == 1 or len(set(base.values())) == 1:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(scipy_stats.pearsonr(list(arm.values()), list(base.values())).statistic, abs=1e-9)


# the layout of all arms and seeds


@pytest.mark.parametrize(("arms", "seeds"), [(3, 3), (4, 5), (8, 3), (7, 10)])
def test_the_pooled_layout_agrees_with_least_squares(arms: int, seeds: int) -> None:
    base, others = draws(arms, seeds)
    fit = layout(base, others)
    low, high = fit.conf_int()[0], fit.conf_int()[1]  # type: ignore[attr-defined]
    for number, ours in enumerate(compare_arms(others, base), start=1):
        name = f"C(arm)[T.arm{number}]"
        theirs = [fit.params[name], fit.bse[name], fit.pvalues[name], low[name], high[name]]  # type: ignore[attr-defined]
        assert ours.method == "pooled"
        assert ours.df == fit.df_resid == arms * (seeds - 1)  # type: ignore[attr-defined]
        assert [ours.difference, ours.se, ours.p, ours.low, ours.high] == pytest.approx(theirs, rel=1e-8)


def test_the_pooled_layout_keeps_what_the_pairs_say_of_themselves() -> None:
    base, arms = draws(4, 6, seed=3)
    for pooled, arm in zip(compare_arms(arms, base), arms, strict=True):
        paired = compare(arm, base)
        assert (pooled.difference, pooled.wins, pooled.sd) == (paired.difference, paired.wins, paired.sd)
        assert (pooled.flip_p, pooled.correlation) == (paired.flip_p, paired.correlation)


def test_fewer_than_four_arms_with_their_base_are_not_pooled() -> None:
    base, arms = draws(2, 5)
    assert compare_arms(arms, base) == [compare(arm, base) for arm in arms]


def test_two_seeds_are_not_pooled() -> None:
    base, arms = draws(5, 2)
    assert {ours.method for ours in compare_arms(arms, base)} == {"paired t"}


def test_an_arm_that_lacks_a_seed_is_compared_by_its_pairs_and_lends_nothing() -> None:
    base, arms = draws(5, 5, seed=4)
    del arms[1][2]  # type: ignore[attr-defined]
    whole = [arm for number, arm in enumerate(arms) if number != 1]
    ours = compare_arms(arms, base)
    assert ours[1] == compare(arms[1], base)
    assert [one for number, one in enumerate(ours) if number != 1] == compare_arms(whole, base)
    assert ours[0].df == 4 * 4


def test_an_arm_that_spreads_three_times_as_much_forbids_pooling() -> None:
    base, arms = patterned([1, 1, 1, -3])
    found = compare_arms(arms, base)
    assert {ours.method for ours in found} == {"paired t (spreads differ)"}
    assert [(ours.low, ours.p) for ours in found] == [(one.low, one.p) for one in (compare(arm, base) for arm in arms)]


def test_a_base_that_spreads_three_times_as_much_forbids_pooling_too() -> None:
    base, arms = patterned([-3, 1, 1, 1])
    assert {ours.method for ours in compare_arms(arms, base)} == {"paired t (spreads differ)"}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_an_arm_that_spreads_exactly_twice_as_much_as_the_median_is_pooled(order: tuple[int, ...]) -> None:
    multiples = [0.6, 1.4, -2.0, 0.0]  # the median of their sizes is 1
    base, arms = patterned([multiples[index] for index in order])
    assert {ours.method for ours in compare_arms(arms, base)} == {"pooled"}


# the sign-flip test


def flips(differences: list[int]) -> Fraction:
    """Count the choices of signs whose sum is as far from 0 as the observed one."""
    sums = [sum(map(int.__mul__, differences, signs)) for signs in itertools.product((1, -1), repeat=len(differences))]
    return Fraction(sum(abs(one) >= abs(sum(differences)) for one in sums), len(sums))


@given(THOUSANDTHS)
@example([1, 1, 1, 1, 1, -1])
def test_the_sign_flip_test_counts_every_choice_of_signs(thousandths: list[int]) -> None:
    """Of accuracies, whose differences are not whole: sums that are the same must count as the same."""
    right = [300 + 70 * seed for seed in range(len(thousandths))]
    base = by_seed([count / 1000 for count in right])
    arm = by_seed([(count + more) / 1000 for count, more in zip(right, thousandths, strict=True)])
    assert compare(arm, base).flip_p == float(flips(thousandths))


def test_the_sign_flip_test_agrees_with_scipys() -> None:
    differences = np.random.default_rng(0).normal(0.5, 1, 9)
    theirs = scipy_stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=2**9)
    assert sign_flip_p(differences) == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize(("n", "smallest"), [(6, 1 / 32), (7, 1 / 64), (10, 1 / 512)])
def test_the_smallest_p_of_the_sign_flip_test(n: int, smallest: float) -> None:
    assert sign_flip_p(np.arange(1.0, n + 1)) == smallest


def test_the_sign_flip_test_says_nothing_below_six_pairs() -> None:
    assert math.isnan(sign_flip_p(np.arange(1.0, 6.0)))


def test_the_sign_flip_test_of_no_differences_is_one() -> None:
    assert sign_flip_p(np.zeros(8)) == 1.0


def test_beyond_what_can_be_counted_the_sign_flip_test_draws() -> None:
    differences = np.random.default_rng(5).normal(0.3, 1, MOST_EXACT + 4)
    z = abs(differences.sum()) / math.sqrt((differences**2).sum())  # by the central limit theorem
    assert sign_flip_p(differences) == pytest.approx(2 * scipy_stats.norm.sf(z), abs=0.02)
    assert sign_flip_p(differences) == sign_flip_p(differences)


@pytest.mark.parametrize(("flip_p", "disagrees"), [(math.nan, False), (0.03, False), (0.06, True)])
def test_two_opinions_disagree_on_different_sides_of_five_percent(flip_p: float, disagrees: bool) -> None:
    assert Comparison(6, 0.1, 0.0, 0.2, p=0.04, wins=6, flip_p=flip_p).disagrees == disagrees


# equivalence


@pytest.mark.parametrize("margin", [0.002, 0.01, 0.05])
@pytest.mark.parametrize("seed", range(4))
def test_equivalence_agrees_with_statsmodels(margin: float, seed: int) -> None:
    base, (arm,) = draws(1, 6, seed)
    values = [np.array(list(one.values())) for one in (arm, base)]
    assert compare(arm, base).equivalence_p(margin) == pytest.approx(ttost_paired(*values, -margin, margin)[0])


def test_equivalence_of_one_pair_is_not_known() -> None:
    assert math.isnan(compare({1: 0.5}, {1: 0.5}).equivalence_p(0.1))


@pytest.mark.parametrize(("margin", "p"), [(0.2, 0.0), (0.3, 0.0), (0.05, 1.0)])
def test_equivalence_of_differences_without_spread(margin: float, p: float) -> None:
    assert compare({1: 0.6, 2: 0.7}, {1: 0.5, 2: 0.6}).equivalence_p(margin) == p


# sizes


def test_hedges_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, SD 1, factor 1 - 3 / (4 * 2 - 1) = 4 / 7."""
    ours = compare({1: 2.0, 2: 4.0, 3: 6.0}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert hedges(ours) == pytest.approx(8 / 7)


def test_hedges_needs_three_pairs_and_a_spread() -> None:
    assert math.isnan(hedges(compare({1: 2.0, 2: 4.0}, {1: 1.0, 2: 2.0})))
    assert math.isnan(hedges(compare({1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.0, 2: 2.0, 3: 3.0})))


@pytest.mark.parametrize(("wins", "bound"), [(10, 0.05 ** (1 / 10)), (0, 1 - 0.05 ** (1 / 10))])
def test_ten_of_ten_bound_what_an_arm_wins(wins: int, bound: float) -> None:
    """All wins: at least the rate at which ten in a row happen once in twenty."""
    assert superiority_bound(wins, 10) == pytest.approx(bound)


@pytest.mark.parametrize(("wins", "n"), [(3, 5), (5, 8), (2, 5), (1, 10)])
def test_the_bound_is_where_what_was_seen_happens_once_in_twenty(wins: int, n: int) -> None:
    bound = superiority_bound(wins, n)
    more = 2 * wins >= n
    counts = range(wins, n + 1) if more else range(wins + 1)
    assert sum(math.comb(n, k) * bound**k * (1 - bound) ** (n - k) for k in counts) == pytest.approx(0.05)


def test_no_pairs_bound_nothing() -> None:
    assert math.isnan(superiority_bound(0, 0))


def test_error_ratio_by_hand() -> None:
    """Errors 2, 1 and 4 % beside 4 %: a half, a quarter and one, of which the geometric mean is a half."""
    (ratio,) = error_ratios([{1: 0.98, 2: 0.99, 3: 0.96}], {1: 0.96, 2: 0.96, 3: 0.96})
    logs = scipy_stats.ttest_1samp(np.log([0.5, 0.25, 1]), 0).confidence_interval()
    assert ratio.value == pytest.approx(0.5)
    assert (ratio.low, ratio.high) == pytest.approx((math.exp(logs.low), math.exp(logs.high)))


def test_error_ratios_of_many_arms_share_their_error() -> None:
    base, arms = draws(4, 5, seed=4)
    logs = [{seed: math.log(1 - value) for seed, value in one.items()} for one in (base, *arms)]
    theirs = compare_arms(logs[1:], logs[0])
    assert {one.method for one in theirs} == {"pooled"}
    assert [ratio.low for ratio in error_ratios(arms, base)] == pytest.approx([math.exp(one.low) for one in theirs])


def test_an_arm_without_an_error_has_no_error_ratio_and_the_others_keep_theirs() -> None:
    base, sound, perfect = {1: 0.9, 2: 0.92}, {1: 0.95, 2: 0.96}, {1: 1.0, 2: 0.99}
    ours = error_ratios([sound, perfect], base)
    assert ours[0] == error_ratios([sound], base)[0]
    assert all(map(math.isnan, (ours[1].value, ours[1].low, ours[1].high)))


def test_a_base_without_an_error_leaves_no_error_ratio() -> None:
    (ratio,) = error_ratios([{1: 0.9, 2: 0.92}], {1: 1.0, 2: 0.99})
    assert math.isnan(ratio.value)
