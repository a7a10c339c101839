"""The captcha door: a picture and its label as a function of (data set seed, index) alone.

captcha draws all its randomness from the module `secrets`, which cannot be seeded. While a picture is drawn, a
seeded source with the same three functions stands in its place.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import captcha.image
import numpy as np
from PIL import ImageFont

from stn_bench.subjects.stn.data.letterbox import letterbox
from stn_bench.subjects.stn.data.spec import Chunk, DatasetSpec, Picture
from stn_bench.system.errors import DataError

Item = TypeVar("Item")

NATIVE_HEIGHT = 60
"""The height in pixels that captcha's font sizes, dots and offsets are made for."""

FONT_SIZES = (42, 50, 56)
"""captcha's own font sizes, in pixels, at its native height."""

_drawing = threading.Lock()


class SeededSecrets:
    """The part of the module `secrets` that captcha uses, drawn from a seed.

    It scales the raw words of the bit generator itself: numpy promises that these never change, which it does
    not promise of `Generator.integers`.

    Args:
        seed: the data set's seed, 0..2**32 - 1.
        index: the picture's index.
    """

    def __init__(self, seed: int, index: int) -> None:
        self._words = np.random.PCG64(np.random.SeedSequence((seed, index)))

    def randbits(self, k: int) -> int:
        """Return an integer of `k` random bits, up to 64."""
        return int(self._words.random_raw()) >> (64 - k)

    def randbelow(self, exclusive_upper_bound: int) -> int:
        """Return an integer from 0 up to, not including, the bound."""
        return (self.randbits(64) * exclusive_upper_bound) >> 64

    def choice(self, sequence: Sequence[Item]) -> Item:
        """Return one of the items."""
        return sequence[self.randbelow(len(sequence))]


def render_picture(spec: DatasetSpec, index: int) -> tuple[Picture, int]:
    """Draw one picture.

    Args:
        spec: the data set; its count plays no part.
        index: the picture's index, from 0.

    Returns:
        The picture, uint8 `(size, size, 3)` in RGB, and its label, an index into the alphabet.
    """
    source = SeededSecrets(spec.seed, index)
    label = source.randbelow(len(spec.alphabet))
    height, width = _drawn_shape(spec, source)
    drawer = _drawer(height, width, spec.fonts)
    with _randomness_from(source):
        drawn = drawer.generate_image(spec.alphabet[label])
    return letterbox(np.asarray(drawn), spec.size, spec.pad_byte or 0), label


def render_range(spec: DatasetSpec, indices: range) -> Chunk:
    """Draw the pictures of `indices`: uint8 `(batch, size, size, 3)`, and int64 labels `(batch,)`."""
    images = np.empty((len(indices), spec.size, spec.size, 3), np.uint8)
    labels = np.empty(len(indices), np.int64)
    for row, index in enumerate(indices):
        images[row], labels[row] = render_picture(spec, index)
    return images, labels


def font_digests(fonts: Sequence[str]) -> tuple[str, ...]:
    """Return the SHA-256 of each font file that would be drawn with.

    Raises:
        DataError: if one is missing or is no font.
    """
    return tuple(_font_digest(Path(font)) for font in fonts or captcha.image.DEFAULT_FONTS)


def _font_digest(font: Path) -> str:
    try:
        ImageFont.truetype(str(font), FONT_SIZES[0])
        return hashlib.sha256(font.read_bytes()).hexdigest()
    except OSError as error:
        reason = "is no TrueType font" if font.is_file() else "does not exist"
        raise DataError(f"`data.fonts`: {font} {reason} ({error}). Name a font file that can be read.") from None


def _drawn_shape(spec: DatasetSpec, source: SeededSecrets) -> tuple[int, int]:
    # The short side is never below captcha's own height: drawn smaller, its dots would cover the letter.
    short = max(NATIVE_HEIGHT, spec.size)
    if spec.shapes == "square":
        return short, short
    octaves = 2 * source.randbits(32) / 2**32 - 1  # log2(width / height), uniform over [-1, 1)
    long = round(short * 2 ** abs(octaves))
    return (short, long) if octaves > 0 else (long, short)


@functools.lru_cache(maxsize=256)
def _drawer(height: int, width: int, fonts: tuple[str, ...]) -> captcha.image.ImageCaptcha:
    return captcha.image.ImageCaptcha(width, height, list(fonts) or None, _font_sizes(min(height, width)))


def _font_sizes(height: int) -> tuple[int, ...]:
    return tuple(round(size * height / NATIVE_HEIGHT) for size in FONT_SIZES)


@contextmanager
def _randomness_from(source: SeededSecrets) -> Iterator[None]:
    with _drawing:  # the name is global: a second thread would draw from this picture's source
        original = captcha.image.secrets
        captcha.image.secrets = source
        try:
            yield
        finally:
            captcha.image.secrets = original
