"""What happens around each epoch of the one `model.fit`: order, checkpoint, best weights, and the harness's word."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np

from stn_bench.subject import Metric, Run
from stn_bench.subjects.keras_training.checkpoint import (
    Arrays,
    CannotGoOn,
    Checkpoint,
    NotPlain,
    encode,
    write_checkpoint,
)
from stn_bench.subjects.keras_training.compiled import optimizers
from stn_bench.system.errors import ConfigError, Interrupted
from stn_bench.system.machine import PeakMemory

LOG = logging.getLogger(__name__)
KERAS_OWN = frozenset({"_model", "params", "validation_data"})
"""What Keras itself puts into every callback."""


@dataclass
class Progress:
    """What grows while training; it is JSON in the checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    stopped: bool = False
    diverged: str = ""
    fit_seconds: list[float] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)

    def append(self, metrics: Mapping[str, float]) -> None:
        """Add one epoch's metrics to the history."""
        for name, value in metrics.items():
            series = self.history.setdefault(name, [])
            if len(series) != self.epoch:
                raise ConfigError(f"epochs: `{name}` is told for some epochs only; tell it for all, or for none")
            series.append(value)
        self.epoch += 1

    def is_best(self, by: Sequence[Metric]) -> bool:
        """Say whether the last epoch is the best: by the first metric, ties by the next, then the earlier."""
        series = [[metric.sign * value for value in self.history[metric.name]] for metric in by]
        *earlier, last = zip(*series, strict=True)
        return all(last > one for one in earlier)

    @property
    def step_ms(self) -> float:
        """The median over epochs; the first, which also traces the graph, counts only if it is the only one."""
        epochs = self.fit_seconds[1:] or self.fit_seconds or [0.0]
        return float(np.median(epochs)) / max(1, self.steps) * 1000

    @property
    def costs(self) -> dict[str, float]:
        """Seconds and memory of all epochs so far, by the names of the harness."""
        return {
            "cost.seconds": self.seconds,
            "cost.cpu_seconds": self.cpu_seconds,
            "cost.step_ms": self.step_ms,
            "cost.peak_memory_mb": self.peak_memory_mb,
        }


@dataclass(frozen=True)
class Course:
    """The course that a training takes.

    Args:
        epochs: how many epochs there are.
        best: the metrics of an epoch by which the best is chosen, the later ones where the earlier tie; (): the last.
        wanted: metrics that every epoch must have.
        validate: model, epoch -> its metrics by the validation examples, where Keras does not tell them itself.
    """

    epochs: int
    best: tuple[Metric, ...]
    wanted: tuple[str, ...]
    validate: Callable[[keras.Model, int], Mapping[str, float]] | None = None


