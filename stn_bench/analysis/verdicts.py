"""The verdicts of a study: what may be said of each arm. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from stn_bench.stats import Judgement, Outcomes, Question, Rules, Verdict, is_number, judge_questions
from stn_bench.study.metrics import step_of
from stn_bench.study.plan import Plan, PlannedArm, PlannedQuestion
from stn_bench.tracking.found import FoundResults
from stn_bench.tracking.results import ArmResults, Results

NO_TEST = "no test can be made where nothing tells the metric's resolution"
"""What is said of values, or of differences, that are all the same."""

ALL_ALIKE = f"all pairs differ alike, and {NO_TEST}"


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

    @property
    def stopped(self) -> bool:
        """Whether an early look decided it, so that it needs no more seeds; an invalid verdict decides nothing."""
        return self.judgement.stopped and self.word != "invalid"


Verdicts = Mapping[str, Mapping[str, ArmVerdict]]
"""Question -> name of the arm in it -> its verdict."""


def verdicts(results: Results) -> Verdicts:
    """Return the verdict on every arm of every question."""
    plan = results.plan
    judged = judge_questions([_asked(question, results) for question in plan.questions], rules_of(plan))
    return {
        question.ablation.name: {
            name: _with_reason(judgement, question, name, results) for name, judgement in judgements.items()
        }
        for question, judgements in zip(plan.questions, judged, strict=True)
    }


def outcomes_of(arm: PlannedArm, results: Results) -> Outcomes:
    """Return what an arm's seeds ended with, in the primary metric."""
    found, metric = results.of(arm), results.plan.metric
    return Outcomes(
        values=found.values(metric.name),
        failed=frozenset(failed_seeds(found, metric.name)),
        resolution=step_of(metric, arm.config),
        is_closed=isinstance(results, FoundResults),
    )


def _asked(question: PlannedQuestion, results: Results) -> Question:
    """Return the outcomes of a question's arms; an invalid one gets no seeds beyond its look, as one that stopped."""
    arms = {
        name: replace(outcomes_of(arm, results), is_settled=_is_settled(question, name, results))
        for name, arm in question.tested.items()
    }
    return Question(outcomes_of(question.base, results), arms)


def _is_settled(question: PlannedQuestion, name: str, results: Results) -> bool:
    """Return whether an arm is invalid at the latest look that it and its base have ended."""
    study, arm, base = results.plan.study, results.of(question.arms[name]), results.of(question.base)
    ended = [study.seeds[:count] for count in study.all_looks if set(study.seeds[:count]) <= arm.ended & base.ended]
    return bool(ended and _invalid_reason(question, name, results, ended[-1]))


def rules_of(plan: Plan) -> Rules:
    """Return what the study fixed before its first run."""
    study = plan.study
    return Rules(
        seeds=study.seeds,
        looks=study.all_looks,
        margin=study.margin,
        direction=plan.metric.direction,
        family=study.family,
        correction=study.correction,
        levels=plan.levels,
    )


def _with_reason(judgement: Judgement, question: PlannedQuestion, name: str, results: Results) -> ArmVerdict:
    study = results.plan.study
    seeds = study.seeds[: study.all_looks[judgement.look - 1]]  # a later failure cannot undo an earlier look
    reason = _invalid_reason(question, name, results, seeds)
    return ArmVerdict("invalid" if reason else judgement.word, reason, judgement)


def _invalid_reason(question: PlannedQuestion, name: str, results: Results, seeds: Sequence[int]) -> str:
    """Return why an arm's comparison on some seeds is not fair, or ""."""
    arm, base, plan = results.of(question.arms[name]), results.of(question.base), results.plan
    unfair = unfair_reason(arm, base, plan.metric.name, plan.study.max_failed, seeds, results.called)
    return unfair or factor_reason(question, name)


def unfair_reason(
    arm: ArmResults,
    base: ArmResults,
    metric: str,
    max_failed: int = 0,
    seeds: Sequence[int] | None = None,
    called: Callable[[str], str] = str,
) -> str:
    """Return why two arms cannot be compared in a metric on some seeds, on all of them unless told, or "".

    `called` is what their maker calls an arm, where that is another name.
    """
    failed = (failed_reason(results, metric, max_failed, seeds, called) for results in (arm, base))
    return next(filter(None, failed), "") or budget_reason(arm.arm, base.arm)


def failed_reason(
    arm: ArmResults,
    metric: str,
    max_failed: int = 0,
    seeds: Sequence[int] | None = None,
    called: Callable[[str], str] = str,
) -> str:
    """Return how many of an arm's seeds failed if they are more than the study allows, or ""."""
    planned = set(arm.arm.seeds)
    among = arm.arm.seeds if seeds is None else [seed for seed in seeds if seed in planned]
    failed = failed_seeds(arm, metric).keys() & set(among)
    name = called(arm.arm.name) or arm.arm.name
    return f"{len(failed)} of {len(among)} seeds of `{name}` failed" if len(failed) > max_failed else ""


def failed_seeds(arm: ArmResults, metric: str) -> dict[int, str]:
    """Return seed -> why it diverged or crashed, or ended with a value of the metric that is no finite number."""
    diverged = {seed: f"diverged: {run.reason}" for seed, run in arm.runs.items() if run.outcome == "diverged"}
    diverged |= {
        seed: f"diverged: {metric} is not finite"
        for seed, run in arm.runs.items()
        if run.outcome == "finished" and not is_number(run.metrics.get(metric, 0.0))
    }
    return diverged | {seed: f"crashed: {run.reason}" for seed, run in arm.crashed.items()}


def factor_reason(question: PlannedQuestion, name: str) -> str:
    """Return which settings an arm moves together without saying why they are one factor, or ""."""
    moved = question.moved(name)
    if len(moved) < 2 or question.written(name).together or set(moved) <= set(question.ablation.factors):
        return ""
    return f"more than one factor: {', '.join(f'`{path}`' for path in moved)}"


def budget_reason(arm: PlannedArm, base: PlannedArm) -> str:
    """Return what one of two arms is given more of to do its best with, or ""."""
    if arm.trials != base.trials:
        return f"unequal budget: {arm.trials} tuning trials against {base.trials}"
    if len(arm.space) != len(base.space):
        return f"unequal search: {len(arm.space)} settings against {len(base.space)}"
    for path in arm.subject.budget:
        ours, theirs = arm.settings[path], base.settings[path]
        if ours != theirs:
            return f"unequal budget: `{path}` {ours} against {theirs}"
    return ""


__all__ = [
    "ALL_ALIKE",
    "NO_TEST",
    "ArmVerdict",
    "Verdicts",
    "budget_reason",
    "factor_reason",
    "failed_reason",
    "failed_seeds",
    "outcomes_of",
    "rules_of",
    "unfair_reason",
    "verdicts",
]
