"""The command line in this process: quicker than one of its own, and with what is patched here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stn_bench.cli import main
from stn_bench.cli.options import console


def call(*arguments: object) -> int:
    """Run `stn-bench …` and return its exit code; arguments, module path and modules are afterwards what they were.

    Modules of a root are forgotten: the next root may have another of the same name.
    """
    known = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["stn-bench", *map(str, arguments)])
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)  # pytest's own makes what is dropped an error
        path = list(sys.path)
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            added = {Path(folder) for folder in sys.path if folder not in path}
            for name in set(sys.modules) - known:
                file = getattr(sys.modules[name], "__file__", None)
                if file and added & {*Path(file).parents}:
                    del sys.modules[name]
    return 0


def widen(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Let the command line print `columns` wide for one test.

    `console.width` can't be put back: setting it to what it was would fix it there for every later test.
    """
    monkeypatch.setattr(console, "_width", columns)
