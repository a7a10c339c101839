"""Any function as a subject: its settings are its keyword defaults; metric and direction come from the study.

    def train(*, seed: int, depth: int = 4, shrinkage: float = 0.1) -> dict[str, float]:
        return {"test.error": ...}

A study names it by its import path, `subject = "wine:train"`, with a `metric` and a `direction`. Every parameter but
`seed` and `run` is a setting and needs a default: int, float, str or bool, a list of these, or `X | None`; its type is
that of its annotation, else that of its default. A parameter `run` gets the harness's `stn_bench.subject.Run`:
`run.log(epoch, metrics)` for learning curves, progress and Ctrl-C, `run.folder` for checkpoints, `run.files` for what
is kept. The function returns numbers by name, or an `Outcome`. Attributes of the function set more:

    train.data = "wine.csv"          # files or folders that it reads: their bytes are in the run key
    train.prepare = prepare          # folder -> None: makes data there, once; then `run.data` is that folder
    train.fingerprint = fingerprint  # folder -> text that is another where the data are others
    train.metrics = [Metric("test.error", "what it is", "minimize")]  # all that it returns: the page then says so
    train.curve = "validation.error" # the metric of `run.log` that is drawn
    train.timeout = 600.0            # seconds after which a run is given up
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import operator
import os
import shutil
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from stn_bench.settings import Settings, explain
from stn_bench.subject import Lent, Metric, Outcome, Run, Subject, find_subject
from stn_bench.system.errors import ConfigError, DataError, StnBenchError
from stn_bench.system.own_code import digest_of, own_lines, reason
from stn_bench.system.sounds import sounds
from stn_bench.system.text import did_you_mean, quote, shorten
from stn_bench.system.unread import unread

Function = Callable[..., Any]

LENT = ("seed", "run")
"""Parameters that are no settings."""

ATTRIBUTES = ("data", "prepare", "fingerprint", "metrics", "curve", "timeout")
"""Attributes of a function that are read."""

SCALARS = (bool, int, float, str)
EXPECTED = "int, float, str or bool, a list of these, or an annotation such as `float | None`"


class FunctionSettings(Settings):
    """The settings of a function: one for each of its parameters but `seed` and `run`."""

    model_config = ConfigDict(
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )

    _subject: ClassVar[str] = ""

    def __reduce__(self) -> tuple[Callable[..., Settings], tuple[str, dict[str, Any]]]:
        """Return how to make the same settings in another process, which finds their class by the function."""
        return _settings_from, (self._subject, self.model_dump())


def _settings_from(subject: str, values: Mapping[str, Any]) -> Settings:
    return find_subject(subject).settings(**values)


@functools.cache
def subject_of(address: str, function: Function) -> Subject:
    """Return the subject that a function is.

    Args:
        address: its import path, `module:attribute`.
        function: the function.

    Raises:
        ConfigError: if it takes no `seed`, or a parameter can be no setting.
    """
    where = f"`subject` {shorten(address)}"
    schema = settings_of(address, function)
    has_data = any(hasattr(function, name) for name in ("data", "prepare", "fingerprint"))
    data = _Data(address, function) if has_data else None
    curve = getattr(function, "curve", "")
    for name in vars(function).keys() - set(ATTRIBUTES):
        if meant := did_you_mean(name, ATTRIBUTES):
            raise ConfigError(f"{where}: no attribute `{shorten(name)}` is read.{meant}")
    for name in ("prepare", "fingerprint"):
        if not callable(given := getattr(function, name, len)):
            raise ConfigError(f"{where}: `{name}`: expected a function of a folder, got {quote(given)}")
    if not isinstance(curve, str):
        raise ConfigError(f"{where}: `curve`: expected the name of a metric, got {quote(curve)}")
    epochs = schema.model_fields.get("epochs")
    metrics = _declared(function, where)
    idle = {name: f"`{function.__name__}` never reads it" for name in unread(function) if name not in LENT}
    return Subject(
        name=address,
        settings=schema,
        train=_training(address, function, data),
        metrics=metrics,
        curve=_curve(curve, metrics),
        epochs="epochs" if epochs and epochs.annotation is int else "",
        timeout="timeout" if hasattr(function, "timeout") else "",
        prepare=data.prepare if data and hasattr(function, "prepare") else None,
        fingerprint=data.fingerprint if data else None,
        originals=data.originals if data else None,
        idle=(lambda settings: idle) if idle else None,
    )


def _declared(function: Function, where: str) -> tuple[Metric, ...]:
    """Return the metrics that a function says it returns; () where it says nothing."""
    given = getattr(function, "metrics", ())
    if not isinstance(given, list | tuple) or not all(isinstance(one, Metric) for one in given):
        raise ConfigError(f"{where}: `metrics`: expected a list of stn_bench.subject.Metric, got {quote(given)}")
    repeated = sorted(name for name, count in Counter(one.name for one in given).items() if count > 1)
    if repeated:
        raise ConfigError(f"{where}: `metrics`: expected each once, got `{shorten(repeated[0])}` more than once")
    return tuple(given)


def _curve(name: str, metrics: Sequence[Metric]) -> Metric | None:
    """Return the metric that is drawn, as the function declares it where it does."""
    declared = next((one for one in metrics if one.name == name), None)
    return declared or (Metric(name, "value of an epoch", sounds(name) or "maximize") if name else None)


def _training(address: str, function: Function, data: _Data | None) -> Callable[[Any, int, Run], Any]:
    """Return the function as the harness calls it; its code is followed from the name that the address says."""
    parameters = inspect.signature(function).parameters
    names = [name for name in parameters if name not in LENT]
    listed = {name for name in names if _is_list(parameters[name], function)}

    def train(settings: Any, seed: int, run: Run) -> Outcome | Mapping[str, float]:
        given = {name: getattr(settings, name) for name in names}
        given |= {name: list(given[name]) for name in listed if given[name] is not None}
        if "run" in parameters:
            given["run"] = _WithData(run, data.folder(run.data)) if data else run
        returned: Outcome | Mapping[str, float] = function(seed=seed, **given)
        return returned

    train.__module__, _, train.__qualname__ = address.partition(":")
    return train


class _WithData:
    """The run that the harness lends, with the function's own folder of data."""

    def __init__(self, run: Run, data: Path) -> None:
        self._run, self.data = run, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


