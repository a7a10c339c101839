"""Somebody's own subject with a common mistake: one line as it is found, which names the part and what to write."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from stn_bench.settings import Group, Settings
from stn_bench.study.soundness import HOLDS, complaints
from stn_bench.subject import Metric, Subject, find_subject, shipped_subjects


class Kind(enum.Enum):
    RELU = "relu"
    TANH = "tanh"


class Word(enum.StrEnum):
    RELU = "relu"


def throw(settings: Any, seed: int, run: Any) -> dict[str, float]:
    return {"test.error": settings.bias + seed}


async def throw_later(settings: Any, seed: int, run: Any) -> dict[str, float]:
    return {}


def throw_by_name(*, seed: int, bias: float = 0.5) -> dict[str, float]:
    return {}


class Thrower:
    def __call__(self, settings: Any, seed: int, run: Any) -> dict[str, float]:
        return {}

    def throw(self, settings: Any, seed: int, run: Any) -> dict[str, float]:
        return {}


class Coin(Settings):
    bias: float = 0.5


METRICS = (Metric("test.error", "what it is", "minimize"),)
SOUND = Subject("coin", Coin, throw, METRICS)


def complaint(subject: Subject) -> str | None:
    return next(complaints(subject), None)


def with_setting(kind: Any, *default: Any) -> Subject:
    """Return the subject with a setting `bias` of this type."""
    body = {"__annotations__": {"bias": kind}, "__module__": __name__, **dict(zip(["bias"], default, strict=False))}
    return dataclasses.replace(SOUND, settings=type("Own", (Settings,), body))


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        *((int, 3), (float, 1), (str, "a"), (bool, True), (float | None, None), (Any, 3)),
        *(
            (tuple[int, ...], (1, 2)),
            (tuple[int, ...], ()),
            (tuple[int, str], (1, "a")),
            (tuple[int, ...] | None, None),
        ),
        *(
            (Literal["a", 3], "a"),
            (Literal["a"] | None, None),
            (Annotated[int, Field(ge=1)], 1),
            (dict[str, int], {"a": 1}),
        ),
        (Annotated[list[int], BeforeValidator(list)] | None, None),
        (Path | str, "a"),
    ],
    ids=str,
)
def test_a_setting_that_a_file_can_write_is_sound(kind: Any, default: Any) -> None:
    assert complaint(with_setting(kind, default)) is None


@pytest.mark.parametrize(
    ("kind", "default", "got"),
    [
        (list[int], [1], "`list[int]`; write `tuple[int, ...]`"),
        (list[int], [], "`list[int]`; write `tuple[int, ...]`"),
        (list[str] | None, None, "`list[str]`; write `tuple[str, ...]`"),
        (set[int] | None, None, "`set[int]`; write `tuple[int, ...]`"),
        (frozenset[int], frozenset({1}), "frozenset({1}); write `tuple[int, ...]`"),
        (Kind, Kind.RELU, "<Kind.RELU: 'relu'>; write `Literal['relu', 'tanh']`"),
        (Kind | None, None, "`Kind`; write `Literal['relu', 'tanh']`"),
        (Word, Word.RELU, "`Word`; write `Literal['relu']`"),
        (Path, Path("a"), "PosixPath('a'); write `str`"),
        (Path | None, None, "`Path`; write `str`"),
        (datetime.date, datetime.date(2024, 1, 1), "datetime.date(2024, 1, 1); write `str`"),
        (datetime.date | None, None, "`date`; write `str`"),
        (tuple[tuple[int, int], ...], ((1, 2),), "`tuple[tuple[int, int], ...]`"),
    ],
    ids=str,
)
def test_a_setting_that_no_file_can_write_is_refused_with_what_to_write(kind: Any, default: Any, got: str) -> None:
    assert complaint(with_setting(kind, default)) == f"setting `bias`: expected {HOLDS}, got {got}"


def test_what_a_schema_itself_allows_is_sound() -> None:
    class Lax(Settings):
        model_config = ConfigDict(strict=False)

        widths: list[int] = [1]  # noqa: RUF012

    assert complaint(dataclasses.replace(SOUND, settings=Lax)) is None


def test_groups_are_looked_into() -> None:
    class Inner(Group):
        width: int
        kinds: list[int] | None = None

    class Outer(Settings):
        inner: Inner = Inner(width=3)

    found = complaint(dataclasses.replace(SOUND, settings=Outer))
    assert found == f"setting `inner.kinds`: expected {HOLDS}, got `list[int]`; write `tuple[int, ...]`"


def test_defaults_that_are_refused_are_told() -> None:
    class Own(Settings):
        low: int = 3
        high: int = 2

        @model_validator(mode="after")
        def _ordered(self) -> Own:
            if self.low > self.high:
                raise ValueError("`low` is above `high`")
            return self

    assert (
        complaint(with_setting(float)) == "setting `bias`: expected a default, since an arm sets only what it changes"
    )
    small = complaint(with_setting(Annotated[int, Field(ge=1)], 0))
    assert small == "the defaults of `Own`: `bias`: input should be greater than or equal to 1, got 0"
    assert (
        complaint(dataclasses.replace(SOUND, settings=Own))
        == "the defaults of `Own` are refused: `low` is above `high`"
    )


def test_a_name_that_settings_need_themselves_is_refused() -> None:
    body = {"__annotations__": {"flat": bool}, "__module__": __name__, "flat": True}
    with pytest.warns(UserWarning, match="shadows"):
        schema = type("Own", (Settings,), body)
    assert (
        complaint(dataclasses.replace(SOUND, settings=schema))
        == "setting `flat`: no setting can have this name; rename it"
    )


# The other parts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"settings": BaseModel},
            "`settings`: expected a subclass of `stn_bench.settings.Settings`, got class `BaseModel`",
        ),
        ({"settings": throw, "train": Coin}, "got function `throw`; `settings` and `train` are swapped"),
        (
            {"train": print},
            "`train`: expected a function, `def train(settings, seed, run)`; got builtin_function_or_method `print`",
        ),
        ({"train": functools.partial(throw, 1)}, "called as `train(settings, 1, run)`; got `partial(seed: "),
        ({"train": Coin}, "got class `Coin`"),
        ({"train": None}, "`train`: expected a function, `def train(settings, seed, run)`; got NoneType"),
        ({"train": throw_later}, "got a coroutine or a generator; use `return`"),
        ({"train": throw_by_name}, "called as `train(settings, 1, run)`; got `throw_by_name(*, seed: "),
        ({"metrics": ("test.error",)}, "`metrics`: expected a tuple of Metric, such as `(Metric("),
        ({"metrics": METRICS[0]}, "`metrics`: expected a tuple of Metric, such as `(Metric("),
        ({"metrics": METRICS * 2}, "`metrics`: expected each once, got 'test.error' more than once"),
        ({"curve": "train.error"}, "`curve`: expected a Metric, such as"),
        ({"tune_on": "test.error"}, "`tune_on`: expected a tuple of texts, such as `(\"a\",)`; got 'test.error'"),
        (
            {"tune_on": ("test.error",)},
            "`tune_on`: expected no metric of test examples, which tuning never sees; got ",
        ),
        ({"tune_on": ("test.eror",)}, "`tune_on`: no metric `test.eror` in `metrics`. Did you mean `test.error`?"),
        ({"budget": ("q",)}, "`budget`: no setting `q`."),
        ({"epochs": "nope"}, "`epochs`: no setting `nope`."),
        ({"timeout": "bais"}, "`timeout`: no setting `bais`. Did you mean `bias`?"),
        ({"parts": {"q": "the gate"}}, "`parts`: no setting `q`."),
        ({"small": {"q": 1}}, "`small`: no setting `q`."),
        ({"small": [1]}, "`small`: expected a dict by settings' names, got [1]"),
        ({"epochs": None}, "`epochs`: expected a text, got None"),
        ({"prepare": "data"}, "`prepare`: expected a function, got 'data'"),
        ({"read_examples": None}, "`read_examples`: expected a function, got None"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_a_part_that_is_none_is_told_in_a_line(part: dict[str, Any], message: str) -> None:
    found = complaint(dataclasses.replace(SOUND, **part))
    assert found is not None
    assert message in found
    assert "\n" not in found


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


@pytest.mark.parametrize(
    "train",
    [
        *(throw, wrapped(throw), functools.lru_cache(throw), Thrower(), Thrower().throw),
        *(lambda settings, seed, run: {}, functools.partial(throw), functools.partial(lambda k, *rest: {}, 64)),
    ],
    ids=("plain", "wrapped", "cached", "object", "bound", "lambda", "partial", "partial of a lambda"),
)
def test_whatever_can_be_called_so_is_sound(train: Any) -> None:
    assert complaint(dataclasses.replace(SOUND, train=train, metrics=list(METRICS))) is None


@pytest.mark.parametrize("name", shipped_subjects())
def test_shipped_subjects_are_sound(name: str) -> None:
    assert complaint(find_subject(name)) is None
