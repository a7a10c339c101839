from __future__ import annotations

import gc

import keras
import numpy as np
import pytest

from stn_bench.subjects.keras_training.forget import CUSTOM, forget_gradients

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's registry (2026-11-25)")


def trained() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    return model


def registered() -> list[str]:
    from tensorflow.python.framework import ops

    return [name for name in ops.gradient_registry._registry if name.startswith(CUSTOM)]


def live_graphs() -> int:
    """Return how many graphs that were traced since `gc.freeze()` are still in memory."""
    from tensorflow.python.framework.func_graph import FuncGraph

    gc.collect()
    return sum(type(thing) is FuncGraph for thing in gc.get_objects())


def test_tensorflow_keeps_the_graph_of_a_training_and_it_is_let_go() -> None:
    keras.utils.clear_session()
    forget_gradients()
    gc.freeze()  # what other tests left is looked at no more: it may be millions of objects
    trained()
    keras.utils.clear_session()
    assert registered()  # where this fails, TensorFlow forgets by itself, and forget.py can go
    assert live_graphs() > 0
    forget_gradients()
    assert registered() == []
    assert live_graphs() == 0


def test_a_model_trains_on_after_others_are_forgotten() -> None:
    model = trained()
    before = model.get_weights()[0].copy()
    forget_gradients()
    model.fit(np.ones((4, 2)), np.zeros((4, 1)), verbose=0)
    assert not np.array_equal(before, model.get_weights()[0])
    model.compile("adam", "mse", jit_compile=False)  # traced anew
    model.fit(np.ones((4, 2)), np.zeros((4, 1)), verbose=0)
