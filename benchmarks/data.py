"""Data: two drawing processes against one, and the second start from the cache.

python benchmarks/data.py [--count 10000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a drawing process imports this file again; it starts as light as one of `stn-bench data make`
    from stn_bench.subjects.stn.data.dataset import Dataset, DatasetSpec

TARGET = 1.7


def timed_make(spec: DatasetSpec, root: Path, processes: int) -> tuple[float, int, Dataset]:
    """Return the seconds that a start takes, how many pictures it drew, and the data set."""
    from stn_bench.subjects.stn.data.dataset import make_dataset

    drawn = [0]
    start = time.perf_counter()
    dataset = make_dataset(spec, root, processes=processes, on_progress=lambda done, _: drawn.append(done))
    return time.perf_counter() - start, max(drawn), dataset


def measure_drawing(spec: DatasetSpec, repeats: int) -> None:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for processes in seconds:  # one after the other, so that a slow minute of the machine hits both
            with tempfile.TemporaryDirectory() as root:
                seconds[processes].append(timed_make(spec, Path(root), processes)[0])
    one, two = median(seconds[1]), median(seconds[2])
    ratios = [f"{a / b:.2f}" for a, b in zip(seconds[1], seconds[2], strict=True)]
    print(f"draw {spec.count:,} {spec.shapes} pictures, 1 process {one:.1f} s, 2 processes {two:.1f} s")
    print(f"  2 against 1: {one / two:.2f} times (target {TARGET}; pairs {', '.join(ratios)})")


def measure_second_start(spec: DatasetSpec) -> None:
    with tempfile.TemporaryDirectory() as root:
        first, drawn, dataset = timed_make(spec, Path(root), processes=2)
        second, drawn_again, again = timed_make(spec, Path(root), processes=2)
        assert again.fingerprint == dataset.fingerprint
    print(f"first start {first:.1f} s, {drawn:,} drawn; second start {second:.2f} s, {drawn_again:,} drawn")


def main() -> None:
    from stn_bench.subjects.stn.config import Config
    from stn_bench.subjects.stn.data.dataset import DatasetSpec

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="pictures to draw")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs")
    options = parser.parse_args()
    spec = replace(DatasetSpec.of(Config()), count=options.count)
    measure_drawing(spec, options.repeats)
    measure_second_start(spec)


if __name__ == "__main__":
    main()
