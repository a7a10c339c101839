"""TOML that others wrote: files and assignments, read within limits."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stn_bench.settings import Settings, check_path, defaults, kind_of
from stn_bench.system.errors import CatalogueError, ConfigError
from stn_bench.system.files import read_text
from stn_bench.system.text import hidden_character, quote, shorten, texts

DEEPEST = 20
"""Levels of tables and lists in a file; the deepest that means anything has five."""

WIDEST = 2**63
"""Whole numbers of a file lie below this, and not below its negative: TOML promises 64 bits."""

TOO_DEEP = f"expected at most {DEEPEST} tables and lists within one another, got more"

DOTTED = re.compile(rf"""(?<!["'\w-])(?:["'\w-]++[ \t]*\.[ \t]*){{{DEEPEST}}}""")
"""A key of more parts than there are levels: tomllib hangs over one of 100,000."""

UNSET = ("none", "null")

TOO_WIDE = "expected whole numbers of at most 64 bits, got a longer one"


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file as a dict.

    Raises:
        CatalogueError: if it cannot be read, is not TOML (the message tells the line), or holds characters that
            steer a terminal or reorder what is read.
    """
    try:
        text = read_text(path)
    except ValueError as error:
        raise CatalogueError(f"{path}: {error}") from None
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        tree = parse_toml(text)
    except ValueError as error:
        raise CatalogueError(f"{path}: not valid TOML: {error}") from None
    _check_texts(tree, path)
    return tree


def check_tree(tree: dict[str, Any], where: object) -> None:
    """Check that a tree written in code is one that a TOML file could hold.

    Raises:
        CatalogueError: if it is nested too deeply, or holds a key that is no text, a whole number of more than 64
            bits, or characters that steer a terminal.
    """
    try:
        _check_tree(tree)
        _check_keys(tree)
    except ValueError as error:
        raise CatalogueError(f"{where}: {error}") from None
    _check_texts(tree, where)


def _check_keys(tree: Any) -> None:
    if isinstance(tree, dict) and (keys := [key for key in tree if not isinstance(key, str)]):
        raise ValueError(f"expected names for keys, got {quote(keys[0])}")
    for one in _inside(tree):
        _check_keys(one)


def _check_texts(tree: dict[str, Any], where: object) -> None:
    for text in texts(tree):
        if character := hidden_character(text):
            raise CatalogueError(
                f"{where}: expected text that a terminal shows as it is, got the character U+{ord(character):04X} in "
                f"`{shorten(text)}`"
            )


def parse_assignment(text: str, schema: type[Settings]) -> tuple[str, Any]:
    """Return the path and the value of `PATH=VALUE`; where a setting is not text, the value is read as TOML.

    `PATH=` unsets a setting that may be unset, and so does `PATH=none` where that is no text of its own.

    Args:
        text: the assignment.
        schema: the settings that it may name.

    Raises:
        ConfigError: if there is no `=`, or the path names no setting.
    """
    path, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {shorten(text)}: expected PATH=VALUE, for example --set train.epochs=5")
    path, value = check_path(schema, path.strip(), where="--set"), value.strip()
    kind = kind_of(schema, path)
    if kind.may_be_unset and (not value or (not kind.may_be_text and value.lower() in UNSET)):
        return path, None
    if isinstance(defaults(schema)[path], str) or kind.is_text:
        return path, value.strip("\"'")
    try:
        tree = parse_toml(f"value = {value}")
    except ValueError:
        return path, value
    return path, tree["value"] if len(tree) == 1 else value  # a line break may begin another assignment


def parse_toml(text: str) -> dict[str, Any]:
    """Return TOML as a tree of few levels and of numbers that can be shown.

    Raises:
        ValueError: if it is no TOML, is nested too deeply, or holds a whole number of more than 64 bits.
    """
    if DOTTED.search(text):
        raise ValueError(TOO_DEEP)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except ValueError:  # Python's own limit, of 4300 digits
        raise ValueError(TOO_WIDE) from None
    _check_tree(tree)
    return tree


def _check_tree(tree: dict[str, Any]) -> None:
    level: list[Any] = [tree]
    for _ in range(DEEPEST):
        if any(type(one) is int and not -WIDEST <= one < WIDEST for one in level):
            raise ValueError(TOO_WIDE)
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
