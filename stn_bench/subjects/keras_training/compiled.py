"""The user's model, compiled: what it compiled itself is kept, and what would override it is refused."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from stn_bench.subject import Metric
from stn_bench.subjects.keras_training.checkpoint import CannotGoOn
from stn_bench.subjects.keras_training.metrics import name_of
from stn_bench.subjects.keras_training.recipe import Recipe
from stn_bench.system.errors import ConfigError, StnBenchError
from stn_bench.system.own_code import own_lines
from stn_bench.system.text import shorten

LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def keras_as_it_was() -> Iterator[None]:
    """Put Keras' global settings back behind a training, so that the next begins like the first."""
    config = keras.config
    floats, layout, epsilon = config.floatx(), config.image_data_format(), config.epsilon()
    policy = config.dtype_policy()
    try:
        yield
    finally:
        config.set_floatx(floats)
        config.set_image_data_format(layout)
        config.set_epsilon(epsilon)
        config.set_dtype_policy(policy)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a line that says which of it failed, with its own lines.

    Raises:
        ConfigError: for any error that is not ours.
    """
    try:
        yield
    except (StnBenchError, CannotGoOn, MemoryError, OSError):
        raise
    except Exception as error:
        raise ConfigError(f"{what} failed ({gist(error)}){own_lines(error)}") from error


NOISE = re.compile(
    r"\s*$|Exception encountered|Graph execution error|Detected at|Arguments received|Call arguments|  "
)
"""What Keras and TensorFlow put before the line that says what is wrong."""


def gist(error: BaseException) -> str:
    """Return an error as a message may quote it: its type, and the first line that says what is wrong."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    line = next((line for line in plain.splitlines() if not NOISE.match(line)), plain)
    return f"{type(error).__name__}: {shorten(line)}"


def build_model(recipe: Recipe, settings: Any, seed: int) -> keras.Model:
    """Return the user's model in its initial state, which depends on settings and seed alone.

    Raises:
        ConfigError: if `build` returns no model, or one that says otherwise than the arguments of `KerasModel`.
    """
    keras.utils.clear_session()  # a worker trains many models
    keras.utils.set_random_seed(seed)
    with told("`build`"):
        model = recipe.build(settings)
    if not isinstance(model, keras.Model):
        raise ConfigError(f"`build`: expected a keras.Model, got {type(model).__name__}; end it with `return model`")
    if model.compiled:
        _refuse_conflicts(recipe)
        return model
    with told("`compile`"):
        model.compile(
            optimizer=_optimizer(recipe, settings),
            loss=recipe.loss,
            metrics=_fresh(recipe.metrics) or None,
            weighted_metrics=_fresh(recipe.weighted_metrics) or None,
        )
    return model


def _refuse_conflicts(recipe: Recipe) -> None:
    given = [name for name in ("loss", "optimizer") if getattr(recipe, name) is not None]
    for name in ("metrics", "weighted_metrics"):
        objects = [one for one in keras.tree.flatten(getattr(recipe, name)) if not isinstance(one, str | Metric)]
        given += [name] if objects else []
    if given:
        raise ConfigError(
            f"`{given[0]}`: the model that `build` returns is compiled already, with one of its own; "
            f"leave out one of the two"
        )


def _optimizer(recipe: Recipe, settings: Any) -> Any:
    if recipe.optimizer is None or isinstance(recipe.optimizer, str):
        return recipe.optimizer or "adam"
    with told("`optimizer`"):
        made = recipe.optimizer(settings)
    if not isinstance(made, str | keras.optimizers.Optimizer):
        raise ConfigError(f"`optimizer`: expected a keras.optimizers.Optimizer, got {type(made).__name__}")
    return made


def _fresh(given: Any) -> Any:
    """Return metrics for one model: objects are made anew, and what only says what others mean is left out."""
    if isinstance(given, Mapping):
        return {output: _fresh(one if isinstance(one, list | tuple) else [one]) for output, one in given.items()}
    if isinstance(given, list | tuple):
        return [_fresh(one) for one in given if not isinstance(one, Metric)]
    if isinstance(given, type):
        return given(name=name_of(given))
    if isinstance(given, keras.metrics.Metric):
        with contextlib.suppress(Exception):  # one that cannot be made anew begins each epoch afresh all the same
            return type(given).from_config(given.get_config())
    return [] if isinstance(given, Metric) else given


def build_variables(model: keras.Model, x: Any) -> None:
    """Make the variables of model and optimizer, which a checkpoint is put into.

    A model whose parts only its own loop calls is left as it is: it should make its variables in `build`, and call
    `build` of optimizers of its own, or its training starts over after an interruption.

    Args:
        model: the model.
        x: some examples.
    """
    if not model.built:
        with contextlib.suppress(NotImplementedError), told("the model"):
            model(x)
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def optimizers(model: keras.Model) -> list[Any]:
    """Return every optimizer of a model: the one that it was compiled with, and those of a loop of its own."""
    held = [model.optimizer, *vars(model).values()]
    flat = [one for value in held for one in (value if isinstance(value, list | tuple) else [value])]
    found = {id(one): one for one in flat if isinstance(one, keras.optimizers.Optimizer)}
    return list(found.values())


def class_weights(recipe: Recipe, settings: Any) -> Any:
    """Return the weight of each class, or None."""
    if recipe.class_weight is None or isinstance(recipe.class_weight, Mapping):
        return recipe.class_weight
    with told("`class_weight`"):
        return recipe.class_weight(settings)


def user_callbacks(recipe: Recipe, settings: Any) -> list[Any]:
    """Return the user's callbacks.

    Raises:
        ConfigError: if these are none, or would do what the harness does.
    """
    if recipe.callbacks is None:
        return []
    with told("`callbacks`"):
        made = list(recipe.callbacks(settings) or ())
    for one in made:
        if not isinstance(one, keras.callbacks.Callback):
            raise ConfigError(f"`callbacks`: expected a list of Keras callbacks, got {type(one).__name__} in it")
        if isinstance(one, keras.callbacks.BackupAndRestore):
            raise ConfigError("`callbacks`: leave out BackupAndRestore: training goes on after an interruption anyway")
    return made
