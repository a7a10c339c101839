"""Verdicts: the conclusion from a comparison, over the arms of a family and the looks that were planned.

Words stand at planned looks alone. An arm that an early look decides keeps that look's numbers; the others go on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from stn_bench.stats import rule
from stn_bench.stats.comparison import Comparison, compare
from stn_bench.stats.levels import Levels, level
from stn_bench.stats.power import Observed, more_seeds
from stn_bench.stats.rule import AWAITED, UNTESTABLE, Shown, holm, sign_of
from stn_bench.stats.values import ALPHA, FEWEST_SEEDS, Direction, Values, is_number

Verdict = Literal["better", "worse", "equivalent", "undecided", "unreplicated", "invalid"]
Correction = Literal["ranked", "holm"]


@dataclass(frozen=True)
class Rules:
    """The rules that were fixed before the first run.

    Args:
        seeds: the seeds in the order in which they are trained.
        looks: numbers of seeds after which the verdicts are looked at, rising; the last is all of them.
        margin: differences smaller than this count as equivalent, in units of the metric.
        direction: which way the metric is better.
        family: what is corrected for: the arms of a question, or those of the whole study.
        correction: "ranked", the rule; "holm", the classic.
        levels: number of arms -> level of one look, as calibrated for these looks; {}: as shipped, or shared evenly.
    """

    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    margin: float
    direction: Direction = "maximize"
    family: Literal["question", "study"] = "question"
    correction: Correction = "ranked"
    levels: Levels = field(default_factory=dict)

    def level(self, arms: int) -> float:
        """Return the level of one look for a number of arms without effect."""
        return level(self.looks, arms, self.levels)

    @property
    def alpha(self) -> float:
        """1 minus the level of an interval: that of one look for one arm."""
        return self.level(1)


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of an arm's seeds.

    Args:
        values: the metric of the finished seeds.
        failed: the seeds that failed.
        resolution: the smallest step of the metric; 0: none.
        is_closed: whether no other seed will come, as of runs that others made.
        is_settled: whether an arm gets no seeds beyond its look, whatever it showed there.
    """

    values: Values
    failed: frozenset[int] = frozenset()
    resolution: float = 0.0
    is_closed: bool = False
    is_settled: bool = False

    def has(self, seeds: Sequence[int]) -> bool:
        """Whether every one of these seeds has ended."""
        return self.is_closed or set(seeds) <= self.values.keys() | self.failed

    def among(self, seeds: Sequence[int]) -> Outcomes:
        """Return the outcomes of some seeds."""
        return replace(
            self, values={s: self.values[s] for s in seeds if s in self.values}, failed=self.failed & set(seeds)
        )

    def sound(self) -> Outcomes:
        """Return the outcomes, those of a value that is no number among the failed."""
        broken = {seed for seed, value in self.values.items() if not is_number(value)}
        values = {seed: value for seed, value in self.values.items() if seed not in broken}
        return replace(self, values=values, failed=self.failed | broken) if broken else self


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
        p_adjusted: its p, adjusted for the arms of the family and the looks so far by the study's correction; NaN
            before the first look is complete, and where no test can be made.
        holm_p: the same by the classic: paired t, looks, Holm.
        equivalence_p: p of the two one-sided tests against the margin, times the number of looks, and adjusted for the
            arms by Holm's method.
        look: which look it was judged at, from 1.
        rules: what it was judged by.
        stopped: whether it needs no more seeds although some are planned.
        lacks: of a look that is not complete, how many seeds are still to come, of the arm or its base; else 0.
        level: what p must reach at one look, of the arms that share it: over the weight of its rank beside `beside`.
        equivalence_level: what its p of the one-sided tests must reach there.
        beside: what the arms showed that it shares the level with.
    """

    word: Verdict
    comparison: Comparison
    p_adjusted: float
    holm_p: float
    equivalence_p: float
    look: int
    rules: Rules
    stopped: bool = False
    lacks: int = 0
    level: float = ALPHA
    equivalence_level: float = ALPHA / 2
    beside: tuple[Observed, ...] = field(default=(), repr=False)

    @property
    def looks(self) -> int:
        """How many looks were planned."""
        return len(self.rules.looks)

    @property
    def more_seeds(self) -> int | None:
        """For an undecided arm, roughly how many more seeds would decide it; None if a thousand would not."""
        if self.word != "undecided" or self.lacks:
            return None
        levels = (self.level, min(self.rules.alpha / 2, self.equivalence_level))
        return more_seeds(self.comparison, self.rules.margin, *levels, self.beside)


def judge(
    comparison: Comparison, p_adjusted: float, *, margin: float, direction: Direction, equivalence_p: float
) -> Verdict:
    """Return the verdict on an arm whose runs are all sound.

    Equivalence is two one-sided tests at half the level of the interval each: the interval lies within the margin.

    Args:
        comparison: the arm against its base.
        p_adjusted: its p, adjusted for the looks and for the arms of the same family.
        margin: differences smaller than this count as equivalent.
        direction: which way the metric is better.
        equivalence_p: p of the two one-sided tests, adjusted likewise; NaN where no test can be made.
    """
    if comparison.n < FEWEST_SEEDS:
        return "unreplicated"
    if -margin < comparison.low and comparison.high < margin and equivalence_p <= ALPHA:
        return "equivalent"
    if p_adjusted <= ALPHA and not comparison.low <= 0 <= comparison.high:
        return "better" if (comparison.difference > 0) == (direction == "maximize") else "worse"
    return "undecided"


def judge_questions(questions: Sequence[Question], rules: Rules) -> list[dict[str, Judgement]]:
    """Return the verdict on each arm of each question, look by look.

    A look counts for an arm once the arm and its base have ended all of its seeds. Before the first, what is there is
    shown, and the word is "undecided".
    """
    arms = {
        (number, name): _Arm(arm.sound(), question.base.sound(), rules)
        for number, question in enumerate(questions)
        for name, arm in question.arms.items()
    }
    for look in range(1, len(rules.looks) + 1):
        for arm in arms.values():
            arm.show(look)
        for number in range(len(questions)) if rules.family == "question" else [None]:
            _judge({key: arm for key, arm in arms.items() if number in (None, key[0])}, look, rules)
    found: list[dict[str, Judgement]] = [{} for _ in questions]
    for (number, name), arm in arms.items():
        found[number][name] = arm.judgement
    return found


class _Arm:
    """An arm beside its base, look by look.

    Args:
        arm: the arm's outcomes.
        base: the base's.
        rules: what it is judged by.
    """

    def __init__(self, arm: Outcomes, base: Outcomes, rules: Rules) -> None:
        self._arm, self._base, self._rules = arm, base, rules
        self.seen: list[Shown] = []
        self.judgement: Judgement

    def show(self, look: int) -> None:
        """Add what the arm shows at a look, if there is anything new."""
        if look > 1 and (self.judgement.stopped or not self._goes_on(look)):
            self.seen.append(self.seen[-1]._replace(p=1.0))
            return
        seeds = self._rules.seeds[: self._rules.looks[look - 1]]
        has_ended = self._arm.has(seeds) and self._base.has(seeds)
        self.seen.append(self._compared(look, seeds, has_ended) if has_ended or look == 1 else AWAITED)

    def _goes_on(self, look: int) -> bool:
        """Whether seeds of a look, beyond those of the one before, are there or may still come."""
        before, now = self._rules.looks[look - 2 : look]
        new = set(self._rules.seeds[before:now])
        there = new & (self._arm.values.keys() | self._arm.failed)
        if self._arm.is_settled:
            return there == new  # trained for another question
        return not self._arm.is_closed or bool(there)

    def _compared(self, look: int, seeds: Sequence[int], has_ended: bool) -> Shown:
        arm, base, rules = self._arm.among(seeds), self._base.among(seeds), self._rules
        resolution = max(arm.resolution, base.resolution)
        found = compare(arm.values, base.values, rules.direction, rules.alpha, resolution)
        lacks = max(len(set(seeds) - one.values.keys() - one.failed) for one in (arm, base))
        self.judgement = Judgement(
            "undecided", found, math.nan, math.nan, math.nan, look, rules, lacks=0 if has_ended else lacks
        )
        if not has_ended:
            return AWAITED
        if found.n < FEWEST_SEEDS or math.isnan(found.p):
            return UNTESTABLE
        return Shown(found.p, found.size, sign_of(found.difference, found.size))

    @property
    def showed(self) -> Observed:
        """What the arm showed at its latest look; without numbers it counts by its rank alone."""
        if math.isinf(self.seen[-1].size):
            return Observed(math.inf, 0.0)
        found = self.judgement.comparison
        return Observed(0.0, 0.0) if self.seen[-1].size < 0 else Observed(found.difference, found.sd)

    def is_judged_at(self, look: int) -> bool:
        """Whether the look is the one that the arm was last compared at, and complete."""
        return self.judgement.look == look and not self.judgement.lacks

    def equivalence_p(self) -> float:
        """Return p of the two one-sided tests, times the number of looks; NaN where there is none."""
        if self.judgement.lacks:
            return math.nan
        p = self.judgement.comparison.equivalence_p(self._rules.margin)
        return p if math.isnan(p) else min(1.0, len(self._rules.looks) * p)

    def worded(self, numbers: Judgement) -> Judgement:
        """Return a judgement with its word. No verdict is early if a seed of the arm or of the base failed."""
        rules, seeds = self._rules, self._rules.seeds[: self._rules.looks[numbers.look - 1]]
        word = judge(
            numbers.comparison,
            numbers.p_adjusted,
            margin=rules.margin,
            direction=rules.direction,
            equivalence_p=numbers.equivalence_p,
        )
        if numbers.look == len(rules.looks) or word not in ("better", "worse", "equivalent"):
            return replace(numbers, word=word)
        is_whole = all(set(seeds) <= one.values.keys() for one in (self._arm, self._base))
        return replace(numbers, word=word if is_whole else "undecided", stopped=is_whole)


def _judge(family: Mapping[tuple[int, str], _Arm], look: int, rules: Rules) -> None:
    """Judge the arms of a family that have come to a look.

    An arm without results yet counts as an arm without effect, so that an early decision stands whatever it shows.
    """
    seen = {key: arm.seen for key, arm in family.items()}
    ranked, classic = rule.adjusted(seen, rules.level), rule.classic(seen, rules.level)
    p_adjusted = ranked if rules.correction == "ranked" else classic
    alike = {key: arm.equivalence_p() for key, arm in family.items()}
    equivalence = dict(zip(family, holm([1.0 if math.isnan(p) else p for p in alike.values()]), strict=True))
    found = sum(p <= ALPHA for p in classic.values()), sum(p <= ALPHA for p in equivalence.values())
    for key, arm in family.items():
        if not arm.is_judged_at(look):
            continue
        is_known = arm.seen[-1] is not UNTESTABLE
        numbers = replace(
            arm.judgement,
            p_adjusted=p_adjusted[key] if is_known else math.nan,
            holm_p=classic[key] if is_known else math.nan,
            equivalence_p=math.nan if math.isnan(alike[key]) else equivalence[key],
            equivalence_level=ALPHA / len(rules.looks) / max(1, len(family) - found[1]),
        )
        numbers = arm.worded(numbers)
        if numbers.word == "undecided":
            if rules.correction == "ranked":
                beside = tuple(one.showed for name, one in family.items() if name != key and ranked[name] > ALPHA)
                numbers = replace(numbers, level=rules.level(1 + len(beside)), beside=beside)
            else:
                numbers = replace(numbers, level=rules.alpha / max(1, len(family) - found[0]))
        arm.judgement = numbers
