"""Make, open and split a data set: pictures drawn once, shared by every worker as a memory map."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stn_bench.subjects.stn.data import store
from stn_bench.subjects.stn.data.spec import DRAWN, Chunk, DatasetSpec, Labels, Picture
from stn_bench.system.errors import DataError
from stn_bench.system.text import did_you_mean

if TYPE_CHECKING:
    from stn_bench.subjects.stn.config import DataConfig

__all__ = [
    "Dataset",
    "DatasetSpec",
    "Pictures",
    "Progress",
    "Split",
    "imported_names",
    "is_drawn_name",
    "make_dataset",
    "open_dataset",
    "read_fingerprint",
]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of pictures done so far, and in all."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pictures:
    """Some pictures and their labels.

    Args:
        images: uint8, `(batch, height, width, 3)`, RGB.
        labels: int64, `(batch,)`, indices into the alphabet.
    """

    images: Picture
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Split:
    """The three parts of a data set; no picture is in two of them."""

    train: Pictures
    validation: Pictures
    test: Pictures


@dataclass(frozen=True)
class Dataset:
    """A data set on disk, opened.

    Args:
        spec: what it is made of.
        images: uint8, `(count, size, size, 3)`, RGB; a read-only memory map.
        labels: int64, `(count,)`, indices into `spec.alphabet`.
        fingerprint: SHA-256 of all that is stored, in hexadecimal.
        folder: where it lies.
    """

    spec: DatasetSpec
    images: Picture
    labels: Labels
    fingerprint: str
    folder: Path

    def split(self, config: DataConfig) -> Split:
        """Return training, validation and test pictures, in this order by index.

        Raises:
            DataError: if `config` counts more pictures than there are.
        """
        if config.count > len(self.labels):
            raise DataError(
                f"{self.folder}: `data.count` is {config.count:,}, but there are {len(self.labels):,} pictures. "
                f"Set data.count={len(self.labels)} or less."
            )
        test = config.count - config.test
        validation = test - config.validation
        return Split(
            train=self._part(0, validation),
            validation=self._part(validation, test),
            test=self._part(test, config.count),
        )

    def _part(self, start: int, stop: int) -> Pictures:
        return Pictures(self.images[start:stop], self.labels[start:stop])


def make_dataset(
    spec: DatasetSpec,
    root: Path,
    *,
    processes: int = 1,
    on_progress: Progress | None = None,
) -> Dataset:
    """Return the data set, verified; where it is missing or damaged it is drawn first.

    Several makers may call this at once: one draws, the others wait and then open what it drew.

    Args:
        spec: what to make.
        root: the folder of all data sets.
        processes: how many processes draw; the bytes do not depend on it.
        on_progress: called with the number of pictures drawn so far and in all; never called when nothing is drawn.

    Raises:
        DataError: if a font is missing, or an imported data set is missing, damaged or does not fit `spec`.
        MachineError: if the disk is full or cannot be written.
    """
    if spec.source != DRAWN:
        _read_sound_manifest(spec, root, store.check_content)
        return open_dataset(spec, root)
    # Imported late, here and below: opening a data set, as workers do, needs no drawing library.
    from stn_bench.subjects.stn.data.render import font_digests

    folder, fonts = root / spec.folder_name, font_digests(spec.fonts)
    if _find_damage(folder, spec, fonts):
        with store.locked(folder):
            damage = _find_damage(folder, spec, fonts)  # again: another maker may have been faster
            if damage and folder.exists():
                logger.warning("%s; the pictures are drawn again", damage)
            if damage:
                _draw(folder, spec, fonts, processes, on_progress)
    return open_dataset(spec, root)


def open_dataset(spec: DatasetSpec, root: Path) -> Dataset:
    """Return a data set that was made before; its files' sizes and forms are checked, not their checksums.

    Raises:
        DataError: if it is missing, cut short, of another form, or, being imported, does not fit `spec`.
    """
    folder = root / spec.folder_name
    manifest = _read_sound_manifest(spec, root, store.check_sizes)
    _check_fit(spec, manifest.spec, folder)
    try:
        images, stored = store.read_arrays(folder, manifest)
    except DataError as error:
        raise DataError(f"{error}. {_how_to_make(spec)}") from None
    labels = _translate(stored[: spec.count], manifest.spec.alphabet, spec)
    labels.setflags(write=False)
    return Dataset(spec, images[: spec.count], labels, manifest.fingerprint, folder)


def read_fingerprint(spec: DatasetSpec, root: Path) -> str | None:
    """Return the fingerprint of a data set by its manifest alone, or None where there is no sound manifest."""
    try:
        return store.read_manifest(root / spec.folder_name).fingerprint
    except DataError:
        return None


def imported_names(root: Path) -> list[str]:
    """Return the names of the data sets that were imported into `root`, sorted."""
    folders = [path.parent for path in root.glob(f"*/{store.MANIFEST}")]
    return sorted(folder.name for folder in folders if not is_drawn_name(folder.name) and "." not in folder.name)


def is_drawn_name(name: str) -> bool:
    """Return whether `name` is the drawn source, or could be the folder of a drawn data set."""
    return name == DRAWN or name.startswith(f"{DRAWN}-")


def _find_damage(folder: Path, spec: DatasetSpec, fonts: tuple[str, ...]) -> str | None:
    try:
        manifest = store.read_manifest(folder)
        store.check_content(folder, manifest)
        store.read_arrays(folder, manifest)
    except DataError as error:
        return str(error)
    if manifest.spec != spec:
        return f"{folder}: was made from other settings"
    return None if manifest.fonts == fonts else f"{folder}: was drawn with fonts that have changed since"


def _draw(
    folder: Path, spec: DatasetSpec, fonts: tuple[str, ...], processes: int, on_progress: Progress | None
) -> None:
    from stn_bench.subjects.stn.data.parallel import render_chunks

    needed = store.needed_bytes(spec)
    with store.explain_disk(folder.parent, needed), store.new_folder(folder) as partial:
        store.check_disk(partial, needed)
        with closing(render_chunks(spec, processes)) as chunks:
            store.write_arrays(partial, spec, _report_progress(chunks, spec.count, on_progress))
        store.write_manifest(partial, spec, fonts=fonts)


def _report_progress(chunks: Iterable[Chunk], total: int, on_progress: Progress | None) -> Iterator[Chunk]:
    done = 0
    for images, labels in chunks:
        yield images, labels
        done += len(labels)
        if on_progress:
            on_progress(done, total)


def _read_sound_manifest(
    spec: DatasetSpec, root: Path, check: Callable[[Path, store.Manifest], None]
) -> store.Manifest:
    folder = root / spec.folder_name
    if not folder.is_dir():
        raise DataError(_say_missing(spec, root))
    try:
        manifest = store.read_manifest(folder)
        check(folder, manifest)
    except DataError as error:
        raise DataError(f"{error}. {_how_to_make(spec)}") from None
    return manifest


def _say_missing(spec: DatasetSpec, root: Path) -> str:
    if spec.source == DRAWN:
        return f"{root / spec.folder_name}: these pictures were not made yet. {_how_to_make(spec)}"
    nearest = did_you_mean(spec.source, imported_names(root))
    return f"`data.source`: no data set `{spec.source}` in {root}.{nearest} {_how_to_make(spec)}"


def _how_to_make(spec: DatasetSpec) -> str:
    command = "make" if spec.source == DRAWN else f"import FOLDER --name {spec.source}"
    return f"Run: stn-bench data {command}"


def _check_fit(spec: DatasetSpec, stored: DatasetSpec, folder: Path) -> None:
    misfit = _find_misfit(spec, stored)
    if misfit:
        raise DataError(f"{folder}: {misfit}.")


def _find_misfit(spec: DatasetSpec, stored: DatasetSpec) -> str | None:
    if is_drawn_name(stored.source):
        return None if stored == spec else 'was drawn from other settings. Set data.source="captcha" to draw its like'
    if stored.count < spec.count:
        return f"`data.count` is {spec.count:,}, but it has {stored.count:,} pictures. Set data.count={stored.count}"
    if stored.size != spec.size:
        return f"`data.size` is {spec.size}, but it was imported at {stored.size}. Set data.size={stored.size}"
    if spec.pad_byte not in (None, stored.pad_byte):
        return f"`data.pad` asks for byte {spec.pad_byte}, but it was imported with {stored.pad_byte}. Import it again"
    return None


def _translate(labels: Labels, alphabet: str, spec: DatasetSpec) -> Labels:
    if alphabet == spec.alphabet:
        return labels
    indices = np.array([spec.alphabet.find(character) for character in alphabet], np.int64)
    translated: Labels = indices[labels]
    if (translated < 0).any():
        lacking = "".join(alphabet[label] for label in np.unique(labels[translated < 0]))
        raise DataError(
            f"data set `{spec.source}`: its labels {lacking!r} are not in `data.alphabet` {spec.alphabet!r}. "
            f'Set data.alphabet="{alphabet}".'
        )
    return translated
