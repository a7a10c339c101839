"""Passwords on the command line: they leave it at once, since all users of a machine see the commands of all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from stn_bench.system.text import without_secrets
from stn_bench.system.workspace import STORAGE_VARIABLE, TRACKING_VARIABLE

VARIABLES = {"--tracking-uri": TRACKING_VARIABLE, "--storage": STORAGE_VARIABLE}
"""Option that takes the address of a store -> the variable that takes it too, which its owner alone can read."""


def hide_secrets() -> None:
    """Start this program anew, in the same process, with the addresses that hold secrets in its environment."""
    given = sys.argv[1:]
    kept, moved = split_off(given)
    began_so = given and sys.orig_argv[-len(given) :] == given  # and not called by a program of Python's
    if moved and began_so and os.name == "posix":
        command = [sys.executable, *sys.orig_argv[1 : -len(given)], *kept]
        os.execve(sys.executable, command, {**os.environ, **moved})


def split_off(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return arguments without the addresses that hold secrets, and these by the variables that take them."""
    kept, moved, waiting = list[str](), dict[str, str](), list(arguments)
    while waiting:
        one = waiting.pop(0)
        option, equals, value = one.partition("=")
        if option not in VARIABLES or (not equals and not waiting):
            kept.append(one)
            continue
        words = [one] if equals else [one, waiting.pop(0)]
        address = value if equals else words[1]
        if without_secrets(address) == address:
            kept += words
        else:
            moved[VARIABLES[option]] = address
    return kept, moved
