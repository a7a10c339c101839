"""The timing: how long a run would take here, from a short training.

It times single steps, predictions and checkpoints, and adds them up to a whole run.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stn_bench.subject import Lent
from stn_bench.subjects.keras_training.batches import Shuffled
from stn_bench.subjects.keras_training.checkpoint import Checkpoint, write_checkpoint
from stn_bench.subjects.keras_training.data import Part
from stn_bench.subjects.keras_training.progress import values
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.augmentation import augmentation
from stn_bench.subjects.stn.data.correction import correct
from stn_bench.subjects.stn.data.dataset import make_dataset, open_dataset, read_fingerprint
from stn_bench.subjects.stn.data.spec import DRAWN, DatasetSpec, Labels, Picture
from stn_bench.subjects.stn.nn.compiled import fresh_network
from stn_bench.subjects.stn.nn.scores import PREDICT_BATCH
from stn_bench.subjects.stn.training import RECIPE

STEPS = 48
"""Steps that are timed at a time, after the first, which also traces the graph."""

SECONDS = 5.0
"""They are timed again until this has gone by: one round of a few dozen tells too little on a busy machine."""

BATCHES = 4
"""Batches of pictures whose prediction is timed."""

MOST_PICTURES = 4096
"""Pictures that are trained on at most, where batches are large."""

REPEATS = 3
"""Times that what is short is timed; the median counts."""


@dataclass(frozen=True)
class Sample:
    """The settings and the pictures to time.

    Args:
        config: the settings.
        pictures: the data set to take pictures from; a small one where the study's own is not made yet.
        datasets: folder that it lies in.
    """

    config: Config
    pictures: DatasetSpec
    datasets: Path


@dataclass(frozen=True)
class Timing:
    """The parts of a run's time, in seconds.

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

    def run(self, config: Config) -> float:
        """Return how long a run takes: all epochs with their validation, and two looks at the test pictures."""
        data, train = config.data, config.train
        epoch = self.epoch + math.ceil(data.train / train.batch_size) * self.step + self._prediction(data.validation)
        once = self.start + data.count * self.correction + 2 * self._prediction(data.test)
        return once + train.epochs * epoch

    def _prediction(self, pictures: int) -> float:
        return self.call + pictures * self.picture


def take_sample(config: Config, lent: Lent, scratch: Path) -> Sample:
    """Return what to time: the study's own pictures where they are made, else a few drawn into the scratch folder.

    Raises:
        DataError: if pictures that were imported are not there.
    """
    spec, datasets = DatasetSpec.of(config), lent.data
    if spec.source == DRAWN and read_fingerprint(spec, datasets) is None:
        spec, datasets = dataclasses.replace(spec, count=min(spec.count, _needed(config))), scratch
        make_dataset(spec, datasets, processes=lent.processes)
    return Sample(config, spec, datasets)


def measure(sample: Sample) -> Timing:
    """Train and predict for a short while, and return how long the parts of a run take."""
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


def _steps(config: Config) -> int:
    return max(2, min(STEPS, MOST_PICTURES // config.train.batch_size))


def _needed(config: Config) -> int:
    """Return how many pictures are worth drawing; a measurement that needs more takes them again."""
    return _steps(config) * config.train.batch_size


def _each(all_of_them: float, one: float, count: int) -> float:
    """Return the seconds that each part adds to a call, from the seconds of a call with all parts and with one part.

    If a busy machine made the call with one part no shorter, the parts share the whole call.
    """
    return (all_of_them - one) / (count - 1) if all_of_them > one else all_of_them / count


class _Trainee:
    """A network whose graphs are traced, and the pictures that it is timed on."""

    def __init__(self, sample: Sample) -> None:
        config, data = sample.config, sample.config.data
        self.batch = config.train.batch_size
        self.predicted = math.ceil(data.validation / math.ceil(data.validation / PREDICT_BATCH))  # as `predict` does
        images, labels = _pictures(sample, max(_needed(config), BATCHES * self.predicted))
        began = time.perf_counter()
        self.images = correct(images, config)
        corrected = time.perf_counter()
        self._batches = {count: self._shuffled(config, labels, count) for count in (1, _steps(config))}
        self._model = fresh_network(config)
        self.train(1)
        self.predict(1)
        self.correction, self.start = (corrected - began) / len(images), time.perf_counter() - corrected

    def _shuffled(self, config: Config, labels: Labels, batches: int) -> Shuffled:
        """Return some batches as a run is trained on them: in an order of their own, and altered."""
        count = batches * self.batch
        part = Part((self.images[:count], labels[:count]))
        return Shuffled(part, self.batch, 0, sized=RECIPE.sized, alter=augmentation(config, 0))

    def train(self, batches: int) -> None:
        """Train on 1 batch or `_steps`, in one call as an epoch is."""
        self._batches[batches].begin(0)
        self._model.fit(self._batches[batches].batches, shuffle=False, verbose=0)

    def predict(self, batches: int) -> None:
        """Predict some batches."""
        self._model.predict(self.images[: batches * self.predicted], batch_size=self.predicted, verbose=0)

    def keep(self) -> None:
        """Write a checkpoint, as each epoch does."""
        variables = values(self._model.variables)
        state = Checkpoint("", {}, [], variables, values(self._model.optimizer.variables), variables)
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
