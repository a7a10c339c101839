"""The GPUs of this machine: which a process may use, and how several processes share them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

VISIBLE = "CUDA_VISIBLE_DEVICES"
HIDDEN = frozenset({"", "-1"})  # what that variable says where no GPU is to be used
TOOL = "nvidia-smi"
ASKING = ("--query-gpu=index,name", "--format=csv,noheader")
SECONDS = 20.0
LIBRARIES = frozenset({"tensorflow", "torch", "jax", "cupy"})
"""Distributions that compute on a GPU where there is one."""

GROWING = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Variables by which TensorFlow and JAX take memory as they need it: left alone, each process takes all there is."""


@dataclass(frozen=True)
class Gpu:
    """A GPU: what a process calls it, and its make."""

    name: str
    make: str


def gpus(libraries: Iterable[str] = LIBRARIES) -> tuple[Gpu, ...]:
    """Return the GPUs of this machine that a process may use; () where none of its libraries would.

    Args:
        libraries: the distributions that train.
    """
    if not LIBRARIES.intersection(libraries):
        return ()
    told = os.environ.get(VISIBLE)
    if told is None:
        return _found()
    if told.strip() in HIDDEN:
        return ()
    makes = {gpu.name: gpu.make for gpu in _found()}
    return tuple(Gpu(name, makes.get(name, "")) for one in told.split(",") if (name := one.strip()))


@functools.cache
def _found() -> tuple[Gpu, ...]:
    tool = shutil.which(TOOL)
    if tool is None:
        return ()
    try:
        told = subprocess.run([tool, *ASKING], capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()  # there is a driver's tool, and no driver
    return tuple(Gpu(*(part.strip() for part in line.split(",", 1))) for line in told.splitlines() if "," in line)


__all__ = ["GROWING", "HIDDEN", "VISIBLE", "Gpu", "gpus"]
