"""The output of a trained spatial transformer for pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from stn_bench.subjects.stn.data.correction import largest_component
from stn_bench.subjects.stn.nn.sampler import SAMPLERS, Size, Tensor
from stn_bench.subjects.stn.nn.transformer import SpatialTransformer, find_transformer
from stn_bench.system.errors import ConfigError

BATCH = 256
"""Pictures that pass through the model at a time: bounds the memory, changes no result."""

CONTRAST = 30.0
"""Grey levels by which a pixel must be darker than the picture's median to count as ink."""

OPENING = 2
"""Side of the square that ink must hold to be part of a letter, in pixels: removes dots and thin lines."""

CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
"""The output's corners in the sampler's coordinates, x and y, clockwise from the top left."""

HALF_EXTENTS: dict[str, Callable[[Size], tuple[float, float]]] = {
    "exact": lambda size: ((size[0] - 1) / 2, (size[1] - 1) / 2),
    "article": lambda size: (size[0] / 2, size[1] / 2),
}
"""Source pixels per unit of y and of x, by sampler, as each of them calls `sampling_grid`."""


@dataclass(frozen=True)
class Rectified:
    """Pictures as the classifier behind the transformer sees them, and the matrices that made them."""

    matrices: NDArray[np.float32]
    """Affine matrices from output to source coordinates, `(n, 2, 3)`."""
    pictures: NDArray[np.uint8]
    """Pictures in the units of the input, 0..255, `(n, height, width, 3)`."""
    frames: NDArray[np.float64]
    """Where in the source the corners of each picture lie, see `sampling_frames`, `(n, 4, 2)`."""

    @property
    def magnification(self) -> NDArray[np.float64]:
        """How many times longer lengths became, in pixels, `(n,)`: the root of the ratio of areas."""
        height, width = self.pictures.shape[1:3]
        areas = np.maximum(_areas(self.frames), np.finfo(np.float32).tiny)
        return np.asarray(np.sqrt((height - 1) * (width - 1) / areas))


def rectify(model: keras.Model, images: NDArray[np.uint8]) -> Rectified:
    """Return the pictures behind the model's spatial transformer.

    Args:
        model: a model with a `SpatialTransformer` among its layers.
        images: uint8 pictures of shape `(n, height, width, 3)`.

    Raises:
        ConfigError: if the model has no spatial transformer.
    """
    transformer = _transformer(model)
    inputs = transformer.input if isinstance(transformer.input, list) else [transformer.input]
    matrices = transformer.matrices(*inputs)
    matrices, pictures = _outputs(keras.Model(model.input, [matrices, transformer.output]), images)
    frames = sampling_frames(matrices, transformer.sampler, images.shape[1:3])
    return Rectified(matrices, _to_pixels(pictures, model), frames)


