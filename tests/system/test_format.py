"""How numbers and units are written."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stn_bench.system.format import (
    Unit,
    in_short,
    number,
    relative,
    seconds_in_short,
    setting_value,
    size_of,
    size_of_spread,
)

PLAIN, FRACTION = Unit.of("test.mae", is_fraction=False), Unit.of("test.accuracy", is_fraction=True)


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ((), "3.1416"),
        ((0.0,), "3.1416"),
        ((0.4, -9.9), "3.1416"),
        ((10.0,), "3.14"),
        ((44.7, 1.3), "3.14"),
        ((-120.0,), "3.1"),
        ((3200.0, 90.0), "3"),
        ((1e9,), "3"),
        ((math.inf,), "3.1416"),
    ],
)
def test_digits_follow_the_largest_value(values: tuple[float, ...], written: str) -> None:
    assert PLAIN.to_show(values).value(math.pi) == written


def test_points_have_two_digits_whatever_the_values() -> None:
    assert FRACTION.to_show([1.0]).value(0.91234) == "91.23"
    assert FRACTION.to_show([50.0]) == FRACTION


MSE, PERPLEXITY, MANY = (-1.2e-6, (-1.4e-6, -1.0e-6)), (-0.302, (-0.312, -0.292)), (3.1e-6, (2.8e-6, 3.4e-6))


@pytest.mark.parametrize(
    ("unit", "values", "found", "value", "difference"),
    [
        (PLAIN, (3.0e-5, 2.9e-5), MSE, "3.00e−05", "−1.2e−06 [−1.4e−06, −1.0e−06]"),
        (PLAIN, (1570.0, 1569.0), PERPLEXITY, "1570.000", "−0.302 [−0.312, −0.292]"),
        (FRACTION, (0.99991,), MANY, "99.99100", "+0.00031 points [+0.00028, +0.00034]"),
        (PLAIN, (0.42,), (3e-6, (2e-6, 4e-6)), "0.4200000", "+0.0000030 [+0.0000020, +0.0000040]"),
        (PLAIN, (3e12,), (3e9, (2.7e9, 3.3e9)), "3.0000e+12", "+3000000000 [+2700000000, +3300000000]"),
        # as ever: an end near 0 asks for nothing, nor does one digit of the farther end that is right to a tenth
        (FRACTION, (0.91,), (0.0002, (-0.0012, 0.0016)), "91.00", "+0.02 points [−0.12, +0.16]"),
        (FRACTION, (0.91,), (0.0025, (0.00002, 0.005)), "91.00", "+0.25 points [+0.00, +0.50]"),
        (FRACTION, (0.985,), (0.00013, (-0.0005, 0.0008)), "98.50", "+0.01 points [−0.05, +0.08]"),
        (PLAIN, (44.7,), (-0.5, (-3.5, 2.5)), "44.70", "−0.50 [−3.50, +2.50]"),
        # one point, but for rounding, is no width
        (FRACTION, (0.9,), (0.01, (0.01 - 1e-17, 0.01 + 1e-17)), "90.00", "+1.00 points [+1.00, +1.00]"),
    ],
)
def test_a_difference_never_looks_like_nothing(
    unit: Unit, values: tuple[float, ...], found: tuple[float, tuple[float, float]], value: str, difference: str
) -> None:
    shown = unit.to_show(values, [size_of(*found)])
    assert (shown.value(values[0]), shown.change(*found)) == (value, difference)


@given(
    st.floats(1e-12, 1e6),
    st.floats(1e-3, 10),
    st.sampled_from([-1, 1]),
    st.floats(1e-9, 1e9),
    st.sampled_from([PLAIN, FRACTION]),
)
def test_difference_and_width_keep_their_meaning(
    difference: float, part: float, side: int, value: float, unit: Unit
) -> None:
    """The farther end is right to a tenth; no interval that spreads shrinks to a point."""
    low, high = side * difference - part * difference, side * difference + part * difference
    shown = unit.to_show([value], [size_of(side * difference, (low, high))])
    farther = max(abs(low), abs(high))
    written = [float(shown.signed(end).replace("−", "-")) / unit.scale for end in (low, high)]
    assert max(map(abs, written)) == pytest.approx(farther, rel=0.11)
    assert written[0] < written[1]
    ends = zip(written, (low, high), strict=True)
    assert all(one == 0 or math.copysign(1, one) == math.copysign(1, end) for one, end in ends)


def test_deviations_are_not_all_0() -> None:
    assert PLAIN.to_show([1570.0], [size_of_spread(0.0312)]).value(0.0312) == "0.03"
    assert FRACTION.to_show([0.5], [size_of_spread(0.0)]) == FRACTION


def test_a_mean_that_is_0_by_chance_asks_for_no_digits() -> None:
    assert PLAIN.to_show([1e-7], [0.3]).value(1e-7) == "0.0000"


def test_an_arm_that_diverged_leaves_the_others_their_digits() -> None:
    unit = PLAIN.to_show([1e12, 0.51], [0.03])
    assert (unit.value(0.51), unit.signed(0.03), unit.value(1e12)) == ("0.510", "+0.030", "1.000000000e+12")


def test_what_is_less_than_0_has_no_plus_where_it_is_rounded_to_nothing() -> None:
    assert (FRACTION.signed(-2e-5), FRACTION.signed(2e-5), FRACTION.signed(0.0)) == ("0.00", "+0.00", "+0.00")


@given(st.floats(min_value=10, max_value=1e6))
def test_at_least_four_digits_are_left_of_the_largest(value: float) -> None:
    written = PLAIN.to_show([value]).value(value)
    assert float(written) == pytest.approx(value, rel=0.5e-3)
    assert len(re.sub(r"\D", "", written)) >= 4


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        *((95.4, "95 s"), (10.0, "10 s"), (9.96, "10 s"), (9.94, "9.9 s"), (2.04, "2.0 s")),
        *((0.3, "0.3 s"), (0.0834, "0.083 s"), (0.0004, "< 0.001 s"), (0.0, "< 0.001 s")),
    ],
)
def test_a_short_time_is_told(seconds: float, written: str) -> None:
    assert seconds_in_short(seconds) == written


@pytest.mark.parametrize("tiny", [-1e-9, -0.0, -0.000004, -4e-5])
@pytest.mark.parametrize("unit", [PLAIN, FRACTION])
def test_nothing_is_written_as_a_negative_zero(tiny: float, unit: Unit) -> None:
    written = [unit.value(tiny), unit.signed(tiny), unit.interval((tiny, -tiny)), unit.change(tiny, (tiny, tiny))]
    written += [unit.amount(1.0, (tiny, 2.0)), unit.amount(tiny, (tiny, 1.0)), number(tiny), relative(1 + tiny)]
    written += [setting_value(-0.0), in_short(-0.0)]
    for text in written:
        assert not re.search(r"[−-]0(\.0*)?(?![.\d])", text), text


def test_what_is_less_than_0_keeps_its_sign() -> None:
    assert (PLAIN.signed(-0.0001), FRACTION.value(-0.0001), number(-0.01)) == ("−0.0001", "−0.01", "−0.01")


@pytest.mark.parametrize(
    ("unit", "value", "written"),
    [
        (FRACTION, 0.005, "0.50"),
        (FRACTION, 0.001, "0.10"),
        (FRACTION, 0.00005, "0.005"),
        (PLAIN.to_show([48.0]), 0.005, "0.005"),  # beside a mean absolute error of 48.00
        (PLAIN.to_show([48.0]), 2.0, "2.00"),
        (PLAIN.to_show([123456.0]), 0.25, "0.25"),
    ],
)
def test_what_a_person_gave_is_written_as_it_was_given(unit: Unit, value: float, written: str) -> None:
    assert unit.given(value) == written
