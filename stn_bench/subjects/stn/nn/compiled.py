"""From a configuration to a network that can be trained, and what its own layers cost."""

from __future__ import annotations

import math

import keras

from stn_bench.subjects.keras_training.flops import Call, Counted
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.layout import BILINEAR_FLOPS, GRID_FLOPS
from stn_bench.subjects.stn.nn.losses import smoothed_cross_entropy
from stn_bench.subjects.stn.nn.optimizers import build_optimizer
from stn_bench.subjects.stn.nn.transformer import SpatialTransformer


def compiled_network(config: Config) -> keras.Model:
    """Return the compiled network, its weights drawn by Keras' seed.

    Raises:
        ConfigError: if `model.factory` cannot be used.
    """
    model = build_model(config)
    optimizer = build_optimizer(config, math.ceil(config.data.train / config.train.batch_size))
    smoothing = config.train.label_smoothing
    if config.optimizer.weight_decay:  # biases and norms are kept: the transformer's begins at the identity
        optimizer.exclude_from_weight_decay([one for one in model.trainable_variables if len(one.shape) < 2])
    model.compile(
        optimizer=optimizer,
        loss=smoothed_cross_entropy(smoothing) if smoothing else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # XLA on the CPU made these convolutions up to 16 times slower; JAX has no other way.
        jit_compile=keras.backend.backend() == "jax",
    )
    return model


def fresh_network(config: Config) -> keras.Model:
    """Return a compiled network with all its variables, as a training of seed 0 begins with it."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = compiled_network(config)
    model.optimizer.build(model.trainable_variables)
    return model


def transformer_flops(call: Call) -> Counted | None:
    """Return the operations of a transformer's grid and sampler, and the call of its localisation net."""
    layer = call.layer
    if not isinstance(layer, SpatialTransformer):
        return None
    inside = [] if layer.localisation is None else [Call(layer.localisation, call.inputs, (6,))]
    return math.prod(call.output[:2]) * GRID_FLOPS + call.values * BILINEAR_FLOPS, inside
