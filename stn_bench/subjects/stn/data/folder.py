"""The article's folder of picture files: one picture each, the label in the name (`0001_K.png`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stn_bench.subjects.stn.data import store
from stn_bench.subjects.stn.data.dataset import Dataset, is_drawn_name, open_dataset
from stn_bench.subjects.stn.data.letterbox import letterbox
from stn_bench.subjects.stn.data.pictures import read_picture, write_picture
from stn_bench.subjects.stn.data.spec import Chunk, DatasetSpec
from stn_bench.system.errors import DataError
from stn_bench.system.text import LONGEST, is_portable

NAME_PATTERN = r"[a-z0-9][a-z0-9_-]*"
"""Valid names of an imported data set, as `data.source` accepts them."""

SHOWN_FAILURES = 10
"""How many unusable files an error names; the rest are counted."""


@dataclass(frozen=True)
class ImportReport:
    """The result of an import.

    Args:
        dataset: the new data set.
        count: number of pictures in it.
        skipped: file and reason of each that was left out.
    """

    dataset: Dataset
    count: int
    skipped: tuple[tuple[Path, str], ...]


def export_folder(dataset: Dataset, folder: Path) -> int:
    """Write each picture as `0001_K.png`, numbered from 1, and return how many there are.

    Args:
        dataset: what to write.
        folder: a folder that is empty or does not exist yet.

    Raises:
        DataError: if the folder holds anything.
        MachineError: if the disk is full; what was written until then is removed.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: expected an empty folder or a new one. Choose another, or empty it.")
    paths = _export_paths(dataset, folder)
    try:
        for path, picture in zip(paths, dataset.images, strict=True):
            write_picture(path, picture)
    except BaseException:  # Ctrl-C too
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return len(paths)


def _export_paths(dataset: Dataset, folder: Path) -> list[Path]:
    digits = max(4, len(str(len(dataset.labels))))
    characters = (dataset.spec.alphabet[label] for label in dataset.labels)
    return [folder / f"{number:0{digits}d}_{character}.png" for number, character in enumerate(characters, 1)]


def import_folder(
    folder: Path, name: str, root: Path, *, size: int, alphabet: str, pad_byte: int = 0, skip_bad: bool = False
) -> ImportReport:
    """Read a folder of pictures, sorted by name, into a data set; `data.source = name` then uses it.

    The label is what follows the last `_` of the name, without its ending. Pictures of other sizes or shapes are
    letterboxed. The same pictures under the same name may be imported again, which mends a damaged data set.

    Args:
        folder: where the pictures lie; hidden files and folders inside it are passed over.
        name: what to call the data set.
        root: the folder of all data sets.
        size: height and width to store, in pixels.
        alphabet: the characters that a label may be.
        pad_byte: value around letterboxed pictures, 0..255.
        skip_bad: leave out what cannot be used, and report it, instead of refusing the folder.

    Raises:
        DataError: if the name cannot be used or belongs to other pictures, the folder is missing, or, unless
            `skip_bad`, a file is unreadable or unlabelled; each is named.
        MachineError: if the disk is full or cannot be written.
    """
    _check_name(name)
    files, skipped = _sort_out(folder, alphabet)
    if skipped and not skip_bad:
        raise DataError(_list_failures(folder, skipped))
    if not files:
        raise DataError(f"{folder}: no pictures to import. Expected files such as 0001_K.png.")
    spec = DatasetSpec(name, len(files), size, alphabet, fonts=(), shapes="varied", pad_byte=pad_byte, seed=0)
    _store(files, spec, root)
    return ImportReport(open_dataset(spec, root), len(files), tuple(skipped))


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name) or not is_portable(name):
        raise DataError(
            f"--name {name}: expected small letters, digits, `-` and `_`, {LONGEST} at most and no device of Windows, "
            f"for example my-letters"
        )
    if is_drawn_name(name):
        raise DataError(f"--name {name}: the name of pictures that stn-bench draws. Choose another.")


def _sort_out(folder: Path, alphabet: str) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the usable files, and the others with the reason; nothing is written before this is known."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Name a folder of pictures such as 0001_K.png.")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    reasons = [(path, _find_fault(path, alphabet)) for path in files]
    return [path for path, reason in reasons if not reason], [(path, reason) for path, reason in reasons if reason]


def _find_fault(path: Path, alphabet: str) -> str:
    label = _label_text(path)
    if label is None:
        return "no label: expected a name such as 0001_K.png"
    if len(label) != 1 or label not in alphabet:
        return f"label {label!r} is not in the alphabet {alphabet}"
    try:
        read_picture(path)
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def label_of(path: Path) -> str:
    """Return the character behind the last `_` of a picture's name: K of `0001_K.png`; "" where no single one is."""
    label = _label_text(path) or ""
    return label if len(label) == 1 else ""


def _label_text(path: Path) -> str | None:
    _, underscore, label = path.stem.rpartition("_")
    return label if underscore else None


def _list_failures(folder: Path, skipped: list[tuple[Path, str]]) -> str:
    shown = "\n".join(f"  {path.name}: {reason}" for path, reason in skipped[:SHOWN_FAILURES])
    rest = len(skipped) - SHOWN_FAILURES
    more = f"\n  and {rest} more" if rest > 0 else ""
    count = f"{len(skipped)} file{'s' * (len(skipped) > 1)}"
    return f"{folder}: {count} cannot be used; mend them, or pass --skip-bad:\n{shown}{more}"


def _store(files: list[Path], spec: DatasetSpec, root: Path) -> None:
    target = root / spec.folder_name
    needed = store.needed_bytes(spec)
    with store.locked(target), store.explain_disk(root, needed), store.new_folder(target) as partial:
        store.check_disk(root, needed)
        store.write_arrays(partial, spec, _read_chunks(files, spec))
        _check_taken(target, store.write_manifest(partial, spec))


def _read_chunks(files: list[Path], spec: DatasetSpec) -> Iterator[Chunk]:
    for path in files:
        label = spec.alphabet.index(_label_text(path) or "")
        picture = letterbox(read_picture(path), spec.size, spec.pad_byte or 0)
        yield picture[np.newaxis], np.array([label], np.int64)


def _check_taken(target: Path, new: store.Manifest) -> None:
    try:
        old = store.read_manifest(target)
        store.check_content(target, old)
    except DataError:
        return  # missing, or damaged and about to be mended
    if old.fingerprint != new.fingerprint:
        raise DataError(
            f"--name {target.name}: {target} holds other pictures. Choose another name, or remove that folder."
        )
