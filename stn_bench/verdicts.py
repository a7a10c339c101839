"""The verdicts of a study: what may be said of each arm, and which seeds it still needs for that. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stn_bench.plan import Plan, PlannedAblation, PlannedArm
from stn_bench.results import ArmResults, Results
from stn_bench.stats import Judgement, Outcomes, Question, Rules, Verdict, judge_questions

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


def wanted_seeds(results: Results) -> dict[str, tuple[int, ...]]:
    """Return label of the arm -> the seeds that it is trained on, as far as the results can tell today.

    All arms begin with the first look's seeds. An arm goes on to the next look while a question that shows it is open
    on it; the base of an open arm goes with it.
    """
    study, found = results.plan.study, verdicts(results)
    rounds = dict.fromkeys((arm.label for arm in results.plan.arms), 1)
    for planned in results.plan.ablations:
        arms = dict(_trained(planned))
        for name, verdict in found[planned.ablation.name].items():
            needed = _rounds(verdict, results.of(arms[name]), results.of(planned.base), study.seeds, study.all_looks)
            for arm in (arms[name], planned.base):
                rounds[arm.label] = max(rounds[arm.label], needed)
    return {label: study.seeds[: study.all_looks[count - 1]] for label, count in rounds.items()}


def unfair_reason(arm: ArmResults, base: ArmResults, max_failed: int = 0) -> str:
    """Return why two arms cannot be compared, or ""."""
    for results in (arm, base):
        failed = failed_seeds(results)
        if len(failed) > max_failed:
            return f"{len(failed)} of {len(results.arm.seeds)} seeds of `{results.arm.name}` failed"
    return _budget_reason(arm.arm, base.arm)


def failed_seeds(arm: ArmResults) -> dict[int, str]:
    """Return seed -> why it diverged or crashed."""
    diverged = {seed: f"diverged: {run.reason}" for seed, run in arm.runs.items() if run.outcome == "diverged"}
    return diverged | {seed: f"crashed: {run.reason}" for seed, run in arm.crashed.items()}


def factor_reason(planned: PlannedAblation, name: str) -> str:
    """Return which settings an arm moves together without saying why they are one factor, or ""."""
    written = next(arm for arm, _ in planned.arms if arm.name == name)
    moved = [path for path in written.set if not (written.match and path == "model.width")]
    if len(moved) < 2 or written.together or set(moved) <= set(planned.ablation.factors):
        return ""
    return f"more than one factor: {', '.join(f'`{path}`' for path in moved)}"


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
    arm = results.of(dict(_trained(planned))[name])
    reason = unfair_reason(arm, results.of(planned.base), results.plan.study.max_failed)
    reason = reason or factor_reason(planned, name)
    return ArmVerdict("invalid" if reason else judgement.word, reason, judgement)


def _rounds(
    verdict: ArmVerdict, arm: ArmResults, base: ArmResults, seeds: tuple[int, ...], looks: tuple[int, ...]
) -> int:
    """Return how many looks' seeds an arm needs: one more than it was judged at while it is open and all are there."""
    judgement = verdict.judgement
    ended = all(set(seeds[: looks[judgement.look - 1]]) <= one.runs.keys() | one.crashed.keys() for one in (arm, base))
    is_open = ended and not judgement.stopped and verdict.word != "invalid"
    return min(judgement.look + is_open, len(looks))


def _budget_reason(arm: PlannedArm, base: PlannedArm) -> str:
    if arm.trials != base.trials:
        return f"unequal budget: {arm.trials} tuning trials against {base.trials}"
    if len(arm.space) != len(base.space):
        return f"unequal search: {len(arm.space)} settings against {len(base.space)}"
    ours, theirs = arm.config.resolved().flat(), base.config.resolved().flat()
    for path in BUDGET:
        if ours[path] != theirs[path]:
            return f"unequal budget: `{path}` {ours[path]} against {theirs[path]}"
    return ""


__all__ = ["ArmVerdict", "Verdicts", "failed_seeds", "rules_of", "unfair_reason", "verdicts", "wanted_seeds"]
