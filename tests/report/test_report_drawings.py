"""The legends of a report's figures: every arm is named, and nothing of a name is cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stn_bench.figure import Drawing
from stn_bench.report.drawings import (
    SEED,
    Curve,
    ForestRow,
    ForestScale,
    Point,
    draw_costs,
    draw_curves,
    draw_expected_best,
    draw_forest,
)

LONG = [f"arm_{number:02d}_{'with_a_name_that_says_all_of_what_it_changes_in_the_net':.53}" for number in range(20)]
SENTENCES = [f"{'a name of somebody who writes in whole sentences, ' * 4}{number}" for number in range(6)]
ODD = ["_hidden", "costs $5", "a$b$c^{", "x_1", "x_2"]


def names_in(drawn: bytes) -> list[str]:
    """Return the names in the legend of a figure, each of which lies within it."""
    assert isinstance(drawn, Drawing)
    canvas = drawn.canvas
    assert isinstance(canvas, Figure)
    legends = [*canvas.legends, *(one for axes in canvas.axes if (one := axes.get_legend()))]
    (legend,) = legends
    renderer = FigureCanvasAgg(canvas).get_renderer()
    canvas.draw(renderer)
    texts = legend.get_texts()
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    assert all(box.x1 <= canvas.bbox.width and box.y1 <= canvas.bbox.height for box in boxes)
    (axes,) = canvas.axes
    plot = axes.get_window_extent(renderer)
    if canvas.legends:
        assert not any(box.y1 > plot.y0 for box in boxes)
    assert plot.height > 1.5 * 72  # inches that are left to the plot itself
    return [unbroken(text.get_text().replace("\u200b", "")) for text in texts]


def unbroken(name: str) -> str:
    """Return a name without its spaces: where a line of it ends, there is one or none."""
    return "".join(name.split())


@pytest.mark.parametrize("names", [LONG, SENTENCES, ODD, LONG[:3], ["base", "none"], [f"a{n}" for n in range(30)]])
def test_every_arm_of_a_figure_is_named_in_full(names: list[str]) -> None:
    epochs = np.arange(1, 4)
    curves = [Curve(name, epochs, epochs / 10, epochs / 11, epochs / 9, 3) for name in names]
    assert names_in(draw_curves(curves, "accuracy")) == [unbroken(f"{name} (3 seeds)") for name in names]
    points = [Point(name, 10.0**place, (0.5, 0.6), 0.55) for place, name in enumerate(names)]
    assert names_in(draw_costs(points, "FLOPs", "accuracy")) == [*map(unbroken, names)]
    assert names_in(draw_expected_best([(name, (0.1, 0.2)) for name in names], "accuracy")) == [*map(unbroken, names)]


BETWEEN = [f"With the learning-rate schedule number {n:02d}, and with warm restarts" for n in range(60)]
WORDS = [
    f"With batch normalisation {where} each of the activations, {n}" for where in ("before", "behind") for n in "ab"
]


@pytest.mark.parametrize(
    "names", [LONG, [f"{'the_same_long_beginning_of_all_' * 2}{n}" for n in range(5)], BETWEEN, [*BETWEEN, *LONG]]
)
def test_a_forest_plot_tells_arms_of_long_names_apart(names: list[str]) -> None:
    rows = [ForestRow(name, "better", 0.1, (0.05, 0.15)) for name in names]
    drawn = draw_forest([("", rows)], ForestScale("difference", 0.02))
    assert isinstance(drawn, Drawing)
    shown = [text.get_text() for text in drawn.canvas.axes[0].get_yticklabels()]
    assert len(set(shown)) == len(names)
    assert max(map(len, shown)) <= 24


def test_names_that_no_cut_tells_apart_are_whole() -> None:
    """They differ in two places, which are farther apart than a short name is long."""
    drawn = draw_forest([("", [ForestRow(name, "better", 0.1) for name in WORDS])], ForestScale("difference", 0.02))
    assert isinstance(drawn, Drawing)
    assert {text.get_text() for text in drawn.canvas.axes[0].get_yticklabels()} == set(WORDS)


def test_no_two_of_sixty_curves_look_alike() -> None:
    epochs = np.arange(1, 30)
    drawn = draw_curves([Curve(f"a{n}", epochs, epochs + n, epochs, epochs, 3) for n in range(60)], "accuracy")
    assert isinstance(drawn, Drawing)
    lines = drawn.canvas.axes[0].get_lines()
    assert len({(one.get_color(), one.get_linestyle(), one.get_marker()) for one in lines}) == 60
    assert {one.get_marker() for one in lines[:4]} == {""}
    assert len({(one.get_linestyle(), one.get_marker()) for one in lines[:8]}) == 8  # printed in grey, too


def test_what_stands_beside_a_forest_plot_covers_nothing_and_is_not_cut() -> None:
    rows = [ForestRow(f"symmetric_grey_{n}", "equivalent", n, (n - 1, n + 1), (n,), 12.5 + n) for n in range(4)]
    drawn = draw_forest([("Is it so?", rows)], ForestScale("difference", 0.5, cost="CPU time"))
    assert isinstance(drawn, Drawing)
    renderer = FigureCanvasAgg(drawn.canvas).get_renderer()
    drawn.canvas.draw(renderer)
    (axes,) = drawn.canvas.axes
    plot = axes.get_window_extent(renderer)
    beside = [text for text in axes.texts if text.get_text() != "Is it so?"]
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in beside}
    assert {*boxes} == {"CPU time", "equivalent", "12.5×", "13.5×", "14.5×", "15.5×"}
    assert all(plot.x1 <= box.x0 and box.x1 <= drawn.canvas.bbox.width for box in boxes.values())
    assert all(box.y1 <= drawn.canvas.bbox.height for box in boxes.values())
    assert boxes["15.5×"].x1 < boxes["equivalent"].x0
    assert plot.width > 0.3 * drawn.canvas.bbox.width


def test_the_first_epochs_leave_the_later_ones_half_of_the_height() -> None:
    """An accuracy that climbs from 4 to 98 % and ends within a point: the point is what sets the arms apart."""
    values = np.array([4.0, 60.0, 90.0, 97.0, 97.5, 98.0])
    drawn = draw_curves([Curve("a", np.arange(1, 7), values, values, values, 1)], "accuracy")
    assert isinstance(drawn, Drawing)
    low, high = drawn.canvas.axes[0].get_ylim()
    assert 95.9 < low < 96.0
    assert 98.0 < high < 98.1


def test_a_curve_that_moves_late_is_shown_whole() -> None:
    values = np.array([4.0, 5.0, 6.0, 50.0, 98.0, 3.0])
    drawn = draw_curves([Curve("a", np.arange(1, 7), values, values, values, 1)], "accuracy")
    assert isinstance(drawn, Drawing)
    low, high = drawn.canvas.axes[0].get_ylim()
    assert low < 3.0
    assert high > 98.0


def test_a_loss_that_is_not_a_number_hides_no_other_curve() -> None:
    fallen, lost = np.array([9.0, 3.0, 2.0, 1.0]), np.array([9.0, np.nan, np.nan, np.nan])
    drawn = draw_curves([Curve(str(n), np.arange(1, 5), v, v, v, 1) for n, v in enumerate((fallen, lost))], "loss")
    assert isinstance(drawn, Drawing)
    low, high = drawn.canvas.axes[0].get_ylim()
    assert low < 1.0
    assert 3.0 <= high < 3.2


def test_a_seed_beyond_the_axis_leaves_an_arrow_at_its_end() -> None:
    """One seed of eight moves the mean away from seven others: without a trace of it the figure contradicts itself."""
    far = ForestRow("far", "undecided", 11.0, (-20.0, 42.0), (0.0, 1.0, 94.0))
    rows = [far, ForestRow("near", "undecided", 1.0, (-2.0, 3.0), (0.0, 1.0))]
    drawn = draw_forest([("", rows)], ForestScale("difference", 0.5))
    assert isinstance(drawn, Drawing)
    (axes,) = drawn.canvas.axes
    low, high = axes.get_xlim()
    seeds = [line for line in axes.get_lines() if line.get_color() == SEED and len(line.get_xdata())]
    found = [(line.get_marker(), [*line.get_xdata()], line.get_ydata()[0]) for line in seeds]
    assert low < 0 < 42 < high < 94
    assert found == [("|", [0.0, 1.0], 0), ("|", [0.0, 1.0], 1), (">", [high], 1)]


@pytest.mark.parametrize(("count", "long", "columns"), [(7, "", 3), (13, "_with_a_long_name", 2), (48, "", 3)])
def test_many_curves_have_a_small_plot_each_with_the_bases_behind(count: int, long: str, columns: int) -> None:
    epochs = np.arange(1, 9)
    names = ["base", *(f"a{n}{long}" for n in range(1, count))]
    drawn = draw_curves([Curve(name, epochs, epochs + 1.0, epochs, epochs, 3, name == "base") for name in names], "$")
    assert isinstance(drawn, Drawing)
    shown = [axes for axes in drawn.canvas.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == [f"{name} (3)" for name in names[1:]]
    assert [len(axes.get_lines()) for axes in shown] == [2] * (count - 1)
    assert len({axes.get_position().x0 for axes in shown}) == columns
    renderer = FigureCanvasAgg(drawn.canvas).get_renderer()
    drawn.canvas.draw(renderer)
    boxes = [axes.title.get_window_extent(renderer) for axes in shown]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_curves_without_a_base_or_of_more_arms_than_fit_share_one_plot() -> None:
    epochs = np.arange(1, 4)
    for count, has_base in ((12, False), (49, True), (6, True)):
        curves = [Curve(str(n), epochs, epochs, epochs, epochs, 3, has_base and n == 0) for n in range(count)]
        drawn = draw_curves(curves, "accuracy")
        assert isinstance(drawn, Drawing)
        assert len(drawn.canvas.axes[0].get_lines()) == count
