from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.weightstats import ttost_paired

from stn_bench.stats import (
    Comparison,
    Values,
    compare,
    error_ratio,
    hedges,
    sign_flip_p,
    superiority,
)
from stn_bench.stats.comparison import MOST_EXACT

SEEDED = st.dictionaries(st.integers(0, 99), st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=10)
THOUSANDTHS = st.lists(st.integers(-50, 50), min_size=6, max_size=9)


def by_seed(values: np.ndarray | list[float]) -> dict[int, float]:
    return dict(enumerate(map(float, values)))


def draws(arms: int, seeds: int, seed: int = 0) -> tuple[dict[int, float], list[Values]]:
    """Return a base and arms that share their seeds' luck."""
    random = np.random.default_rng(seed)
    table = random.normal(0.9, 0.02, seeds) + random.normal(0, 0.01, (arms + 1, seeds))
    return by_seed(table[0]), [by_seed(row) for row in table[1:]]


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
    assert (ours.low, ours.high) == (0.25, 0.25)


def test_arms_that_agree_on_every_seed_have_p_one() -> None:
    values = {1: 0.5, 2: 0.6, 3: 0.7}
    ours = compare(values, values)
    assert (ours.n, ours.difference, ours.low, ours.high, ours.p) == (3, 0.0, 0.0, 0.0, 1.0)
    assert (ours.wins, ours.losses, ours.sd, ours.se) == (0, 0, 0.0, 0.0)


def test_differences_that_rounding_alone_sets_apart_are_the_same() -> None:
    ours = compare({1: 0.1, 2: 0.2, 3: 0.3}, {1: 0.0, 2: 0.1, 3: 0.2})
    assert (ours.low, ours.high) == pytest.approx((ours.difference, ours.difference), rel=1e-12)
    assert math.isnan(ours.p)


def test_differences_that_their_values_are_too_large_to_tell_are_within_no_margin_that_is_finer() -> None:
    """Around 1e15 floats are an eighth apart: a scatter of one is what rounding may have made of anything."""
    base = [1e15 + one for one in (0.0, 3.0, 1.0, 2.0)]
    ours = compare(by_seed([one + more for one, more in zip(base, (0.5, -0.5, 1.0, 0.0), strict=True)]), by_seed(base))
    assert ours.low < -5
    assert ours.high > 5
    assert ours.p == 1.0


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


# what the metric can tell


def test_equal_differences_in_whole_errors_are_no_certainty() -> None:
    """Of 100 pictures: the variance is at least that of one step, 0.01^2 / 2, so t = 0.01 sqrt(3) sqrt(2) / 0.01."""
    ours = compare(by_seed([0.99] * 3), by_seed([1.0] * 3), resolution=0.01)
    assert ours.p == pytest.approx(2 * scipy_stats.t.sf(math.sqrt(6), 2))
    assert (ours.low, ours.high) == pytest.approx((-0.01 - 0.017566, -0.01 + 0.017566), abs=1e-6)
    assert ours.sd == 0.0


def test_without_a_known_step_equal_differences_allow_no_test() -> None:
    ours = compare(by_seed([0.99] * 3), by_seed([1.0] * 3))
    assert math.isnan(ours.p)
    assert (ours.low, ours.high, ours.sd) == (ours.difference, ours.difference, 0.0)


def test_a_step_finer_than_the_spread_changes_nothing() -> None:
    base, (arm,) = draws(1, 5)
    assert compare(arm, base, resolution=1e-4) == compare(arm, base)


@pytest.mark.parametrize("unit", [1e-300, 1e-12, 1e-3, 1e12, 1e150])
def test_the_unit_of_the_metric_does_not_matter(unit: float) -> None:
    arm, base = [0.93, 0.95, 0.91, 0.96], [0.90, 0.94, 0.91, 0.92]
    one, other = (
        compare(by_seed([times * value for value in arm]), by_seed([times * value for value in base]))
        for times in (1, unit)
    )
    assert other.p == pytest.approx(one.p)
    assert [value / unit for value in (other.low, other.high, other.sd, other.size)] == pytest.approx(
        [one.low, one.high, one.sd, one.size]
    )


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, 1.7e308, -1e160])
def test_a_value_that_is_no_number_is_no_pair(broken: float) -> None:
    base, (arm,) = draws(1, 5)
    assert compare({**arm, 9: broken}, {**base, 9: 0.5}) == compare(arm, base) == compare(arm, {**base, 9: broken})


def test_arms_are_ranked_by_the_root_mean_square_of_their_differences() -> None:
    assert compare({1: 3.0, 2: -4.0}, {1: 0.0, 2: 0.0}).size == pytest.approx(math.sqrt(12.5))


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


@pytest.mark.parametrize("margin", [0.2, 0.05])
def test_equal_differences_without_a_resolution_allow_no_test_of_equivalence_either(margin: float) -> None:
    arm, base = {1: 0.6, 2: 0.7}, {1: 0.5, 2: 0.6}
    assert math.isnan(compare(arm, base).equivalence_p(margin))
    assert not math.isnan(compare(arm, base, resolution=0.01).equivalence_p(margin))


def test_a_copy_lies_within_any_margin() -> None:
    arm = {1: 0.6, 2: 0.7}
    assert (compare(arm, arm).equivalence_p(0.05), compare(arm, arm).equivalence_p(0.0)) == (0.0, 1.0)


# sizes


