"""Values by seed, their mean and their spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Direction = Literal["maximize", "minimize"]
Values = Mapping[int, float]
"""Seed -> value of a metric."""

ALPHA = 0.05
FEWEST_SEEDS = 3
ROUNDING = 1e-14  # relative to the values: differences that differ by less are the same


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (NaN below two values) of n values."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True)
class SeedMean:
    """A mean over n seeds with its 95 % t-interval; NaN where too few values tell."""

    n: int
    mean: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of some values."""
    array = np.asarray(values, np.float64)
    mean = float(array.mean()) if array.size else math.nan
    return Spread(array.size, mean, float(array.std(ddof=1)) if array.size > 1 else math.nan)


def estimate(values: Sequence[float]) -> SeedMean:
    """Return the mean of some values and Student's interval of it."""
    from stn_bench.stats.comparison import compare

    zeros = dict.fromkeys(range(len(values)), 0.0)
    against_zero = compare(dict(enumerate(values)), zeros)
    return SeedMean(against_zero.n, against_zero.difference, against_zero.low, against_zero.high)


def known(value: float) -> float | None:
    """Return a value, or None in place of NaN."""
    return None if math.isnan(value) else value


def known_interval(low: float, high: float) -> tuple[float, float] | None:
    """Return an interval, or None in place of one that is not known."""
    return None if math.isnan(low) else (low, high)
