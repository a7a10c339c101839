"""A run from its pictures to what it leaves: the training of any Keras model, with the article's data and network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_bench.subject import Metric, Numbers, Outcome, Run
from stn_bench.subjects.keras_training.data import Part
from stn_bench.subjects.keras_training.kept import described
from stn_bench.subjects.keras_training.recipe import Epoch, Recipe
from stn_bench.subjects.keras_training.training import FittedModel, fitted
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.augmentation import augmentation
from stn_bench.subjects.stn.data.correction import correct_split
from stn_bench.subjects.stn.data.dataset import Pictures, open_dataset
from stn_bench.subjects.stn.data.pictures import enlarge, side_by_side, write_picture
from stn_bench.subjects.stn.data.spec import DatasetSpec, Labels, Picture
from stn_bench.subjects.stn.files import GALLERY, MODEL, PREDICTIONS
from stn_bench.subjects.stn.nn.compiled import compiled_network, transformer_flops
from stn_bench.subjects.stn.nn.model_file import save_model
from stn_bench.subjects.stn.nn.rectify import Rectified, measure_letters, rectify
from stn_bench.subjects.stn.nn.scores import VALIDATIONS, predict, score
from stn_bench.subjects.stn.nn.start import starting_weights
from stn_bench.subjects.stn.nn.transformer import find_transformer

MEASURED = 1000
"""Test pictures on which it is measured what the transformer does to the letters."""

SHOWN = 8
"""Test pictures that each run with a transformer keeps, before and after."""

SHOWN_HEIGHT = 240
"""Pixels, at least, of such a pair in the MLflow UI."""


def train_network(config: Config, seed: int, run: Run) -> Outcome:
    """Train a network, or go on from the checkpoint in the run's folder, and return what it ended with.

    Args:
        config: the settings.
        seed: drives initialisation, order of the pictures and dropout.
        run: what the harness lends.

    Raises:
        ConfigError: if it is to go on from a run whose network has other shapes.
        DataError: if the pictures are missing or damaged.
        Interrupted: if the harness asked to stop before the last epoch; the checkpoint stays.
    """
    with fitted(RECIPE, config.resolved(), seed, run) as trained:
        return leave(trained)


def corrected_pictures(config: Config, *, folder: Path) -> dict[str, tuple[Picture, Labels]]:
    """Return the pictures of each part as the network sees them, and their labels."""
    split = correct_split(open_dataset(DatasetSpec.of(config), folder).split(config.data), config)
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return {name: (part.images, part.labels) for name, part in parts.items()}


def validate(model: Any, part: Part, epoch: Epoch) -> dict[str, float]:
    """Return accuracy and loss on the validation pictures of an epoch."""
    train = epoch.settings.train
    pictures = VALIDATIONS[train.validation](Pictures(*part.arrays), train.batch_size, epoch.seed, epoch.number)
    return score(predict(model, pictures.images), pictures.labels)


RECIPE = Recipe(
    data=corrected_pictures,
    build=compiled_network,
    epochs="train.epochs",
    batch_size="train.batch_size",
    best=(Metric("validation.accuracy", "", "maximize"), Metric("validation.loss", "", "minimize")),
    validate=validate,
    start=starting_weights,
    sized=True,  # its runs began when `fit` was given arrays
    alter=augmentation,
)
"""What anybody's Keras model is trained by, with the article's pictures and network."""


# What it leaves -----------------------------------------------------------------------------------------------------


def leave(trained: FittedModel) -> Outcome:
    """Look at the test pictures with the weights of the last epoch and of the best one, and keep what a run keeps."""
    if trained.progress.diverged:
        return trained.outcome({}, transformer_flops)
    images, labels = trained.parts["test"].arrays
    probabilities = predict(trained.model, images)
    last = score(probabilities, labels)
    if trained.settings.train.weights == "best":
        trained.take_best()
        probabilities = predict(trained.model, images)
    metrics = {f"test.last_{name}": value for name, value in last.items()}
    metrics |= {f"test.{name}": value for name, value in score(probabilities, labels).items()}
    metrics |= trained.at_best | _on_the_way(trained.progress.history)
    shown = _shown(trained)
    if shown:
        metrics |= measure_letters(trained.model, shown.originals, shown.rectified).means()
    outcome = trained.outcome(metrics, transformer_flops)
    if trained.run.is_trial:
        return outcome
    _write_predictions(probabilities, labels, trained.run.files / PREDICTIONS)
    save_model(trained.model, trained.run.files / MODEL, trained.settings)
    if shown:
        _write_gallery(shown, trained.run.files)
    return replace(outcome, model=described(trained.model, {"picture": images[:1]}, probabilities))


def _on_the_way(history: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the metrics of the learning curve's start and end, without choosing an epoch."""
    early = max(1, round(len(history["train.loss"]) / 10))
    return {
        "early.train.loss": float(np.mean(history["train.loss"][:early])),
        "last.validation.accuracy": history["validation.accuracy"][-1],
        "last.validation.loss": history["validation.loss"][-1],
    }


@dataclass(frozen=True)
class _Shown:
    """The first test pictures as the network sees them, and what its transformer makes of them."""

    originals: NDArray[np.uint8]
    letters: list[str]
    rectified: Rectified


def _shown(trained: FittedModel) -> _Shown | None:
    if find_transformer(trained.model) is None:
        return None
    images, labels = trained.parts["test"].arrays
    originals = np.array(images[:MEASURED])
    letters = [trained.settings.data.alphabet[label] for label in labels[:MEASURED]]
    return _Shown(originals, letters, rectify(trained.model, originals))


def _write_predictions(probabilities: Numbers, labels: Labels, file: Path) -> None:
    """Write the prediction for each test picture, small enough to be committed for every run of a study."""
    np.savez_compressed(
        file,
        allow_pickle=False,
        labels=labels.astype(np.uint8),  # an alphabet has 62 characters at most
        predicted=probabilities.argmax(axis=1).astype(np.uint8),
        probability=probabilities.max(axis=1).astype(np.float16),
    )


def _write_gallery(shown: _Shown, folder: Path) -> None:
    originals, letters = shown.originals[:SHOWN], shown.letters[:SHOWN]
    rectified = shown.rectified.pictures[:SHOWN]
    np.savez_compressed(
        folder / GALLERY,
        allow_pickle=False,
        originals=originals,
        rectified=rectified,
        matrices=shown.rectified.matrices[:SHOWN],
        letters=np.array(letters),
    )
    pictures = folder / "rectified"
    pictures.mkdir(exist_ok=True)
    for index, (before, after) in enumerate(zip(originals, rectified, strict=True)):
        pair = enlarge(side_by_side(before, after), SHOWN_HEIGHT)
        write_picture(pictures / f"{index + 1:02d}_{letters[index]}.png", pair)
