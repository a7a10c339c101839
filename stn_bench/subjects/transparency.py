"""Transparent pictures as a viewer shows them, on a ground that is said: readers that drop alpha show others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int]
"""RGB, 0..255."""

WHITE: Colour = (255, 255, 255)

Deep = Callable[[], NDArray[np.uint16]]
"""Returns the pixels of the same picture with 16 bits a channel, `(height, width)` or `(height, width, 3)`."""

ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
DEEP_GREY = ("I;16", "I;16B", "I;16L", "I")


def laid_on(image: Image.Image, ground: Colour, deep: Deep) -> Image.Image | None:
    """Return a picture in RGB with its transparent pixels laid on a ground; None for one that has none.

    Args:
        image: the picture, opened; the first frame of several.
        ground: the colour behind it.
        deep: its pixels with 16 bits; asked where such a colour is the transparent one, which Pillow cannot tell.
    """
    shown = _with_alpha(image, deep)
    if shown is None or shown.getchannel("A").getextrema() == (255, 255):
        return None
    return Image.alpha_composite(Image.new("RGBA", shown.size, (*ground, 255)), shown).convert("RGB")


def _with_alpha(image: Image.Image, deep: Deep) -> Image.Image | None:
    """Return a picture in RGBA; None for one whose file tells of no transparency."""
    if image.mode in ALPHA:
        return image.convert("RGBA")
    key = image.info.get("transparency")
    if key is None or image.mode not in ("1", "L", "P", "RGB", *DEEP_GREY):
        return None
    if image.mode in DEEP_GREY or (image.mode == "RGB" and _has_16_bits(image)):
        pixels = deep()
        is_key = pixels == np.asarray(key) if pixels.ndim == 2 else (pixels == np.asarray(key)).all(axis=-1)
        high = (pixels >> 8).astype(np.uint8)
        shown = Image.fromarray(high).convert("RGB")
        shown.putalpha(Image.fromarray(np.where(is_key, 0, 255).astype(np.uint8)))
        return shown
    return image.convert("RGBA")


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether a PNG has 16 bits a channel: Pillow keeps the upper eight, and the transparent colour whole."""
    return any(str(tile[3]).endswith(";16B") for tile in getattr(image, "tile", []))
