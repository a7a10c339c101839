"""The weights that a training goes on from, where it does not begin afresh."""

from __future__ import annotations

from pathlib import Path

import keras

from stn_bench.subjects.keras_training.checkpoint import Arrays
from stn_bench.subjects.keras_training.progress import values
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.model_file import load_model, read_note
from stn_bench.system.errors import ConfigError

SHAPING = ("model.", "data.size", "data.alphabet")
"""The settings that the shapes of a network depend on."""


def starting_weights(path: Path, config: Config, seed: int) -> Arrays:
    """Return the variables of a new training's model, with the weights of a model file among them.

    A model file holds no states of random generators. They are those of a fresh model of this seed, so that the same
    start, settings and seed train the same model, bit for bit.

    Args:
        path: a file that `save_model` wrote. A model factory that it names is called if `config` names the same one.
        config: the new training's configuration; its network must have the shapes of the one in the file.
        seed: the new training's seed.

    Raises:
        ConfigError: if the shapes differ.
        ModelFileError: if the file cannot be used.
    """
    start, settings = load_model(path, trust=read_note(path).get("model.factory") == config.model.factory)
    keras.utils.clear_session()  # from here on as the training does it
    keras.utils.set_random_seed(seed)
    fresh = build_model(config)
    if [variable.shape for variable in fresh.variables] != [variable.shape for variable in start.variables]:
        raise ConfigError(_differing(settings, config))
    learned = {id(variable) for variable in fresh.weights}
    pairs = zip(fresh.variables, start.variables, strict=True)
    return values([old if id(new) in learned else new for new, old in pairs])


def _differing(start: Config, new: Config) -> str:
    before, after = start.resolved().flat(), new.resolved().flat()
    changed = [path for path in after if path.startswith(SHAPING) and after[path] != before[path]]
    named = ", ".join(f"`{path}` (was {before[path]}, is {after[path]})" for path in changed)
    return (
        f"the start's weights do not fit the network of these settings, which differ in {named}; "
        f"leave them as they were, or train from scratch"
    )
