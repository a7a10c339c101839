"""The conditions of a training: what may change the last digits of its numbers, and is in no run key."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stn_bench.system.gpus import HIDDEN, VISIBLE
from stn_bench.system.machine import describe_machine, training_environment
from stn_bench.system.text import shorten, without_secrets

HEARD = re.compile(
    r"(TF|XLA|OMP|KMP|GOMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|ONEDNN|DNNL|OPENCV|JAX|TORCH|PYTORCH|ATEN|CUBLAS|CUDNN|NPY)_"
    r"|NVIDIA_TF32_OVERRIDE$|CUDA_VISIBLE_DEVICES$|PYTHONHASHSEED$"
)
"""Variables of the environment that libraries of numbers read."""

SILENT = re.compile(
    r"_(LOG|VERBOSE|DEBUG|DUMP|CACHE|CONFIG|TELEMETRY)|TF_CPP_|TORCH_HOME|_PATH$|_DIR$"
    r"|^TF_FORCE_GPU_ALLOW_GROWTH$|^XLA_PYTHON_CLIENT_PREALLOCATE$"
)
"""Those among them that change no number."""

SET_ON_IMPORT = {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}
"""Variables that scikit-learn and threadpoolctl set in the processes that import them; they change no number."""

INSTRUCTIONS = (
    "sse4_1 sse4_2 avx avx2 fma f16c avx_vnni avx512f avx512dq avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 "
    "amx_tile amx_bf16 amx_int8 asimd asimddp asimdhp bf16 i8mm sve sve2"
)
"""Instruction sets for which libraries bring code of their own, as Linux names them."""

MACHINE = ("processor", "gpu", "system", "python", "threads")
"""What a record has told of its machine from the beginning, and what may change digits of it."""


def read_conditions(threads: int) -> dict[str, str]:
    """Return what a training of so many threads meets here and now, by name.

    Args:
        threads: threads of the training process.
    """
    variables = {**os.environ, **training_environment(threads)}
    if variables.get(VISIBLE, "") not in HIDDEN:  # which of several GPUs trains changes no number; that none does, may
        del variables[VISIBLE]
    found = {name: shorten(without_secrets(value)) for name, value in sorted(variables.items()) if is_heard(name)}
    return {
        **found,
        "instructions": _instructions(),
        "C library": " ".join(platform.libc_ver()).strip(),
        "BLAS": _blas(),
    }


def is_heard(name: str) -> bool:
    """Return whether a variable of the environment may change a number."""
    return bool(HEARD.match(name)) and not SILENT.search(name) and name not in SET_ON_IMPORT


def changed_conditions(machine: Mapping[str, Any], threads: int) -> list[str]:
    """Return one line for each condition of a training that is another here and now: what it was and what it is.

    Args:
        machine: what the record of the training tells of its machine; older records tell less.
        threads: threads that a training would have today.
    """
    before = machine.get("threads")
    now = read_conditions(before if isinstance(before, int) else threads)  # a line of its own tells of the threads
    return differing_conditions(machine, {**describe_machine(threads), "conditions": now})


def differing_conditions(machine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return one line for each condition that two trainings did not share, as far as both records tell of it."""
    lines = [_line(name, machine[name], other[name]) for name in MACHINE if name in machine and name in other]
    for part in ("conditions", "libraries"):
        one, two = machine.get(part), other.get(part)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            lines += [_line(name, one.get(name), two.get(name)) for name in sorted({*one, *two} - SET_ON_IMPORT)]
    return [line for line in lines if line]


def _line(name: str, before: Any, after: Any) -> str:
    return "" if before == after else f"{shorten(name)}: was {_told(before)}, is {_told(after)}"


def _told(value: Any) -> str:
    return "unset" if value is None else shorten(str(value)) or "unknown"


def _instructions() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return " ".join([platform.machine(), *(one for one in INSTRUCTIONS.split() if one in flags)])


def _blas() -> str:
    """Return the name and version of the library that numpy multiplies matrices with."""
    try:
        built: Any = np.show_config(mode="dicts")
        blas = built["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']}"
    except (KeyError, TypeError):
        return ""
