"""Assignments on the command line: what unsets a setting, and what is text."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from stn_bench.settings import Group, Settings, override
from stn_bench.study.toml import parse_assignment
from stn_bench.system.errors import ConfigError


class Inner(Group):
    rate: float | None = 0.5
    name: str | None = "adam"
    kind: Literal["none", "warm"] | None = "warm"
    place: Literal["a", "b"] | int | None = None
    sizes: tuple[int, ...] | None = (1, 2)
    other: str | None = None


class Mine(Settings):
    inner: Inner = Inner()
    epochs: int = 3
    title: str = "t"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inner.rate=", None),
        ("inner.rate = ", None),
        ("inner.rate=none", None),
        ("inner.rate=None", None),
        ("inner.rate=null", None),
        ("inner.rate=0.25", 0.25),
        ("inner.sizes=", None),
        ("inner.sizes=none", None),
        ("inner.sizes=[3]", (3,)),
        ("inner.name=", None),
        ('inner.name=""', ""),
        ("inner.name=none", "none"),  # it is text there
        ("inner.kind=none", "none"),
        ("inner.kind=", None),
        ("inner.place=", None),
        ("inner.place=7", 7),
        ("inner.other=", None),
        ("inner.other=5", "5"),
        ("title=", ""),  # it cannot be unset
        ("title=none", "none"),
    ],
)
def test_an_assignment_sets_or_unsets(text: str, value: Any) -> None:
    full = Mine(inner=Inner(place=3, other="x"))
    path, given = parse_assignment(text, Mine)
    assert override(full, {path: given}).flat()[path] == value


@pytest.mark.parametrize("text", ["epochs=", "epochs=none", "epochs=null"])
def test_what_has_always_a_value_is_not_unset(text: str) -> None:
    with pytest.raises(ConfigError, match="`epochs`: input should be a valid integer"):
        override(Mine(), dict([parse_assignment(text, Mine)]))
