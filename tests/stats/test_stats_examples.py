from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from stn_bench.stats import ExampleParts, binomial_error, example_parts, published_p


def correctness(seeds: int, examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which examples two arms got right: some examples are hard for both."""
    random = np.random.default_rng(seed)
    easiness = random.beta(4, 1, examples)
    return random.random((seeds, examples)) < easiness + 0.05, random.random((seeds, examples)) < easiness


def test_of_one_seed_the_examples_part_agrees_with_a_bootstrap_over_examples() -> None:
    """Pictures are drawn anew for both arms together; 5,000 draws leave about 1 %."""
    arm, base = correctness(1, 600, seed=0)

    def difference(index: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray((arm.mean(axis=0) - base.mean(axis=0))[index].mean(axis=axis))

    drawn = scipy_stats.bootstrap((np.arange(600),), difference, n_resamples=5000, method="percentile", rng=1)
    assert example_parts(arm, base).examples == pytest.approx(drawn.standard_error, rel=0.05)


def test_the_seeds_part_is_that_of_the_paired_t_test() -> None:
    arm, base = correctness(5, 200, seed=1)
    theirs = scipy_stats.ttest_rel(arm.mean(axis=1), base.mean(axis=1))
    difference = arm.mean() - base.mean()
    assert example_parts(arm, base).seeds == pytest.approx(difference / theirs.statistic)


def test_parts_by_hand() -> None:
    """Differences 1, 1, 0 and 1, 0, 0: by example 1, 0.5, 0, by seed 2/3 and 1/3, and a mean square left of 1/6."""
    parts = example_parts(np.array([[1, 1, 0], [1, 0, 0]]), np.zeros((2, 3)))
    assert parts.seeds**2 == pytest.approx(1 / 36)
    assert parts.examples**2 == pytest.approx(1 / 12 - 1 / 6 / 6)


def test_what_single_seeds_do_to_single_examples_is_no_part_of_the_examples() -> None:
    """Differences 1, 0 and 1, 1: by seed 0.5 and 1; the two examples scatter by no more than what is left of both."""
    arm, base = np.array([[True, True], [True, True]]), np.array([[False, True], [False, False]])
    parts = example_parts(arm, base)
    assert (parts.seeds, parts.examples, parts.both) == pytest.approx((0.25, 0.0, 0.25))


def test_the_parts_are_those_of_a_two_way_analysis_of_variance() -> None:
    """The oracle is statsmodels: its mean squares, of which each component is a difference."""
    random = np.random.default_rng(5)
    arm, base = random.standard_normal((4, 40)) + random.standard_normal(40), random.standard_normal((4, 40))
    rows = [(value, seed, example) for (seed, example), value in np.ndenumerate(arm - base)]
    frame = pd.DataFrame(rows, columns=["value", "seed", "example"])
    squares = anova_lm(ols("value ~ C(seed) + C(example)", frame).fit())["mean_sq"]
    parts = example_parts(arm, base)
    assert parts.seeds**2 == pytest.approx(squares["C(seed)"] / 160)
    assert parts.examples**2 == pytest.approx((squares["C(example)"] - squares["Residual"]) / 160)


def test_both_parts_together_are_what_new_seeds_on_new_examples_would_scatter_by() -> None:
    """Of known components: seeds 0.3, examples 1, and 2 of what is left; 2,000 tables leave 3 % of a variance."""
    random, seeds, examples = np.random.default_rng(6), 5, 40
    found = []
    for _ in range(2000):
        table = 0.3 * random.standard_normal((seeds, 1)) + random.standard_normal(examples)
        table = table + 2 * random.standard_normal((seeds, examples))
        found.append(example_parts(table, np.zeros_like(table)))
    truth = 0.3**2 / seeds + 1 / examples + 4 / seeds / examples
    assert np.mean([parts.both**2 for parts in found]) == pytest.approx(truth, rel=0.05)
    assert np.mean([parts.examples**2 for parts in found]) == pytest.approx(1 / examples, rel=0.05)


def test_more_examples_shrink_the_examples_part_alone() -> None:
    arm, base = correctness(3, 100, seed=2)
    parts, more = example_parts(arm, base), example_parts(np.tile(arm, 4), np.tile(base, 4))
    assert more.seeds == pytest.approx(parts.seeds)
    assert more.examples == pytest.approx(parts.examples / 2, rel=0.01)


def test_one_seed_does_not_tell_the_seeds_part() -> None:
    arm, base = correctness(1, 100, seed=3)
    parts = example_parts(arm, base)
    assert math.isnan(parts.seeds)
    assert math.isnan(parts.both)
    assert parts.examples > 0


def test_swapping_arm_and_base_changes_no_part() -> None:
    arm, base = correctness(3, 50, seed=4)
    assert example_parts(arm, base) == example_parts(base, arm)


def test_parts_add_as_squares() -> None:
    assert ExampleParts(0.003, 0.004).both == pytest.approx(0.005)


def test_ten_thousand_examples_leave_a_third_of_a_point_at_90_percent() -> None:
    assert binomial_error(0.9, 10_000) == pytest.approx(0.003)


def test_no_examples_leave_everything_open() -> None:
    assert math.isnan(binomial_error(0.9, 0))


def test_published_counts_by_hand() -> None:
    """3 of 3 beside 0 of 3: of the 20 ways to deal 3 right ones among 6, the 2 extreme ones are as far apart."""
    assert published_p(3, 0, 3) == pytest.approx(0.1)
