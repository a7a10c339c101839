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


class Drawing(bytes):
    """A drawn figure as PNG bytes, with the matplotlib figure that they show."""

    canvas: Canvas


@dataclass(frozen=True)
class Figure:
    """A figure of a report.

    Args:
        name: its name, which the file in the report's folder gets.
        caption: what stands beneath it, without a full stop.
        png: its bytes; a `Drawing` has the matplotlib figure too.
    """

    name: str
    caption: str
    png: bytes

    @property
    def canvas(self) -> Canvas:
        """The matplotlib figure; of one that was drawn with something else, a figure that shows it."""
        return self.png.canvas if isinstance(self.png, Drawing) else _shown_in_one(self.png)

    def printed(self, ending: str) -> bytes:
        """Return the figure as a "pdf" or "svg" file, the same bytes every time, laid out as its PNG is."""
        canvas, file = self.canvas, io.BytesIO()
        layout, date = canvas.get_layout_engine(), {"pdf": "CreationDate", "svg": "Date"}[ending]
        canvas.set_layout_engine("none")
        try:
            with _style():
                canvas.savefig(file, format=ending, metadata={date: None})
        finally:
            canvas.set_layout_engine(layout)
        return file.getvalue()


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


class _Sheet(io.BytesIO):
    """What a figure is written to; as a value it is bytes that know their figure."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self._canvas = canvas

    def getvalue(self) -> Drawing:
        drawing = Drawing(super().getvalue())
        drawing.canvas = self._canvas
        return drawing


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Canvas, io.BytesIO]]:
    """Give a figure of this size in inches, and write it as PNG when the block ends: the same bytes every time."""
    from matplotlib.figure import Figure as Canvas

    with _style():
        figure = Canvas(figsize=(width, height), layout="constrained")
        png = _Sheet(figure)
        yield figure, png
        figure.savefig(png, format="png", metadata={"Software": None})


@contextmanager
def _style() -> Iterator[None]:
    """Draw in our style, whatever the user's own is; his is afterwards what it was, the backend of pyplot too."""
    import matplotlib as mpl

    ours = {name: mpl.rcParamsDefault[name] for name in mpl.rcParamsDefault if name != "backend"}
    with mpl.rc_context({**ours, **STYLE}), warnings.catch_warnings():  # type: ignore[dict-item]
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a title may hold letters that the font has not
        yield


def _shown_in_one(png: bytes) -> Canvas:
    """Return a figure of its size that shows a PNG file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas
    from matplotlib.image import imread

    with _style():
        shown = imread(io.BytesIO(png))
        height, width = shown.shape[:2]
        dpi = mpl.rcParams["savefig.dpi"]
        figure = Canvas(figsize=(width / dpi, height / dpi), dpi=dpi)
        figure.add_axes((0, 0, 1, 1)).imshow(shown)
        figure.axes[0].set_axis_off()
    return figure
