"""Many simulated studies judged at once: the rule of `stn_bench/stats`, written for arrays.

A second writing of the rule, by which the first is checked: `benchmarks/verdicts.py` and the tests compare them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stn_bench.stats import Outcomes, Question, Rules, judge_questions
from stn_bench.stats.levels import level
from stn_bench.stats.rule import FAVOUR, NEARLY

ALPHA = 0.05
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Words:
    """The verdicts on the arms of many studies, `(studies, arms)`.

    Args:
        sign: 1 for better, -1 for worse, else 0.
        equivalent: whether they are equivalent.
        look: number of the look from 0.
        low: lower end of the interval.
        high: upper end.
    """

    sign: NDArray[np.int64]
    equivalent: NDArray[np.bool_]
    look: NDArray[np.int64]
    low: Numbers
    high: Numbers

    def differs(self, other: Words) -> bool:
        """Whether any word, look or interval is another one."""
        same = all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("sign", "equivalent", "look")
        )
        near = all(np.allclose(getattr(self, name), getattr(other, name), atol=1e-9) for name in ("low", "high"))
        return not (same and near)


def judge_many(differences: Numbers, looks: Sequence[int], margin: float = 0.0, step: float = 0.0) -> Words:
    """Return the verdicts on many studies.

    Args:
        differences: of the pairs, `(studies, arms, seeds)`; more is better.
        looks: numbers of seeds.
        margin: smaller differences count as equivalent.
        step: the metric's resolution.
    """
    shape, alpha = differences.shape[:2], level(looks, 1)
    stopped, look = np.zeros(shape, bool), np.zeros(shape, np.int64)
    sign, equivalent = np.zeros(shape, np.int64), np.zeros(shape, bool)
    low, high, alike_p = np.zeros(shape), np.zeros(shape), np.ones(shape)
    ps, sizes, signs = [np.ones(shape)], [np.zeros(shape)], [np.zeros(shape)]
    for number, count in enumerate(looks):
        live, one = ~stopped, _look(differences[..., :count], margin, step, alpha)
        ps.append(np.where(live, one.p, 1.0))
        sizes.append(np.where(live, one.size, sizes[-1]))
        signs.append(np.where(live, one.sign, signs[-1]))
        low, high = np.where(live, one.low, low), np.where(live, one.high, high)
        alike_p = np.where(live, np.minimum(1, len(looks) * one.alike_p), alike_p)
        look[live] = number
        consistent = [np.where(then == signs[-1], p, np.inf) for p, then in zip(ps[1:], signs[1:], strict=True)]
        adjusted = step_down(np.stack(consistent, -1), np.stack(sizes[1:], -1), looks)
        alike = (-margin < low) & (high < margin) & holm_many(alike_p)
        moved = ~alike & adjusted & ~((low <= 0) & (high >= 0))
        equivalent = np.where(live, alike, equivalent)
        sign = np.where(live, np.where(moved, np.sign(low + high), 0), sign).astype(np.int64)
        stopped |= alike | moved
    return Words(sign, equivalent, look, low, high)


@dataclass(frozen=True)
class _Look:
    p: Numbers
    size: Numbers
    sign: Numbers
    low: Numbers
    high: Numbers
    alike_p: Numbers


def _look(seen: Numbers, margin: float, step: float, alpha: float) -> _Look:
    """Return what the arms show at one look, `(studies, arms)` each."""
    count = seen.shape[2]
    mean, size, largest = seen.mean(axis=2), np.sqrt((seen**2).mean(axis=2)), np.abs(seen).max(axis=2)
    spread = np.where(np.ptp(seen, axis=2) <= 1e-14 * largest, 0.0, seen.std(axis=2, ddof=1))
    se = np.maximum(spread, step / np.sqrt(2)) / np.sqrt(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(se > 0, 2 * special.stdtr(count - 1, -np.abs(mean) / se), np.where(mean == 0, 1.0, np.nan))
        alike_p = np.where(se > 0, special.stdtr(count - 1, (np.abs(mean) - margin) / se), np.abs(mean) >= margin)
    reach, untested = special.stdtrit(count - 1, 1 - alpha / 2) * se, np.isnan(p)
    return _Look(
        p=np.where(untested, 1.0, p),
        size=np.where(untested, -1.0, size),
        sign=np.where(untested | (np.abs(mean) <= NEARLY * size), 0.0, np.sign(mean)),
        low=mean - reach,
        high=mean + reach,
        alike_p=alike_p,
    )


def step_down(p: Numbers, sizes: Numbers, looks: Sequence[int]) -> NDArray[np.bool_]:
    """Return which arms have an adjusted p of 5 % or less, `(studies, arms)`.

    Args:
        p: of each look, `(studies, arms, looks)`; infinite where the sign was another one.
        sizes: what the arms are ranked by, the same shape.
        looks: numbers of seeds of the whole plan.
    """
    studies, arms, _ = p.shape
    found, left, going = np.zeros((studies, arms), bool), np.ones((studies, arms), bool), np.arange(studies)
    for count in range(arms, 0, -1):
        tested = np.full((len(going), arms), np.inf)
        for number in range(p.shape[2]):
            ranked = np.where(left[going], sizes[going, :, number], -np.inf)
            tested = np.minimum(tested, p[going, :, number] / _weights(ranked, count))
        tested[~left[going]] = np.inf
        smallest = tested.argmin(axis=1)
        passed = tested[np.arange(len(going)), smallest] <= level(looks, count)
        going, smallest = going[passed], smallest[passed]
        found[going, smallest], left[going, smallest] = True, False
        if not len(going):
            break
    return found


def _weights(sizes: Numbers, count: int) -> Numbers:
    """Return the weight of each arm by its rank, `(studies, arms)`; those with a size of -inf are no longer there."""
    studies, arms = sizes.shape
    by_rank = np.full(arms, np.nan)
    ranks = np.arange(1, count + 1)
    by_rank[:count] = FAVOUR * 2.0**-ranks / (1 - 2.0**-count) + (1 - FAVOUR) / count
    order = np.argsort(-sizes, axis=1, kind="stable")
    ordered = np.take_along_axis(sizes, order, axis=1)[:, :count]
    weights = np.tile(by_rank, (studies, 1))
    tied = ordered[:, :-1] - ordered[:, 1:] <= NEARLY * ordered[:, :-1]
    tied |= ordered[:, :-1] == ordered[:, 1:]
    for study in np.flatnonzero(tied.any(axis=1)):
        starts = np.concatenate([[0], 1 + np.flatnonzero(~tied[study]), [count]])
        for start, end in itertools.pairwise(starts):
            weights[study, start:end] = by_rank[start:end].mean()
    found = np.empty_like(weights)
    np.put_along_axis(found, order, weights, axis=1)
    return found


def holm_many(p: Numbers) -> NDArray[np.bool_]:
    """Return which p are 5 % or less after Holm's correction over the arms, `(studies, arms)`."""
    order = np.argsort(p, axis=1)
    times = np.arange(p.shape[1], 0, -1) * np.take_along_axis(p, order, axis=1)
    found = np.empty(p.shape, bool)
    np.put_along_axis(found, order, np.maximum.accumulate(times, axis=1) <= ALPHA, axis=1)
    return found


def judge_plainly(differences: Numbers, looks: Sequence[int], margin: float = 0.0, step: float = 0.0) -> Words:
    """Return the verdicts on one study by the code that judges real ones, from differences `(arms, seeds)`."""
    seeds = tuple(range(looks[-1]))
    base = Outcomes(dict.fromkeys(seeds, 0.0), resolution=step)
    arms = {
        str(number): Outcomes(dict(enumerate(row)), resolution=step) for number, row in enumerate(differences.tolist())
    }
    found = list(judge_questions([Question(base, arms)], Rules(seeds, tuple(looks), margin))[0].values())
    return Words(
        np.array([[{"better": 1, "worse": -1}.get(one.word, 0) for one in found]]),
        np.array([[one.word == "equivalent" for one in found]]),
        np.array([[one.look - 1 for one in found]]),
        np.array([[one.comparison.low for one in found]]),
        np.array([[one.comparison.high for one in found]]),
    )
