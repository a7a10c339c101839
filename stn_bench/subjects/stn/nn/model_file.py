"""Model files: an ordinary `.keras` file with a note of the configuration that rebuilds it.

Loading builds the network from the note and takes only the numbers from the file, so that a file from elsewhere runs
no code of its own. A file that names a model factory runs that function, and does so only if it is trusted.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.system.errors import ConfigError, ModelFileError

NOTE = "stn_bench.json"
WEIGHTS = "model.weights.h5"
BROKEN = (  # what zipfile and json raise of files that are cut, encrypted, packed by a method unknown, nested too deep
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)


def save_model(model: keras.Model, path: Path, config: Config) -> None:
    """Write a model with its configuration; the file appears whole or not at all."""
    partial = path.with_suffix(f".{os.getpid()}.partial.keras")
    try:
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as file:
            file.writestr(NOTE, json.dumps({"settings": config.resolved().flat()}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_model(
    path: Path, *, settings: Mapping[str, Any] | None = None, trust: bool = False
) -> tuple[keras.Model, Config]:
    """Return the model in a file, and its configuration.

    Args:
        path: a file that `save_model` wrote, or any `.keras` file of the network that `settings` describe.
        settings: the configuration by dotted path, where the file does not note it.
        trust: allow the file to name a model factory, which is then imported and called.

    Raises:
        ModelFileError: if there is no such file, it is not one of ours, or it needs trust.
    """
    weights = _member(path, WEIGHTS)
    config = _config(path, settings or read_note(path))
    if config.model.factory and not trust:
        raise ModelFileError(
            f"{path}: was built by `{config.model.factory}`, code that this file names but does not hold; "
            f"add --trust if you trust it"
        )
    return _with_weights(build_model(config), weights, path), config


def read_note(path: Path) -> dict[str, Any]:
    """Return the configuration that a model file notes, by dotted path and unchecked.

    Raises:
        ModelFileError: if there is no such file, or it is not one of ours.
    """
    try:
        settings = json.loads(_member(path, NOTE))["settings"]
    except BROKEN:
        raise _not_ours(path) from None
    if not isinstance(settings, dict):
        raise ModelFileError(f"{path}: its settings are not ours (expected a table, got a {type(settings).__name__})")
    return settings


def _member(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as file:
            return file.read(name)
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such model file") from None
    except BROKEN:
        raise _not_ours(path) from None


def _not_ours(path: Path) -> ModelFileError:
    return ModelFileError(f"{path}: expected a model file written by stn-bench, got something else")


def _config(path: Path, settings: Mapping[str, Any]) -> Config:
    try:
        return override(Config(), settings, where=str(path))
    except (ConfigError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its settings are not ours ({error})") from None


def _with_weights(model: keras.Model, weights: bytes, path: Path) -> keras.Model:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS
        file.write_bytes(io.BytesIO(weights).getbuffer())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that it leaves as they were
                model.load_weights(file)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            reason = str(error).splitlines()[0]
            raise ModelFileError(f"{path}: its weights do not fit the network it describes ({reason})") from None
    return model
