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
LARGEST = 1e150  # of a value that is a number: the squares of more would be infinite
ROUNDING = 1e-14  # relative to the values: differences that differ by less are the same


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (NaN below two values) of n values."""

    n: int
    mean: float
    sd: float


def is_number(value: float) -> bool:
    """Whether a value can be compared: neither NaN nor infinite, nor so large that its square would be."""
    return abs(value) <= LARGEST


def spread(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of some values."""
    array = np.asarray(values, np.float64)
    mean = float(array.mean()) if array.size else math.nan
    return Spread(array.size, mean, float(array.std(ddof=1)) if array.size > 1 else math.nan)


def known(value: float) -> float | None:
    """Return a value, or None in place of NaN."""
    return None if math.isnan(value) else value


def known_interval(low: float, high: float) -> tuple[float, float] | None:
    """Return an interval, or None in place of one that is not known."""
    return None if math.isnan(low) else (low, high)
