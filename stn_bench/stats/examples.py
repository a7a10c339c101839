"""The uncertainty from the test examples, not from the seeds: other examples give other numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ExampleParts:
    """The standard error of a mean difference, taken apart.

    Args:
        seeds: the part that more seeds would shrink.
        examples: the part that more test examples would shrink; seeds do not average it away.
    """

    seeds: float
    examples: float

    @property
    def both(self) -> float:
        """The standard error with both parts: how well the difference would hold on other examples and other seeds."""
        return math.hypot(self.seeds, self.examples)


def example_parts(arm: NDArray[Any], base: NDArray[Any]) -> ExampleParts:
    """Return the two parts of the standard error of the mean difference.

    Args:
        arm: the metric's value of each run on each example, `(seeds, examples)`; 1 or 0 for an accuracy.
        base: the same for the base, in the same order of seeds and examples.
    """
    differences = arm.astype(np.float64) - base.astype(np.float64)
    by_seed, by_example = differences.mean(axis=1), differences.mean(axis=0)
    return ExampleParts(_standard_error(by_seed), _standard_error(by_example))


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def binomial_error(fraction: float, examples: int) -> float:
    """Return the standard error of one model's fraction that comes from the size of the test set alone."""
    return math.sqrt(fraction * (1 - fraction) / examples) if examples else math.nan


def published_p(right: int, base_right: int, examples: int) -> float:
    """Return Fisher's exact two-sided p that two counts of right answers differ by the luck of the examples.

    Published single runs allow no other test. It ignores that both runs saw the same examples, and it ignores the
    effect of another seed.
    """
    from scipy import stats

    table = [[right, examples - right], [base_right, examples - base_right]]
    return float(stats.fisher_exact(table).pvalue)
