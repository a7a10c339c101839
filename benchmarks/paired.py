"""Two workers that take turns on the same cores: what else the machine does falls on both alike.

Each framework gets a process of its own, since the thread pools of two in one process get in each other's way. While
one works, the other waits on a pipe.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

Task = Callable[[], object]
Setup = Callable[[int], Task]
"""Called in the worker with the number of threads; returns what is timed."""


@dataclass(frozen=True)
class Paired:
    """Seconds of both tasks, turn by turn."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, each turn for itself."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def line(self, title: str, *, target: float, unit: int = 1) -> str:
        """Return one line: medians in ms per `unit`th of a turn, the median ratio with its quartiles, the target."""
        ours, theirs = (statistics.median(times) / unit * 1e3 for times in (self.ours, self.theirs))
        low, ratio, high = statistics.quantiles(self.ratios, n=4)
        verdict = "met" if ratio <= target else "NOT met"
        return (
            f"{title:34} keras {ours:8.2f} ms  torch {theirs:8.2f} ms  "
            f"ratio {ratio:.2f} ({low:.2f} to {high:.2f})  target {target:.2f} {verdict}"
        )


def take_turns(ours: Setup, theirs: Setup, *, threads: int, turns: int) -> Paired:
    """Run both tasks alternately in two processes and return their times; each runs three times unmeasured first."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for setup in (ours, theirs):
        here, there = context.Pipe()
        worker = context.Process(target=_work, args=(there, setup, threads), daemon=True)
        worker.start()
        there.close()  # so that a worker that dies ends the wait for it
        pipes.append(here)
        workers.append(worker)
    times: list[tuple[float, float]] = []
    for pipe in pipes:
        pipe.recv()
    for turn in range(turns):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        measured = {number: _ask(pipes[number]) for number in order}
        times.append((measured[0], measured[1]))
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(None)
        worker.join()
    return Paired([first for first, _ in times], [second for _, second in times])


def _ask(pipe: Connection) -> float:
    pipe.send("go")
    return float(pipe.recv())


def _work(pipe: Connection, setup: Setup, threads: int) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["OMP_NUM_THREADS"] = str(threads)
    task = setup(threads)
    for _ in range(3):
        task()
    pipe.send("ready")
    while pipe.recv() is not None:
        start = time.perf_counter()
        task()
        pipe.send(time.perf_counter() - start)


def limit_tensorflow(threads: int) -> None:
    """Give TensorFlow this many threads; must come before its first operation."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def limit_torch(threads: int) -> None:
    """Give PyTorch this many threads."""
    import torch

    torch.set_num_threads(threads)
