"""A table as text: what kind of file its bytes are, what separates its cells, and which row each line is.

Rows are counted as a spreadsheet does: what a cell in quotes holds is one row, however many lines it has.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stn_bench.system.errors import DataError
from stn_bench.system.files import is_wide, table_text

PACKED = {
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"BZh": "is compressed by bzip2; unpack it first",
    b"\xfd7zXZ\0": "is compressed by xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "is an archive of 7-Zip; unpack it first",
    b"\xd0\xcf\x11\xe0": "is a workbook of an old spreadsheet; save its sheet as CSV",
    b"PAR1": "is a Parquet file; save it as CSV",
    b"SQLite format 3\0": "is a database of SQLite; read one of MLflow's by `stn-bench judge --mlflow sqlite:///FILE`",
}
"""How a file begins that is no text -> what it is, and what to do."""

QUOTED = re.compile(r'(?<![^\t;,|\n])"(?:[^"]|"")*"')
"""A cell in quotes, which may hold separators and ends of lines."""

BLANK = re.compile(r"(?:[\s;,|]*\n)?")
"""Rows without a word before the header."""

SEPARATOR = re.compile(r"sep=([^\w\s\"'.+-]|\t)\n", re.IGNORECASE)
"""The first line by which Excel is told the separator; Excel itself shows no such row."""

HEAD = 1 << 16
"""Characters by which the separator is known; a header has fewer."""


@dataclass(frozen=True)
class SheetText:
    """The text of a table.

    Args:
        text: from its header on.
        names: the cells of the header.
        separator: what stands between two cells.
        row: the header's row.
    """

    text: str
    names: tuple[str, ...]
    separator: str
    row: int

    def widest(self) -> tuple[int, int]:
        """Return the first row that has more cells than the header, and how many it has; (0, 0) where none has."""
        with contextlib.suppress(csv.Error):  # of a cell that is far too long
            for row, cells in enumerate(_records(self.text, self.separator), start=self.row):
                if any(cell.strip() for cell in cells[len(self.names) :]):
                    return row, len(cells)
        return 0, 0


def read_sheet_text(path: Path) -> tuple[bytes, SheetText]:
    """Return the bytes of a file and the table that is written there.

    Raises:
        DataError: if it is not there, or no text of a table.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    if told := no_text(content):
        raise DataError(f"{path}: {told}")
    try:
        text = table_text(content)
    except UnicodeDecodeError as error:
        told = f"expected a table as text in UTF-8, got another byte at {error.start:,}; save it as UTF-8"
        raise DataError(f"{path}: {told}") from None
    return content, _sheet_text(path, text)


def no_text(content: bytes) -> str:
    """Return what a file is that is no text in UTF-8 or UTF-16, and what to do; "" for one that may be."""
    if content.startswith(b"PK\x03\x04"):
        return _zipped(content)
    if told := next((told for begin, told in PACKED.items() if content.startswith(begin)), ""):
        return told
    has_mark = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if is_wide(content) and (not has_mark or content.startswith(codecs.BOM_UTF32_LE)):
        return "is text in UTF-32, or in UTF-16 without its mark; save it as UTF-8"
    return ""


def _zipped(content: bytes) -> str:
    """Return what a zip file is, by the names in it, and what to do."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            names = file.namelist()
    except Exception:  # a damaged zip file makes Python raise almost anything
        names = []
    if {"[Content_Types].xml", "mimetype"} & set(names):
        return "is a workbook of a spreadsheet; save its sheet as CSV"
    if any(name.rpartition("/")[2] == "manifest.json" for name in names):
        return "is a zip file; read one of stn-bench with `stn-bench import`, unpack any other first"
    return "is a zip file; unpack it first"


def _sheet_text(path: Path, text: str) -> SheetText:
    """Return the table in a text.

    Raises:
        DataError: if it has no header.
    """
    told = SEPARATOR.match(text)
    text = text[told.end() :] if told else text
    if not text.strip():
        raise DataError(f"{path}: is empty; expected a header and a row for each run")
    begin = BLANK.match(text)
    skipped = begin[0] if begin else ""
    text = text[len(skipped) :]
    separator = told[1] if told else _separator(text)
    try:
        names = next(_records(text, separator))
    except (csv.Error, StopIteration):  # of a quote that stays open, all that follows is one cell
        raise DataError(f"{path}: its header cannot be read; see whether each quote in it is closed") from None
    return SheetText(text, tuple(names), separator, 1 + skipped.count("\n"))


def _separator(text: str) -> str:
    """Return what separates the cells of a header: what there is most of outside quotes."""
    bare = QUOTED.sub("", text[:HEAD]).partition("\n")[0]
    return max("\t;,|", key=bare.count)


def _records(text: str, separator: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text), delimiter=separator)


__all__ = ["SheetText", "no_text", "read_sheet_text"]
