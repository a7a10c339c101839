"""The picture of `docs/statistics.md`: what part of the 5 % each of eight arms is tested at, by rank.

python benchmarks/ordering.py docs/ordering.svg
"""

from __future__ import annotations

import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from stn_bench.stats.rule import weights

SIZES = (2.9, 1.4, 1.1, 1.0, 0.9, 0.8, 0.7, 0.5)


def main() -> None:
    matplotlib.rcParams |= {"svg.hashsalt": "ordering", "font.size": 9, "svg.fonttype": "none"}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3), layout="constrained")
    names = [f"arm {letter}" for letter in "DAFBHCGE"]
    left.barh(names, SIZES, color=["#444444", *["#aaaaaa"] * 7])
    left.set(xlabel="root mean square of the paired differences", title="1. rank the arms by how much they moved")
    shares = [5 * weight for weight in weights(SIZES)]
    right.barh(names, shares, color=["#444444", *["#aaaaaa"] * 7])
    right.axvline(5 / 8, color="black", linestyle=":")
    right.text(5 / 8 + 0.05, 7.3, "Holm: 0.63 % for the first, whichever it is", va="center")
    for row, share in enumerate(shares):
        right.text(share + 0.05, row, f"{share:.2f} %", va="center")
    right.set(xlabel="p that it must reach", title="2. share the 5 % by rank; step down", xlim=(0, 3.2))
    for axes in (left, right):
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
