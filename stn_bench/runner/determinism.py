"""Whether this machine trains the same cell to the same bits twice: two fresh processes, compared number by number."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_bench.subjects.stn.config import Config, override
from stn_bench.subjects.stn.data.dataset import make_dataset, open_dataset
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.system.errors import MachineError
from stn_bench.system.machine import training_environment

SMALL = {
    "data.count": 200,
    "data.validation": 40,
    "data.test": 40,
    "data.size": 20,
    "model.width": 1 / 32,
    "train.epochs": 2,
}
"""A cell of seconds; all else, the transformer and dropout too, is as a study has it by default."""

Numbers = NDArray[Any]


@dataclass(frozen=True)
class TrainedCell:
    """All that a training leaves which another must repeat, in the order in which it comes about.

    Args:
        metrics: of each epoch, such as "train.loss" at epoch 1, then the final ones; seconds and memory are left out.
        weights: the variables of the model and of the optimizer, by name.
    """

    metrics: Mapping[str, float]
    weights: Mapping[str, Numbers]


@dataclass(frozen=True)
class Difference:
    """The first place where two trainings differ.

    Args:
        place: a metric with its epoch, or a variable with the index into it.
        first: what the first training has there, or "missing".
        second: what the second has.
    """

    place: str
    first: str
    second: str


def train_fresh(seed: int, folder: Path) -> TrainedCell:
    """Train the small cell in a process of its own, with one thread, and return what it left.

    Args:
        seed: the cell's seed.
        folder: where its pictures are; they are drawn if they are not there yet.

    Raises:
        MachineError: if the process dies.
    """
    make_dataset(DatasetSpec.of(_config()), folder)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_prepare) as process:
        try:
            return process.submit(_train, seed, folder).result()
        except BrokenProcessPool:
            raise MachineError(
                "the process that trains died: see what it lacks with `stn-bench doctor`, and whether memory is short"
            ) from None


def first_difference(one: TrainedCell, other: TrainedCell) -> Difference | None:
    """Return the first place where two trainings are not the same bits, or None."""
    ours, theirs = ({**cell.metrics, **cell.weights} for cell in (one, other))
    for place in dict.fromkeys((*ours, *theirs)):
        if place not in ours or place not in theirs:
            return Difference(place, *(_shape(numbers.get(place)) for numbers in (ours, theirs)))
        difference = _difference(place, np.asarray(ours[place]), np.asarray(theirs[place]))
        if difference:
            return difference
    return None


def examine_twice() -> tuple[TrainedCell, Difference | None]:
    """Train the small cell twice; return the first training, and where the second differs from it."""
    with tempfile.TemporaryDirectory(prefix="stn-bench-") as folder:
        one, other = (train_fresh(1, Path(folder)) for _ in range(2))
    return one, first_difference(one, other)


def _config() -> Config:
    return override(Config(), SMALL).resolved()


def _prepare() -> None:
    """Set up a process that is about to train: its environment, and silence for what C++ libraries have to say."""
    os.environ.update(training_environment(threads=1))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _train(seed: int, folder: Path) -> TrainedCell:
    # Imported here and not above: the environment must be set before Keras is loaded.
    from stn_bench.subjects.stn.nn.train import Job, train, values

    config = _config()
    split = open_dataset(DatasetSpec.of(config), folder).split(config.data)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        training = train(Job(config, seed, split, "determinism", Path(own) / "checkpoint.npz"))
    variables = [*training.model.variables, *training.model.optimizer.variables]
    names = _distinct(variable.path for variable in variables)
    return TrainedCell(
        metrics=_by_epoch(training.history) | {f"`{name}`": value for name, value in training.metrics.items()},
        weights=dict(zip(names, values(variables), strict=True)),
    )


def _by_epoch(history: Mapping[str, list[float]]) -> dict[str, float]:
    epochs = max(map(len, history.values()))
    return {
        f"`{name}` of epoch {epoch + 1}": series[epoch] for epoch in range(epochs) for name, series in history.items()
    }


def _distinct(paths: Iterator[str]) -> Iterator[str]:
    """Yield names in backticks; where layers share one, a number tells them apart."""
    seen: dict[str, int] = {}
    for path in paths:
        seen[path] = seen.get(path, 0) + 1
        yield f"`{path}`" if seen[path] == 1 else f"`{path}` ({seen[path]})"


def _difference(place: str, one: Numbers, other: Numbers) -> Difference | None:
    if one.shape != other.shape or one.dtype != other.dtype:
        return Difference(place, _shape(one), _shape(other))
    same = _bits(one) == _bits(other)
    if same.all():
        return None
    index = tuple(map(int, np.argwhere(~same)[0][: one.ndim]))
    where = f"{place}[{', '.join(map(str, index))}]" if index else place
    return Difference(where, repr(one[index].item()), repr(other[index].item()))


def _bits(numbers: Numbers) -> Numbers:
    """Return the bytes of each number, `(..., bytes)`: NaN is the same as itself, and -0 is not 0."""
    whole = np.ascontiguousarray(numbers).reshape(*numbers.shape, 1)
    return whole.view(np.uint8)


def _shape(numbers: Any) -> str:
    return "missing" if numbers is None else f"{np.asarray(numbers).dtype} {np.shape(numbers)}"
