"""A factory's model around its training."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from makers import write

from stn_bench.settings import override
from stn_bench.subject import TrainedModel, find_subject
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.factory import refuse_compiled, without_input_name
from stn_bench.system.errors import ConfigError

SOUND = """
import keras
def build(config):
    picture = keras.Input((16, 16, 3), dtype="uint8"{name})
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(picture))
    model = keras.Model(picture, keras.layers.Dense(2, activation="softmax")(hidden))
    {more}
    return model
"""


def config_of(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, *, name: str = "", more: str = "") -> Config:
    write(folder / f"{module}.py", SOUND.format(name=f', name="{name}"' if name else "", more=more))
    monkeypatch.syspath_prepend(folder)
    own = {"model.factory": f"{module}:build", "data.alphabet": "AB", "data.size": 16}
    return override(Config(), own)


def test_a_compiled_model_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path, monkeypatch, "factory_compiled", more='model.compile("sgd", "mse")')
    with pytest.raises(ConfigError, match=r"factory_compiled:build: its model is compiled, .*; leave out `compile`"):
        refuse_compiled(config)


def test_a_model_that_leaves_training_to_the_settings_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_compiled(config_of(tmp_path, monkeypatch, "factory_plain"))


def test_the_check_stands_before_a_training_and_in_no_run_key() -> None:
    train = find_subject("stn").train
    assert train.__name__ == "checked_train"
    assert (train.__module__, train.__qualname__) == ("stn_bench.subjects.stn.hooks", "train")


@pytest.mark.filterwarnings("ignore:The structure of `inputs`")  # a name where the model takes one alone
@pytest.mark.parametrize(("name", "served"), [("", ""), ("image", ""), ("picture", "picture")])
def test_a_model_can_be_served_whatever_its_input_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, served: str
) -> None:
    """Keras takes, after a save, what the signature lets through: a picture under that name, or under none."""
    from stn_bench.subjects.stn.nn.build import build_model

    model = build_model(config_of(tmp_path, monkeypatch, f"factory_{name or 'nameless'}", name=name))
    said = TrainedModel("tensorflow", model, (("picture", "uint8", (-1, 16, 16, 3)),), (("", "float32", (-1, 2)),))
    ((told, dtype, shape),) = without_input_name(said).inputs
    assert (told, dtype, shape) == (served, "uint8", (-1, 16, 16, 3))
    model.save(tmp_path / "model.keras")
    pictures = np.zeros((1, 16, 16, 3), np.uint8)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.predict({told: pictures} if told else pictures, verbose=0).shape == (1, 2)
