"""The global settings of Keras and TensorFlow, of every training that loads them, whatever its subject.

What Keras reads from outside of code (`keras.json`, variables of the environment) is kept from it while it is
imported, but for the backend that KERAS_BACKEND names, whose versions are in the run key. This loads neither.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stn_bench.system.errors import MachineError
from stn_bench.system.global_state import SEEDS, Aspect, Library, environment, keeping_generators, void
from stn_bench.system.library_state import loaded, setting
from stn_bench.system.text import shorten

FILE = "keras.json"
BACKEND = "KERAS_BACKEND"
HOME = "KERAS_HOME"
TRAINING = ("tensorflow", "jax", "torch")
"""Backends that train; Keras has others that only predict."""

UNHEEDED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED")
"""Variables that change what a training does, and are in no run key."""

WRITTEN = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}
"""What Keras writes into a file of settings of its own."""

SHARED = (
    "dtype_policy",
    "flash_attention",
    "interactive_logging",
    "traceback_filtering",
    "safe_mode_saving",
    "distribution",
    "nnx_enabled",
)
"""Settings that Keras keeps by name for each thread; a policy that is merely asked for would be fixed from then on."""


# What lies outside of code -------------------------------------------------------------------------------------------


def backend() -> str:
    """Return the backend that trainings use: the one that KERAS_BACKEND names, and no other."""
    return os.environ.get(BACKEND) or "tensorflow"


def has_backend(name: str) -> bool:
    """Return whether Keras can train on a backend here: whether it is one that trains, and is installed."""
    return name in TRAINING and importlib.util.find_spec(name) is not None


def home() -> Path:
    """Return the folder of Keras' own, as Keras finds it."""
    if HOME in os.environ:
        return Path(os.environ[HOME])
    folder = Path("~").expanduser()
    return (folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())) / ".keras"


def unheeded() -> list[str]:
    """Return what somebody set outside of code that no training heeds: variables, and what is written in a file."""
    found = [f"{name}={shorten(os.environ[name])}" for name in UNHEEDED if os.environ.get(name)]
    file = home() / FILE
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return found
    usual = {**WRITTEN, "backend": backend(), "nnx_enabled": False}
    if not isinstance(written, dict):
        return found
    others = [
        f"{name}={shorten(str(written[name]))}" for name in usual if written.get(name, usual[name]) != usual[name]
    ]
    return [*found, f"{', '.join(others)} in {file}"] if others else found


@contextlib.contextmanager
def _unheeding() -> Iterator[None]:
    """Keep from Keras, while it is imported, what is set outside of code.

    Raises:
        MachineError: if the backend is not installed.
    """
    name = backend()
    if not has_backend(name):
        fault = "is not installed: install it, or" if name in TRAINING else "trains nothing:"
        raise MachineError(
            f"Keras' backend `{shorten(name)}` {fault} set {BACKEND} to another of {', '.join(TRAINING)}"
        )
    datasets = str(home())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, FILE).write_text(json.dumps({**WRITTEN, "backend": name}), encoding="utf-8")
        with environment({**dict.fromkeys(UNHEEDED), BACKEND: name, HOME: folder}):
            yield
    with contextlib.suppress(AttributeError):  # where `keras.datasets` lie: no public name leads to it
        if hasattr(config := loaded("keras.src.backend.config"), "_KERAS_DIR"):
            config._KERAS_DIR = datasets


# Keras ---------------------------------------------------------------------------------------------------------------


def _tracker() -> Any:
    return loaded("keras.src.backend.common.global_state")  # `clear_session` puts another one in its place


def _shared(name: str) -> Aspect:
    return Aspect(
        f"Keras' {name}",
        lambda: _tracker().get_global_attribute(name),
        lambda value: void(_tracker().set_global_attribute(name, value)),
    )


def _read_objects() -> dict[str, Any]:
    return dict(loaded("keras.saving.get_custom_objects")())


def _write_objects(before: Mapping[str, Any]) -> None:
    registered = loaded("keras.saving.get_custom_objects")()
    registered.clear()
    registered.update(before)


def _begin(seed: int) -> None:
    """Give layers their first names again, forget the graphs of the last training, and seed every generator."""
    kept = {name: _tracker().get_global_attribute(name) for name in SHARED}
    loaded("keras.utils.clear_session")(free_memory=False)
    for name, value in kept.items():
        if value is not None:
            _tracker().set_global_attribute(name, value)
    with keeping_generators():
        loaded("keras.utils.set_random_seed")(seed % SEEDS)


