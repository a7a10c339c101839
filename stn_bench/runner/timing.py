"""The probe: how long a cell would take here, from a short training of each arm, as many at once as in a run.

Timed are single steps, predictions and checkpoints; a whole cell is counted up from them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from stn_bench.study.plan import PlannedArm
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.dataset import Pictures, Split, make_dataset, open_dataset, read_fingerprint
from stn_bench.subjects.stn.data.spec import DRAWN, DatasetSpec, Labels, Picture
from stn_bench.system.errors import MachineError
from stn_bench.system.machine import Crew, children_ignore_interrupts, training_environment
from stn_bench.system.workspace import Workspace

STEPS = 48
"""Steps that are timed at a time, after the first, which also traces the graph."""

SECONDS = 5.0
"""They are timed again until this has gone by: one round of a few dozen tells too little on a busy machine."""

BATCHES = 4
"""Batches of pictures whose prediction is timed."""

MOST_PICTURES = 4096
"""Pictures that a probe trains on at most, where batches are large."""

REPEATS = 3
"""Times that what is short is timed; the median counts."""


@dataclass(frozen=True)
class Sample:
    """What one arm is probed with.

    Args:
        label: the arm's name in the study.
        config: its configuration.
        pictures: the data set to take pictures from; a small one where the study's own is not made yet.
        datasets: folder that it lies in.
    """

    label: str
    config: Config
    pictures: DatasetSpec
    datasets: Path


@dataclass(frozen=True)
class Timing:
    """The parts of a cell's time, in seconds.

    Args:
        start: network built, first step and first prediction traced.
        correction: one picture corrected before the network sees it.
        step: one step of training.
        epoch: what an epoch costs beside its steps and its validation: the call, the checkpoint.
        picture: one picture predicted.
        call: what a prediction costs beside its pictures.
    """

    start: float
    correction: float
    step: float
    epoch: float
    picture: float
    call: float

    def cell(self, config: Config) -> float:
        """Return how long a cell takes: all epochs with their validation, and two looks at the test pictures."""
        data, train = config.data, config.train
        epoch = self.epoch + math.ceil(data.train / train.batch_size) * self.step + self._prediction(data.validation)
        once = self.start + data.count * self.correction + 2 * self._prediction(data.test)
        return once + train.epochs * epoch

    def _prediction(self, pictures: int) -> float:
        return self.call + pictures * self.picture


def probe(arms: Sequence[PlannedArm], workspace: Workspace, crew: Crew) -> dict[str, float]:
    """Return the label of each arm -> seconds of one of its cells.

    Every worker trains for as long as any arm is measured, so that they slow each other as in a run.

    Raises:
        MachineError: if a short training fails.
        DataError: if pictures that were imported are not there.
    """
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        samples = [_sample(arm, workspace, Path(folder), crew) for arm in arms]
        turns = itertools.cycle(samples)
        with _helpers(crew, workspace, Path(folder)) as helpers:
            for helper in helpers:
                helper.send(next(turns))
            while len(found) < len(samples):
                ready = wait(helpers)
                for helper in (one for one in helpers if one in ready):
                    label, seconds = _answer(helper)
                    found.setdefault(label, []).append(seconds)
                    helper.send(next(turns))
    return {label: statistics.fmean(seconds) for label, seconds in found.items()}


def _sample(arm: PlannedArm, workspace: Workspace, folder: Path, crew: Crew) -> Sample:
    """Return what an arm is probed with: the study's own pictures where they are made, else a few drawn for it."""
    spec, datasets = DatasetSpec.of(arm.config), workspace.datasets
    if spec.source == DRAWN and read_fingerprint(spec, datasets) is None:
        spec, datasets = dataclasses.replace(spec, count=min(spec.count, _needed(arm.config))), folder
        make_dataset(spec, datasets, processes=crew.workers)
    open_dataset(spec, datasets)  # what is missing or does not fit is told here, not in a helper
    return Sample(arm.label, arm.config, spec, datasets)


