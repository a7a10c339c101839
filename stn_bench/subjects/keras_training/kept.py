"""What a trained Keras model leaves: its cost, its numbers, and itself with its signature."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stn_bench.subject import Cost, Numbers, TrainedModel
from stn_bench.subjects.keras_training.compiled import optimizers
from stn_bench.subjects.keras_training.flops import Counter, count_parameters, layer_costs
from stn_bench.subjects.keras_training.progress import values
from stn_bench.system.machine import package_version
from stn_bench.system.own_code import reason

LOG = logging.getLogger(__name__)

SERVED_WITH = ("keras", "tensorflow", "numpy", "mlflow")
"""What pip must install to serve a model."""

Signature = tuple[tuple[str, str, tuple[int, ...]], ...]


def cost_of(model: keras.Model, own: Counter | None = None) -> Cost:
    """Return parameters, and the operations of one example where the model is a graph of layers.

    Args:
        model: the model.
        own: counts layers that Keras does not have.
    """
    parameters = count_parameters(model) if model.built else None
    try:
        layers, uncounted = layer_costs(model, own)
    except (AttributeError, NotImplementedError):  # a subclassed model has no graph
        return Cost(parameters=parameters, uncounted=(model.name,))
    return Cost(
        parameters=parameters,
        flops=sum(layer.flops for layer in layers),
        layers=layers,
        uncounted=uncounted,
    )


def served(model: keras.Model, x: Any, predicted: Any) -> TrainedModel | None:
    """Return the model as MLflow keeps it, with the signature that one batch shows; None where it cannot be saved."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.save(Path(folder) / "model.keras")
        except Exception as error:  # a class of the user's without `get_config`, or whatever it raises
            LOG.warning("the model is not kept with the run: it cannot be saved (%s)", reason(error))
            return None
    return described(model, x, predicted)


def described(model: keras.Model, x: Any, predicted: Any) -> TrainedModel:
    """Return a model that can be saved, with the signature that its input and output have."""
    versions = {name: package_version(name) for name in SERVED_WITH}
    return TrainedModel(
        flavour="tensorflow",
        value=model,
        inputs=_signature(x, [one.name for one in getattr(model, "inputs", None) or ()], "input"),
        outputs=_signature(predicted, list(getattr(model, "output_names", None) or ()), "output"),
        requirements=tuple(f"{name}=={version}" for name, version in versions.items() if version),
        options={"custom_objects": _own_classes(model)},
    )


def _signature(tree: Any, names: list[str], noun: str) -> Signature:
    """Return name, type and shape of each array; one alone needs no name."""
    if isinstance(tree, Mapping):
        named = [(str(name), tree[name]) for name in tree]
    elif isinstance(tree, tuple | list):
        names = names if len(names) == len(tree) else [f"{noun}_{index}" for index in range(len(tree))]
        named = list(zip(names, tree, strict=True))
    else:
        named = [("", tree)]
    return tuple((name, _dtype(array), (-1, *np.asarray(array).shape[1:])) for name, array in named)


def _dtype(array: Any) -> str:
    dtype = np.asarray(array).dtype
    return "str" if dtype.kind in "US" else dtype.name


def _own_classes(model: keras.Model) -> dict[str, Any]:
    """Return the user's classes and functions that the model is made of; whoever loads it imports them."""
    found = {type(one).__name__: type(one) for one in _layers(model)}
    for given in keras.tree.flatten([getattr(model, "loss", None)]):
        if callable(given):
            kind = given if hasattr(given, "__name__") else type(given)
            found[kind.__name__] = kind
    return {name: one for name, one in found.items() if not one.__module__.startswith("keras.")}


def _layers(model: keras.Model) -> Iterator[Any]:
    yield model
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def state_of(model: keras.Model) -> Mapping[str, Numbers]:
    """Return every variable of model and optimizers by its path; where two share one, a number tells them apart."""
    variables = [*model.variables, *(one for optimizer in optimizers(model) for one in optimizer.variables)]
    seen: dict[str, int] = {}
    names = []
    for variable in variables:
        seen[variable.path] = seen.get(variable.path, 0) + 1
        names.append(variable.path if seen[variable.path] == 1 else f"{variable.path} ({seen[variable.path]})")
    return dict(zip(names, values(variables), strict=True))
