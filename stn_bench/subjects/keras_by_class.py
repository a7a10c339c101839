"""The class of each test example of a Keras model, kept with the run, so that a report tells how each class is told.

In no run key: it changes no result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from stn_bench.subject import Numbers, Outcome, Run
from stn_bench.subjects.keras_classes import classes_of
from stn_bench.subjects.keras_training.data import Part
from stn_bench.subjects.keras_training.recipe import Recipe
from stn_bench.system.errors import StnBenchError


@dataclass(frozen=True)
class Noting(Recipe):
    """A recipe that takes note of the data that its training read, for they may be large, and are read once.

    Args:
        seen: part -> its examples, once they are read.
    """

    seen: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe) -> Noting:
        """Return a recipe that does so."""
        return cls(**{one.name: getattr(recipe, one.name) for one in fields(recipe)})

    def read(self, settings: Any, seed: int, folder: Path | None = None) -> dict[str, Part]:
        """Call the user's `data`, and return its parts, as `Recipe.read` does."""
        parts = super().read(settings, seed, folder)
        self.seen.update(parts)
        return parts


def with_classes(outcome: Outcome, recipe: Noting, accuracies: Sequence[str], run: Run) -> Outcome:
    """Return an outcome with the class of each test example, where there is one output, and it tells classes apart.

    Args:
        outcome: what a training ended with.
        recipe: what was trained.
        accuracies: the metrics that are how often the answer is right.
        run: what the harness lent, with the predictions among its files.
    """
    known = next((outcome.examples[name] for name in accuracies if name in outcome.examples), None)
    if run.is_trial or known is None or "test" not in recipe.seen:
        return outcome
    codes = _codes(recipe.seen["test"])
    if codes is None or len(codes) != len(known):
        return outcome
    if recipe.seen["test"].dataset is not None and not _agree(codes, known, run.files):
        return outcome  # it has another order each time it is read
    return replace(outcome, classes=_named(codes, recipe.data))


def _codes(part: Part) -> Numbers | None:
    """Return the class of each example: a number, or a text; None where there are none, or several outputs."""
    from stn_bench.subjects.keras_training.batches import targets

    y = targets(part)
    if not hasattr(y, "dtype") or classes_of(y) is None:
        return None
    flat: Numbers = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(len(y))
    return flat if flat.dtype.kind in "US" else flat.astype(np.int64)


def _agree(codes: Numbers, right: Numbers, files: Path) -> bool:
    """Return whether these classes are what the predictions were compared with."""
    from stn_bench.subjects.keras_training.training import PREDICTIONS

    with np.load(files / PREDICTIONS, allow_pickle=False) as arrays:
        said = arrays[arrays.files[0]]
    said = said.argmax(axis=1) if said.ndim == 2 and said.shape[1] > 1 else (said > 0.5).reshape(len(said))
    return bool(np.array_equal(said == codes, right > 0.5))


def _named(codes: Numbers, data: Any) -> Numbers:
    """Return classes as texts, by their names where the data know these."""
    if codes.dtype.kind in "US":
        return codes.astype(str)
    try:
        names = tuple(getattr(data, "class_names", ()))
    except StnBenchError:
        names = ()
    if names and codes.min() >= 0 and codes.max() < len(names):
        return np.array(names, str)[codes]
    return codes.astype(str)


__all__ = ["Noting", "with_classes"]
