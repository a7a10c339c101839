"""The looks of a study: which runs it wants, as far as its results can tell today. Pure.

Seeds are trained in rounds over the arms that are still open and their bases, look by look. The wanted seeds follow
from the results alone: a study that was stopped goes on in the same round, and two commands that train it agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stn_bench.analysis.verdicts import ArmVerdict, Verdicts
from stn_bench.study.plan import Plan
from stn_bench.tracking.results import ArmResults, Results


@dataclass(frozen=True, eq=False)
class Standing:
    """How far an arm of a question has come beside its base.

    Args:
        name: the arm's name in the question.
        verdict: its verdict.
        arm: its results.
        base: the base's results.
        has_ended: whether both have ended the seeds of the look that it was judged at.
    """

    name: str
    verdict: ArmVerdict
    arm: ArmResults
    base: ArmResults
    has_ended: bool

    @property
    def look(self) -> int:
        """The look that it was judged at, from 1."""
        return self.verdict.judgement.look

    @property
    def is_awaited(self) -> bool:
        """Whether seeds of its look are still to come; where tuning has failed, there is nothing to wait for."""
        return not self.has_ended and self.arm.chosen is not None and self.base.chosen is not None

    @property
    def is_settled(self) -> bool:
        """Whether it needs no seed beyond those of its look: that look decided it, or made it invalid."""
        return self.has_ended and (self.verdict.stopped or self.verdict.word == "invalid")

    @property
    def is_open(self) -> bool:
        """Whether another look could decide it."""
        return self.has_ended and not self.is_settled and self.look < self.verdict.judgement.looks

    @property
    def advantage(self) -> float:
        """By how much the arm is better than its base; NaN where that is not known."""
        judgement = self.verdict.judgement
        sign = 1 if judgement.rules.direction == "maximize" else -1
        return math.nan if self.verdict.word == "invalid" else sign * judgement.comparison.difference


Standings = Mapping[str, Sequence[Standing]]
"""Question -> its arms, without the base."""


def standings(results: Results, verdicts: Verdicts) -> Standings:
    """Return how far every arm of every question has come."""
    study = results.plan.study
    found: dict[str, list[Standing]] = {}
    for question in results.plan.questions:
        base, rows = results.of(question.base), found.setdefault(question.ablation.name, [])
        for name, verdict in verdicts[question.ablation.name].items():
            arm, seeds = results.of(question.arms[name]), study.seeds[: study.all_looks[verdict.judgement.look - 1]]
            rows.append(Standing(name, verdict, arm, base, set(seeds) <= arm.ended & base.ended))
    return found


def wanted_seeds(plan: Plan, found: Standings) -> dict[str, tuple[int, ...]]:
    """Return label of the arm -> the seeds that the verdict wants it to be trained on.

    All arms begin with the first look's seeds. Once every arm of a family has ended the seeds of its look, those that
    are open go on to the next one, the hindmost first, and their bases go with them. A failed seed has ended.
    """
    study, looks = plan.study, dict.fromkeys((arm.label for arm in plan.arms), 1)
    questions = list(found.values())
    families = questions if study.family == "question" else [[one for rows in questions for one in rows]]
    for family in families:
        going_on = _going_on(family)
        for standing in family:
            needed = standing.look + (standing in going_on)
            for one in (standing.arm.arm, standing.base.arm):
                looks[one.label] = max(looks[one.label], needed)
    counts = {arm.label: study.all_looks[looks[arm.label] - 1] for arm in plan.arms}
    own = {arm.label: set(arm.seeds) for arm in plan.arms}
    return {
        label: tuple(seed for seed in study.seeds[:count] if seed in own[label]) for label, count in counts.items()
    }


def final_seeds(plan: Plan, found: Standings, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return label of the arm -> the seeds that it will have been trained on in the end, as far as can be told today.

    All of its seeds as long as one of its comparisons, with its base or as a base, may go on; then those it is wanted
    on, since the looks have settled it.
    """
    going_on = {
        arm.arm.label
        for rows in found.values()
        for one in rows
        if one.is_awaited or one.is_open
        for arm in (one.arm, one.base)
    }
    return {arm.label: arm.seeds if arm.label in going_on else wanted[arm.label] for arm in plan.arms}


def _going_on(family: Sequence[Standing]) -> list[Standing]:
    open_ones = [standing for standing in family if standing.is_open]
    if not open_ones or any(standing.is_awaited for standing in family):
        return []
    hindmost = min(standing.look for standing in open_ones)
    return [standing for standing in open_ones if standing.look == hindmost]


def selected_arm(arms: Sequence[Standing]) -> str | None:
    """Return the best arm of a question, which `run --confirm` trains on fresh seeds beside its base.

    Best is the arm with the best mean difference to the base on the seeds of its verdict: paired, since arms may have
    stopped at different looks. The base itself has none, so that where it is the best, the second is compared with it.
    Arms with an invalid verdict are left out. None: no arm is left, or runs of the verdict are still to come.
    """
    if any(standing.is_awaited or standing.is_open for standing in arms):
        return None
    known = [standing for standing in arms if not math.isnan(standing.advantage)]
    best = max(known, key=lambda standing: standing.advantage, default=None)
    return best.name if best else None


__all__ = ["Standing", "Standings", "final_seeds", "selected_arm", "standings", "wanted_seeds"]
