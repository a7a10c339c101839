"""Layers at the level of a module: a training that would begin where another ended is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras_subjects import Small, split

from stn_bench.runner.determinism import Trained, first_difference
from stn_bench.runner.job import LentRun
from stn_bench.subject import Outcome
from stn_bench.subjects.keras_model import KerasModel
from stn_bench.system.errors import ConfigError

Build = Callable[[Small], keras.Model]


def data(settings: Small) -> Any:
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(160, 4)).astype("float32")
    return split(x, (x[:, :1] > 3).astype("float32"))


def with_layers(*shared: keras.layers.Layer) -> Build:
    """Return what builds models that begin with the same layers, and end with one of their own."""
    return lambda settings: keras.Sequential(
        [keras.Input((4,)), *shared, keras.layers.Dense(1, activation="sigmoid", name="own")]
    )


class Inner(keras.layers.Layer):  # type: ignore[misc]
    def __init__(self, within: keras.layers.Layer) -> None:
        super().__init__(name="outer")
        self.within = within

    def call(self, x: Any) -> Any:
        return self.within(x)


def frozen() -> keras.layers.Layer:
    layer = keras.layers.Dense(4, name="frozen")
    layer.build((None, 4))
    layer.trainable = False
    return layer


def without_shape(*shared: keras.layers.Layer) -> Build:
    """Return what builds models that get their weights, frozen ones too, when they first see an input."""
    return lambda settings: keras.Sequential([*shared, keras.layers.Dense(1, activation="sigmoid", name="own")])


def unbuilt() -> Build:
    return without_shape(keras.Sequential([keras.layers.Dense(4, trainable=False)], trainable=False))


def adapted() -> keras.layers.Layer:
    layer = keras.layers.Normalization(name="adapted")
    layer.adapt(data(Small())[0][0])
    return layer


def reloading() -> Build:
    """Return what puts its shared layer back into the state in which it was first."""
    layer = keras.layers.Dense(4)
    layer.build((None, 4))
    first = layer.get_weights()

    def build(settings: Small) -> keras.Model:
        layer.set_weights(first)
        return with_layers(layer)(settings)

    return build


def within_new(inner: keras.layers.Layer) -> Build:
    return lambda settings: with_layers(Inner(inner))(settings)


def whole() -> Build:
    model = with_layers(keras.layers.Dense(4, name="shared"))(Small())
    return lambda settings: model


def trained(build: Build, folder: Path, seeds: tuple[int, ...]) -> list[Outcome]:
    """Train a model for each seed, one after the other in this process."""
    subject = KerasModel(Small, data=data, build=build, loss="binary_crossentropy", best="last")
    outcomes = []
    for seed in seeds:
        own = folder / str(seed)
        own.mkdir(parents=True)
        outcome = subject.train(Small(), seed, LentRun("k" * 64, folder, own, own, lambda epoch, metrics: None))
        assert isinstance(outcome, Outcome)
        outcomes.append(outcome)
    return outcomes


L = keras.layers
REFUSED: dict[str, tuple[str, Callable[[], Build]]] = {
    "trained": ("shared", lambda: with_layers(L.Dense(4, name="shared"))),
    "in another": ("shared", lambda: with_layers(Inner(L.Dense(4, name="shared")))),
    "built later": ("shared", lambda: without_shape(L.Dense(4, name="shared"))),
    "partly frozen, built later": (
        "shared",
        lambda: without_shape(keras.Sequential([L.Dense(4, trainable=False), L.Dense(3, name="shared")])),
    ),
    "in a new one": ("shared", lambda: within_new(L.Dense(4, name="shared"))),
    "means": ("means", lambda: with_layers(L.BatchNormalization(center=False, scale=False, name="means"))),
    "the whole model": ("own", whole),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layer_that_an_earlier_run_trained_is_refused_by_name(case: str, tmp_path: Path) -> None:
    name, make = REFUSED[case]
    build = make()
    trained(build, tmp_path / "first", (1,))
    with pytest.raises(ConfigError, match=f"^`build`: an earlier training changed layer `{name}`"):
        trained(build, tmp_path / "second", (2,))


@pytest.mark.parametrize("is_built", [True, False])
def test_a_layer_whose_random_numbers_would_go_on_is_refused_without_advice_to_freeze_it(
    is_built: bool, tmp_path: Path
) -> None:
    drawing = L.Dropout(0.5, name="drawn") if is_built else L.GaussianNoise(0.5, name="drawn", trainable=False)
    build = with_layers(drawing) if is_built else without_shape(drawing)
    trained(build, tmp_path / "first", (1,))
    message = (
        "^`build`: an earlier training drew random numbers in layer `drawn`, .*; make the layer anew for each model$"
    )
    with pytest.raises(ConfigError, match=message):
        trained(build, tmp_path / "second", (2,))


SHARED: dict[str, Callable[[], Build]] = {
    "frozen": lambda: with_layers(frozen()),
    "frozen, built later": unbuilt,
    "frozen within, built later": lambda: without_shape(keras.Sequential([L.Dense(4, trainable=False)])),
    "adapted": lambda: with_layers(adapted()),
    "without variables": lambda: with_layers(L.Rescaling(0.5), L.ReLU()),
    "put back": reloading,
}


@pytest.mark.parametrize("case", SHARED)
def test_a_layer_that_no_run_changes_may_be_shared(case: str, tmp_path: Path) -> None:
    """Then a run behind another is what it is alone."""
    build = SHARED[case]()
    _, behind = trained(build, tmp_path / "behind", (1, 2))
    (alone,) = trained(build, tmp_path / "alone", (2,))
    assert first_difference(Trained.of(behind), Trained.of(alone)) is None