def values(variables: list[Any]) -> Arrays:
    """Return a copy of the variables' values as numpy arrays."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: list[Any], arrays: Arrays) -> None:
    """Set each variable to its array.

    Raises:
        CannotGoOn: if they do not fit.
    """
    if [tuple(one.shape) for one in variables] != [one.shape for one in arrays]:
        raise CannotGoOn("the variables of model and optimizers are others than in its checkpoint")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Lend a model the running average that its optimizer keeps of its weights; without one it stays as it is."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # float16 scales the loss around it
    if not getattr(optimizer, "use_ema", False):
        yield
        return
    weights = model.trainable_variables
    trained = values(weights)
    optimizer.finalize_variable_values(weights)
    part(weights)
    try:
        yield
    finally:
        assign(weights, trained)


def part(variables: list[Any]) -> None:
    """Give variables arrays of their own: on JAX an average and its weight are one, which the next step deletes."""
    assign(variables, values(variables))


class Beginning(keras.callbacks.Callback):  # type: ignore[misc]
    """Stands before the user's callbacks: an epoch begins alike, whether or not training was interrupted before it."""

    def __init__(self, seed: int, begin: Callable[[int], None]) -> None:
        super().__init__()
        self._seed, self._begin = seed, begin

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Put the examples in order, and Python's and numpy's generators into a state of the epoch's own."""
        seed = int(np.random.SeedSequence([self._seed, epoch]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the user's code may draw from it
        self._begin(epoch)


class Conductor(keras.callbacks.Callback):  # type: ignore[misc]
    """Stands behind the user's callbacks: it restores them and the model, keeps both, and tells the harness.

    Args:
        run: what the harness lends.
        course: how many epochs there are, and how they are judged.
        callbacks: the user's.
        checkpoint: the state to go on from.
        file: where the state is kept.
    """

    def __init__(
        self,
        run: Run,
        course: Course,
        callbacks: list[Any],
        checkpoint: Checkpoint | None,
        file: Path,
    ) -> None:
        super().__init__()
        self._run, self._course = run, course
        self._callbacks, self._checkpoint, self._file = callbacks, checkpoint, file
        self._began = self._cpu_began = self._fitted = 0.0
        self._warned, self._memory = False, PeakMemory()
        self.refused: Exception | None = None  # what the harness raised: it is no fault of the model's
        self.progress = Progress(**checkpoint.progress) if checkpoint else Progress()
        self.best_weights: Arrays = checkpoint.best if checkpoint else []

    @property
    def last(self) -> int:
        """The epoch behind which nothing is trained any more, as far as that is known."""
        done = self.progress.stopped or self.progress.diverged
        return self.progress.epoch if done else self._course.epochs

    def on_train_begin(self, logs: Any = None) -> None:
        """Put everything into the state of the checkpoint, and tell of the epochs that it holds."""
        if self._checkpoint is not None:
            if len(self._checkpoint.callbacks) != len(self._callbacks):
                raise CannotGoOn("the callbacks are others than in its checkpoint")
            for callback, kept in zip(self._callbacks, self._checkpoint.callbacks, strict=True):
                vars(callback).update(kept)
            assign(self.model.variables, self._checkpoint.variables)
            assign(self._optimizer_variables(), self._checkpoint.optimizer)
        for epoch in range(1, self.progress.epoch + 1):
            self._tell(epoch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Take the time."""
        self._memory = PeakMemory()
        self._began, self._cpu_began, self._fitted = time.perf_counter(), time.process_time(), 0.0

    def on_train_end(self, logs: Any = None) -> None:
        """Keep the weights: where an average is taken, Keras has just put it in their place."""
        part(self.model.trainable_variables)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the steps of an epoch."""
        self.progress.steps = batch + 1

    def on_test_begin(self, logs: Any = None) -> None:
        """Validation begins: the steps are behind."""
        self._fitted = self._fitted or time.perf_counter() - self._began

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the state of the finished epoch, then tell of it."""
        progress = self.progress
        progress.fit_seconds.append(self._fitted or time.perf_counter() - self._began)
        with averaged(self.model) if self._course.validate else contextlib.nullcontext():
            self._judge(_by_part(logs or {}))
        progress.stopped = bool(self.model.stop_training)
        progress.seconds += time.perf_counter() - self._began
        progress.cpu_seconds += time.process_time() - self._cpu_began
        progress.peak_memory_mb = max(progress.peak_memory_mb, self._memory.read())
        self._keep()
        self._tell(progress.epoch)

    def _judge(self, metrics: dict[str, float]) -> None:
        """Add the metrics of a finished epoch, and keep the weights if it is the best."""
        progress = self.progress
        if self._course.validate is not None:
            judged = self._course.validate(self.model, progress.epoch)
            metrics |= {f"validation.{name}": value for name, value in judged.items()}
        self._check(metrics)
        progress.append(metrics)
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            progress.diverged = f"{broken[0]} is not finite after epoch {progress.epoch}"
            self.model.stop_training = True
        elif not self._course.best or progress.is_best(self._course.best):
            self.best_weights, progress.best_epoch = values(self.model.variables), progress.epoch

    def _check(self, metrics: Mapping[str, float]) -> None:
        for name in self._course.wanted:
            if name not in metrics:
                raise ConfigError(f"no `{name}` in an epoch, which has {', '.join(metrics) or 'no metrics'}")

    def _keep(self) -> None:
        """Write the checkpoint, unless a callback keeps what no checkpoint can hold."""
        kept = []
        for callback in self._callbacks:
            plain, opaque = state_of(callback, self.model)
            if opaque:
                if not self._warned:
                    name = type(callback).__name__
                    LOG.warning(
                        "callback %s keeps `%s`, which no checkpoint can hold: "
                        "once interrupted, this training starts over",
                        name,
                        opaque[0],
                    )
                self._warned = True
                self._file.unlink(missing_ok=True)
                return
            kept.append(plain)
        progress = dataclasses.asdict(self.progress)
        state = (values(self.model.variables), values(self._optimizer_variables()), self.best_weights)
        write_checkpoint(self._file, Checkpoint(self._run.key, progress, kept, *state))

    def _optimizer_variables(self) -> list[Any]:
        return [variable for optimizer in optimizers(self.model) for variable in optimizer.variables]

    def _tell(self, epoch: int) -> None:
        """Tell of an epoch; behind the last there is nothing to go on with, so that training comes to its end."""
        try:
            self._run.log(epoch, {name: series[epoch - 1] for name, series in self.progress.history.items()})
        except Interrupted:
            if epoch < self.last:
                raise
        except Exception as error:
            self.refused = error
            raise


def _by_part(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return Keras' logs of an epoch by the names of the harness: `train.loss`, `validation.loss`."""
    found = {}
    for name, value in logs.items():
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "fiub":
            raise ConfigError(f"epochs: expected a number as `{name}`, got {type(value).__name__} {array.shape}")
        part = f"validation.{name.removeprefix('val_')}" if name.startswith("val_") else f"train.{name}"
        found[part] = float(array.reshape(()))
    return found


def state_of(callback: Any, model: keras.Model) -> tuple[dict[str, Any], list[str]]:
    """Return what a callback keeps that is plain, and the names of what is not: objects that may change as it goes."""
    plain, opaque = {}, []
    for name, value in vars(callback).items():
        if name in KERAS_OWN or value is model or isinstance(value, ModuleType | Path):
            continue
        try:
            encode(value, {})
        except NotPlain:
            if not callable(value) or isinstance(value, keras.Model | keras.layers.Layer):
                opaque.append(name)
        else:
            plain[name] = value
    return plain, opaque
