"""Transparent pictures, in every format that has some: what a viewer shows of them, by numpy's own arithmetic."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import call
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stn_bench.settings import override
from stn_bench.subjects.stn.commands import _ground_of
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.pictures import read_picture
from stn_bench.subjects.stn.data.spec import Picture
from stn_bench.system.errors import DataError
from stn_bench.system.workspace import Workspace

GROUNDS = ((255, 255, 255), (0, 0, 0), (10, 200, 30))
INK = (slice(4, 9), slice(2, 5))


def letter() -> Picture:
    """Return black ink on transparent black, and a half transparent red pixel: RGBA, (12, 8, 4)."""
    picture = np.zeros((12, 8, 4), np.uint8)
    picture[*INK, 3] = 255
    picture[0, 0] = 255, 0, 0, 128
    return picture


def hard() -> Picture:
    """Return the same without the half transparent pixel: for formats that know only all or nothing."""
    picture = letter()
    picture[0, 0] = 0
    return picture


def laid(picture: Picture, ground: tuple[int, int, int]) -> NDArray[np.float64]:
    alpha = picture[..., 3:] / 255
    shown: NDArray[np.float64] = picture[..., :3] * alpha + np.array(ground) * (1 - alpha)
    return shown


def png(path: Path, kind: int, pixels: NDArray[np.integer], key: bytes = b"", depth: int = 0, width: int = 0) -> None:
    """Write a PNG of a colour type by hand, with its transparent colour; of packed pixels, depth and width too."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = len(pixels), width or pixels.shape[1]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, depth or 8 * pixels.dtype.itemsize, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"tRNS", key) if key else b"", chunk(b"IDAT", zlib.compress(rows))]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))


def packed_grey(path: Path, depth: int) -> None:
    """Write a grey PNG of less than 8 bits with a transparent value that is not the largest."""
    key = 2**depth - 2
    values = np.where(hard()[..., 3] > 0, 0, key).astype(np.uint8)
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    png(path, 0, np.packbits(bits.reshape(len(values), -1), axis=1), struct.pack(">H", key), depth, values.shape[1])


def small_frame(path: Path) -> None:
    """Write a GIF whose one frame, of ink alone, leaves the rest of its screen open."""
    rows, columns = INK
    size = (columns.stop - columns.start, rows.stop - rows.start)
    Image.new("P", size, 0).save(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<HH", content, 6, 8, 12)
    struct.pack_into("<HH", content, content.index(struct.pack("<BHH", 0x2C, 0, 0)) + 1, columns.start, rows.start)
    path.write_bytes(content)


def tiff(path: Path, pixels: NDArray[np.integer], extra: int) -> None:
    """Write a grey TIFF by hand, whose second sample is what `extra` says: 1 and 2 are alpha, 1 multiplied in."""
    (height, width, samples), bits, raw = pixels.shape, 8 * pixels.dtype.itemsize, pixels.tobytes()
    tags = {256: width, 257: height, 258: bits | bits << 16, 259: 1, 262: 1, 273: 0, 277: samples, 278: height}
    tags |= {279: len(raw), 284: 1, 338: extra}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = [
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 2 if tag == 258 else 1, value) for tag, value in tags.items()
    ]
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4) + raw)


def deep(picture: Picture) -> NDArray[np.uint16]:
    return (picture.astype(np.uint16) * 257).astype(">u2")


def keyed(dtype: str, key: int) -> NDArray[np.integer]:
    """Return grey pixels of ink and of a key."""
    return np.where(hard()[..., 3] > 0, 0, key).astype(dtype)


def palette(path: Path, transparency: int | bytes) -> None:
    image = Image.fromarray(np.where(hard()[..., 3] > 0, 0, 1).astype(np.uint8))
    image = image.copy()
    image.putpalette([0] * 6)
    image.save(path, transparency=transparency)


SOFT: dict[str, Callable[[Path], None]] = {
    "rgba.png": lambda path: Image.fromarray(letter()).save(path),
    "rgba16.png": lambda path: png(path, 6, deep(letter())),
    "rgba.tiff": lambda path: Image.fromarray(letter()).save(path),
    "rgba.webp": lambda path: Image.fromarray(letter()).save(path, lossless=True, exact=True),
}
HARD: dict[str, Callable[[Path], None]] = {
    "la.png": lambda path: Image.fromarray(hard()).convert("LA").save(path),
    "la16.png": lambda path: png(path, 4, deep(hard())[..., [0, 3]]),
    "la.tiff": lambda path: Image.fromarray(hard()).convert("LA").save(path),
    "grey_key.png": lambda path: png(path, 0, keyed("u1", 7), struct.pack(">H", 7)),
    "grey16_key.png": lambda path: png(path, 0, keyed(">u2", 1234), struct.pack(">H", 1234)),
    "rgb16_key.png": lambda path: png(
        path, 2, np.dstack([keyed(">u2", 1234)] * 3).astype(">u2"), struct.pack(">HHH", 1234, 1234, 1234)
    ),
    "grey2_key.png": lambda path: packed_grey(path, 2),
    "grey4_key.png": lambda path: packed_grey(path, 4),
    "la_multiplied.tiff": lambda path: tiff(path, hard()[..., [0, 3]], 1),
    "small_frame.gif": small_frame,
    "palette.png": lambda path: palette(path, 1),
    "palette_table.png": lambda path: palette(path, bytes([255, 0])),
    "palette.gif": lambda path: palette(path, 1),
}
CASES = [(name, make, letter()) for name, make in SOFT.items()] + [(name, make, hard()) for name, make in HARD.items()]


