"""Text that others wrote: which names are valid, which characters may reach a terminal, which parts are secret."""

from __future__ import annotations

import codecs
import difflib
import html
import io
import itertools
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
LONGEST = 100
"""Characters in a name: names are put together to names of files (255 bytes at most) and of MLflow's runs (250)."""

DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
"""Names that Windows keeps for devices, whatever ending follows them."""

EXPECTED = f"a name of small letters, digits and _, {LONGEST} at most, that is no device of Windows"

METRIC_NAME = re.compile(r"[\w.:/ -]{1,250}")
"""What MLflow takes for the name of a metric, which it makes a path of, too."""

NO_METRIC_NAME = re.compile(r"[^\w.:/ -]")
SHOWN = 100
"""Characters of a name or a value from a file that a message quotes; the rest is an ellipsis."""

REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that show other characters in another order than they stand in."""

MARKED = re.compile(r"[\\`*_{}\[\]()#+.!~=|:-]")
"""Characters that mean something in Markdown, but for those of HTML."""

BACKTICKS = re.compile("`+")

SPELLING = "stn_bench.spelling"
SPELT = {
    "→": "->",
    "−": "-",
    "–": "-",
    "—": "-",
    "±": "+-",
    "×": "x",
    "÷": "/",
    "≥": ">=",
    "≤": "<=",
    "≠": "!=",
    "≈": "~",
    "·": "*",
    "•": "*",
    "…": "...",
    "†": "+",
    "°": " degrees",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "▲": "^",
    "▼": "v",
    "■": "#",
    "○": "o",
    "◇": "<>",
    "\N{NO-BREAK SPACE}": " ",
}
"""What we write -> how it is spelt where only ASCII can be written."""

ERROR_TYPE = re.compile(r"([^\W\d][\w.]*):(?=\s|\Z)")
"""The type of an error that stands before its text."""

WORD = re.compile(r"\S+")
USER = re.compile(r"://[^:/]*:")  # what stands before a password; some servers' users hold an @
TOKEN = re.compile(r"(https?://)[^:/@\s]+@", re.IGNORECASE)
KEYS = "password|passwd|passphrase|pwd|secret|token|credential|odbc_connect|(?:api|access|account|private)_?key"
SECRET = re.compile(rf"((?:{KEYS})[\w.-]{{0,40}}(?:=|%3D))(?:'[^']*'|\"[^\"]*\")?[^&\s]*", re.IGNORECASE)


def is_metric_name(name: str) -> bool:
    """Return whether a metric can have a name: `val/accuracy` is one, `recall@10` and `../x` are none."""
    return bool(METRIC_NAME.fullmatch(name)) and posixpath.normpath(name) == name and name[0] not in "./"


def as_metric_name(text: str) -> str:
    """Return a text as the name of a metric, with `_` where none can have its character; "" if it is none then."""
    name = NO_METRIC_NAME.sub("_", text)
    return name if is_metric_name(name) else ""


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


def as_label(text: str) -> str:
    """Return a name of somebody's in one line and without a backtick, so that it can be set as code."""
    return " ".join(text.split()).replace("`", "'")


def unused(name: str, taken: Iterable[str], numbered: str = "{} ({})") -> str:
    """Return a name that none of these is, in whatever case: itself, or with a number, as `numbered` puts it."""
    small = {one.casefold() for one in taken}
    names = itertools.chain([name], (numbered.format(name, number) for number in itertools.count(2)))
    return next(one for one in names if one.casefold() not in small)


def text_of(error: BaseException) -> str:
    """Return the text of an error; "" where that cannot be had, as its author wrote it."""
    try:
        return str(error)
    except Exception:
        return ""


def first_line(error: str) -> str:
    """Return the first line of an error's text that is not blank, behind its type where that stands before the text.

    What has no text is its type alone: `ValueError` of `ValueError: `.
    """
    found = ERROR_TYPE.match(error)
    kind, text = (found[1], error[found.end() :]) if found else ("", error)
    line = next(filter(None, map(str.strip, text.splitlines())), "")
    return ": ".join(filter(None, (kind, line)))


def quote(value: object) -> str:
    """Return a value from a file as a message may quote it, a list as a list."""
    return shorten(repr(list(value) if isinstance(value, tuple) else value))


def in_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, in one line: no heading, no link, no picture, no HTML."""
    return MARKED.sub(r"\\\g<0>", html.escape(" ".join(printable(text).split()), quote=False))


def in_code(text: str) -> str:
    """Return text as Markdown's code, in one line, whatever backticks are in it."""
    line = " ".join(printable(text).split())
    fence = "`" * (max(map(len, BACKTICKS.findall(line)), default=0) + 1)
    space = " " * (line[:1] == "`" or line[-1:] == "`")
    return f"{fence}{space}{line}{space}{fence}" if line else "` `"


def spell_out(*streams: TextIO | None) -> None:
    r"""Let streams that cannot hold a character write it in ASCII: `->` for an arrow, \xe9 for a letter.

    A terminal or a file of ASCII, Latin-1 or cp1252 would otherwise refuse the whole line with an error.
    """
    codecs.register_error(SPELLING, _spelt)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SPELLING)


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(SPELT.get(one, _escaped(one)) for one in error.object[error.start : error.end]), error.end


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


def _is_hidden(character: str) -> bool:
    return character in REORDERING or (unicodedata.category(character) == "Cc" and character not in "\n\t")


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
