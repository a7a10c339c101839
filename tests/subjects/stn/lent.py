"""What a harness lends to a training, without a harness, and a training of seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stn_bench.subjects.stn.data.dataset import Pictures

SMALL = {
    "data.count": 66,
    "data.validation": 13,
    "data.test": 11,
    "data.size": 16,
    "data.alphabet": "ABC",
    "model.width": 1 / 64,
    "optimizer.learning_rate": 0.01,
    "train.batch_size": 14,  # of 42 pictures: a smaller last batch would be traced on its own
    "train.epochs": 2,
}
QUICK = {"model__norm__kind": "none", "optimizer__name": "sgd"}
"""A network and an optimizer that TensorFlow traces in half the time, for tests of what is around them; those of the
article are trained by the contract suite, and stopped and resumed there."""


def pictures(count: int, seed: int) -> Pictures:
    """Noise whose mean brightness tells the class: something that a tiny network can learn."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    noise = random.integers(0, 80, (count, 16, 16, 3))
    return Pictures((noise + 80 * labels[:, None, None, None]).astype(np.uint8), labels)


PARTS = {"train": pictures(42, 0), "validation": pictures(13, 1), "test": pictures(11, 2)}
"""The parts that `SMALL` asks for."""


@dataclass
class LentRun:
    """A run in a folder of its own; `log` keeps what it is told, and then calls `then` with the epoch."""

    root: Path
    data: Path
    key: str = "key"
    start: Path | None = None
    is_trial: bool = False
    then: Callable[[int], None] = lambda epoch: None
    told: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder, self.files = self.root / "folder", self.root / "files"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files.mkdir(exist_ok=True)

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.told.append((epoch, metrics))
        self.then(epoch)
