"""What tuning tries: numbers of the kind that a setting takes, whatever its default looks like."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field

from stn_bench.settings import Settings
from stn_bench.study.search_space import draw, ends
from stn_bench.study.spec import Range


class Small(Settings):
    decay: float = 0
    unset: float | None = None
    either: int | float = 1
    layers: int = 3
    depth: int | None = None
    power: Literal[1, 2, 3] = 2
    width: int | None = Field(None, ge=1)
    named: int | Literal["auto"] = 2
    texts: int | str = 2
    switch: int | bool = 2
    anything: Any = 2
    share: float | Literal["auto"] = "auto"


def drawn(path: str, low: float, high: float, count: int = 8) -> list[object]:
    return [point[path] for point in draw({path: Range(low=low, high=high)}, count, 0, Small)]


@pytest.mark.parametrize("path", ["decay", "unset", "either", "share"])
def test_a_setting_that_takes_fractions_is_drawn_between_whole_numbers(path: str) -> None:
    values = drawn(path, 0.0, 1.0)
    assert len(set(values)) == len(values)
    assert all(isinstance(value, float) for value in values)


@pytest.mark.parametrize("path", ["layers", "depth", "power", "width", "named", "texts", "switch", "anything"])
def test_a_setting_that_takes_whole_numbers_alone_is_drawn_whole(path: str) -> None:
    assert set(drawn(path, 1, 3, 32)) == {1, 2, 3}
    assert all(type(value) is int for value in (*drawn(path, 1, 3), *ends(path, Range(low=1, high=3), Small)))
