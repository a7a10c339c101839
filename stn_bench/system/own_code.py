"""Code of the user's: importing it, and telling what it raised by the user's own lines."""

from __future__ import annotations

import contextlib
import importlib
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stn_bench.system.errors import ConfigError, Interrupted, StnBenchError
from stn_bench.system.text import did_you_mean, shorten

SHOWN_FRAMES = 5
"""Frames of an error that are shown, the innermost."""

SLOW_SECONDS = 5.0
"""Seconds that an import may take before a person is told of it."""

NOT_OWN = (
    Path(__file__).parent.parent,
    *map(Path, map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))),
)
"""Folders of ours, of Python, and of what is installed."""


def import_attribute(address: str, where: str) -> Any:
    """Return what an import path `module:attribute` names. What the module prints goes to standard error.

    Args:
        address: the import path.
        where: what names it, for messages.

    Raises:
        ConfigError: if it cannot be imported, or has no such attribute.
        Interrupted: after Ctrl-C.
    """
    module, _, attribute = address.partition(":")
    if not module or not attribute:
        raise ConfigError(f"{where}: expected an import path, `module:attribute`")
    try:
        # Results go to standard output, such as those of --json.
        with contextlib.redirect_stdout(sys.stderr), _telling_of_a_slow_import(module):
            imported = importlib.import_module(module)
            found = getattr(imported, attribute, None)
    except Interrupted:
        raise
    except StnBenchError as error:  # as the makers of subjects raise it
        raise ConfigError(f"{where}: {error}{own_lines(error)}") from error
    except (Exception, SystemExit) as error:  # a module of the user's may raise anything, or end the process
        hint = f"; name the module, `{module.removesuffix('.py')}`" if module.endswith(".py") else ""
        raise ConfigError(f"{where}: cannot be imported ({reason(error)}){hint}{own_lines(error)}") from error
    if not hasattr(imported, attribute):
        known = [name for name in vars(imported) if not name.startswith("_")]
        hint = did_you_mean(attribute, known) or f" The module is {getattr(imported, '__file__', None)}"
        raise ConfigError(f"{where}: `{module}` has no `{shorten(attribute)}`.{hint}")
    return found


@contextlib.contextmanager
def _telling_of_a_slow_import(module: str) -> Iterator[None]:
    """Say on standard error what is happening, where an import takes long: nobody expects a training there."""

    def say() -> None:
        sys.stderr.write(
            f"stn-bench: still importing `{shorten(module)}`; what it does outside of its functions it does in every "
            f'command and worker: put a training behind `if __name__ == "__main__":`\n'
        )

    timer = threading.Timer(SLOW_SECONDS, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def reason(error: BaseException) -> str:
    """Return an error as a message may quote it: its type and its first line."""
    return shorten(f"{type(error).__name__}: {error}".splitlines()[0])


def root_cause(error: BaseException) -> BaseException:
    """Return the error that an error was raised from, and that one from, to the first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def origin(error: BaseException) -> str:
    """Return where an error came from: the same text for errors of one kind that the same line raised."""
    error = root_cause(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)] or frames
    return " ".join([type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in own[-1:])])


def own_lines(error: BaseException) -> str:
    """Return where in the user's own code an error came from, a line for each frame, or ""."""
    frames = [(one.filename, one.lineno, one.line) for one in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:  # its frames end where the module would begin
        frames.append((error.filename, error.lineno, (error.text or "").strip()))
    shown = [(file, line, text) for file, line, text in frames if _is_own(file)][-SHOWN_FRAMES:]
    return "".join(f"\n  {file}:{line}: {shorten(text or '')}" for file, line, text in shown)


def _is_own(file: str) -> bool:
    """Return whether a file is neither Python's, nor an installed package's, nor ours."""
    return not file.startswith("<") and not any(Path(file).is_relative_to(folder) for folder in NOT_OWN)
