"""The command line. Nothing heavy is imported until a command needs it, so that `--help` answers at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line; an error that a person can mend is one or two lines and exit code 2, Ctrl-C is 130."""
    from stn_bench.cli.app import app
    from stn_bench.errors import Interrupted, StnBenchError
    from stn_bench.names import printable

    signal.signal(signal.SIGINT, _interrupt)
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no process of ours imports what lies in the current folder
    try:
        app()
    except Interrupted as stop:
        print(f"stn-bench: {stop}", file=sys.stderr)
        sys.exit(130)
    except StnBenchError as error:
        print(f"stn-bench: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    from stn_bench.errors import Interrupted

    raise Interrupted("stopped; what was finished is kept")
