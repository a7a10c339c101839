"""A factory's model around its training: it must not be compiled, and its input may have any name.

A training compiles each network with its own optimizer, loss and metrics, in silence. No training reaches this module,
so that it is in no run key.
"""

from __future__ import annotations

from dataclasses import replace

import keras

from stn_bench.subject import TrainedModel
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.system.errors import ConfigError


def refuse_compiled(config: Config) -> None:
    """Check that the factory which the settings name leaves training to them.

    Raises:
        ConfigError: if its model is compiled, or it returns none that fits the data.
    """
    keras.utils.set_random_seed(0)  # what it draws here must not depend on what was trained before
    model = build_model(config)
    if model.compiled:
        raise ConfigError(
            f"`model.factory` {config.model.factory}: its model is compiled, but `optimizer.*` and `train.*` say how "
            f"it is trained; leave out `compile`, or make it a subject with `KerasModel`, which keeps it"
        )


def without_input_name(model: TrainedModel) -> TrainedModel:
    """Return a factory's model as it can be served: with a nameless input, unless it bears the name in the signature.

    Keras refuses a picture under a name that its input has not, and takes one without a name.
    """
    ((name, dtype, shape),) = model.inputs
    own = model.value.inputs[0].name
    return replace(model, inputs=((name if own == name else "", dtype, shape),))


__all__ = ["refuse_compiled", "without_input_name"]
