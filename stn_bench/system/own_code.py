"""Code of the user's: finding and importing it, and telling what it raised by the user's own lines."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import inspect
import sys
import sysconfig
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from stn_bench.system.errors import ConfigError, Interrupted, StnBenchError
from stn_bench.system.machine import started
from stn_bench.system.signals import is_stop
from stn_bench.system.text import did_you_mean, first_line, shorten, text_of

MAIN = "__main__"
SHOWN_FRAMES = 5
"""Frames of an error that are shown, the innermost."""

SLOW_SECONDS = 5.0
"""Seconds that an import may take before a person is told of it."""

NOT_OWN = (
    Path(__file__).parent.parent,
    *map(Path, map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))),
)
"""Folders of ours, of Python, and of what is installed."""

_importing: list[str] = []
"""Modules of the user's that are being imported, for a subject."""

_roots: list[str] = []
"""Folders that were added to Python's path, to find code in them."""

_stamps: dict[str, tuple[int, int]] = {}
"""Name of a module of the user's -> when its file was changed, and its size, when the module was imported."""


def find_under(root: Path) -> None:
    """Let code under a root be found, behind all that is installed, and that of another root no more.

    In a process that goes on for long, such as a notebook's, the next root may have a module of the same name.
    """
    for other in [one for one in _roots if one != str(root)]:
        _roots.remove(other)
        if other in sys.path:
            sys.path.remove(other)
        _forget([name for name, file in _own_modules().items() if file.is_relative_to(other)])
    if str(root) not in sys.path:
        sys.path.append(str(root))
        _roots.append(str(root))


def check_found(module: str, root: Path) -> None:
    """Check that a module that lies under a root was imported from there, and not from elsewhere under its name.

    Raises:
        ConfigError: if it was.
    """
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    lies_there = (root / f"{top}.py").exists() or (root / top / "__init__.py").exists()
    if file and lies_there and not Path(file).resolve().is_relative_to(root):
        raise ConfigError(f"`{top}` is imported from {file}, and not from {root}; give one of them another name")


def forget_changed() -> None:
    """Forget the modules of the user's whose files have changed since they were imported, with those beside them.

    They are imported again as they are now, which is also what a worker imports.
    """
    modules = _own_modules()
    began = 1e9 * started()
    changed = [name for name, file in modules.items() if stamp_of(file) != _stamps.get(name, _before(file, began))]
    homes = {modules[name].parents[name.count(".") + (modules[name].name == "__init__.py")] for name in changed}
    _forget([name for name, file in modules.items() if any(file.is_relative_to(home) for home in homes)])


def remember() -> None:
    """Take note of the modules of the user's that are imported, and of their files."""
    _stamps.update({name: stamp_of(file) for name, file in _own_modules().items() if name not in _stamps})


def stamps() -> dict[str, tuple[int, int]]:
    """Return the modules of the user's that are imported -> when each file was changed, in ns, and its size."""
    return {name: stamp_of(file) for name, file in sorted(_own_modules().items())}


def check_not_importing() -> None:
    """Check that the caller is no module of the user's that is just being imported, for a subject in it.

    Raises:
        ConfigError: if it is.
    """
    if _importing:
        raise ConfigError(
            f"`{_importing[-1]}` runs a study while it is imported for its subject; "
            f'put the call under `if __name__ == "__main__":`, or into a file of its own'
        )


def _own_modules() -> dict[str, Path]:
    """Return the modules of the user's that are imported, each with its file."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if name != MAIN}
    return {name: Path(file) for name, file in files.items() if isinstance(file, str) and is_own(file)}


def _forget(names: list[str]) -> None:
    for name in names:
        sys.modules.pop(name, None)
        _stamps.pop(name, None)


def stamp_of(file: Path) -> tuple[int, int]:
    """Return what changes with a file: the time of its last change in ns, and its size; (0, 0) if it is gone."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _before(file: Path, began: float) -> tuple[int, int]:
    """Return the stamp of a file that nobody took note of: today's, if it is older than this process."""
    stamp = stamp_of(file)
    return stamp if stamp[0] < began else (0, -1)


def import_attribute(address: str, where: str) -> Any:
    """Return what an import path `module:attribute` names. What the module prints goes to standard error.

    Args:
        address: the import path.
        where: what names it, for messages.

    Raises:
        ConfigError: if it cannot be imported, or has no such attribute.
        Interrupted: after Ctrl-C; KeyboardInterrupt where that is what Ctrl-C raises.
    """
    module, _, attribute = address.partition(":")
    if not module or not attribute:
        raise ConfigError(f"{where}: expected an import path, `module:attribute`")
    _importing.append(module)
    try:
        # Results go to standard output, such as those of --json.
        with contextlib.redirect_stdout(sys.stderr), _telling_of_a_slow_import(module):
            imported = importlib.import_module(module)
            found = getattr(imported, attribute, None)
    except StnBenchError as error:  # as the makers of subjects raise it
        raise ConfigError(f"{where}: {error}{own_lines(error)}") from error
    except BaseException as error:  # a module of the user's may raise anything, or end the process
        if is_stop(error):
            raise
        _check_roots(module)
        hint = f"; name the module, `{module.removesuffix('.py')}`" if module.endswith(".py") else ""
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            hint = hint or did_you_mean(module, _modules_here())
        raise ConfigError(f"{where}: cannot be imported ({reason(error)}){hint}{own_lines(error)}") from error
    finally:
        _importing.pop()
    if not hasattr(imported, attribute):
        _check_roots(module)
        known = [name for name in vars(imported) if not name.startswith("_")]
        hint = did_you_mean(attribute, known) or f" The module is {getattr(imported, '__file__', None)}"
        raise ConfigError(f"{where}: `{module}` has no `{shorten(attribute)}`.{hint}")
    return found


