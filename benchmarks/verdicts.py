"""How often the verdicts are wrong, and how often they find what is there: simulated studies, judged by the rule.

    python benchmarks/verdicts.py [--studies 20000] [--seed 0] [--agree 1000] [--part alarms|equivalence|power]

Values are drawn, not trained: a part that all arms of a seed share, and noise of an arm's own. Together they have a
standard deviation of 1, so that effects and margins are in standard deviations of an arm over seeds. All studies of a
cell are judged at once by `benchmarks/many.py`, which is first held against the code that judges real ones.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from many import Words, judge_many, judge_plainly

SHAPES = {
    "normal": "normal noise",
    "heavy": "heavy tails: Student's t with 3 degrees of freedom",
    "one arm 3 ×": "normal, one arm with 3 times the spread",
    "base 3 ×": "normal, the base with 3 times the spread",
    "log-normal 0.7": "normal, the arms' spreads log-normal, SD of the log 0.7",
    "log-normal 1.27": "the same with 1.27, as in `slim`",
    "half 3 ×": "normal, half the arms with 3 times the spread",
    "arms alike": "normal, the arms correlated 0.8 among themselves, 0.3 with the base",
    "skewed arms": "the arms skewed (exponential), the base normal",
}
ARMS = (1, 2, 4, 8, 15)
PLANS = ((3,), (5,), (8,), (3, 5), (3, 5, 8), (4, 6), (4, 6, 8))
EFFECTS = (1.0, 2.0, 3.0)
MARGIN = 2.0
LONGEST = 24  # seeds that a fixed number is looked for among


@dataclass(frozen=True)
class Setting:
    """What kind of study is simulated.

    Args:
        shape: of the noise.
        arms: number of arms beside the base.
        looks: numbers of seeds at which it is looked at.
        effect: of the first arm, or of all; the others have none.
        margin: smaller differences count as equivalent; 0: none do.
        all_moved: whether all arms have the effect.
    """

    shape: str
    arms: int
    looks: tuple[int, ...]
    effect: float = 0.0
    margin: float = 0.0
    all_moved: bool = False

    def draw(self, studies: int, rng: np.random.Generator) -> np.ndarray:
        """Return paired differences, `(studies, arms, seeds)`."""
        size = (studies, self.arms, self.looks[-1])
        base, noise = rng.normal(size=(studies, 1, size[2])), rng.normal(size=size)
        if self.shape == "heavy":
            base, noise = rng.standard_t(3, base.shape) / math.sqrt(3), rng.standard_t(3, size) / math.sqrt(3)
        if self.shape == "skewed arms":
            noise = 1 - rng.exponential(size=size)
        if self.shape == "base 3 ×":
            base *= 3
        if self.shape == "one arm 3 ×":
            noise[:, -1] *= 3
        if self.shape == "half 3 ×":
            noise[:, self.arms // 2 :] *= 3
        if self.shape.startswith("log-normal"):
            noise *= np.exp(float(self.shape.split()[-1]) * rng.normal(size=(studies, self.arms, 1)))
        differences = (noise - base) / math.sqrt(2)  # what all share has fallen out: a correlation of a half
        if self.shape == "arms alike":  # a correlation of 0.8 with one another, of 0.3 with the base
            common = rng.normal(size=base.shape)
            arm = math.sqrt(0.8) * common + math.sqrt(0.2) * noise
            share = 0.3 / math.sqrt(0.8)
            differences = arm - (share * common + math.sqrt(1 - share**2) * base)
        differences[:, slice(None) if self.all_moved else 0] += self.effect
        return np.asarray(differences)


@dataclass(frozen=True)
class Cell:
    """A setting, and what its studies ended with."""

    setting: Setting
    words: Words

    @property
    def alarms(self) -> float:
        """Share of studies with a better or worse arm that has no effect."""
        first = 1 if self.setting.effect else 0
        return float((self.words.sign != 0)[:, first:].any(axis=1).mean()) if self.setting.arms > first else 0.0

    @property
    def coverage(self) -> float:
        """Share of the intervals of the worst arm that hold the truth."""
        truth = np.zeros(self.setting.arms)
        truth[slice(None) if self.setting.all_moved else 0] = self.setting.effect
        return float(((self.words.low <= truth) & (truth <= self.words.high)).mean(axis=0).min())

    @property
    def found(self) -> float:
        """Share of studies whose first arm is better."""
        return float((self.words.sign[:, 0] > 0).mean())

    @property
    def seeds(self) -> float:
        """Mean number of seeds of the first arm."""
        return float(np.array(self.setting.looks)[self.words.look[:, 0]].mean())

    @property
    def any_equivalent(self) -> float:
        """Share of studies with an equivalent arm."""
        return float(self.words.equivalent.any(axis=1).mean())

    @property
    def each_equivalent(self) -> float:
        """Share of the arms that are equivalent, of the arm that is it most often."""
        return float(self.words.equivalent.mean(axis=0).max())


def simulate(setting: Setting, studies: int, seed: int) -> Cell:
    """Return what so many studies of a setting ended with."""
    rng = np.random.default_rng([seed, *setting.looks, setting.arms, list(SHAPES).index(setting.shape)])
    return Cell(setting, judge_many(setting.draw(studies, rng), setting.looks, setting.margin))


def alarms(studies: int, seed: int) -> None:
    """Print false alarms and coverage where no arm has an effect."""
    cells = grid(lambda shape, arms, looks: simulate(Setting(shape, arms, looks), studies, seed))
    print_grid("False alarms: studies with a better or worse arm, where none differs", cells, lambda c: c.alarms)
    print_grid("Coverage: the interval of the worst arm", cells, lambda c: c.coverage)
    for name, value, worst in (("alarms", "alarms", max), ("coverage", "coverage", min)):
        print(f"\n{'Largest' if worst is max else 'Smallest'} {name} by noise: ", end="")
        print("; ".join(f"{shape} {worst(getattr(c, value) for c in row):.1%}" for shape, row in by_shape(cells)))


def equivalence(studies: int, seed: int) -> None:
    """Print false equivalence where all arms lie exactly at the margin, and true where none differs."""
    margin = MARGIN
    at = grid(
        lambda shape, arms, looks: simulate(Setting(shape, arms, looks, margin, margin, True), studies, seed + 1)
    )
    print_grid(
        "False equivalent: studies with an equivalent arm, where all lie at the margin", at, lambda c: c.any_equivalent
    )
    print_grid("The same, of each arm: the largest share", at, lambda c: c.each_equivalent)
    none = grid(lambda shape, arms, looks: simulate(Setting(shape, arms, looks, 0.0, margin), studies, seed + 2))
    title = f"Equivalent where no arm differs and the margin is {MARGIN:g} SD: share of the arms"
    print_grid(title, [c for c in none if c.setting.shape == "normal"], lambda c: c.each_equivalent)
    print("\nLargest false equivalent by noise: ", end="")
    print("; ".join(f"{shape} {max(c.any_equivalent for c in row):.1%}" for shape, row in by_shape(at)))


def power(studies: int, seed: int) -> None:
    """Print how often the one arm that is better is found, the seeds that it takes, and those of a fixed number."""
    print("\nPower, one arm better by so many SD; mean seeds; ratio to the fixed number of seeds of the same power\n")
    print("| SD | noise | arms | " + " | ".join(map(plan_name, PLANS)) + " |")
    print("|---" * (3 + len(PLANS)) + "|")
    for effect in EFFECTS:
        for shape in ("normal", "one arm 3 ×", "log-normal 1.27"):
            for arms in ARMS:
                if arms == 1 and shape != "normal":
                    continue
                fixed = Fixed(shape, arms, effect, studies, seed)
                told = []
                for looks in PLANS:
                    cell = simulate(Setting(shape, arms, looks, effect), studies, seed + 3)
                    told.append(f"{cell.found:.0%}" + (fixed.beside(cell) if len(looks) > 1 else ""))
                print(f"| {effect:g} | {shape} | {arms} | " + " | ".join(told) + " |", flush=True)


class Fixed:
    """The power of fixed numbers of seeds, as it is asked for."""

    def __init__(self, shape: str, arms: int, effect: float, studies: int, seed: int) -> None:
        self._setting, self._studies, self._seed = Setting(shape, arms, (3,), effect), studies, seed + 4
        self._known: dict[int, float] = {}

    def power(self, seeds: int) -> float:
        """Return the power of a fixed number of seeds."""
        if seeds not in self._known:
            self._known[seeds] = simulate(replace(self._setting, looks=(seeds,)), self._studies, self._seed).found
        return self._known[seeds]

    def beside(self, cell: Cell) -> str:
        """Return mean seeds, and their ratio to the fixed number of the same power, between two where it lies so."""
        before = 0.0
        for seeds in range(3, LONGEST):
            now = self.power(seeds)
            if now >= cell.found:
                needed = float(seeds) if seeds == 3 or now == before else seeds - (now - cell.found) / (now - before)
                return f" with {cell.seeds:.1f} ({cell.seeds / needed:.2f})"
            before = now
        return f" with {cell.seeds:.1f}"


def grid(make: Callable[[str, int, tuple[int, ...]], Cell]) -> list[Cell]:
    """Return a cell for every noise, number of arms and plan."""
    cells = []
    for shape in SHAPES:
        for arms in ARMS:
            cells += [make(shape, arms, looks) for looks in PLANS]
    return cells


def by_shape(cells: list[Cell]) -> Iterator[tuple[str, list[Cell]]]:
    """Yield the cells of each noise."""
    for shape in SHAPES:
        yield shape, [cell for cell in cells if cell.setting.shape == shape]


def plan_name(looks: tuple[int, ...]) -> str:
    """Return a plan of looks, such as "3, 5"."""
    return ", ".join(map(str, looks))


def print_grid(title: str, cells: list[Cell], value: Callable[[Cell], float]) -> None:
    """Print one number of every cell as Markdown, rows by noise and arms, columns by plan."""
    print(f"\n{title}\n")
    print("| noise | arms | " + " | ".join(map(plan_name, PLANS)) + " |")
    print("|---" * (2 + len(PLANS)) + "|")
    for start in range(0, len(cells), len(PLANS)):
        row = cells[start : start + len(PLANS)]
        numbers = " | ".join(f"{100 * value(cell):.1f}" for cell in row)
        print(f"| {row[0].setting.shape} | {row[0].setting.arms} | {numbers} |", flush=True)


def agree(studies: int, seed: int) -> int:
    """Return in how many random studies the vectorised code and the one that judges real studies differ."""
    rng, differing = np.random.default_rng([seed, 5]), 0
    for number in range(studies):
        shape, looks = list(SHAPES)[number % len(SHAPES)], PLANS[int(rng.integers(len(PLANS)))]
        effect, margin = float(rng.choice([0.0, 1.0, 3.0])), float(rng.choice([0.0, 1.0, 3.0]))
        setting = Setting(shape, int(rng.integers(1, 9)), looks, effect, margin, bool(rng.integers(2)))
        drawn = setting.draw(1, rng)
        step = float(rng.choice([0.0, 0.5]))
        drawn = np.round(drawn / step) * step if step else drawn
        differing += judge_many(drawn, looks, margin, step).differs(judge_plainly(drawn[0], looks, margin, step))
    return differing


PARTS = {"alarms": alarms, "equivalence": equivalence, "power": power}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000, help="simulated studies for every number (20000)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation (0)")
    parser.add_argument("--agree", type=int, default=1000, help="studies that the plain code judges too (1000)")
    parser.add_argument("--part", choices=PARTS, action="append", help="what to measure; all of it unless told")
    arguments = parser.parse_args()
    for name, meaning in SHAPES.items():
        print(f"{name}: {meaning}")
    differing = agree(arguments.agree, arguments.seed)
    print(f"\nVectorised and plain code differ in {differing} of {arguments.agree} random studies.", flush=True)
    if differing:
        sys.exit(1)
    for name in arguments.part or PARTS:
        started = time.perf_counter()
        PARTS[name](arguments.studies, arguments.seed)
        print(f"\n({name}: {time.perf_counter() - started:.0f} s, {arguments.studies:,} studies a cell)", flush=True)


if __name__ == "__main__":
    main()
