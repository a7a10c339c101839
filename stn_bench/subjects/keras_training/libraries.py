"""The libraries that are in the run key of a Keras model, without loading them."""

from __future__ import annotations

import os

BACKENDS = {"tensorflow": (), "jax": ("keras", "numpy", "jax", "jaxlib", "tensorflow")}
"""Keras' backend -> the distributions in the key. (): all that the code imports, which are TensorFlow's too."""


def keyed_libraries() -> tuple[str, ...]:
    """Return the distributions in a run key; (): all that the code imports, keras, numpy and tensorflow among them.

    With another backend, what else the user's code imports is not in the key.
    """
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    return BACKENDS.get(name, ("keras", "numpy", name))
