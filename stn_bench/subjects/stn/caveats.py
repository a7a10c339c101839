"""Caveats: what a reader should know of an arm's pictures and of their input range beside its verdict."""

from __future__ import annotations

from collections.abc import Iterator

from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.spec import LOWER_BOUND

BLACK, MID_GREY, WHITE = 0.0, 0.5, 1.0  # places in a range, from its low end to its high one


def _fill(config: Config) -> float | None:
    return config.model.transformer.fill if config.model.transformer.kind != "none" else None


def _pad(config: Config) -> float | None:
    return config.data.pad if config.data.shapes == "varied" else None


ENDS = {"data.pad": _pad, "model.transformer.fill": _fill}
"""Setting that stands for black -> its value, or None where nothing uses it."""


def caveats(settings: Config, base: Config | None) -> Iterator[str]:
    """Yield the values that should be the low end of the input range and are not, each in a sentence.

    Args:
        settings: an arm's settings.
        base: its base's, or None for a base itself. An arm that shares these values with its base adds nothing.
    """
    config = settings.resolved()
    if base is not None:
        ours, theirs = config.flat(), base.resolved().flat()
        if all(ours[path] == theirs[path] for path in ("model.input_range", *ENDS)):
            return
    lower, name = LOWER_BOUND[config.model.input_range], config.model.input_range
    for path, value_of in ENDS.items():
        value = value_of(config)
        if value is not None and value != lower:
            yield f"`{path}` {_number(value)} is {_shade(value, lower)} in {name}, whose low end is {_number(lower)}"


def _shade(value: float, lower: float) -> str:
    place = (value - lower) / (1 - lower)
    return {BLACK: "black", MID_GREY: "mid-grey", WHITE: "white"}.get(place, f"grey, {100 * place:.0f} % of white")


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")
