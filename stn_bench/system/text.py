"""Names and words from files that others wrote: what may become part of a path, and what may reach a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
LONGEST = 100
"""Characters in a name: names are put together to names of files (255 bytes at most) and of MLflow's runs (250)."""

DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
"""Names that Windows keeps for devices, whatever ending follows them."""

EXPECTED = f"a name of small letters, digits and _, {LONGEST} at most, that is no device of Windows"

SHOWN = 100
"""Characters of a name or a value from a file that a message quotes; the rest is an ellipsis."""

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


def hidden_in(tree: Any) -> str:
    """Return the first such character in any key or text of a tree of dicts and lists, or ""."""
    return next(filter(None, map(hidden_character, texts(tree))), "")


def texts(tree: Any) -> Iterator[str]:
    """Yield every key and every text of a tree of dicts and lists."""
    if isinstance(tree, str):
        yield tree
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield key
        yield from texts(value)
    for value in tree if isinstance(tree, list) else ():
        yield from texts(value)


def printable(text: str) -> str:
    r"""Return text as a terminal may show it: what steers it, or cannot be seen, is written as \\x1b or \\u202e."""
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def shorten(text: str) -> str:
    """Return text as a message may quote it: in one line, of `SHOWN` characters at most and an ellipsis."""
    shown = text[:SHOWN] + "…" * (len(text) > SHOWN)
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown)


def quote(value: object) -> str:
    """Return a value from a file as a message may quote it, a list as a list."""
    return shorten(repr(list(value) if isinstance(value, tuple) else value))


def _is_hidden(character: str) -> bool:
    return character in REORDERING or (unicodedata.category(character) == "Cc" and character not in "\n\t")
