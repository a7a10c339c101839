"""A study for benchmarks: two arms on some seeds in a root of its own, run by the command line as a user would."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ARMS = ("affine", "none")  # the base, and the one arm of the ablation `transformer`
BASE: dict[str, object] = {
    "data.count": 10_000,
    "data.size": 32,
    "model.width": 0.25,
    "optimizer.learning_rate": 3e-3,
    "optimizer.schedule": "cosine",
}


def make_root(folder: Path, seeds: list[int], epochs: int, base: Mapping[str, object] = BASE) -> Path:
    """Write the study `timed` under a root, and make its pictures."""
    settings = "\n".join(f'"{path}" = {_toml(value)}' for path, value in {**base, "train.epochs": epochs}.items())
    (folder / "studies").mkdir(parents=True)
    which = 'ablations = ["transformer"]\narms.transformer = ["none"]'
    text = f'title = "Timed"\n{which}\nseeds = {seeds}\n[base]\n{settings}\n'
    (folder / "studies" / "timed.toml").write_text(text)
    overrides = [part for path, value in base.items() for part in ("--set", f"{path}={value}")]
    stn_bench(folder, "data", "make", *overrides)
    return folder


def run_seconds(folder: Path, *arguments: str) -> float:
    """Return the wall time of `stn-bench run timed` from its start to its report."""
    start = time.perf_counter()
    stn_bench(folder, "run", "timed", *arguments)
    return time.perf_counter() - start


def stn_bench(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "stn_bench", *arguments, "--root", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
