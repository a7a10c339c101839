"""What the runs of a question returned beside the metric that decides, arm by arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from stn_bench.analysis.summary import MetricSummary
from stn_bench.stats import Spread, known, spread
from stn_bench.study.plan import Plan
from stn_bench.subject import is_shipped
from stn_bench.tracking.results import ArmResults

COST = "cost."


def by_metric(arms: Mapping[str, ArmResults], plan: Plan) -> tuple[MetricSummary, ...]:
    """Return each other metric with its mean and spread in each arm, over the seeds that finished.

    Those of somebody's own subject, since nobody else can know which of them matter; a shipped one knows that itself.

    Args:
        arms: the arms of a question by name.
        plan: the plan of the study.
    """
    if is_shipped(plan.subject.name):
        return ()
    finished = {
        arm: [run.metrics for run in results.runs.values() if run.outcome == "finished"]
        for arm, results in arms.items()
    }
    names = dict.fromkeys(name for runs in finished.values() for metrics in runs for name in metrics)
    declared = plan.subject.known_metrics
    found = []
    for name in names:
        if name == plan.metric.name or name.startswith(COST):
            continue
        spreads = {arm: _spread([run[name] for run in runs if name in run]) for arm, runs in finished.items()}
        found.append(
            MetricSummary(
                name=name,
                scale=declared[name].scale if name in declared else "number",
                means={arm: known(one.mean) for arm, one in spreads.items()},
                sds={arm: known(one.sd) for arm, one in spreads.items()},
            )
        )
    return tuple(found)


def _spread(values: Sequence[float]) -> Spread:
    """Return mean and spread; none where a seed has no finite number, which no mean of the others stands for."""
    return spread(values if all(map(math.isfinite, values)) else [])


__all__ = ["by_metric"]
