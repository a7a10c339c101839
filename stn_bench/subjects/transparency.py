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
STRETCHED = {"L;2": 85, "L;4": 17}
"""How a PNG packs its grey -> by what Pillow multiplies pixels, and not the transparent value."""


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
        return image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    if _is_uncovered(image):
        return _on_screen(image)
    key = image.info.get("transparency")
    if key is None or image.mode not in ("1", "L", "P", "RGB", *DEEP_GREY):
        return None
    if (times := STRETCHED.get(_packing(image))) and image.mode == "L":
        image.info["transparency"] = key * times
    if image.mode in DEEP_GREY or (image.mode == "RGB" and _packing(image).endswith(";16B")):
        pixels = deep()
        is_key = pixels == np.asarray(key) if pixels.ndim == 2 else (pixels == np.asarray(key)).all(axis=-1)
        high = (pixels >> 8).astype(np.uint8)
        shown = Image.fromarray(high).convert("RGB")
        shown.putalpha(Image.fromarray(np.where(is_key, 0, 255).astype(np.uint8)))
        return shown
    return image.convert("RGBA")


def _packing(image: Image.Image) -> str:
    """Return how a file packs pixels: of 16 bits Pillow keeps the upper eight, and the transparent colour whole."""
    return str(next((tile[3] for tile in getattr(image, "tile", [])), ""))


def _is_uncovered(image: Image.Image) -> bool:
    """Return whether the first frame of a GIF is smaller than its screen."""
    return image.format == "GIF" and any(tile[1] != (0, 0, *image.size) for tile in getattr(image, "tile", []))


def _on_screen(image: Image.Image) -> Image.Image:
    """Return a frame on the screen that it does not cover, which viewers leave transparent."""
    window = image.tile[0][1]  # type: ignore[attr-defined]
    screen = Image.new("RGBA", image.size)
    screen.paste(image.convert("RGBA").crop(window), window[:2])
    return screen
