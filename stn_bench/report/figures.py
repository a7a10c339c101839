"""The figures of a report: which there are, what they show, and what stands beneath them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stn_bench.analysis.summary import AblationSummary, ArmSummary, Artifact, Summary
from stn_bench.figure import Curve, Example, Point, draw_costs, draw_curves, draw_gallery
from stn_bench.report.drawings import (
    Effect,
    Interplay,
    Scale,
    draw_expected_best,
    draw_forest,
    draw_interplay,
)
from stn_bench.report.tables import interval_header
from stn_bench.study.plan import PlannedAblation, PlannedArm
from stn_bench.subjects.stn.data.pictures import side_by_side
from stn_bench.system.format import Unit, setting_value
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import ArmResults, Results

CURVE = "validation.accuracy"
GALLERY_FILE = "rectified.npz"
TRANSFORMER = "model.transformer."
FOREST = "figures/verdicts.png"


@dataclass(frozen=True)
class Illustration:
    """A figure: its path in the report's folder, what stands beneath it, and its bytes."""

    path: str
    caption: str
    png: bytes


def forest(summary: Summary) -> Illustration | None:
    """Return all arms of the study in one forest plot, or None where nothing can be compared yet."""
    unit = Unit.of(summary.metric)
    groups = [(ablation.title, _effects(ablation, unit)) for ablation in summary.ablations]
    if all(effect.difference is None for _, effects in groups for effect in effects):
        return None
    levels = " and ".join(sorted({interval_header(ablation)[1:-1] for ablation in summary.ablations}))
    caption = (
        f"All arms: {unit.in_differences(f'difference to the base in {unit.name}')}, with {levels} intervals; "
        "grey: the margin. ▲ better, ▼ worse, ■ equivalent, ○ undecided, ◇ unreplicated, × invalid"
    )
    return Illustration(FOREST, caption, draw_forest(groups, _scale(summary.margin, unit)))


def illustrations(
    planned: PlannedAblation, ablation: AblationSummary, results: Results, artifact: Artifact
) -> Iterator[Illustration]:
    """Yield the figures of a question, in the order of the page."""
    study = results.plan.study
    unit, folder = Unit.of(study.metric), f"figures/{ablation.name}"
    arms = {name: results.of(arm) for name, arm in _named(planned)}
    effects = _effects(ablation, unit)
    if any(effect.difference is not None for effect in effects):
        what = unit.in_differences(f"Difference to the base in {unit.name}")
        caption = f"{what}, with {interval_header(ablation)[1:-1]} intervals; grey: the margin"
        png = draw_forest([("", effects)], _scale(study.margin, unit))
        yield Illustration(f"{folder}_differences.png", caption, png)
    panels = _interplay(ablation, unit)
    if panels:
        caption = (
            f"{unit.name.capitalize()} by the levels of the factors: lines that are not parallel are an interaction"
        )
        yield Illustration(f"{folder}_factors.png", caption, draw_interplay(panels, unit.in_values))
    curves = [curve for name, arm in arms.items() if (curve := _curve(name, arm))]
    if curves:
        caption = "Validation accuracy by epoch: the mean over the seeds, and the band from the lowest to the highest"
        yield Illustration(f"{folder}_curves.png", caption, draw_curves(curves, "validation accuracy, %"))
    costs = _points(ablation, unit)
    if costs:
        caption = f"{unit.name.capitalize()} against cost: small marks are seeds, large ones their mean"
        yield Illustration(f"{folder}_cost.png", caption, draw_costs(costs, unit.in_values))
    bests = _expected_best(ablation)
    if bests:
        caption = "Expected best validation accuracy of the first tuning trials: what more trials would have brought"
        yield Illustration(f"{folder}_tuning.png", caption, draw_expected_best(bests, "expected best, %"))
    for name, arm in arms.items() if _asks_about_transformer(planned) else ():
        found = _examples(arm, artifact)
        if found:
            seed, examples = found
            caption = f"What the transformer of `{name}` does (seed {seed}): original | yellow bar | rectified"
            yield Illustration(f"{folder}_gallery_{name}.png", caption, draw_gallery(examples))


