"""The command line. Nothing heavy is imported until a command needs it, so that `--help` answers at once."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an error that a person can mend is one or two lines and exit code 2."""
    from stn_bench.cli.app import app
    from stn_bench.errors import Interrupted, StnBenchError

    try:
        app()
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(130)
    except StnBenchError as error:
        print(f"stn-bench: {error}", file=sys.stderr)
        sys.exit(2)
