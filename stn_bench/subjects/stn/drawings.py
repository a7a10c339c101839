"""Figures about one model: numbers and pictures in, PNG bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from stn_bench.figure import COLOURS, COLUMN, new_figure
from stn_bench.subjects.stn.letters import LetterCheck, Mean

RIGHT = ListedColormap(["#D3EBE1"])
WRONG = LinearSegmentedColormap.from_list("wrong", ["#FBD9C3", "#D55E00", "#7A2F00"])
GREY, BLUE, ORANGE = "#777777", COLOURS[6], COLOURS[4]
LEGEND: dict[str, Any] = {"frameon": True, "framealpha": 0.9, "edgecolor": "none"}  # over the data, and readable
CELL = 0.27  # inches of a confusion matrix' cell: room for three digits
COLUMNS, PICTURE, CELL_WIDTH, CELL_HEIGHT = 10, 0.9, 1.05, 1.28  # of a contact sheet, in inches
FILE_LETTERS = 17  # as much of a file's name as fits below its picture


@dataclass(frozen=True)
class Mistake:
    """A picture that was read wrongly, uint8 `(height, width, 3)`, with what stands below it."""

    picture: NDArray[np.uint8]
    caption: str
    file: str


@dataclass(frozen=True)
class Example:
    """A picture before and after the transformer, uint8 of shape (height, width, 3), and its letter."""

    letter: str
    pair: np.ndarray


def draw_confusion(counts: NDArray[np.int64], alphabet: str, title: str) -> bytes:
    """Return a confusion matrix: a row for each true letter, a column for each letter read.

    The diagonal is pale and mistakes are coloured by their number, so that one among hundreds shows.

    Args:
        counts: number of pictures, `(truth, letter)`, in the alphabet's order.
        alphabet: the letters.
        title: what stands above.
    """
    side = CELL * len(alphabet)
    with new_figure(max(5.0, side + 1.5), max(4.0, side + 1.3)) as (figure, png):
        axes = figure.subplots()
        diagonal = np.eye(len(alphabet), dtype=bool)
        wrong = np.ma.masked_where(diagonal | (counts == 0), counts)
        most = int(max(2, np.where(diagonal, 0, counts).max()))
        axes.imshow(np.ma.masked_where(~diagonal, np.zeros_like(counts)), cmap=RIGHT)
        axes.imshow(wrong, cmap=WRONG, norm=LogNorm(1, most))
        for row, column in np.argwhere(counts):
            dark = row != column and counts[row, column] > most**0.4
            colour = "white" if dark else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
        _name_letters(axes, alphabet, counts)
        axes.set_title(title, loc="left", fontsize=10, pad=10)
    return png.getvalue()


def _name_letters(axes: Axes, alphabet: str, counts: NDArray[np.int64]) -> None:
    """Label rows and columns, draw lines between the cells, and say at the right how many of a letter were right."""
    letters = range(len(alphabet))
    axes.set_xticks(letters, list(alphabet), fontsize=8)
    axes.set_yticks(letters, list(alphabet), fontsize=8)
    axes.set(xlabel="letter read", ylabel="true letter")
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=True)
    axes.grid(visible=False)
    edges = np.arange(len(alphabet) + 1) - 0.5
    for line, to in ((axes.hlines, axes.set_xlim), (axes.vlines, axes.set_ylim)):
        line(edges, edges[0], edges[-1], color="#E4E4E4", linewidth=0.5)
        to(edges[0], edges[-1])
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    shares = axes.secondary_yaxis("right")
    shares.set_yticks(letters, [_share(counts[row, row], counts[row].sum()) for row in letters], fontsize=7)
    shares.tick_params(length=0, colors=GREY)
    shares.spines[:].set_visible(False)


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.0f} % of {total}" if total else "none"


def draw_mistakes(mistakes: Sequence[Mistake], title: str) -> bytes:
    """Return a contact sheet of pictures that were read wrongly, in the order given, each with its caption."""
    columns = min(COLUMNS, max(6, len(mistakes)))
    rows = -(-len(mistakes) // columns)
    width, height = columns * CELL_WIDTH + 0.1, rows * CELL_HEIGHT + 0.35
    with new_figure(width, height) as (figure, png):
        figure.set_layout_engine("none")  # each picture has its place
        figure.text(0.1 / width, 1 - 0.1 / height, title, fontsize=10, va="top")
        for index, mistake in enumerate(mistakes):
            left = 0.1 + index % columns * CELL_WIDTH
            top = height - 0.35 - index // columns * CELL_HEIGHT
            box = (left / width, (top - PICTURE) / height, PICTURE / width, PICTURE / height)
            _draw_mistake(figure.add_axes(box), mistake)
    return png.getvalue()


def _draw_mistake(axes: Axes, mistake: Mistake) -> None:
    axes.imshow(mistake.picture, interpolation="nearest")
    axes.set_axis_off()
    for text, points, size, colour in ((mistake.caption, 3, 7.0, "black"), (_shortened(mistake.file), 12, 5.5, GREY)):
        place: dict[str, Any] = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "ha": "center",
            "va": "top",
        }
        axes.annotate(text, (0.5, 0), (0, -points), fontsize=size, color=colour, **place)


def _shortened(name: str) -> str:
    """Return a file's name as it fits and as every font can write it; its end, which holds the label, is kept."""
    name = name.encode("ascii", "replace").decode().replace("$", "?")  # two dollars would begin a formula
    return name if len(name) <= FILE_LETTERS else f"{name[:6]}…{name[7 - FILE_LETTERS :]}"


