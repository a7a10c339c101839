"""The spatial transformer: a layer that learns how to look at its input."""

from __future__ import annotations

from typing import Any, Self

import keras
from keras import ops

from stn_bench.subjects.stn.nn.sampler import SAMPLERS, Size, Tensor
from stn_bench.system.errors import ConfigError
from stn_bench.system.text import did_you_mean


@keras.saving.register_keras_serializable(package="stn_bench")
class SpatialTransformer(keras.layers.Layer):  # type: ignore[misc]
    """Resamples each picture through an affine matrix that it predicts from that picture.

    The three parts of the paper, in the order in which `call` uses them: the localisation net gives six numbers per
    picture, the sampling grid turns them into places of the source, and the bilinear sampler reads the picture there.
    All three are differentiable, so that the classifier behind the layer teaches the localisation net.

    Args:
        localisation: layer or model that maps the picture to `(batch, 6)`, the matrix row by row. It should start at
            the identity: last kernel zero, last bias `[1, 0, 0, 0, 1, 0]`. `None` takes the six numbers as a second
            input, from a localisation net that shares layers with what stands behind the transformer.
        output_size: height and width of the result, in pixels; `None` keeps the input's.
        sampler: `"exact"` returns the input for the identity matrix; `"article"` keeps the scale, the rounding and
            the border of the article's own code. See `stn_bench.subjects.stn.nn.sampler`.
        fill: value of everything outside the picture, in units of the picture.
        **kwargs: `name`, `dtype` and the like, as for every Keras layer.

    Call arguments:
        images: the pictures.
        entries: the six numbers of each picture's matrix, only where `localisation` is `None`.
        training: whether the localisation net runs in training mode.

    Input shape:
        `(batch, height, width, channels)`, height and width known.

    Output shape:
        `(batch, *output_size, channels)`.

    Example:
        >>> identity = keras.initializers.Constant([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        >>> localisation = keras.Sequential(
        ...     [keras.layers.Flatten(), keras.layers.Dense(6, kernel_initializer="zeros", bias_initializer=identity)]
        ... )
        >>> SpatialTransformer(localisation)(numpy.ones((2, 60, 60, 3))).shape
        (2, 60, 60, 3)

    Reference:
        [Jaderberg et al. 2015](https://arxiv.org/abs/1506.02025), equations 1 (grid), 3 and 5 (bilinear sampler).
    """

    def __init__(
        self,
        localisation: Any,
        *,
        output_size: Size | None = None,
        sampler: str = "exact",
        fill: float = 0.0,
        **kwargs: Any,
    ) -> None:
        # The coordinates and the blend are float32 under every policy; a picture rounded on the way in stays rounded.
        super().__init__(**{"autocast": False, **kwargs})
        if sampler not in SAMPLERS:
            raise ConfigError(
                f"SpatialTransformer: `sampler` must be one of {sorted(SAMPLERS)}, "
                f"got {sampler!r}.{did_you_mean(sampler, SAMPLERS)}"
            )
        self.localisation = localisation
        self.output_size = None if output_size is None else (int(output_size[0]), int(output_size[1]))
        self.sampler = sampler
        self.fill = float(fill)

    def build(self, input_shape: tuple[int | None, ...], *entries_shape: tuple[int | None, ...]) -> None:
        """Build the localisation net for pictures of this shape."""
        if self.localisation is not None and not self.localisation.built:
            self.localisation.build(input_shape)

    def matrices(self, images: Tensor, entries: Tensor | None = None, training: bool | None = None) -> Tensor:
        """Return the matrix of each picture, from output to source coordinates: float32, `(batch, 2, 3)`."""
        if self.localisation is not None:
            entries = self.localisation(images, training=training)  # (batch, 6)
        return ops.reshape(ops.cast(entries, "float32"), (-1, 2, 3))

    def call(self, images: Tensor, entries: Tensor | None = None, training: bool | None = None) -> Tensor:
        """Return each picture seen through its own matrix."""
        matrices = self.matrices(images, entries, training=training)
        pictures = SAMPLERS[self.sampler](images, matrices, self.output_size or tuple(images.shape[1:3]), self.fill)
        return ops.cast(pictures, self.compute_dtype)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...], *entries_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the shape of the result for pictures of this shape."""
        return (input_shape[0], *(self.output_size or input_shape[1:3]), input_shape[3])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the localisation net among them, as plain data."""
        return {
            **super().get_config(),
            "localisation": self.localisation and keras.saving.serialize_keras_object(self.localisation),
            "output_size": self.output_size,
            "sampler": self.sampler,
            "fill": self.fill,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the layer that `get_config` described."""
        localisation = config["localisation"] and keras.saving.deserialize_keras_object(config["localisation"])
        return cls(**{**config, "localisation": localisation})


def find_transformer(model: keras.Model) -> SpatialTransformer | None:
    """Return the model's first spatial transformer, wherever it stands among the layers, or None."""
    return next((layer for layer in model.layers if isinstance(layer, SpatialTransformer)), None)
