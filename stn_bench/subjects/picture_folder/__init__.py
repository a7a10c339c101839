"""Pictures in folders as the data of a Keras model: one folder a class, or a table of file and label.

    pets = PictureFolder("pets", image_size=(48, 64), color_mode="grayscale")
    subject = KerasModel(Pets, data=pets, build=build, loss="sparse_categorical_crossentropy", metrics=["accuracy"])

They are read once, as Keras' `image_dataset_from_directory` reads them, and kept as one array; the run key holds what
is in the files. Importing this module loads no Keras.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stn_bench.settings import canonical
from stn_bench.subject import DataNote, Lent, Numbers
from stn_bench.subjects.labelled import Listing, list_pictures
from stn_bench.subjects.picture_folder.reading import Reading, Shares, told
from stn_bench.subjects.picture_folder.split import Parts, lacking, split
from stn_bench.subjects.picture_folder.store import READ_AS, Stored, read_all, stored_in
from stn_bench.system.errors import ConfigError, DataError, MachineError, StnBenchError
from stn_bench.system.format import counted, listed
from stn_bench.system.machine import disk_full
from stn_bench.system.own_code import digest_of, own_lines, reason
from stn_bench.system.text import did_you_mean, printable, shorten

MARK = ".drawn"
"""File in a folder that `make` filled: by which code."""


@dataclass(frozen=True)
class _Found:
    """The pictures as they are now.

    Args:
        listing: the files and their labels.
        digests: SHA-256 of each file.
        sources: name -> size, times and digest of the file.
    """

    listing: Listing
    digests: tuple[str, ...]
    sources: Mapping[str, tuple[Any, ...]]

    @property
    def content(self) -> str:
        """Digest of all files behind their names."""
        names = [one.name for one in self.listing.pictures]
        return hashlib.sha256(canonical(list(zip(names, self.digests, strict=True))).encode()).hexdigest()


class PictureFolder:
    """Pictures in folders, as the `data` of a `KerasModel`, which takes its other hooks along.

    x is float32 0..255, `(pictures, height, width, channels)`, and y int32, places in `class_names`. Each option of
    how pictures are read may be a function of the settings, as in `color_mode=lambda settings: settings.color`. Pixels
    are Keras' own, but for pictures that Keras shows otherwise than a viewer does: transparent pixels are laid on
    `ground`, and a photo is turned as its EXIF note says. `ground=None, upright=False` leaves them as Keras has them.

    The parts are those that the folder (train, validation, test, with class folders in each) or the table (a column
    `part`) gives. A part that is not given is drawn from training: of each class a share, by name and `seed`, the
    same for every run. Copies of a picture, byte for byte, stay in one part.

    Args:
        source: a folder with one folder a class, or a CSV table with columns file and label; a relative path begins at
            the module that makes this object.
        image_size: height and width, in pixels; one number is both.
        color_mode: "rgb", "grayscale" or "rgba".
        interpolation: as in Keras, "bilinear" and others.
        crop_to_aspect_ratio: cut off what is too long, instead of stretching.
        pad_to_aspect_ratio: put black around what is too short, instead of stretching.
        ground: colour behind transparent pixels, 0..255; None: the colour that the file has there.
        upright: whether a picture is turned as its EXIF note says.
        validation: fraction of each class for validation, where none is given.
        test: fraction of each class for the test, where none is given.
        seed: drives which are drawn; "run": the seed of the run does, so that each seed has a split of its own.
        make: folder -> None; fills the folder where it is missing, with pictures that are drawn or bought.

    Raises:
        ConfigError: if an option is none that it can be.
    """

    example = "picture"

    def __init__(
        self,
        source: str | Path,
        *,
        image_size: Any,
        color_mode: Any = "rgb",
        interpolation: Any = "bilinear",
        crop_to_aspect_ratio: Any = False,
        pad_to_aspect_ratio: Any = False,
        ground: Any = (255, 255, 255),
        upright: Any = True,
        validation: float = 0.15,
        test: float = 0.15,
        seed: Any = 0,
        make: Callable[[Path], None] | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            known = (one for one in inspect.signature(PictureFolder).parameters if one != "unknown")
            raise ConfigError(f"PictureFolder: no argument `{shorten(name)}`.{did_you_mean(name, known)}")
        home = sys._getframe(1).f_globals.get("__file__")
        self.source = (Path(home).parent if home else Path()).absolute() / Path(source).expanduser()
        self._options = {
            "image_size": image_size,
            "color_mode": color_mode,
            "interpolation": interpolation,
            "crop_to_aspect_ratio": crop_to_aspect_ratio,
            "pad_to_aspect_ratio": pad_to_aspect_ratio,
            "ground": ground,
            "upright": upright,
        }
        self._shares = told(Shares, validation=validation, test=test, seed=seed)
        self._make = make
        if not any(map(callable, self._options.values())):
            self.reading(None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, sorted; a label is a place there.

        Raises:
            DataError: if there are no pictures.
        """
        return self._list().classes

    def reading(self, settings: Any) -> Reading:
        """Return how pictures are read with some settings.

        Raises:
            ConfigError: if an option is none that it can be.
        """
        values = {name: one(settings) if callable(one) else one for name, one in self._options.items()}
        if isinstance(size := values["image_size"], int):
            values["image_size"] = (size, size)
        return told(Reading, **values)

    def __call__(self, settings: Any, seed: int = 0, folder: Path | None = None) -> dict[str, tuple[Numbers, Numbers]]:
        """Return part -> (x, y).

        Args:
            settings: the settings.
            seed: the seed of the run, which drives the split where it was told to.
            folder: the folder of all data, where they are read once; None: they are read now and not kept.

        Raises:
            DataError: if a picture, or the folder as a whole, cannot be used.
        """
        reading = self.reading(settings)
        stored = stored_in(folder, self.source, reading) if folder else None
        found = self._look(stored)
        parts = self._split(found, seed)
        if stored:
            self._read_into(stored, found, Lent(stored.folder.parent))
            pictures = stored.open()
        else:
            pictures = np.concatenate(list(read_all([one.file for one in found.listing.pictures], reading, 1)))
        classes = {name: label for label, name in enumerate(found.listing.classes)}
        labels = np.array([classes[one.label] for one in found.listing.pictures], np.int32)
        return {part: (np.ascontiguousarray(pictures[places]), labels[places]) for part, places in parts.items()}

    # What a KerasModel takes along ----------------------------------------------------------------------------------

    def count(self, settings: Any, part: str) -> int:
        """Return the number of pictures in a part."""
        return len(self._split(self._look()).get(part, ()))

    def lacks(self, part: str) -> bool:
        """Return whether a part has no pictures; pictures that are still to be made are not looked at.

        Raises:
            DataError: if the folder as a whole cannot be used.
        """
        if self._make and not self.source.exists():
            return False
        return not self._split(self._look()).get(part)

    def prepare(self, settings: Sequence[Any], lent: Lent) -> None:
        """Read the pictures, unless they are read already.

        Raises:
            DataError: if a picture, or the folder as a whole, cannot be used.
        """
        for reading in dict.fromkeys(map(self.reading, settings)):
            stored = stored_in(lent.data, self.source, reading)
            found = self._look(stored)
            self._split(found)
            self._read_into(stored, found, lent)

    def fingerprint(self, settings: Any, data: Path) -> str | None:
        """Return the SHA-256 of what is read, or None as long as it was never read, or is not there to be compared."""
        reading = self.reading(settings)
        stored = stored_in(data, self.source, reading)
        if not stored.known() or not self.source.exists():
            return None
        try:
            found = self._look(stored)
            parts = self._split(found)
        except DataError:
            return None  # whoever trains is told
        told_apart = {place: part for part, places in parts.items() for place in places}
        pictures = [
            [one.name, one.label, digest, "" if self._shares.seed == "run" else told_apart[place]]
            for place, (one, digest) in enumerate(zip(found.listing.pictures, found.digests, strict=True))
        ]
        how = {"read_as": READ_AS, "reading": reading.model_dump(mode="json"), "pictures": pictures}
        how |= {"shares": self._shares.model_dump(mode="json")} if self._shares.seed == "run" else {}
        return hashlib.sha256(canonical(how).encode()).hexdigest()

    def originals(self, settings: Any, data: Path) -> Iterator[Path]:
        """Yield the pictures, and the table that names them; none where `make` fills the folder."""
        if self._make:
            return
        if self.source.is_file():
            yield self.source
        yield from (one.file for one in self._list().pictures)

    def describe(self, settings: Any) -> DataNote:
        """Return what a page says of the pictures."""
        reading = self.reading(settings)
        try:
            listing: Listing | None = list_pictures(self.source)
        except DataError:
            listing = None
        given = {one.part for one in listing.pictures} - {""} if listing else set()
        parts = f"{listed(sorted(given))} as given" if given else ""
        words = [f"pictures in {self.source.name}, {reading.words}", parts, self._shares.words(given)]
        return DataNote(
            name=shorten(self.source.name),
            title=printable("; ".join(filter(None, words))),
            shape=(len(listing.pictures), *reading.shape) if listing else (),
            classes=len(listing.classes) if listing else 0,
            example=self.example,
            source=shorten(self.source.name),
        )

    def split(self, settings: Any, data: Path) -> str:
        """See that the pictures can be split; how they are is said with what they are.

        Raises:
            DataError: if the folder as a whole cannot be used.
        """
        if self.source.exists() or not self._make:
            self._split(self._look(stored_in(data, self.source, self.reading(settings))))
        return ""

    def caveats(self, settings: Any, base: Any) -> Iterator[str]:
        """Yield what a reader should know of the pictures, once: with the base."""
        if base is not None or not self.source.exists():
            return
        try:
            found = self._look()
            parts = self._split(found)
        except DataError:  # a report tells of runs that were trained before
            return
        yield from _caveats(found, parts)

    # What is there --------------------------------------------------------------------------------------------------

    def _read_into(self, stored: Stored, found: _Found, lent: Lent) -> None:
        """Read the pictures to where they are kept, unless they are there."""
        if not stored.holds(found.content):
            files = [one.file for one in found.listing.pictures]
            tell = functools.partial(_tell, lent, self.source.name, len(files))
            stored.make(files, found.content, found.sources, lent.processes, tell)

    def _split(self, found: _Found, seed: int = 0) -> Parts:
        own = seed if self._shares.seed == "run" else None
        return split(str(self.source), found.listing.pictures, found.digests, self._shares, own)

    def _list(self) -> Listing:
        if self._make:
            _fill(self.source, self._make)
        return list_pictures(self.source)

    def _look(self, stored: Stored | None = None) -> _Found:
        """Return the pictures as they are now; files that are as they were when they were read are not read again."""
        listing = self._list()
        known = stored.known().get("sources", {}) if stored else {}
        sources = {one.name: _source(one.file, known.get(one.name, ())) for one in listing.pictures}
        return _Found(listing, tuple(sources[one.name][-1] for one in listing.pictures), sources)


