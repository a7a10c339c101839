"""The sampling grid and the two samplers of the spatial transformer, as pure functions.

Coordinates follow Jaderberg et al.: x runs along the columns and y along the rows, both from -1 to 1. Here they are
already in pixels of the source picture, because float32 cannot take the way over [-1, 1] and come back to whole
pixels: the identity matrix would return the input only to about 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

Tensor = Any
Size = tuple[int, int]
Sampler = Callable[[Tensor, Tensor, Size, float], Tensor]


def exact_sampler(images: Tensor, matrices: Tensor, output_size: Size, fill: float) -> Tensor:
    """Return the pictures seen through the matrices; the identity returns the input.

    The ends of the range, -1 and 1, are the centres of the first and the last pixel. The result equals PyTorch's
    `grid_sample(align_corners=True)`, and OpenCV's `warpAffine` where both use the same matrix.

    Args:
        images: float tensor of shape `(batch, height, width, channels)`.
        matrices: float tensor of shape `(batch, 2, 3)` or `(batch, 6)`, from output to source coordinates.
        output_size: height and width of the result, in pixels.
        fill: value of everything outside the source picture.

    Returns:
        Float32 tensor of shape `(batch, *output_size, channels)`.
    """
    height, width = images.shape[1:3]
    columns, rows = sampling_grid(matrices, output_size, ((height - 1) / 2, (width - 1) / 2))
    return bilinear_sample(images, columns, rows, fill)


def article_sampler(images: Tensor, matrices: Tensor, output_size: Size, fill: float) -> Tensor:
    """Return the pictures as the article's own code samples them; the identity does not return the input.

    Arguments and result as for `exact_sampler`, with the article's three departures: -1 to 1 spans `width` and not
    `width - 1`, so a picture comes out slightly smaller; rounding is towards zero, so up to one pixel left of the
    picture (and above it) extrapolates; and the last row and column count as outside.
    """
    height, width = images.shape[1:3]
    columns, rows = sampling_grid(matrices, output_size, (height / 2, width / 2))
    return article_sample(images, columns, rows, fill)


SAMPLERS: dict[str, Sampler] = {"exact": exact_sampler, "article": article_sampler}


def sampling_grid(matrices: Tensor, output_size: Size, half_extent: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return where in the source each output pixel looks (Jaderberg et al. 2015, equation 1).

    Args:
        matrices: float tensor of shape `(batch, 2, 3)` or `(batch, 6)`.
        output_size: height and width of the output, in pixels.
        half_extent: source pixels per unit of y and per unit of x; coordinate -1 falls on pixel 0.

    Returns:
        Column and row coordinates in source pixels, each a float32 tensor of shape `(batch, *output_size)`.
    """
    entries = ops.reshape(ops.cast(matrices, "float32"), (-1, 6, 1, 1))
    down, across = half_extent
    columns = _affine_form(entries[:, 0:3], output_size, across)
    rows = _affine_form(entries[:, 3:6], output_size, down)
    return columns, rows


def _affine_form(entries: Tensor, output_size: Size, scale: float) -> Tensor:
    """Return `scale * (a*x + b*y + c) + scale` on the output's pixels, as one column term and one row term.

    Not a matrix product: accelerators round its factors to ten bits, which moves the grid by parts of a pixel. And the
    scale belongs to x and y, where it makes whole numbers: that is what makes the identity exact.
    """
    height, width = output_size
    x = ops.convert_to_tensor(scale * _centred(width).reshape(1, 1, width))
    y = ops.convert_to_tensor(scale * _centred(height).reshape(1, height, 1))
    a, b, c = entries[:, 0], entries[:, 1], entries[:, 2]  # each (batch, 1, 1)
    return a * x + (b * y + (c * scale + scale))  # (batch, height, width)


