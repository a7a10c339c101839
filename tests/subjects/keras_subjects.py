"""Keras models of four kinds as subjects; their data are drawn by a seed, and small."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from pydantic import Field

from stn_bench.settings import Settings
from stn_bench.subjects.keras_model import KerasModel


class Small(Settings):
    """What the models are trained with."""

    width: int = Field(8, ge=1)
    """Units of the hidden layer."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Fraction that is dropped."""
    rate: float = Field(0.01, gt=0)
    """Learning rate."""
    epochs: int = Field(3, ge=1)
    """Passes over the examples."""
    batch_size: int = Field(32, ge=1)
    """Examples of a step."""


def cut(tree: Any, part: slice) -> Any:
    if isinstance(tree, dict):
        return {name: cut(one, part) for name, one in tree.items()}
    return tuple(cut(one, part) for one in tree) if isinstance(tree, tuple) else tree[part]


def split(*columns: Any) -> tuple[Any, ...]:
    return tuple(cut(columns, part) for part in (slice(0, 96), slice(96, 128), slice(128, 160)))


# Pictures of digits --------------------------------------------------------------------------------------------------


def digits_data(settings: Small) -> Any:
    random = np.random.default_rng(0)
    shapes, labels = random.random((10, 8, 8, 1)), random.integers(10, size=160)
    return split((shapes[labels] + 0.3 * random.normal(size=(160, 8, 8, 1))).astype("float32"), labels)


def digits_model(settings: Small) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(settings.width, activation="relu"),
            keras.layers.Dropout(settings.dropout),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


digits = KerasModel(
    Small, data=digits_data, build=digits_model, loss="sparse_categorical_crossentropy", metrics=["accuracy"]
)


# A table -------------------------------------------------------------------------------------------------------------


def table() -> tuple[Any, Any]:
    random = np.random.default_rng(1)
    x = random.normal(size=(160, 5)).astype("float32")
    return x, (x @ [1.0, 2.0, 0.0, -1.0, 0.5] + 0.1 * random.normal(size=160)).astype("float32")


def table_data(settings: Small) -> Any:
    return split(*table())


def table_model(settings: Small) -> keras.Model:
    inputs = keras.Input((5,))
    hidden = keras.layers.Dropout(settings.dropout)(keras.layers.Dense(settings.width, "relu")(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))


def stopping(settings: Small) -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.ReduceLROnPlateau("val_mae", patience=1, min_delta=0.5, factor=0.5),
        keras.callbacks.EarlyStopping("val_mae", patience=2, min_delta=0.2, restore_best_weights=True),
    ]


stopped = KerasModel(
    Small,
    data=table_data,
    build=table_model,
    loss="mse",
    metrics=["mae"],
    optimizer=lambda settings: keras.optimizers.Adam(settings.rate),
    callbacks=stopping,
    best="validation.mae",
    example="row",
)


# Two inputs, and a loop of its own -----------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("stn_bench_tests")
class Pair(keras.Model):
    """A subclassed model whose `train_step` also tells how long the gradient was."""

    def __init__(self, width: int = 4, **options: Any) -> None:
        super().__init__(**options)
        self.width = width
        self.left, self.right = keras.layers.Dense(width, "relu"), keras.layers.Dense(width, "relu")
        self.drop, self.out = keras.layers.Dropout(0.2), keras.layers.Dense(1)
        self.length = keras.metrics.Mean(name="gradient")

    def get_config(self) -> dict[str, Any]:
        return {"width": self.width}

    def call(self, x: Any, training: bool = False) -> Any:
        both = keras.ops.concatenate([self.left(x["left"]), self.right(x["right"])], -1)
        return self.out(self.drop(both, training=training))

    def train_step(self, batch: Any) -> Any:
        import tensorflow as tf

        x, y = batch
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.length.update_state(tf.linalg.global_norm(gradients))
        return {"loss": loss, "gradient": self.length.result()}


def pair_data(settings: Small) -> Any:
    x, y = table()
    return split({"left": x[:, :2], "right": x[:, 2:]}, y)


def pair_model(settings: Small) -> keras.Model:
    model = Pair(settings.width)
    model.compile(keras.optimizers.SGD(settings.rate, momentum=0.9), "mae")
    return model


pair = KerasModel(Small, data=pair_data, build=pair_model)


# Two outputs, sample weights, a dataset ------------------------------------------------------------------------------


def outputs_data(settings: Small) -> Any:
    x, y = table()
    return split((x[:, :2], x[:, 2:]), {"price": y, "kind": (y > 0).astype("int32")})


def outputs_model(settings: Small) -> keras.Model:
    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    hidden = keras.layers.Concatenate()([left, right])
    outputs = {
        "price": keras.layers.Dense(1, name="price")(hidden),
        "kind": keras.layers.Dense(1, "sigmoid", name="kind")(hidden),
    }
    return keras.Model([left, right], outputs)


outputs = KerasModel(
    Small,
    data=outputs_data,
    build=outputs_model,
    loss={"price": "mse", "kind": "binary_crossentropy"},
    metrics={"price": ["mae"], "kind": ["accuracy"]},
)


def dataset_data(settings: Small) -> Any:
    import tensorflow as tf

    x, y = table()
    parts = split(x, (y > 0).astype("int32"))
    return tuple(tf.data.Dataset.from_tensor_slices(part).batch(settings.batch_size) for part in parts)


def two_classes(settings: Small) -> keras.Model:
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, "softmax")])


dataset = KerasModel(
    Small,
    data=dataset_data,
    build=two_classes,
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    class_weight={0: 1.0, 1: 2.0},
)


def weighted_data(settings: Small) -> Any:
    x, y = table()
    return split(x, (y > 0).astype("float32"), np.abs(y))


def one_class(settings: Small) -> keras.Model:
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, "sigmoid")])


weighted = KerasModel(
    Small,
    data=weighted_data,
    build=one_class,
    loss="binary_crossentropy",
    metrics=["accuracy", keras.metrics.AUC()],
    weighted_metrics=[keras.metrics.BinaryAccuracy(name="weighted_accuracy")],
)


# Two optimizers ------------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("stn_bench_tests")
class Halves(keras.Model):
    """Two halves, each with an optimizer of its own; `build` makes the variables of both."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.one, self.two = keras.layers.Dense(4), keras.layers.Dense(1)
        self.build((None, 5))
        self.slow, self.fast = keras.optimizers.Adam(0.001), keras.optimizers.Adam(0.01)
        self.slow.build(self.one.trainable_variables)
        self.fast.build(self.two.trainable_variables)

    def build(self, shape: Any) -> None:
        self.one.build(shape)
        self.two.build((None, 4))
        self.built = True

    def call(self, x: Any) -> Any:
        return self.two(self.one(x))

    def train_step(self, batch: Any) -> Any:
        import tensorflow as tf

        x, y = batch
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x))
        first, second = self.one.trainable_variables, self.two.trainable_variables
        gradients = tape.gradient(loss, [*first, *second])
        self.slow.apply_gradients(zip(gradients[: len(first)], first, strict=True))
        self.fast.apply_gradients(zip(gradients[len(first) :], second, strict=True))
        return {"loss": loss}


def halves_model(settings: Small) -> keras.Model:
    model = Halves()
    model.compile(optimizer=None, loss="mse")
    return model


halves = KerasModel(Small, data=table_data, build=halves_model)
