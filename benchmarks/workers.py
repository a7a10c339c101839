"""How to share the cores out: one worker a core with one thread each, or one worker with all of them.

    python benchmarks/workers.py [--seeds 2] [--epochs 6]

The same study twice, each time in a fresh root; the faster way is the default of `stn-bench run --workers`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from study import make_root, run_seconds

from stn_bench.system.machine import cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    seeds, count = list(range(1, arguments.seeds + 1)), cores()
    seconds = {}
    for workers, threads in ((count, 1), (1, count)):
        with tempfile.TemporaryDirectory() as folder:
            root = make_root(Path(folder), seeds, arguments.epochs)
            seconds[workers] = run_seconds(root, "--workers", str(workers), "--threads", str(threads))
        print(f"{workers} workers of {threads} threads: {seconds[workers]:.0f} s", flush=True)
    print(f"one worker with all threads over one worker a core: ratio {seconds[1] / seconds[count]:.2f}")


if __name__ == "__main__":
    main()
