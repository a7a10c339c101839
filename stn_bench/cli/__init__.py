"""The command line. Nothing heavy is imported until a command needs it, so that `--help` answers at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from stn_bench.system.errors import StnBenchError


def main() -> None:
    """Run the command line; an error that a person can mend is one or two lines and exit code 2, Ctrl-C is 130."""
    from stn_bench.cli.app import app
    from stn_bench.system.errors import Interrupted, StnBenchError

    signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _keep_interrupt
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no process of ours imports what lies in the current folder
    try:
        app()
    except Interrupted as stop:
        print(f"stn-bench: {stop}", file=sys.stderr)
        sys.exit(130)
    except StnBenchError as error:
        _fail(error)
    except Exception as error:
        from stn_bench.system.machine import disk_full

        full = disk_full(error)  # whatever was written
        if full is None:
            sys.excepthook = _tell_fault  # here and not above: typer sets its own
            raise
        _fail(full)


def _fail(error: StnBenchError) -> NoReturn:
    from stn_bench.system.text import printable

    print(f"stn-bench: {printable(str(error))}", file=sys.stderr)
    sys.exit(2)


def _tell_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a fault of ours, in which other libraries may quote the address of a store."""
    from stn_bench.system.text import without_secrets

    print(without_secrets("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    from stn_bench.system.errors import Interrupted

    raise Interrupted("stopped; what was finished is kept")


def _keep_interrupt(dropped: sys.UnraisableHookArgs) -> None:
    """Interrupt again where Python had to drop the exception, as in a weak reference's callback: imports have such."""
    from stn_bench.system.errors import Interrupted

    if isinstance(dropped.exc_value, Interrupted):
        main_thread = threading.get_ident()
        threading.Timer(0.05, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(dropped)
