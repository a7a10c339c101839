from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from stn_bench.stats import PictureParts, binomial_error, picture_parts, published_p


def correctness(seeds: int, pictures: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which pictures two arms read correctly: some pictures are hard for both."""
    random = np.random.default_rng(seed)
    easiness = random.beta(4, 1, pictures)
    return random.random((seeds, pictures)) < easiness + 0.05, random.random((seeds, pictures)) < easiness


def test_the_pictures_part_agrees_with_a_bootstrap_over_pictures() -> None:
    """Pictures are drawn anew for both arms and all seeds together; 5,000 draws leave about 1 %."""
    arm, base = correctness(4, 600, seed=0)

    def difference(index: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray((arm.mean(axis=0) - base.mean(axis=0))[index].mean(axis=axis))

    drawn = scipy_stats.bootstrap((np.arange(600),), difference, n_resamples=5000, method="percentile", rng=1)
    assert picture_parts(arm, base).pictures == pytest.approx(drawn.standard_error, rel=0.05)


def test_the_seeds_part_is_that_of_the_paired_t_test() -> None:
    arm, base = correctness(5, 200, seed=1)
    theirs = scipy_stats.ttest_rel(arm.mean(axis=1), base.mean(axis=1))
    difference = arm.mean() - base.mean()
    assert picture_parts(arm, base).seeds == pytest.approx(difference / theirs.statistic)


def test_parts_by_hand() -> None:
    """Two seeds, two pictures: differences 1, 0 and 1, 1; by seed 0.5 and 1, by picture 1 and 0.5."""
    arm, base = np.array([[True, True], [True, True]]), np.array([[False, True], [False, False]])
    parts = picture_parts(arm, base)
    assert (parts.seeds, parts.pictures) == pytest.approx((0.25, 0.25))
    assert parts.both == pytest.approx(0.25 * math.sqrt(2))


def test_more_pictures_shrink_the_pictures_part_alone() -> None:
    arm, base = correctness(3, 100, seed=2)
    parts, more = picture_parts(arm, base), picture_parts(np.tile(arm, 4), np.tile(base, 4))
    assert more.seeds == pytest.approx(parts.seeds)
    assert more.pictures == pytest.approx(parts.pictures / 2, rel=0.01)


def test_one_seed_does_not_tell_the_seeds_part() -> None:
    arm, base = correctness(1, 100, seed=3)
    parts = picture_parts(arm, base)
    assert math.isnan(parts.seeds)
    assert math.isnan(parts.both)
    assert parts.pictures > 0


def test_swapping_arm_and_base_changes_no_part() -> None:
    arm, base = correctness(3, 50, seed=4)
    assert picture_parts(arm, base) == picture_parts(base, arm)


def test_parts_add_as_squares() -> None:
    assert PictureParts(0.003, 0.004).both == pytest.approx(0.005)


def test_ten_thousand_pictures_leave_a_third_of_a_point_at_90_percent() -> None:
    assert binomial_error(0.9, 10_000) == pytest.approx(0.003)


def test_no_pictures_leave_everything_open() -> None:
    assert math.isnan(binomial_error(0.9, 0))


def test_published_counts_by_hand() -> None:
    """3 of 3 beside 0 of 3: of the 20 ways to deal 3 right ones among 6, the 2 extreme ones are as far apart."""
    assert published_p(3, 0, 3) == pytest.approx(0.1)
