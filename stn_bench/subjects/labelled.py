"""Picture files and their labels: one folder a class, or a table of file and label. No picture is read here.

    pets/cat/1.png          pets/train/cat/1.png          file,label[,part]
    pets/dog/1.jpg          pets/test/dog/1.jpg           cat/1.png,cat

A folder is listed as Keras' `image_dataset_from_directory` lists it: classes in the order of their names, the files of
a class folder and of all folders in it; a class folder may be a link, but no other link to a folder is followed.
Hidden files and folders are passed over.
"""

from __future__ import annotations

import csv
import io
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stn_bench.system.errors import DataError
from stn_bench.system.files import is_clutter, table_text
from stn_bench.system.format import counted
from stn_bench.system.text import shorten

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
"""The endings by which Keras finds pictures in a folder."""

OTHER_ENDINGS = (".avif", ".heic", ".heif", ".jfif", ".jp2", ".tif", ".tiff", ".webp")
"""Endings of pictures that are not among those."""

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""Part -> what a folder or a row of a table may call it."""

COLUMNS = {
    "file": ("file", "filename", "file_name", "path", "image", "picture"),
    "label": ("label", "class"),
    "part": ("part", "split", "subset"),
}
"""Column of a table -> what its head may call it, small or capital."""

LAYOUT = "one folder a class, as in cat/1.png and dog/1.png"


@dataclass(frozen=True)
class Labelled:
    """A picture file and its label.

    Args:
        file: where it lies.
        name: its path below the folder, with slashes.
        label: the name of its class.
        part: "train", "validation" or "test" where that is given, or "".
    """

    file: Path
    name: str
    label: str
    part: str = ""


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder or a table.

    Args:
        pictures: the pictures, class after class, or in the order of the table.
        left_out: names of files there that are pictures of other kinds.
    """

    pictures: tuple[Labelled, ...]
    left_out: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted: a picture's label is its place there."""
        return tuple(sorted({one.label for one in self.pictures}))


def list_pictures(source: Path, endings: Sequence[str] = ENDINGS) -> Listing:
    """Return the pictures of a folder, or of a table whose files lie beside it or below.

    Raises:
        DataError: if there is none of both, or it holds no pictures, or a class folder is empty, or a row is wrong.
    """
    if source.is_dir():
        return _list_folder(source, tuple(endings))
    if not source.exists():
        raise DataError(f"{source}: no such folder; expected {LAYOUT}, or a CSV table of file and label")
    if source.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise DataError(f"{source}: expected a folder with {LAYOUT}, or a CSV table of file and label; got a file")
    return Listing(tuple(_list_table(source, tuple(endings))))


def part_called(name: str) -> str:
    """Return the part that a name stands for, or ""."""
    return next((part for part, names in PARTS.items() if name.casefold() in names), "")


# Folders ------------------------------------------------------------------------------------------------------------


def _list_folder(folder: Path, endings: tuple[str, ...]) -> Listing:
    below = _folders(folder)
    if not below:
        direct = len([one for one in _entries(folder) if one.suffix.lower() in endings])
        there = f"{counted(direct, 'picture')} and no folder" if direct else "no folder"
        raise DataError(f"{folder}: expected {LAYOUT}; found {there}")
    parts = {one: part_called(one.name) for one in below}
    if _are_parts(parts, endings):
        return _list_parts(folder, parts, endings)
    found, left_out = list[Labelled](), list[str]()
    for one in below:
        pictures, others = _list_class(folder, one, "", endings)
        if not pictures:
            hint = f", but {counted(len(others), 'other file')} such as {shorten(others[0])}" if others else ""
            raise DataError(
                f"{folder}: class folder `{shorten(one.name)}` holds no pictures ({', '.join(endings)}){hint}; "
                f"put some in, or remove it"
            )
        found += pictures
        left_out += others
    return Listing(tuple(found), tuple(left_out))


def _are_parts(parts: dict[Path, str], endings: tuple[str, ...]) -> bool:
    """Return whether folders are training, test and so on, with class folders in each, and no classes themselves."""
    names = list(parts.values())
    if "train" not in names or "" in names or len(names) < 2:
        return False
    return all(_folders(one) and not any(file.suffix.lower() in endings for file in _entries(one)) for one in parts)


def _list_parts(folder: Path, parts: dict[Path, str], endings: tuple[str, ...]) -> Listing:
    if twice := {part for part in parts.values() if list(parts.values()).count(part) > 1}:
        raise DataError(f"{folder}: two folders stand for the part `{min(twice)}`; leave one")
    found, left_out = list[Labelled](), list[str]()
    for part in PARTS:
        for one in (one for one, name in parts.items() if name == part):
            for each in _folders(one):
                pictures, others = _list_class(folder, each, part, endings)
                found += pictures
                left_out += others
            if not any(picture.part == part for picture in found):
                raise DataError(f"{one}: holds no pictures ({', '.join(endings)}) in its class folders")
    return Listing(tuple(found), tuple(left_out))


