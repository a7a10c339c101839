"""A Keras model with two inputs as a subject: a time series, and what is known of the machine that it was recorded of.

A recording is 96 samples of a machine's vibration. An unbalanced shaft shakes once a turn, a misaligned one twice, a
loose one three times: the line alone says little without the speed. Half of the training recordings were labelled in
a hurry, many of them wrongly, and `confidence` may weigh them less. All recordings are drawn, those that train
and validate from the run's seed, the test always from the same one.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from stn_bench.settings import Settings
from stn_bench.subjects.keras_model import KerasModel

SAMPLES = 96
FAULTS = 3  # shakes 1, 2 or 3 times a turn
SPEEDS = (0.04, 0.12)  # turns in a sample
NOISE = 0.6
HURRIED, WRONG = 0.5, 0.6  # fraction that was labelled in a hurry, and of these the fraction labelled at random
CONFIDENCE = 0.3  # weight of a hurried label
COUNTS = {"train": 1500, "validation": 500, "test": 1000}
TEST_SEED = 2**31


class Series(Settings):
    """What a run is trained with."""

    known: Literal["joined", "modulating", "none"] = "joined"
    """How speed and load reach the network: joined to what it found, as gains of each filter, or not at all."""
    filters: int = Field(24, ge=1)
    """Filters of each convolution."""
    confidence: Literal["ignored", "weighed"] = "ignored"
    """Whether hurried labels weigh less in the loss."""
    rate: float = Field(0.005, gt=0)
    """Learning rate."""
    epochs: int = Field(12, ge=1)
    """Passes over the training recordings."""
    batch_size: int = Field(50, ge=1)
    """Recordings in a step."""


def data(settings, seed):
    """Return (x, y) of each part, and sample weights of the one that trains; x has two named inputs."""
    drawn = {
        part: draw(np.random.default_rng([TEST_SEED if part == "test" else seed, index]), count)
        for index, (part, count) in enumerate(COUNTS.items())
    }
    x, faults = drawn["train"]
    rng = np.random.default_rng([seed, len(COUNTS)])
    hurried = rng.random(len(faults)) < HURRIED
    wrong = hurried & (rng.random(len(faults)) < WRONG)
    labels = np.where(wrong, rng.integers(FAULTS, size=len(faults)), faults)
    weights = np.where(hurried & (settings.confidence == "weighed"), CONFIDENCE, 1.0)
    return {**drawn, "train": (x, labels, weights.astype("float32"))}


def draw(rng, count):
    """Return recordings as the network's two inputs, `(count, 96, 1)` and `(count, 2)`, and the fault of each."""
    faults, load = rng.integers(FAULTS, size=count), rng.random(count)
    speed = rng.uniform(*SPEEDS, count)
    turns = speed[:, None] * np.arange(SAMPLES) + rng.random(count)[:, None]
    shaking = (0.5 + load)[:, None] * np.sin(2 * np.pi * (faults + 1)[:, None] * turns)
    vibration = shaking + NOISE * rng.normal(size=(count, SAMPLES))
    middle, half = np.mean(SPEEDS), np.ptp(SPEEDS) / 2
    machine = np.stack([(speed - middle) / half, 2 * load - 1], axis=1)
    return {"vibration": vibration[..., None].astype("float32"), "machine": machine.astype("float32")}, faults


def build(settings):
    """Return a model of two inputs, by their names."""
    import keras  # in here, so that commands that train nothing need not load it

    layers = keras.layers
    vibration = keras.Input((SAMPLES, 1), name="vibration")
    machine = keras.Input((2,), name="machine")
    found = layers.Conv1D(settings.filters, 25, strides=2, activation="relu")(vibration)
    found = layers.Conv1D(settings.filters, 5, strides=2, activation="relu")(found)
    found = layers.GlobalAveragePooling1D()(found)
    if settings.known == "joined":
        found = layers.Concatenate()([found, machine])
    elif settings.known == "modulating":
        found = layers.Multiply()([found, layers.Dense(settings.filters)(machine)])
    found = layers.Dense(32, activation="relu")(found)
    fault = layers.Dense(FAULTS, activation="softmax")(found)
    return keras.Model({"vibration": vibration, "machine": machine}, fault)


def optimizer(settings):
    """Return a new optimizer."""
    import keras

    return keras.optimizers.Adam(settings.rate)


subject = KerasModel(
    Series,
    data=data,
    build=build,
    optimizer=optimizer,
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    best="validation.accuracy",  # the epoch whose weights are tested
    example="recording",
    given=lambda settings: {"epoch": settings.epochs, "training recording": COUNTS["train"]},
    parts={"known": "speed and load"},
)
