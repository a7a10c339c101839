"""The levels of plans of looks: what p / weight must reach at one look, so that all looks together give 5 %.

    python benchmarks/levels.py [--studies 2000000] [--seed 20261126] [--looks 3,5 --looks 4,6,8 ...]

Prints what stands in `stn_bench/stats/levels.py`, in per cent, with the largest standard error of each plan.
"""

from __future__ import annotations

import argparse

from stn_bench.stats.levels import COUNTS, SEED, quantile, smallest

PLANS = ("3,5", "3,5,8", "3,5,10", "4,6", "5,8", "4,6,8", "4,6,10", "4,5,6,8,10", "3,8", "4,8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2_000_000, help="simulated studies for every number (2000000)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the simulation ({SEED})")
    parser.add_argument("--looks", action="append", help="a plan, such as 3,5; several for several")
    arguments = parser.parse_args()
    for text in arguments.looks or PLANS:
        looks = tuple(map(int, text.split(",")))
        found = {arms: quantile(smallest(looks, arms, arguments.studies, arguments.seed)) for arms in COUNTS}
        levels = ", ".join(f"{arms}: {level:.5f}" for arms, (level, _) in found.items())
        error = max(error for _, error in found.values())
        print(f"    {looks}: {{{levels}}},  # standard error {error:.5f} or less", flush=True)


if __name__ == "__main__":
    main()
