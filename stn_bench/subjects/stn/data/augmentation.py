"""How training pictures are altered, anew in each epoch: by OpenCV, beside the network's own threads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stn_bench.subjects.stn.config import AugmentationConfig, Config
from stn_bench.subjects.stn.data.opencv import load_opencv
from stn_bench.subjects.stn.data.spec import Picture

WHITE = 255.0


def augmentation(config: Config, seed: int) -> Callable[[Picture, NDArray[np.int64], int], Picture] | None:
    """Return what alters the training pictures of a batch, or None where the configuration leaves them as they are.

    The result for a picture depends on the seed, the epoch and the picture's index alone, whatever batch it stands in
    and however training was interrupted.

    Args:
        config: the configuration.
        seed: the run's seed.

    Returns:
        Pictures, uint8 `(batch, height, width, 3)`, their indices and the epoch from 0 -> altered pictures alike.
    """
    settings = config.train.augmentation
    if settings == AugmentationConfig():
        return None

    def alter(pictures: Picture, indices: NDArray[np.int64], epoch: int) -> Picture:
        drawn = (generator(seed, epoch, int(index)) for index in indices)
        return np.stack([alter_picture(one, settings, draws) for one, draws in zip(pictures, drawn, strict=True)])

    return alter


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the random numbers of one picture in one epoch of a run: a stream of its own, found without the others.

    Philox counts (Salmon et al. 2011): seed and epoch are its key, and the picture the highest word of its counter.
    """
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, index]))


def alter_picture(picture: Picture, settings: AugmentationConfig, draws: np.random.Generator) -> Picture:
    """Return a picture, uint8 `(height, width, 3)`, altered as far as the settings allow.

    Each draw is taken whether or not the settings use it, so that an ingredient that is left out leaves the others'.
    """
    turn, scale, stretch, shear, right, down, contrast, brightness = draws.uniform(-1.0, 1.0, 8)
    order = draws.permutation(3)
    matrix = affine_matrix(settings, (turn, scale, stretch, shear))
    shift = settings.shift * np.array([right * picture.shape[1], down * picture.shape[0]])
    altered = warped(picture, matrix, shift)
    if settings.permute_colours:
        altered = altered[..., order]
    gain = (1 + settings.contrast) ** contrast
    return recoloured(altered, gain, settings.brightness * brightness, noise_of(settings.noise, picture, draws))


def affine_matrix(settings: AugmentationConfig, drawn: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """Return the matrix, `(2, 2)`, from pixels of a picture to those of the altered one, about the middle.

    Args:
        settings: how far pictures are altered.
        drawn: of the angle, the scale, the stretch and the shear, each -1 to 1.
    """
    turn, scale, stretch, shear = drawn
    angle = math.radians(settings.rotation) * turn
    size, wider = (1 + settings.scale) ** scale, (1 + settings.stretch) ** stretch
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slanted = np.array([[size * wider, size * settings.shear * shear], [0.0, size / wider]])
    return np.asarray(rotation @ slanted, np.float64)


def warped(picture: Picture, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Picture:
    """Return a picture through a matrix about its middle and a shift in pixels; what comes in repeats the border."""
    if np.array_equal(matrix, np.eye(2)) and not shift.any():
        return picture
    cv2 = load_opencv()
    height, width = picture.shape[:2]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    whole = np.column_stack([matrix, middle - matrix @ middle + shift])
    result: Picture = cv2.warpAffine(
        picture, whole, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return result


def recoloured(picture: Picture, gain: float, brightness: float, noise: NDArray[np.float32] | None) -> Picture:
    """Return a picture of another contrast and brightness, with noise upon it, within black and white.

    Args:
        picture: uint8, `(height, width, 3)`.
        gain: factor of the distances from the picture's mean.
        brightness: what is added to all values, as a fraction of white.
        noise: the same for each value, of the picture's shape, or None.
    """
    if gain == 1 and not brightness and noise is None:
        return picture
    mean = np.float32(picture.mean())
    values = (picture - mean) * np.float32(gain) + (mean + np.float32(WHITE * brightness))
    if noise is not None:
        values += np.float32(WHITE) * noise
    return np.asarray(np.clip(np.rint(values), 0, WHITE), np.uint8)


def noise_of(deviation: float, picture: Picture, draws: np.random.Generator) -> NDArray[np.float32] | None:
    """Return Gaussian noise of this standard deviation for each value of a picture, or None where there is none."""
    if not deviation:
        return None
    return np.float32(deviation) * draws.standard_normal(picture.shape, np.float32)
