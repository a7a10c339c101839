"""The outlook: a plan, what is finished of it, what the rest will cost and what it can show. What `plan` prints."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stn_bench.analysis.caveats import costs_of, difference, flags
from stn_bench.analysis.cost import Clock, Forecast, forecast, nothing_finished
from stn_bench.analysis.power import ASSUMED_CORRELATION, Reach, reaches
from stn_bench.study.catalogue import BASE
from stn_bench.study.plan import Plan, PlannedAblation, PlannedArm
from stn_bench.study.preregistration import is_later
from stn_bench.system.machine import Crew, describe_machine
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.results import Results, common_seeds, gather, run_key

HOUR = 3600.0

Probe = Callable[[list[PlannedArm], Crew], dict[str, float]]
"""(arms, crew) -> label of each arm -> seconds of one of its cells."""


@dataclass(frozen=True)
class Outlook:
    """A plan, with what its study would cost and could show.

    Args:
        results: the plan, and what is finished of it.
        forecast: what is left to train, and how long that takes.
        reaches: what each question can show, in the plan's order.
        crew: how the work would be shared.
    """

    results: Results
    forecast: Forecast
    reaches: tuple[Reach, ...]
    crew: Crew

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.results.plan

    @property
    def is_frozen_late(self) -> bool:
        """Whether the plan was frozen after the first of its runs had begun."""
        frozen, started = self.plan.frozen, [run.started for run in self.results.records]
        return frozen is not None and bool(started) and is_later(frozen.date, min(started))

    def flags(self, planned: PlannedAblation) -> dict[str, tuple[str, ...]]:
        """Return the name of each arm of a question, the base first -> what a reader should know of it."""
        arms = arms_of(planned)
        rows = {name: self.results.of(arm) for name, arm in arms.items()}
        timed = common_seeds(rows.values())
        costs = {name: costs_of(arms[name].config, row.runs.values(), timed) for name, row in rows.items()}
        return {name: flags(planned, name, costs[name], costs[BASE]) for name in arms}


def arms_of(planned: PlannedAblation) -> dict[str, PlannedArm]:
    """Return the arms of a question by their names in it, the base first."""
    return {BASE: planned.base, **{written.name: arm for written, arm in planned.arms}}


def look_ahead(planned: Plan, workspace: Workspace, crew: Crew, probe: Probe | None = None) -> Outlook:
    """Return a plan with what its study would cost and could show.

    Args:
        planned: the plan.
        workspace: where its finished runs are looked for, if there is a store.
        crew: how the work would be shared.
        probe: measures the arms of which no finished run tells how long they take, and a few others, to see whether
            the machine is as fast as when their runs were trained; None leaves both unknown.
    """
    results = _results(planned, workspace)
    key_of = functools.partial(run_key, datasets=workspace.datasets)
    clock = Clock(describe_machine(crew.threads))
    found = forecast(results, key_of, clock, crew.workers)
    crew = Crew(found.workers, crew.threads)
    yardsticks = _yardsticks(found)
    probed = [arm for arm in planned.arms if found.of(arm.label).is_unmeasured or arm.label in yardsticks]
    if probe and probed:
        clock = dataclasses.replace(clock, probed=probe(probed, crew))
        found = forecast(results, key_of, clock, crew.workers)
    return Outlook(results, found, reaches(results), crew)


def _yardsticks(found: Forecast) -> set[str]:
    """Return the quickest, the middle and the slowest of the arms that have both runs and cells to train."""
    timed = [(arm.pace.seconds, arm.label) for arm in found.arms if arm.cells and arm.pace and arm.pace.is_measured]
    labels = [label for _, label in sorted(timed)]
    return {labels[0], labels[len(labels) // 2], labels[-1]} if labels else set()


def _results(planned: Plan, workspace: Workspace) -> Results:
    if not workspace.has_tracking:
        return nothing_finished(planned)
    from stn_bench.tracking.mlflow import Tracking  # late: `plan` of a fresh root answers without it

    tracking = Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))
    return gather(planned, tracking, workspace.datasets)


def plan_tree(outlook: Outlook, workspace: Workspace) -> dict[str, Any]:
    """Return what `plan --json` prints."""
    planned, found = outlook.plan, outlook.forecast
    study = planned.study
    return {
        "study": study.name,
        "digest": planned.digest,
        "frozen": _frozen_tree(planned),
        "metric": study.metric,
        "direction": study.direction,
        "margin": study.margin,
        "looks": study.all_looks,
        "runs": planned.cells(),
        "cost": {
            "workers": outlook.crew.workers,
            "threads": outlook.crew.threads,
            "runs": found.cells,
            "runs_to_first_look": found.sure,
            "reused": found.reused,
            "hours": _hours(found.seconds),
            "hours_to_first_look": _hours(found.sure_seconds),
        },
        "arms": [{**_arm_tree(arm, workspace), "cost": _cost_tree(outlook, arm.label)} for arm in planned.arms],
        "ablations": [
            {
                "name": one.ablation.name,
                "question": one.ablation.question,
                "base": one.base.label,
                "arms": {written.name: arm.label for written, arm in one.arms},
                "differences": {name: difference(arm.config, one.base.config) for name, arm in arms_of(one).items()},
                "flags": outlook.flags(one),
                "reach": _reach_tree(reach),
            }
            for one, reach in zip(planned.ablations, outlook.reaches, strict=True)
        ],
    }


def _frozen_tree(planned: Plan) -> dict[str, Any] | None:
    if planned.frozen is None:
        return None
    tree = planned.frozen.model_dump(mode="json", include={"date", "digest", "deviations"})
    return {**tree, "undeclared": planned.frozen.changes(planned)}


def _cost_tree(outlook: Outlook, label: str) -> dict[str, Any]:
    arm = outlook.forecast.of(label)
    return {
        "runs": arm.cells,
        "runs_to_first_look": arm.sure,
        "reused": arm.reused,
        "seconds": arm.pace.seconds if arm.pace else None,
        "source": arm.pace.source if arm.pace else None,
        "hours": _hours(outlook.forecast.share(arm)),
    }


def _reach_tree(reach: Reach) -> dict[str, Any]:
    return {
        "smallest": reach.smallest,
        "smallest_at_first_look": reach.smallest_at_first,
        "sd": reach.sd and dataclasses.asdict(reach.sd),
        "correlation": dataclasses.asdict(ASSUMED_CORRELATION),
        "picture_error": reach.picture_error,
        "accuracy": reach.accuracy and dataclasses.asdict(reach.accuracy),
        "pictures": reach.pictures,
    }


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / HOUR, 4)


def _arm_tree(arm: PlannedArm, workspace: Workspace) -> dict[str, Any]:
    specs = [*arm.tuning_specs(), *(arm.verdict_specs({}) if not arm.trials else ())]
    return {
        "label": arm.label,
        "ablation": arm.ablation,
        "name": arm.name,
        "set": dict(arm.changes),
        "seeds": arm.seeds,
        "trials": arm.trials,
        "epochs": arm.config.train.epochs,
        "runs": [
            {
                "phase": s.phase,
                "seed": s.seed,
                "trial": s.trial,
                "chosen": s.chosen,
                "run_key": run_key(s, workspace.datasets),
            }
            for s in specs
        ],
        "settings": arm.config.resolved().flat(),
    }