def _centred(count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return `count` evenly spaced coordinates from -1 to 1; a single one lies at 0."""
    return ((2 * np.arange(count) - (count - 1)) / max(count - 1, 1)).astype(np.float32)


FRAME = 2
"""Pixels of `fill` put around a picture: with two, every place outside has a cell whose four corners are fill."""


def bilinear_sample(images: Tensor, columns: Tensor, rows: Tensor, fill: float) -> Tensor:
    """Return the pictures at the given places, blended from the four nearest pixels (equations 3 and 5).

    The picture counts as surrounded by `fill`, so that a place partly outside blends with it.

    Args:
        images: float tensor of shape `(batch, height, width, channels)`.
        columns: float32 tensor of shape `(batch, out_height, out_width)`, in pixels.
        rows: the same for the rows.
        fill: value outside the picture.

    Returns:
        Float32 tensor of shape `(batch, out_height, out_width, channels)`.
    """
    height, width, channels = images.shape[1:]
    frame = ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0))
    framed = ops.pad(ops.cast(images, "float32"), frame, constant_values=fill)
    top, below = _cell(rows, height)
    left, behind = _cell(columns, width)
    index = _flat_index(framed, top, left)
    # Each channel for itself: with the few channels last, every elementwise step broadcasts and takes several times
    # as long; and each gradient towards the share would be a sum over an axis of three.
    tables = (ops.unstack(ops.take(table, index, axis=0), channels, axis=-1) for table in _cell_slopes(framed))
    blended = [
        (corner + behind * across) + below * (down + behind * twist)  # (batch * places,)
        for corner, across, down, twist in zip(*tables, strict=True)
    ]
    return ops.reshape(ops.stack(blended, axis=-1), (-1, *columns.shape[1:], channels))


def _cell(places: Tensor, extent: int) -> tuple[Tensor, Tensor]:
    """Return the framed pixel before each place, and how far behind it the place lies; both flat.

    The index is clipped and the distance is not: outside, the distance meets slopes of 0, and so does its gradient.
    Clipping the integers also keeps NaN from asking for a pixel that does not exist: a diverged run ends as NaN.
    """
    framed = ops.reshape(places, (-1,)) + float(FRAME)
    before = ops.clip(ops.cast(framed, "int32"), 0, extent + FRAME)
    return before, framed - ops.cast(before, "float32")


def _cell_slopes(framed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the bilinear form of the cell behind each pixel: `corner + x*across + y*(down + x*twist)`.

    Taken once per source pixel and read at one index, this needs fewer passes over the output than four neighbours.
    The last row and column would wrap around to the next picture; no cell begins there.

    Returns:
        Four tensors of shape `(batch * height * width, channels)`.
    """
    width, channels = framed.shape[2:]
    corner = ops.reshape(framed, (-1, channels))
    across = ops.roll(corner, -1, axis=0) - corner
    down = ops.roll(corner, -width, axis=0) - corner
    twist = ops.roll(across, -width, axis=0) - across
    return corner, across, down, twist


def _flat_index(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return where pixels lie in the flattened pictures; rows and columns are flat, as many for each picture."""
    height, width = images.shape[1:3]
    first = ops.arange(ops.shape(images)[0], dtype="int32") * (height * width)
    within = ops.reshape(rows * width + columns, (ops.shape(images)[0], -1))  # (batch, places)
    return ops.reshape(ops.expand_dims(first, 1) + within, (-1,))


def article_sample(images: Tensor, columns: Tensor, rows: Tensor, fill: float) -> Tensor:
    """Return the pictures at the given places by the article's rule.

    Arguments and result as for `bilinear_sample`. The neighbours are rounded towards zero and clipped to the picture
    first, the areas taken between the clipped neighbours. Behind the last pixel both neighbours are the same one and
    their areas cancel to 0, the article's value for outside; here the area that is missing takes `fill`.
    """
    channels = images.shape[3]
    left, right, left_share, right_share = _article_neighbours(columns, images.shape[2])
    upper, lower, upper_share, lower_share = _article_neighbours(rows, images.shape[1])
    missing = 1.0 - (left_share + right_share) * (upper_share + lower_share)
    # Summed in pairs, so that outside, where shares are large and opposite, they cancel to the last bit.
    blended = (
        _article_term(images, upper, left, upper_share * left_share)
        + _article_term(images, lower, left, lower_share * left_share)
    ) + (
        _article_term(images, upper, right, upper_share * right_share)
        + _article_term(images, lower, right, lower_share * right_share)
    )  # (batch * places, channels)
    blended = blended + fill * ops.expand_dims(missing, 1)
    return ops.reshape(blended, (-1, *columns.shape[1:], channels))


def _article_neighbours(places: Tensor, extent: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the clipped neighbours of each place along one axis, and the share of each; all flat."""
    places = ops.reshape(places, (-1,))
    # The cast truncates towards zero. Far places are pulled in before it, to where they are outside all the same.
    whole = ops.cast(ops.clip(places, -2.0, extent + 1.0), "int32")
    before, after = ops.clip(whole, 0, extent - 1), ops.clip(whole + 1, 0, extent - 1)
    return before, after, ops.cast(after, "float32") - places, places - ops.cast(before, "float32")


def _article_term(images: Tensor, rows: Tensor, columns: Tensor, area: Tensor) -> Tensor:
    pixels = ops.reshape(ops.cast(images, "float32"), (-1, images.shape[3]))
    return ops.take(pixels, _flat_index(images, rows, columns), axis=0) * ops.expand_dims(area, 1)
