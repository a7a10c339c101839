"""A person's own subject, checked as it is found: what a training or a report would stumble on is told in a line.

What a setting can hold is tried, and not read off its type: it must take its default as a file would write it.
"""

from __future__ import annotations

import datetime
import enum
import inspect
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from stn_bench.settings import Settings, canonical, explain, override
from stn_bench.study.metrics import TEST
from stn_bench.subject import Metric, Subject, find_subject, is_shipped
from stn_bench.system.errors import ConfigError
from stn_bench.system.own_code import own_lines, reason
from stn_bench.system.text import did_you_mean, quote, shorten

HOLDS = "int, float, str or bool, `tuple[int, ...]` and the like, a `Literal`, or `X | None`"
"""What a setting may be, in words."""

LISTS = (list, set, frozenset)
SAMPLES: Mapping[type, Any] = {
    **dict.fromkeys(LISTS, ()),
    **dict.fromkeys((PurePath, bytes), "a"),
    **dict.fromkeys((datetime.date, datetime.time, datetime.timedelta), "2024-01-01"),
}
"""Type that no file can write -> what a file would have in its place, where the default is unset and tells nothing."""

HOOKS = (
    *("prepare", "fingerprint", "describe", "originals", "split", "idle", "cost", "match", "caveats", "given"),
    *("steps", "extensions", "vet", "probe", "figures", "check"),
)
TEXTS, LISTED = ("example", "epochs", "timeout", "start", "commands"), ("tune_on", "budget", "travels", "code")


def sound_subject(name: str) -> Subject:
    """Return a subject by its name or import path, as `find_subject` does, if it keeps its part of the contract.

    Raises:
        ConfigError: if there is none, or a person's own does not.
    """
    found = find_subject(name)
    for complaint in () if is_shipped(name) else complaints(found):
        raise ConfigError(f"`subject` {shorten(name)}: {complaint}")
    return found


def complaints(subject: Subject) -> Iterator[str]:
    """Yield what is wrong with a subject; each part is looked at only if those before it are right."""
    yield from _of_settings(subject)
    yield from _of_train(subject.train)
    yield from _of_metrics(subject)
    yield from _of_kinds(subject)
    yield from _of_names(subject)


# Settings ------------------------------------------------------------------------------------------------------------


def _of_settings(subject: Subject) -> Iterator[str]:
    schema: Any = subject.settings
    if not isinstance(schema, type) or not issubclass(schema, Settings):
        swapped = "; `settings` and `train` are swapped" if isinstance(subject.train, type) else ""
        yield f"`settings`: expected a subclass of `stn_bench.settings.Settings`, got {_kind(schema)}{swapped}"
        return
    for name, field in schema.model_fields.items():
        if name in vars(Settings):
            yield f"setting `{shorten(name)}`: no setting can have this name; rename it"
        if field.is_required():
            yield f"setting `{shorten(name)}`: expected a default, since an arm sets only what it changes"
    try:
        yield from _of_defaults(schema)
    except ValidationError as error:
        yield f"the defaults of `{schema.__name__}` are refused: {explain(error)}"
    except ConfigError as error:
        yield str(error)
    except Exception as error:  # its own methods may raise anything
        yield f"the defaults of `{schema.__name__}` cannot be read ({reason(error)}){own_lines(error)}"


def _of_defaults(schema: type[Settings]) -> Iterator[str]:
    """Yield the settings that no file can set, and whose values no run key and no record can hold."""
    settings = override(schema(), {}, where=f"the defaults of `{schema.__name__}`")  # pydantic itself checks none
    for path, default in settings.resolved().flat().items():
        if not _is_plain(default):
            yield f"setting `{shorten(path)}`: expected {HOLDS}, got {quote(default)}{_hint([type(default)])}"
    kinds = dict(_kinds(schema))
    for path, default in settings.flat().items():
        declared = kinds.get(path, [])
        if not _takes(settings, path, _sample(declared) if default is None else default):
            shown = " | ".join(_written(kind) for kind in declared) or _kind(default)
            yield f"setting `{shorten(path)}`: expected {HOLDS}, got `{shorten(shown)}`{_hint(declared)}"


def _is_plain(value: Any) -> bool:
    try:
        canonical(value)
    except (TypeError, ValueError):
        return False
    return True


def _takes(settings: Settings, path: str, value: Any) -> bool:
    """Return whether a setting takes a value as a file has it, and keeps one that a record can hold."""
    try:
        held = override(settings, {path: json.loads(canonical(value))}).flat()
    except ConfigError:
        return False
    return _is_plain(held)


