"""Layers that the models of a process share: where one training left them, the next does not begin.

In no run key: it changes no result, it refuses one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from stn_bench.system.errors import ConfigError

FIRST = "_state_in_first_model"
"""The attribute of a layer with the digests of its weights, and of its random state, when a model was first looked at
that holds it."""


def refusing_trained(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what builds models as `build` does, and refuses one that an earlier training has changed."""

    def built(settings: Any) -> Any:
        model = build(settings)
        refuse_trained(model, "`build`")
        return model

    return built


def refuse_trained(model: Any, where: str) -> None:
    """Refuse a new model with a layer that an earlier training of this process has changed.

    Models may share a layer that is frozen, or whose variables no training changes, such as those of `Normalization`.

    Args:
        model: what a function of the user's returned; nothing is said of what is no Keras model.
        where: which function that is.

    Raises:
        ConfigError: if there is such a layer.
    """
    for layer in _layers(model):
        now = _state(layer)
        weights, random = vars(layer).setdefault(FIRST, now)
        if weights is None:  # they came with an earlier model
            vars(layer)[FIRST] = (now[0], random)
        elif weights != now[0]:
            raise ConfigError(
                f"{where}: an earlier training changed layer `{layer.name}`, and this one would go on from it; "
                "make the layer anew for each model, or freeze it with `trainable = False`"
            )
        if random != now[1]:
            raise ConfigError(
                f"{where}: an earlier training drew random numbers in layer `{layer.name}`, and this one would go on "
                "from there; make the layer anew for each model"
            )


def _layers(model: Any) -> list[Any]:
    """Return a model and all layers in it, the innermost first; [] of what is no model."""
    import keras

    if not isinstance(model, keras.Model):
        return []
    return list(model._flatten_layers())[::-1]  # no public name leads into layers of layers


def _state(layer: Any) -> tuple[str | None, str]:
    """Return the digests of a layer's weights, and of what else it holds: the state of its random numbers.

    The first is None of a frozen layer that is not built yet: it gets its weights with a first model, and keeps them.
    """
    weights = {id(variable) for variable in layer.weights}
    known = None if _will_be_given_weights(layer) else _digest(layer.weights)
    return known, _digest(one for one in layer.variables if id(one) not in weights)


def _will_be_given_weights(layer: Any) -> bool:
    """Return whether a layer is frozen and not built yet; of a `Sequential`, whether all in it are so, or built."""
    import keras

    if layer.built or not layer.trainable:
        return not layer.built
    inner = layer.layers if isinstance(layer, keras.Sequential) else ()
    return bool(inner) and all(one.built or _will_be_given_weights(one) for one in inner)


def _digest(variables: Iterable[Any]) -> str:
    import keras

    digest = hashlib.sha256()
    for variable in variables:
        digest.update(keras.ops.convert_to_numpy(variable.value).tobytes())
    return digest.hexdigest()
