"""From results to the files of a report: all of them as bytes first, then written, or compared with those on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from stn_bench.data.pictures import side_by_side
from stn_bench.errors import MachineError, ReportError
from stn_bench.plan import PlannedAblation, PlannedArm
from stn_bench.record import RunRecord
from stn_bench.report.figures import (
    Curve,
    Effect,
    Example,
    Point,
    draw_costs,
    draw_curves,
    draw_effects,
    draw_gallery,
)
from stn_bench.report.page import Unit, render_page
from stn_bench.report.summary import AblationSummary, Artifact, Summary, summarise
from stn_bench.report.table import runs_table, to_csv
from stn_bench.results import ArmResults, Results

Files = dict[str, bytes]
CURVE = "validation.accuracy"
GALLERY_FILE = "rectified.npz"
TRANSFORMER = "model.transformer."


def build_report(results: Results, artifact: Artifact) -> Files:
    """Return every file of the report by its path in the report's folder: the same bytes for the same store.

    Args:
        results: the study's results.
        artifact: (run id, path) -> local path of an artifact of a run.

    Raises:
        ReportError: if nothing is finished yet.
    """
    name = results.plan.study.name
    if not results.finished:
        raise ReportError(f"study `{name}`: no run is finished yet; start with `stn-bench run {name}`")
    summary = summarise(results, artifact)
    files: Files = {}
    captions: dict[str, list[tuple[str, str]]] = {}
    for planned, ablation in zip(results.plan.ablations, summary.ablations, strict=True):
        captions[ablation.name] = []
        for path, caption, png in _figures(planned, ablation, summary, results, artifact):
            files[path] = png
            captions[ablation.name].append((path, caption))
    files["report.md"] = render_page(summary, captions).encode()
    files["report.json"] = (summary.model_dump_json(indent=1) + "\n").encode()
    files["runs.csv"] = to_csv(runs_table(results)).encode()
    return files


def _figures(
    planned: PlannedAblation, ablation: AblationSummary, summary: Summary, results: Results, artifact: Artifact
) -> Iterable[tuple[str, str, bytes]]:
    unit = Unit.of(summary.metric)
    arms = {name: results.of(arm) for name, arm in _named(planned)}
    effects = _effects(ablation, unit)
    if effects:
        points = f"{unit.points and ','}{unit.points}"
        caption = f"Difference to the base in {unit.name}{points}, with 95 % intervals; grey: the margin"
        yield (
            f"figures/{ablation.name}_differences.png",
            caption,
            draw_effects(effects, f"difference to base{points}", summary.margin * unit.scale),
        )
    curves = [curve for name, arm in arms.items() if (curve := _curve(name, arm))]
    if curves:
        caption = "Validation accuracy by epoch: the mean over the seeds, and the band from the lowest to the highest"
        yield f"figures/{ablation.name}_curves.png", caption, draw_curves(curves, "validation accuracy, %")
    costs = _points(ablation, unit)
    if costs:
        caption = f"{unit.name.capitalize()} against cost: small marks are seeds, large ones their mean"
        ylabel = f"{unit.name}{unit.suffix and ','}{unit.suffix}"
        yield f"figures/{ablation.name}_cost.png", caption, draw_costs(costs, ylabel)
    for name, arm in arms.items() if _asks_about_transformer(planned) else ():
        found = _examples(arm, artifact)
        if found:
            seed, examples = found
            caption = f"What the transformer of `{name}` does (seed {seed}): original | yellow bar | rectified"
            yield f"figures/{ablation.name}_gallery_{name}.png", caption, draw_gallery(examples)


def _asks_about_transformer(planned: PlannedAblation) -> bool:
    return any(path.startswith(TRANSFORMER) for arm, _ in planned.arms for path in arm.set)


def _named(planned: PlannedAblation) -> list[tuple[str, PlannedArm]]:
    return [("base", planned.base), *((arm.name, trained) for arm, trained in planned.arms)]


def _effects(ablation: AblationSummary, unit: Unit) -> list[Effect]:
    return [
        Effect(
            arm.name,
            arm.difference * unit.scale,
            arm.interval[0] * unit.scale,
            arm.interval[1] * unit.scale,
            arm.verdict or "",
        )
        for arm in ablation.arms[1:]
        if arm.difference is not None and arm.interval is not None
    ]


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


def write_report(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a report; each file appears whole, and figures of an earlier report that no longer exist go.

    Raises:
        MachineError: if the disk is full or the folder cannot be written.
    """
    try:
        for path, content in files.items():
            write_whole(folder / path, content)
        for old in (folder / "figures").glob("*"):
            if f"figures/{old.name}" not in files:
                old.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise MachineError(f"{folder}: the report cannot be written ({reason}); make room and try again") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; one that has this content already is left alone."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def stale_files(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Return the names of the files that are missing, differ from the store, or should not be there."""
    differing = [path for path, content in files.items() if not _is_same(folder / path, content)]
    present = [f"figures/{path.name}" for path in sorted((folder / "figures").glob("*"))]
    return differing + [path for path in present if path not in files]


def _is_same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


__all__ = ["Artifact", "Files", "build_report", "stale_files", "write_report", "write_whole"]
