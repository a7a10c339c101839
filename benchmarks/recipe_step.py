"""Where a step of the recipe goes, and whether half precision or several steps in one call make it shorter.

    python benchmarks/recipe_step.py [--threads N ...]

Batch 64 of 60x60x3 on the CPU, `model.fit` on uint8 arrays as the harness trains. Each line is the recipe's step
changed in one thing, over the recipe's own step, both in turns on the same cores. Augmentation is measured by itself.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from paired import Paired, Task, limit_tensorflow, take_turns

BATCH, SIZE, CLASSES, STEPS = 64, 60, 26, 8
TURNS = 9
RECIPE = Path(__file__).parent.parent / "ablations" / "recipe.toml"

CHANGES: dict[str, tuple[dict[str, Any], int]] = {
    "the same again": ({}, 1),
    "without the transformer, on 60x60": ({"model.transformer.kind": "none"}, 1),
    "without normalisation": ({"model.norm.kind": "none"}, 1),
    "in bfloat16, weights in float32": ({"train.precision": "mixed_bfloat16"}, 1),
    "8 steps in one traced call": ({}, 8),
}
"""What is changed -> its settings, and how many steps one call makes."""


def recipe() -> dict[str, Any]:
    """Return the recipe's settings by dotted path."""
    found: dict[str, Any] = tomllib.loads(RECIPE.read_text(encoding="utf-8"))["base"]
    return found


def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (STEPS * BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, len(images))


def training(threads: int, *, changes: Mapping[str, Any], steps_per_call: int) -> Task:
    limit_tensorflow(threads)
    import keras

    from stn_bench.settings import override
    from stn_bench.subjects.stn.config import Config
    from stn_bench.subjects.stn.nn.build import build_model

    model = build_model(override(Config(), {**recipe(), **changes}))
    model.compile(
        keras.optimizers.Adam(3e-3),
        "sparse_categorical_crossentropy",
        metrics=["sparse_categorical_accuracy"],
        jit_compile=False,
        steps_per_execution=steps_per_call,
    )
    images, labels = pictures()
    return lambda: model.fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0)


def augmenting(threads: int) -> Task:
    import cv2

    from stn_bench.settings import override
    from stn_bench.subjects.stn.config import Config
    from stn_bench.subjects.stn.data.augmentation import augmentation

    cv2.setNumThreads(threads)
    alter = augmentation(override(Config(), recipe()), 1)
    assert alter is not None
    images, _ = pictures()
    return lambda: alter(images, np.arange(len(images)), 1)


def line(title: str, paired: Paired) -> str:
    """Return one line: medians in ms of a step, and the median ratio of the turns with its quartiles."""
    low, ratio, high = statistics.quantiles(paired.ratios, n=4)
    step, base = (statistics.median(times) / STEPS * 1e3 for times in (paired.ours, paired.theirs))
    return f"{title:36} {step:7.2f} ms, the recipe {base:7.2f} ms, ratio {ratio:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    base = functools.partial(training, changes={}, steps_per_call=1)
    for threads in options.threads:
        print(f"{threads} thread(s)")
        for title, (changes, steps) in CHANGES.items():
            changed = functools.partial(training, changes=changes, steps_per_call=steps)
            paired = take_turns(changed, base, threads=threads, turns=TURNS)
            print(f"  {line(title, paired)}", flush=True)
        paired = take_turns(augmenting, base, threads=threads, turns=TURNS)
        print(f"  {line('augmentation of its batch, alone', paired)}", flush=True)


if __name__ == "__main__":
    main()
