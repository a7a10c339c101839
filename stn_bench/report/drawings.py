"""The figures of a report, drawn by matplotlib: numbers in, PNG bytes out. Nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from stn_bench.figure import COLOURS, COLUMN, LINES, Legend, look, new_figure, widest
from stn_bench.system.format import counted, in_short

# Marker and colour of each verdict: told apart without colour too, by shape and by being filled.
LOOKS = {
    "better": ("^", COLOURS[3], "full"),
    "worse": ("v", COLOURS[4], "full"),
    "equivalent": ("s", COLOURS[6], "full"),
    "undecided": ("o", "#666666", "none"),
    "unreplicated": ("D", "#999999", "none"),
    "invalid": ("x", "#999999", "full"),
}
SEED = "#222222"
"""Colour of the marks of single seeds in a forest plot."""

HEIGHT = 2.2
"""Inches of the plot itself, in a figure of lines or points."""

ROW = 0.18
"""Height of a forest plot's row in inches."""

FARTHEST = 4.0
"""Intervals are cut where they reach this many times farther than the largest difference."""

LONGEST = 56
"""Characters of a heading that fit."""

LONGEST_NAME = 24
"""Characters of an arm's name that leave room for the plot."""

COST_COLUMN = 36
"""Points to the right of a forest plot where its column of costs ends."""

SMALL = 6.5
"""Points of the letters of what stands beside a plot."""

UNMARKED = len(LINES)
"""Curves that their lines tell apart where all is grey; of more than these each beyond has marks too."""

MARKS = 8
"""Marks on such a curve, at most."""

TOGETHER, APART = 6, 48
"""Learning curves that one plot shows readably; and those that have a small plot each, where there are more."""

PANELS, PANEL = {18: 3, math.inf: 2}, 0.9
"""Characters of the longest name above small plots -> how many fit beside one another; and inches of one's height."""

UNEVEN = 12.0
"""A largest difference this many times the median asks for a scale that is logarithmic beyond the margin."""

CROWDED = 2.0
"""Decades of a logarithmic scale from which on there is room for the powers of ten only."""


@dataclass(frozen=True)
class ForestRow:
    """An arm's difference to the base with its interval; None where nothing has finished.

    Args:
        name: the arm.
        verdict: its verdict.
        difference: the mean difference.
        interval: its interval; None where one seed leaves none.
        seeds: the difference on each seed.
        cost: what it costs over what its base costs; None where either is not known.
    """

    name: str
    verdict: str
    difference: float | None
    interval: tuple[float, float] | None = None
    seeds: tuple[float, ...] = ()
    cost: float | None = None


@dataclass(frozen=True)
class ForestScale:
    """What the differences are measured in, and which of them are small.

    Args:
        label: what stands below the axis.
        margin: smaller differences count as equivalent.
        most: no difference can be larger, so no axis is; 100 points for a fraction.
        cost: what the costs beside them are, above them; "" where none are shown.
    """

    label: str
    margin: float
    most: float = math.inf
    cost: str = ""


