"""How numbers and units are written."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stn_bench.system.format import Unit, in_short, number, relative, seconds_in_short, setting_value

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
