"""How often the verdicts are wrong, and how often they find what is there: simulated studies, judged by the real code.

    python benchmarks/verdicts.py [--studies 1000] [--seed 0] [--correlation 0.5]

Values are drawn, not trained: a part that all arms of a seed share, and noise of an arm's own. Together they have a
standard deviation of 1, so that effects and margins are in standard deviations of an arm over seeds. A tenth of the
default number of studies is enough to see that everything runs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stn_bench.stats import ALPHA, Judgement, Outcomes, Question, Rules, judge_questions

UNSTABLE = 3.0  # times the spread of the others
SHAPES = {
    "normal": "normal noise",
    "heavy": "heavy tails: Student's t with 3 degrees of freedom",
    "skewed": "all arms alike and skewed: exponential",
    "skewed arms": "the arms skewed, the base normal",
    "unstable arm": "normal, one arm with 3 times the spread",
    "unstable base": "normal, the base with 3 times the spread",
}
HELD = ("normal", "heavy")  # for which the family-wise rate of false alarms must not pass 5 %
ARMS = (1, 2, 4, 8)
LOOKS = ((3,), (5,), (8,), (10,), (3, 5, 8), (3, 5, 10))
EFFECTS = (1.0, 2.0, 3.0)
MARGIN = 2.0
NOTHING = 1e-9  # a margin within which no interval lies


@dataclass(frozen=True)
class Setting:
    """What kind of study is simulated.

    Args:
        shape: of the noise.
        arms: number of arms beside the base.
        looks: numbers of seeds at which it is looked at.
        correlation: of two arms over the seeds, by what they share.
        effect: of the first arm; the others have none.
        margin: smaller differences count as equivalent.
    """

    shape: str
    arms: int
    looks: tuple[int, ...]
    correlation: float
    effect: float = 0.0
    margin: float = NOTHING

    def draw(self, studies: int, rng: np.random.Generator) -> np.ndarray:
        """Return values, `(studies, 1 + arms, seeds)`, the base's first."""
        seeds = self.looks[-1]
        shared = rng.normal(size=(studies, 1, seeds))
        values = math.sqrt(self.correlation) * shared + math.sqrt(1 - self.correlation) * self._noise(studies, rng)
        values[:, 1] += self.effect
        return values

    def _noise(self, studies: int, rng: np.random.Generator) -> np.ndarray:
        size = (studies, 1 + self.arms, self.looks[-1])
        if self.shape == "heavy":
            return rng.standard_t(3, size) / math.sqrt(3)
        noise = 1 - rng.exponential(size=size) if self.shape.startswith("skewed") else rng.normal(size=size)
        if self.shape == "skewed arms":
            noise[:, 0] = rng.normal(size=noise[:, 0].shape)
        if self.shape.startswith("unstable"):
            noise[:, int(self.shape == "unstable arm")] *= UNSTABLE
        return noise


@dataclass(frozen=True)
class Tally:
    """What many studies of one setting ended with, as shares.

    Args:
        alarms: studies with a better or worse arm that has no effect.
        covered: intervals with the truth in them.
        found: studies whose first arm is better.
        equivalent: studies whose first arm is equivalent.
        seeds: mean number of seeds of the first arm.
        fallbacks: arms that were not pooled since the spreads differ.
    """

    alarms: float
    covered: float
    found: float
    equivalent: float
    seeds: float
    fallbacks: float


def simulate(setting: Setting, studies: int, rng: np.random.Generator) -> Tally:
    """Return the tally of so many studies."""
    judged = [judge_study(values, setting) for values in setting.draw(studies, rng)]
    return Tally(
        alarms=_share(any(one.word in ("better", "worse") for one in idle(arms, setting)) for arms in judged),
        covered=_share(_covers(one, setting, index) for arms in judged for index, one in enumerate(arms)),
        found=_share(arms[0].word == "better" for arms in judged),
        equivalent=_share(arms[0].word == "equivalent" for arms in judged),
        seeds=_share(setting.looks[arms[0].look - 1] for arms in judged),
        fallbacks=_share(one.comparison.method.endswith("differ)") for arms in judged for one in arms),
    )


def judge_study(values: np.ndarray, setting: Setting) -> list[Judgement]:
    """Return the verdicts on a study's arms, `(1 + arms, seeds)`."""
    base, *arms = (Outcomes(dict(enumerate(row))) for row in values.tolist())
    question = Question(base, {str(index): arm for index, arm in enumerate(arms)})
    rules = Rules(tuple(range(setting.looks[-1])), setting.looks, setting.margin)
    return list(judge_questions([question], rules)[0].values())


