"""Whether this machine trains the same job to the same bits twice: two fresh processes, compared number by number."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_bench.isolation import isolated, watch_imports
from stn_bench.runner.job import LentRun
from stn_bench.subject import Lent, Outcome, Subject, find_subject
from stn_bench.system.errors import MachineError
from stn_bench.system.global_state import environment
from stn_bench.system.machine import training_environment
from stn_bench.system.signals import children_ignore_interrupts, end_with_parent, leave_to_parent

Numbers = NDArray[Any]


@dataclass(frozen=True)
class Trained:
    """All that a training leaves which another must repeat, in the order in which it comes about.

    Args:
        metrics: of each epoch, such as "train.loss" at epoch 1, then the final ones; costs are left out.
        state: what else the training left by name, such as the variables of model and optimizer.
    """

    metrics: Mapping[str, float]
    state: Mapping[str, Numbers]

    @classmethod
    def of(cls, left: Outcome | Mapping[str, float]) -> Trained:
        """Return what is compared of what a training returned."""
        outcome = left if isinstance(left, Outcome) else Outcome(left)
        final = {f"`{name}`": value for name, value in outcome.metrics.items() if not name.startswith("cost.")}
        state = outcome.state() if outcome.state else {}
        return cls(_by_epoch(outcome.history) | final, {f"`{name}`": array for name, array in state.items()})


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


def train_fresh(subject: Subject, seed: int, folder: Path) -> Trained:
    """Train a subject's small job in a process of its own, with one thread, and return what it left.

    Args:
        subject: the subject; the process finds it by its name.
        seed: the job's seed.
        folder: where its data are; they are made if they are not there yet.

    Raises:
        MachineError: if the process dies.
        Exception: whatever the training raises.
    """
    if subject.prepare:
        subject.prepare([subject.read(subject.small).resolved()], Lent(folder))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train_here, args=(theirs, subject.name, seed, folder), daemon=True)
    try:
        with children_ignore_interrupts(), environment(training_environment(threads=1)):  # from its first moment
            process.start()
        theirs.close()
        left: Trained | Exception = ours.recv()
    except EOFError:
        raise MachineError(
            "the training process died: see what it lacks with `stn-bench doctor`, and whether memory is short"
        ) from None
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
    if isinstance(left, Exception):
        raise left
    return left


def first_difference(one: Trained, other: Trained) -> Difference | None:
    """Return the first place where two trainings are not the same bits, or None."""
    ours, theirs = ({**trained.metrics, **trained.state} for trained in (one, other))
    for place in dict.fromkeys((*ours, *theirs)):
        if place not in ours or place not in theirs:
            return Difference(place, *(_shape(numbers.get(place)) for numbers in (ours, theirs)))
        difference = _difference(place, np.asarray(ours[place]), np.asarray(theirs[place]))
        if difference:
            return difference
    return None


def examine_twice(subject: Subject) -> tuple[Trained, Difference | None]:
    """Train a subject's small job twice; return the first training, and where the second differs from it."""
    with tempfile.TemporaryDirectory(prefix="stn-bench-") as folder:
        one, other = (train_fresh(subject, 1, Path(folder)) for _ in range(2))
    return one, first_difference(one, other)


def _train_here(connection: Connection, name: str, seed: int, folder: Path) -> None:
    """Send what a training leaves, or the error that it raised; C++ libraries are silenced."""
    leave_to_parent()
    end_with_parent()
    os.environ.update(training_environment(threads=1))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        connection.send(_train(name, seed, folder))
    except Exception as error:
        connection.send(error)


def _train(name: str, seed: int, folder: Path) -> Trained:
    watch_imports()
    subject = find_subject(name)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        checkpoints, files = Path(own, "checkpoints"), Path(own, "files")
        checkpoints.mkdir()
        files.mkdir()
        run = LentRun("determinism", folder, checkpoints, files)
        with isolated(seed):
            return Trained.of(subject.train(subject.read(subject.small).resolved(), seed, run))


def _by_epoch(history: Mapping[str, Sequence[float]]) -> dict[str, float]:
    epochs = max(map(len, history.values()), default=0)
    return {
        f"`{name}` of epoch {epoch + 1}": series[epoch]
        for epoch in range(epochs)
        for name, series in history.items()
        if epoch < len(series)
    }


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
