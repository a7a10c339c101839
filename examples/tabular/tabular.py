"""Keras tabular regression as a subject: how far diabetes has progressed after a year, judged by mean absolute error.

The data are scikit-learn's: 442 patients with ten measurements each, and a score of the progression from 25 to 346.
The last 142 patients are the test for every run; the seed draws which of the others train and which validate.
"""

from typing import Literal

import numpy as np
from pydantic import Field
from sklearn.datasets import load_diabetes

from stn_bench.settings import Settings
from stn_bench.subject import Metric
from stn_bench.subjects.keras_model import KerasModel

TEST, VALIDATION = 142, 75  # patients
MIDDLE, SPREAD = 150.0, 75.0  # of the score, roughly: the network's last layer works in these units
SCALE = 21.0  # brings scikit-learn's measurements to a standard deviation of 1
PATIENCE = 10  # epochs without a better validation error, after which training stops
BODY, BLOOD = slice(2, 4), slice(4, 10)  # columns; the first two are age and sex


class Tabular(Settings):
    """What a run is trained with."""

    body: Literal["given", "none"] = "given"
    """Whether body-mass index and blood pressure are given to the network."""
    blood: Literal["given", "none"] = "given"
    """Whether the six blood values are."""
    hidden: Literal["none", "one", "two"] = "one"
    """Hidden layers; "none" is a linear model."""
    units: int = Field(32, ge=1)
    """Units of each hidden layer."""
    loss: Literal["mae", "mse"] = "mae"
    """What training minimises: absolute errors, or squared ones."""
    rate: float = Field(0.01, gt=0)
    """Learning rate."""
    epochs: int = Field(60, ge=1)
    """Passes over the training patients, at most."""
    batch_size: int = Field(32, ge=1)
    """Patients in a step."""


def data(settings, seed):
    """Return 225 patients to train, 75 to validate and 142 to test."""
    x, y = load_diabetes(return_X_y=True)
    x, y = (SCALE * x).astype("float32"), y.astype("float32")
    x[:, BODY] *= settings.body == "given"
    x[:, BLOOD] *= settings.blood == "given"
    order = np.random.default_rng(seed).permutation(len(x) - TEST)
    rows = {"train": order[VALIDATION:], "validation": order[:VALIDATION], "test": slice(len(x) - TEST, None)}
    return {name: (x[part], y[part]) for name, part in rows.items()}


def build(settings):
    """Return the network, compiled, since the loss is one of its settings."""
    import keras  # in here, so that commands that train nothing need not load it

    layers = [keras.Input((10,))]
    for _ in range(("none", "one", "two").index(settings.hidden)):
        layers.append(keras.layers.Dense(settings.units, activation="relu"))
    layers += [keras.layers.Dense(1), keras.layers.Rescaling(SPREAD, offset=MIDDLE)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(settings.rate), loss=settings.loss, metrics=["mae", "mse"])
    return model


def callbacks(settings):
    """Return new callbacks; they see the true epochs, also after an interruption."""
    import keras

    return [keras.callbacks.EarlyStopping("val_mae", patience=PATIENCE)]


subject = KerasModel(
    Tabular,
    data=data,
    build=build,
    callbacks=callbacks,
    metrics=[  # what the compiled ones mean; the first decides, unless a study says otherwise
        Metric("mae", "mean absolute error of the score", "minimize"),
        Metric("mse", "mean squared error of the score", "minimize"),
    ],
    best="validation.mae",  # the epoch whose weights are tested
    example="patient",
    given=lambda settings: {"training patient": 442 - TEST - VALIDATION},
    parts={"hidden": "hidden layers", "body": "body-mass index and blood pressure", "blood": "blood values"},
)