def _tell(lent: Lent, name: str, count: int, done: int) -> None:
    lent.tell(name, done, count)


def _source(file: Path, known: Sequence[Any]) -> tuple[Any, ...]:
    """Return size, times and SHA-256 of a file; the last is what it was where the others are.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{file}: is no file, though its name is one of a picture")
        state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return (*state, known[-1] if tuple(known[:-1]) == state else _digest(file, *state))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None


@functools.lru_cache(maxsize=200_000)
def _digest(file: Path, size: int, changed: int, touched: int) -> str:
    """Return the SHA-256 of a file, once as long as size and times are the same."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    """Let `make` fill a folder that is missing: in one beside, so that it is there as a whole or not.

    Raises:
        DataError: if it fails, or its code is not the one that filled the folder.
    """
    mark, code = folder / MARK, digest_of(make)
    if folder.exists():
        if mark.exists() and mark.read_text(encoding="utf-8").strip() != code:
            raise DataError(f"{folder}: was filled by other code than that of `make` today; remove it to fill it anew")
        return
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        _call(make, partial)
        (partial / MARK).write_text(code, encoding="utf-8")
        with contextlib.suppress(OSError):  # another process was quicker
            partial.rename(folder)
    except OSError as error:
        raise disk_full(error) or MachineError(f"{folder}: cannot be filled ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _call(make: Callable[[Path], None], folder: Path) -> None:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            make(folder)
    except StnBenchError:
        raise
    except Exception as error:
        raise disk_full(error) or DataError(
            f"{folder}: its `make` failed ({reason(error)}){own_lines(error)}"
        ) from error


def _caveats(found: _Found, parts: Parts) -> Iterator[str]:
    pictures = found.listing.pictures
    for part, label in lacking(pictures, parts):
        yield f"No {part} picture shows class {shorten(label)}."
    for part in ("validation", "test"):
        earlier = ["train", *(["validation"] if part == "test" else [])]
        known = {found.digests[place] for other in earlier for place in parts.get(other, ())}
        if shared := sum(found.digests[place] in known for place in parts.get(part, ())):
            are, where = "is" if shared == 1 else "are", " or ".join(["training", *earlier[1:]])
            yield f"{counted(shared, f'{part} picture')} {are} in {where} too, byte for byte."
    labels: dict[str, set[str]] = {}
    for one, digest in zip(pictures, found.digests, strict=True):
        labels.setdefault(digest, set()).add(one.label)
    if several := sum(len(one) > 1 for one in labels.values()):
        yield f"{counted(several, 'picture')} {'is' if several == 1 else 'are'} in more than one class, byte for byte."
    if others := found.listing.left_out:
        yield (
            f"{counted(len(others), 'file')} of other kinds, such as {shorten(others[0])}, "
            f"{'was' if len(others) == 1 else 'were'} left out: Keras reads no such pictures from a folder."
        )


__all__ = ["PictureFolder"]
