"""The layout on disk: a folder with two arrays and a manifest that holds their checksums.

    images.npy     uint8 (count, size, size, 3), RGB
    labels.npy     int64 (count,), indices into the alphabet
    manifest.json  what the set was made of, SHA-256 of both files, and the fingerprint

A folder comes into being whole: it is written beside its place, synced, and then renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stn_bench.subjects.stn.data.spec import Chunk, DatasetSpec, Labels, Picture
from stn_bench.system.errors import DataError, MachineError
from stn_bench.system.lock import Lock
from stn_bench.system.machine import NO_ROOM

IMAGES = "images.npy"
LABELS = "labels.npy"
MANIFEST = "manifest.json"
NOTE = "imported"
"""Key of the manifest with how pictures were imported: seed of their order, ground, number in each given part."""

SPARE_BYTES = 2**20
"""Room for the headers, the manifest and the file system's own books."""


@dataclass(frozen=True)
class StoredFile:
    """A file as it was written: its size in bytes, and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The spec of a stored data set, and the checksums that show whether it is still whole.

    Args:
        spec: the settings.
        files: the arrays' files by name.
        fonts: SHA-256 of each font drawn with; none for an imported set.
        versions: the libraries that drew it; for the reader, in no checksum.
    """

    spec: DatasetSpec
    files: Mapping[str, StoredFile]
    fonts: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the alphabet and both arrays: dtype, shape and content, as their files hold them."""
        content = {"alphabet": self.spec.alphabet} | {name: file.sha256 for name, file in self.files.items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a data set's folder.

    Raises:
        DataError: if it is missing, cannot be read, or does not agree with its own fingerprint.
    """
    path = folder / MANIFEST
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        manifest = _parse_manifest(tree)
        agrees = tree["fingerprint"] == manifest.fingerprint
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{path}: is no manifest of a data set") from None
    if not agrees:
        raise DataError(f"{path}: does not agree with its own fingerprint")
    return manifest


def read_note(folder: Path) -> dict[str, Any]:
    """Return how a data set was imported; {} for one that was drawn, or imported by the order of names alone.

    Raises:
        DataError: if there is no manifest.
    """
    read_manifest(folder)
    note = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get(NOTE, {})
    is_sound = (
        isinstance(note, dict) and isinstance(note.get("seed"), int | None) and isinstance(note.get("parts"), dict)
    )
    return note if is_sound else {}


