"""What a trained spatial transformer makes of pictures."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from stn_bench.errors import ConfigError
from stn_bench.nn.sampler import Tensor
from stn_bench.nn.transformer import find_transformer

BATCH = 256
"""Pictures that pass through the model at a time: bounds the memory, changes no result."""


@dataclass(frozen=True)
class Rectified:
    """Pictures as the classifier behind the transformer sees them, and the matrices that made them."""

    matrices: NDArray[np.float32]
    """Affine matrices from output to source coordinates, `(n, 2, 3)`."""
    pictures: NDArray[np.uint8]
    """Pictures in the units of the input, 0..255, `(n, height, width, 3)`."""


def rectify(model: keras.Model, images: NDArray[np.uint8]) -> Rectified:
    """Return the pictures behind the model's spatial transformer.

    Args:
        model: a model with a `SpatialTransformer` among its layers.
        images: uint8 pictures of shape `(n, height, width, 3)`.

    Raises:
        ConfigError: if the model has no spatial transformer.
    """
    transformer = find_transformer(model)
    if transformer is None:
        raise ConfigError(f"model {model.name!r} has no SpatialTransformer among its layers, so nothing to rectify")
    matrices = transformer.matrices(transformer.input)
    probe = keras.Model(model.input, [matrices, transformer.output])
    matrices, pictures = probe.predict(images, batch_size=BATCH, verbose=0)
    return Rectified(matrices, _to_pixels(pictures, model))


def _to_pixels(pictures: Tensor, model: keras.Model) -> NDArray[np.uint8]:
    """Undo the model's rescaling; a model without one has worked on 0..255 all along."""
    rescaling = next((layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)), None)
    values = np.asarray(pictures, dtype=np.float32)
    if rescaling is not None:
        values = (values - rescaling.offset) / rescaling.scale
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