def _kinds(schema: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Yield the path of each setting, with the types that it may have besides None."""
    for name, field in schema.model_fields.items():
        kinds = [kind for kind in _alternatives(field.annotation) if kind not in (None, NoneType)]
        yield prefix + name, kinds
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _kinds(kind, f"{prefix}{name}.")


def _alternatives(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _alternatives(one)
    else:
        yield kind


def _sample(kinds: list[Any]) -> Any:
    """Return what a file would have for a setting that is unset by default; None where any of its types may do."""
    found = [_written_as(kind) for kind in kinds]
    return None if None in found else next(iter(found), None)


def _written_as(kind: Any) -> Any:
    plain = get_origin(kind) or kind
    if not isinstance(plain, type):
        return None
    if issubclass(plain, enum.Enum):
        return next((one.value for one in plain if _is_plain(one.value)), None)
    return next((sample for base, sample in SAMPLES.items() if issubclass(plain, base)), None)


def _hint(kinds: list[Any]) -> str:
    """Return what to write in place of a type that no file can set."""
    for kind in kinds:
        plain = get_origin(kind) or kind
        if not isinstance(plain, type):
            continue
        if issubclass(plain, enum.Enum):
            return f"; write `Literal[{', '.join(repr(one.value) for one in plain)}]`"
        if issubclass(plain, LISTS):
            return f"; write `tuple[{', '.join(map(_written, get_args(kind)[:1])) or 'int'}, ...]`"
        if issubclass(plain, PurePath | datetime.date | datetime.time):
            return "; write `str`"
    return ""


def _written(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


# Training ------------------------------------------------------------------------------------------------------------


def _of_train(train: Any) -> Iterator[str]:
    where = "`train`: expected a function, `def train(settings, seed, run)`"
    if not callable(train) or isinstance(train, type | BuiltinFunctionType):
        yield f"{where}; got {_kind(train)}"
        return
    if inspect.iscoroutinefunction(train) or inspect.isgeneratorfunction(train) or inspect.isasyncgenfunction(train):
        yield f"{where} that returns its metrics, got a coroutine or a generator; use `return`"
    try:
        signature = inspect.signature(train)
    except (TypeError, ValueError):  # compiled code may tell none
        return
    try:
        signature.bind(None, 0, None)
    except TypeError:
        name = getattr(train, "__name__", type(train).__name__)
        yield f"{where}, called as `train(settings, 1, run)`; got `{shorten(f'{name}{signature}')}`"


# Metrics -------------------------------------------------------------------------------------------------------------


def _of_metrics(subject: Subject) -> Iterator[str]:
    given: Any = subject.metrics
    example = 'such as `(Metric("test.error", "what it is", "minimize"),)`'
    if not isinstance(given, list | tuple):
        yield f"`metrics`: expected a tuple of Metric, {example}; got {_kind(given)}"
    for one in given:
        if not isinstance(one, Metric):
            yield f"`metrics`: expected a tuple of Metric, {example}; got {quote(one)} in it"
    names = [one.name for one in given]
    for name, count in Counter(names).items():
        if count > 1:
            yield f"`metrics`: expected each once, got {quote(name)} more than once"
    if not isinstance(subject.curve, Metric | None):
        yield f'`curve`: expected a Metric, such as `Metric("train.error")`, or None; got {quote(subject.curve)}'


# All else ------------------------------------------------------------------------------------------------------------


def _of_kinds(subject: Subject) -> Iterator[str]:
    """Yield the fields that are of another kind than they should be."""
    for name in TEXTS:
        if not isinstance(value := getattr(subject, name), str):
            yield f"`{name}`: expected a text, got {quote(value)}"
    for name in (*LISTED, *([] if callable(subject.libraries) else ["libraries"])):
        value = getattr(subject, name)
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            yield f'`{name}`: expected a tuple of texts, such as `("a",)`; got {quote(value)}'
    for name in ("small", "parts"):
        if not isinstance(value := getattr(subject, name), Mapping):
            yield f"`{name}`: expected a dict by settings' names, got {quote(value)}"
    for name in (*HOOKS, "read_examples"):
        hook = getattr(subject, name)
        if not (callable(hook) or (hook is None and name in HOOKS)):
            yield f"`{name}`: expected a function, got {quote(hook)}"


def _of_names(subject: Subject) -> Iterator[str]:
    """Yield the fields that name a setting or a metric which is not there."""
    metrics = subject.known_metrics
    for name in subject.tune_on:
        if name not in metrics:
            yield f"`tune_on`: no metric `{shorten(name)}` in `metrics`.{did_you_mean(name, metrics)}"
        elif name.startswith(TEST):
            yield f"`tune_on`: expected no metric of test examples, which tuning never sees; got `{shorten(name)}`"
    named = {
        **{"epochs": [subject.epochs], "timeout": [subject.timeout]},
        **{"budget": subject.budget, "small": list(subject.small), "parts": list(subject.parts)},
    }
    for field, paths in named.items():
        for path in filter(None, paths):
            if path not in subject.paths:
                yield f"`{field}`: no setting `{shorten(str(path))}`.{did_you_mean(str(path), subject.paths)}"


def _kind(value: Any) -> str:
    """Return what a value is, with its name where it has one."""
    name = getattr(value, "__name__", "")
    noun = "class" if isinstance(value, type) else "function" if isinstance(value, FunctionType) else ""
    return f"{noun or type(value).__name__} `{shorten(name)}`" if name else type(value).__name__


__all__ = ["complaints", "sound_subject"]
