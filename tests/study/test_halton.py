from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from stn_bench.study.halton import halton


@given(st.integers(1, 20), st.integers(1, 300), st.integers(0, 2**31))
def test_points_are_scipys_bit_for_bit(dimensions: int, number: int, seed: int) -> None:
    theirs = qmc.Halton(dimensions, scramble=True, rng=seed).random(number)
    assert np.array_equal(halton(dimensions, number, seed), theirs)
