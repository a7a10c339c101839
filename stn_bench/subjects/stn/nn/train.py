"""Training one configuration with one seed, from the first epoch or from its checkpoint."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.correction import correct_split
from stn_bench.subjects.stn.data.dataset import Pictures, Split
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.checkpoint import Checkpoint, Weights, read_checkpoint, write_checkpoint
from stn_bench.subjects.stn.nn.optimizers import build_optimizer
from stn_bench.system.errors import Interrupted
from stn_bench.system.machine import PeakMemory

PREDICT_BATCH = 256
SMALLEST_PROBABILITY = 1e-7  # Keras' own epsilon: keeps the loss of a certain mistake finite

Outcome = Literal["finished", "diverged"]


@dataclass(frozen=True)
class Job:
    """A training to do: the configuration, the seed and the pictures.

    Args:
        config: the resolved configuration.
        seed: drives initialisation, order of the pictures and dropout.
        split: the pictures, uint8 of shape (count, height, width, channels).
        run_key: identity of the run, kept in its checkpoint.
        checkpoint: file that holds the unfinished training.
        weights: variables to start from instead of a fresh initialisation.
    """

    config: Config
    seed: int
    split: Split
    run_key: str
    checkpoint: Path
    weights: Weights | None = None


@dataclass(frozen=True)
class EpochEnd:
    """One finished epoch: its number from 1, how many there will be, and its metrics."""

    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Predictions:
    """The predictions of the model for the test pictures.

    Args:
        labels: the true classes, shape (count,).
        predicted: the classes the model chose, shape (count,).
        probability: the probability it gave to its choice, shape (count,).
    """

    labels: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Training:
    """A training that reached its end: finished, or diverged."""

    outcome: Outcome
    reason: str
    history: dict[str, list[float]]
    metrics: dict[str, float]
    predictions: Predictions | None
    seconds: float
    cpu_seconds: float
    step_ms: float
    peak_memory_mb: float
    model: keras.Model


@dataclass
class Progress:
    """The progress of a training; it is JSON in the checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    diverged: str = ""
    fit_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)

    def append(self, metrics: dict[str, float]) -> None:
        """Add one epoch's metrics to the history."""
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        self.epoch += 1

    def is_best(self) -> bool:
        """Say whether the last epoch is the best by validation: by accuracy, ties by loss, then the earlier."""
        scores = list(
            zip(self.history["validation.accuracy"], np.negative(self.history["validation.loss"]), strict=True)
        )
        return all(scores[-1] > earlier for earlier in scores[:-1])


