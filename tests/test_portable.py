"""Every module can be imported where Python has nothing of POSIX, as on Windows."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stn_bench

PACKAGE = Path(stn_bench.__file__).parent
POSIX_ONLY = {"resource", "fcntl", "termios", "tty", "pty", "pwd", "grp", "syslog", "readline", "crypt", "spwd"}
MISSING = {
    "os": {"fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "killpg", "getpgid", "setsid", "getloadavg"}
    | {"sched_getaffinity", "sched_setaffinity", "register_at_fork", "statvfs", "uname", "nice", "wait", "chown"},
    "signal": {"SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGQUIT", "SIGPIPE", "SIGSTOP"}
    | {"pthread_kill", "pthread_sigmask", "SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK", "alarm", "setitimer", "pause"},
    "socket": {"AF_UNIX"},
}
"""Module -> what it lacks on Windows."""

HEAVY = {
    "tensorflow",
    "keras",
    "mlflow",
    "optuna",
    "cv2",
    "matplotlib",
    "pandas",
    "scipy",
    "PIL",
    "captcha",
    "jax",
} | {
    "sqlalchemy",
    "alembic",
    "pytest",
    "ray",
    "markdown_it",
}
"""Libraries that are not loaded here: modules of ours that need them are only read."""

WITHOUT = f"""
import builtins, importlib, os, pkgutil, signal, socket, sys
import filelock, numpy, psutil, pydantic, rich.live, rich.table, typer.rich_utils  # they look after themselves
for name in {sorted(POSIX_ONLY)}:
    sys.modules[name] = None
for module, names in {MISSING!r}.items():
    for name in names & set(vars(sys.modules[module])):
        delattr(sys.modules[module], name)


class Heavy(ImportError):
    pass


class Finder:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {sorted(HEAVY)}:
            raise Heavy(name)


sys.meta_path.insert(0, Finder)
import stn_bench
seen = 0
for module in pkgutil.walk_packages(stn_bench.__path__, "stn_bench.", onerror=lambda name: None):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
        seen += 1
    except Heavy:
        pass
assert seen > 80, seen
from stn_bench.system import machine
memory = machine.PeakMemory()
memory._resettable = False
assert 1 < memory.read() < 1e6
assert machine.cores() >= 1
from stn_bench.system.signals import children_ignore_interrupts, counting_interrupts, leave_to_parent
with children_ignore_interrupts(), counting_interrupts():
    pass
leave_to_parent()
sys.argv = ["stn-bench", "list"]
from stn_bench.cli import main
main()
"""


def test_modules_and_commands_need_nothing_of_posix(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "quickstart" in done.stdout


def test_nothing_of_posix_is_imported_but_where_its_absence_is_met() -> None:
    """The modules that load heavy libraries too, which are only read here."""
    unmet = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in imports(ast.parse(path.read_text(encoding="utf-8")), is_met=False)
    ]
    assert unmet == []


def imports(tree: ast.AST, *, is_met: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield what imports a module of POSIX outside of a `try` that meets its absence."""
    for node in ast.iter_child_nodes(tree):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        if isinstance(node, ast.Import | ast.ImportFrom) and POSIX_ONLY & {one.partition(".")[0] for one in names}:
            yield from [] if is_met else [node]
        meets = isinstance(node, ast.Try) and any("ImportError" in ast.dump(one) for one in node.handlers)
        yield from imports(node, is_met=is_met or meets)


HOMELESS = """
import os, pwd, sys

def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = unknown
for name in ("HOME", "USER", "LOGNAME"):
    os.environ.pop(name, None)
from stn_bench.cli import main
sys.argv = ["stn-bench", "doctor"]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no pwd (2026-11-27)")
def test_a_user_of_whom_the_machine_knows_nothing_needs_no_home(tmp_path: Path) -> None:
    """A container may run as any number; MLflow and Keras ask for a home as they are imported."""
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "tracking store" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_notebooks_way_to_draw_disturbs_no_command_that_it_starts(tmp_path: Path) -> None:
    """`!stn-bench report` inherits `MPLBACKEND`; where that names what is not installed, matplotlib does not load."""
    command = "import sys; from stn_bench.cli import main; sys.argv = ['stn-bench', '--version']; "
    done = subprocess.run(
        [sys.executable, "-c", command + "import atexit; atexit.register(lambda: __import__('matplotlib')); main()"],
        env={**os.environ, "MPLBACKEND": "not installed"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
