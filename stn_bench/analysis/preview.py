"""The preview: a plan, what is finished of it, what the rest will cost and what it can show. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.analysis.caveats import caveats, difference, suspicions
from stn_bench.analysis.cost import Clock, CostEstimate, KeysOf, estimate_cost, known_costs, measured_costs, reusable
from stn_bench.analysis.doubts import doubts
from stn_bench.analysis.power import ASSUMED_CORRELATION, Power, powers
from stn_bench.study.plan import Plan, PlannedArm, PlannedQuestion
from stn_bench.study.preregistration import changes_since
from stn_bench.system.machine import Resources
from stn_bench.tracking.results import Results

HOUR = 3600.0

Probe = Callable[[list[PlannedArm], Resources], Mapping[str, float]]
"""(arms, resources) -> label of each arm -> seconds of one of its jobs, as a short training tells them."""


@dataclass(frozen=True)
class Preview:
    """A plan, with what its study would cost and could show.

    Args:
        analysis: the plan, what is finished of it, and what that says.
        estimate: what is left to train, and how long that takes.
        powers: what each question can show, in the plan's order.
        resources: how the work would be shared.
    """

    analysis: Analysis
    estimate: CostEstimate
    powers: tuple[Power, ...]
    resources: Resources

    @property
    def results(self) -> Results:
        """What is finished of the plan."""
        return self.analysis.results

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.results.plan

    @property
    def doubts(self) -> tuple[str, ...]:
        """What of metric and margin makes every verdict doubtful, in sentences without their full stop."""
        return doubts(self.results)

    def caveats(self, question: PlannedQuestion) -> dict[str, tuple[str, ...]]:
        """Return the name of each arm of a question, the base first -> what a reader should know of it."""
        costs = known_costs(question, measured_costs(question, self.results))
        return {
            name: (*caveats(question, name, costs), *suspicions(question, name, self.analysis))
            for name in question.arms
        }


def preview(
    analysis: Analysis, keys_of: KeysOf, clock: Clock, resources: Resources, probe: Probe | None = None
) -> Preview:
    """Return a plan with what its study would cost and could show.

    Args:
        analysis: the plan, and what is finished of it.
        keys_of: the run keys by which a planned run is known: a run with another is trained again.
        clock: what is known of how long jobs take here.
        resources: how the work would be shared.
        probe: measures the arms of which no finished run tells how long they take, and a few others, to see whether
            the machine is as fast as when their runs were trained; None leaves both unknown.
    """
    results = analysis.results
    reused = analyse(reusable(results, keys_of))
    found = estimate_cost(results, reused, clock, resources.workers)
    resources = dataclasses.replace(resources, workers=found.workers)
    if probe:
        chosen = yardsticks(found)
        probed = [arm for arm in results.plan.arms if found.of(arm.label).is_unmeasured or arm.label in chosen]
        if probed:
            clock = dataclasses.replace(clock, probed=probe(probed, resources))
            found = estimate_cost(results, reused, clock, resources.workers)
    return Preview(analysis, found, powers(results), resources)


def yardsticks(found: CostEstimate) -> set[str]:
    """Return the quickest, the middle and the slowest of the arms that have both runs and jobs to train."""
    timed = [(arm.pace.seconds, arm.label) for arm in found.arms if arm.jobs and arm.pace and arm.pace.is_measured]
    labels = [label for _, label in sorted(timed)]
    return {labels[0], labels[len(labels) // 2], labels[-1]} if labels else set()


def plan_tree(found: Preview, keys_of: KeysOf) -> dict[str, Any]:
    """Return what `plan --json` prints."""
    plan, estimate = found.plan, found.estimate
    return {
        "study": plan.study.name,
        "digest": plan.digest,
        "preregistration": _preregistration_tree(plan),
        "metric": plan.metric.name,
        "direction": plan.metric.direction,
        "margin": plan.study.margin,
        **({"doubts": found.doubts} if found.doubts else {}),
        "looks": plan.study.all_looks,
        "runs": plan.jobs(),
        "cost": {
            "workers": found.resources.workers,
            "threads": found.resources.threads,
            "runs": estimate.jobs,
            "runs_to_first_look": estimate.sure,
            "reused": estimate.reused,
            "hours": _hours(estimate.seconds),
            "hours_to_first_look": _hours(estimate.sure_seconds),
        },
        "arms": [_arm_tree(arm, keys_of) | {"cost": _cost_tree(estimate, arm.label)} for arm in plan.arms],
        "ablations": [
            {
                "name": one.ablation.name,
                "question": one.ablation.question,
                "base": one.base.label,
                "arms": {name: arm.label for name, arm in one.tested.items()},
                "differences": {name: difference(arm.settings, one.base.settings) for name, arm in one.arms.items()},
                "caveats": found.caveats(one),
                "power": _power_tree(power),
            }
            for one, power in zip(plan.questions, found.powers, strict=True)
        ],
    }


def _preregistration_tree(plan: Plan) -> dict[str, Any] | None:
    if plan.preregistration is None:
        return None
    tree = plan.preregistration.model_dump(mode="json", include={"date", "digest", "deviations"})
    return {**tree, "undeclared": changes_since(plan.preregistration, plan)}


def _arm_tree(arm: PlannedArm, keys_of: KeysOf) -> dict[str, Any]:
    specs = [*arm.tuning_specs(), *(arm.verdict_specs({}) if not arm.trials else ())]
    return {
        "label": arm.label,
        "ablation": arm.ablation,
        "name": arm.name,
        "set": dict(arm.changes),
        "seeds": arm.seeds,
        "trials": arm.trials,
        "epochs": arm.subject.num_epochs(arm.settings),
        "runs": [
            {
                "phase": spec.phase,
                "seed": spec.seed,
                "trial": spec.trial,
                "chosen": spec.chosen,
                "run_key": next(iter(keys_of(spec)), None),
            }
            for spec in specs
        ],
        "settings": arm.settings,
    }


def _cost_tree(found: CostEstimate, label: str) -> dict[str, Any]:
    arm = found.of(label)
    return {
        "runs": arm.jobs,
        "runs_to_first_look": arm.sure,
        "reused": arm.reused,
        "seconds": arm.pace.seconds if arm.pace else None,
        "source": arm.pace.source if arm.pace else None,
        "hours": _hours(found.share(arm)),
    }


def _power_tree(power: Power) -> dict[str, Any]:
    return {
        "smallest": power.smallest,
        "smallest_at_first_look": power.smallest_at_first,
        "sd": power.sd and dataclasses.asdict(power.sd),
        **({"collapsed": dataclasses.asdict(power.collapsed)} if power.collapsed else {}),
        "correlation": dataclasses.asdict(ASSUMED_CORRELATION),
        "example_error": power.example_error,
        "mean": power.mean and dataclasses.asdict(power.mean),
        "examples": power.examples,
    }


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / HOUR, 4)


__all__ = ["HOUR", "Preview", "Probe", "plan_tree", "preview", "yardsticks"]
