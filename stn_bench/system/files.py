"""Files that appear whole or not at all, and text as others save it."""

from __future__ import annotations

import codecs
import os
import tempfile
from pathlib import Path

WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""How text begins that stands in two or four bytes a character, as some editors call "Unicode"."""


CLUTTER = {
    *("__macosx", ".ds_store", ".localized", ".spotlight-v100", ".trashes", ".fseventsd", ".appledouble", "icon\r"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *(".directory", "@eadir", "#recycle"),
}
"""What file managers add to a folder that they show or zip, in small letters."""


def is_clutter(name: str) -> bool:
    """Return whether a file or a folder is one that file managers add by themselves."""
    return name.casefold() in CLUTTER or name.startswith("._")


def ensure_home() -> None:
    """Give a user of whom the machine knows no home, as in some containers, one: libraries look there on import."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, without the byte-order mark that some editors put before it.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no text in UTF-8; the message says what it is instead.
    """
    content = path.read_bytes()
    if is_wide(content):
        raise ValueError("cannot be read as UTF-8 text (it is UTF-16 or UTF-32); save it as UTF-8")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot be read as UTF-8 text ({error.reason} at byte {error.start})") from None


def is_wide(content: bytes) -> bool:
    """Return whether text stands in two or four bytes a character, by its mark or its first characters."""
    return content.startswith(WIDE) or b"\0\0" in (content[0:4:2], content[1:4:2])


def table_text(content: bytes) -> str:
    """Return the text of a table as spreadsheets save it: UTF-8, or UTF-16 behind its mark; any ends of lines.

    Raises:
        UnicodeDecodeError: if it is neither.
    """
    text = content.decode("utf-16" if content.startswith(WIDE) else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, its folder too; one that has this content already is left alone.

    Raises:
        OSError: if the disk is full or the folder cannot be written; nothing half is left.
    """
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
