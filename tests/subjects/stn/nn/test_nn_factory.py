"""A factory's model before its training."""

from __future__ import annotations

from pathlib import Path

import pytest
from makers import write

from stn_bench.settings import override
from stn_bench.subject import find_subject
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.factory import refuse_compiled
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
        refuse_compiled(config)


def test_a_model_that_leaves_training_to_the_settings_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_compiled(config_of(tmp_path, monkeypatch, "factory_plain"))


def test_the_check_stands_before_a_training_and_in_no_run_key() -> None:
    subject = find_subject("stn")
    assert subject.vet
    subject.vet(Config())  # without a factory, nothing is built
    reached = identify(subject, Config().resolved().flat(), 1, "").code
    assert not [name for name in reached if name.startswith("nn.factory:") or name == "hooks:vet"]
