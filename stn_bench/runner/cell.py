"""One cell, from its first epoch to its finished MLflow run: the place where training meets tracking."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stn_bench.runner.order import CellOrder
from stn_bench.subjects.stn.data.correction import correct
from stn_bench.subjects.stn.data.dataset import Dataset
from stn_bench.subjects.stn.data.pictures import enlarge, side_by_side, write_picture
from stn_bench.subjects.stn.nn.cost import count_flops, count_parameters
from stn_bench.subjects.stn.nn.forget import forget_gradients
from stn_bench.subjects.stn.nn.model_file import save_model
from stn_bench.subjects.stn.nn.rectify import Rectified, measure_letters, rectify
from stn_bench.subjects.stn.nn.start import starting_weights
from stn_bench.subjects.stn.nn.train import EpochEnd, Job, Predictions, Training, train
from stn_bench.subjects.stn.nn.transformer import SpatialTransformer, find_transformer
from stn_bench.system.errors import ClaimLostError, Interrupted, MachineError, StoreError
from stn_bench.system.machine import disk_full, now, package_version
from stn_bench.tracking.mlflow import DatasetNote, Tracking
from stn_bench.tracking.record import MODEL, PREDICTIONS, LayerCost, RunRecord, run_tags

MEASURED = 1000  # test pictures on which it is measured what the transformer does to the letters
GALLERY = 8  # pictures that each run with a transformer keeps, before and after
SHOWN_HEIGHT = 240  # pixels, at least, of a pair in the MLflow UI
OWN_LAYERS = {"SpatialTransformer": SpatialTransformer}
SERVED_WITH = ("keras", "tensorflow", "numpy", "mlflow")


def train_cell(
    order: CellOrder,
    dataset: Dataset,
    tracking: Tracking,
    *,
    on_epoch: Callable[[EpochEnd], None] = lambda epoch: None,
    should_stop: Callable[[], bool] = lambda: False,
    ending: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> RunRecord:
    """Train a cell, or go on from its checkpoint, and return the record that its MLflow run carries.

    Args:
        order: the cell.
        dataset: its pictures.
        tracking: where its run goes.
        on_epoch: called with each finished epoch.
        should_stop: asked after each epoch.
        ending: entered to close the run; what it raises, since another worker has the cell, leaves the run KILLED.

    Raises:
        ConfigError: if it is to go on from a run whose network has other shapes; there is no MLflow run then.
        Interrupted: if it was asked to stop; the MLflow run is closed as KILLED, the checkpoint stays.
        MachineError: if the disk is full; the MLflow run is closed as KILLED, since that says nothing of the arm.
        StoreError: if the store cannot be written; the next try closes the run.
        Exception: whatever the training raised; the MLflow run is closed as FAILED with a record that says so.
    """
    started = now()
    checkpoint = _take_over(order.checkpoints)
    job = _job(order, dataset, tracking, checkpoint)  # a start that does not fit is refused before there is a run
    run_id = tracking.start_run(order.experiment, order.parent, order.name, _tags(order))
    if order.start:
        tracking.note_run(run_id, order.start.note)

    def log(epoch: EpochEnd) -> None:
        tracking.log_epoch(run_id, epoch.epoch, epoch.metrics)
        on_epoch(epoch)

    try:
        tracking.log_settings(run_id, order.spec.config.flat(), _dataset_note(dataset))
        training = train(job, on_epoch=log, should_stop=should_stop)
        record = _keep(order, dataset, tracking, training, run_id, started)
        with ending():
            tracking.finish_run(record, record.metrics)
    except Exception as error:
        if isinstance(error, ClaimLostError):
            checkpoint.unlink(missing_ok=True)  # another worker has taken over what was in it
        _close(order, tracking, run_id, error, ending, started)
        raise
    finally:
        forget_gradients()  # a worker trains many cells
    shutil.rmtree(order.checkpoints, ignore_errors=True)
    return record


def _take_over(folder: Path) -> Path:
    """Return this try's own checkpoint, with what the latest try left of the training in it.

    Each try writes to a file of its own: a worker that was given up and wakes again overwrites nobody's.
    """
    own = folder / f"{socket.gethostname()}-{os.getpid()}.npz"
    for path in folder.glob("*.npz"):
        if not path.stat().st_size:  # as a machine that lost its power leaves it
            path.unlink()
    left = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
    if left and left[-1] != own:
        left[-1].replace(own)
    return own


def _close(
    order: CellOrder,
    tracking: Tracking,
    run_id: str,
    error: Exception,
    ending: Callable[[], AbstractContextManager[None]],
    started: str,
) -> None:
    """Close the run of a cell that raised: as crashed if that is the cell's own doing, else as killed."""
    full = disk_full(error)
    if full or isinstance(error, MachineError | StoreError):
        with contextlib.suppress(Exception):  # the store may be what is broken; the next try closes the run
            tracking.kill_run(run_id)
        if full:
            raise full from error
        return
    if isinstance(error, Interrupted | ClaimLostError):
        tracking.kill_run(run_id)
        return
    try:
        with ending():
            tracking.finish_run(order.record(run_id, started, "crashed", f"{type(error).__name__}: {error}"), {})
    except ClaimLostError:
        tracking.kill_run(run_id)


