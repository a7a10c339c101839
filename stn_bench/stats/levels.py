"""Levels: how small p / weight must be at one look, so that all looks together give 5 %.

Shipped are the plans of looks that are most used; `benchmarks/levels.py` made the numbers, and makes those of any
other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from stn_bench.stats.rule import FAVOUR
from stn_bench.stats.values import ALPHA

Levels = Mapping[int, float]
"""Number of arms without effect -> x_s, rising numbers."""

COUNTS = (1, 2, 4, 8, 16)
"""Numbers of arms for which a plan of looks is calibrated; between them the next larger counts."""

STUDIES = 200_000
"""Simulated studies of a plan that is calibrated as it is first needed: seconds, a standard error of 1 % of x_s."""

SEED = 20_261_126
CHUNK = 20_000
"""Studies that are drawn at a time: their order of draws is part of what a seed means."""

SHIPPED: Mapping[tuple[int, ...], Levels] = {
    (3, 5): {1: 0.02806, 2: 0.02756, 4: 0.02718, 8: 0.02669, 16: 0.02640},
    (3, 5, 8): {1: 0.01984, 2: 0.01941, 4: 0.01887, 8: 0.01845, 16: 0.01818},
    (3, 5, 10): {1: 0.01913, 2: 0.01869, 4: 0.01834, 8: 0.01814, 16: 0.01792},
    (4, 6): {1: 0.02957, 2: 0.02916, 4: 0.02827, 8: 0.02790, 16: 0.02749},
    (5, 8): {1: 0.02937, 2: 0.02889, 4: 0.02817, 8: 0.02797, 16: 0.02742},
    (4, 6, 8): {1: 0.02207, 2: 0.02116, 4: 0.02060, 8: 0.01997, 16: 0.01962},
    (4, 6, 10): {1: 0.02071, 2: 0.01999, 4: 0.01943, 8: 0.01906, 16: 0.01879},
    (4, 5, 6, 8, 10): {1: 0.01629, 2: 0.01528, 4: 0.01451, 8: 0.01400, 16: 0.01344},
    (3, 8): {1: 0.02653, 2: 0.02634, 4: 0.02630, 8: 0.02597, 16: 0.02572},
    (4, 8): {1: 0.02769, 2: 0.02720, 4: 0.02678, 8: 0.02686, 16: 0.02648},
}
"""As `python benchmarks/levels.py` printed them: 2,000,000 studies each, seed 20261126, standard error 0.0001 at
most."""


def level(looks: Sequence[int], arms: int, calibrated: Levels = MappingProxyType({})) -> float:
    """Return x_s of a plan of looks for a number of arms without effect.

    Args:
        looks: numbers of seeds after which the verdicts are looked at.
        arms: number of arms, s.
        calibrated: the levels of this plan, where they are known besides the shipped ones. Where nothing is known of
            so many arms, the looks share the 5 % evenly, which always holds.
    """
    if len(looks) == 1:
        return ALPHA
    known = SHIPPED.get(tuple(looks), calibrated)
    return next((known[count] for count in sorted(known) if count >= arms), ALPHA / len(looks))


def is_shipped(looks: Sequence[int]) -> bool:
    """Whether the levels of a plan of looks need no calibration."""
    return len(looks) == 1 or tuple(looks) in SHIPPED


@functools.lru_cache(maxsize=32)
def calibrate(
    looks: tuple[int, ...], most: int = COUNTS[-1], studies: int = STUDIES, seed: int = SEED
) -> dict[int, float]:
    """Return the levels of a plan of looks by simulation, for up to so many arms: the same for the same seed."""
    counts = [arms for arms, before in zip(COUNTS, (0, *COUNTS), strict=False) if before < most]
    return {arms: quantile(smallest(looks, arms, studies, seed))[0] for arms in counts}


def quantile(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 5 % quantile of what many studies showed, and its standard error (from the binomial's ranks)."""
    count = len(drawn)
    spread = math.sqrt(ALPHA * (1 - ALPHA) / count)
    low, found, high = np.quantile(drawn, [ALPHA - spread, ALPHA, ALPHA + spread])
    return float(found), float(high - low) / 2


def smallest(looks: tuple[int, ...], arms: int, studies: int, seed: int) -> NDArray[np.float64]:
    """Return the smallest p / weight of all arms and looks of each study in which no arm has an effect, `(studies,)`.

    The arms' differences are normal, of equal spread and independent.
    """
    rng = np.random.default_rng([seed, arms, *looks])
    found = [
        over_looks(rng.standard_normal((min(CHUNK, studies - start), arms, looks[-1])), looks).min(axis=(1, 2))
        for start in range(0, studies, CHUNK)
    ]
    return np.concatenate(found)


def over_looks(differences: NDArray[np.float64], looks: Sequence[int]) -> NDArray[np.float64]:
    """Return p / weight of each arm at each look, `(studies, arms, looks)`, from paired differences by seed.

    What is above 0.1, which no level is, is 1: its p need not be known.

    Args:
        differences: `(studies, arms, seeds)`.
        looks: numbers of seeds.
    """
    from scipy import special

    shares = by_rank(differences.shape[1])
    found = np.ones((*differences.shape[:2], len(looks)))
    for index, count in enumerate(looks):
        seen = differences[..., :count]
        mean, square = np.einsum("ijk->ij", seen) / count, np.einsum("ijk,ijk->ij", seen, seen) / count
        t = np.abs(mean) / np.sqrt(np.maximum(square - mean**2, 0) / (count - 1))
        ranks = np.argsort(np.argsort(-square, axis=1), axis=1)
        near = t > special.stdtrit(count - 1, 1 - ALPHA * shares)[ranks]
        found[near, index] = 2 * special.stdtr(count - 1, -t[near]) / shares[ranks[near]]
    return found


def by_rank(arms: int) -> NDArray[np.float64]:
    """Return the weight of each rank in a set of arms, the largest first."""
    ranks = np.arange(1, arms + 1)
    return np.asarray(FAVOUR * 2.0**-ranks / (1 - 2.0**-arms) + (1 - FAVOUR) / arms)