def _parse_manifest(tree: Mapping[str, Any]) -> Manifest:
    manifest = Manifest(
        spec=DatasetSpec.from_json(tree["spec"]),
        files={name: StoredFile(**tree["files"][name]) for name in (IMAGES, LABELS)},
        fonts=tuple(tree["fonts"]),
        versions=tree["versions"],
    )
    spec, files = manifest.spec, manifest.files.values()
    numbers = [spec.count, spec.size, spec.seed, *(file.size for file in files)]
    texts = [spec.source, spec.alphabet, spec.shapes, *spec.fonts, *manifest.fonts, *(file.sha256 for file in files)]
    if not all(type(one) is int for one in numbers) or not all(isinstance(one, str) for one in texts):
        raise TypeError("a number or a text is something else")
    if spec.pad_byte is not None and type(spec.pad_byte) is not int:
        raise TypeError("the pad byte is no number")
    return manifest


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Compare the files' sizes with the manifest: finds what was cut short, at no cost.

    Raises:
        DataError: naming the file that differs.
    """
    for name, stored in manifest.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else 0
        if size != stored.size:
            raise DataError(f"{path}: expected {stored.size:,} bytes, found {size:,}")


def check_content(folder: Path, manifest: Manifest) -> None:
    """Compare the files' checksums with the manifest: finds every damage, at about 0.1 s per 100 MB.

    Raises:
        DataError: naming the file that differs.
    """
    check_sizes(folder, manifest)
    for name, stored in manifest.files.items():
        if _stored_file(folder / name).sha256 != stored.sha256:
            raise DataError(f"{folder / name}: its checksum is not the one in {MANIFEST}")


def _stored_file(path: Path) -> StoredFile:
    with path.open("rb") as file:
        return StoredFile(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def read_arrays(folder: Path, manifest: Manifest) -> tuple[Picture, Labels]:
    """Return the pictures as a read-only memory map, and the labels.

    Raises:
        DataError: naming the file that does not hold what the manifest says, or holds a pickle.
    """
    spec = manifest.spec
    images = _read_array(folder / IMAGES, np.dtype(np.uint8), (spec.count, spec.size, spec.size, 3), mapped=True)
    labels = _read_array(folder / LABELS, np.dtype(np.int64), (spec.count,))
    wrong = labels[(labels < 0) | (labels >= len(spec.alphabet))]
    if len(wrong):
        raise DataError(
            f"{folder / LABELS}: expected indices into the {len(spec.alphabet)} characters of the alphabet, "
            f"got {wrong[0]}"
        )
    return images, labels


def _read_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], *, mapped: bool = False) -> NDArray[Any]:
    expected = f"{path}: expected plain numbers, {dtype} {shape}"
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise DataError(f"{expected}, got something else, such as a pickle or a part of them") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{expected}, got an archive of arrays")
    if (array.dtype, array.shape) != (dtype, shape):
        raise DataError(f"{expected}, got {array.dtype} {array.shape}")
    return array


def write_arrays(folder: Path, spec: DatasetSpec, chunks: Iterable[Chunk]) -> None:
    """Write the pictures and labels of `chunks` into `folder` as they come.

    They go through `write`, not through a writable memory map: on a full disk the first is an error that can be
    reported, the second kills the process.
    """
    with (folder / IMAGES).open("xb") as images, (folder / LABELS).open("xb") as labels:
        _write_header(images, np.dtype(np.uint8), (spec.count, spec.size, spec.size, 3))
        _write_header(labels, np.dtype(np.int64), (spec.count,))
        for some_images, some_labels in chunks:
            images.write(some_images.tobytes())
            labels.write(some_labels.tobytes())
        _sync(images)
        _sync(labels)


def _write_header(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def write_manifest(
    folder: Path, spec: DatasetSpec, *, fonts: tuple[str, ...] = (), note: Mapping[str, Any] | None = None
) -> Manifest:
    """Write the manifest over the arrays that lie in `folder`, and return it.

    Args:
        folder: where the arrays lie.
        spec: what they were made of.
        fonts: SHA-256 of each font drawn with.
        note: how they were imported; in no checksum.
    """
    files = {name: _stored_file(folder / name) for name in (IMAGES, LABELS)}
    versions = {name: metadata.version(name) for name in ("captcha", "numpy", "pillow")}
    manifest = Manifest(spec, files, fonts, versions)
    with (folder / MANIFEST).open("xb") as file:
        tree = {"fingerprint": manifest.fingerprint, **asdict(manifest), **({NOTE: note} if note else {})}
        file.write(json.dumps(tree, indent=2).encode() + b"\n")
        _sync(file)
    return manifest


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of the data set at `target`; other makers wait here."""
    with explain_disk(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with Lock(target.with_name(f".{target.name}.lock")):
        yield


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends well, and is gone when it does not.

    The caller holds the lock of `target`, so every partial folder found was left by a maker that died.
    """
    for stale in target.parent.glob(f"{target.name}.*.partial"):
        shutil.rmtree(stale)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        _put_in_place(partial, target)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _put_in_place(partial: Path, target: Path) -> None:
    _sync_folder(partial)
    if target.exists():
        old = partial.with_name(f"{target.name}.old.partial")  # swept up like a partial one, if we die here
        target.rename(old)
        partial.rename(target)
        shutil.rmtree(old)
    else:
        partial.rename(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def needed_bytes(spec: DatasetSpec) -> int:
    """Return the disk space that a data set takes, in bytes."""
    return spec.count * (3 * spec.size**2 + 8) + SPARE_BYTES


def check_disk(folder: Path, needed: int) -> None:
    """Raise MachineError if fewer than `needed` bytes are free where `folder` lies."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(_disk_full(folder, needed, free))


@contextmanager
def explain_disk(folder: Path, needed: int = SPARE_BYTES) -> Iterator[None]:
    """Turn what the system says about a full or closed disk into a MachineError that says what to do.

    Args:
        folder: where the block writes.
        needed: how many bytes the block writes.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise MachineError(_disk_full(folder, needed, shutil.disk_usage(folder).free)) from None
        reason = error.strerror or str(error)
        raise MachineError(f"{folder}: cannot write here: {reason}. Choose another place with --root.") from None


def _disk_full(folder: Path, needed: int, free: int) -> str:
    return (
        f"{folder}: the disk is full: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free. "
        "Free some space, or choose another disk with --root."
    )