def _steps(config: Config) -> int:
    return max(2, min(STEPS, MOST_PICTURES // config.train.batch_size))


def _needed(config: Config) -> int:
    """Return how many pictures are worth drawing; a measurement that needs more takes them again."""
    return _steps(config) * config.train.batch_size


@contextmanager
def _helpers(crew: Crew, workspace: Workspace, folder: Path) -> Iterator[list[Connection]]:
    """Start processes that measure the samples they are sent, and end them afterwards, whatever they are at."""
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive fork
    processes, helpers = [], []
    try:
        for number in range(crew.workers):
            ours, theirs = context.Pipe()
            arguments = (crew.threads, workspace, folder / f"helper-{number}.log", theirs)
            process = context.Process(target=_help, args=arguments, daemon=True)
            with children_ignore_interrupts():
                process.start()
            theirs.close()
            processes.append(process)
            helpers.append(ours)
        yield helpers
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _answer(helper: Connection) -> tuple[str, float]:
    try:
        label, answer = helper.recv()
    except (EOFError, OSError):
        raise MachineError("the probe died; see what training needs with `stn-bench doctor`") from None
    if isinstance(answer, str):
        raise MachineError(f"{label}: cannot be probed: {answer}")
    return label, answer


def _help(threads: int, workspace: Workspace, log: Path, connection: Connection) -> None:
    """Measure one sample after the other until the other end of the connection is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    os.environ.update(training_environment(threads))  # before Keras and TensorFlow are loaded
    with log.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    while True:
        try:
            sample = connection.recv()
        except (EOFError, OSError):
            return
        if sample.config.model.factory:
            workspace.find_code()
        try:
            answer: float | str = measure(sample).cell(sample.config)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        connection.send((sample.label, answer))


# What a helper does ------------------------------------------------------------------------------------------------


def measure(sample: Sample) -> Timing:
    """Train and predict for a short while, and return how long the parts of a cell take."""
    trainee = _Trainee(sample)
    steps = _steps(sample.config)
    one_step = _median(lambda: trainee.train(1))
    step = _each(_repeated(lambda: trainee.train(steps)), one_step, steps)
    one_batch = _median(lambda: trainee.predict(1))
    batch = _each(_median(lambda: trainee.predict(BATCHES)), one_batch, BATCHES)
    return Timing(
        start=trainee.start,
        correction=trainee.correction,
        step=step,
        epoch=max(0.0, one_step - step) + _median(trainee.keep),
        picture=batch / trainee.predicted,
        call=max(0.0, one_batch - batch),
    )


def _each(all_of_them: float, one: float, count: int) -> float:
    """Return what each of some parts adds to a call, from the seconds of a call with all and of one with one of them.

    Where a busy machine made the call with one no shorter, the whole call is theirs.
    """
    return (all_of_them - one) / (count - 1) if all_of_them > one else all_of_them / count


class _Trainee:
    """A network whose graphs are traced, and the pictures that it is timed on."""

    def __init__(self, sample: Sample) -> None:
        from stn_bench.subjects.stn.data.correction import correct
        from stn_bench.subjects.stn.nn.train import PREDICT_BATCH, Job, prepare_model

        config, data = sample.config, sample.config.data
        self.batch = config.train.batch_size
        self.predicted = math.ceil(data.validation / math.ceil(data.validation / PREDICT_BATCH))  # as `predict` does
        images, self.labels = _pictures(sample, max(_needed(config), BATCHES * self.predicted))
        began = time.perf_counter()
        self.images = correct(images, config)
        corrected = time.perf_counter()
        pictures = Pictures(self.images, self.labels)
        self._model = prepare_model(Job(config, 0, Split(pictures, pictures, pictures), "", Path()))
        self.train(1)
        self.predict(1)
        self.correction, self.start = (corrected - began) / len(images), time.perf_counter() - corrected

    def train(self, batches: int) -> None:
        """Train on some batches, in one call as an epoch is."""
        count = batches * self.batch
        self._model.fit(self.images[:count], self.labels[:count], batch_size=self.batch, shuffle=False, verbose=0)

    def predict(self, batches: int) -> None:
        """Predict some batches."""
        self._model.predict(self.images[: batches * self.predicted], batch_size=self.predicted, verbose=0)

    def keep(self) -> None:
        """Write a checkpoint, as each epoch does."""
        from stn_bench.subjects.stn.nn.checkpoint import Checkpoint, write_checkpoint
        from stn_bench.subjects.stn.nn.train import values

        variables = values(self._model.variables)
        state = Checkpoint("", {}, variables, values(self._model.optimizer.variables), variables)
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder, "checkpoint.npz"), state)


def _pictures(sample: Sample, count: int) -> tuple[Picture, Labels]:
    """Return some pictures and their labels; those of a small data set come again."""
    dataset = open_dataset(sample.pictures, sample.datasets)
    index = np.arange(count) % len(dataset.labels)
    return np.asarray(dataset.images[index]), dataset.labels[index]


def _seconds(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _median(act: Callable[[], None]) -> float:
    return statistics.median(_seconds(act) for _ in range(REPEATS))


def _repeated(act: Callable[[], None]) -> float:
    """Return the mean over repetitions until enough time has gone by: a mean, since slow steps cost time too."""
    taken = [_seconds(act)]
    while sum(taken) < SECONDS:
        taken.append(_seconds(act))
    return statistics.fmean(taken)
