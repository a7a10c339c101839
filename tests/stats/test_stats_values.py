from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from stn_bench.stats import estimate, known, known_interval, spread


def test_spread_by_hand() -> None:
    ours = spread([1.0, 2.0, 4.0])
    assert (ours.n, ours.mean, ours.sd) == pytest.approx((3, 7 / 3, math.sqrt(7 / 3)))


def test_spread_of_one_value_has_no_deviation() -> None:
    assert math.isnan(spread([0.5]).sd)


def test_spread_of_nothing_is_not_known() -> None:
    ours = spread([])
    assert (ours.n, math.isnan(ours.mean), math.isnan(ours.sd)) == (0, True, True)


def test_the_interval_of_a_mean_is_students() -> None:
    values = [0.93, 0.95, 0.91, 0.96]
    ours = estimate(values)
    low, high = scipy_stats.t.interval(0.95, 3, np.mean(values), scipy_stats.sem(values))
    assert (ours.n, ours.mean, ours.low, ours.high) == pytest.approx((4, np.mean(values), low, high))


def test_nan_is_not_known() -> None:
    assert (known(0.5), known(math.nan)) == (0.5, None)
    assert (known_interval(0.1, 0.2), known_interval(math.nan, math.nan)) == ((0.1, 0.2), None)
