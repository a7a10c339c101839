"""Pictures that were read once, on disk: a folder with an array and a manifest, which appears whole or not at all.

pictures.npy   float32 (pictures, height, width, channels), 0..255
manifest.json  how they were read, and of which files
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stn_bench.subject import Numbers
from stn_bench.subjects.picture_folder.reading import Reading
from stn_bench.subjects.stn.data.store import SPARE_BYTES, check_disk, explain_disk, locked, new_folder
from stn_bench.system.errors import MachineError
from stn_bench.system.machine import children_without_main, training_environment
from stn_bench.system.signals import children_ignore_interrupts, follow_parent

ARRAY, MANIFEST = "pictures.npy", "manifest.json"

READ_AS = 1
"""Version of the reading in `decoding`; raise it when that gives other pixels, so that what was read is read again."""

CHUNK = 64
"""Pictures that are read at a time."""

Tell = Callable[[int], None]


@dataclass(frozen=True)
class Stored:
    """A place for pictures that are read in one way.

    Args:
        folder: where it lies.
        reading: how they are read.
    """

    folder: Path
    reading: Reading

    def known(self) -> Mapping[str, Any]:
        """Return the manifest, or an empty one where there is none, or the array is not the one that it was."""
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            size = (self.folder / ARRAY).stat().st_size
            return manifest if (manifest["read_as"], manifest["size"]) == (READ_AS, size) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def holds(self, content: str) -> bool:
        """Return whether files with this digest were read already."""
        return self.known().get("content") == content

    def open(self) -> Numbers:
        """Return the pictures, float32, `(pictures, height, width, channels)`; a read-only memory map."""
        pictures: Numbers = np.load(self.folder / ARRAY, mmap_mode="r", allow_pickle=False)
        return pictures

    def make(
        self, files: Sequence[Path], content: str, sources: Mapping[str, Any], processes: int, tell: Tell
    ) -> None:
        """Read pictures, unless they are read already.

        Args:
            files: the pictures.
            content: digest of all that is in them.
            sources: name -> what tells that a file is unchanged.
            processes: how many processes may read.
            tell: called with the number of pictures read so far.

        Raises:
            DataError: if one cannot be read.
            MachineError: if the disk is full, or a process is killed.
        """
        shape = (len(files), *self.reading.shape)
        needed = 4 * int(np.prod(shape)) + SPARE_BYTES
        with locked(self.folder), explain_disk(self.folder.parent, needed):
            if self.holds(content):
                return
            with new_folder(self.folder) as partial:
                check_disk(partial, needed)
                with (partial / ARRAY).open("xb") as file:
                    head = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, head)
                    done = 0
                    for pictures in read_all(files, self.reading, processes):
                        file.write(pictures.astype("<f4").tobytes())
                        done += len(pictures)
                        tell(done)
                    os.fsync(file.fileno())
                size = (partial / ARRAY).stat().st_size
                manifest = {"read_as": READ_AS, "size": size, "content": content, "sources": sources}
                (partial / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def stored_in(data: Path, source: Path, reading: Reading) -> Stored:
    """Return the place among all data for the pictures of a folder or table."""
    told = f"{source}\n{reading.model_dump_json()}".encode("utf-8", "surrogateescape")
    stem = "".join(one if one.isascii() and one.isalnum() else "-" for one in source.stem.lower())[:40].strip("-")
    return Stored(data / f"pictures-{stem or 'of'}-{hashlib.sha256(told).hexdigest()[:8]}", reading)


def read_all(files: Sequence[Path], reading: Reading, processes: int) -> Iterator[Numbers]:
    """Yield the pictures of files, some at a time, in their order.

    Other processes read them, so that a command need not load TensorFlow; one that has loaded it reads itself.
    """
    some = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    if "tensorflow" in sys.modules:
        return (_read(one, reading) for one in some)
    return _read_elsewhere(some, reading, min(processes, len(some)))


def _read(files: Sequence[Path], reading: Reading) -> Numbers:
    from stn_bench.subjects.picture_folder.decoding import read_pictures

    return read_pictures(files, reading)


def _read_elsewhere(some: Sequence[Sequence[Path]], reading: Reading, processes: int) -> Iterator[Numbers]:
    spawn = multiprocessing.get_context("spawn")  # TensorFlow does not survive fork
    with children_ignore_interrupts():  # its locks start a helper of Python's
        pool = ProcessPoolExecutor(max(1, processes), mp_context=spawn, initializer=_begin)
    try:
        with children_ignore_interrupts(), children_without_main():
            futures = [pool.submit(_read, one, reading) for one in some]
        for number, future in enumerate(futures):
            yield future.result()
            futures[number] = None  # type: ignore[call-overload]  # what was written need not be kept
    except BrokenProcessPool as error:
        raise MachineError(
            f"a process that reads pictures was killed ({error}). If memory ran out, use fewer"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    follow_parent()
    os.environ.update(training_environment(1))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())  # TensorFlow writes there whatever it is told; errors go another way