def _facts() -> dict[str, str]:
    config = loaded("keras.config")
    policy = _tracker().get_global_attribute("dtype_policy")
    return {
        "Keras backend": str(config.backend()),
        "Keras floatx": str(config.floatx()),
        "Keras epsilon": str(config.epsilon()),
        "Keras image_data_format": str(config.image_data_format()),
        "Keras dtype_policy": str(getattr(policy, "name", config.floatx())),
    }


KERAS = Library(
    "keras",
    (
        setting("Keras' floatx", "keras.config.floatx", "keras.config.set_floatx"),
        setting("Keras' epsilon", "keras.config.epsilon", "keras.config.set_epsilon"),
        setting("Keras' image_data_format", "keras.config.image_data_format", "keras.config.set_image_data_format"),
        setting("Keras' max_epochs", "keras.config.max_epochs", "keras.config.set_max_epochs"),
        setting(
            "Keras' max_steps_per_epoch",
            "keras.config.max_steps_per_epoch",
            "keras.config.set_max_steps_per_epoch",
        ),
        *map(_shared, SHARED),
        Aspect("Keras' custom objects", _read_objects, _write_objects),
    ),
    seed=_begin,
    importing=_unheeding,
    defaults={
        **{f"Keras' {name}": value for name, value in WRITTEN.items()},
        **dict.fromkeys([f"Keras' {name}" for name in ("max_epochs", "max_steps_per_epoch", *SHARED)]),
    },
    facts=_facts,
    unheeded=unheeded,
)


# TensorFlow ----------------------------------------------------------------------------------------------------------


def _internal(name: str) -> Any:
    """Return a function that no public name leads to; of another version of TensorFlow it may be missing."""
    return getattr(importlib.import_module("tensorflow.python.framework.config"), name)


def _write_determinism(is_on: bool) -> None:
    _internal("enable_op_determinism" if is_on else "disable_op_determinism")()


def _write_jit(found: Any) -> None:
    loaded("tensorflow.config.optimizer.set_jit")("autoclustering" if found else False)


def _cannot(value: Any) -> None:
    """There is no way back."""


def _seed_tensorflow(seed: int) -> None:
    loaded("tensorflow.random.set_seed")(seed % SEEDS)
    with contextlib.suppress(ImportError, AttributeError):
        setattr(importlib.import_module("tensorflow.python.ops.stateful_random_ops"), "global_generator", None)  # noqa: B010


TENSORFLOW = Library(
    "tensorflow",
    (
        setting(
            "TensorFlow's eager functions",
            "tensorflow.config.functions_run_eagerly",
            "tensorflow.config.run_functions_eagerly",
        ),
        Aspect("TensorFlow's XLA", lambda: loaded("tensorflow.config.optimizer.get_jit")(), _write_jit),
        setting(
            "TensorFlow's graph optimisers",
            "tensorflow.config.optimizer.get_experimental_options",
            "tensorflow.config.optimizer.set_experimental_options",
        ),
        setting(
            "TensorFlow's TF32",
            "tensorflow.config.experimental.tensor_float_32_execution_enabled",
            "tensorflow.config.experimental.enable_tensor_float_32_execution",
        ),
        setting(
            "TensorFlow's placement",
            "tensorflow.config.get_soft_device_placement",
            "tensorflow.config.set_soft_device_placement",
        ),
        setting(
            "TensorFlow's threads within an operation",
            "tensorflow.config.threading.get_intra_op_parallelism_threads",
            "tensorflow.config.threading.set_intra_op_parallelism_threads",
        ),
        setting(
            "TensorFlow's threads between operations",
            "tensorflow.config.threading.get_inter_op_parallelism_threads",
            "tensorflow.config.threading.set_inter_op_parallelism_threads",
        ),
        Aspect("TensorFlow's determinism", lambda: _internal("is_op_determinism_enabled")(), _write_determinism),
        Aspect("TensorFlow's eager execution", lambda: bool(loaded("tensorflow.executing_eagerly")()), _cannot),
        Aspect("TensorFlow's numpy methods", lambda: hasattr(loaded("tensorflow.Tensor"), "tolist"), _cannot),
    ),
    seed=_seed_tensorflow,
)


LIBRARIES = (TENSORFLOW, KERAS)
"""TensorFlow first: Keras seeds it too."""

__all__ = ["LIBRARIES", "backend"]