def _scale(margin: float, unit: Unit) -> Scale:
    most = unit.scale if unit.points else math.inf
    return Scale(unit.in_differences("difference to base"), margin * unit.scale, most)


def _asks_about_transformer(planned: PlannedAblation) -> bool:
    return any(path.startswith(TRANSFORMER) for arm, _ in planned.arms for path in arm.set)


def _named(planned: PlannedAblation) -> list[tuple[str, PlannedArm]]:
    return [("base", planned.base), *((arm.name, trained) for arm, trained in planned.arms)]


def _effects(ablation: AblationSummary, unit: Unit) -> list[Effect]:
    return [
        Effect(
            arm.name,
            arm.verdict or "unreplicated",
            None if arm.difference is None else arm.difference * unit.scale,
            None if arm.interval is None else (arm.interval[0] * unit.scale, arm.interval[1] * unit.scale),
            f", look {arm.look}" if arm.stopped and arm.verdict != "invalid" else "",
        )
        for arm in ablation.arms[1:]
    ]


def _interplay(ablation: AblationSummary, unit: Unit) -> list[Interplay]:
    """Return the metric by the levels of each pair of factors, over the levels of all others."""
    if not ablation.effects:
        return []
    cells = [arm for arm in ablation.arms if arm.set.keys() <= ablation.factors.keys()]
    common = sorted(set.intersection(*(set(arm.seeds) for arm in cells)))  # the effects are those of these seeds
    return [
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


def _has(arm: ArmSummary, levels: dict[str, Any], ablation: AblationSummary) -> bool:
    return all(arm.set.get(path, ablation.factors[path][0]) == level for path, level in levels.items())


def _cell(arms: Sequence[ArmSummary], seeds: Sequence[int], unit: Unit) -> tuple[float, tuple[float, ...]]:
    """Return the mean over some arms and seeds, and the mean over the arms on each seed."""
    by_seed = [dict(zip(arm.seeds, arm.values, strict=True)) for arm in arms]
    values = [unit.scale * float(np.mean([one[seed] for one in by_seed])) for seed in seeds]
    return float(np.mean(values)), tuple(values)


def _curve(name: str, arm: ArmResults) -> Curve | None:
    """Return the mean and the range over the seeds, as far as the shortest of them goes."""
    series = [run.history[CURVE] for run in arm.runs.values() if run.outcome == "finished"]
    if not series:
        return None
    epochs = min(len(values) for values in series)
    values = 100 * np.array([values[:epochs] for values in series])  # (seeds, epochs), per cent
    return Curve(name, np.arange(1, epochs + 1), values.mean(0), values.min(0), values.max(0), len(series))


def _points(ablation: AblationSummary, unit: Unit) -> list[Point]:
    return [
        Point(arm.name, arm.flops, tuple(value * unit.scale for value in arm.values), arm.mean * unit.scale)
        for arm in ablation.arms
        if arm.flops and arm.mean is not None
    ]


def _expected_best(ablation: AblationSummary) -> list[tuple[str, tuple[float, ...]]]:
    return [
        (name, tuple(100 * score for score in scores if score is not None))
        for name, scores in ablation.expected_best.items()
    ]


def _examples(arm: ArmResults, artifact: Artifact) -> tuple[int, list[Example]] | None:
    """Return the pictures that the arm's first run with a transformer kept, and that run's seed."""
    for seed, run in sorted(arm.runs.items()):
        if _has_gallery(run):
            with np.load(artifact(run.run_id, GALLERY_FILE), allow_pickle=False) as file:
                triples = zip(file["letters"], file["originals"], file["rectified"], strict=True)
                return seed, [Example(str(letter), side_by_side(before, after)) for letter, before, after in triples]
    return None


def _has_gallery(run: RunRecord) -> bool:
    transforms = run.settings["model.transformer.kind"] != "none" and not run.settings["model.factory"]
    return run.outcome == "finished" and transforms
