"""How numbers, units and settings are written, in a report and on a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

SMALLEST_P = 0.001

PLAIN = (1e-4, 1e10)
"""Values from here up to there are written without a power of ten."""

FEWEST_UNITS = 5
"""Units of the last digit that a size has at least: a rounded one is right to a tenth."""

SHARPEST = 1e-3
"""Of a difference: how far its interval's half-width is told apart from nothing, at the most."""

MOST_DIGITS = 9
"""Behind the point of a number with a power of ten, such as of an arm that diverged beside others that did not."""

ROUNDED = 1e-9
"""Of a difference: a narrower interval is one point, but for rounding."""

DOT = re.compile(r"(?<=\w)(?<!\d)\.(?=\w)|(?<=\d)\.(?=[^\W\d])")
"""A dot between two words of a metric's name; that of a number or a path stays."""


@dataclass(frozen=True)
class Unit:
    """How values of a metric are written: fractions as per cent and points, anything else as it is.

    Args:
        name: the metric.
        scale: what values are multiplied by.
        digits: of all of them after the point, so that they can be compared; below 0, before it.
        suffix: of a value.
        points: what stands behind a difference.
        is_tiny: whether all values are so small that they are written with a power of ten.
    """

    name: str
    scale: float
    digits: int
    suffix: str
    points: str
    is_tiny: bool = False

    @classmethod
    def of(cls, name: str, *, is_fraction: bool) -> Unit:
        """Return the unit of a metric by its name."""
        words = DOT.sub(" ", name)
        return cls(words, 100.0, 2, " %", " points") if is_fraction else cls(words, 1.0, 4, "", "")

    def to_show(self, values: Iterable[float], sizes: Iterable[float] = ()) -> Unit:
        """Return the unit with as many digits as what stands side by side needs, such as a question's table.

        Points have two digits, other metrics four, and fewer where values are 10 or more. A size gets more, two of its
        own, where these would leave less than five units of it.

        Args:
            values: the largest of them tells how many digits are usual.
            sizes: what must not look like nothing: see `size_of`; zeros and what is not finite do not count. Without
                any it is the largest value.
        """
        largest = max((abs(value) * self.scale for value in values), default=0.0)
        if not math.isfinite(largest):
            return self
        usual = self.digits if self.points or largest < 10 else 3 - _exponent(largest)
        usual = max(0, usual) if largest < PLAIN[1] else usual
        told = [abs(size) * self.scale for size in sizes if size and math.isfinite(size)] or [largest]
        short = [1 - _exponent(size) for size in told if 0 < size < FEWEST_UNITS * 10.0**-usual * (1 - ROUNDED)]
        return replace(self, digits=max([usual, *short]), is_tiny=0 < max(largest, *told) < PLAIN[0])

    @property
    def in_values(self) -> str:
        """What stands above values of the metric, such as "test accuracy, %"."""
        return f"{self.name}{self.suffix and ','}{self.suffix}"

    def in_differences(self, what: str) -> str:
        """Return what stands above differences of the metric, such as "difference, points"."""
        return f"{what}{self.points and ','}{self.points}"

    def value(self, value: float | None) -> str:
        """Return a value without its suffix, or a dash where there is none."""
        return "–" if value is None else self._written(value)

    def given(self, value: float) -> str:
        """Return a value that a person gave: with all its digits where rounding would make another of it."""
        whole = f"{value * self.scale:.10g}"
        is_whole = math.isclose(round(value * self.scale, max(0, self.digits)), value * self.scale, rel_tol=1e-9)
        return self.value(value) if is_whole else _minus(whole)

    def signed(self, value: float | None) -> str:
        """Return a difference with its sign, or a dash where there is none; what is less than 0 never has a plus."""
        if value is None:
            return "–"
        text = self._written(value, "+")
        return text.removeprefix("+") if value < 0 else text

    def interval(self, interval: tuple[float, float] | None) -> str:
        """Return an interval in brackets, or "" where there is none."""
        return "" if interval is None else f"[{self.signed(interval[0])}, {self.signed(interval[1])}]"

    def change(self, value: float | None, interval: tuple[float, float] | None) -> str:
        """Return a difference with its unit and its interval, such as "+1.20 points [+0.80, +1.60]"."""
        return f"{self.signed(value)}{self.points} {self.interval(interval)}".rstrip()

    def amount(self, value: float, interval: tuple[float, float] | None) -> str:
        """Return how large a difference is, as a loss or a gain: "1.20" and its interval, seen from that side."""
        side = math.copysign(1.0, value)
        low, high = sorted(side * end for end in interval) if interval else (0.0, 0.0)
        between = f" [{self.value(low)}, {self.value(high)}]" if interval else ""
        return f"{self.value(abs(value))}{self.points}{between}"

    def _written(self, value: float, sign: str = "") -> str:
        shown = value * self.scale
        if math.isfinite(shown) and (self.is_tiny or abs(shown) >= PLAIN[1]):
            return _minus(_with_a_power(shown, self.digits, sign))
        rounded = round(shown, self.digits) if self.digits < 0 else shown
        return _minus(f"{rounded:{sign}z.{max(0, self.digits)}f}")


