"""The gain from longer tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence


def expected_best(scores: Sequence[float]) -> list[float]:
    """Return the expected best score of 1, 2, …, n trials, from n of them.

    The unbiased estimator (Tang et al. 2020, arXiv 2004.13705): the mean of the best over all subsets of that size, by
    order statistics. Dodge et al. (2019) draw with replacement, which is biased low.

    Args:
        scores: of the trials, larger is better; of a diverged trial -inf.
    """
    ordered = sorted(scores)
    n = len(ordered)
    return [
        math.fsum(
            math.comb(index, size - 1) / math.comb(n, size) * score
            for index, score in enumerate(ordered)
            if math.comb(index, size - 1)
        )
        for size in range(1, n + 1)
    ]
