"""Keras and TensorFlow: what others set, outside of code or before, changes no training; a training leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from stn_bench import isolation
from stn_bench.isolation import isolated
from stn_bench.subjects.keras_training import global_state, libraries

SLOW = pytest.mark.slow


def no_relu(x: Any) -> Any:
    return x


POLLUTERS: dict[str, Callable[[], Any]] = {
    "floatx": lambda: keras.config.set_floatx("float64"),
    "layout": lambda: keras.config.set_image_data_format("channels_first"),
    "epsilon": lambda: keras.config.set_epsilon(0.5),
    "policy": lambda: keras.config.set_dtype_policy("mixed_bfloat16"),
    "epochs": lambda: keras.config.set_max_epochs(1),
    "steps": lambda: keras.config.set_max_steps_per_epoch(1),
    "seed": lambda: keras.utils.set_random_seed(99),
    "names": lambda: keras.Sequential([keras.layers.Dense(1), keras.layers.Dense(1)]),
    "objects": lambda: keras.saving.get_custom_objects().update({"relu": no_relu}),
    "unsafe": lambda: keras.config.enable_unsafe_deserialization(),
    "logging": lambda: keras.config.disable_interactive_logging(),
    "eager": lambda: tf.config.run_functions_eagerly(True),
    "XLA": lambda: tf.config.optimizer.set_jit(True),
    "TF32": lambda: tf.config.experimental.enable_tensor_float_32_execution(False),
    "placement": lambda: tf.config.set_soft_device_placement(False),
    "determinism": lambda: tf.config.experimental.enable_op_determinism(),
    "generator": lambda: tf.random.set_global_generator(tf.random.Generator.from_seed(9)),
}


def trained() -> list[Any]:
    """Return what a small convolution learns, the names of its layers, and what is drawn beside."""
    x, y = np.random.rand(8, 6, 6, 3), np.arange(8) % 2  # noqa: NPY002
    model = keras.Sequential(
        [keras.layers.Conv2D(2, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(x, y, epochs=2, batch_size=4, verbose=0).history["loss"]
    drawn = [float(tf.random.normal(())), float(keras.random.normal(()))]
    return [losses, drawn, [one.name for one in model.layers], [one.numpy().tolist() for one in model.weights]]


@pytest.fixture(autouse=True)
def _unwatched() -> Iterator[None]:
    yield
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, isolation._Watcher)]


@pytest.fixture(scope="module")
def alone() -> list[Any]:
    with isolated(7):
        return trained()


def one_by_one(names: Collection[str]) -> list[Any]:
    """Return all at once, and each by itself, which tells more where all at once fail, and takes longer."""
    return [pytest.param(tuple(names), id="all"), *(pytest.param((one,), id=one, marks=SLOW) for one in names)]


@pytest.mark.parametrize("names", one_by_one(POLLUTERS))
def test_a_cell_trains_alike_alone_and_behind_a_polluting_one(names: tuple[str, ...], alone: list[Any]) -> None:
    with contextlib.suppress(RuntimeError), isolated(3) as first:
        for name in names:
            POLLUTERS[name]()
        raise RuntimeError("crashed")
    assert first.residue == ()
    with isolated(7):
        assert trained() == alone


@pytest.mark.parametrize("names", one_by_one(["floatx", "layout", "epsilon", "epochs", "policy"]))
def test_what_a_notebook_has_set_changes_no_training_and_is_set_afterwards(
    names: tuple[str, ...], alone: list[Any]
) -> None:
    def settings() -> tuple[Any, ...]:
        config = keras.config
        return (
            config.floatx(),
            config.image_data_format(),
            config.epsilon(),
            config.max_epochs(),
            config.dtype_policy(),
        )

    with isolated():
        for name in names:
            POLLUTERS[name]()
        mine = settings()
        with isolated(7):
            assert trained() == alone
        assert settings() == mine


def test_a_policy_that_nobody_asked_for_is_not_fixed_by_looking() -> None:
    """`set_floatx` of a training's own decides about its layers."""
    with isolated():
        keras.config.set_floatx("float64")
        assert keras.layers.Dense(1).compute_dtype == "float64"


