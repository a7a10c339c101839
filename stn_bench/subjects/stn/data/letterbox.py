"""Fit a picture of any shape into a square without bending it."""

from __future__ import annotations

import numpy as np

from stn_bench.subjects.stn.data.opencv import load_opencv
from stn_bench.subjects.stn.data.spec import Picture


def letterbox(picture: Picture, size: int, pad_byte: int) -> Picture:
    """Return `picture` resized with its aspect ratio kept, centred in a padded square.

    Args:
        picture: uint8, `(height, width, 3)`.
        size: height and width of the square, in pixels.
        pad_byte: value of the border, 0..255, in all three channels.

    Returns:
        uint8, `(size, size, 3)`. Where the border is odd, its bottom or right side is a pixel wider.
    """
    height, width = _fitted(picture.shape[0], picture.shape[1], size)
    square = np.full((size, size, 3), pad_byte, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = _resize(picture, height, width)
    return square


def _fitted(height: int, width: int, size: int) -> tuple[int, int]:
    longest = max(height, width)
    return max(1, round(height * size / longest)), max(1, round(width * size / longest))


def _resize(picture: Picture, height: int, width: int) -> Picture:
    if picture.shape[:2] == (height, width):
        return picture
    cv2 = load_opencv()
    # Averaging over areas keeps thin strokes when shrinking; when growing it would only repeat pixels.
    method = cv2.INTER_AREA if height < picture.shape[0] or width < picture.shape[1] else cv2.INTER_LINEAR
    resized: Picture = cv2.resize(picture, (width, height), interpolation=method)
    return resized
