"""A model factory that sets Keras' globals: whoever trains behind it in the same process trains as alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import pytest
from makers import write

from stn_bench.isolation import isolated
from stn_bench.runner.determinism import Trained, first_difference
from stn_bench.runner.job import LentRun
from stn_bench.subject import Lent, find_subject

STN = find_subject("stn")
SMALL = {**STN.small, "train.epochs": 1}
FACTORY = """
import keras

def build(settings):
    keras.config.set_epsilon(0.01)
    keras.config.set_max_epochs(1)
    keras.config.set_image_data_format("channels_first")
    size, count = settings.data.size, len(settings.data.alphabet)
    layers = [keras.Input((size, size, 3), dtype="uint8"), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(count, activation="softmax")])
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    assert STN.prepare
    STN.prepare([STN.read(SMALL).resolved()], Lent(folder))
    return folder


def train(data: Path, folder: Path, more: Mapping[str, Any] = {}) -> Trained:
    for name in ("checkpoints", "files"):
        (folder / name).mkdir(parents=True)
    settings = STN.read({**SMALL, **more}).resolved()
    run = LentRun("k" * 64, data, folder / "checkpoints", folder / "files")
    with isolated(1):
        if STN.vet:
            STN.vet(settings)
        return Trained.of(STN.train(settings, 1, run))


@pytest.mark.slow
def test_the_base_trains_as_alone_behind_a_polluting_factory_and_in_a_polluted_process(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "polluting_factory", raising=False)
    write(tmp_path / "polluting_factory.py", FACTORY)
    alone = train(data, tmp_path / "alone")
    train(data, tmp_path / "factory", {"model.factory": "polluting_factory:build"})
    assert first_difference(alone, train(data, tmp_path / "behind")) is None
    with isolated():  # as a user's file of settings, or his notebook, may have it
        keras.config.set_image_data_format("channels_first")
        keras.config.set_floatx("float64")
        assert first_difference(alone, train(data, tmp_path / "polluted")) is None
        assert keras.config.image_data_format() == "channels_first"
