"""The errors a person may see, as one tree.

    StnBenchError
    ├── ConfigError       a setting that is unknown, of the wrong type or out of range
    ├── CatalogueError    an ablation or study file that cannot be used
    ├── PlanError         a plan that is not the one that was frozen, or a frozen plan that cannot be read
    ├── DataError         pictures that cannot be made, read or trusted
    ├── ModelFileError    a model file that is missing or not one of ours
    ├── StoreError        a tracking or search store that cannot be reached or read
    ├── ClaimLostError    a cell that another worker has by now
    ├── ArchiveError      an archive of runs that cannot be written, or not be trusted
    ├── ReportError       a report that cannot be written, or is stale
    ├── MachineError      something the machine lacks: a package, a system library, disk space
    └── Interrupted       Ctrl-C: exit code 130, and a later run goes on

Every message says where, what was expected, what was received and what to do, in one or two lines.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, TextIO

WORD = re.compile(r"\S+")
USER = re.compile(r"://[^:/]*:")  # what stands before a password; some servers' users hold an @
TOKEN = re.compile(r"(https?://)[^:/@\s]+@", re.IGNORECASE)
KEYS = "password|passwd|passphrase|pwd|secret|token|credential|odbc_connect|(?:api|access|account|private)_?key"
SECRET = re.compile(rf"((?:{KEYS})[\w.-]{{0,40}}(?:=|%3D))(?:'[^']*'|\"[^\"]*\")?[^&\s]*", re.IGNORECASE)


class StnBenchError(Exception):
    """Base of every error that the command line turns into a line of text and exit code 2; it tells no password."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


class ConfigError(StnBenchError):
    """A setting is unknown, of the wrong type or out of range."""


class CatalogueError(StnBenchError):
    """An ablation or study file cannot be used."""


class PlanError(StnBenchError):
    """A plan is not the one that was frozen, or the file of the frozen plan cannot be used."""


class DataError(StnBenchError):
    """Pictures cannot be made, read or trusted."""


class ModelFileError(StnBenchError):
    """A model file is missing or was not written by stn-bench."""


class StoreError(StnBenchError):
    """A tracking or search store cannot be reached or read."""


class ClaimLostError(StnBenchError):
    """Another worker has the cell by now: what this one trained of it is not to be kept."""

    def __init__(self, message: str = "this worker was silent for too long: its cell went to another") -> None:
        super().__init__(message)


class ArchiveError(StnBenchError):
    """An archive of runs cannot be written, or is not one that can be trusted."""


class ReportError(StnBenchError):
    """A report cannot be written, or no longer agrees with the store."""


class MachineError(StnBenchError):
    """The machine lacks something: a package, a system library, disk space."""


class Interrupted(StnBenchError):
    """Ctrl-C: what was finished is kept, and a later run goes on from there."""


def without_secrets(text: str) -> str:
    """Return text with *** for the passwords and tokens of all addresses, before the host or behind the `?`."""
    return SECRET.sub(r"\1***", TOKEN.sub(r"\1***@", WORD.sub(_without_password, text)))


def _without_password(word: re.Match[str]) -> str:
    """Hide what stands between `://user:` and the last @: a password may hold any character but a space."""
    before, _, host = word[0].rpartition("@")
    user = USER.search(before)
    return f"{before[: user.end()]}***@{host}" if user else word[0]


class Discreet:
    """A text stream that passes on what is written to it without the secrets of addresses: for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text without its secrets; a traceback comes line by line, and no address is longer than a line."""
        return self._stream.write(without_secrets(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean `x`?" for the nearest known name, or "" where none is near."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean `{nearest[0]}`?" if nearest else ""
