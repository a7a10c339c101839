"""A factory's model before its training: it must not be compiled, nor hold what an earlier training has changed.

A training compiles each network with its own optimizer, loss and metrics, in silence. No training reaches this module,
so that it is in no run key.
"""

from __future__ import annotations

import keras

from stn_bench.subjects.keras_training.shared_layers import refuse_trained
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.system.errors import ConfigError


def check_factory(config: Config) -> None:
    """Check that the factory which the settings name leaves training to them, and makes each model anew.

    Raises:
        ConfigError: if its model is compiled, or was trained before, or it returns none that fits the data.
    """
    keras.utils.set_random_seed(0)  # what it draws here must not depend on what was trained before
    model = build_model(config)
    refuse_trained(model, f"`model.factory` {config.model.factory}")
    if model.compiled:
        raise ConfigError(
            f"`model.factory` {config.model.factory}: its model is compiled, but `optimizer.*` and `train.*` say how "
            f"it is trained; leave out `compile`, or make it a subject with `KerasModel`, which keeps it"
        )


__all__ = ["check_factory"]
