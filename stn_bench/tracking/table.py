"""Tables of runs that others made, from a file, a DataFrame or a foreign MLflow store: pandas' door inwards.

Whatever cannot be read is told by its row, which is counted as a spreadsheet does: the header is row 1.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stn_bench.stats.values import LARGEST, is_number
from stn_bench.system.errors import DataError
from stn_bench.system.format import counted
from stn_bench.system.text import as_label, hidden_character, shorten
from stn_bench.tracking.groups import BEYOND
from stn_bench.tracking.sheet_text import SheetText, read_sheet_text
from stn_bench.tracking.spelling import COMMAND, Spelling

ABSENT = frozenset({"", "nan", "na", "n/a", "<na>", "null", "none"})
"""Texts, in small letters, that stand where there is no number."""

DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
UNNAMED = re.compile(r"|Unnamed: \d+| \(\d+\)")
"""Columns without a name: row numbers that pandas wrote, or what stands behind a last separator."""

OPEN_QUOTE = re.compile(r"EOF inside string starting at row (\d+)")
"""What pandas says of a quote that nothing closes."""

SAMPLE = 1000
"""Rows by which a column is taken for one of numbers."""


@dataclass(frozen=True)
class Sheet:
    """A table as it was found.

    Args:
        name: the file, or whatever it comes from.
        frame: its cells, as text or as numbers; the index says which row, or run, each is.
        digest: SHA-256 of the file, or "".
        row: what a row is called.
        commas: whether a comma may stand for a decimal point.
        notes: what was found so far.
        spelling: how whoever asks writes an option.
        path: the file, or None.
    """

    name: str
    frame: pd.DataFrame
    digest: str = ""
    row: str = "row "
    commas: bool = False
    notes: tuple[str, ...] = ()
    spelling: Spelling = COMMAND
    path: Path | None = None

    @property
    def names(self) -> list[str]:
        """The columns."""
        return [str(name) for name in self.frame.columns]

    def at(self, place: int) -> str:
        """Return which row is the n-th, counted from 0."""
        return f"{self.row}{self.frame.index[place]}"

    @property
    def is_store(self) -> bool:
        """Whether its rows are the runs of an MLflow store, by their ids."""
        return self.row == "run "

    def without(self, dropped: Any, note: str) -> Sheet:
        """Return the table without some rows."""
        return replace(self, frame=self.frame[~dropped], notes=(*self.notes, note))

    def column(self, name: str) -> Any:
        """Return the cells of a column as text, "" where there is nothing."""
        cells = self.frame[name]
        return cells.astype(object).where(cells.notna(), "").astype(str).to_numpy(object)

    def has_numbers(self, name: str) -> bool:
        """Return whether a column is one of numbers, as far as its first rows tell."""
        cells = self.frame[name]
        if pd.api.types.is_numeric_dtype(cells):
            return not pd.api.types.is_bool_dtype(cells)
        texts = self._texts(cells.iloc[:SAMPLE])
        there = texts[~texts.str.lower().isin(ABSENT)]
        return len(there) > 0 and bool(pd.to_numeric(there, errors="coerce").notna().mean() > 0.5)

    def numbers(self, name: str) -> tuple[Any, dict[int, str]]:
        """Return a column's numbers, and place -> what stands there where it is not finite: "" where nothing does.

        Raises:
            DataError: if a text stands among them.
        """
        cells = self.frame[name]
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        odd = np.flatnonzero(~(np.abs(values) <= LARGEST))
        if not len(odd):
            return values, {}
        texts = self._texts(cells.iloc[odd])
        values = values.copy()
        values[odd] = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
        strange = odd[np.isnan(values[odd]) & ~texts.str.lower().isin(ABSENT).to_numpy()]
        if len(strange):
            raise self._no_number(name, strange)
        told = dict(zip(odd.tolist(), texts.tolist(), strict=True))
        told |= {place: f"{text}, {BEYOND}" for place, text in told.items() if np.isfinite(values[place])}
        return values, {place: text for place, text in told.items() if not is_number(values[place])}

    def _no_number(self, name: str, strange: Any) -> DataError:
        text = str(self.frame[name].iloc[strange[0]])
        hint = "; a comma is a decimal point only where `;` or a tab separates the columns"
        more = f" (and {len(strange) - 1:,} more)" if len(strange) > 1 else ""
        where = f"{self.name}, {self.at(int(strange[0]))}: `{shorten(name)}`"
        return DataError(
            f"{where}: expected a number, got `{shorten(text)}`{more}"
            f"{hint if DECIMAL_COMMA.fullmatch(text.strip()) else ''}"
        )

    def _texts(self, cells: pd.Series[Any]) -> pd.Series[Any]:
        texts = cells.astype(object).where(cells.notna(), "").astype(str).str.strip().str.replace("−", "-")
        if not self.commas:
            return texts
        return texts.where(~texts.str.fullmatch(DECIMAL_COMMA.pattern), texts.str.replace(",", "."))

    def labels(self, name: str, what: str = "") -> Any:
        """Return for each row what a column of names says, in one line and without a backtick.

        Args:
            name: the column.
            what: what it names, where every row needs a name.

        Raises:
            DataError: if one holds a character that cannot be seen, or says nothing although it must.
        """
        codes, found = pd.factorize(self.column(name))
        clean = []
        for code, text in enumerate(found):
            needed = what and not str(text).strip()
            where = self.at(int(np.argmax(codes == code))) if needed or hidden_character(str(text)) else ""
            if needed:
                raise DataError(
                    f"{self.name}, {where}: `{shorten(name)}`: expected the name of the {what}, got nothing"
                )
            clean.append(self.clean(str(text), where))
        return np.array(clean, object)[codes]

    def clean(self, text: str, where: str) -> str:
        """Return a name in one line and without a backtick.

        Raises:
            DataError: if it holds a character that cannot be seen.
        """
        if character := hidden_character(text):
            code = f"U+{ord(character):04X}"
            raise DataError(f"{self.name}, {where}: a name holds {code}, which steers a terminal or reorders text")
        return as_label(text)


# Where tables come from ----------------------------------------------------------------------------------------------


def read_file(path: Path) -> Sheet:
    """Return the table in a CSV file: columns separated by comma, semicolon, tab or bar, text in UTF-8 or UTF-16.

    Raises:
        DataError: if it is not there, empty, or not such a table.
    """
    content, text = read_sheet_text(path)
    names = _header(str(path), text.names)
    frame = _cells(path, text)
    frame.columns = pd.Index(names)
    frame.index = pd.RangeIndex(text.row + 1, text.row + 1 + len(frame))
    frame = frame.loc[~(frame == "").all(axis=1), [UNNAMED.fullmatch(name) is None for name in names]]
    if frame.empty:
        raise DataError(f"{path}: has a header and no row; expected one for each run")
    digest, path = hashlib.sha256(content).hexdigest(), path.absolute()  # whoever asks may go to another folder
    return Sheet(shorten(path.name), frame, digest, commas=text.separator != ",", path=path)


def _cells(path: Path, text: SheetText) -> pd.DataFrame:
    """Return the cells below the header as text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO(text.text),
                sep=text.separator,
                dtype=str,
                keep_default_na=False,
                skip_blank_lines=False,
                index_col=False,
            )
    except (pd.errors.ParserWarning, pd.errors.ParserError, ValueError) as error:
        raise DataError(f"{path}: {_no_cells(text, str(error))}") from None
    return frame.fillna("")  # of rows that are shorter than the header