def train(
    job: Job,
    *,
    on_epoch: Callable[[EpochEnd], None] = lambda epoch: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Training:
    """Train to the last epoch, or to the first that is not finite.

    The same job on the same machine gives the same weights, bit for bit, however often it was interrupted.

    Args:
        job: what to train, on what.
        on_epoch: called with each finished epoch, after its checkpoint is on the disk; a resumed training first
            repeats the epochs that its checkpoint holds.
        should_stop: asked after each epoch.

    Raises:
        Interrupted: if `should_stop` said so before the last epoch.
    """
    job = dataclasses.replace(job, split=correct_split(job.split, job.config))
    model = prepare_model(job)
    progress, best = _restore(model, job)
    for epoch in range(1, progress.epoch + 1):
        on_epoch(_epoch_end(job, progress, epoch))
    while progress.epoch < job.config.train.epochs and not progress.diverged:
        best = _run_epoch(model, job, progress, best)
        on_epoch(_epoch_end(job, progress, progress.epoch))
        if should_stop() and progress.epoch < job.config.train.epochs:
            raise Interrupted(f"stopped after epoch {progress.epoch}; run again to go on from there")
    return _finish(model, job, progress, best)


def prepare_model(job: Job) -> keras.Model:
    """Return the compiled model in its initial state, which depends on the seed alone."""
    keras.utils.clear_session()  # a worker trains many networks; the graphs of the last one are of no use
    keras.utils.set_random_seed(job.seed)
    model = build_model(job.config)
    steps = math.ceil(len(job.split.train.labels) / job.config.train.batch_size)
    model.compile(
        optimizer=build_optimizer(job.config, steps),
        loss="sparse_categorical_crossentropy",
        metrics=["sparse_categorical_accuracy"],
        # XLA on the CPU made these convolutions up to 16 times slower; JAX has no other way.
        jit_compile=keras.backend.backend() == "jax",
    )
    model.optimizer.build(model.trainable_variables)
    if job.weights is not None:
        assign(model.variables, job.weights)
    return model


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of the pictures in an epoch: a permutation that depends on seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return accuracy and mean cross-entropy in nats of probabilities, shape (count, classes)."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    accuracy = np.mean(probabilities.argmax(axis=1) == labels)
    loss = -np.mean(np.log(np.clip(chosen, SMALLEST_PROBABILITY, None)))
    return {"accuracy": float(accuracy), "loss": float(loss)}


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the class probabilities, shape (count, classes), of every picture."""
    batches = math.ceil(len(images) / PREDICT_BATCH)
    even = math.ceil(len(images) / batches)  # equal batches: one traced function serves all
    return np.asarray(model.predict(np.asarray(images), batch_size=even, verbose=0), np.float32)


def values(variables: list[Any]) -> Weights:
    """Return a copy of the variables' values as numpy arrays."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: list[Any], arrays: Weights) -> None:
    """Set each variable to its array."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _restore(model: keras.Model, job: Job) -> tuple[Progress, Weights]:
    checkpoint = read_checkpoint(job.checkpoint, job.run_key)
    if checkpoint is None:
        return Progress(), values(model.variables)
    assign(model.variables, checkpoint.variables)
    assign(model.optimizer.variables, checkpoint.optimizer)
    return Progress(**checkpoint.progress), checkpoint.best


def _run_epoch(model: keras.Model, job: Job, progress: Progress, best: Weights) -> Weights:
    started, cpu_started, memory = time.perf_counter(), time.process_time(), PeakMemory()
    fitted = _fit_epoch(model, job, progress.epoch)
    progress.fit_seconds.append(time.perf_counter() - started)
    progress.append(fitted | _validate(model, VALIDATIONS[job.config.train.validation](job, progress.epoch)))
    progress.diverged = _divergence(progress)
    if not progress.diverged and progress.is_best():
        best, progress.best_epoch = values(model.variables), progress.epoch
    progress.seconds += time.perf_counter() - started
    progress.cpu_seconds += time.process_time() - cpu_started
    progress.peak_memory_mb = max(progress.peak_memory_mb, memory.read())
    _checkpoint(model, job, progress, best)
    return best


def _fit_epoch(model: keras.Model, job: Job, epoch: int) -> dict[str, float]:
    pictures = job.split.train
    order = epoch_order(job.seed, epoch, len(pictures.labels))
    logs = model.fit(
        pictures.images[order],
        pictures.labels[order],
        batch_size=job.config.train.batch_size,
        shuffle=False,  # the order above depends on the epoch alone, so that a resumed run sees the same
        verbose=0,
    ).history
    return {"train.loss": float(logs["loss"][0]), "train.accuracy": float(logs["sparse_categorical_accuracy"][0])}


def whole_validation(job: Job, epoch: int) -> Pictures:
    """Return all validation pictures."""
    return job.split.validation


def shuffled_cut_validation(job: Job, epoch: int) -> Pictures:
    """Return the validation pictures of an epoch as the article takes them: whole batches only, in a new order.

    Its generator was asked for `floor(n / batch)` batches and shuffled each epoch: others were left out each time.
    """
    pictures = job.split.validation
    kept = len(pictures) // job.config.train.batch_size * job.config.train.batch_size
    order = np.sort(np.random.default_rng([job.seed, epoch, 1]).permutation(len(pictures))[:kept])
    return Pictures(pictures.images[order], pictures.labels[order])


VALIDATIONS: dict[str, Callable[[Job, int], Pictures]] = {
    "whole": whole_validation,
    "shuffled_cut": shuffled_cut_validation,
}


def _validate(model: keras.Model, pictures: Pictures) -> dict[str, float]:
    scores = score(predict(model, pictures.images), pictures.labels)
    return {f"validation.{name}": value for name, value in scores.items()}


def _divergence(progress: Progress) -> str:
    broken = [name for name, series in progress.history.items() if not math.isfinite(series[-1])]
    return f"{broken[0]} is not finite after epoch {progress.epoch}" if broken else ""


def _checkpoint(model: keras.Model, job: Job, progress: Progress, best: Weights) -> None:
    state = (values(model.variables), values(model.optimizer.variables), best)
    write_checkpoint(job.checkpoint, Checkpoint(job.run_key, dataclasses.asdict(progress), *state))


def _epoch_end(job: Job, progress: Progress, epoch: int) -> EpochEnd:
    metrics = {name: series[epoch - 1] for name, series in progress.history.items()}
    return EpochEnd(epoch, job.config.train.epochs, metrics, progress.seconds)


def _finish(model: keras.Model, job: Job, progress: Progress, best: Weights) -> Training:
    """Look at the test pictures, once: with the last epoch's weights and with the best epoch's."""
    metrics: dict[str, float] = {"best.epoch": progress.best_epoch, "epochs": progress.epoch}
    predictions = None
    if not progress.diverged:
        metrics |= _test(model, job, "test.last_")[0]
        assign(model.variables, best)
        scores, predictions = _test(model, job, "test.")
        metrics |= scores | _at_best(progress) | _on_the_way(progress)
    return Training(
        outcome="diverged" if progress.diverged else "finished",
        reason=progress.diverged,
        history=progress.history,
        metrics=metrics,
        predictions=predictions,
        seconds=progress.seconds,
        cpu_seconds=progress.cpu_seconds,
        step_ms=_step_ms(job, progress),
        peak_memory_mb=progress.peak_memory_mb,
        model=model,
    )


def _test(model: keras.Model, job: Job, prefix: str) -> tuple[dict[str, float], Predictions]:
    pictures = job.split.test
    probabilities = predict(model, pictures.images)
    scores = {prefix + name: value for name, value in score(probabilities, pictures.labels).items()}
    chosen = probabilities.argmax(axis=1)
    return scores, Predictions(np.array(pictures.labels), chosen, probabilities.max(axis=1))


def _at_best(progress: Progress) -> dict[str, float]:
    return {f"best.{name}": series[progress.best_epoch - 1] for name, series in progress.history.items()}


def _on_the_way(progress: Progress) -> dict[str, float]:
    """Return the metrics of the learning curve's start and end, without choosing an epoch."""
    early = max(1, round(len(progress.history["train.loss"]) / 10))
    return {
        "early.train.loss": float(np.mean(progress.history["train.loss"][:early])),
        "last.validation.accuracy": progress.history["validation.accuracy"][-1],
        "last.validation.loss": progress.history["validation.loss"][-1],
    }


def _step_ms(job: Job, progress: Progress) -> float:
    """Return the median over epochs; the first, which also traces the graph, counts only if it is the only one."""
    steps = math.ceil(len(job.split.train.labels) / job.config.train.batch_size)
    epochs = progress.fit_seconds[1:] or progress.fit_seconds
    return float(np.median(epochs)) / steps * 1000
