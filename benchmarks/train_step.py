"""The train step of the article's plain CNN and STN, at width 1 and 1/4, against the same network in PyTorch.

    python benchmarks/train_step.py [--threads N] [--width W] [--network cnn|stn]

Batch 32 of 60x60x3 on the CPU, `model.fit` on uint8 arrays as the harness trains; needs the extra [bench].
"""

from __future__ import annotations

import argparse
import functools

import numpy as np
from paired import Task, limit_tensorflow, limit_torch, take_turns

BATCH, SIZE, CLASSES = 32, 60, 26
TURNS = 7
TARGET = 1.10


def pictures(steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps * BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, len(images))


def keras_training(threads: int, *, network: str, width: float, steps: int) -> Task:
    limit_tensorflow(threads)
    import keras

    from stn_bench.settings import override
    from stn_bench.subjects.stn.config import Config
    from stn_bench.subjects.stn.nn.build import build_model

    kind = {"cnn": "none", "stn": "affine"}[network]
    model = build_model(override(Config(), {"model.width": width, "model.transformer.kind": kind}))
    model.compile(
        keras.optimizers.Adam(1e-3),
        "sparse_categorical_crossentropy",
        metrics=["sparse_categorical_accuracy"],
        jit_compile=False,
    )
    images, labels = pictures(steps)
    return lambda: model.fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0)


def torch_training(threads: int, *, network: str, width: float, steps: int) -> Task:
    limit_torch(threads)
    import torch
    from torch_network import Network

    model = Network(width, transformer=network == "stn").train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7)
    images, labels = pictures(steps)

    def epoch() -> tuple[float, float]:
        loss_sum, hits = torch.zeros(()), torch.zeros(())
        for start in range(0, len(images), BATCH):
            truth = torch.from_numpy(labels[start : start + BATCH])
            logits = model(torch.from_numpy(images[start : start + BATCH]))
            loss = torch.nn.functional.cross_entropy(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach()
            hits += (logits.argmax(dim=1) == truth).sum()
        return loss_sum.item(), hits.item()

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--width", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--network", choices=["cnn", "stn"], nargs="+", default=["cnn", "stn"])
    options = parser.parse_args()
    for width in options.width:
        steps = 16 if width < 1 else 4
        for network in options.network:
            for threads in options.threads:
                case = {"network": network, "width": width, "steps": steps}
                paired = take_turns(
                    functools.partial(keras_training, **case),
                    functools.partial(torch_training, **case),
                    threads=threads,
                    turns=TURNS,
                )
                title = f"{network}, width {width:g}, {threads} thread(s)"
                print(paired.line(title, target=TARGET, unit=steps), flush=True)


if __name__ == "__main__":
    main()
