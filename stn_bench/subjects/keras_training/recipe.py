"""What a training of a Keras model is made of, as its user gave it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stn_bench.subject import Metric, Numbers
from stn_bench.subjects.keras_training.data import Alter, Part, read_parts
from stn_bench.system.errors import DataError, StnBenchError
from stn_bench.system.own_code import own_lines, reason

DEFAULT_EPOCHS, DEFAULT_BATCH_SIZE = 10, 32


@dataclass(frozen=True)
class Epoch:
    """An epoch of a run: the settings and the seed of the run, and its number, from 0."""

    settings: Any
    seed: int
    number: int


@dataclass(frozen=True)
class Recipe:
    """What is trained: the arguments of `KerasModel`, and four that only a subject of the house has.

    Args:
        data: settings, perhaps seed -> the parts.
        build: settings -> model.
        epochs: the setting that counts epochs.
        batch_size: the setting that holds the examples of a step.
        best: the metrics of an epoch by which the best is chosen, the later ones where the earlier tie; (): the last
            epoch is taken.
        loss: as in `compile`, or None.
        metrics: metrics as they were given.
        weighted_metrics: the same of those that sample weights weigh.
        optimizer: settings -> optimizer, or its name, or None.
        class_weight: class -> weight, or settings -> that, or None.
        callbacks: settings -> callbacks, or None.
        final: the metrics that a run ends with.
        validate: judges an epoch by the validation examples: metrics by their bare names; None: Keras does.
        start: model file, settings, seed -> the variables to begin with, where a run goes on from another one's model.
        sized: whether batches that are all of one size say so; see `Shuffled`.
        alter: settings, seed -> what alters the training examples of a batch, or None; see `Shuffled`.
        counts: number of examples by settings and part, as far as they were asked for.
    """

    data: Callable[..., Any]
    build: Callable[[Any], Any]
    epochs: str
    batch_size: str
    best: tuple[Metric, ...]
    loss: Any = None
    metrics: Any = ()
    weighted_metrics: Any = ()
    optimizer: Callable[[Any], Any] | str | None = None
    class_weight: Callable[[Any], Any] | Mapping[int, float] | None = None
    callbacks: Callable[[Any], Sequence[Any]] | None = None
    final: tuple[Metric, ...] = ()
    validate: Callable[[Any, Part, Epoch], Mapping[str, float]] | None = None
    start: Callable[[Path, Any, int], Sequence[Numbers]] | None = None
    sized: bool = False
    alter: Callable[[Any, int], Alter | None] | None = None
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def num_epochs(self, settings: Any) -> int:
        """Return how many epochs a run has."""
        return int(settings.flat().get(self.epochs, DEFAULT_EPOCHS))

    def step_size(self, settings: Any) -> int:
        """Return how many examples a step has."""
        return int(settings.flat().get(self.batch_size, DEFAULT_BATCH_SIZE))

    def read(self, settings: Any, seed: int, folder: Path | None = None) -> dict[str, Part]:
        """Call the user's `data`, and return its parts.

        Args:
            settings: the settings.
            seed: the seed of the run.
            folder: the folder of all data, where there is one.

        Raises:
            DataError: if it raises, or returns what is no data.
        """
        asked = inspect.signature(self.data).parameters
        given = {name: value for name, value in (("seed", seed), ("folder", folder)) if name in asked}
        try:
            returned = self.data(settings, **given)
        except StnBenchError:
            raise
        except Exception as error:
            raise DataError(f"`data` failed ({reason(error)}){own_lines(error)}") from error
        return read_parts(returned)

    def count(self, settings: Any, name: str) -> int:
        """Return how many examples a part has; data that cannot tell are read once for that."""
        if hasattr(self.data, "count"):
            return max(1, int(self.data.count(settings, name)))
        key = settings.canonical()
        if (key, name) not in self.counts:
            parts = self.read(settings, 0)
            self.counts.update({(key, part): one.count() for part, one in parts.items() if part != "train"})
        return self.counts.get((key, name), 1)
