"""How messages write an option: as whoever asks does, on the command line or in a Python call."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from stn_bench.system.text import shorten


@dataclass(frozen=True)
class Spelling:
    """How options are written.

    Args:
        is_python: whether they are arguments of a Python call.
    """

    is_python: bool = False

    def name(self, option: str) -> str:
        """Return the option alone: `--max-failed`, or `max_failed` in backticks."""
        return f"`{option}`" if self.is_python else f"--{option.replace('_', '-')}"

    def value(self, option: str, value: str) -> str:
        """Return the option with a value: `--metric COLUMN`, or `metric="COLUMN"`."""
        return f"{option}={json.dumps(value, ensure_ascii=False)}" if self.is_python else f"--{option} {value}"

    def of_metrics(self, option: str, values: Mapping[str, str]) -> str:
        """Return the option with a value for each metric, as in `--direction acc=maximize`."""
        if self.is_python:
            told = {shorten(name): value for name, value in values.items()}
            return f"{option}={json.dumps(told, ensure_ascii=False)}"
        return " ".join(f"--{option} {shlex.quote(f'{shorten(name)}={value}')}" for name, value in values.items())


COMMAND = Spelling()
PYTHON = Spelling(is_python=True)

__all__ = ["COMMAND", "PYTHON", "Spelling"]
