"""From a CSV to the verdict: `stn-bench judge` over the same paired t-tests with pandas and scipy alone.

    python benchmarks/judge.py [--rounds 7] [--rows 1000]

Both are processes that read the same CSV and print; they take turns: a slow minute of the machine falls on both.
The promise is three seconds for a table that a person made; the ratio says how much of that is reading and loading.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ARMS = 5
TARGET = 3.0
BARE = """
import sys
import pandas as pd
from scipy import stats
table = pd.read_csv(sys.argv[1]).pivot(index="seed", columns="method", values="acc")
for arm in table.columns.drop("baseline"):
    print(arm, stats.ttest_rel(table[arm], table["baseline"]))
"""


def write_table(path: Path, rows: int) -> None:
    """Write a table of five arms."""
    values = np.random.default_rng(0).normal(0.9, 0.01, rows)
    names = ["baseline", *(f"arm {number}" for number in range(1, ARMS))]
    lines = [f"{names[row % ARMS]},{row // ARMS},{value:.6f}\n" for row, value in enumerate(values)]
    path.write_text("method,seed,acc\n" + "".join(lines))


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.csv")
        write_table(path, asked.rows - asked.rows % ARMS)

        commands = {"judge": ("-m", "stn_bench", "judge"), "bare": ("-c", BARE)}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(asked.rounds):
            for name in sorted(commands, reverse=bool(turn % 2)):
                seconds[name].append(_seconds(*commands[name], path))
    ratios = [ours / theirs for ours, theirs in zip(seconds["judge"], seconds["bare"], strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    ours, theirs = (statistics.median(seconds[name]) for name in ("judge", "bare"))
    met = "met" if ours <= TARGET else "NOT met"
    print(
        f"judge {ours:.2f} s  bare {theirs:.2f} s  ratio {ratio:.2f} ({low:.2f} to {high:.2f})  {TARGET:.0f} s {met}"
    )


def _seconds(*command: object) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
