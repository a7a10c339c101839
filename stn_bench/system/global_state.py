"""What all code of a process shares, and a training may set: Python's own settings and numpy's, aspect by aspect.

An aspect can be read, and written back. Which aspects there are of other libraries, `library_state` says.
"""

from __future__ import annotations

import contextlib
import csv
import decimal
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random.mtrand import get_bit_generator, set_bit_generator

SEEDS = 2**32
"""Seeds that numpy's own generator takes: from 0 to one less."""


@dataclass(frozen=True)
class Aspect:
    """An aspect of what all code of a process shares.

    Args:
        name: what it is, in a few words.
        read: returns its value, a copy that nobody changes.
        write: sets it to such a value; raises whatever it does where that cannot be done any more.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], None]


@dataclass(frozen=True)
class Library:
    """A library with settings of its own.

    Args:
        name: its top-level module.
        aspects: its settings; they are read and written only while it is loaded.
        seed: puts its generators of random numbers into a state that a seed determines.
        importing: entered while it is imported.
        defaults: name of an aspect -> its value in a process that sets nothing.
        facts: what a run's record tells of it, by name.
        unheeded: what somebody set of it outside of code, which no training heeds: "name=value", with its file.
    """

    name: str
    aspects: tuple[Aspect, ...]
    seed: Callable[[int], None] = lambda seed: None
    importing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    defaults: Mapping[str, Any] = field(default_factory=dict)
    facts: Callable[[], Mapping[str, str]] = dict
    unheeded: Callable[[], Sequence[str]] = tuple


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values of an aspect are the same; such as cannot be compared are, if they are one object."""
    try:
        return bool(one == other)
    except Exception:  # whatever a library's own type raises
        return one is other


