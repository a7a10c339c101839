"""A factory's model before its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from makers import write

from stn_bench.settings import override
from stn_bench.subject import find_subject
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.compiled import compiled_network
from stn_bench.subjects.stn.nn.factory import check_factory
from stn_bench.system.errors import ConfigError
from stn_bench.tracking.identity import identify

SOUND = """
import keras
def build(config):
    picture = keras.Input((16, 16, 3), dtype="uint8")
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(picture))
    model = keras.Model(picture, keras.layers.Dense(2, activation="softmax")(hidden))
    {more}
    return model
"""


def config_of(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, *, more: str = "") -> Config:
    write(folder / f"{module}.py", SOUND.format(more=more))
    monkeypatch.syspath_prepend(folder)
    own = {"model.factory": f"{module}:build", "data.alphabet": "AB", "data.size": 16}
    return override(Config(), own)


def test_a_compiled_model_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path, monkeypatch, "factory_compiled", more='model.compile("sgd", "mse")')
    with pytest.raises(ConfigError, match=r"factory_compiled:build: its model is compiled, .*; leave out `compile`"):
        check_factory(config)


def test_a_model_that_leaves_training_to_the_settings_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_factory(config_of(tmp_path, monkeypatch, "factory_plain"))


SHARING = """
import keras
shared = keras.layers.Dense(2, activation="softmax", name="shared")
def build(config):
    picture = keras.Input((16, 16, 3), dtype="uint8")
    return keras.Model(picture, shared(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(picture))))
"""


def test_a_layer_that_models_share_is_refused_once_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "factory_sharing.py", SHARING)
    monkeypatch.syspath_prepend(tmp_path)
    config = override(
        Config(), {"model.factory": "factory_sharing:build", "data.alphabet": "AB", "data.size": 16, "train.epochs": 1}
    )
    check_factory(config)
    check_factory(config)  # nothing was trained since
    model = compiled_network(config)
    model.fit(np.zeros((4, 16, 16, 3), "uint8"), np.array([0, 1, 1, 1]), verbose=0)
    with pytest.raises(
        ConfigError, match=r"^`model.factory` factory_sharing:build: an earlier training changed layer `shared`"
    ):
        check_factory(config)


def test_the_check_stands_before_a_training_and_in_no_run_key() -> None:
    subject = find_subject("stn")
    assert subject.vet
    subject.vet(Config())  # without a factory, nothing is built
    reached = identify(subject, Config().resolved().flat(), 1, "").code
    assert not [name for name in reached if name.startswith("nn.factory:") or name == "hooks:vet"]
