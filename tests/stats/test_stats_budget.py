from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stn_bench.stats import expected_best


def over_all_subsets(scores: Sequence[float]) -> list[float]:
    return [
        float(np.mean([max(subset) for subset in combinations(scores, size)])) for size in range(1, len(scores) + 1)
    ]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_expected_best_is_the_mean_over_all_subsets(scores: list[float]) -> None:
    assert expected_best(scores) == pytest.approx(over_all_subsets(scores), abs=1e-12)


def test_expected_best_by_hand() -> None:
    """Of 1, 2, 4: one of them 7/3; of the pairs 2, 4, 4 the mean; all three 4."""
    assert expected_best([4.0, 1.0, 2.0]) == pytest.approx([7 / 3, 10 / 3, 4.0])


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_more_trials_are_never_worse(scores: list[float]) -> None:
    assert all(after >= before - 1e-12 for before, after in pairwise(expected_best(scores)))


def test_a_diverged_trial_spoils_what_may_consist_of_it_alone() -> None:
    """Of three trials one diverged: one alone may be that one, the best of two is 1, 2 or 2, of all three 2."""
    assert expected_best([-math.inf, 1.0, 2.0]) == pytest.approx([-math.inf, 5 / 3, 2.0])


def test_the_estimate_is_unbiased() -> None:
    """The best of 4 of 10 uniform draws is on average 4 / 5."""
    drawn = np.random.default_rng(0).random((4000, 10))
    assert np.mean([expected_best(row)[3] for row in drawn.tolist()]) == pytest.approx(0.8, abs=0.005)


def test_no_trials_have_no_best() -> None:
    assert expected_best([]) == []