# Settings ------------------------------------------------------------------------------------------------------------


def settings_of(address: str, function: Function) -> type[FunctionSettings]:
    """Return the settings of a function: a class with a field for each parameter but `seed` and `run`.

    Raises:
        ConfigError: if it takes no `seed`, or a parameter can be no setting.
    """
    where = f"`subject` {shorten(address)}"
    inner = inspect.unwrap(function)
    for is_other, noun in ((inspect.iscoroutinefunction, "coroutine"), (inspect.isgeneratorfunction, "generator")):
        if is_other(inner) or inspect.isasyncgenfunction(inner):
            raise ConfigError(f"{where}: expected a function that returns its metrics, got a {noun}; use `return`")
    parameters = inspect.signature(function).parameters
    if "seed" not in parameters or parameters["seed"].kind is inspect.Parameter.POSITIONAL_ONLY:
        raise ConfigError(f"{where}: {_seedless(function, parameters)}")
    fields = {
        one.name: _field(one, function, f"{where}: parameter `{shorten(one.name)}`")
        for one in parameters.values()
        if one.name not in LENT
    }
    if hasattr(function, "timeout"):
        if "timeout" in fields:
            raise ConfigError(f"{where}: `timeout` is a parameter and an attribute; rename the parameter")
        fields["timeout"] = (float | None, function.timeout)
    name = address.partition(":")[2]
    make: Any = create_model  # its fields are known while running alone
    schema: type[FunctionSettings] = make(
        name, __base__=FunctionSettings, __doc__=f"Settings of `{address}`.", **fields
    )
    schema._subject = address
    schema.unkeyed = ("timeout",) if hasattr(function, "timeout") else ()
    try:
        schema()
    except ValidationError as error:
        raise ConfigError(f"{where}: parameter {explain(error)}") from None
    return schema


def _seedless(function: Function, parameters: Mapping[str, inspect.Parameter]) -> str:
    """Return what is wrong with a function whose parameter `seed` cannot be given by name."""
    signature = shorten(f"{function.__name__}{inspect.signature(function)}".partition(" ->")[0])
    hint = ""
    if "seed" in parameters:
        hint = "; what stands before `/` cannot be given by name"
    elif [one.kind for one in parameters.values()][-2:] == [
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    ]:
        hint = "; if a decorator made it, give it `@functools.wraps(function)`"
    return f"expected a parameter `seed`, as in `train(*, seed, depth=4)`; got `{signature}`{hint}"


def _field(parameter: inspect.Parameter, function: Function, where: str) -> tuple[Any, Any]:
    """Return the type and the default of a setting."""
    name, default = parameter.name, parameter.default
    if parameter.kind not in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
        raise ConfigError(f"{where}: is given no value by name; a setting is one parameter with a default")
    if default is inspect.Parameter.empty:
        raise ConfigError(f"{where}: expected a default, since it is a setting; only `seed` and `run` need none")
    if name.startswith("_") or hasattr(FunctionSettings, name):
        raise ConfigError(f"{where}: no setting can have this name; rename it")
    if parameter.annotation is inspect.Parameter.empty:
        held = _held_value(default)
    else:
        held = _held(_annotation(parameter, function, where))
    if held is None:
        raise ConfigError(f"{where}: expected {EXPECTED}, which TOML can hold; got `{shorten(str(parameter))}`")
    return held, tuple(default) if isinstance(default, list) else default


def _annotation(parameter: inspect.Parameter, function: Function, where: str) -> Any:
    """Return a parameter's annotation, evaluated where it is text."""
    home = inspect.unwrap(function).__globals__
    only = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return get_type_hints(only, home, include_extras=True)["it"]
    except Exception as error:  # the text may be anything
        raise ConfigError(f"{where}: its annotation cannot be read ({reason(error)})") from None