def _list_class(folder: Path, one: Path, part: str, endings: tuple[str, ...]) -> tuple[list[Labelled], list[str]]:
    """Return the pictures of a class folder, and the names of those of other kinds."""
    found, others = [], []
    for file in _walk(one):
        name = file.relative_to(folder).as_posix()
        if file.suffix.lower() in endings:
            found.append(Labelled(file, name, one.name, part))
        elif file.suffix.lower() in OTHER_ENDINGS:
            others.append(name)
    return found, others


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and in those below, in the order of Keras."""
    found = []
    for place, below, files in os.walk(folder, onerror=_refuse):
        below[:] = [one for one in below if not _is_hidden(one)]
        found.append((place, sorted(one for one in files if not _is_hidden(one))))
    for place, files in sorted(found):
        yield from (Path(place, one) for one in files)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or is_clutter(name)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(one for one in folder.iterdir() if not _is_hidden(one.name))
    except OSError as error:
        _refuse(error)
        raise


def _folders(folder: Path) -> list[Path]:
    return [one for one in _entries(folder) if one.is_dir()]


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None


# Tables -------------------------------------------------------------------------------------------------------------


def _list_table(table: Path, endings: tuple[str, ...]) -> Iterator[Labelled]:
    rows = _read_table(table)
    seen: dict[str, int] = {}
    missing = [name for _, name, _, _ in rows if not (table.parent / name).is_file()]
    if missing:
        rest = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{table}: no file {table.parent / missing[0]}{rest}; files are named from the table's folder")
    for row, name, label, part in rows:
        if name in seen:
            raise DataError(f"{table}: row {row}: `{shorten(name)}` is in row {seen[name]} already; leave one of them")
        if not name.lower().endswith(endings):
            raise DataError(f"{table}: row {row}: `{shorten(name)}`: expected a picture ({', '.join(endings)})")
        seen[name] = row
        yield Labelled(table.parent / name, name, label, part)
    if not rows:
        raise DataError(f"{table}: holds no rows; expected columns file and label, and a row for each picture")


def _read_table(table: Path) -> list[tuple[int, str, str, str]]:
    """Return row, file, label and part of each picture; the head is row 1."""
    try:
        text = table_text(table.read_bytes())
        lines = list(csv.reader(io.StringIO(text), delimiter=_delimiter(text)))
    except UnicodeDecodeError:
        raise DataError(f"{table}: is no text in UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{table}: is no CSV table ({error})") from None
    except OSError as error:
        raise DataError(f"{table}: cannot be read: {error.strerror}") from None
    head = lines[0] if lines else []
    places = {column: _place(table, head, column) for column in COLUMNS}
    numbered = [(row, line) for row, line in enumerate(lines[1:], start=2) if any(one.strip() for one in line)]
    return [_read_row(table, row, line, places) for row, line in numbered]


def _delimiter(text: str) -> str:
    return max(",;\t", key=text.partition("\n")[0].count)


def _place(table: Path, head: list[str], column: str) -> int | None:
    """Return which column is meant, or None for the one that may be missing."""
    names = [one.strip().casefold() for one in head]
    found = [names.index(name) for name in COLUMNS[column] if name in names]
    if len(found) > 1 or any(names.count(names[one]) > 1 for one in found):
        raise DataError(f"{table}: more than one column may be the {column}: {shorten(', '.join(head))}; leave one")
    if not found and column != "part":
        raise DataError(
            f"{table}: expected columns file and label, and perhaps part; got {shorten(', '.join(head)) or 'none'}"
        )
    return found[0] if found else None


def _read_row(table: Path, row: int, line: list[str], places: dict[str, int | None]) -> tuple[int, str, str, str]:
    cells = {name: line[at].strip() if at < len(line) else "" for name, at in places.items() if at is not None}
    for column, cell in cells.items():
        if not cell:
            raise DataError(f"{table}: row {row}: has no {column}")
    name = posixpath.normpath(cells["file"].replace("\\", "/"))
    if posixpath.isabs(name) or name.split("/")[0] == ".." or Path(name).is_absolute():
        raise DataError(f"{table}: row {row}: `{shorten(cells['file'])}` does not lie in the table's folder")
    part = part_called(cells["part"]) if "part" in cells else ""
    if "part" in cells and not part:
        raise DataError(
            f"{table}: row {row}: part `{shorten(cells['part'])}`: expected {', '.join(PARTS)} (or val, dev)"
        )
    return row, name, cells["label"], part
