"""Figures: the door to matplotlib. Nothing is computed here."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
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
COLUMN = 3.5
"""Inches of a paper's column: a figure is drawn as wide as it is printed, so its letters are as large as they are."""

MOST_INSIDE = 4
WIDEST_INSIDE = 0.45
"""Of the figure's width; a wider legend inside the axes would cover what they show."""

LEGEND_COLUMNS = 3
INSIDE_SIZE, BENEATH_SIZE = 7.0, 6.5
HANDLE = 0.52
"""Inches beside a name in a legend: its line, and the space to the next column."""

LEGEND_ROW, LEGEND_LINE = 0.16, 0.11
UNNAMED = re.compile(r"_child\d+")
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.linewidth": 0.6,
    "font.size": 7.0,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "savefig.dpi": 200,
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
    """Return colour, line and marker of an arm by its place; grey print tells neighbours apart too.

    32 arms pass before colour and line repeat, 64 before colour and marker do.
    """
    turn = index // len(COLOURS)
    return COLOURS[index % len(COLOURS)], LINES[(index + turn) % len(LINES)], MARKERS[(index + turn) % len(MARKERS)]


@dataclass(frozen=True)
class Legend:
    """The names of the lines of a figure: where they stand, and how much room they need.

    Args:
        names: the names, as they are drawn: long ones in several lines.
        columns: beneath the axes, in so many columns; 0: inside the axes.
    """

    names: tuple[str, ...]
    columns: int

    @classmethod
    def of(cls, names: Sequence[str], width: float) -> Legend:
        """Return the legend of a figure of a width in inches, in which every name is whole."""
        if len(names) <= MOST_INSIDE and widest(names) <= width * WIDEST_INSIDE:
            return cls(tuple(names), 0)
        needed = widest(names, BENEATH_SIZE)
        for columns in range(LEGEND_COLUMNS, 1, -1):
            if needed <= width / columns - HANDLE:
                return cls(tuple(names), columns)
        return cls(tuple(_wrapped(name, width - HANDLE) for name in names), 1)

    @property
    def height(self) -> float:
        """Inches that it adds to a figure, beneath the axes."""
        if not self.columns:
            return 0.0
        more = sum(name.count("\n") for name in self.names)
        return LEGEND_ROW * -(-len(self.names) // self.columns) + LEGEND_LINE * more

    def add(self, axes: Axes) -> None:
        """Name the lines of axes that have a label, in their order."""
        lines = [line for line in axes.get_lines() if not UNNAMED.fullmatch(str(line.get_label()))]
        for line, name in zip(lines, self.names, strict=True):
            line.set_label("\u200b" * name.startswith("_") + name)  # what begins with _ is left out
        if not self.columns:
            drawn = axes.legend(handles=lines, loc="best")
        else:
            figure = axes.get_figure(root=True)
            assert figure is not None
            drawn = figure.legend(handles=lines, loc="outside lower center", ncols=self.columns, fontsize=BENEATH_SIZE)
        for text in drawn.get_texts():
            text.set_parse_math(False)  # a dollar in a name is a dollar


def widest(texts: Iterable[str], size: float = INSIDE_SIZE) -> float:
    """Return how many inches the widest of some texts takes, drawn in a size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with _style():
        font = FontProperties(size=size)
        return (
            max(
                (text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts),
                default=0.0,
            )
            / 72
        )


def _wrapped(name: str, width: float) -> str:
    """Return a name in as many lines as a width in inches asks for."""
    fits = len(name)
    while fits > 1 and widest(textwrap.wrap(name, fits), BENEATH_SIZE) > width:
        fits = fits * 9 // 10
    return "\n".join(textwrap.wrap(name, fits)) or name


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
        _write_png(figure, png)


def _write_png(figure: Canvas, file: io.BytesIO) -> None:
    """Write what `savefig` would, which draws twice, the first time for the layout: a drawing lays out by itself."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas, shown, written = figure.canvas, figure.dpi, mpl.rcParams["savefig.dpi"]
    figure.dpi = shown if written == "figure" else written
    try:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]
    finally:
        figure.dpi = shown
        figure.set_canvas(canvas)


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
