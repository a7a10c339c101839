"""Names and weights that Keras would complain of in the midst of a training, looked at before it.

In no run key: what is refused was never trained. Names are looked at as the subject is made, and Keras' own are read
from its files, so that `check` tells of a wrong one and loads no Keras; weights by class need the data, in a worker.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stn_bench.subject import Metric
from stn_bench.subjects.keras_classes import classes_of, targets_of
from stn_bench.subjects.keras_training.metrics import name_of
from stn_bench.subjects.keras_training.recipe import Recipe
from stn_bench.system.errors import ConfigError, StnBenchError
from stn_bench.system.text import did_you_mean, quote, shorten

SPECIAL = ("accuracy", "acc", "crossentropy", "ce")
"""Names of metrics that `compile` resolves by the shapes of the data."""

KINDS = {"loss": "losses", "optimizer": "optimizers", "metrics": "metrics", "weighted_metrics": "metrics"}
"""Argument of `KerasModel` -> Keras' module of what it may name."""

OBJECTS = "ALL_OBJECTS"
"""The set of classes and functions in each of these modules."""


def vetting(recipe: Recipe) -> Callable[[Any], None]:
    """Return what looks at a recipe before each of its trainings; raises ConfigError."""
    weighed: set[str] = set()

    def vet(settings: Any) -> None:
        if recipe.class_weight is not None and settings.canonical() not in weighed:
            _check_weights(recipe, settings)
            weighed.add(settings.canonical())

    return vet


def check_names(**given: Any) -> None:
    """Check that Keras knows each loss, metric and optimizer that is a name.

    Args:
        given: argument of `KerasModel` -> what was given.

    Raises:
        ConfigError: if it does not.
    """
    for what, tree in given.items():
        known = names_in(KINDS[what])
        for name in _texts(tree):
            if known and not _is_known(name, KINDS[what], known):
                advice = did_you_mean(name, sorted(known))
                raise ConfigError(f"KerasModel: `{what}`: Keras knows no `{shorten(name)}`.{advice}")


@functools.cache
def names_in(module: str) -> frozenset[str]:
    """Return what `keras.MODULE.get` knows by name, read from Keras' file; empty where that says it otherwise."""
    try:
        keras = importlib.util.find_spec("keras")
        file = Path(keras.origin or "").parent / "src" / module / "__init__.py" if keras else Path()
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    assigned = [
        one for one in tree.body if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "ALL_OBJECTS"
    ]
    names = {one.id for some in assigned for one in ast.walk(some.value) if isinstance(one, ast.Name)}
    keys = [key for one in ast.walk(tree) if isinstance(one, ast.Dict) for key in one.keys]
    short = {str(key.value) for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    if not names:
        return frozenset()
    if module == "optimizers":
        return frozenset(name.lower() for name in names)
    in_logs = {name_of(type(name, (), {})) for name in names} if module == "metrics" else set()
    return frozenset(names | short | in_logs | set(SPECIAL if module == "metrics" else ()))


def _is_known(name: str, module: str, known: frozenset[str]) -> bool:
    """Return whether Keras knows a name; of optimizers it knows those too that somebody registered, in any case."""
    if module != "optimizers":
        return name in known
    keras = sys.modules.get("keras")
    return name.lower() in known or (keras is not None and keras.saving.get_registered_object(name) is not None)


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    for one in tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ():
        if not isinstance(one, Metric):
            yield from _texts(one)


def check_weight_table(weights: Any) -> None:
    """Check that weights of classes are a table of numbers by the numbers of the classes.

    Raises:
        ConfigError: if they are not.
    """
    example = "expected class -> weight, as in {0: 1.0, 1: 2.5}"
    if not isinstance(weights, Mapping) or not weights:
        raise ConfigError(f"`class_weight`: {example}, got {quote(weights)}")
    for name, weight in weights.items():
        is_class = isinstance(name, int | np.integer) and not isinstance(name, bool)
        is_number = isinstance(weight, int | float | np.number) and not isinstance(weight, bool)
        if not is_class or not is_number or not math.isfinite(weight) or weight < 0:
            raise ConfigError(f"`class_weight`: {example}, got {quote(name)}: {quote(weight)}")


def _check_weights(recipe: Recipe, settings: Any) -> None:
    """Check that the weights of classes fit the training examples.

    Raises:
        ConfigError: if they do not.
    """
    weights: Any = recipe.class_weight
    if callable(weights) and (weights := weights(settings)) is None:
        return
    check_weight_table(weights)
    try:
        train = recipe.read(settings, 0)["train"]
    except StnBenchError:  # the training tells of it
        return
    if len(train.arrays) > 2:
        raise ConfigError(
            "`class_weight`: the training examples have sample weights already; leave out one of the two"
        )
    targets = targets_of(train)
    if len(targets) > 1:
        raise ConfigError(
            "`class_weight`: is for one output, and the data have several; return sample weights instead"
        )
    found = classes_of(next(iter(targets.values()), None)) or set()
    if beyond := sorted(one for one in found if isinstance(one, int) and one > max(weights)):
        raise ConfigError(f"`class_weight`: ends at class {max(weights)}, and training shows {beyond[-1]} too")


__all__ = ["check_names", "check_weight_table", "names_in", "vetting"]
