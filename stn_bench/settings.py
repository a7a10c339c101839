"""Settings: frozen values by dotted path, over any schema.

A dotted path such as `model.norm.position` is the TOML key, the Optuna parameter, the MLflow parameter and the column
title. The subject decides the names of its settings and their meaning.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from stn_bench.system.errors import ConfigError
from stn_bench.system.format import listed
from stn_bench.system.text import did_you_mean, quote, shorten


class Group(BaseModel):
    """A frozen group of settings that refuses what it does not know.

    The docstring of a field is its description in schemas (`study/schema`), which alone reads it: pydantic would read
    the source of every class as it is imported.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Settings(Group):
    """All settings of a subject, and the only home of their defaults.

    Fields may be groups, to any depth. Every field needs a default; its docstring is its description in schemas.
    """

    unkeyed: ClassVar[tuple[str, ...]] = ()
    """Paths of settings that change no result, such as how long to wait for one: they are in no run's identity."""
    later: ClassVar[Mapping[str, Any]] = {}
    """Path -> value of settings that came when there were runs already, and that change nothing at this value.

    At it they are in no run's identity, so that the runs from before they came still count.
    """

    def resolved(self) -> Self:
        """Return the same settings with the defaults that follow from others written out."""
        return self

    def unresolved(self) -> Self:
        """Return the same settings with the derived defaults unset again; the inverse of `resolved`."""
        return self

    def flat(self) -> dict[str, Any]:
        """Return every setting by its dotted path, in the order of the fields."""
        return dict(_flatten(self.model_dump()))

    def canonical(self) -> str:
        """Return the resolved settings as canonical JSON: what an identity is taken from."""
        return canonical(self.keyed(self.resolved().flat()))

    @classmethod
    def keyed(cls, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Return those settings by dotted path that are in a run's identity."""
        return {
            path: value for path, value in flat.items() if path not in cls.unkeyed and not cls._as_before(path, value)
        }

    @classmethod
    def _as_before(cls, path: str, value: Any) -> bool:
        return path in cls.later and canonical(cls.later[path]) == canonical(value)


AnySettings = TypeVar("AnySettings", bound=Settings)


def canonical(value: Any) -> str:
    """Return JSON that is the same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@functools.cache
def defaults(schema: type[Settings]) -> Mapping[str, Any]:
    """Return the default of every setting by its dotted path."""
    return schema().flat()


@dataclass(frozen=True)
class Kind:
    """The values that a setting may take, as far as its type tells.

    Args:
        may_be_unset: whether `None` is among them.
        may_be_text: whether some text is.
        is_text: whether all others are text.
        is_whole: whether those that are numbers are whole; None where the type names none.
    """

    may_be_unset: bool
    may_be_text: bool
    is_text: bool
    is_whole: bool | None


def kind_of(schema: type[Settings], path: str) -> Kind:
    """Return what values a setting may take, by its dotted path."""
    kinds: list[Any] = [schema]
    for name in path.split("."):
        fields = next((kind.model_fields for kind in kinds if isinstance(kind, type) and issubclass(kind, Group)), {})
        kinds = [*_alternatives(fields[name].annotation)] if name in fields else []
    others = [kind for kind in kinds if kind not in (None, NoneType)]
    texts, numbers = [_is_text(kind) for kind in others], list(filter(None, map(_number, others)))
    whole = all(number is int for number in numbers) if numbers else None
    return Kind(len(others) < len(kinds), any(texts), all(texts) and bool(others), whole)


def _alternatives(kind: Any) -> Iterator[Any]:
    """Yield the types that a union is of, or the values of a `Literal`'s; any other type is its own."""
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType, Literal):
        for one in get_args(kind):
            yield from _alternatives(one)
    else:
        yield kind


def _is_text(kind: Any) -> bool:
    return isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, str))


def _number(kind: Any) -> type | None:
    """Return which numbers a type, or a value of a `Literal`'s, is among: int or float, or None where it is none."""
    of = kind if isinstance(kind, type) else type(kind)
    return None if issubclass(of, bool) else next((one for one in (int, float) if issubclass(of, one)), None)


def check_path(schema: type[Settings], path: str, *, where: str = "override") -> str:
    """Return `path` if it names a setting.

    Raises:
        ConfigError: if it names none; the message suggests the nearest.
    """
    known = defaults(schema)
    if path not in known:
        within = [name for name in known if name.startswith(f"{path}.")]
        hint = (
            f" It is a group of {listed([f'`{name}`' for name in within])}: set one of them."
            if within
            else did_you_mean(path, known)
        )
        raise ConfigError(f"{where}: no setting `{shorten(path)}`.{hint}")
    return path


def override(settings: AnySettings, overrides: Mapping[str, Any], *, where: str = "override") -> AnySettings:
    """Return settings with each dotted path set to its value.

    Args:
        settings: the settings to start from; they are left as they are.
        overrides: dotted path -> value.
        where: the file or option that the overrides come from, for messages.

    Raises:
        ConfigError: for an unknown path, a wrong type, a value out of range, or settings that contradict each other.
    """
    schema, tree = type(settings), settings.model_dump()
    for path, value in overrides.items():
        *groups, name = check_path(schema, path, where=where).split(".")
        node = functools.reduce(lambda branch, group: branch[group], groups, tree)
        node[name] = tuple(value) if isinstance(value, list) else value
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Return pydantic's first complaint as "`path`: what was expected, got what was received"."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    message = first["msg"][0].lower() + first["msg"][1:]
    message = message.replace("a valid tuple", "a list")
    message = re.sub(r"a valid dictionary( or instance of \w+)?", "a table", message)
    received = "" if first["type"] == "missing" else f", got {quote(first['input'])}"
    return f"`{shorten(path)}`: {message}{received}" if path else message  # without one, it is about the whole text
