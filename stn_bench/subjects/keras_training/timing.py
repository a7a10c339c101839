"""How long a run of a Keras model takes here, from a training of two epochs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stn_bench.settings import override
from stn_bench.subject import Lent
from stn_bench.subjects.keras_training.recipe import Recipe
from stn_bench.subjects.keras_training.training import train_model

MEASURED = 2
"""Epochs: the first also traces the graph, the second is like all that would follow."""


@dataclass(frozen=True)
class _Trial:
    """What a training is lent that keeps nothing and takes the time at the end of each epoch."""

    data: Path
    folder: Path
    files: Path
    key: str = "timing"
    start: Path | None = None
    is_trial: bool = True
    ends: list[float] = field(default_factory=list)

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.ends.append(time.perf_counter())


def measure_run(recipe: Recipe, settings: Any, lent: Lent, scratch: Path) -> float:
    """Return how many seconds a run takes; one that stops early takes less."""
    epochs = recipe.num_epochs(settings)
    is_short = epochs > MEASURED and recipe.epochs in settings.flat()
    short = override(settings, {recipe.epochs: MEASURED}) if is_short else settings
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        run = _Trial(lent.data, Path(folder), Path(folder))
        began = time.perf_counter()
        train_model(recipe, short, 0, run)
        seconds = time.perf_counter() - began
    if not is_short or len(run.ends) < MEASURED:
        return seconds
    return seconds + (epochs - MEASURED) * (run.ends[1] - run.ends[0])
