"""The operations of layers for sequences and volumes, beside numbers worked by hand."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from stn_bench.subjects.keras_training.flops import layer_costs

L = keras.layers


@pytest.mark.parametrize(
    ("shape", "layer", "flops"),
    [
        ((10, 3), L.Conv1D(4, 5), 6 * 4 * (2 * 5 * 3 + 1)),  # 6 places, 4 filters, a bias
        ((10, 3), L.Conv1D(4, 5, strides=2, activation="relu", use_bias=False), 3 * 4 * (2 * 5 * 3 + 1)),
        ((10, 4), L.Conv1D(4, 3, groups=2), 8 * 4 * (2 * 3 * 2 + 1)),
        ((4, 4, 4, 2), L.Conv3D(1, 2), 27 * (2 * 8 * 2 + 1)),
        ((10, 3), L.MaxPooling1D(2), 5 * 3 * 2),
        ((10, 3), L.GlobalAveragePooling1D(), 30),
        ((10, 3), L.LayerNormalization(), 60),
        ((10, 3), L.SpatialDropout1D(0.5), 0),
        ((10,), L.Embedding(7, 3), 0),
        ((10, 3), L.SimpleRNN(4), 10 * 4 * (2 * (3 + 4) + 2)),
        ((10, 3), L.GRU(4), 10 * 4 * (3 * (2 * (3 + 4) + 2) + 5)),
        ((10, 3), L.LSTM(4, return_sequences=True), 10 * 4 * (4 * (2 * (3 + 4) + 2) + 5)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, L.Layer) else "",
)
def test_a_layer_costs_what_it_computes(shape: tuple[int, ...], layer: Any, flops: int) -> None:
    found, unknown = layer_costs(keras.Sequential([keras.Input(shape), layer]))
    assert unknown == ()
    assert [(one.name, one.flops) for one in found] == [(layer.name, flops)]


def test_layers_inside_a_model_count_and_what_stn_counts_counts_as_there() -> None:
    inner = keras.Sequential([keras.Input((10, 3)), L.Conv1D(4, 5)])
    found, unknown = layer_costs(keras.Sequential([keras.Input((10, 3)), inner, L.Flatten(), L.Dense(2)]))
    assert unknown == ()
    assert sum(one.flops for one in found) == 6 * 4 * 31 + 2 * (2 * 24 + 1)


class Own(L.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(("length", "layer"), [(None, L.Conv1D(4, 5)), (10, Own())])
def test_what_cannot_be_known_is_named(length: int | None, layer: Any) -> None:
    found, unknown = layer_costs(keras.Sequential([keras.Input((length, 3)), layer]))
    assert (found, unknown) == ((), (layer.name,))


def test_a_layer_that_is_used_twice_counts_twice() -> None:
    x, layer = keras.Input((10, 3)), L.Conv1D(3, 5, padding="same")
    found, unknown = layer_costs(keras.Model(x, layer(layer(x))))
    assert ([one.flops for one in found], unknown) == ([10 * 3 * 31] * 2, ())
