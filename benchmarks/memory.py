"""Whether a long study grows: resident memory of `stn-bench run` and of its worker, over 200 jobs of four seconds.

    python benchmarks/memory.py [--jobs 200]

The study has a base and one arm, on so many seeds; one worker of one thread trains all of it. Memory is read as each
job ends. The slope is that of the straight line through the second half, when everything that is loaded once is
there: what a study of ten thousand jobs would go on to take.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from study import make_root

MARKS = (10, 25, 50, 75, 100, 125, 150, 175, 200)
LEAST = 100  # MiB: a worker with TensorFlow has several times as much
MEGABYTE = 1024 * 1024
BASE: dict[str, object] = {
    "data.count": 90,
    "data.validation": 26,
    "data.test": 26,
    "data.size": 20,
    "data.alphabet": "AB",
    "model.width": 0.03125,
}
EPOCHS = 2

Memory = tuple[float, float]  # of the parent and of its worker, in MiB


def memory_by_job(root: Path) -> Iterator[Memory]:
    """Run the study, and yield what parent and worker hold as each job ends."""
    command = [sys.executable, "-m", "stn_bench", "run", "timed", "--root", str(root)]
    command += ["--workers", "1", "--threads", "1"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("[") and (memory := resident(process.pid)):
                yield memory
    if process.returncode:
        raise SystemExit(f"`stn-bench run` ended with exit code {process.returncode}")


def resident(pid: int) -> Memory | None:
    """Return what parent and worker hold; None as the last worker goes."""
    parent = psutil.Process(pid)
    try:
        worker = max(child.memory_info().rss for child in parent.children())  # the other one counts semaphores
    except (psutil.NoSuchProcess, ValueError):
        return None
    return (parent.memory_info().rss / MEGABYTE, worker / MEGABYTE) if worker > MEGABYTE * LEAST else None


def slope(values: np.ndarray) -> float:
    """Return the growth of the second half, in KiB a job."""
    half = len(values) // 2
    return float(np.polyfit(np.arange(half, len(values)), values[half:], 1)[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    jobs = parser.parse_args().jobs
    measured: list[Memory] = []
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder), list(range(1, jobs // 2 + 1)), EPOCHS, BASE)
        for memory in memory_by_job(root):
            measured.append(memory)
            if len(measured) in MARKS:
                print(f"job {len(measured)}: run {memory[0]:.0f} MiB, worker {memory[1]:.0f} MiB", flush=True)
    run, worker = (slope(column) for column in np.array(measured).T)
    print(f"growth over the second half, a job: run {run:+.1f} KiB, worker {worker:+.1f} KiB")


if __name__ == "__main__":
    main()
