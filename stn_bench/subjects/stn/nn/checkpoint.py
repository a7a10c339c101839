"""The state of an unfinished training: one file, replaced whole at the end of each epoch."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Weights = list[np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """The state that a training needs to go on as if it had never stopped.

    Args:
        run_key: identity of the run; another run's checkpoint is never read.
        progress: plain JSON: epochs done, history, best epoch, seconds.
        variables: the model's variables, dropout's random states among them.
        optimizer: the optimizer's variables.
        best: the model's variables at the best epoch by validation.
    """

    run_key: str
    progress: dict[str, Any]
    variables: Weights
    optimizer: Weights
    best: Weights


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint beside `path`, flush it to the disk, then put it in place."""
    arrays = {
        f"{group}_{index:04d}": array
        for group in ("variables", "optimizer", "best")
        for index, array in enumerate(getattr(checkpoint, group))
    }
    note = json.dumps({"run_key": checkpoint.run_key, "progress": checkpoint.progress})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, note=np.frombuffer(note.encode(), np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: Path, run_key: str) -> Checkpoint | None:
    """Return the checkpoint at `path`, or None if there is none, it is damaged, or another run's."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            note = json.loads(file["note"].tobytes())
            groups = {name: _group(file, name) for name in ("variables", "optimizer", "best")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        logging.getLogger(__name__).warning("%s: damaged checkpoint, training starts over (%s)", path, error)
        return None
    if note["run_key"] != run_key:
        return None
    return Checkpoint(run_key, note["progress"], **groups)


def _group(file: Any, name: str) -> Weights:
    return [file[key] for key in sorted(file.files) if key.startswith(f"{name}_")]
