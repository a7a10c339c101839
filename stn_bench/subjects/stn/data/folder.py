"""Folders of letters: the article's, with the label in the name (`0001_K.png`), one folder a class, or a table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stn_bench.subjects.labelled import PARTS, Labelled, list_pictures
from stn_bench.subjects.stn.data import store
from stn_bench.subjects.stn.data.dataset import Dataset, is_drawn_name, open_dataset
from stn_bench.subjects.stn.data.letterbox import letterbox
from stn_bench.subjects.stn.data.parts import in_order
from stn_bench.subjects.stn.data.pictures import READABLE, find_pictures, read_picture, write_picture
from stn_bench.subjects.stn.data.spec import Chunk, DatasetSpec
from stn_bench.subjects.transparency import WHITE, Colour
from stn_bench.system.errors import DataError
from stn_bench.system.text import LONGEST, is_portable, shorten

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
        parts: validation and test -> number of pictures, where the folder or the table gives the parts.
        seed: what they were shuffled by; None where they have the order of their names.
    """

    dataset: Dataset
    count: int
    skipped: tuple[tuple[Path, str], ...]
    parts: Mapping[str, int] = field(default_factory=dict)
    seed: int | None = None


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
    folder: Path,
    name: str,
    root: Path,
    *,
    size: int,
    alphabet: str,
    pad_byte: int = 0,
    skip_bad: bool = False,
    seed: int | None = None,
    ground: Colour = WHITE,
) -> ImportReport:
    """Read a folder of pictures into a data set; `data.source = name` then uses it.

    The label is what follows the last `_` of the name, without its ending. Where no picture lies in the folder itself,
    it holds one folder a class; or it is a table of file and label. The pictures are shuffled and stratified, since
    the article's split goes by their order: training, validation, test (`parts`). Pictures of other sizes or shapes
    are letterboxed. The same pictures under the same name may be imported again, which mends a damaged data set.

    Args:
        folder: where the pictures lie, or a table; hidden files are passed over.
        name: what to call the data set.
        root: the folder of all data sets.
        size: height and width to store, in pixels.
        alphabet: the characters that a label may be.
        pad_byte: value around letterboxed pictures, 0..255.
        skip_bad: leave out what cannot be used, and report it, instead of refusing the folder.
        seed: drives the order; None keeps that of names such as 0001_K.png, for an export of drawn pictures, and is 0
            for class folders and tables, which have no such order.
        ground: colour behind transparent pixels, RGB 0..255.

    Raises:
        DataError: if the name cannot be used or belongs to other pictures, the folder is missing, or, unless
            `skip_bad`, a file is unreadable or unlabelled; each is named.
        MachineError: if the disk is full or cannot be written.
    """
    _check_name(name)
    found = _find(folder)
    if _has_classes(folder) and not skip_bad:
        _check_classes(folder, found, alphabet)
    faults = [_find_fault(one, alphabet) for one in found]
    skipped = [(one.file, fault) for one, fault in zip(found, faults, strict=True) if fault]
    if skipped and not skip_bad:
        raise DataError(_list_failures(folder, skipped))
    seed = 0 if seed is None and _has_classes(folder) else seed
    letters = in_order([one for one, fault in zip(found, faults, strict=True) if not fault], seed)
    if not letters:
        raise DataError(f"{folder}: no pictures to import. Expected files such as 0001_K.png.")
    spec = DatasetSpec(name, len(letters), size, alphabet, fonts=(), shapes="varied", pad_byte=pad_byte, seed=0)
    parts = {part: count for part in PARTS if part != "train" and (count := sum(one.part == part for one in letters))}
    _store(letters, spec, root, {"seed": seed, "ground": list(ground), "parts": parts})
    return ImportReport(open_dataset(spec, root), len(letters), tuple(skipped), parts, seed)


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name) or not is_portable(name):
        raise DataError(
            f"--name {name}: expected small letters, digits, `-` and `_`, {LONGEST} at most and no device of Windows, "
            f"for example my-letters"
        )
    if is_drawn_name(name):
        raise DataError(f"--name {name}: the name of pictures that stn-bench draws. Choose another.")


