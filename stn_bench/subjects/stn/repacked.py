"""Model files as they come from other people: zipped again by a file manager, or cut short on the way.

Apart from what reads model files, since run keys hold that.
"""

from __future__ import annotations

import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stn_bench.system.errors import ModelFileError
from stn_bench.system.files import is_clutter

DAMAGED = (EOFError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)
ZIPPED = b"PK\x03\x04"
"""How a zip file begins."""


@contextmanager
def plainly_packed(path: Path) -> Iterator[Path]:
    """Lend a model file without the one folder that was put around all that is in it.

    Args:
        path: the file; one that is no zip file, or cannot be opened, is lent as it is.

    Raises:
        ModelFileError: if it is a zip file that was damaged.
    """
    folder = _folder_around(path)
    if not folder:
        yield path
        return
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, path.name)
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
            for name in _own(old):
                new.writestr(name.removeprefix(folder), old.read(name))
        yield copy


def _folder_around(path: Path) -> str:
    """Return the folder that all members lie in, with its slash, or ""."""
    try:
        with path.open("rb") as file:
            if file.read(len(ZIPPED)) != ZIPPED:
                return ""
        with zipfile.ZipFile(path) as packed:
            if packed.testzip():
                raise zipfile.BadZipFile
            folders = {name.partition("/")[0] for name in _own(packed)}
            is_around = len(folders) == 1 and all("/" in name for name in _own(packed))
            return f"{folders.pop()}/" if is_around else ""
    except DAMAGED:
        raise ModelFileError(f"{path}: is damaged, or was cut short; copy or download it again") from None
    except (OSError, RuntimeError):  # it cannot be read, or is encrypted, which its reader tells
        return ""


def _own(packed: zipfile.ZipFile) -> list[str]:
    """Return the names of the files in a zip file that no file manager added."""
    names = [name for name in packed.namelist() if not name.endswith("/")]
    return [name for name in names if not any(map(is_clutter, name.split("/")))]
