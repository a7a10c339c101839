"""Free the memory that TensorFlow keeps after a training has ended, before the next training."""

from __future__ import annotations

import keras

CUSTOM = "CustomGradient-"


def forget_gradients() -> None:
    """Drop the custom gradients of all graphs that were traced so far; call it when their models are done with.

    TensorFlow registers each one for good, under a name of its own, and with it the graph of the whole training: the
    all-reduce in Keras' optimizer has one, and a worker grew by 20 MiB a training. A graph asks for them while it is
    differentiated, which happens as it is traced, and never after that.
    """
    if keras.backend.backend() != "tensorflow":
        return
    registry = _registry()
    for name in [name for name in registry if name.startswith(CUSTOM)]:
        del registry[name]


def _registry() -> dict[str, object]:
    """Return TensorFlow's registry of gradients by name; {} where it keeps none under a name that we know."""
    from tensorflow.python.framework import ops  # no public name leads to it

    registry: dict[str, object] = getattr(ops.gradient_registry, "_registry", {})
    return registry
