"""A run from its pictures to what it leaves: the place where `nn.train` meets the harness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stn_bench.subject import Cost, LayerCost, Outcome, Run, TrainedModel
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.correction import correct
from stn_bench.subjects.stn.data.dataset import Dataset, open_dataset
from stn_bench.subjects.stn.data.pictures import enlarge, side_by_side, write_picture
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.subjects.stn.files import GALLERY, MODEL, PREDICTIONS
from stn_bench.subjects.stn.nn.cost import count_flops, count_parameters
from stn_bench.subjects.stn.nn.forget import forget_gradients
from stn_bench.subjects.stn.nn.model_file import save_model
from stn_bench.subjects.stn.nn.rectify import Rectified, measure_letters, rectify
from stn_bench.subjects.stn.nn.start import starting_weights
from stn_bench.subjects.stn.nn.train import EpochEnd, Job, Predictions, Training, train, values
from stn_bench.subjects.stn.nn.transformer import SpatialTransformer, find_transformer
from stn_bench.system.errors import Interrupted
from stn_bench.system.machine import package_version

MEASURED = 1000
"""Test pictures on which it is measured what the transformer does to the letters."""

SHOWN = 8
"""Test pictures that each run with a transformer keeps, before and after."""

SHOWN_HEIGHT = 240
"""Pixels, at least, of such a pair in the MLflow UI."""

SERVED_WITH = ("keras", "tensorflow", "numpy", "mlflow")
"""What pip must install to serve a model."""


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
    config = config.resolved()
    dataset = open_dataset(DatasetSpec.of(config), run.data)
    weights = None if run.start is None else starting_weights(run.start, config, seed)
    checkpoint = run.folder / "checkpoint.npz"
    if checkpoint.exists() and not checkpoint.stat().st_size:  # as a machine that lost its power leaves it
        checkpoint.unlink()
    job = Job(config, seed, dataset.split(config.data), run.key, checkpoint, weights)
    try:
        training = train(job, on_epoch=_tell(run))
        shown = _shown(training, config, dataset)
        if training.outcome == "finished" and not run.is_trial:
            _write_files(training, config, shown, run.files)
        return _outcome(training, shown, is_kept=not run.is_trial)
    finally:
        forget_gradients()  # a worker trains many runs


def _tell(run: Run) -> Callable[[EpochEnd], None]:
    """Return a function that tells the harness of each epoch, and stops where that asks for it.

    Stopping at the end of an epoch is safe, since its checkpoint is on the disk. Behind the last epoch there is
    nothing to go on with, so that the training comes to its end.
    """

    def tell(epoch: EpochEnd) -> None:
        try:
            run.log(epoch.epoch, epoch.metrics)
        except Interrupted:
            if epoch.epoch < epoch.epochs:
                raise

    return tell


def _outcome(training: Training, shown: _Shown | None, *, is_kept: bool) -> Outcome:
    flops = count_flops(training.model)
    letters = measure_letters(training.model, shown.originals, shown.rectified).means() if shown else {}
    costs = {
        "cost.seconds": training.seconds,
        "cost.cpu_seconds": training.cpu_seconds,
        "cost.step_ms": training.step_ms,
        "cost.peak_memory_mb": training.peak_memory_mb,
    }
    return Outcome(
        metrics={**training.metrics, **costs, **letters},
        status=training.outcome,
        reason=training.reason,
        history=training.history,
        cost=Cost(
            parameters=count_parameters(training.model),
            flops=flops.total,
            layers=tuple(LayerCost(layer.name, layer.kind, layer.flops) for layer in flops.layers),
            uncounted=flops.uncounted,
        ),
        model=_served(training) if is_kept and training.outcome == "finished" else None,
        state=lambda: _state(training),
    )


def _served(training: Training) -> TrainedModel:
    versions = {name: package_version(name) for name in SERVED_WITH}
    return TrainedModel(
        flavour="tensorflow",
        value=training.model,
        inputs=(("picture", "uint8", (-1, *training.model.input_shape[1:])),),
        outputs=(("", "float32", (-1, *training.model.output_shape[1:])),),
        requirements=tuple(f"{name}=={version}" for name, version in versions.items() if version),
        # Kept by import path: whoever loads the model imports it first.
        options={"custom_objects": {"SpatialTransformer": SpatialTransformer}},
    )


def _state(training: Training) -> Mapping[str, NDArray[np.generic]]:
    variables = [*training.model.variables, *training.model.optimizer.variables]
    names = _distinct(variable.path for variable in variables)
    return dict(zip(names, values(variables), strict=True))


def _distinct(paths: Iterator[str]) -> Iterator[str]:
    """Yield names; where layers share one, a number tells them apart."""
    seen: dict[str, int] = {}
    for path in paths:
        seen[path] = seen.get(path, 0) + 1
        yield path if seen[path] == 1 else f"{path} ({seen[path]})"


@dataclass(frozen=True)
class _Shown:
    """The first test pictures as the network sees them, and what its transformer makes of them."""

    originals: NDArray[np.uint8]
    letters: list[str]
    rectified: Rectified


def _shown(training: Training, config: Config, dataset: Dataset) -> _Shown | None:
    if training.outcome != "finished" or find_transformer(training.model) is None:
        return None
    test = dataset.split(config.data).test
    originals = correct(np.array(test.images[:MEASURED]), config)
    letters = [config.data.alphabet[label] for label in test.labels[:MEASURED]]
    return _Shown(originals, letters, rectify(training.model, originals))


def _write_files(training: Training, config: Config, shown: _Shown | None, folder: Path) -> None:
    """Write the files that every run except a trial keeps: predictions, model file, pictures before and after."""
    if training.predictions is not None:
        _write_predictions(training.predictions, folder / PREDICTIONS)
    save_model(training.model, folder / MODEL, config)
    if shown:
        _write_gallery(shown, folder)


def _write_predictions(predictions: Predictions, file: Path) -> None:
    """Write the prediction for each test picture, small enough to be committed for every run of a study."""
    np.savez_compressed(
        file,
        allow_pickle=False,
        labels=predictions.labels.astype(np.uint8),  # an alphabet has 62 characters at most
        predicted=predictions.predicted.astype(np.uint8),
        probability=predictions.probability.astype(np.float16),
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
