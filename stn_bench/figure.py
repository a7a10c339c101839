"""Figures: the door to matplotlib. Nothing is computed here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a subject is found without loading it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

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
class Figure:
    """A figure of a report.

    Args:
        name: its name, which the file in the report's folder gets.
        caption: what stands beneath it, without a full stop.
        png: its bytes.
    """

    name: str
    caption: str
    png: bytes


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


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Canvas, io.BytesIO]]:
    """Give a figure of this size in inches, and write it as PNG when the block ends: the same bytes every time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    png = io.BytesIO()
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}), warnings.catch_warnings():  # type: ignore[dict-item]
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a title may hold letters that the font has not
        figure = Canvas(figsize=(width, height), layout="constrained")
        yield figure, png
        figure.savefig(png, format="png", metadata={"Software": None})
