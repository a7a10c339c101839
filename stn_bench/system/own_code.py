"""Code of the user's: importing it, and telling what it raised by the user's own lines."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import inspect
import sys
import sysconfig
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stn_bench.system.errors import ConfigError, Interrupted
from stn_bench.system.text import did_you_mean, shorten

SHOWN_FRAMES = 5
"""Frames of an error that are shown, the innermost."""

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
        with contextlib.redirect_stdout(sys.stderr):  # results go to standard output, such as those of --json
            imported = importlib.import_module(module)
            found = getattr(imported, attribute, None)
    except Interrupted:
        raise
    except (Exception, SystemExit) as error:  # a module of the user's may raise anything, or end the process
        hint = f"; name the module, `{module.removesuffix('.py')}`" if module.endswith(".py") else ""
        raise ConfigError(f"{where}: cannot be imported ({reason(error)}){hint}{own_lines(error)}") from error
    if not hasattr(imported, attribute):
        known = [name for name in vars(imported) if not name.startswith("_")]
        hint = did_you_mean(attribute, known) or f" The module is {getattr(imported, '__file__', None)}"
        raise ConfigError(f"{where}: `{module}` has no `{shorten(attribute)}`.{hint}")
    return found


def digest_of(function: Callable[..., Any]) -> str:
    """Return 8 hexadecimal digits that change with a function's code, but not with its comments."""
    try:
        code = ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):  # it was not written down as a function of its own
        code = ""
    return hashlib.sha256(code.encode()).hexdigest()[:8]


def reason(error: BaseException) -> str:
    """Return an error as a message may quote it: its type and its first line."""
    return shorten(f"{type(error).__name__}: {error}".splitlines()[0])


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