@dataclass(frozen=True)
class Interplay:
    """The metric by the levels of two factors, over the levels of all others.

    Args:
        across: the factor whose levels stand side by side.
        along: the factor whose levels are the lines.
        levels: levels of `across`.
        lines: level of `along` -> one value for each level of `across`, and for each of those the values by seed.
    """

    across: str
    along: str
    levels: tuple[str, ...]
    lines: Mapping[str, Sequence[tuple[float, Sequence[float]]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """An arm's metric over the epochs.

    Args:
        name: the arm.
        epochs: those that all seeds told of, from 1, shape (epochs,).
        mean: mean over the seeds.
        low: smallest value over the seeds.
        high: largest.
        seeds: number of seeds.
        is_base: whether the others are compared with it.
    """

    name: str
    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int
    is_base: bool = False


@dataclass(frozen=True)
class Point:
    """An arm's cost and its metric on each seed."""

    name: str
    cost: float
    values: tuple[float, ...]
    mean: float


def draw_forest(groups: Sequence[tuple[str, Sequence[ForestRow]]], scale: ForestScale) -> bytes:
    """Return a forest plot: each arm's difference to its base with its interval and its seeds, and its cost beside.

    Args:
        groups: (heading, arms); a heading of "" takes no row.
        scale: what the differences are measured in.
    """
    rows: list[str | ForestRow] = []
    for heading, arms in groups:
        rows += [heading, *arms] if heading else list(arms)
    drawn = [row for row in rows if isinstance(row, ForestRow) and row.difference is not None]
    names = _cut_apart([row.name if isinstance(row, ForestRow) else "" for row in reversed(rows)])
    right = COST_COLUMN if scale.cost else 0
    wider = widest(names) - COLUMN / 2  # names that no cut tells apart
    with new_figure(COLUMN + max(wider, 0.0), 0.6 + ROW * max(len(rows) + bool(scale.cost), 3)) as (figure, png):
        axes = figure.subplots()
        axes.axvspan(-scale.margin, scale.margin, color="#999999", alpha=0.22, linewidth=0)
        axes.axvline(0, color="#000000", linewidth=0.7)
        _set_range(axes, drawn, scale)
        for place, row in enumerate(reversed(rows)):
            if isinstance(row, ForestRow):
                _draw_arm(axes, place, row)
                if scale.cost and row.cost:
                    _write_beside(axes, place, f"{in_short(row.cost)}×", right, "right")
                _write_beside(axes, place, row.verdict, right + 5, "left")
            else:
                _draw_heading(axes, place, row)
        if scale.cost:
            _write_beside(axes, len(rows), scale.cost, right, "right")
        axes.set(yticks=range(len(rows)), ylim=(-0.7, len(rows) - 0.3))
        axes.set_yticklabels(names, parse_math=False)  # a dollar in a name is a dollar
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
    return png.getvalue()


def _write_beside(axes: Axes, place: float, text: str, points: float, aligned: str) -> None:
    """Write a text to the right of a row, from the plot's edge so many points away to its "left" or "right" end."""
    axes.annotate(
        text,
        (1.0, place),
        (points, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha=aligned,
        va="center",
        annotation_clip=False,
        fontsize=SMALL,
    )


def _set_range(axes: Axes, arms: Sequence[ForestRow], scale: ForestScale) -> None:
    """Show all differences, and as much of the intervals as leaves the differences readable."""
    sizes = sorted(abs(arm.difference or 0.0) for arm in arms) or [0.0]
    small = scale.margin or median(sizes) or max(sizes[-1], 1e-9)  # without a margin, what counts as little
    reach = min(FARTHEST * max(sizes[-1], small), scale.most)
    ends = [end for arm in arms for end in (*(arm.interval or (arm.difference or 0.0,)), *arm.seeds)]
    low = max(min([*ends, -2 * small]), -reach)
    high = min(max([*ends, 2 * small]), reach)
    label = scale.label
    if len(arms) > 2 and sizes[-1] > UNEVEN * max(median(sizes), small):
        axes.set_xscale("symlog", linthresh=2 * small, linscale=0.6, subs=[3])
        decades = sum(math.log10(max(abs(end) / small, 1.0)) for end in (low, high))
        plain = FuncFormatter(lambda value, _: f"{value:zg}".replace("-", "−"))
        axes.xaxis.set_minor_formatter(plain if decades < CROWDED else NullFormatter())
        axes.tick_params(axis="x", which="both", length=3.0, pad=3.0)
        axes.xaxis.set_major_formatter(plain)
        label = f"{label}\nlogarithmic beyond ±{2 * small:g}"
        low, high = max(1.4 * low, -scale.most), min(1.4 * high, scale.most)
    else:
        low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
    axes.set(xlim=(low, high), xlabel=label)


def _draw_heading(axes: Axes, row: int, heading: str) -> None:
    """Write a heading from the left edge of the figure on, over the names and the plot."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    place = ("figure fraction", "data")
    text = axes.annotate(_cut(heading, LONGEST), (0.01, row), xycoords=place, va="center", weight="bold", bbox=box)
    text.set_parse_math(False)  # a dollar in a title is a dollar
    text.set_in_layout(False)  # it takes no room from the plot


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _cut_apart(names: Sequence[str]) -> list[str]:
    """Return names that leave room for the plot, and that no two share: cut at the end, in the middle, or around."""
    half = LONGEST_NAME // 2
    cut = [_cut(name, LONGEST_NAME) for name in names]
    if len(set(cut)) == len(set(names)):
        return cut
    cut = [name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[half + 1 - LONGEST_NAME :]}" for name in names]
    alike: dict[str, list[str]] = {}
    for short, name in zip(cut, names, strict=True):
        alike.setdefault(short, []).append(name)
    shown = {name: short for short, those in alike.items() for name in those}
    for those in alike.values():
        if len(set(those)) > 1:
            shown |= {name: _difference(name, those) for name in those}
    return list(names) if len(set(shown.values())) < len(shown) else [shown[name] for name in names]


def _difference(name: str, others: Sequence[str]) -> str:
    """Return the part of a name from the word on by which it differs from others, as long as there is room for."""
    places = enumerate(zip(*others, strict=False))
    same = next((place for place, those in places if len(set(those)) > 1), min(map(len, others)))
    start = name.rfind(" ", 0, same) + 1 if same - name.rfind(" ", 0, same) < LONGEST_NAME // 2 else same
    return "…" * (start > 0) + _cut(name[start:], LONGEST_NAME - 1)


def _draw_arm(axes: Axes, place: int, row: ForestRow) -> None:
    marker, colour, fill = LOOKS[row.verdict]
    low, high = axes.get_xlim()
    if row.difference is None:
        return
    if row.interval:
        start, end = max(row.interval[0], low), min(row.interval[1], high)
        axes.plot([start, end], [place, place], color=colour, linewidth=1.5, solid_capstyle="butt")
        for end_of_axes, reached, arrow in ((low, start, "<"), (high, end, ">")):
            if reached == end_of_axes:  # what is cut ends in an arrow
                axes.plot([reached], [place], arrow, color=colour, markersize=4, clip_on=False)
    _draw_seeds(axes, place, row.seeds)
    face = "white" if fill == "none" else colour
    axes.plot([row.difference], [place], marker, color=colour, markerfacecolor=face, markersize=4.8, mew=1.1, zorder=3)


def _draw_seeds(axes: Axes, place: int, seeds: Sequence[float]) -> None:
    """Draw a small line for each seed, and at an end of the axis a small arrow where seeds lie beyond it."""
    low, high = axes.get_xlim()
    shown = [seed for seed in seeds if low <= seed <= high]
    axes.plot(shown, [place] * len(shown), "|", color=SEED, markersize=5.5, mew=0.7, zorder=4)
    for end, arrow, is_beyond in (
        (low, "<", min(seeds, default=low) < low),
        (high, ">", max(seeds, default=high) > high),
    ):
        if is_beyond:
            axes.plot([end], [place], arrow, color=SEED, markersize=2.6, mew=0, clip_on=False, zorder=4)


def draw_interplay(panels: Sequence[Interplay], ylabel: str) -> bytes:
    """Return an interaction plot for each pair of factors: lines that are not parallel are an interaction."""
    with new_figure(COLUMN, (HEIGHT + 0.2) * len(panels)) as (figure, png):
        grid = figure.subplots(len(panels), 1, squeeze=False, sharey=True)
        for axes, panel in zip(grid.flat, panels, strict=True):
            _draw_panel(axes, panel)
            axes.set_ylabel(ylabel)
    return png.getvalue()


def _draw_panel(axes: Axes, panel: Interplay) -> None:
    places = range(len(panel.levels))
    for index, (level, cells) in enumerate(panel.lines.items()):
        colour, line, marker = look(index)
        shift = 0.05 * (index - (len(panel.lines) - 1) / 2)
        for place, (_, values) in zip(places, cells, strict=True):
            axes.plot([place + shift] * len(values), values, marker, color=colour, markersize=3, alpha=0.45)
        means = [mean for mean, _ in cells]
        axes.plot([place + shift for place in places], means, line, color=colour, marker=marker, label=level)
    axes.set(xlabel=panel.across, xlim=(-0.4, len(panel.levels) - 0.6))
    axes.set_xticks(places, panel.levels)
    axes.legend(loc="best", title=panel.along)


def draw_expected_best(curves: Sequence[tuple[str, Sequence[float]]], ylabel: str) -> bytes:
    """Return the expected best score against the number of trials, a line an arm."""
    legend = Legend.of([name for name, _ in curves], COLUMN)
    with new_figure(COLUMN, HEIGHT + 0.3 + legend.height) as (figure, png):
        axes = figure.subplots()
        for index, (name, scores) in enumerate(curves):
            colour, line, marker = look(index)
            trials = range(1, len(scores) + 1)
            axes.plot(trials, scores, line, color=colour, marker=marker, markersize=3, label=name)
        axes.set(xlabel="tuning trials", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend.add(axes)
    return png.getvalue()


def are_apart(curves: Sequence[Curve]) -> bool:
    """Return whether each learning curve has a small plot of its own, with the base's in grey."""
    return TOGETHER < len(curves) <= APART and curves[0].is_base


def draw_curves(curves: Sequence[Curve], ylabel: str) -> bytes:
    """Return learning curves: a line for the mean over the seeds, a band from the smallest to the largest."""
    labels = [f"{curve.name} ({counted(curve.seeds, 'seed')})" for curve in curves]
    if are_apart(curves):
        return _draw_apart(curves, ylabel)
    legend = Legend.of(labels, COLUMN)
    with new_figure(COLUMN, HEIGHT + 0.3 + legend.height) as (figure, png):
        axes = figure.subplots()
        for index, curve in enumerate(curves):
            colour, line, marker = look(index)
            axes.fill_between(curve.epochs, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
            marked = marker if len(curve.epochs) == 1 or index >= UNMARKED else ""
            every = -(-len(curve.epochs) // MARKS)
            (drawn,) = axes.plot(curve.epochs, curve.mean, line, color=colour, label=labels[index])
            drawn.set(marker=marked, markevery=every)
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _cut_beginning(axes, curves)
        legend.add(axes)
    return png.getvalue()


def _draw_apart(curves: Sequence[Curve], ylabel: str) -> bytes:
    base, *arms = curves
    names = [f"{name} ({arm.seeds})" for name, arm in zip(_cut_apart([arm.name for arm in arms]), arms, strict=True)]
    columns = next(count for longest, count in PANELS.items() if max(map(len, names)) <= longest)
    rows = -(-len(arms) // columns)
    with new_figure(COLUMN, PANEL * rows + 0.3) as (figure, png):
        panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for axes, curve, name in zip(panels, arms, names, strict=False):
            for drawn, colour in ((base, "#999999"), (curve, COLOURS[6])):
                axes.fill_between(drawn.epochs, drawn.low, drawn.high, color=colour, alpha=0.2, linewidth=0)
                marked = "o" if len(drawn.epochs) == 1 else ""
                axes.plot(drawn.epochs, drawn.mean, color=colour, marker=marked, markersize=3, linewidth=1.0)
            axes.set_title(name, fontsize=SMALL, pad=2, parse_math=False)
        for axes in panels[len(arms) :]:
            axes.set_axis_off()
        for axes in panels[max(0, len(arms) - columns) : len(arms)]:
            axes.tick_params(labelbottom=True)
        panels[0].xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _cut_beginning(panels[0], curves)
        figure.supxlabel("epoch", fontsize=SMALL)
        figure.supylabel(ylabel, fontsize=SMALL).set_parse_math(False)
    return png.getvalue()


def _cut_beginning(axes: Axes, curves: Sequence[Curve]) -> None:
    """Give the later half of the epochs half of the height at least: the first would flatten what sets arms apart."""
    ends = [values for curve in curves for values in (curve.low, curve.high)]
    every, later = np.concatenate(ends), np.concatenate([values[len(values) // 2 :] for values in ends])
    every, later = every[np.isfinite(every)], later[np.isfinite(later)]
    height = np.ptp(later) if later.size else 0.0
    if height > 0:
        low, high = max(every.min(), later.min() - height), min(every.max(), later.max() + height)
        axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))


def draw_costs(points: Sequence[Point], xlabel: str, ylabel: str) -> bytes:
    """Return the metric against a cost: a small mark for each seed, a large one for the mean."""
    legend = Legend.of([point.name for point in points], COLUMN)
    with new_figure(COLUMN, HEIGHT + 0.3 + legend.height) as (figure, png):
        axes = figure.subplots()
        for index, point in enumerate(points):
            colour, _, marker = look(index)
            axes.plot([point.cost] * len(point.values), point.values, marker, color=colour, markersize=3, alpha=0.45)
            axes.plot([point.cost], [point.mean], marker, color=colour, markersize=6.5, label=point.name, linestyle="")
        axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log")
        _readable_log(axes, [point.cost for point in points])
        legend.add(axes)
    return png.getvalue()


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