def _held_value(value: Any) -> Any:
    """Return the type of a setting with a default and no annotation; None where there is none."""
    if type(value) in SCALARS:
        return type(value)
    if not isinstance(value, list | tuple) or not value or any(type(one) not in SCALARS for one in value):
        return None
    return types.GenericAlias(tuple, (functools.reduce(operator.or_, map(type, value)), ...))


def _held(kind: Any, *, inside: bool = False) -> Any:
    """Return an annotation as a setting has it, with tuples for lists; None where TOML can hold no such value."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in SCALARS or (kind is types.NoneType and not inside):
        return kind
    if origin is Literal:
        return kind if all(type(one) in (*SCALARS, types.NoneType) for one in arguments) else None
    if origin is Annotated:
        held = _held(arguments[0], inside=inside)
        return held and Annotated[held, *arguments[1:]]
    if origin in (Union, types.UnionType):
        choices = [_held(one, inside=inside) for one in arguments]
        return None if None in choices else functools.reduce(operator.or_, choices)
    if origin not in (list, tuple) or inside:
        return None
    elements = [one if one is Ellipsis else _held(one, inside=True) for one in arguments]
    if None in elements:
        return None
    return types.GenericAlias(tuple, (elements[0], ...) if origin is list else tuple(elements))


def _is_list(parameter: inspect.Parameter, function: Function) -> bool:
    """Return whether a function expects a list where its settings have a tuple."""
    if parameter.annotation is inspect.Parameter.empty:
        return isinstance(parameter.default, list)
    waiting = [_annotation(parameter, function, "")]
    while waiting:
        kind = waiting.pop()
        if get_origin(kind) is list:
            return True
        waiting += get_args(kind) if get_origin(kind) in (Union, types.UnionType, Annotated) else ()
    return False


# Data ----------------------------------------------------------------------------------------------------------------


class _Data:
    """The data of a function: made by its `prepare`, or files of its `data`, and known by what is in them."""

    def __init__(self, address: str, function: Function) -> None:
        self._where, self._function = f"`subject` {shorten(address)}", function
        self._name = address.replace(":", ".")
        if hasattr(function, "prepare"):
            self._name += f"-{digest_of(function.prepare)}"

    def folder(self, data: Path) -> Path:
        """Return the folder of the function's own among all data; a changed `prepare` has another."""
        return data / self._name if hasattr(self._function, "prepare") else data

    def prepare(self, settings: Sequence[Any], lent: Lent) -> None:
        """Make the data, unless they are there: in a folder beside, so that they are there as a whole or not."""
        folder = self.folder(lent.data)
        if folder.exists():
            return
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with self._telling("prepare"):
            self._function.prepare(partial)  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):  # another process was quicker
            partial.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)

    def fingerprint(self, settings: Any, data: Path) -> str | None:
        """Return the SHA-256 of the data, or None while they are not made."""
        folder, function = self.folder(data), self._function
        if hasattr(function, "prepare") and not folder.exists():
            return None
        parts = [digest for path in self._files() for digest in _digests(path)]
        if hasattr(function, "fingerprint"):
            with self._telling("fingerprint"):
                parts.append(str(function.fingerprint(folder)))
        elif hasattr(function, "prepare"):
            parts += _digests(folder)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def originals(self, settings: Any, data: Path) -> Iterator[Path]:
        """Yield the files and folders that `data` names."""
        yield from self._files()

    def _files(self) -> Iterator[Path]:
        """Yield the files and folders that `data` names, relative ones beside the function's module."""
        named = getattr(self._function, "data", ())
        home = Path(inspect.unwrap(self._function).__code__.co_filename).parent
        for one in (named,) if isinstance(named, str | Path) else tuple(named):
            if not isinstance(one, str | Path):
                raise ConfigError(f"{self._where}: `data`: expected a file or a folder, got {quote(one)}")
            if not (home / one).exists():
                raise DataError(f"{self._where}: `data`: no file or folder {home / one}")
            yield home / one

    @contextlib.contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Turn an error of the user's function into one line and its source lines; print its output to stderr."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except StnBenchError:
            raise
        except Exception as error:
            raise DataError(f"{self._where}: its `{name}` failed ({reason(error)}){own_lines(error)}") from error


def _digests(path: Path) -> list[str]:
    """Return the SHA-256 of a file, or of each file in a folder behind its name there."""
    if not path.is_dir():
        return [_digest(path, path.stat().st_mtime_ns, path.stat().st_size)]
    files = sorted(one for one in path.rglob("*") if one.is_file())
    return [f"{one.relative_to(path).as_posix()} {digest}" for one in files for digest in _digests(one)]


@functools.cache
def _digest(path: Path, changed: int, size: int) -> str:
    """Return the SHA-256 of a file, which is read again only if its size or the time of its last change differs."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