@contextlib.contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of the environment for a while; None takes one away."""
    before = {name: os.environ.get(name) for name in changes}
    _set_variables(changes)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


# Random numbers ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def keeping_generators() -> Iterator[None]:
    """Put the generators of random numbers of Python and numpy back."""
    state, generator = random.getstate(), get_bit_generator()
    drawn = generator.state  # `get_state` knows one kind of generator alone, and somebody may put another in its place
    try:
        yield
    finally:
        random.setstate(state)
        set_bit_generator(generator)
        generator.state = drawn


def seed_generators(seed: int) -> None:
    """Put the generators of Python and numpy into a state that a seed determines."""
    random.seed(seed)
    if not isinstance(get_bit_generator(), np.random.MT19937):
        set_bit_generator(np.random.MT19937())
    np.random.seed(seed % SEEDS)  # noqa: NPY002  a training may draw from it


# The aspects ---------------------------------------------------------------------------------------------------------


def _write_environment(before: Mapping[str, str]) -> None:
    _set_variables({**dict.fromkeys(os.environ.keys() - before.keys()), **before})
    if hasattr(time, "tzset"):
        time.tzset()


def _read_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  a text, as chdir takes it
    except FileNotFoundError:  # somebody removed it
        return ""


def _write_folder(folder: str) -> None:
    if folder:
        os.chdir(folder)


def _read_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _write_umask(mask: int) -> None:
    os.umask(mask)


def _read_warnings() -> tuple[Any, ...]:
    return tuple(warnings.filters), warnings.showwarning, warnings.formatwarning


def _write_warnings(before: tuple[Any, ...]) -> None:
    filters, warnings.showwarning, warnings.formatwarning = before
    warnings.resetwarnings()  # what modules remember of the filters is void from here on
    warnings.filters[:] = filters  # type: ignore[index]


def _loggers() -> Iterator[logging.Logger]:
    yield logging.getLogger()
    yield from (one for one in list(logging.root.manager.loggerDict.values()) if isinstance(one, logging.Logger))


class _Loggers(dict[Any, Any]):
    """How loggers are, by name, and behind None what is disabled of all. One that is not here is as a new one is.

    Whatever module a training is the first to import may make a logger: that alone changes nothing.
    """

    NEW = (logging.NOTSET, True, False, (), ())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, dict):
            return NotImplemented
        return all(self.get(name, self.NEW) == other.get(name, self.NEW) for name in {*self, *other})

    __hash__ = None


def _read_logging() -> _Loggers:
    found = _Loggers(
        {
            one.name: (one.level, one.propagate, one.disabled, tuple(one.handlers), tuple(one.filters))
            for one in _loggers()
        }
    )
    found[None] = logging.root.manager.disable
    return found


def _write_logging(before: Mapping[Any, Any]) -> None:
    logging.disable(before[None])
    for one in _loggers():
        if one.name in before:  # loggers that a library made while it was imported are its own affair
            level, one.propagate, one.disabled, handlers, filters = before[one.name]
            one.setLevel(level)
            one.handlers[:], one.filters[:] = handlers, filters


def _read_signals() -> dict[Any, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {one: handler for one in signal.valid_signals() if (handler := signal.getsignal(one)) is not None}


def _write_signals(before: Mapping[Any, Any]) -> None:
    for one, handler in before.items():
        if signal.getsignal(one) != handler:
            signal.signal(one, handler)


def _read_alarm() -> bool:
    return hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _write_alarm(is_set: bool) -> None:
    if not is_set:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _read_affinity() -> Any:
    return os.sched_getaffinity(0) if sys.platform == "linux" else None


def _write_affinity(cores: Any) -> None:
    if sys.platform == "linux":
        os.sched_setaffinity(0, cores)


def _read_interpreter() -> dict[str, Any]:
    return {
        "path": list(sys.path),
        "argv": list(sys.argv),
        "stdin": sys.stdin,
        "stdout": sys.stdout,
        "stderr": sys.stderr,
        "excepthook": sys.excepthook,
        "displayhook": sys.displayhook,
        "unraisablehook": sys.unraisablehook,
        "breakpointhook": sys.breakpointhook,
        "dont_write_bytecode": sys.dont_write_bytecode,
    }


def _write_interpreter(before: Mapping[str, Any]) -> None:
    for name, value in before.items():
        if isinstance(value, list):
            getattr(sys, name)[:] = value
        else:
            setattr(sys, name, value)


def _read_hooks() -> tuple[Any, ...]:
    return sys.gettrace(), sys.getprofile(), threading.excepthook


def _write_hooks(before: tuple[Any, ...]) -> None:
    trace, profile, threading.excepthook = before
    sys.settrace(trace)
    sys.setprofile(profile)


def _read_limits() -> dict[int, tuple[int, int]]:
    try:
        import resource
    except ImportError:  # on Windows
        return {}
    kinds = (getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
    return {kind: resource.getrlimit(kind) for kind in kinds}


def _write_limits(before: Mapping[int, tuple[int, int]]) -> None:
    try:
        import resource
    except ImportError:  # on Windows
        return
    for kind, limits in before.items():
        if resource.getrlimit(kind) != limits:
            resource.setrlimit(kind, limits)  # raises where the training gave up what nobody can get again


def _read_collector() -> tuple[bool, tuple[int, ...], int]:
    return gc.isenabled(), gc.get_threshold(), gc.get_debug()


def _write_collector(before: tuple[bool, tuple[int, ...], int]) -> None:
    is_enabled, thresholds, flags = before
    gc.set_debug(flags)
    (gc.enable if is_enabled else gc.disable)()
    gc.set_threshold(*thresholds)


def _read_decimal() -> dict[str, Any]:
    context = decimal.getcontext()
    names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
    return {name: getattr(context, name) for name in names} | {"traps": dict(context.traps)}


def _write_decimal(before: Mapping[str, Any]) -> None:
    decimal.setcontext(
        decimal.Context(**{**before, "traps": [one for one, is_on in before["traps"].items() if is_on]})
    )


def _write_start_method(method: str | None) -> None:
    multiprocessing.set_start_method(method, force=True)  # None: as if nobody had set one


def _write_temporary(folder: str | None) -> None:
    tempfile.tempdir = folder


def _write_printing(options: Mapping[str, Any]) -> None:
    np.set_printoptions(**options)


def _write_errors(before: tuple[Any, Any]) -> None:
    np.seterr(**before[0])
    np.seterrcall(before[1])


ASPECTS = (
    Aspect("environment", lambda: dict(os.environ), _write_environment),
    Aspect("current folder", _read_folder, _write_folder),
    Aspect("umask", _read_umask, _write_umask),
    Aspect("warnings", _read_warnings, _write_warnings),
    Aspect("logging", _read_logging, _write_logging),
    Aspect(
        "locale", lambda: locale.setlocale(locale.LC_ALL), lambda found: void(locale.setlocale(locale.LC_ALL, found))
    ),
    Aspect("signal handlers", _read_signals, _write_signals),
    Aspect("alarm", _read_alarm, _write_alarm),
    Aspect("processor affinity", _read_affinity, _write_affinity),
    Aspect("sys", _read_interpreter, _write_interpreter),
    Aspect("sys's hooks", _read_hooks, _write_hooks),
    Aspect("limits of the process", _read_limits, _write_limits),
    Aspect("digits of a number as text", sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    Aspect("switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Aspect("stack of threads", threading.stack_size, lambda size: void(threading.stack_size(size))),
    Aspect("csv's longest field", csv.field_size_limit, lambda size: void(csv.field_size_limit(size))),
    Aspect("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Aspect("garbage collector", _read_collector, _write_collector),
    Aspect("decimal context", _read_decimal, _write_decimal),
    Aspect("start method", lambda: multiprocessing.get_start_method(allow_none=True), _write_start_method),
    Aspect("socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
    Aspect("temporary folder", lambda: tempfile.tempdir, _write_temporary),
    Aspect("numpy's errors", lambda: (np.geterr(), np.geterrcall()), _write_errors),
    Aspect("numpy's printing", np.get_printoptions, _write_printing),
    Aspect("numpy's buffer", np.getbufsize, lambda size: void(np.setbufsize(size))),
)
"""Python's own aspects and numpy's, in the order in which they are put back."""


def void(returned: Any) -> None:
    """Return nothing: what a setter returned, the earlier value, is of no use."""
