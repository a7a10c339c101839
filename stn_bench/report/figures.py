"""The door to matplotlib: numbers in, PNG bytes out. Nothing is computed here."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Okabe and Ito's palette, told apart by colour-blind readers too; the base is always the first, black.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9.0,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.hashsalt": "stn-bench",
}


@dataclass(frozen=True)
class Curve:
    """An arm's metric over the epochs.

    Args:
        name: the arm.
        epochs: epochs from 1, shape (epochs,).
        mean: mean over the seeds.
        low: smallest value over the seeds.
        high: largest.
        seeds: number of seeds.
    """

    name: str
    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


@dataclass(frozen=True)
class Point:
    """An arm's cost and its metric on each seed."""

    name: str
    cost: float
    values: tuple[float, ...]
    mean: float


@dataclass(frozen=True)
class Effect:
    """An arm's difference to its base with its interval."""

    name: str
    difference: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Example:
    """A picture before and after the transformer, uint8 of shape (height, width, 3), and its letter."""

    letter: str
    pair: np.ndarray


def draw_curves(curves: Sequence[Curve], ylabel: str) -> bytes:
    """Return learning curves: a line for the mean over the seeds, a band from the smallest to the largest."""
    with new_figure(6.4, 3.6) as (figure, png):
        axes = figure.subplots()
        for index, curve in enumerate(curves):
            colour = COLOURS[index % len(COLOURS)]
            axes.fill_between(curve.epochs, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
            label = f"{curve.name} ({curve.seeds} seed{'s' * (curve.seeds != 1)})"
            single = MARKERS[index % len(MARKERS)] if len(curve.epochs) == 1 else ""
            axes.plot(curve.epochs, curve.mean, color=colour, label=label, linewidth=1.6, marker=single)
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")
    return png.getvalue()


def draw_costs(points: Sequence[Point], ylabel: str) -> bytes:
    """Return the metric against FLOPs: a small mark for each seed, a large one for the mean."""
    with new_figure(6.4, 3.6) as (figure, png):
        axes = figure.subplots()
        for index, point in enumerate(points):
            colour, look = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            axes.plot([point.cost] * len(point.values), point.values, look, color=colour, markersize=4, alpha=0.45)
            axes.plot([point.cost], [point.mean], look, color=colour, markersize=9, label=point.name)
        axes.set(xlabel="floating-point operations a picture", ylabel=ylabel, xscale="log")
        _readable_log(axes, [point.cost for point in points])
        axes.legend(loc="best")
    return png.getvalue()


def draw_effects(effects: Sequence[Effect], xlabel: str, margin: float) -> bytes:
    """Return a forest plot: each arm's difference to the base with its interval, and the margin around 0."""
    with new_figure(6.4, 1.1 + 0.34 * len(effects)) as (figure, png):
        axes = figure.subplots()
        axes.axvspan(-margin, margin, color="#999999", alpha=0.15, linewidth=0)
        axes.axvline(0, color="#000000", linewidth=0.8)
        for row, effect in enumerate(reversed(effects)):
            axes.plot([effect.low, effect.high], [row, row], color=COLOURS[6], linewidth=2)
            axes.plot([effect.difference], [row], color=COLOURS[6], marker="o", markersize=6)
            axes.annotate(
                effect.verdict, (1.01, row), xycoords=("axes fraction", "data"), va="center", annotation_clip=False
            )
        axes.set(xlabel=xlabel, yticks=range(len(effects)), ylim=(-0.6, len(effects) - 0.4))
        axes.set_yticklabels([effect.name for effect in reversed(effects)])
        axes.grid(axis="y", visible=False)
    return png.getvalue()


def draw_gallery(examples: Sequence[Example], columns: int = 4) -> bytes:
    """Return a gallery of pictures before | after, with the letter above each pair."""
    rows = -(-len(examples) // columns)
    with new_figure(1.9 * columns, 1.25 * rows) as (figure, png):
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, example in zip(grid.flat, examples, strict=False):
            axes.imshow(example.pair, interpolation="nearest")
            axes.set_title(example.letter, fontsize=9, pad=3)
    return png.getvalue()


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Figure, io.BytesIO]]:
    """Give a figure of this size in inches, and write it as PNG when the block ends: the same bytes every time."""
    png = io.BytesIO()
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):  # type: ignore[dict-item]
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, png
        figure.savefig(png, format="png", metadata={"Software": None})


def _readable_log(axes: Axes, costs: Sequence[float]) -> None:
    """Label each arm's cost in plain numbers: a decade's ticks say nothing where all costs lie within one."""
    axes.set_xlim(min(costs) / 1.6, max(costs) * 1.6)
    distinct: list[float] = []
    for cost in sorted(costs):
        if not distinct or cost > distinct[-1] * 1.15:
            distinct.append(cost)
    axes.set_xticks(distinct)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_short(value)))
    axes.minorticks_off()


def in_short(value: float) -> str:
    """Return a large number with three digits and its unit: 1.24 M."""
    for scale, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g}"
