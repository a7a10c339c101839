"""The command line. Nothing heavy is imported until a command needs it, so that `--help` answers at once."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from stn_bench.system.errors import StnBenchError


SELDOM = (100_000, 20, 50)
"""When garbage is looked for: a command makes many objects that stay, and looking at all took a sixth of its time."""


def main() -> None:
    """Run the command line.

    An error that a person can mend is one or two lines and exit code 2. Ctrl-C is 130, SIGTERM 143, a hang-up 129.
    """
    try:
        gc.set_threshold(*SELDOM)
        from stn_bench.cli.output import unbroken_output
        from stn_bench.system.text import spell_out

        spell_out(sys.stdout, sys.stderr)
        with unbroken_output():
            _run()
    except KeyboardInterrupt:  # before `raise_interrupts`
        print("stn-bench: stopped", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    from stn_bench.cli.secrecy import hide_secrets
    from stn_bench.system.errors import Interrupted
    from stn_bench.system.files import ensure_home
    from stn_bench.system.signals import raise_interrupts

    ensure_home()
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no process of ours imports what lies in the current folder
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's log, where a user's module or data import it
    if "MPLBACKEND" in os.environ:  # a notebook's, which need not be installed here; a command draws files alone
        os.environ["MPLBACKEND"] = "agg"
    try:
        hide_secrets()
        raise_interrupts()
        from stn_bench.cli.app import app
        from stn_bench.isolation import watch_imports

        watch_imports()
        app()
    except (Interrupted, Exception) as error:
        _answer(error)


def _answer(error: BaseException) -> NoReturn:
    from stn_bench.system.errors import StnBenchError
    from stn_bench.system.machine import disk_full
    from stn_bench.system.signals import arrived

    if stop := arrived(error):
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"stn-bench: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)
    if isinstance(error, StnBenchError):
        _fail(error)
    if full := disk_full(error):  # whatever was written
        _fail(full)
    sys.excepthook = _tell_fault  # here and not above: typer sets its own
    raise error


def _fail(error: StnBenchError) -> NoReturn:
    from stn_bench.system.text import printable

    print(f"stn-bench: {printable(str(error))}", file=sys.stderr)
    sys.exit(2)


def _tell_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a fault of ours, in which other libraries may quote the address of a store."""
    from stn_bench.system.text import without_secrets

    print(without_secrets("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
