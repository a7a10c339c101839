"""The door to matplotlib: numbers in, PNG bytes out. Nothing is computed here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from stn_bench.analysis.caveats import in_short

# Okabe and Ito's palette, told apart by colour-blind readers too; the base is always the first, black.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
MOST_INSIDE = 4
LEGEND_COLUMNS = 3
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
class Example:
    """A picture before and after the transformer, uint8 of shape (height, width, 3), and its letter."""

    letter: str
    pair: np.ndarray


def look(index: int) -> tuple[str, str, str]:
    """Return colour, line and marker of an arm by its place; 64 arms pass before colour and marker repeat."""
    turn = index // len(COLOURS)
    return COLOURS[index % len(COLOURS)], LINES[turn % len(LINES)], MARKERS[(index + turn) % len(MARKERS)]


def add_legend(axes: Axes, count: int) -> None:
    """Name the arms inside the axes, or beneath them where they are too many to leave room."""
    if count <= MOST_INSIDE:
        axes.legend(loc="best")
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=7)


def legend_height(count: int) -> float:
    """Return how many inches a legend beneath the axes adds to a figure."""
    return 0.17 * -(-count // LEGEND_COLUMNS) if count > MOST_INSIDE else 0.0


def draw_curves(curves: Sequence[Curve], ylabel: str) -> bytes:
    """Return learning curves: a line for the mean over the seeds, a band from the smallest to the largest."""
    with new_figure(6.4, 3.6 + legend_height(len(curves))) as (figure, png):
        axes = figure.subplots()
        for index, curve in enumerate(curves):
            colour, line, marker = look(index)
            axes.fill_between(curve.epochs, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
            label = f"{curve.name} ({curve.seeds} seed{'s' * (curve.seeds != 1)})"
            single = marker if len(curve.epochs) == 1 else ""
            axes.plot(curve.epochs, curve.mean, line, color=colour, label=label, linewidth=1.6, marker=single)
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        add_legend(axes, len(curves))
    return png.getvalue()


def draw_costs(points: Sequence[Point], ylabel: str) -> bytes:
    """Return the metric against FLOPs: a small mark for each seed, a large one for the mean."""
    with new_figure(6.4, 3.6 + legend_height(len(points))) as (figure, png):
        axes = figure.subplots()
        for index, point in enumerate(points):
            colour, _, marker = look(index)
            axes.plot([point.cost] * len(point.values), point.values, marker, color=colour, markersize=4, alpha=0.45)
            axes.plot([point.cost], [point.mean], marker, color=colour, markersize=9, label=point.name, linestyle="")
        axes.set(xlabel="floating-point operations a picture", ylabel=ylabel, xscale="log")
        _readable_log(axes, [point.cost for point in points])
        add_legend(axes, len(points))
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
            axes.set_title(example.letter, fontsize=9, pad=3, parse_math=False)  # it may come from an archive
    return png.getvalue()


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Figure, io.BytesIO]]:
    """Give a figure of this size in inches, and write it as PNG when the block ends: the same bytes every time."""
    png = io.BytesIO()
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}), warnings.catch_warnings():  # type: ignore[dict-item]
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a title may hold letters that the font has not
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, png
        figure.savefig(png, format="png", metadata={"Software": None})


def _readable_log(axes: Axes, costs: Sequence[float]) -> None:
    """Label each arm's cost in plain numbers: a decade's ticks say nothing where all costs lie within one."""
    axes.set_xlim(min(costs) / 1.6, max(costs) * 1.6)
    gap = max(1.15, (max(costs) * 1.6 / (min(costs) / 1.6)) ** (1 / 9))  # nine labels fit beside one another
    distinct: list[float] = []
    for cost in sorted(costs):
        if not distinct or cost > distinct[-1] * gap:
            distinct.append(cost)
    axes.set_xticks(distinct)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_short(value)))
    axes.minorticks_off()
