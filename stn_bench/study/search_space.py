"""The search space: the points that tuning tries, the same for every arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stn_bench.settings import Settings, defaults, kind_of
from stn_bench.study.halton import halton
from stn_bench.study.spec import Range


def draw(space: Mapping[str, Range], count: int, seed: int, schema: type[Settings]) -> tuple[dict[str, Any], ...]:
    """Return `count` points spread evenly over the space; a larger count begins with the same points.

    The points are a scrambled Halton sequence. An arm's own settings come behind those that all arms search, so
    that every arm tries the same values of the shared ones.

    Args:
        space: the ranges by dotted path.
        count: number of points.
        seed: of the scrambling.
        schema: the settings that the paths are of.
    """
    if not space or not count:
        return ()
    fractions = halton(len(space), count, seed)
    return tuple(
        {path: _at(path, values, float(at), schema) for (path, values), at in zip(space.items(), row, strict=True)}
        for row in fractions
    )


def _at(path: str, values: Range, fraction: float, schema: type[Settings]) -> Any:
    if values.choices:
        return values.choices[int(fraction * len(values.choices))]
    low, high = float(values.low or 0), float(values.high or 0)
    value = low * (high / low) ** fraction if values.log else low + (high - low) * fraction
    return typed(path, min(max(float(f"{value:.4g}"), low), high), schema)


def ends(path: str, values: Range, schema: type[Settings]) -> tuple[Any, ...]:
    """Return the values that a setting must take for its range to be sound: every choice, or both ends."""
    return values.choices or (typed(path, values.low, schema), typed(path, values.high, schema))


def typed(path: str, value: float | None, schema: type[Settings]) -> Any:
    """Return a number as the setting wants it: whole where it takes no other, or where its default alone tells."""
    whole, default = kind_of(schema, path).is_whole, defaults(schema)[path]
    if whole is None:
        whole = isinstance(default, int) and not isinstance(default, bool)
    return round(value or 0) if whole else value
