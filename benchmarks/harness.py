"""The harness's own cost: `stn-bench run` with one worker over the bare `fit` of the same jobs.

    python benchmarks/harness.py [--seeds 2] [--epochs 12]

The study has a base and one arm. Bare is a process that builds each job's model and calls `fit` once with validation,
on the same pictures and threads. What `run` does beyond that is its cost: stores, checkpoints, tracking, the test
pictures, models kept, the report. Both times include the start of their processes; pictures and stores are there, as
they are from the second study of a root on. The two run at the same time, each on a core of its own, so that a slow
minute of the machine falls on both. Where its cores are not equally fast, the processor's seconds tell more than the
clock's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from study import ARMS, BASE, make_root

from stn_bench.system.machine import training_environment

TARGET = 1.05


def fit_jobs(root: Path, seeds: list[int], epochs: int) -> None:
    """Train every job with Keras alone."""
    import keras

    from stn_bench.settings import override
    from stn_bench.subjects.stn.config import Config
    from stn_bench.subjects.stn.data.dataset import open_dataset
    from stn_bench.subjects.stn.data.spec import DatasetSpec
    from stn_bench.subjects.stn.nn.build import build_model
    from stn_bench.subjects.stn.nn.optimizers import build_optimizer

    for seed in seeds:
        for kind in ARMS:
            overrides = {**BASE, "train.epochs": epochs, "model.transformer.kind": kind}
            config = override(Config(), overrides).resolved()
            split = open_dataset(DatasetSpec.of(config), root / "mlruns/datasets").split(config.data)
            keras.utils.clear_session()
            keras.utils.set_random_seed(seed)
            model = build_model(config)
            model.compile(
                build_optimizer(config, -(-len(split.train) // config.train.batch_size)),
                "sparse_categorical_crossentropy",
                metrics=["sparse_categorical_accuracy"],
                jit_compile=False,
            )
            model.fit(
                split.train.images,
                split.train.labels,
                batch_size=config.train.batch_size,
                epochs=epochs,
                validation_data=(split.validation.images, split.validation.labels),
                validation_batch_size=250,
                verbose=0,
            )


def bare_command(root: Path, seeds: list[int], epochs: int) -> list[str]:
    return [sys.executable, __file__, "--bare", str(root), "--seeds", str(len(seeds)), "--epochs", str(epochs)]


def run_command(root: Path) -> list[str]:
    options = ("--root", str(root), "--workers", "1", "--threads", "1")
    return [sys.executable, "-m", "stn_bench", "run", "timed", *options]


def make_stores(root: Path) -> float:
    """Make both stores, empty, and return the seconds that it took."""
    from stn_bench.runner.stores import open_queue, open_tracking
    from stn_bench.system.workspace import Workspace

    start, workspace = time.perf_counter(), Workspace.at(root)
    open_tracking(workspace)
    open_queue(workspace)
    return time.perf_counter() - start


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds of the clock, and of the processor in all its processes."""

    wall: float
    processor: float


def side_by_side(*commands: list[str]) -> list[Cost]:
    """Run the commands at the same time, each with all its processes on a core of its own; return what they took."""
    with ThreadPoolExecutor(len(commands)) as threads:
        return list(threads.map(cost_on_core, range(len(commands)), commands))


def cost_on_core(core: int, command: list[str]) -> Cost:
    start = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(core), *command],
        env={**os.environ, **training_environment(threads=1)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with exit code {process.returncode}")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seeds = list(range(1, arguments.seeds + 1))
    if arguments.bare:
        fit_jobs(arguments.bare, seeds, arguments.epochs)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder), seeds, arguments.epochs)
        new = make_stores(root)
        bare, run = side_by_side(bare_command(root, seeds, arguments.epochs), run_command(root))
    print(f"{len(seeds) * len(ARMS)} jobs, target {TARGET}")
    print(f"wall: run {run.wall:.0f} s, bare fit {bare.wall:.0f} s, ratio {run.wall / bare.wall:.3f}")
    ratio = run.processor / bare.processor
    print(f"processor: run {run.processor:.0f} s, bare fit {bare.processor:.0f} s, ratio {ratio:.3f}")
    print(f"a root's first study also makes the stores, once: {new:.1f} s")


if __name__ == "__main__":
    main()
