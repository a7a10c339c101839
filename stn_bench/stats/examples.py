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
        seeds: the part that more seeds would shrink; more examples shrink some of it too, what single seeds do to
            single examples.
        examples: the part that only more test examples would shrink: seeds do not average it away.
    """

    seeds: float
    examples: float

    @property
    def both(self) -> float:
        """The standard error with both parts: how well the difference would hold on other examples and other seeds."""
        return math.hypot(self.seeds, self.examples)


def example_parts(arm: NDArray[Any], base: NDArray[Any]) -> ExampleParts:
    """Return the two parts of the standard error of the mean difference.

    By the variance components of a two-way analysis of variance without replication (Searle, Casella and McCulloch,
    *Variance Components*, 1992, chapter 4): the means over seeds scatter by the examples and by what is left of both,
    which is taken off, since the part of the seeds holds it. With one seed it cannot be told apart, and stays.

    Args:
        arm: the metric's value of each run on each example, `(seeds, examples)`; 1 or 0 for an accuracy.
        base: the same for the base, in the same order of seeds and examples.
    """
    differences = arm.astype(np.float64) - base.astype(np.float64)
    by_seed, by_example = differences.mean(axis=1), differences.mean(axis=0)
    left = differences - by_seed[:, np.newaxis] - by_example + differences.mean()
    freedom = (len(by_seed) - 1) * (len(by_example) - 1)
    of_both = float((left**2).sum()) / freedom / differences.size if freedom else 0.0
    examples = _standard_error(by_example)
    return ExampleParts(_standard_error(by_seed), math.sqrt(max(0.0, examples**2 - of_both)))


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
