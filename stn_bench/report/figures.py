"""The figures of a report: which there are, what they show, and what stands beneath them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stn_bench.analysis.analyse import Analysis
from stn_bench.analysis.summarise import Artifact
from stn_bench.analysis.summary import AblationSummary, ArmSummary, Summary
from stn_bench.figure import Figure
from stn_bench.report.drawings import (
    Curve,
    ForestRow,
    ForestScale,
    Interplay,
    Point,
    are_apart,
    draw_costs,
    draw_curves,
    draw_expected_best,
    draw_forest,
    draw_interplay,
)
from stn_bench.report.sentences import each, ranked, seeds_in_words
from stn_bench.report.tables import interval_header
from stn_bench.study.plan import PlannedQuestion
from stn_bench.study.spec import BASE
from stn_bench.subject import KeptRun, Metric
from stn_bench.system.format import Unit, setting_value
from stn_bench.tracking.record import told_epochs
from stn_bench.tracking.results import ArmResults


def path_of(figure: Figure, ending: str = "png") -> str:
    """Return the path of a figure in the report's folder."""
    return f"figures/{figure.name}.{ending}"


MOST_ARMS = 12
"""Arms of a study that one screen shows beneath its answers; of more it shows the one that each answer speaks of."""


def forests(summary: Summary) -> Iterator[Figure]:
    """Yield the study in one forest plot, which fits a screen, and after it one of all arms where those do not."""
    groups = [(ablation, ablation.arms[1:]) for ablation in summary.ablations]
    if len(groups) > 1 and sum(len(arms) for _, arms in groups) > MOST_ARMS:
        what = "The arm that each answer speaks of"
        yield from _forest("answers", what, [(one, ranked(one)[:1]) for one, arms in groups if arms], summary)
    yield from _forest("verdicts", "All arms", groups, summary)


def _forest(
    name: str, what: str, groups: Sequence[tuple[AblationSummary, Sequence[ArmSummary]]], summary: Summary
) -> Iterator[Figure]:
    """Yield arms of several questions in one forest plot, where anything can be compared yet."""
    unit = summary.unit
    rows = [(ablation.title, _rows(ablation, arms, unit)) for ablation, arms in groups]
    if all(row.difference is None for _, arms in rows for row in arms):
        return
    levels = " and ".join(sorted({interval_header(ablation)[1:-1] for ablation, _ in groups}))
    caption = (
        f"{what}: {unit.in_differences(f'difference to the base in {unit.name}')}, with {levels} intervals; "
        f"small lines: seeds{_grey(summary.margin)}. "
        "▲ better, ▼ worse, ■ equivalent, ○ undecided, ◇ unreplicated, × invalid"
    )
    yield Figure(name, caption, draw_forest(rows, _scale(summary.margin, unit)))


def illustrations(
    question: PlannedQuestion, ablation: AblationSummary, analysis: Analysis, artifact: Artifact
) -> Iterator[Figure]:
    """Yield the figures of a question, in the order of the page, named after it."""
    plan = analysis.plan
    arms = {name: analysis.results.of(arm) for name, arm in question.arms.items()}
    found = itertools.chain(
        differences(ablation, plan.metric.unit, plan.study.margin),
        _factors(ablation, plan.metric.unit),
        _curves({ablation.arm(name).plain_name: arm for name, arm in arms.items()}, plan.subject.curve),
        _costs(ablation, plan.metric.unit, plan.subject.example),
        _tuning(ablation, next(iter(plan.tuning), None)),
        _subjects_own(question, arms, artifact),
    )
    for figure in found:
        yield dataclasses.replace(figure, name=f"{ablation.name}_{figure.name}")


def differences(ablation: AblationSummary, unit: Unit, margin: float) -> Iterator[Figure]:
    """Yield a question's forest plot, with the seeds and the costs of its arms, where anything can be compared yet."""
    rows = _rows(ablation, ablation.arms[1:], unit)
    if any(row.difference is not None for row in rows):
        what = unit.in_differences(f"Difference to the base in {unit.name}")
        cost = COSTS.get(_cost(ablation))
        beside = f"; beside it {cost.name}, as a multiple of the base's" if cost else ""
        caption = (
            f"{what}, with {interval_header(ablation)[1:-1]} intervals; small lines: seeds{_grey(margin)}{beside}"
        )
        scale = dataclasses.replace(_scale(margin, unit), cost=cost.short if cost else "")
        yield Figure("differences", caption, draw_forest([("", rows)], scale))


class Expense(NamedTuple):
    """A cost of a run: as a caption names it, as a column does, and its unit."""

    name: str
    short: str
    unit: str


COSTS = {
    "cpu_seconds": Expense("CPU time of a run", "CPU time", "s"),
    "seconds": Expense("time of a run", "time", "s"),
    "flops": Expense("FLOPs", "FLOPs", ""),
}
"""What a question's arms are compared in beside their differences: the first that all of them know."""


def _cost(ablation: AblationSummary) -> str:
    return next((name for name in COSTS if all(getattr(arm, name) for arm in ablation.arms)), "")


def _grey(margin: float) -> str:
    return "; grey: the margin" if margin else ""


def _scale(margin: float, unit: Unit) -> ForestScale:
    most = unit.scale if unit.points else math.inf
    return ForestScale(unit.in_differences("difference to base"), margin * unit.scale, most)


