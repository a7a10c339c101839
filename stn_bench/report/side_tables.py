"""Tables that no verdict is about: what arms of many settings set, the metric by class, what else runs returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stn_bench.analysis.digits import unit_of_other
from stn_bench.analysis.summary import AblationSummary, MetricSummary
from stn_bench.report.tables import NOTHING, Row, Table, has_many
from stn_bench.system.format import Unit, setting_value
from stn_bench.system.text import in_code

MOST_ROWS = 40
"""Classes, or metrics, that a page lists; `report.json` has them all."""


def settings_table(ablation: AblationSummary) -> Table | None:
    """Return what arms of many settings set, a column an arm; None where each row of the question holds its own."""
    arms = [arm for arm in ablation.arms if has_many(arm)]
    if not arms:
        return None
    paths = dict.fromkeys(path for arm in arms for path in arm.set)
    rows = [(in_code(path), *(_value(arm.set, path) for arm in arms)) for path in paths]
    return Table(("setting", *(arm.marked_name for arm in arms)), tuple(rows))


def _value(settings: Mapping[str, Any], path: str) -> str:
    return setting_value(settings[path]) if path in settings else NOTHING


def class_table(ablation: AblationSummary, unit: Unit, example: str = "example") -> Table:
    """Return the metric by class, a column an arm; of many classes the first.

    Args:
        ablation: the question.
        unit: how its metric is written.
        example: the noun for what the subject is tested on.
    """
    header = ("class", f"{example}s", *(arm.marked_name for arm in ablation.arms))
    rows = [
        (in_code(one.name), f"{one.examples:,}", *(unit.value(one.values.get(arm.name)) for arm in ablation.arms))
        for one in ablation.classes[:MOST_ROWS]
    ]
    return Table(header, tuple(rows))


def class_note(ablation: AblationSummary, unit: Unit) -> str:
    """Return what the table by class shows."""
    left = len(ablation.classes) - MOST_ROWS
    more = f"; `report.json` has {left:,} more" if left > 0 else ""
    return f"{unit.in_values} of each class: means over the seeds, and no verdict is about them{more}"


def metric_table(ablation: AblationSummary) -> Table:
    """Return the other metrics that the runs returned, a column an arm; of many metrics the first."""
    header = ("metric", *(arm.marked_name for arm in ablation.arms))
    arms = [arm.name for arm in ablation.arms]
    return Table(header, tuple(_metric_row(one, arms) for one in ablation.others[:MOST_ROWS]))


def _metric_row(metric: MetricSummary, arms: list[str]) -> Row:
    unit = unit_of_other(metric)
    cells = []
    for arm in arms:
        spread = "" if metric.sds.get(arm) is None else f" ± {unit.value(metric.sds[arm])}"
        cells.append(f"{unit.value(metric.means.get(arm))}{spread}")
    return (f"{in_code(metric.name)}{unit.suffix and ','}{unit.suffix}", *cells)


def metric_note(ablation: AblationSummary) -> str:
    """Return what the table of the other metrics shows."""
    left = len(ablation.others) - MOST_ROWS
    more = f"; `report.json` has {left:,} more" if left > 0 else ""
    return (
        f"What the runs returned besides: mean ± standard deviation over the seeds, and no verdict is about it{more}"
    )


__all__ = ["class_note", "class_table", "metric_note", "metric_table"]