def _has_classes(folder: Path) -> bool:
    """Return whether a folder holds one folder a class, or is a table: no picture lies in it itself."""
    if not folder.is_dir():
        return folder.is_file()
    below = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return any(path.is_dir() for path in below) and not any(path.suffix.lower() in READABLE for path in below)


def _find(folder: Path) -> list[Labelled]:
    """Return the pictures of a folder or a table; one whose name has no label has none."""
    if _has_classes(folder):
        return list(list_pictures(folder, tuple(sorted(READABLE))).pictures)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Name a folder of pictures such as 0001_K.png.")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [Labelled(path, path.name, _label_text(path) or "") for path in files]


def _check_classes(folder: Path, pictures: Sequence[Labelled], alphabet: str) -> None:
    unknown = sorted({one.label for one in pictures if len(one.label) != 1 or one.label not in alphabet})
    if unknown:
        shown = ", ".join(f"`{shorten(label)}`" for label in unknown[:3]) + ", …" * (len(unknown) > 3)
        raise DataError(
            f"{folder}: class {shown}: expected single characters of the alphabet {alphabet}, which `stn` reads; "
            f"for other classes: stn-bench new NAME --folder"
        )


def _find_fault(picture: Labelled, alphabet: str) -> str:
    if not picture.label:
        return "no label: expected a name such as 0001_K.png"
    if len(picture.label) != 1 or picture.label not in alphabet:
        return f"label {picture.label!r} is not in the alphabet {alphabet}"
    try:
        read_picture(picture.file)
    except DataError as error:
        return str(error).removeprefix(f"{picture.file}: ")
    return ""


def find_letters(paths: Iterable[Path]) -> list[Labelled]:
    """Return the files named, and in place of each folder or table its pictures, with the labels that they have.

    In a folder that holds one folder a class, and in a table, that says the label; else the picture's name does.

    Raises:
        DataError: if a path does not exist, or a folder holds no picture.
    """
    return [one for path in paths for one in _letters(path)]


def _letters(path: Path) -> list[Labelled]:
    if path.suffix.lower() == ".csv" or (path.is_dir() and _has_classes(path)):
        found = list_pictures(path, tuple(sorted(READABLE))).pictures
        return [one if len(one.label) == 1 else replace(one, label="") for one in found]
    return [Labelled(file, file.name, label_of(file)) for file in find_pictures([path])]


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


def _store(letters: list[Labelled], spec: DatasetSpec, root: Path, note: Mapping[str, Any]) -> None:
    target = root / spec.folder_name
    needed = store.needed_bytes(spec)
    with store.locked(target), store.explain_disk(root, needed), store.new_folder(target) as partial:
        store.check_disk(root, needed)
        store.write_arrays(partial, spec, _read_chunks(letters, spec, tuple(note["ground"])))
        _check_taken(target, store.write_manifest(partial, spec, note=note), partial)


def _read_chunks(letters: list[Labelled], spec: DatasetSpec, ground: Colour) -> Iterator[Chunk]:
    for one in letters:
        label = spec.alphabet.index(one.label)
        picture = letterbox(read_picture(one.file, ground), spec.size, spec.pad_byte or 0)
        yield picture[np.newaxis], np.array([label], np.int64)


def _check_taken(target: Path, new: store.Manifest, partial: Path) -> None:
    """Check that a name is free, or that of the same pictures; those of an older version may be put in another order.

    Raises:
        DataError: if other pictures have it.
    """
    try:
        old = store.read_manifest(target)
        store.check_content(target, old)
        is_older = not store.read_note(target)
    except DataError:
        return  # missing, or damaged and about to be mended
    if old.fingerprint == new.fingerprint or (is_older and _bag(target, old) == _bag(partial, new)):
        return
    raise DataError(
        f"--name {target.name}: {target} holds other pictures, or in the order of another seed. Choose another name, "
        f"or remove that folder."
    )


def _bag(folder: Path, manifest: store.Manifest) -> tuple[str, list[tuple[int, bytes]]]:
    """Return the pictures of a data set in no order: the digest of each, with its label."""
    images, labels = store.read_arrays(folder, manifest)
    digests = (hashlib.sha256(one.tobytes()).digest() for one in images)
    return manifest.spec.alphabet, sorted(zip(labels.tolist(), digests, strict=True))
