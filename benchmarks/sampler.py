"""The sampler, forward and gradient towards the matrix, against PyTorch's affine_grid and grid_sample.

    python benchmarks/sampler.py

32 pictures of 60x60x3 on the CPU, with one thread and with two; needs the extra [bench].
"""

from __future__ import annotations

import numpy as np
from paired import Task, limit_tensorflow, limit_torch, take_turns

BATCH, SIZE = 32, 60
REPEATS = 10
TURNS = 40
TARGET = 1.25


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pictures, matrices around the identity, and the gradient that arrives from behind."""
    rng = np.random.default_rng(0)
    pictures = rng.random((BATCH, SIZE, SIZE, 3), dtype=np.float32)
    matrices = np.float32([[1, 0, 0], [0, 1, 0]]) + rng.normal(0, 0.2, (BATCH, 2, 3)).astype(np.float32)
    return pictures, matrices, rng.normal(size=pictures.shape).astype(np.float32)


def keras_sampler(threads: int) -> Task:
    limit_tensorflow(threads)
    import tensorflow as tf

    from stn_bench.subjects.stn.nn.sampler import exact_sampler

    @tf.function
    def step(pictures: tf.Tensor, matrices: tf.Tensor, arriving: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(matrices)
            result = exact_sampler(pictures, matrices, (SIZE, SIZE), 0.0)
        return tape.gradient(result, matrices, output_gradients=arriving)

    tensors = [tf.constant(array) for array in inputs()]
    return lambda: [step(*tensors).numpy() for _ in range(REPEATS)]


def torch_sampler(threads: int) -> Task:
    limit_torch(threads)
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    pictures, matrices, arriving = (torch.tensor(array) for array in inputs())
    pictures, arriving = (tensor.permute(0, 3, 1, 2).contiguous() for tensor in (pictures, arriving))
    matrices.requires_grad_()

    def step() -> torch.Tensor:
        grid = affine_grid(matrices, pictures.shape, align_corners=True)
        result = grid_sample(pictures, grid, align_corners=True)
        return torch.autograd.grad(result, matrices, arriving)[0]

    return lambda: [step().numpy() for _ in range(REPEATS)]


def main() -> None:
    for threads in (1, 2):
        paired = take_turns(keras_sampler, torch_sampler, threads=threads, turns=TURNS)
        print(paired.line(f"sampler, {threads} thread(s)", target=TARGET, unit=REPEATS), flush=True)


if __name__ == "__main__":
    main()