def _tags(order: CellOrder) -> dict[str, str]:
    lineage = {"started_from": order.start.run_id} if order.start else {}
    return run_tags(order.spec, order.identity) | lineage


def _job(order: CellOrder, dataset: Dataset, tracking: Tracking, checkpoint: Path) -> Job:
    config, seed, weights = order.spec.config, order.spec.seed, None
    if order.start:
        weights = starting_weights(tracking.file(order.start.run_id, MODEL), config, seed)
    return Job(config, seed, dataset.split(config.data), order.identity.run_key, checkpoint, weights)


def _keep(
    order: CellOrder, dataset: Dataset, tracking: Tracking, training: Training, run_id: str, started: str
) -> RunRecord:
    shown = _shown(training, order, dataset)
    if order.spec.phase != "tune" and training.outcome == "finished":
        tracking.log_model(run_id, order.slug, training.model, OWN_LAYERS, _requirements())
    with tempfile.TemporaryDirectory() as folder:
        _write_files(training, order, shown, Path(folder))
        tracking.log_files(run_id, Path(folder))
    letters = measure_letters(training.model, shown.originals, shown.rectified).means() if shown else {}
    return _record(order, run_id, started, training, letters)


@dataclass(frozen=True)
class _Shown:
    """The first test pictures as the network of a cell sees them, and what its transformer makes of them."""

    originals: np.ndarray
    letters: list[str]
    rectified: Rectified


def _shown(training: Training, order: CellOrder, dataset: Dataset) -> _Shown | None:
    if training.outcome != "finished" or find_transformer(training.model) is None:
        return None
    config = order.spec.config
    test = dataset.split(config.data).test
    originals = correct(np.array(test.images[:MEASURED]), config)
    letters = [config.data.alphabet[label] for label in test.labels[:MEASURED]]
    return _Shown(originals, letters, rectify(training.model, originals))


def _requirements() -> list[str]:
    return [f"{name}=={package_version(name)}" for name in SERVED_WITH if package_version(name)]


def _write_files(training: Training, order: CellOrder, shown: _Shown | None, folder: Path) -> None:
    """Write what all but trials keep beside their numbers: predictions, model file, pictures before and after."""
    if training.outcome != "finished" or training.predictions is None or order.spec.phase == "tune":
        return
    _write_predictions(training.predictions, folder / PREDICTIONS)
    save_model(training.model, folder / MODEL, order.spec.config)
    if shown:
        _write_gallery(shown, folder)


def _write_predictions(predictions: Predictions, file: Path) -> None:
    """Write what was said of each test picture, small enough to be committed for every run of a study."""
    np.savez_compressed(
        file,
        allow_pickle=False,
        labels=predictions.labels.astype(np.uint8),  # an alphabet has 62 characters at most
        predicted=predictions.predicted.astype(np.uint8),
        probability=predictions.probability.astype(np.float16),
    )


def _write_gallery(shown: _Shown, folder: Path) -> None:
    originals, letters = shown.originals[:GALLERY], shown.letters[:GALLERY]
    rectified = shown.rectified.pictures[:GALLERY]
    np.savez_compressed(
        folder / "rectified.npz",
        allow_pickle=False,
        originals=originals,
        rectified=rectified,
        matrices=shown.rectified.matrices[:GALLERY],
        letters=np.array(letters),
    )
    pictures = folder / "rectified"
    pictures.mkdir()
    for index, (before, after) in enumerate(zip(originals, rectified, strict=True)):
        pair = enlarge(side_by_side(before, after), SHOWN_HEIGHT)
        write_picture(pictures / f"{index + 1:02d}_{letters[index]}.png", pair)


def _record(
    order: CellOrder, run_id: str, started: str, training: Training, letters: Mapping[str, float]
) -> RunRecord:
    flops = count_flops(training.model)
    trained = {
        "metrics": {**_metrics(training, flops.total), **letters},
        "history": {name: tuple(series) for name, series in training.history.items()},
        "layers": tuple(LayerCost(**asdict(layer)) for layer in flops.layers),
        "uncounted": flops.uncounted,
    }
    return order.record(run_id, started, training.outcome, training.reason).model_copy(update=trained)


def _metrics(training: Training, flops: float) -> dict[str, float]:
    return training.metrics | {
        "cost.parameters": count_parameters(training.model),
        "cost.flops": flops,
        "cost.seconds": training.seconds,
        "cost.cpu_seconds": training.cpu_seconds,
        "cost.step_ms": training.step_ms,
        "cost.peak_memory_mb": training.peak_memory_mb,
    }


def _dataset_note(dataset: Dataset) -> DatasetNote:
    spec = dataset.spec
    return DatasetNote(spec.folder_name, dataset.fingerprint, dataset.images.shape, len(spec.alphabet))
