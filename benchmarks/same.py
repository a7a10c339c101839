"""The base against itself on real training: how often is nothing called better or worse?

    python benchmarks/same.py [--seeds 16] [--epochs 10]

Trains one small network on some seeds, then splits the accuracies into arms of a study in every way, or in 20,000 ways
drawn by chance, and judges each by the real code. Runs are paired as they come: two runs of the same arm on the same
seed would be the same run, so that here pairing brings nothing.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stn_bench.stats import Outcomes, Question, Rules, judge_questions
from stn_bench.system.machine import training_environment

SETTINGS = {
    "data.count": 3000,
    "data.validation": 500,
    "data.test": 1000,
    "data.size": 20,
    "data.alphabet": "ABCDEFGH",
    "model.width": 1 / 16,
    "optimizer.learning_rate": 1e-2,
    "optimizer.schedule": "cosine",
}
STUDIES = ((1, 3, (3,)), (1, 5, (5,)), (1, 8, (8,)), (1, 8, (3, 5, 8)), (3, 4, (4,)), (4, 3, (3,)))
MOST_SPLITS = 20_000
NOTHING = 1e-9  # a margin within which no interval lies


def train_seeds(seeds: Sequence[int], epochs: int, folder: Path) -> list[float]:
    """Return the test accuracy of the base on every seed."""
    os.environ.update(training_environment(threads=1))  # before Keras is loaded
    from stn_bench.runner.job import LentRun
    from stn_bench.subject import Lent, find_subject

    subject = find_subject("stn")
    config = subject.read({**SETTINGS, "train.epochs": epochs}).resolved()
    subject.prepare([config], Lent(folder))
    accuracies = []
    for seed in seeds:
        own = folder / f"seed{seed}"
        own.mkdir()
        run = LentRun(f"seed {seed}", folder, own, own, is_trial=True)
        accuracies.append(subject.train(config, seed, run).metrics["test.accuracy"])
    return accuracies


def splits(count: int, groups: int, size: int) -> Iterator[Sequence[Sequence[int]]]:
    """Yield the ways to take groups of a size from so many runs: all where they are few, else some by chance."""
    ways = math.prod(math.comb(count - size * number, size) for number in range(groups))
    if ways > MOST_SPLITS:
        random = np.random.default_rng(0)
        for _ in range(MOST_SPLITS):
            yield random.permutation(count)[: groups * size].reshape(groups, size).tolist()
        return
    for first in itertools.combinations(range(count), size):  # few ways: two halves
        yield first, [index for index in range(count) if index not in first]


def alarm_rate(accuracies: Sequence[float], arms: int, size: int, looks: tuple[int, ...]) -> tuple[float, int]:
    """Return the share of studies with an arm that is better or worse, and the number of studies."""
    alarms = []
    for groups in splits(len(accuracies), arms + 1, size):
        base, *others = (Outcomes({place: accuracies[run] for place, run in enumerate(group)}) for group in groups)
        question = Question(base, {str(number): arm for number, arm in enumerate(others)})
        (judged,) = judge_questions([question], Rules(tuple(range(size)), looks, NOTHING))
        alarms.append(any(one.word in ("better", "worse") for one in judged.values()))
    return statistics.fmean(alarms), len(alarms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16, help="runs to train, 16 or more (16)")
    parser.add_argument("--epochs", type=int, default=10, help="of each run (10)")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        accuracies = train_seeds(range(1, arguments.seeds + 1), arguments.epochs, Path(folder))
    seconds = time.perf_counter() - start
    print(f"{len(accuracies)} runs in {seconds:.0f} s, test accuracy by seed: {' '.join(map(str, accuracies))}")
    print(f"mean {statistics.fmean(accuracies):.4f}, standard deviation {statistics.stdev(accuracies):.4f}\n")
    print("| arms | seeds | looks | studies | with a better or worse arm |")
    print("|------|-------|-------|---------|----------------------------|")
    for arms, size, looks in STUDIES:
        rate, studies = alarm_rate(accuracies, arms, size, looks)
        print(f"| {arms} | {size} | {', '.join(map(str, looks))} | {studies:,} | {rate:.1%} |", flush=True)


if __name__ == "__main__":
    main()
