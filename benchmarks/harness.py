"""The harness's own cost: `stn-bench run` with one worker over the bare `fit` of the same cells.

    python benchmarks/harness.py [--seeds 3] [--epochs 24]

The study has a base and one arm. Bare is a process that builds each cell's model and calls `fit` once with validation,
on the same pictures and threads. What `run` does beyond that is its cost: stores, checkpoints, tracking, the test
pictures, models kept, the report. Both times include the start of their processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from study import ARMS, BASE, make_root, run_seconds

from stn_bench.machine import training_environment

TARGET = 1.05


def fit_cells(root: Path, seeds: list[int], epochs: int) -> None:
    """Train every cell with Keras alone."""
    import keras

    from stn_bench.config import Config, override
    from stn_bench.data.dataset import open_dataset
    from stn_bench.data.spec import DatasetSpec
    from stn_bench.nn.build import build_model
    from stn_bench.nn.optimizers import build_optimizer

    for seed in seeds:
        for kind in ARMS:
            overrides = {**BASE, "train.epochs": epochs, "model.transformer.kind": kind}
            config = override(Config(), overrides).resolved()
            split = open_dataset(DatasetSpec.of(config), root / "mlruns/datasets").split(config.data)
            start = time.perf_counter()
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
            print(f"  bare cell: seed {seed}, transformer {kind}: {time.perf_counter() - start:.0f} s", flush=True)


def bare_seconds(root: Path, seeds: list[int], epochs: int) -> float:
    start = time.perf_counter()
    command = [sys.executable, __file__, "--bare", str(root), "--seeds", str(len(seeds)), "--epochs", str(epochs)]
    environment = {**os.environ, **training_environment(threads=1)}
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seeds = list(range(1, arguments.seeds + 1))
    if arguments.bare:
        fit_cells(arguments.bare, seeds, arguments.epochs)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder), seeds, arguments.epochs)
        bare = bare_seconds(root, seeds, arguments.epochs)
        run = run_seconds(root, "--workers", "1", "--threads", "1")
    verdict = "met" if run / bare <= TARGET else "NOT met"
    cells = len(seeds) * len(ARMS)
    print(f"run {run:.0f} s, bare fit {bare:.0f} s ({cells} cells): ratio {run / bare:.3f}, target {TARGET} {verdict}")


if __name__ == "__main__":
    main()
