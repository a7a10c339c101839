"""Errors of usage, such as an unknown option: typer draws boxes, and all our other errors are a line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from stn_bench.system.errors import ConfigError
from stn_bench.system.text import shorten

ClickError: Any = typer.BadParameter.__mro__[2]
"""What typer raises for a command line that cannot be used: it has no public name there."""


class Commands(TyperGroup):
    """All commands. One that is not called as it wants to be ends with an error of ours."""

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        """Run the command of the command line.

        Raises:
            ConfigError: if there is none, or it does not take what it is given.
            SystemExit: else, with its exit code.
        """
        try:
            code = super().main(*arguments, **{**options, "prog_name": "stn-bench", "standalone_mode": False})
        except ClickError as error:
            raise ConfigError(_told(error, sys.argv[1:])) from None
        sys.exit(code or 0)  # a command returns nothing, and its end a code


def _told(error: Any, arguments: Sequence[str]) -> str:
    """Return in a line what is wrong with a command line."""
    message = error.format_message().rstrip(".")
    if not message:  # no command was named, and the help is shown already
        sys.exit(error.exit_code)
    where = error.ctx.command_path if error.ctx else "stn-bench"
    stop = "" if message.endswith("?") else ";"
    return f"{message}{_received(error, arguments)}{stop} `{where} --help` shows how"


def _received(error: Any, arguments: Sequence[str]) -> str:
    """Return what was given for the option that is wrong, as far as the command line tells."""
    for option in getattr(getattr(error, "param", None), "opts", ()):
        for place, word in enumerate(arguments):
            name, sign, value = word.partition("=")
            if name == option and (sign or place + 1 < len(arguments)):
                return f", got `{shorten(value if sign else arguments[place + 1])}`"
    return ""


__all__ = ["Commands"]
