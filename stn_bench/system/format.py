"""How numbers, units and settings are written, in a report and on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

SMALLEST_P = 0.001


@dataclass(frozen=True)
class Unit:
    """How values of a metric are written: fractions as per cent and points, anything else as it is."""

    name: str
    scale: float
    digits: int
    suffix: str
    points: str

    @classmethod
    def of(cls, name: str, *, is_fraction: bool) -> Unit:
        """Return the unit of a metric by its name."""
        if is_fraction:
            return cls(name.replace(".", " "), 100.0, 2, " %", " points")
        return cls(name.replace(".", " "), 1.0, 4, "", "")

    def to_show(self, values: Iterable[float]) -> Unit:
        """Return the unit with as many digits as tell such values apart: four, fewer where they are 10 or more."""
        largest = max(map(abs, values), default=0.0)
        if self.points or largest < 10 or not math.isfinite(largest):
            return self
        return replace(self, digits=max(0, 3 - math.floor(math.log10(largest))))

    @property
    def in_values(self) -> str:
        """What stands above values of the metric, such as "test accuracy, %"."""
        return f"{self.name}{self.suffix and ','}{self.suffix}"

    def in_differences(self, what: str) -> str:
        """Return what stands above differences of the metric, such as "difference, points"."""
        return f"{what}{self.points and ','}{self.points}"

    def value(self, value: float | None) -> str:
        """Return a value without its suffix, or a dash where there is none."""
        return "–" if value is None else _minus(f"{value * self.scale:z.{self.digits}f}")

    def given(self, value: float) -> str:
        """Return a value that a person gave: with all its digits where rounding would make another of it."""
        whole = f"{value * self.scale:.10g}"
        is_whole = math.isclose(round(value * self.scale, self.digits), value * self.scale, rel_tol=1e-9)
        return self.value(value) if is_whole else _minus(whole)

    def signed(self, value: float | None) -> str:
        """Return a difference with its sign, or a dash where there is none."""
        return "–" if value is None else _minus(f"{value * self.scale:+z.{self.digits}f}")

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
