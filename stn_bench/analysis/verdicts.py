"""The verdicts of a study: what may be said of each arm. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stn_bench.stats import Judgement, Outcomes, Question, Rules, Verdict, judge_questions
from stn_bench.study.catalogue import Arm
from stn_bench.study.plan import Plan, PlannedAblation, PlannedArm
from stn_bench.tracking.results import ArmResults, Results

BUDGET = ("train.epochs", "data.count", "data.validation", "data.test")
"""Settings that give an arm more or fewer pictures to learn from or to be judged on."""


@dataclass(frozen=True)
class ArmVerdict:
    """The verdict on one arm of one question.

    Args:
        word: better, worse, equivalent, undecided, unreplicated or invalid.
        reason: why it is invalid; "" for the others.
        judgement: the numbers behind it, also of an invalid one.
    """

    word: Verdict
    reason: str
    judgement: Judgement


Verdicts = Mapping[str, Mapping[str, ArmVerdict]]
"""Ablation -> name of the arm in it -> its verdict."""


def verdicts(results: Results) -> Verdicts:
    """Return the verdict on every arm of every question."""
    plan = results.plan
    judged = judge_questions([_question(planned, results) for planned in plan.ablations], rules_of(plan))
    return {
        planned.ablation.name: {
            name: _with_reason(judgement, planned, name, results) for name, judgement in judgements.items()
        }
        for planned, judgements in zip(plan.ablations, judged, strict=True)
    }


def rules_of(plan: Plan) -> Rules:
    """Return what the study fixed before its first run."""
    study = plan.study
    return Rules(study.seeds, study.all_looks, study.margin, study.direction, study.family)


def unfair_reason(arm: ArmResults, base: ArmResults, max_failed: int = 0, seeds: Sequence[int] | None = None) -> str:
    """Return why two arms cannot be compared on some seeds, on all of them unless told, or ""."""
    for results in (arm, base):
        among = results.arm.seeds if seeds is None else seeds
        failed = failed_seeds(results).keys() & set(among)
        if len(failed) > max_failed:
            return f"{len(failed)} of {len(among)} seeds of `{results.arm.name}` failed"
    return budget_reason(arm.arm, base.arm)


def failed_seeds(arm: ArmResults) -> dict[int, str]:
    """Return seed -> why it diverged or crashed."""
    diverged = {seed: f"diverged: {run.reason}" for seed, run in arm.runs.items() if run.outcome == "diverged"}
    return diverged | {seed: f"crashed: {run.reason}" for seed, run in arm.crashed.items()}


def factor_reason(planned: PlannedAblation, name: str) -> str:
    """Return which settings an arm moves together without saying why they are one factor, or ""."""
    written = next(arm for arm, _ in planned.arms if arm.name == name)
    moved = moved_settings(written)
    if len(moved) < 2 or written.together or set(moved) <= set(planned.ablation.factors):
        return ""
    return f"more than one factor: {', '.join(f'`{path}`' for path in moved)}"


def moved_settings(written: Arm) -> tuple[str, ...]:
    """Return the settings that an arm moves, but for the width that `match` finds for it."""
    return tuple(path for path in written.set if not (written.match and path == "model.width"))


def _question(planned: PlannedAblation, results: Results) -> Question:
    metric = results.plan.study.metric
    arms = {name: _outcomes(results.of(arm), metric) for name, arm in _trained(planned)}
    return Question(_outcomes(results.of(planned.base), metric), arms)


def _outcomes(arm: ArmResults, metric: str) -> Outcomes:
    return Outcomes(arm.values(metric), frozenset(failed_seeds(arm)))


def _trained(planned: PlannedAblation) -> Iterator[tuple[str, PlannedArm]]:
    for written, arm in planned.arms:
        yield written.name, arm


def _with_reason(judgement: Judgement, planned: PlannedAblation, name: str, results: Results) -> ArmVerdict:
    study, arm = results.plan.study, results.of(dict(_trained(planned))[name])
    seeds = study.seeds[: study.all_looks[judgement.look - 1]]  # a later failure cannot undo an earlier look
    reason = unfair_reason(arm, results.of(planned.base), study.max_failed, seeds)
    reason = reason or factor_reason(planned, name)
    return ArmVerdict("invalid" if reason else judgement.word, reason, judgement)


def budget_reason(arm: PlannedArm, base: PlannedArm) -> str:
    """Return what one of two arms is given more of to do its best with, or ""."""
    if arm.trials != base.trials:
        return f"unequal budget: {arm.trials} tuning trials against {base.trials}"
    if len(arm.space) != len(base.space):
        return f"unequal search: {len(arm.space)} settings against {len(base.space)}"
    ours, theirs = arm.config.resolved().flat(), base.config.resolved().flat()
    for path in BUDGET:
        if ours[path] != theirs[path]:
            return f"unequal budget: `{path}` {ours[path]} against {theirs[path]}"
    return ""


__all__ = [
    "ArmVerdict",
    "Verdicts",
    "budget_reason",
    "factor_reason",
    "failed_seeds",
    "moved_settings",
    "rules_of",
    "unfair_reason",
    "verdicts",
]
