"""The article's network without Keras: its blocks, and the FLOPs of a configuration in closed form.

The plan needs both before anything is built: to give an arm as much arithmetic as the base, and to say what a study
will cost. `keras_training.flops` counts the same on the built network; a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config, ModelConfig
from stn_bench.system.errors import ConfigError

COLOURS = 3

LOCALISATION_CHANNELS = 20
"""Channels of the localisation head's convolution at width 1."""

MATRIX = 6
"""Numbers of an affine matrix."""

GRID_FLOPS = 12
"""The sampling grid, for each output pixel: a 2x3 matrix times (x, y, 1), six multiply-adds."""

BILINEAR_FLOPS = 8
"""The bilinear sampler, for each output pixel and channel: four neighbours, each weighted and added."""


class Block(NamedTuple):
    """One convolution of a trunk: its channels, its kernel size and how much it shrinks the picture."""

    channels: int
    kernel: int
    factor: int


KERNELS, FACTORS = (5, 3, 3), (3, 2, 2)
"""The article's trunk: 60x60 becomes 20x20, 10x10 and 5x5."""

NARROWEST, WIDEST = 0.001, 8.0
"""The range of the search for a matching width."""

TOLERANCE = 0.03
"""Largest relative difference between matched FLOPs; channels are whole numbers, so no match is exact."""


def scaled_channels(channels: int, width: float) -> int:
    """Return `channels * width` rounded to the nearest whole number, and never less than 1."""
    return max(1, round(channels * width))


def classifier_blocks(model: ModelConfig) -> tuple[Block, ...]:
    """Return the blocks of the classifier's trunk."""
    return _blocks(model.channels, model.width)


def localisation_blocks(model: ModelConfig) -> tuple[Block, ...]:
    """Return the blocks of the localisation net's trunk."""
    return _blocks(model.transformer.channels or model.channels, model.width)


def _blocks(channels: tuple[int, ...], width: float) -> tuple[Block, ...]:
    scaled = (scaled_channels(one, width) for one in channels)
    return tuple(Block(*one) for one in zip(scaled, KERNELS, FACTORS, strict=True))


def flops(config: Config) -> int:
    """Return the floating-point operations of one picture in inference, counted as `keras_training.flops` counts them.

    Raises:
        ConfigError: if the configuration names a network of its own, which only building it can tell.
    """
    if config.model.factory is not None:
        raise ConfigError(f"`model.factory` {config.model.factory}: its FLOPs are not known before it is built")
    size, model = config.data.size, config.model
    rescaling, classes = 2 * size**2 * COLOURS, len(config.data.alphabet)
    if model.transformer.kind == "none":
        return rescaling + _classifier_flops(size, model, classes)
    shown = model.transformer.size or size
    return rescaling + _transformer_flops(size, shown, model) + _classifier_flops(shown, model, classes)


def parameters(config: Config) -> int:
    """Return the number of weights, moving statistics included, counted as `keras_training.flops` counts them.

    Raises:
        ConfigError: if the configuration names a network of its own, which only building it can tell.
    """
    if config.model.factory is not None:
        raise ConfigError(f"`model.factory` {config.model.factory}: its weights are not known before it is built")
    model, classes = config.model, len(config.data.alphabet)
    blocks = classifier_blocks(model)
    classifier = sum(_trunk_parameters(blocks, model)) + _convolution_parameters(3, blocks[-1].channels, classes)
    if model.transformer.kind == "none":
        return classifier
    channels, blocks = scaled_channels(LOCALISATION_CHANNELS, model.width), localisation_blocks(model)
    own_blocks = sum(_trunk_parameters(blocks, model)[model.transformer.shared_blocks :])
    head = _convolution_parameters(3, blocks[-1].channels, channels) + _convolution_parameters(1, channels, MATRIX)
    return classifier + own_blocks + head