def size_of(difference: float, interval: tuple[float, float] | None) -> float:
    """Return the size that the digits of a difference have to show: its interval's farther end, or a narrow width.

    An end near 0 asks for no digits; an interval whose half-width would be less than one unit of the last one does.
    """
    low, high = interval or (difference, difference)
    farther, half = max(abs(low), abs(high)), (high - low) / 2
    if half <= ROUNDED * farther:
        return farther
    return min(farther, FEWEST_UNITS * max(half, SHARPEST * farther))


def size_of_spread(sd: float) -> float:
    """Return the size that the digits of values have to show, so that the largest of their deviations is not 0."""
    return 2 * FEWEST_UNITS * sd


def _exponent(size: float) -> int:
    return math.floor(math.log10(size))


def _with_a_power(shown: float, digits: int, sign: str) -> str:
    """Return a number with a power of ten, rounded to the same digit as what stands beside it."""
    rounded = round(shown, digits)
    if not rounded:
        return f"{sign}0"
    return f"{rounded:{sign}.{min(MOST_DIGITS, max(0, _exponent(abs(rounded)) + digits))}e}"


def _minus(text: str) -> str:
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    """Return a p-value with three digits."""
    if p is None or math.isnan(p):
        return "–"
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number without a unit, or a dash where there is none."""
    return "–" if value is None else _minus(f"{value:z.{digits}f}")


def level_in_words(level: float) -> str:
    """Return the level of an interval, such as "98.3 %"."""
    return f"{100 * level:.3g} %"


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Return settings as `path` = value, separated by commas."""
    return ", ".join(f"`{path}` = {setting_value(value)}" for path, value in settings.items())


def setting_value(value: Any) -> str:
    """Return the value of a setting nearly as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:zg}" if isinstance(value, float) else str(value)


def listed(parts: Sequence[str]) -> str:
    """Return parts as a list in a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def counted(count: int, noun: str) -> str:
    """Return a number of things: "1 seed", "2 seeds"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def in_short(value: float) -> str:
    """Return a large number with three digits and its unit: 1.24 M."""
    for scale, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:z.3g}"


def relative(ratio: float) -> str:
    """Return how much more a ratio is than 1: "+12 %", "−40 %"."""
    return _minus(f"{100 * (ratio - 1):+z.0f} %")


def seconds_in_short(seconds: float) -> str:
    """Return the time of a training: "95 s", and below 10 s with two digits, such as "0.083 s"."""
    if seconds < 0.001:
        return "< 0.001 s"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{float(f'{seconds:.2g}')} s"


def duration(seconds: float) -> str:
    """Return a time as a person would say it: "95 s", "12 min", "2.5 h"."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