def _outputs(model: keras.Model, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Return the model's outputs, called as it is: for a few pictures, tracing a graph for `predict` takes longer."""
    starts = range(0, len(images), BATCH)
    batches = [model(np.asarray(images[start : start + BATCH]), training=False) for start in starts]
    return [
        np.concatenate([keras.ops.convert_to_numpy(part) for part in parts]) for parts in zip(*batches, strict=True)
    ]


def sampling_frames(matrices: NDArray[np.floating], sampler: str, size: Size) -> NDArray[np.float64]:
    """Return where in the source picture the corners of the output lie: what the border of the output samples.

    Args:
        matrices: affine matrices from output to source coordinates, `(n, 2, 3)`.
        sampler: whose coordinates they are, "exact" or "article".
        size: height and width of the source picture, in pixels.

    Returns:
        Column and row of each corner, `(n, 4, 2)`, clockwise from the output's top left. They are the centres of the
        output's corner pixels; 0 is the centre of the source's first pixel, and `width - 1` that of its last.
    """
    down, across = HALF_EXTENTS[sampler](size)
    corners = np.array([(x, y, 1.0) for x, y in CORNERS])
    places = corners @ np.asarray(matrices, np.float64).transpose(0, 2, 1)  # (n, 4, 2)
    return np.asarray((places + 1) * (across, down))


def _areas(quadrilaterals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas of quadrilaterals with corners `(n, 4, 2)`: half the cross product of their diagonals."""
    (x, y), (u, v) = (np.moveaxis(quadrilaterals[:, end] - quadrilaterals[:, end - 2], -1, 0) for end in (2, 3))
    return np.asarray(np.abs(x * v - y * u) / 2)


def _transformer(model: keras.Model) -> SpatialTransformer:
    transformer = find_transformer(model)
    if transformer is None:
        raise ConfigError(f"model {model.name!r} has no SpatialTransformer among its layers, so nothing to rectify")
    return transformer


@dataclass(frozen=True)
class LetterMeasure:
    """The effect of a transformer on each letter: the article says that letters grow and move to the middle."""

    magnification: NDArray[np.float64]
    """How many times longer lengths became, in pixels, `(n,)`: the root of the ratio of areas."""
    offset_before: NDArray[np.float32]
    """Pixels from the middle of the picture to the letter's centre of mass, `(n,)`; NaN where none is found."""
    offset_after: NDArray[np.float32]
    """The same behind the transformer, for what it left of the letter in the picture."""

    def means(self) -> dict[str, float]:
        """Return the run's metrics: the geometric mean of the magnification, and how far centres moved inwards.

        The second is missing where no picture has a letter both before and after.
        """
        means = {"letter.magnification": float(np.exp(np.mean(np.log(self.magnification))))}
        inwards = self.offset_before - self.offset_after
        inwards = inwards[np.isfinite(inwards)]
        return means | ({"letter.centring": float(inwards.mean())} if inwards.size else {})


def measure_letters(
    model: keras.Model, images: NDArray[np.uint8], rectified: Rectified | None = None
) -> LetterMeasure:
    """Return how much larger the letters become behind the model's transformer, and how far they move to the middle.

    Args:
        model: a model with a `SpatialTransformer` among its layers.
        images: uint8 pictures of shape `(n, height, width, 3)`.
        rectified: the same pictures rectified, where the caller has them already.

    Raises:
        ConfigError: if the model has no spatial transformer.
    """
    rectified = rectified or rectify(model, images)
    ink = find_letters(images)
    sampler = SAMPLERS[_transformer(model).sampler]
    moved = sampler(ink, rectified.matrices, rectified.pictures.shape[1:3], 0.0)
    return LetterMeasure(
        magnification=rectified.magnification,
        offset_before=_offset(ink),
        offset_after=_offset(keras.ops.convert_to_numpy(moved)),
    )


def find_letters(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the ink of the letter alone, `(n, height, width, 1)`: the largest component, without dots and lines."""
    ink = find_ink(images)
    letters = [largest_component(picture, OPENING) for picture in ink[..., 0] > 0]
    return ink * np.stack(letters)[..., np.newaxis]


def find_ink(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how much darker than the ground each pixel is, `(n, height, width, 1)`; 0 for the ground itself.

    The ground is the picture's median. What a letterbox put around the picture is no ink, however dark it is.
    """
    grey = images.mean(axis=3, dtype=np.float32)
    between = _between_bands(images)
    ground = np.nanmedian(np.where(between, grey, np.nan), axis=(1, 2), keepdims=True)
    dark = grey[:, :1, :1] < ground - CONTRAST  # bands of the ground's own colour are part of the ground
    ground = np.where(dark, ground, np.median(grey, axis=(1, 2), keepdims=True))
    ink = np.maximum(ground - CONTRAST - grey, 0) * (between | ~dark)
    return np.asarray(ink[..., np.newaxis], np.float32)


def _between_bands(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pixels lie between the bands of one colour at a picture's edges, `(n, height, width)`."""
    same = (images == images[:, :1, :1]).all(axis=3)
    between = ~_at_the_ends(same.all(axis=2))[:, :, np.newaxis] & ~_at_the_ends(same.all(axis=1))[:, np.newaxis]
    return np.asarray(between | same.all(axis=(1, 2), keepdims=True))  # nothing but one colour is a picture too


def _at_the_ends(lines: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which lines, `(n, lines)`, belong to an unbroken row of True that begins at the first or the last."""
    first = np.logical_and.accumulate(lines, axis=1)
    last = np.logical_and.accumulate(lines[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(first | last)


def _offset(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distance of the centre of mass from the middle, in pixels, `(n,)`."""
    count, height, width = ink.shape[:3]
    mass = ink.reshape(count, -1).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        row = (ink.sum(axis=(2, 3)) @ np.arange(height)) / mass - (height - 1) / 2
        column = (ink.sum(axis=(1, 3)) @ np.arange(width)) / mass - (width - 1) / 2
    return np.asarray(np.hypot(row, column), np.float32)


def _to_pixels(pictures: Tensor, model: keras.Model) -> NDArray[np.uint8]:
    """Undo the model's rescaling; a model without one has worked on 0..255 all along."""
    rescaling = next((layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)), None)
    values = np.asarray(pictures, dtype=np.float32)
    if rescaling is not None:
        values = (values - rescaling.offset) / rescaling.scale
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
