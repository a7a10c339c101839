"""Verdicts: the conclusion from a comparison, over several arms and several interim looks.

Looks are fixed in the plan and each p is multiplied by their number (Bonferroni over looks); the running minimum over
the looks is then a valid p at every one of them, so that arms may stop at different times and Holm's correction over
the arms still holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stn_bench.stats.comparison import FEWEST_FLIPS, Comparison, compare_arms
from stn_bench.stats.power import more_seeds
from stn_bench.stats.values import ALPHA, FEWEST_SEEDS, Direction, Values

Verdict = Literal["better", "worse", "equivalent", "undecided", "unreplicated", "invalid"]


@dataclass(frozen=True)
class Rules:
    """The rules that were fixed before the first run.

    Args:
        seeds: the seeds in the order in which they are trained.
        looks: numbers of seeds after which the verdicts are looked at, rising; the last is all of them.
        margin: differences smaller than this count as equivalent, in units of the metric.
        direction: which way the metric is better.
        family: what Holm's correction counts: the arms of a question, or those of the whole study.
    """

    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    margin: float
    direction: Direction = "maximize"
    family: Literal["question", "study"] = "question"

    @property
    def alpha(self) -> float:
        """1 minus the level of an interval: 0.05 shared by the looks."""
        return ALPHA / len(self.looks)


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of an arm's seeds: the metric of the finished ones, and the seeds that failed."""

    values: Values
    failed: frozenset[int] = frozenset()

    def has(self, seeds: Sequence[int]) -> bool:
        """Whether every one of these seeds has ended."""
        return set(seeds) <= self.values.keys() | self.failed

    def among(self, seeds: Sequence[int]) -> Outcomes:
        """Return the outcomes of some seeds."""
        return Outcomes({s: self.values[s] for s in seeds if s in self.values}, self.failed & set(seeds))


@dataclass(frozen=True)
class Question:
    """The arms of one question, by name, and the base that they are compared with."""

    base: Outcomes
    arms: Mapping[str, Outcomes]


@dataclass(frozen=True)
class Judgement:
    """The verdict on one arm.

    Args:
        word: the verdict.
        comparison: the arm against its base, on the seeds of its look.
        p: the comparison's p times the number of looks, the smallest so far.
        p_adjusted: the same after Holm's correction.
        equivalence_p: p of the two one-sided tests against the margin, times the number of looks.
        look: which look it was judged at, from 1.
        rules: what it was judged by.
        stopped: whether it needs no more seeds although some are planned.
    """

    word: Verdict
    comparison: Comparison
    p: float
    p_adjusted: float
    equivalence_p: float
    look: int
    rules: Rules
    stopped: bool = False

    @property
    def looks(self) -> int:
        """How many looks were planned."""
        return len(self.rules.looks)

    @property
    def more_seeds(self) -> int | None:
        """For an undecided arm, about how many more seeds would decide it; None if a thousand would not."""
        if self.word != "undecided":
            return None
        share = self.p / self.p_adjusted if self.p_adjusted > 0 else 1.0
        return more_seeds(self.comparison, self.rules.margin, self.rules.alpha, share)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's method; NaN stays NaN and does not count."""
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for left, (p, index) in zip(range(len(known), 0, -1), known, strict=True):
        adjusted[index] = largest = max(largest, min(1.0, left * p))
    return adjusted


def judge(comparison: Comparison, p_adjusted: float, *, margin: float, direction: Direction) -> Verdict:
    """Return the verdict on an arm whose runs are all sound.

    Equivalence is two one-sided tests at half the level of the interval each: the interval lies within the margin.

    Args:
        comparison: the arm against its base.
        p_adjusted: its p, adjusted for the looks and for the arms of the same family.
        margin: differences smaller than this count as equivalent.
        direction: which way the metric is better.
    """
    if comparison.n < FEWEST_SEEDS:
        return "unreplicated"
    if -margin < comparison.low and comparison.high < margin:
        return "equivalent"
    if p_adjusted < ALPHA and not comparison.low <= 0 <= comparison.high:
        return "better" if (comparison.difference > 0) == (direction == "maximize") else "worse"
    return "undecided"


