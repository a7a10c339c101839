"""The state of an unfinished training: one file of arrays and JSON, replaced whole at the end of each epoch."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stn_bench.subject import Numbers

GROUPS = ("variables", "optimizer", "best")
Arrays = list[Numbers]


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on as if it had never stopped.

    Args:
        run_key: identity of the run; another run's checkpoint is never read.
        progress: plain JSON: epochs done, history, best epoch, seconds.
        callbacks: what each callback of the user's keeps, plain.
        variables: the model's variables, the states of random generators among them.
        optimizer: the variables of its optimizers.
        best: the model's variables at the best epoch.
    """

    run_key: str
    progress: dict[str, Any]
    callbacks: list[dict[str, Any]]
    variables: Arrays
    optimizer: Arrays
    best: Arrays


class CannotGoOn(Exception):
    """A checkpoint that a model cannot go on from: training starts over."""


class NotPlain(TypeError):
    """A value that is made of no numbers and texts."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint, flushed to the disk, in the place of the last one.

    Raises:
        NotPlain: if a callback keeps something that is not plain.
    """
    arrays = {f"{group}_{index:05d}": one for group in GROUPS for index, one in enumerate(getattr(checkpoint, group))}
    kept = [{name: encode(value, arrays) for name, value in one.items()} for one in checkpoint.callbacks]
    note = json.dumps({"run_key": checkpoint.run_key, "progress": checkpoint.progress, "callbacks": kept})
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
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        note = json.loads(arrays["note"].tobytes())
        callbacks = [{name: decode(value, arrays) for name, value in one.items()} for one in note["callbacks"]]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logging.getLogger(__name__).warning("%s: damaged checkpoint, training starts over (%s)", path, error)
        return None
    if note["run_key"] != run_key:
        return None
    groups = {name: [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}_")] for name in GROUPS}
    return Checkpoint(run_key, note["progress"], callbacks, **groups)


def encode(value: Any, arrays: dict[str, Numbers]) -> Any:
    """Return a plain value as JSON, its arrays put beside it.

    Raises:
        NotPlain: if it is not plain.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise NotPlain(type(value).__name__)
        name = f"kept{len(arrays):05d}"
        arrays[name] = array
        return {"array": name, "scalar": isinstance(value, np.generic)}
    if isinstance(value, Mapping):
        return {"dict": [[encode(key, arrays), encode(one, arrays)] for key, one in value.items()]}
    if isinstance(value, list | tuple | set | frozenset):
        return {type(value).__name__: [encode(one, arrays) for one in value]}
    name = getattr(value, "__name__", "")
    if name and value is getattr(keras.ops, name, None):
        return {"operation": name}  # such as the comparison that a callback chose
    raise NotPlain(type(value).__name__)


def decode(value: Any, arrays: Mapping[str, Numbers]) -> Any:
    """Return the value that was encoded."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]][()] if value["scalar"] else np.array(arrays[value["array"]])
    ((kind, content),) = value.items()
    if kind == "dict":
        return {decode(key, arrays): decode(one, arrays) for key, one in content}
    if kind == "operation":
        return getattr(keras.ops, content)
    makers: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return makers[kind](decode(one, arrays) for one in content)
