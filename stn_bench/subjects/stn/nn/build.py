"""From a configuration to a model: the article's network, or one of the reader's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.spec import LOWER_BOUND
from stn_bench.subjects.stn.nn.blocks import classifier_head, localisation_head, trunk
from stn_bench.subjects.stn.nn.layout import classifier_blocks, localisation_blocks
from stn_bench.subjects.stn.nn.sampler import Tensor
from stn_bench.subjects.stn.nn.transformer import SpatialTransformer
from stn_bench.system.errors import ConfigError


def build_model(config: Config) -> keras.Model:
    """Return the untrained model that the configuration describes.

    It takes raw pictures, uint8 of shape `(batch, size, size, 3)` and RGB, and returns probabilities, float32 of shape
    `(batch, classes)`, in the order of `config.data.alphabet`.

    Raises:
        ConfigError: if `model.factory` cannot be imported, or what it returns does not fit the data.
    """
    config = config.resolved()
    with _dtype_policy(config.train.precision):
        if config.model.factory is None:
            return article_network(config)
        return _call_factory(config.model.factory, config)


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Build layers under this dtype policy; each layer keeps it, so that the global one can go back to what it was."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def article_network(config: Config) -> keras.Model:
    """Return the article's plain CNN, or the same behind a spatial transformer."""
    pictures = keras.Input((config.data.size, config.data.size, 3), dtype="uint8", name="picture")
    features = TRANSFORMERS[config.model.transformer.kind](rescaling(config)(pictures), config)
    probabilities = classifier_head(features, config.model, len(config.data.alphabet))
    return keras.Model(pictures, probabilities, name="cnn" if config.model.transformer.kind == "none" else "stn")


def plain_trunk(x: Tensor, config: Config) -> Tensor:
    """Return the features of the picture as it is."""
    return trunk(x, config.model, "classifier", classifier_blocks(config.model))


def transformed_trunk(x: Tensor, config: Config) -> Tensor:
    """Return the features of the picture behind the spatial transformer."""
    if config.model.transformer.shared_blocks:
        return shared_trunk(x, config)
    return plain_trunk(_transformer(localisation_net(config), config)(x), config)


TRANSFORMERS: dict[str, Callable[[Tensor, Config], Tensor]] = {"affine": transformed_trunk, "none": plain_trunk}


def shared_trunk(x: Tensor, config: Config) -> Tensor:
    """Return the features behind a transformer whose localisation net begins with the classifier's own first blocks.

    The same weights see the picture twice, as it came and as it was transformed (Finnveden, Jansson and Lindeberg
    2020, https://arxiv.org/abs/2004.11678, "STN-SL").
    """
    model, shared = config.model, config.model.transformer.shared_blocks
    picture, blocks = _picture(config, "shared_picture"), classifier_blocks(model)
    first_blocks = keras.Model(picture, trunk(picture, model, "shared", blocks, slice(shared)), name="shared")
    rest = slice(shared, None)
    matrix = localisation_head(trunk(first_blocks(x), model, "localisation", blocks, rest), model)
    return trunk(first_blocks(_transformer(None, config)(x, matrix)), model, "classifier", blocks, rest)


def rescaling(config: Config) -> keras.layers.Layer:
    """Return the layer that maps 0..255 to the input range.

    It stays float32 under every policy, since bfloat16 cannot tell 256 levels apart: the convolutions round for
    themselves, after the sampler has read the picture as it is.
    """
    lower = LOWER_BOUND[config.model.input_range]
    return keras.layers.Rescaling((1.0 - lower) / 255.0, offset=lower, dtype="float32", name="rescaling")


def localisation_net(config: Config) -> keras.Model:
    """Return the article's localisation net: picture to matrix, `(batch, size, size, 3)` to `(batch, 6)`."""
    picture = x = _picture(config, "localisation_picture")
    if config.model.transformer.shrink > 1:
        factor = config.model.transformer.shrink
        x = keras.layers.AveragePooling2D(factor, padding="same", name="localisation_shrink")(x)
    features = trunk(x, config.model, "localisation", localisation_blocks(config.model))
    matrix = localisation_head(features, config.model)
    return keras.Model(picture, matrix, name="localisation")


def _picture(config: Config, name: str) -> Tensor:
    return keras.Input((config.data.size, config.data.size, 3), name=name)


def _transformer(localisation: keras.Model | None, config: Config) -> SpatialTransformer:
    settings = config.model.transformer
    return SpatialTransformer(
        localisation,
        output_size=(settings.size, settings.size) if settings.size else None,
        sampler=settings.sampler,
        fill=settings.fill or 0.0,
        name="transformer",
    )


def _call_factory(address: str, config: Config) -> keras.Model:
    model = _import_factory(address)(config)
    if not isinstance(model, keras.Model):
        raise ConfigError(f"`model.factory` {address}: expected a keras.Model, got {type(model).__name__}")
    _check_fit(address, config, model)
    return model


def _import_factory(address: str) -> Callable[[Config], Any]:
    module, _, function = address.partition(":")
    try:
        factory = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"`model.factory` {address}: expected an importable package.module:function, got: {error}"
        ) from None
    if not callable(factory):
        raise ConfigError(f"`model.factory` {address}: expected a function, got {type(factory).__name__}")
    return factory  # type: ignore[no-any-return]


def _check_fit(address: str, config: Config, model: keras.Model) -> None:
    """Raise ConfigError unless the model takes one uint8 picture of the data's size and gives one value per class."""
    size, classes = config.data.size, len(config.data.alphabet)
    for part, tensors, shape, dtype in (
        ("input", "inputs", (None, size, size, 3), "uint8"),
        ("output", "outputs", (None, classes), "float32"),
    ):
        expected = f"{dtype} {shape}"
        # A model that has seen no input yet has neither attribute; nor has a subclassed one.
        received = " and ".join(map(_describe, getattr(model, tensors, ()))) or "a model without a symbolic input"
        if received != expected:
            raise ConfigError(
                f"`model.factory` {address}: expected a keras.Model with one {part} {expected}, got {received}"
            )


def _describe(tensor: Tensor) -> str:
    return f"{keras.backend.standardize_dtype(tensor.dtype)} {tuple(tensor.shape)}"
