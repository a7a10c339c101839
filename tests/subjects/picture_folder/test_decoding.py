"""Pixels against Keras' own reader where that shows what a viewer shows, and against Pillow where it does not."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from albums import noise, save
from PIL import Image, ImageOps

from stn_bench.subjects.labelled import list_pictures
from stn_bench.subjects.picture_folder.decoding import read_picture, read_pictures
from stn_bench.subjects.picture_folder.reading import Reading
from stn_bench.system.errors import DataError

SIZE = (12, 17)


def fill(folder: Path, *, grey: bool) -> Path:
    """Fill a folder with all that Keras reads in a colour mode, of several sizes, in two classes."""
    for index, (height, width) in enumerate([(20, 30), (30, 20), (8, 8), (12, 17)]):
        picture = noise(height, width, index)
        for mode in ("RGB", "L"):
            one = picture.convert(mode)
            save(one, folder / mode / f"{index}.png")
            save(one, folder / mode / f"{index}.jpg", quality=80)
            save(one, folder / mode / "deep" / "deeper" / f"{index}.JPEG", progressive=True)
            if not grey:
                save(one, folder / mode / f"{index}.gif")
        if not grey:
            save(picture, folder / "RGB" / f"{index}.bmp")
            save(picture.convert("CMYK"), folder / "RGB" / f"{index}-cmyk.jpg")
        save(picture.convert("P"), folder / "RGB" / f"{index}-palette.png")
        save(Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257), folder / "L" / f"{index}-16.png")
        save(picture.convert("1"), folder / "L" / f"{index}-1.png")
    return folder


def read_by_keras(folder: Path, reading: Reading) -> tuple[Any, Any, Any, Any]:
    """Return pictures, labels, files and class names as Keras has them."""
    dataset = keras.utils.image_dataset_from_directory(
        str(folder),
        shuffle=False,
        batch_size=None,
        verbose=False,
        **reading.model_dump(exclude={"ground", "upright"}),
    )
    pictures, labels = zip(*((x.numpy(), y.numpy()) for x, y in dataset), strict=True)
    return np.stack(pictures), list(labels), dataset.file_paths, dataset.class_names


@pytest.mark.parametrize("color_mode", ["rgb", "grayscale"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"crop_to_aspect_ratio": True},
        {"pad_to_aspect_ratio": True},
        {"interpolation": "nearest"},
        {"interpolation": "area"},
        {"interpolation": "bicubic", "crop_to_aspect_ratio": True},
    ],
    ids=str,
)
def test_pixels_labels_and_order_are_those_of_keras(tmp_path: Path, color_mode: Any, more: dict[str, Any]) -> None:
    folder, reading = (
        fill(tmp_path, grey=color_mode == "grayscale"),
        Reading(image_size=SIZE, color_mode=color_mode, **more),
    )
    pictures, labels, files, classes = read_by_keras(folder, reading)
    listing = list_pictures(folder)
    assert [str(one.file) for one in listing.pictures] == files
    assert [listing.classes.index(one.label) for one in listing.pictures] == labels
    assert list(listing.classes) == classes
    read = read_pictures([one.file for one in listing.pictures], reading)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, pictures)


def test_with_alpha_pixels_are_those_of_keras_too(tmp_path: Path) -> None:
    for index in range(2):
        picture = noise(seed=index)
        picture.putalpha(noise(seed=9).convert("L"))
        save(picture, tmp_path / "a" / f"{index}.png")
        save(noise(), tmp_path / "b" / f"{index}.png")
    for reading in (
        Reading(image_size=SIZE, color_mode="rgba"),
        Reading(image_size=SIZE, ground=None),
        Reading(image_size=SIZE, color_mode="grayscale", ground=None),
    ):
        files = [one.file for one in list_pictures(tmp_path).pictures]
        np.testing.assert_array_equal(read_pictures(files, reading), read_by_keras(tmp_path, reading)[0])


# Where a viewer shows something else --------------------------------------------------------------------------------


def opened(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        picture.load()
        return picture


def exactly(height: int = 20, width: int = 30, **more: Any) -> Reading:
    """Return a reading that leaves the size as it is."""
    return Reading(image_size=(height, width), **more)


def test_transparent_pixels_lie_on_the_ground(tmp_path: Path) -> None:
    picture = noise()
    picture.putalpha(Image.fromarray(np.where(np.arange(600).reshape(20, 30) % 2, 255, 0).astype(np.uint8)))
    file = save(picture, tmp_path / "a.png")
    seen = np.asarray(picture)[..., 3:] == 255
    for ground in ((255, 255, 255), (10, 20, 30)):
        expected = np.where(seen, np.asarray(noise()), ground)
        np.testing.assert_array_equal(read_picture(file, exactly(ground=ground)), expected)


def test_half_transparent_pixels_are_mixed_with_the_ground(tmp_path: Path) -> None:
    picture = noise()
    picture.putalpha(128)
    read = read_picture(save(picture, tmp_path / "a.png"), exactly())
    expected = np.asarray(noise(), float) * 128 / 255 + 255 * 127 / 255
    assert np.abs(read - expected).max() <= 1


def test_a_transparent_colour_of_a_palette_lies_on_the_ground(tmp_path: Path) -> None:
    palette = noise().quantize(4)
    for name in ("a.png", "a.gif"):
        read = read_picture(save(palette, tmp_path / name, transparency=2), exactly())
        clear = np.asarray(palette) == 2
        assert clear.any()
        np.testing.assert_array_equal(read[clear], np.full((clear.sum(), 3), 255))
        np.testing.assert_array_equal(read[~clear], np.asarray(palette.convert("RGB"))[~clear])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_photo_stands_as_its_exif_note_says(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    flat = noise().resize((4, 3)).resize((32, 24), Image.Resampling.NEAREST)  # that JPEG keeps it as it is
    file = save(
        flat, tmp_path / f"a.{ending}", exif=exif, **({"quality": 100, "subsampling": 0} if ending == "jpg" else {})
    )
    upright = ImageOps.exif_transpose(opened(file))
    read = read_picture(file, exactly(upright.height, upright.width))
    assert np.abs(read - np.asarray(upright, float)).max() <= 6
    as_stored = read_picture(file, exactly(24, 32, upright=False))
    assert np.abs(as_stored - np.asarray(opened(file), float)).max() <= 6


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.gif", "L"), ("a.bmp", "L"), ("a.bmp", "P"), ("a.bmp", "1"), ("a.jpg", "CMYK"), ("a.gif", "P")],
)
def test_what_keras_cannot_read_in_a_colour_mode_is_read(tmp_path: Path, name: str, mode: str) -> None:
    file = save(noise().convert(mode), tmp_path / name)
    shown = opened(file).convert("RGB")
    for color_mode, expected in (("rgb", shown), ("grayscale", shown.convert("L")), ("rgba", shown.convert("RGBA"))):
        read = read_picture(file, exactly(color_mode=color_mode))
        assert np.abs(np.squeeze(read) - np.asarray(expected, float)).max() <= 3


def test_of_a_moving_picture_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [noise(seed=index).quantize(16).convert("RGB") for index in range(3)]
    file = save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_picture(file, exactly()), np.asarray(frames[0]))


# What is no picture -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif"])
@pytest.mark.parametrize("color_mode", ["rgb", "grayscale", "rgba"])
def test_a_picture_cut_short_is_refused_by_name(tmp_path: Path, name: str, color_mode: Any) -> None:
    file = save(noise(), tmp_path / name)
    whole = file.read_bytes()
    for length in (len(whole) // 2, len(whole) * 9 // 10):
        file.write_bytes(whole[:length])
        with pytest.raises(
            DataError, match=rf"{name}: is (a picture that was cut short or damaged|no picture that can be read; .*)$"
        ):
            read_picture(file, exactly(color_mode=color_mode))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff"])
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(
        DataError, match=r"a\.png: is (no picture that can be read; expected a whole PNG|a picture that was cut short)"
    ) as told:
        read_picture(tmp_path / "a.png", exactly())
    assert "\n" not in str(told.value)


def test_a_picture_that_pretends_to_be_huge_is_refused(tmp_path: Path) -> None:
    file = save(noise(), tmp_path / "a.png")
    content = bytearray(file.read_bytes())
    content[16:24] = (40_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    file.write_bytes(content)
    with pytest.raises(DataError, match="is too large a picture, or pretends to be"):
        read_picture(file, exactly())


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3)])
def test_a_transparent_colour_of_16_bits_lies_on_the_ground(kind: int, channels: int, tmp_path: Path) -> None:
    """Pillow cuts the pixels to 8 bits and keeps the colour whole, so that it never meets one."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    pixels = np.full((6, 5, channels), 0x1234, ">u2")
    pixels[2:4, 1:3] = 0
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 6, 16, kind, 0, 0, 0)),
        chunk(b"tRNS", struct.pack(">H", 0x1234) * channels),
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    found = read_picture(tmp_path / "deep.png", Reading(image_size=(6, 5), ground=(10, 200, 30)))
    expected = np.where((pixels > 0).all(axis=2)[..., None], np.array((10.0, 200.0, 30.0)), 0.0)
    np.testing.assert_array_equal(found, expected)
