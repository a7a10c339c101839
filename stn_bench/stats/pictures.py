"""What the test pictures, and not the seeds, leave uncertain: other pictures would have given other numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PictureParts:
    """The standard error of a mean difference in accuracy, taken apart.

    Args:
        seeds: the part that more seeds would shrink.
        pictures: the part that more test pictures would shrink; seeds do not average it away.
    """

    seeds: float
    pictures: float

    @property
    def both(self) -> float:
        """The standard error with both parts: how well the difference would hold on other pictures and other seeds."""
        return math.hypot(self.seeds, self.pictures)


def picture_parts(arm: NDArray[np.bool_], base: NDArray[np.bool_]) -> PictureParts:
    """Return the two parts of the standard error of the mean difference in accuracy.

    Args:
        arm: which pictures each run read correctly, `(seeds, pictures)`.
        base: the same for the base, in the same order of seeds and pictures.
    """
    differences = arm.astype(np.float64) - base.astype(np.float64)
    by_seed, by_picture = differences.mean(axis=1), differences.mean(axis=0)
    return PictureParts(_standard_error(by_seed), _standard_error(by_picture))


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def binomial_error(accuracy: float, pictures: int) -> float:
    """Return the standard error that a test set's size alone gives the accuracy of one model."""
    return math.sqrt(accuracy * (1 - accuracy) / pictures) if pictures else math.nan


def published_p(right: int, base_right: int, pictures: int) -> float:
    """Return Fisher's exact two-sided p that two counts of pictures read correctly differ by the pictures' luck.

    Whoever publishes one run each leaves no more than this to test; that both read the same pictures, and that another
    seed would read others, is not in it.
    """
    from scipy import stats

    table = [[right, pictures - right], [base_right, pictures - base_right]]
    return float(stats.fisher_exact(table).pvalue)
