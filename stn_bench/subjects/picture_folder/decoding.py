"""Picture files as arrays: with TensorFlow, whose pixels are those of Keras' `image_dataset_from_directory`.

A picture that Keras reads in another way than a viewer shows it, or cannot read, is first written anew as a plain PNG:
one with transparent pixels, a grey GIF or BMP, a palette of BMP's, CMYK in grey.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from stn_bench.subject import Numbers
from stn_bench.subjects.picture_folder.reading import Reading
from stn_bench.subjects.transparency import laid_on
from stn_bench.system.errors import DataError

ORIENTATION = 0x0112
"""The tag of EXIF that says which way is up."""

TURNS = {
    2: (slice(None), slice(None, None, -1)),
    3: (slice(None, None, -1), slice(None, None, -1)),
    4: (slice(None, None, -1), slice(None)),
}
"""Orientation -> the order of rows and of columns."""

EXCHANGED = {5: 1, 6: 2, 7: 3, 8: 4}
"""Orientation -> what it is once rows and columns are exchanged."""

NOT_READ = (Image.DecompressionBombError, UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError)


def read_pictures(files: Sequence[Path], reading: Reading) -> Numbers:
    """Return pictures, float32 0..255, `(pictures, height, width, channels)`.

    Raises:
        DataError: if one cannot be read; it is named.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, and yet a picture
        with ThreadPoolExecutor(2) as pool, tf.device("CPU:0"):
            pictures = list(pool.map(lambda file: read_picture(file, reading), files))
    return np.stack(pictures) if pictures else np.empty((0, *reading.shape), np.float32)


def read_picture(file: Path, reading: Reading) -> Numbers:
    """Return a picture, float32 0..255, `(height, width, channels)`; the first frame of several.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        with Image.open(io.BytesIO(content)) as image:
            turn = _orientation(image) if reading.upright else 1
            content = _plain(image, content, reading)
    except Image.DecompressionBombError:
        raise DataError(f"{file}: is too large a picture, or pretends to be") from None
    except UnidentifiedImageError:
        raise DataError(f"{file}: is no picture that can be read; expected a whole PNG, JPEG, GIF or BMP") from None
    except NOT_READ:
        raise DataError(f"{file}: is a picture that was cut short or damaged") from None
    try:
        decoded = tf.io.decode_image(content, channels=reading.shape[2], expand_animations=False)
    except tf.errors.OpError:
        raise DataError(f"{file}: is a picture that was cut short or damaged") from None
    return np.asarray(_resized(_turned(decoded, turn), reading), np.float32)


# As a viewer shows it -----------------------------------------------------------------------------------------------


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole picture to look behind it
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged note says nothing, whatever Pillow makes of it
        return 1


def _turned(picture: Any, orientation: int) -> Any:
    """Return a decoded picture, `(height, width, channels)`, as its orientation says."""
    if orientation in EXCHANGED:
        picture, orientation = tf.transpose(picture, (1, 0, 2)), EXCHANGED[orientation]
    return picture[TURNS[orientation]] if orientation in TURNS else picture


def _plain(image: Image.Image, content: bytes, reading: Reading) -> bytes:
    """Return a file that Keras reads as a viewer shows it: this one, or a PNG."""
    grey, alpha = reading.color_mode == "grayscale", reading.color_mode == "rgba"
    if not alpha and reading.ground is not None:
        shown = laid_on(image, reading.ground, lambda: _deep(content))
        if shown is not None:
            return _png(shown)
    if image.format == "PNG":
        return content
    if image.format in ("JPEG", "MPO") and not alpha and not (grey and image.mode not in ("L", "RGB")):
        return content
    if image.format == "GIF" and not alpha and not grey:
        return content
    return _png(image.convert("RGBA" if alpha else "RGB"))


def _deep(content: bytes) -> Any:
    """Return the pixels of a PNG with 16 bits a channel."""
    pixels = tf.io.decode_png(content, dtype=tf.uint16).numpy()
    return pixels[..., 0] if pixels.shape[2] < 3 else pixels[..., :3]


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=0)
    return content.getvalue()


# In size ------------------------------------------------------------------------------------------------------------


def _resized(picture: Any, reading: Reading) -> Any:
    size, method = reading.image_size, reading.interpolation
    if reading.pad_to_aspect_ratio:
        return tf.image.resize_with_pad(picture, *size, method=method)
    if reading.crop_to_aspect_ratio:
        picture = picture[_window(picture.shape[0], picture.shape[1], size)]
    return tf.image.resize(picture, size, method=method)


def _window(height: int, width: int, size: tuple[int, int]) -> tuple[slice, slice]:
    """Return the largest window in the middle that has the shape of `size`, as Keras' `smart_resize` rounds it."""
    rows = max(1, min(height, int(np.float32(width * size[0]) / np.float32(size[1]))))
    columns = max(1, min(width, int(np.float32(height * size[1]) / np.float32(size[0]))))
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)
