"""The libraries that are in the run key of a Keras model, without loading them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable

from stn_bench.subject import Finding
from stn_bench.subjects.keras_training.global_state import TRAINING, has_backend
from stn_bench.system.machine import package_version
from stn_bench.system.text import shorten

BACKENDS = {"tensorflow": (), "jax": ("keras", "numpy", "jax", "jaxlib", "tensorflow")}
"""Keras' backend -> the distributions in the key. (): all that the code imports, which are TensorFlow's too."""


def keyed_libraries() -> tuple[str, ...]:
    """Return the distributions in a run key; (): all that the code imports, keras, numpy and tensorflow among them.

    With another backend, what else the user's code imports is not in the key.
    """
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    return BACKENDS.get(name, ("keras", "numpy", name))


def check() -> Iterable[Finding]:
    """Return whether Keras and its backend are there; nothing is loaded."""
    for check, name in (("Keras", "keras"), ("Keras backend", os.environ.get("KERAS_BACKEND") or "tensorflow")):
        is_there = importlib.util.find_spec(name) is not None if name == "keras" else has_backend(name)
        found = f"{name} {package_version(name) or ''}".strip() if is_there else f"{name} (not installed)"
        advice = f"pip install {name}" if name == "keras" else f"pip install {name}, or set KERAS_BACKEND to another"
        if name not in ("keras", *TRAINING):
            found, advice = f"{shorten(name)} (trains nothing)", f"set KERAS_BACKEND to one of {', '.join(TRAINING)}"
        yield Finding(check, is_there, found, "" if is_there else advice)
