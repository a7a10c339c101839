"""The parts of the article's network, each choice a dict of named builders."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras

from stn_bench.subjects.stn.config import ModelConfig, NormConfig
from stn_bench.subjects.stn.nn.layout import LOCALISATION_CHANNELS, Block, scaled_channels
from stn_bench.subjects.stn.nn.sampler import Tensor

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The affine matrix that changes nothing, row by row."""


def trunk(x: Tensor, config: ModelConfig, name: str, blocks: Sequence[Block], which: slice = slice(None)) -> Tensor:
    """Return the features of a picture; unless they share, the localisation net and the classifier each own one trunk.

    Args:
        x: symbolic tensor of shape `(batch, height, width, channels)`.
        config: downsampling, activation, normalisation and dropout.
        name: prefix of the layers' names.
        blocks: the blocks of the trunk.
        which: those to build; all of them by default.

    Returns:
        Symbolic tensor; behind all blocks `(batch, ceil(height / 12), ceil(width / 12), blocks[-1].channels)`.
    """
    for number, block in list(enumerate(blocks, start=1))[which]:
        part = f"{name}_{number}"
        rest = functools.partial(_rest, config=config, name=part)
        x = DOWNSAMPLINGS[config.downsampling](x, block, part, rest)
        x = keras.layers.Dropout(config.dropout, name=f"{part}_dropout")(x)
    return x


def _rest(x: Tensor, config: ModelConfig, name: str) -> Tensor:
    return POSITIONS[config.norm.position](x, config, name)


def localisation_head(x: Tensor, config: ModelConfig) -> Tensor:
    """Return six numbers per picture, at first the identity whatever the picture; float32, `(batch, 6)`."""
    channels = scaled_channels(LOCALISATION_CHANNELS, config.width)
    x = keras.layers.Conv2D(channels, 3, padding="same", activation="relu", name="localisation_conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="localisation_pool")(x)
    # float32 under every policy: a hundredth of a pixel is lost in half precision.
    return keras.layers.Dense(
        len(IDENTITY),
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(IDENTITY),
        dtype="float32",
        name="localisation_matrix",
    )(x)


def classifier_head(x: Tensor, config: ModelConfig, num_classes: int) -> Tensor:
    """Return the probability of each class; float32, `(batch, num_classes)`. The logits are the layer "scores"."""
    activation = SCORES[config.scores]
    x = keras.layers.Conv2D(num_classes, 3, padding="same", activation=activation, name="score_map")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="scores")(x)
    return keras.layers.Softmax(dtype="float32", name="probabilities")(x)


# How a block shrinks its picture. Each returns ceil(height / factor) rows and ceil(width / factor) columns. Maximum
# and mean follow their convolution at once, so that the rest of the block, activation and normalisation, sees the
# same shape as with a stride and only the shrinking differs. (For the maximum and a rising activation the order makes
# no difference anyway.) Blurring stands behind the activation, since it is there to smooth the activation's edges.

Rest = Callable[[Tensor], Tensor]
"""Activation and normalisation, in the order that the configuration asks for."""


def strided_convolution(x: Tensor, block: Block, name: str, rest: Rest) -> Tensor:
    """Shrink by the convolution's own stride, as the article does (Ques1)."""
    return rest(_convolution(x, block, name, stride=block.factor))


def max_pooled_convolution(x: Tensor, block: Block, name: str, rest: Rest) -> Tensor:
    """Shrink by keeping the maximum of each window of a stride-1 convolution."""
    x = _convolution(x, block, name, stride=1)
    return rest(keras.layers.MaxPooling2D(block.factor, padding="same", name=f"{name}_pool")(x))


def average_pooled_convolution(x: Tensor, block: Block, name: str, rest: Rest) -> Tensor:
    """Shrink by the mean of each window of a stride-1 convolution."""
    x = _convolution(x, block, name, stride=1)
    return rest(keras.layers.AveragePooling2D(block.factor, padding="same", name=f"{name}_pool")(x))


def blur_pooled_convolution(x: Tensor, block: Block, name: str, rest: Rest) -> Tensor:
    """Shrink a stride-1 convolution behind a triangle filter (Zhang 2019, https://arxiv.org/abs/1904.11486, "Tri-3").

    Two means of `factor` pixels, one behind the other, are that filter: 1 2 1 for a factor of 2, 1 2 3 2 1 for 3.
    """
    x = rest(_convolution(x, block, name, stride=1))
    x = keras.layers.AveragePooling2D(block.factor, strides=1, padding="same", name=f"{name}_blur")(x)
    return keras.layers.AveragePooling2D(block.factor, padding="same", name=f"{name}_pool")(x)


def _convolution(x: Tensor, block: Block, name: str, stride: int) -> Tensor:
    # The bias stays even where a normalisation follows at once and makes it idle: the article has it everywhere.
    return keras.layers.Conv2D(block.channels, block.kernel, stride, padding="same", name=f"{name}_conv")(x)


DOWNSAMPLINGS: dict[str, Callable[[Tensor, Block, str, Rest], Tensor]] = {
    "stride": strided_convolution,
    "max_pool": max_pooled_convolution,
    "average_pool": average_pooled_convolution,
    "blur_pool": blur_pooled_convolution,
}


# The position of the normalisation (Ques2).


def normalisation_before(x: Tensor, config: ModelConfig, name: str) -> Tensor:
    """Normalise what enters the activation."""
    return _activation(NORMALISATIONS[config.norm.kind](x, config.norm, name), config, name)


def normalisation_after(x: Tensor, config: ModelConfig, name: str) -> Tensor:
    """Normalise what leaves the activation."""
    return NORMALISATIONS[config.norm.kind](_activation(x, config, name), config.norm, name)


def _activation(x: Tensor, config: ModelConfig, name: str) -> Tensor:
    return keras.layers.Activation(ACTIVATIONS[config.activation], name=f"{name}_activation")(x)


POSITIONS: dict[str, Callable[[Tensor, ModelConfig, str], Tensor]] = {
    "before": normalisation_before,
    "after": normalisation_after,
}


# The kind of normalisation.


def batch_renormalisation(x: Tensor, config: NormConfig, name: str) -> Tensor:
    """Normalise by moving statistics in training too (Ioffe 2017, https://arxiv.org/abs/1702.03275, algorithm 1).

    The corrections r and d are not clipped: neither does the article, which leaves Keras' default.
    """
    return _batch_normalisation(x, config, name, renorm=True)


def batch_normalisation(x: Tensor, config: NormConfig, name: str) -> Tensor:
    """Normalise by the statistics of the batch (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167)."""
    return _batch_normalisation(x, config, name, renorm=False)


def no_normalisation(x: Tensor, config: NormConfig, name: str) -> Tensor:
    """Leave the activations as they are."""
    return x


def _batch_normalisation(x: Tensor, config: NormConfig, name: str, *, renorm: bool) -> Tensor:
    return keras.layers.BatchNormalization(
        center=config.affine, scale=config.affine, renorm=renorm, name=f"{name}_norm"
    )(x)


NORMALISATIONS: dict[str, Callable[[Tensor, NormConfig, str], Tensor]] = {
    "batch_renorm": batch_renormalisation,
    "batch": batch_normalisation,
    "none": no_normalisation,
}


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": keras.activations.relu,
    "sigmoid": keras.activations.sigmoid,
    "tanh": keras.activations.tanh,
    "gelu": keras.activations.gelu,
}

SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": keras.activations.linear,
    "relu": keras.activations.relu,
}
