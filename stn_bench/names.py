"""Names and words from files that others wrote: what may become part of a path, and what may reach a terminal."""

from __future__ import annotations

import re
import unicodedata

NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
LONGEST = 100
"""Characters in a name: names are put together to names of files (255 bytes at most) and of MLflow's runs (250)."""

DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
"""Names that Windows keeps for devices, whatever ending follows them."""

EXPECTED = f"a name of small letters, digits and _, {LONGEST} at most, that is no device of Windows"

REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that show other characters in another order than they stand in."""


def is_name(text: str) -> bool:
    """Return whether a study, an ablation or an arm may have this name: it is a folder's and a file's name too."""
    return NAME.fullmatch(text) is not None and is_portable(text)


def is_portable(text: str) -> bool:
    """Return whether a name of harmless characters is neither too long for a file nor a device of Windows."""
    return len(text) <= LONGEST and text.lower() not in DEVICES


def hidden_character(text: str) -> str:
    """Return the first character that steers a terminal or reorders what is read, or "" where there is none."""
    return next((character for character in text if _is_hidden(character)), "")


def printable(text: str) -> str:
    r"""Return text as a terminal may show it: what steers it, or cannot be seen, is written as \\x1b or \\u202e."""
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def _is_hidden(character: str) -> bool:
    return character in REORDERING or (unicodedata.category(character) == "Cc" and character not in "\n\t")