def test_hedges_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, SD 1, factor 1 - 3 / (4 * 2 - 1) = 4 / 7."""
    ours = compare({1: 2.0, 2: 4.0, 3: 6.0}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert hedges(ours) == pytest.approx(8 / 7)


def test_hedges_needs_three_pairs_and_a_spread() -> None:
    assert math.isnan(hedges(compare({1: 2.0, 2: 4.0}, {1: 1.0, 2: 2.0})))
    assert math.isnan(hedges(compare({1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.0, 2: 2.0, 3: 3.0})))


@pytest.mark.parametrize(("wins", "losses"), [(10, 0), (0, 10), (3, 2), (5, 3), (1, 9)])
def test_the_interval_of_what_an_arm_wins_is_clopper_and_pearsons(wins: int, losses: int) -> None:
    """Quantiles of the beta distribution."""
    low, high = superiority(wins, losses)
    assert low == pytest.approx(scipy_stats.beta.ppf(0.025, wins, losses + 1) if wins else 0.0)
    assert high == pytest.approx(scipy_stats.beta.ppf(0.975, wins + 1, losses) if losses else 1.0)


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_interval_of_what_an_arm_wins_holds_the_truth_in_95_of_100_studies(n: int) -> None:
    """Exactly, for every chance of winning: the binomial's probabilities added up."""
    known = [superiority(wins, n - wins) for wins in range(n + 1)]
    for chance in np.linspace(0.01, 0.99, 99):
        holds = [scipy_stats.binom.pmf(k, n, chance) for k, (low, high) in enumerate(known) if low <= chance <= high]
        assert sum(holds) >= 0.95


def test_pairs_that_do_not_differ_say_nothing_of_what_an_arm_wins() -> None:
    assert all(map(math.isnan, superiority(0, 0)))


def test_error_ratio_by_hand() -> None:
    """Errors 2, 1 and 4 % beside 4 %: a half, a quarter and one, of which the geometric mean is a half."""
    ratio = error_ratio({1: 0.98, 2: 0.99, 3: 0.96}, {1: 0.96, 2: 0.96, 3: 0.96})
    logs = scipy_stats.ttest_1samp(np.log([0.5, 0.25, 1]), 0).confidence_interval()
    assert ratio.value == pytest.approx(0.5)
    assert (ratio.low, ratio.high) == pytest.approx((math.exp(logs.low), math.exp(logs.high)))


def test_the_resolution_floors_the_interval_of_an_error_ratio() -> None:
    """By hand: a step of 0.01 beside errors of 1 and 2 %, and of the logarithms' variance half its square."""
    ratio = error_ratio(dict.fromkeys((1, 2, 3), 0.99), dict.fromkeys((1, 2, 3), 0.98), resolution=0.01)
    sd = 0.01 / 2 * math.hypot(1 / 0.01, 1 / 0.02)
    reach = scipy_stats.t.ppf(0.975, 2) * sd / math.sqrt(3)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5 * math.exp(-reach), 0.5 * math.exp(reach)))


def test_a_coarse_resolution_takes_nothing_from_a_ratio_that_spreads() -> None:
    arm, base = {1: 0.98, 2: 0.99, 3: 0.96}, {1: 0.96, 2: 0.96, 3: 0.96}
    assert error_ratio(arm, base, resolution=1e-4) == error_ratio(arm, base)


@pytest.mark.parametrize(
    ("arm", "base", "value"),
    [
        ((0.99, 0.99, 0.99), (0.98, 0.98, 0.98), 0.5),
        ((0.8, 0.7, 0.6), (0.7, 0.6, 0.5), (2 / 3 * 3 / 4 * 4 / 5) ** (1 / 3)),  # differ alike, and in ratio do not
        ((0.99, 0.98, 0.97), (0.98, 0.96, 0.94), 0.5),  # alike in ratio alone
    ],
)
def test_an_error_ratio_has_no_interval_where_no_test_can_be_made(
    arm: tuple[float, ...], base: tuple[float, ...], value: float
) -> None:
    ratio = error_ratio(dict(enumerate(arm)), dict(enumerate(base)))
    assert ratio.value == pytest.approx(value)
    assert math.isnan(ratio.low)
    assert math.isnan(ratio.high)


def test_a_run_without_an_error_leaves_no_error_ratio() -> None:
    sound, perfect = {1: 0.9, 2: 0.92}, {1: 1.0, 2: 0.99}
    for arm, base in ((perfect, sound), (sound, perfect)):
        ours = error_ratio(arm, base)
        assert all(map(math.isnan, (ours.value, ours.low, ours.high)))


SAME = """
import hashlib, numpy as np
from stn_bench.stats import compare
random, found = np.random.default_rng(0), []
for pairs in (3, 5, 10, 25):
    for arm, base in random.normal(0.9, 0.01, (100 if pairs < 25 else 5, 2, pairs)):
        found.append(repr(compare(dict(enumerate(arm)), dict(enumerate(base)))))
print(hashlib.sha256("".join(found).encode()).hexdigest())
"""


def test_every_number_is_the_same_on_older_processors() -> None:
    """OpenBLAS and numpy are told to compute as they do there; elsewhere than on x86-64 they know none of these."""
    older = [
        {},
        {"OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"NPY_DISABLE_CPU_FEATURES": "X86_V4"},
    ]
    commands = [(sys.executable, "-W", "ignore", "-c", SAME)] * len(older)
    found = [
        subprocess.run(command, env=os.environ | extra, capture_output=True, text=True, check=True, timeout=60).stdout
        for command, extra in zip(commands, older, strict=True)
    ]
    assert len(set(found)) == 1
