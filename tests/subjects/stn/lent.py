"""What a harness lends to a training, without a harness, and a training of seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