def draw_letter_check(
    magnification: NDArray[np.floating],
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    check: LetterCheck,
) -> bytes:
    """Return two panels: how much larger the letters became, and how far from the middle they were and are.

    Args:
        magnification: how many times longer lengths became, `(n,)`.
        before: pixels from the middle to the letter's centre of mass, `(n,)`; NaN is left out.
        after: the same behind the transformer.
        check: means and intervals of these; those of the distance are before minus after.
    """
    with new_figure(2 * COLUMN, 3.3) as (figure, png):
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_magnification(left, magnification, check)
        _draw_offsets(right, before, after, check)
    return png.getvalue()


def _draw_magnification(axes: Axes, magnification: NDArray[np.floating], check: LetterCheck) -> None:
    mean = check.magnification
    low, high = min(magnification.min() / 1.05, 0.95), max(magnification.max() * 1.05, 1.05)
    heights, _, _ = axes.hist(magnification, np.geomspace(low, high, 41).tolist(), color=BLUE, alpha=0.55, linewidth=0)
    axes.axvline(1, color="black", linewidth=1, linestyle=":", label="as large as before")
    if mean.low < mean.high:
        axes.axvspan(mean.low, mean.high, color=ORANGE, alpha=0.3, linewidth=0)
    axes.axvline(mean.value, color=ORANGE, linewidth=1.6, label="geometric mean")
    axes.set(xscale="log", xlim=(low, high), ylim=(0, 1.25 * np.max(heights)))
    axes.set(xlabel="magnification (log scale)", ylabel="pictures")
    axes.xaxis.set_major_locator(MaxNLocator(8) if high < 4 * low else LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    told = f"{mean.value:.3f} times as large{_interval(mean, 3)}"
    axes.set_title(f"{told}\nlarger in {check.larger} of {mean.pictures} pictures", loc="left")
    axes.legend(loc="upper right", **LEGEND)


def _draw_offsets(axes: Axes, before: NDArray[np.floating], after: NDArray[np.floating], check: LetterCheck) -> None:
    inked = np.isfinite(before) & np.isfinite(after)
    far = float(max([1.0, *before[inked], *after[inked]])) * 1.06
    axes.plot([0, far], [0, far], color="black", linewidth=1, linestyle=":", label="as far as before")
    axes.plot(before[inked], after[inked], "o", color=BLUE, alpha=0.3, markersize=3, markeredgewidth=0)
    means = f"means: {check.before:.2f} before, {check.after:.2f} after" if inked.any() else None
    axes.plot([check.before], [check.after], "P", color=ORANGE, markersize=7, markeredgecolor="white", label=means)
    axes.set(xlim=(0, far), ylim=(0, far), aspect="equal")
    axes.set(xlabel="before: pixels from the middle", ylabel="after: pixels from the middle")
    told = f"{check.centring.value:+.2f} pixels towards the middle{_interval(check.centring, 2)}"
    told = f"{told}\nnearer in {check.nearer} of {check.centring.pictures} pictures"
    told = told.replace("-", "−")
    axes.set_title(told if inked.any() else "no picture has a letter\nboth before and after", loc="left")
    axes.legend(loc="upper left", **LEGEND)


def _interval(mean: Mean, digits: int) -> str:
    return f" [{mean.low:.{digits}f}, {mean.high:.{digits}f}]" if mean.pictures > 1 else ""


def at_height(pictures: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """Return pictures, `(n, height, width, 3)`, at another height, each pixel the nearest of theirs."""
    rows = np.arange(height) * pictures.shape[1] // height
    width = max(1, round(pictures.shape[2] * height / pictures.shape[1]))
    columns = np.arange(width) * pictures.shape[2] // width
    return pictures[:, rows][:, :, columns]


def draw_gallery(examples: Sequence[Example], columns: int = 4) -> bytes:
    """Return a gallery of pictures before | after, with the letter above each pair."""
    rows = -(-len(examples) // columns)
    with new_figure(COLUMN, COLUMN * 0.6 / columns * rows) as (figure, png):
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, example in zip(grid.flat, examples, strict=False):
            axes.imshow(example.pair, interpolation="nearest")
            axes.set_title(example.letter, fontsize=7, pad=2, parse_math=False)  # it may come from an archive
    return png.getvalue()