def _no_cells(text: SheetText, error: str) -> str:
    """Return where cells cannot be read, and what to do."""
    if found := OPEN_QUOTE.search(error):
        row = text.row + int(found[1])  # pandas counts from 0
        return f"row {row}: a quote opens a cell there and none closes it; close it, or take it out"
    row, cells = text.widest()
    if not row:
        return shorten(error.removeprefix("Error tokenizing data. C error: ").strip())
    more = "; where commas are decimal points, separate the columns by `;`" if text.separator == "," else ""
    return f"row {row}: expected {counted(len(text.names), 'cell')}, got {cells}{more}"


def from_frame(frame: pd.DataFrame, name: str = "the DataFrame") -> Sheet:
    """Return a DataFrame as a table; named levels of its index are columns, as `groupby` leaves them.

    Raises:
        DataError: if it is empty, or a level of its index is called as another or as a column is.
    """
    frame = frame.set_axis(pd.Index(list(map(str, frame.columns)), dtype=object), axis=1)
    if levels := [str(level) for level in frame.index.names if level is not None]:
        names = [*levels, *frame.columns]
        if twice := next((level for level in levels if names.count(level) > 1), ""):
            raise DataError(
                f"{name}: `{shorten(twice)}` is a level of its index, and a column or another level too; rename one, "
                f"or leave the index out with reset_index(drop=True)"
            )
        frame = frame.reset_index(allow_duplicates=True)
    if frame.empty:
        raise DataError(f"{name}: is empty; expected a row for each run")
    names = _header(name, list(map(str, frame.columns)))
    return Sheet(name, frame.set_axis(pd.RangeIndex(len(frame)), axis=0).set_axis(pd.Index(names), axis=1))


def _header(where: str, given: Sequence[str]) -> list[str]:
    """Return the names of columns, each in one line; those that several have are numbered."""
    if hidden := next(filter(hidden_character, given), None):
        raise DataError(f"{where}: the name of column `{shorten(hidden)}` holds a character that cannot be seen")
    names = list(map(as_label, given))
    counts, seen = Counter(names), Counter[str]()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} ({seen[name]})" if counts[name] > 1 else name)
    return numbered


def read_mlflow(uri: str, experiment: str) -> Sheet:
    """Return the runs of an experiment of somebody else's as a table, with columns as `mlflow.search_runs` has them.

    Raises:
        StoreError: if the store cannot be read, or has no such experiment.
        DataError: if that has no run.
    """
    from stn_bench.tracking.mlflow.foreign import foreign_runs

    runs = foreign_runs(uri, experiment)
    if not runs:
        raise DataError(f"experiment `{shorten(experiment)}`: has no run")
    frame = pd.DataFrame(runs, dtype=object).set_index("run_id").fillna("")
    name = f"experiment {shorten(experiment)}"
    names = _header(name, list(map(str, frame.columns)))
    return Sheet(name, frame.set_axis(pd.Index(names), axis=1), row="run ")


__all__ = ["Sheet", "from_frame", "read_file", "read_mlflow"]
