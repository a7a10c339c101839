"""A subject of pictures in folders that it draws itself; small, grey and not square."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from stn_bench.settings import Settings
from stn_bench.subjects.keras_model import KerasModel
from stn_bench.subjects.picture_folder import PictureFolder

HOME = tempfile.TemporaryDirectory(prefix="stn-bench-bars-")


class Bars(Settings):
    """What the model is trained with."""

    color: str = "grayscale"
    """Colour mode."""
    width: int = Field(4, ge=1)
    """Units of the hidden layer."""
    epochs: int = Field(2, ge=1)
    """Passes over the pictures."""


def draw(folder: Path) -> None:
    random = np.random.default_rng(0)
    for label, name in enumerate(("lying", "standing")):
        (folder / name).mkdir()
        for index in range(20):
            pixels = random.integers(0, 128, (6, 8), np.uint8)
            pixels[(random.integers(6), slice(None)) if label == 0 else (slice(None), random.integers(8))] = 255
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


pictures = PictureFolder(
    Path(HOME.name) / "bars", image_size=(6, 8), color_mode=lambda settings: settings.color, make=draw
)


def build(settings: Bars) -> Any:
    import keras

    return keras.Sequential(
        [
            keras.Input((6, 8, {"grayscale": 1, "rgb": 3}[settings.color])),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(settings.width, activation="relu"),
            keras.layers.Dense(len(pictures.class_names), activation="softmax"),
        ]
    )


bars = KerasModel(Bars, data=pictures, build=build, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