@pytest.mark.parametrize("change", [lambda: tf.config.optimizer.set_experimental_options({"constant_folding": False})])
def test_what_cannot_be_put_back_is_told(change: Callable[[], None]) -> None:
    with isolated() as first:
        change()
    assert first.residue == ("TensorFlow's graph optimisers",)
    tf.config.optimizer.set_experimental_options({"constant_folding": True})


# Outside of code -----------------------------------------------------------------------------------------------------

LOOK = """
import json, os, sys
from stn_bench.isolation import watch_imports, isolated
watch_imports()
import keras
config = keras.config
print(json.dumps([config.floatx(), config.image_data_format(), config.epsilon(), config.backend(), config.max_epochs(),
                  config.max_steps_per_epoch(), keras.src.backend.config.keras_home(),
                  os.environ.get("KERAS_MAX_EPOCHS")]))
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")} | variables
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)


@pytest.mark.parametrize(
    "written",
    [
        '{"floatx": "float64", "image_data_format": "channels_first", "epsilon": 0.1, "backend": "torch"}',
        pytest.param('{"floatx": "bfloat16", "epsilon": 1}', marks=SLOW),
    ],
)
def test_nothing_outside_of_code_is_heeded(tmp_path: Path, written: str) -> None:
    """Not even what Keras itself refuses. The folder of the user's data sets stays the same, and so does the file."""
    (tmp_path / "keras.json").write_text(written)
    done = run(LOOK, KERAS_HOME=str(tmp_path), KERAS_MAX_EPOCHS="1", KERAS_MAX_STEPS_PER_EPOCH="1")
    assert done.returncode == 0, done.stderr
    usual = ["float32", "channels_last", 1e-7, "tensorflow", None, None]
    assert json.loads(done.stdout.splitlines()[-1]) == [*usual, str(tmp_path), "1"]
    assert (tmp_path / "keras.json").read_text() == written


def test_a_backend_that_is_not_installed_is_told_in_a_line() -> None:
    done = run(LOOK, KERAS_BACKEND="theano")
    assert done.returncode == 1
    assert (
        "Keras' backend `theano` trains nothing: set KERAS_BACKEND to another of tensorflow, jax, torch"
        in done.stderr.splitlines()[-1]
    )


def test_what_is_not_heeded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED", "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    assert isolation.unheeded() == []
    written = {"floatx": "float32", "image_data_format": "channels_first", "backend": "torch", "epsilon": 1e-7}
    (tmp_path / "keras.json").write_text(json.dumps(written))
    file = tmp_path / "keras.json"
    assert isolation.unheeded() == [f"image_data_format=channels_first, backend=torch in {file}"]
    monkeypatch.setenv("KERAS_MAX_EPOCHS", "2")
    assert isolation.unheeded()[0] == "KERAS_MAX_EPOCHS=2"
    file.write_text("{")
    assert isolation.unheeded() == ["KERAS_MAX_EPOCHS=2"]


def test_every_setting_of_keras_has_its_default() -> None:
    """One that a new version adds to `keras.config` is seen here, and belongs into the list or among these."""
    own = {"backend", "enable_", "disable_", "set_", "is_"}
    found = {name for name in dir(keras.config) if not name.startswith(("_", *own))}
    assert found == {"floatx", "epsilon", "image_data_format", "dtype_policy", "max_epochs", "max_steps_per_epoch"}
    assert global_state.KERAS.defaults["Keras' floatx"] == "float32"


@pytest.mark.parametrize("name", ["numpy", "pandas", "../x", "TensorFlow"])
def test_a_backend_that_trains_nothing_is_told_before_keras_is_loaded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", name)
    assert not global_state.has_backend(name)
    _, found = libraries.check()
    assert not found.sound
    assert "set KERAS_BACKEND to one of tensorflow, jax, torch" in found.advice