def _rows(ablation: AblationSummary, arms: Sequence[ArmSummary], unit: Unit) -> list[ForestRow]:
    cost = _cost(ablation)
    return [
        ForestRow(
            arm.plain_name,
            arm.verdict or "unreplicated",
            None if arm.difference is None else arm.difference * unit.scale,
            None if arm.interval is None else (arm.interval[0] * unit.scale, arm.interval[1] * unit.scale),
            tuple(difference * unit.scale for difference in ablation.differences(arm)),
            getattr(arm, cost) / getattr(ablation.base, cost) if cost else None,
        )
        for arm in arms
    ]


def _factors(ablation: AblationSummary, unit: Unit) -> Iterator[Figure]:
    """Yield the metric by the levels of each pair of factors, over the levels of all others."""
    if len(ablation.factors) < 2 or not ablation.effects:
        return
    cells = [arm for arm in ablation.arms if arm.set.keys() <= ablation.factors.keys()]
    common = sorted(set.intersection(*(set(arm.seeds) for arm in cells)))  # the effects are those of these seeds
    panels = [
        Interplay(
            across,
            along,
            tuple(setting_value(level) for level in ablation.factors[across]),
            {
                setting_value(level): [
                    _cell([arm for arm in cells if _has(arm, {across: other, along: level}, ablation)], common, unit)
                    for other in ablation.factors[across]
                ]
                for level in ablation.factors[along]
            },
        )
        for across, along in itertools.combinations(ablation.factors, 2)
    ]
    caption = f"{unit.name.capitalize()} by the levels of the factors: lines that are not parallel are an interaction"
    if any(len(arm.seeds) > len(common) for arm in cells):
        caption += f"; of the seeds that every combination has, {seeds_in_words(common)}"
    yield Figure("factors", caption, draw_interplay(panels, unit.in_values))


def _has(arm: ArmSummary, levels: dict[str, Any], ablation: AblationSummary) -> bool:
    return all(arm.set.get(path, ablation.factors[path][0]) == level for path, level in levels.items())


def _cell(arms: Sequence[ArmSummary], seeds: Sequence[int], unit: Unit) -> tuple[float, tuple[float, ...]]:
    """Return the mean over some arms and seeds, and the mean over the arms on each seed."""
    by_seed = [dict(zip(arm.seeds, arm.values, strict=True)) for arm in arms]
    values = [unit.scale * float(np.mean([one[seed] for one in by_seed])) for seed in seeds]
    return float(np.mean(values)), tuple(values)


def _curves(arms: Mapping[str, ArmResults], metric: Metric | None) -> Iterator[Figure]:
    """Yield the mean and the range over the seeds, by the epochs that all of them told of."""
    curves = []
    for name, arm in arms.items() if metric else ():
        assert metric is not None
        finished = [run.history.get(metric.name, ()) for run in arm.runs.values() if run.outcome == "finished"]
        series = list(map(told_epochs, finished))
        epochs = sorted(set.intersection(*map(set, series))) if series else []
        if epochs:
            values = metric.unit.scale * np.array([[one[epoch] for epoch in epochs] for one in series])
            low_to_high = (values.mean(0), values.min(0), values.max(0))
            curves.append(Curve(name, np.array(epochs), *low_to_high, len(series), arm.arm.name == BASE))
    if metric and curves:
        what = metric.unit.name.capitalize()
        grey = "; grey: the base; in brackets: the number of seeds" if are_apart(curves) else ""
        caption = f"{what} by epoch: the mean over the seeds, and the band from the lowest to the highest{grey}"
        yield Figure("curves", caption, draw_curves(curves, metric.unit.in_values))


def _costs(ablation: AblationSummary, unit: Unit, example: str) -> Iterator[Figure]:
    """Yield the metric against the cost that stands beside the differences."""
    kind = _cost(ablation)
    points = [
        Point(arm.plain_name, getattr(arm, kind), tuple(unit.scale * value for value in arm.values), unit.scale * mean)
        for arm in ablation.arms
        if kind and (mean := arm.mean) is not None
    ]
    if points:
        cost = COSTS[kind]
        label = f"{cost.name}, {cost.unit}" if cost.unit else f"{cost.name} {each(example)}"
        caption = f"{unit.name.capitalize()} against {cost.name}: small marks are seeds, large ones their mean"
        yield Figure("cost", caption, draw_costs(points, label, unit.in_values))


def _tuning(ablation: AblationSummary, metric: Metric | None) -> Iterator[Figure]:
    if metric is None or not ablation.expected_best:
        return
    unit = metric.unit
    bests = [
        (ablation.arm(name).plain_name, tuple(unit.scale * score for score in scores if score is not None))
        for name, scores in ablation.expected_best.items()
    ]
    best = unit.name if unit.name.startswith("best ") else f"best {unit.name}"
    caption = f"Expected {best} of the first tuning trials: what more trials would have brought"
    png = draw_expected_best(bests, dataclasses.replace(unit, name="expected best").in_values)
    yield Figure("tuning", caption, png)


def _subjects_own(question: PlannedQuestion, arms: Mapping[str, ArmResults], artifact: Artifact) -> Iterator[Figure]:
    """Yield the figures that the subject draws of the files that its runs kept."""
    draw = question.base.subject.figures
    if draw is None:
        return
    changed = frozenset(path for name in question.tested for path in question.written(name).set)
    kept = {
        name: [
            KeptRun(seed, run.settings, functools.partial(artifact, run.run_id))
            for seed, run in sorted(arm.runs.items())
            if run.outcome == "finished"
        ]
        for name, arm in arms.items()
    }
    yield from draw(changed, kept)


__all__ = ["differences", "forests", "illustrations", "path_of"]
