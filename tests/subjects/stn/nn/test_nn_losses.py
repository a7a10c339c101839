"""The training loss and the weight decay, beside Keras and beside a step worked by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.compiled import compiled_network
from stn_bench.subjects.stn.nn.losses import smoothed_cross_entropy

SMALL = {"model.width": 1 / 32, "data.size": 20, "data.alphabet": "ABCDE", "data.count": 200, "data.test": 50}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_smoothing_is_that_of_keras_on_one_hot_labels(share: float) -> None:
    drawn = np.random.default_rng(0)
    probabilities = drawn.dirichlet(np.ones(5), 30).astype(np.float32)
    labels = drawn.integers(0, 5, 30)
    expected = keras.losses.CategoricalCrossentropy(label_smoothing=share, reduction="none")(
        np.eye(5, dtype=np.float32)[labels], probabilities
    )
    found = smoothed_cross_entropy(share)(labels, keras.ops.convert_to_tensor(probabilities))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(expected), rtol=1e-5)


def test_a_certain_mistake_costs_a_finite_loss() -> None:
    loss = smoothed_cross_entropy(0.1)(np.array([1]), keras.ops.convert_to_tensor(np.array([[1.0, 0.0]], np.float32)))
    assert np.isfinite(keras.ops.convert_to_numpy(loss)).all()


@pytest.mark.parametrize("name", ["adam", "amsgrad", "sgd"])
def test_decay_takes_its_share_of_kernels_and_nothing_of_the_transformer_s_identity(name: str) -> None:
    """A step of no gradient: a kernel loses rate times decay of itself (Loshchilov and Hutter 2019, algorithm 2)."""
    changes = {"optimizer.name": name, "optimizer.weight_decay": 0.5, "optimizer.learning_rate": 0.01}
    model = compiled_network(override(Config(), SMALL | {"data.validation": 50} | changes))
    weights = model.trainable_variables
    before = [np.array(one) for one in weights]
    model.optimizer.apply([keras.ops.zeros_like(one) for one in weights], weights)
    for one, was in zip(weights, before, strict=True):
        left = 1 - 0.01 * 0.5 if was.ndim > 1 else 1.0
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), left * was, rtol=1e-6, err_msg=one.path)


def test_without_decay_a_step_of_no_gradient_moves_nothing() -> None:
    model = compiled_network(override(Config(), SMALL | {"data.validation": 50}))
    before = [np.array(one) for one in model.trainable_variables]
    model.optimizer.apply([keras.ops.zeros_like(one) for one in before], model.trainable_variables)
    for one, was in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), was)