def idle(arms: Sequence[Judgement], setting: Setting) -> Sequence[Judgement]:
    """Return those that have no effect."""
    return arms[1:] if setting.effect else arms


def _covers(judgement: Judgement, setting: Setting, index: int) -> bool:
    truth = 0.0 if index else setting.effect
    return judgement.comparison.low <= truth <= judgement.comparison.high


def _share(values: Iterator[float]) -> float:
    return float(np.mean(list(values)))


@dataclass(frozen=True)
class Simulation:
    """A number of studies for every setting, each drawn from a seed of its own."""

    studies: int
    seed: int
    correlation: float

    def row(self, number: int, setting: Setting) -> list[Tally]:
        """Return the tallies of a setting under every plan of looks."""
        return [
            simulate(replace(setting, looks=looks), self.studies, np.random.default_rng([self.seed, number, column]))
            for column, looks in enumerate(LOOKS)
        ]

    def error(self, rate: float) -> float:
        """Return the standard error of a rate of studies."""
        return math.sqrt(rate * (1 - rate) / self.studies)


def nothing_there(simulation: Simulation) -> None:
    """Print false alarms, coverage and fallbacks where no arm has an effect."""
    settings = [Setting(shape, arms, LOOKS[0], simulation.correlation) for shape in SHAPES for arms in ARMS]
    rows = [simulation.row(number, setting) for number, setting in enumerate(settings)]
    names = [(setting.shape, str(setting.arms)) for setting in settings]
    limit = ALPHA + 3 * simulation.error(ALPHA)
    print_table(f"False alarms of a study (5 % ± {simulation.error(ALPHA):.1%})", names, rows, lambda t: t.alarms)
    worst = max(t.alarms for setting, row in zip(settings, rows, strict=True) if setting.shape in HELD for t in row)
    verdict = "met" if worst <= limit else "NOT met"
    print(
        f"\nLargest for {' and '.join(HELD)}: {worst:.1%}; at most 5 % + three standard errors, {limit:.1%}: {verdict}"
    )
    print_table("Coverage of the interval", names, rows, lambda t: t.covered)
    print_table("Arms not pooled since the spreads differ", names, rows, lambda t: t.fallbacks)


def something_there(simulation: Simulation) -> None:
    """Print how often the one arm that is better is found, and the seeds that it takes."""
    settings = [
        Setting("normal", arms, LOOKS[0], simulation.correlation, effect) for effect in EFFECTS for arms in ARMS
    ]
    rows = [simulation.row(1000 + number, setting) for number, setting in enumerate(settings)]
    names = [(f"{setting.effect:g}", str(setting.arms)) for setting in settings]
    print_table("Power: one arm is better by so many standard deviations", names, rows, lambda t: t.found)
    print_table("False alarms of the other arms", names, rows, lambda t: t.alarms)
    print_table("Mean number of seeds of the one arm", names, rows, lambda t: t.seeds, "{:.1f}")
    print_table("Coverage of the interval, all arms", names, rows, lambda t: t.covered)


def equivalence(simulation: Simulation) -> None:
    """Print how often an arm is called equivalent that is, and one that is just not."""
    settings = [Setting("normal", 1, LOOKS[0], simulation.correlation, effect, MARGIN) for effect in (0.0, MARGIN)]
    rows = [simulation.row(2000 + number, setting) for number, setting in enumerate(settings)]
    names = [(f"{setting.effect:g}", "1") for setting in settings]
    title = f"Called equivalent, with a margin of {MARGIN:g}: no difference, and one as large as the margin"
    print_table(title, names, rows, lambda t: t.equivalent)


def print_table(
    title: str,
    names: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[Tally]],
    value: Callable[[Tally], float],
    form: str = "{:.1%}",
) -> None:
    """Print one number of every tally as Markdown, rows by name and columns by looks."""
    print(f"\n{title}\n")
    print("| | arms | " + " | ".join(", ".join(map(str, looks)) for looks in LOOKS) + " |")
    print("|---" * (2 + len(LOOKS)) + "|")
    for name, row in zip(names, rows, strict=True):
        print(
            f"| {name[0]} | {name[1]} | " + " | ".join(form.format(value(tally)) for tally in row) + " |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies for every number (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation (0)")
    parser.add_argument("--correlation", type=float, default=0.5, help="of two arms over the seeds (0.5)")
    arguments = parser.parse_args()
    simulation = Simulation(arguments.studies, arguments.seed, arguments.correlation)
    for name, meaning in SHAPES.items():
        print(f"{name}: {meaning}")
    nothing_there(simulation)
    something_there(simulation)
    equivalence(simulation)


if __name__ == "__main__":
    main()
