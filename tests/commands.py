"""The command line in this process: quicker than one of its own, and with what is patched here."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from stn_bench.cli import main
from stn_bench.cli.options import console
from stn_bench.system.signals import STOPS
from stn_bench.tracking.code import forget

Cli = Callable[..., tuple[int, str, str]]
"""A command line that returns exit code, output and error."""


def call(*arguments: object) -> int:
    """Run `stn-bench …` and return its exit code; what it sets in this process is afterwards as before.

    Modules of a root are forgotten: the next root may have another of the same name. Code is read anew, as by a
    process of its own.
    """
    known = set(sys.modules)
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["stn-bench", *map(str, arguments)])
        patch.setattr(sys, "path", list(sys.path))
        heard = {one: signal.getsignal(one) for one in STOPS}
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)  # pytest's own makes what is dropped an error
        path, thresholds = list(sys.path), gc.get_threshold()
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            gc.set_threshold(*thresholds)
            for one, handler in heard.items():
                signal.signal(one, handler)
            forget_modules({Path(folder) for folder in sys.path if folder not in path}, kept=known)
    return 0


def forget_modules(roots: Collection[Path], kept: Collection[str] = ()) -> None:
    """Forget the modules of these roots, and of tests' own temporary folders, but for those whose names are kept."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name not in kept and file and (set(roots) & {*Path(file).parents} or "pytest-of-" in file):
            del sys.modules[name]


def widen(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Let the command line print `columns` wide for one test.

    `console.width` can't be put back: setting it to what it was would fix it there for every later test.
    """
    monkeypatch.setattr(console, "_width", columns)
