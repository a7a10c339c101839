"""Classical correction of a picture: find the letter by a threshold, then centre, straighten and scale it (Ques5).

A spatial transformer learns this correction per picture. Here it is written by hand, with the same thresholds for all
pictures. Its code is part of the run key, like that of the network.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stn_bench.subjects.stn.config import Config, CorrectionConfig
from stn_bench.subjects.stn.data.dataset import Pictures, Split
from stn_bench.subjects.stn.data.opencv import load_opencv
from stn_bench.subjects.stn.data.spec import Picture, pad_byte

STEEPEST = 1.0
"""Largest shear, in pixels sideways per pixel down: what slants more is noise and not a letter."""


def as_drawn(images: Picture, config: CorrectionConfig, fill: int) -> Picture:
    """Return the pictures as they are."""
    return images


def opencv_correction(images: Picture, config: CorrectionConfig, fill: int) -> Picture:
    """Return pictures whose letters are centred, straightened and of one size.

    Args:
        images: uint8, `(batch, height, width, 3)`, RGB.
        config: the thresholds.
        fill: value of what comes in from outside, 0..255.

    Returns:
        uint8 of the same shape; a picture in which no letter is found stays as it is.
    """
    return np.stack([_correct(picture, config, fill) for picture in images])


CORRECTIONS: dict[str, Callable[[Picture, CorrectionConfig, int], Picture]] = {
    "as_drawn": as_drawn,
    "opencv": opencv_correction,
}


def correct(images: Picture, config: Config) -> Picture:
    """Return pictures, uint8 `(batch, height, width, 3)`, as the network of this configuration expects them."""
    correction = config.data.correction
    return CORRECTIONS[correction.kind](images, correction, pad_byte(config))


def correct_split(split: Split, config: Config) -> Split:
    """Return the three parts of a data set with their pictures corrected."""
    parts = (split.train, split.validation, split.test)
    return Split(*(Pictures(correct(part.images, config), part.labels) for part in parts))


def find_letter(picture: Picture, config: CorrectionConfig) -> NDArray[np.bool_] | None:
    """Return which pixels are the letter, `(height, width)`: the ink's largest component; None if it is too small."""
    cv2 = load_opencv()
    ink = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) < config.threshold
    letter = largest_component(ink, config.opening)
    return letter if letter.sum() >= max(1.0, config.smallest * letter.size) else None


def largest_component(ink: NDArray[np.bool_], opening: int) -> NDArray[np.bool_]:
    """Return the largest connected piece of the ink, `(height, width)`; nothing where there is no ink.

    Args:
        ink: which pixels are dark, `(height, width)`.
        opening: side of the square that ink must hold to survive, in pixels.
    """
    cv2 = load_opencv()
    square, anchor = np.ones((opening, opening), np.uint8), opening // 2
    opened = cv2.erode(ink.astype(np.uint8), square, anchor=(anchor, anchor))
    # The mirrored anchor: with OpenCV's own opening a square of even side moves everything by a pixel.
    opened = cv2.dilate(opened, square, anchor=(opening - 1 - anchor,) * 2)
    count, components, statistics, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    areas = statistics[1:count, cv2.CC_STAT_AREA]
    if not len(areas):
        return np.zeros_like(ink)
    letter: NDArray[np.bool_] = components == 1 + areas.argmax()
    return letter


def correction_matrix(letter: NDArray[np.bool_], config: CorrectionConfig) -> NDArray[np.float64]:
    """Return the matrix, `(2, 3)`, from source to output pixels, that puts the letter in the middle of its picture.

    The shear is the slope of the letter's principal vertical axis, from its second moments; the scale makes the longer
    side of the sheared letter's bounding box `config.extent` of the picture's shorter side.
    """
    rows, columns = np.nonzero(letter)
    down, across = rows - rows.mean(), columns - columns.mean()
    shear = float(np.clip((down * across).sum() / max((down**2).sum(), 1.0), -STEEPEST, STEEPEST))
    shear = shear if config.deskew else 0.0
    upright = columns - shear * rows
    height, width = np.ptp(rows) + 1.0, np.ptp(upright) + 1.0
    scale = config.extent * min(letter.shape) / max(height, width)
    middle_row, middle_column = (rows.min() + rows.max()) / 2, (upright.min() + upright.max()) / 2
    centre_row, centre_column = (letter.shape[0] - 1) / 2, (letter.shape[1] - 1) / 2
    return np.array(
        [
            [scale, -scale * shear, centre_column - scale * middle_column],
            [0.0, scale, centre_row - scale * middle_row],
        ]
    )


def _correct(picture: Picture, config: CorrectionConfig, fill: int) -> Picture:
    letter = find_letter(picture, config)
    if letter is None:
        return picture
    cv2 = load_opencv()
    matrix, size = correction_matrix(letter, config), (picture.shape[1], picture.shape[0])
    corrected: Picture = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(fill,) * 3)
    return corrected
