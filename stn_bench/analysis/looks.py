"""The rounds of a study: which runs it wants, as far as its results can tell today. Pure.

Seeds are trained in rounds over the arms that are still open and their bases, look by look. What is wanted follows
from the results alone: a study that was stopped goes on in the same round, and two commands that train it agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stn_bench.analysis.verdicts import ArmVerdict, verdicts
from stn_bench.study.plan import PlannedAblation
from stn_bench.tracking.results import ArmResults, Results


@dataclass(frozen=True, eq=False)
class _Pair:
    """An arm of a question beside its base, and whether they have ended the seeds of the look they were judged at."""

    name: str
    verdict: ArmVerdict
    arm: ArmResults
    base: ArmResults
    has_ended: bool

    @property
    def look(self) -> int:
        return self.verdict.judgement.look

    @property
    def is_awaited(self) -> bool:
        """Whether seeds of its look are still to come; where tuning has failed, there is nothing to wait for."""
        return not self.has_ended and self.arm.chosen is not None and self.base.chosen is not None

    @property
    def is_open(self) -> bool:
        """Whether another look could decide it."""
        judgement = self.verdict.judgement
        is_last = judgement.look == judgement.looks
        return self.has_ended and not is_last and not judgement.stopped and self.verdict.word != "invalid"


def wanted_seeds(results: Results) -> dict[str, tuple[int, ...]]:
    """Return label of the arm -> the seeds that the verdict wants it to be trained on.

    All arms begin with the first look's seeds. Once every arm of a family has ended the seeds of its look, those that
    are open go on to the next one, the hindmost first, and their bases go with them. A failed seed has ended.
    """
    study = results.plan.study
    looks = dict.fromkeys((arm.label for arm in results.plan.arms), 1)
    for family in _families(results):
        going_on = _going_on(family)
        for pair in family:
            needed = pair.look + (pair in going_on)
            for one in (pair.arm.arm, pair.base.arm):
                looks[one.label] = max(looks[one.label], needed)
    return {label: study.seeds[: study.all_looks[look - 1]] for label, look in looks.items()}


def planned_seeds(results: Results) -> dict[str, int]:
    """Return label of the arm -> on how many seeds the verdict phase ends for it: those wanted, and those it has."""
    wanted = wanted_seeds(results)
    return {arm.arm.label: len({*wanted[arm.arm.label], *arm.runs}) for arm in results.arms}


def planned_runs(results: Results) -> int:
    """Return the number of tuning trials and verdict runs of a study; it grows as long as arms stay open."""
    return sum(arm.arm.trials for arm in results.arms) + sum(planned_seeds(results).values())


def selected_arm(planned: PlannedAblation, results: Results, found: Mapping[str, ArmVerdict]) -> str | None:
    """Return the best arm of a question, which `run --confirm` trains on fresh seeds beside its base.

    Best is the arm with the best mean difference to the base on the seeds of its verdict: paired, since arms may have
    stopped at different looks. The base itself has none, so that where it is the best, the second is compared with it.
    Arms with an invalid verdict are left out. None: no arm is left, or runs of the verdict are still to come.

    Args:
        planned: the question.
        results: the study's results.
        found: the verdicts on the question's arms.
    """
    pairs = _pairs(planned, results, found)
    if any(pair.is_awaited or pair.is_open for pair in pairs):
        return None
    best = max((pair for pair in pairs if not math.isnan(_advantage(pair))), key=_advantage, default=None)
    return best.name if best else None


def confirming_seeds(results: Results) -> dict[str, tuple[int, ...]]:
    """Return label of the arm -> the fresh seeds that `run --confirm` trains it on: selected arms and their bases."""
    found, seeds = verdicts(results), dict[str, tuple[int, ...]]()
    for planned in results.plan.ablations:
        name = selected_arm(planned, results, found[planned.ablation.name])
        if name is not None:
            seeds |= {arm.label: arm.confirm for arm in (planned.base, planned.arm(name))}
    return seeds


def confirming_runs(results: Results) -> int:
    """Return the number of runs on fresh seeds that `run --confirm` has still to finish."""
    finished = {arm.arm.label: arm.confirmed.keys() for arm in results.arms}
    return sum(len(set(seeds) - finished[label]) for label, seeds in confirming_seeds(results).items())


def _families(results: Results) -> list[list[_Pair]]:
    """Return the pairs whose p-values are corrected together: those of a question, or all of them."""
    found = verdicts(results)
    questions = [_pairs(planned, results, found[planned.ablation.name]) for planned in results.plan.ablations]
    return questions if results.plan.study.family == "question" else [[pair for pairs in questions for pair in pairs]]


def _pairs(planned: PlannedAblation, results: Results, found: Mapping[str, ArmVerdict]) -> list[_Pair]:
    study, base = results.plan.study, results.of(planned.base)
    pairs = []
    for written, trained in planned.arms:
        verdict, arm = found[written.name], results.of(trained)
        seeds = set(study.seeds[: study.all_looks[verdict.judgement.look - 1]])
        pairs.append(_Pair(written.name, verdict, arm, base, seeds <= arm.ended & base.ended))
    return pairs


def _going_on(family: Sequence[_Pair]) -> list[_Pair]:
    open_ones = [pair for pair in family if pair.is_open]
    if not open_ones or any(pair.is_awaited for pair in family):
        return []
    hindmost = min(pair.look for pair in open_ones)
    return [pair for pair in open_ones if pair.look == hindmost]


def _advantage(pair: _Pair) -> float:
    """Return by how much an arm is better than its base; NaN where that is not known."""
    judgement = pair.verdict.judgement
    sign = 1 if judgement.rules.direction == "maximize" else -1
    return math.nan if pair.verdict.word == "invalid" else sign * judgement.comparison.difference


__all__ = ["confirming_runs", "confirming_seeds", "planned_runs", "planned_seeds", "selected_arm", "wanted_seeds"]