def judge_questions(questions: Sequence[Question], rules: Rules) -> list[dict[str, Judgement]]:
    """Return the verdict on each arm of each question, look by look.

    An arm that an early look decides keeps that look's numbers. A look counts for an arm once the arm and its base
    have ended all of its seeds; before the first, what is there is shown.
    """
    found: list[dict[str, Judgement]] = [{} for _ in questions]
    for look, count in enumerate(rules.looks, start=1):
        seeds = rules.seeds[:count]
        for question, judged in zip(questions, found, strict=True):
            judged |= dict(_compared(question, judged, seeds, look, rules))
        for group in [found] if rules.family == "study" else [[judged] for judged in found]:
            _correct(group)
        for question, judged in zip(questions, found, strict=True):
            for name, judgement in judged.items():
                if judgement.look == look:
                    judged[name] = _worded(judgement, _lacking(question, name, seeds))
    return found


def _compared(
    question: Question, judged: Mapping[str, Judgement], seeds: Sequence[int], look: int, rules: Rules
) -> Iterator[tuple[str, Judgement]]:
    """Yield the arms that are still open at a look, compared on its seeds."""
    live = [
        name
        for name, arm in question.arms.items()
        if look == 1 or (not judged[name].stopped and arm.has(seeds) and question.base.has(seeds))
    ]
    arms, base = [question.arms[name].among(seeds).values for name in live], question.base.among(seeds).values
    for name, comparison in zip(live, compare_arms(arms, base, rules.direction, rules.alpha), strict=True):
        p = _at_each_look(comparison.p, rules)
        before = judged[name].p if name in judged else math.nan
        p = before if before < p else p
        equivalence_p = _at_each_look(comparison.equivalence_p(rules.margin), rules)
        yield name, Judgement("undecided", comparison, p, math.nan, equivalence_p, look, rules)


def _at_each_look(p: float, rules: Rules) -> float:
    """Return a p-value that may be looked at as often as was planned; NaN stays NaN."""
    return p if math.isnan(p) else min(1.0, len(rules.looks) * p)


def _correct(group: Sequence[dict[str, Judgement]]) -> None:
    """Set the corrected p of every arm of a family.

    An arm without results yet counts as an arm without effect. So an early decision stands, whatever the result of
    that arm.
    """
    places = [(judged, name) for judged in group for name in judged]
    known = [judged[name].p for judged, name in places]
    for (judged, name), p in zip(places, holm([1.0 if math.isnan(p) else p for p in known]), strict=True):
        judged[name] = replace(judged[name], p_adjusted=math.nan if math.isnan(judged[name].p) else p)


def _lacking(question: Question, arm: str, seeds: Sequence[int]) -> int:
    """Return on how many of a look's seeds an arm and its base have no value: they failed, or are still to come."""
    return sum(len(seeds) - len(one.among(seeds).values) for one in (question.arms[arm], question.base))


def _worded(judgement: Judgement, lacking: int) -> Judgement:
    rules = judgement.rules
    word = judge(judgement.comparison, judgement.p_adjusted, margin=rules.margin, direction=rules.direction)
    early = judgement.look < judgement.looks
    if early and word in ("better", "worse", "equivalent"):
        stands = not lacking and (word == "equivalent" or _is_one_sided(judgement.comparison))
        word = word if stands else "undecided"
        judgement = replace(judgement, stopped=stands)
    return replace(judgement, word=word)


def _is_one_sided(comparison: Comparison) -> bool:
    """Whether an early stop may trust the direction: every seed says so, or from six on the sign-flip test does."""
    if comparison.n >= FEWEST_FLIPS:
        return comparison.flip_p < ALPHA
    return comparison.n in (comparison.wins, comparison.losses)