def matching_width(config: Config, target: int) -> float:
    """Return the `model.width` at which a configuration costs as many FLOPs as the target.

    Raises:
        ConfigError: if no width comes within 3 % of it.
    """

    def at(width: float) -> int:
        return flops(override(config, {"model.width": width}))

    low, high = NARROWEST, WIDEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) < target else (low, middle)
    # Rounded on either side of the step: a width of four digits is what a person would write.
    widths = [float(f"{width:.4g}") for width in (low - 1e-4, low, high, high + 1e-4) if width > 0]
    best = min(widths, key=lambda width: abs(at(width) - target))
    if abs(at(best) - target) > TOLERANCE * target:
        raise ConfigError(f"no `model.width` brings it within {TOLERANCE:.0%} of {target:,} FLOPs; {best} is nearest")
    return best


def _trunk_parameters(blocks: Sequence[Block], model: ModelConfig) -> list[int]:
    """Return the weights of each block: its convolution, and what its normalisation learns and keeps."""
    total, incoming = [], COLOURS
    for channels, kernel, _ in blocks:
        total.append(_convolution_parameters(kernel, incoming, channels) + _norm_parameters(channels, model))
        incoming = channels
    return total


def _convolution_parameters(kernel: int, incoming: int, channels: int) -> int:
    return (kernel**2 * incoming + 1) * channels


def _norm_parameters(channels: int, model: ModelConfig) -> int:
    moving = {"none": 0, "batch": 2, "batch_renorm": 5}[model.norm.kind]
    learned = 2 if moving and model.norm.affine else 0
    return (moving + learned) * channels


def _transformer_flops(size: int, shown: int, model: ModelConfig) -> int:
    shrink, blocks = model.transformer.shrink, localisation_blocks(model)
    seen = math.ceil(size / shrink)
    shrinking = seen**2 * COLOURS * shrink**2 if shrink > 1 else 0
    sampling = shown**2 * (GRID_FLOPS + COLOURS * BILINEAR_FLOPS)
    return shrinking + _trunk_flops(seen, blocks, model) + _localisation_head_flops(seen, blocks, model) + sampling


def _classifier_flops(size: int, model: ModelConfig, classes: int) -> int:
    blocks = classifier_blocks(model)
    return _trunk_flops(size, blocks, model) + _classifier_head_flops(size, blocks, model, classes)


def _trunk_flops(size: int, blocks: Sequence[Block], model: ModelConfig) -> int:
    total, incoming = 0, COLOURS
    for block in blocks:
        total += _block_flops(size, incoming, block, model)
        size, incoming = math.ceil(size / block.factor), block.channels
    return total


def _block_flops(size: int, incoming: int, block: Block, model: ModelConfig) -> int:
    """Count convolution with bias, pooling (one a value read), activation (one a value), normalisation (two)."""
    window, after = block.factor**2, math.ceil(size / block.factor)
    before_values, after_values = size**2 * block.channels, after**2 * block.channels
    convolved = after_values if model.downsampling == "stride" else before_values
    rested = before_values if model.downsampling == "blur_pool" else after_values
    pooled = {"stride": 0, "blur_pool": before_values + after_values}.get(model.downsampling, after_values)
    rest = 1 + (0 if model.norm.kind == "none" else 2)
    return convolved * (2 * block.kernel**2 * incoming + 1) + pooled * window + rested * rest


def _features(size: int, blocks: Sequence[Block]) -> tuple[int, int]:
    """Return the side and the channels of a trunk's output."""
    for block in blocks:
        size = math.ceil(size / block.factor)
    return size, blocks[-1].channels


def _localisation_head_flops(size: int, blocks: Sequence[Block], model: ModelConfig) -> int:
    side, incoming = _features(size, blocks)
    channels = scaled_channels(LOCALISATION_CHANNELS, model.width)
    values = side**2 * channels
    return values * (2 * 9 * incoming + 2) + values + MATRIX * (2 * channels + 1)


def _classifier_head_flops(size: int, blocks: Sequence[Block], model: ModelConfig, classes: int) -> int:
    side, incoming = _features(size, blocks)
    values = side**2 * classes
    return values * (2 * 9 * incoming + 1 + int(model.scores == "relu")) + values + classes