def _check_roots(module: str) -> None:
    """Check that a module that is not as expected is no other one than a root's, which it would be taken for."""
    for root in _roots:
        check_found(module, Path(root))


@contextlib.contextmanager
def _telling_of_a_slow_import(module: str) -> Iterator[None]:
    """Say on standard error what is happening, where an import takes long: nobody expects a training there."""

    def say() -> None:
        sys.stderr.write(
            f"stn-bench: still importing `{shorten(module)}`, as every command and worker does. Large libraries take "
            "a while; a training outside of its functions would run each time: put that behind "
            '`if __name__ == "__main__":`\n'
        )

    timer = threading.Timer(SLOW_SECONDS, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def address_of(thing: Any, where: str) -> str:
    """Return the import path `module:attribute` of a function, or of another object that a module holds.

    Args:
        thing: what is to be imported elsewhere.
        where: what names it, for messages.

    Raises:
        ConfigError: if no module holds it, so that a worker process could not import it.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if isinstance(thing, FunctionType | type):
        if module != MAIN and hasattr(sys.modules.get(str(module)), name):
            return f"{module}:{name}"
    elif found := _holder(thing):
        return found
    label = shorten(name or type(thing).__name__)
    if module == MAIN or _holds(MAIN, thing):
        held = "is defined in the notebook or script itself, where no worker process can import it"
    else:
        held = "is held by no module under a name of its own, so that no worker process can import it"
    raise ConfigError(f"{where}: `{label}` {held}; move it into a module and name that, as in `waves:train`")


def _modules_here() -> set[str]:
    """Return the modules of the user's that can be found, by the names of their files."""
    return {file.stem for folder in sys.path if is_own(folder) for file in Path(folder).glob("*.py")}


def _holder(thing: Any) -> str | None:
    """Return the import path of an object: in a module that its parts come from, else in any that holds it."""
    near = [getattr(part, "__module__", None) for part in getattr(thing, "__dict__", {}).values()]
    modules = [one for one in dict.fromkeys([*filter(None, near), *sys.modules]) if one not in (MAIN, "__mp_main__")]
    return next(filter(None, (_holds(one, thing) for one in modules)), None)


def _holds(module: str, thing: Any) -> str | None:
    """Return the import path of an object in a module, if the module holds it."""
    names = vars(sys.modules[module]) if isinstance(sys.modules.get(module), ModuleType) else {}
    return next((f"{module}:{name}" for name, value in list(names.items()) if value is thing), None)


def digest_of(function: Callable[..., Any]) -> str:
    """Return 8 hexadecimal digits that change with a function's code, but not with its comments."""
    try:
        code = ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):  # it was not written down as a function of its own
        code = ""
    return hashlib.sha256(code.encode()).hexdigest()[:8]


def told(error: BaseException) -> str:
    """Return an error as a record keeps it: its type and its whole text, or its type alone if it has none."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text.strip() else type(error).__name__


def as_exception(error: BaseException) -> Exception | Interrupted | KeyboardInterrupt:
    """Return what the user's code raised as an error like any other, unless it asks to stop.

    What is no `Exception`, such as asyncio's CancelledError and the panic of a library in Rust, passes by all that
    would tell of it, and ends the process.
    """
    if isinstance(error, Exception | Interrupted) or (isinstance(error, KeyboardInterrupt) and is_stop(error)):
        return error
    if isinstance(error, SystemExit):  # as `argparse` raises it
        return RuntimeError(f"training called sys.exit({error.code!r})")
    return RuntimeError(f"training raised {told(error)}")


def reason(error: BaseException) -> str:
    """Return an error as a message may quote it: its type and the first line of its text."""
    return shorten(first_line(told(error)))


def root_cause(error: BaseException) -> BaseException:
    """Return the error that an error was raised from, and that one from, to the first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def origin(error: BaseException) -> str:
    """Return where an error came from: the same text for errors of one kind that the same line raised."""
    error = root_cause(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_own(frame.filename)] or frames
    return " ".join([type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in own[-1:])])


def own_lines(error: BaseException) -> str:
    """Return where in the user's own code an error came from, a line for each frame, or ""."""
    frames = [(one.filename, one.lineno, one.line) for one in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:  # its frames end where the module would begin
        frames.append((error.filename, error.lineno, (error.text or "").strip()))
    shown = [(file, line, text) for file, line, text in frames if is_own(file)][-SHOWN_FRAMES:]
    return "".join(f"\n  {file}:{line}: {shorten(text or '')}" for file, line, text in shown)


@functools.cache
def is_own(file: str) -> bool:
    """Return whether a file is neither Python's, nor an installed package's, nor ours."""
    return not file.startswith("<") and not any(Path(file).is_relative_to(folder) for folder in NOT_OWN)