def is_refused(path: Path) -> bool:
    """Whether a picture is refused, as older versions of Pillow know no grey TIFF whose alpha is multiplied in."""
    try:
        with Image.open(path):
            return False
    except UnidentifiedImageError:
        with pytest.raises(DataError, match="a TIFF whose transparency cannot be read; save it as PNG"):
            read_picture(path)
        return path.name == "la_multiplied.tiff"


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize(("name", "make", "picture"), CASES, ids=[name for name, *_ in CASES])
def test_a_transparent_picture_lies_on_the_ground(
    name: str, make: Callable[[Path], None], picture: Picture, ground: tuple[int, int, int], tmp_path: Path
) -> None:
    make(tmp_path / name)
    if not is_refused(tmp_path / name):
        np.testing.assert_allclose(read_picture(tmp_path / name, ground), laid(picture, ground), atol=1)


@pytest.mark.parametrize(("name", "make", "picture"), CASES, ids=[name for name, *_ in CASES])
def test_unless_set_the_ground_is_white(
    name: str, make: Callable[[Path], None], picture: Picture, tmp_path: Path
) -> None:
    make(tmp_path / name)
    if not is_refused(tmp_path / name):
        np.testing.assert_allclose(read_picture(tmp_path / name), laid(picture, (255, 255, 255)), atol=1)


def test_a_transparency_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """OpenCV reads such a TIFF, and drops its alpha without a word."""
    tiff(tmp_path / "la16.tiff", deep(hard())[..., [0, 3]].astype("<u2"), 2)
    with pytest.raises(DataError, match=r"la16\.tiff: a TIFF whose transparency cannot be read; save it as PNG"):
        read_picture(tmp_path / "la16.tiff")


def test_an_opaque_picture_is_what_it_was(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    picture[..., 3] = 255
    Image.fromarray(picture).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "opaque.png", (1, 2, 3)), picture[..., :3])


def test_a_turned_picture_is_turned_on_its_ground_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    Image.fromarray(letter()).save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(laid(letter(), (255, 255, 255)), -1)
    np.testing.assert_allclose(read_picture(tmp_path / "turned.png"), expected, atol=1)


@pytest.mark.parametrize("ground", ["", "black", "#0ac81e"])
def test_import_stores_the_letter_and_its_ground(ground: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = Image.fromarray(hard()).resize((20, 20), Image.Resampling.NEAREST)
    image.save(tmp_path / "in" / "0001_A.png")
    asked = ("--ground", ground) if ground else ()
    given = ("--set", "data.size=20", "--set", "data.alphabet=AB", "--root", tmp_path)
    assert call("data", "import", tmp_path / "in", "--name", "mine", *given, *asked) == 0
    stored = np.load(tmp_path / "mlruns/datasets/mine/images.npy")[0]
    behind = {"": (255, 255, 255), "black": (0, 0, 0), "#0ac81e": (10, 200, 30)}[ground]
    np.testing.assert_array_equal(stored, laid(np.asarray(image), behind))


@pytest.mark.parametrize("ground", ["", "black", "#0ac81e"])
def test_a_model_reads_pictures_on_the_ground_that_its_own_lay_on(ground: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(hard()).save(tmp_path / "in" / "0001_A.png")
    given = ("--set", "data.size=20", "--set", "data.alphabet=AB", "--root", tmp_path)
    assert (
        call("data", "import", tmp_path / "in", "--name", "mine", *given, *(("--ground", ground) * bool(ground))) == 0
    )
    behind = {"": (255, 255, 255), "black": (0, 0, 0), "#0ac81e": (10, 200, 30)}[ground]
    assert _ground_of(override(Config(), {"data.source": "mine"}), Workspace.at(tmp_path)) == behind
    assert _ground_of(override(Config(), {"data.source": "gone"}), Workspace.at(tmp_path)) == (255, 255, 255)
    assert _ground_of(Config(), Workspace.at(tmp_path)) == (255, 255, 255)
