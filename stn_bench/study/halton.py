"""Scrambled Halton points: those of `scipy.stats.qmc.Halton`, without the second that it takes to load scipy.stats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

BITS = 54  # digits of a point are scrambled as far as a float tells them apart


def halton(dimensions: int, number: int, seed: int) -> NDArray[np.float64]:
    """Return the first points of the sequence, `(number, dimensions)`, each coordinate at least 0 and below 1.

    Args:
        dimensions: coordinates of a point.
        number: how many points.
        seed: of the scrambling: every digit of every coordinate has its own permutation.

    A. B. Owen, "A randomized Halton algorithm in R", 2017.
    """
    random = np.random.default_rng(seed).spawn(1)[0]  # as scipy does
    bases = list(islice(_primes(), dimensions))
    permutations = [_permutations(base, random) for base in bases]
    return np.stack([_column(base, one, number) for base, one in zip(bases, permutations, strict=True)], axis=1)


def _primes() -> Iterator[int]:
    return (one for one in count(2) if all(one % other for other in range(2, math.isqrt(one) + 1)))


def _permutations(base: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return a permutation of a base's digits for each place behind the point, `(places, base)`."""
    found = np.repeat(np.arange(base)[None], math.ceil(BITS / math.log2(base)) - 1, axis=0)
    for one in found:
        random.shuffle(one)
    return found


def _column(base: int, permutations: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    """Return a coordinate of all points: the digits of 0, 1, … in a base, permuted and mirrored at the point."""
    left, weight, column = np.arange(number), 1.0 / base, np.zeros(number)
    for permutation in permutations:
        column += permutation[left % base] * weight
        left, weight = left // base, weight / base
    return column
