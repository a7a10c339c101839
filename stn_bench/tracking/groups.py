"""The runs of others in groups: those of each question on each data set, and of each over all data sets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from stn_bench.stats.values import FEWEST_SEEDS
from stn_bench.system.format import counted, listed
from stn_bench.system.text import unused

MOST_NAMED = 4  # things that a note names; the others are counted
ALL_DATASETS = "All data sets"
BEYOND = "beyond 1e150"
"""How it ends what stands in place of a number that is finite, and yet too large for its square to be."""


class FoundRun(NamedTuple):
    """A run that somebody else made.

    Args:
        question: the question that it belongs to, "" where there is one; what is shared by all has "" too.
        dataset: its data set, or "".
        arm: its arm.
        seed: its seed.
        metrics: its finite metrics by name.
        broken: the other metrics by name -> what stands in place of a number.
        source: where it stands, such as "row 7", or the id that a store gave it.
        given: what its file calls arm, seed and so on, where that says more.
    """

    question: str
    dataset: str
    arm: str
    seed: int
    metrics: dict[str, float]
    broken: Mapping[str, str]
    source: str
    given: dict[str, str]


@dataclass(frozen=True)
class FoundGroup:
    """The runs of one question.

    Args:
        title: its heading.
        runs: arm -> seed -> run.
        where: what tells it from other groups, as messages name it: " in depth on cifar", or "".
        was: its seeds -> what they were before they were numbered anew.
        is_over_all: whether it is made of other groups, those of each data set.
    """

    title: str
    runs: dict[str, dict[int, FoundRun]]
    where: str = ""
    was: Mapping[int, int] = field(default_factory=dict)
    is_over_all: bool = False

    @property
    def seeds(self) -> list[int]:
        """The seeds of all arms."""
        return sorted({seed for runs in self.runs.values() for seed in runs})

    def without(self, seeds: set[int]) -> FoundGroup:
        """Return the runs on the other seeds."""
        kept = {arm: {seed: runs[seed] for seed in runs if seed not in seeds} for arm, runs in self.runs.items()}
        return replace(self, runs=kept)


def by_question(runs: Sequence[FoundRun], metric: str) -> tuple[dict[str, dict[str, FoundGroup]], list[str]]:
    """Return question -> data set -> its runs that tell of the metric, and what is to be said of that.

    Runs of no question belong to each, but where it has a run of its own of the same arm, seed and data set.
    """
    questions = list(dict.fromkeys(run.question for run in runs if run.question)) or [""]
    found: dict[str, dict[str, FoundGroup]] = {question: {} for question in questions}
    twice: Counter[str] = Counter()
    for run in runs:
        if metric not in run.metrics and metric not in run.broken:
            continue
        for question in [run.question] if run.question else questions:
            groups = found[question]
            if run.dataset not in groups:
                groups[run.dataset] = _empty(question, run.dataset)
            seeds = groups[run.dataset].runs.setdefault(run.arm, {})
            if run.seed in seeds:
                twice[f"`{run.arm}` in {question}"] += 1
            if run.question or run.seed not in seeds:
                seeds[run.seed] = run
    told = some([f"{name} ({counted(count, 'row')})" for name, count in twice.items()])
    return found, [f"a question's own row goes before one of no question: {told}"] if told else []


def _empty(question: str, dataset: str) -> FoundGroup:
    where = (f" in {question}" if question else "") + (f" on {dataset}" if dataset else "")
    return FoundGroup(": ".join(filter(None, (question, dataset))), {}, where)


def over_datasets(questions: Mapping[str, Mapping[str, FoundGroup]]) -> tuple[list[FoundGroup], list[str]]:
    """Return every question on every data set, and on all of them; and what is to be said of that.

    Where three seeds or more are on all data sets, a seed's value over all is its mean. Else each pair of data set and
    seed stands for itself: the data set's own level falls out of a pair's difference.
    """
    if all(len(groups) == 1 for groups in questions.values()):
        return [group for groups in questions.values() for group in groups.values()], []
    is_crossed = all(len(_common(groups)) >= FEWEST_SEEDS for groups in questions.values())
    name = unused(ALL_DATASETS, {dataset for groups in questions.values() for dataset in groups})
    found: list[FoundGroup] = []
    notes = []
    if not is_crossed:
        questions = _numbered(questions)
        notes.append("seeds are not the same on all data sets: over all, pairs are of data set and seed")
    for question, groups in questions.items():
        found += groups.values()
        title = ": ".join(filter(None, (question, name)))
        if len(groups) > 1:
            found.append(_mean(title, name, groups) if is_crossed else _joined(title, groups))
    notes += _absent(questions, found, is_crossed)
    if is_crossed:
        notes.append("over all data sets, the value of a seed is its mean over the data sets")
        partial = {seed for groups in questions.values() for one in groups.values() for seed in one.seeds}
        partial -= {seed for groups in questions.values() for seed in _common(groups)}
        if partial:
            notes.append(f"{seeds_are(sorted(partial))} not on every data set: left out over all")
    return found, notes


def _absent(
    questions: Mapping[str, Mapping[str, FoundGroup]], found: Sequence[FoundGroup], is_crossed: bool
) -> Iterator[str]:
    """Yield which arms are not on every data set, and what became of them over all."""
    over_all = (group for group in found if group.is_over_all)
    became = "left out over all" if is_crossed else "over all, they are compared where they are"
    for groups, whole in zip((groups for groups in questions.values() if len(groups) > 1), over_all, strict=True):
        arms = dict.fromkeys(arm for group in groups.values() for arm in group.runs)
        absent = [f"`{arm}`" for arm in arms if any(arm not in group.runs for group in groups.values())]
        lost = [f"`{arm}`" for arm in arms if arm not in whole.runs and f"`{arm}`" not in absent]
        if absent:
            yield f"{some(absent)} {'is' if len(absent) == 1 else 'are'} not on every data set: {became}"
        if lost:
            yield f"{some(lost)} {'has' if len(lost) == 1 else 'have'} no seed on every data set: {became}"


def _common(groups: Mapping[str, FoundGroup]) -> set[int]:
    return set.intersection(*(set(group.seeds) for group in groups.values()))


def _numbered(questions: Mapping[str, Mapping[str, FoundGroup]]) -> dict[str, dict[str, FoundGroup]]:
    """Return the groups with a seed of its own for each pair of data set and seed."""
    pairs = dict.fromkeys(
        (dataset, seed) for groups in questions.values() for dataset, group in groups.items() for seed in group.seeds
    )
    numbers = {pair: number for number, pair in enumerate(pairs, start=1)}
    return {
        question: {
            dataset: _renumbered(group, {seed: numbers[dataset, seed] for seed in group.seeds})
            for dataset, group in groups.items()
        }
        for question, groups in questions.items()
    }


def _renumbered(group: FoundGroup, numbers: Mapping[int, int]) -> FoundGroup:
    runs = {
        arm: {numbers[seed]: _as_seed(run, numbers[seed]) for seed, run in runs.items()}
        for arm, runs in group.runs.items()
    }
    return replace(group, runs=runs, was={number: seed for seed, number in numbers.items()})


def _as_seed(run: FoundRun, seed: int) -> FoundRun:
    return run._replace(seed=seed, given={"given.seed": str(run.seed), **run.given})


def _joined(title: str, groups: Mapping[str, FoundGroup]) -> FoundGroup:
    found: dict[str, dict[int, FoundRun]] = {}
    for group in groups.values():
        for arm, runs in group.runs.items():
            found.setdefault(arm, {}).update(runs)
    return FoundGroup(title, found, is_over_all=True)


def _mean(title: str, name: str, groups: Mapping[str, FoundGroup]) -> FoundGroup:
    """Return each arm's means over the data sets, on the seeds that it has on all of them."""
    found: dict[str, dict[int, FoundRun]] = {}
    for arm in dict.fromkeys(arm for group in groups.values() for arm in group.runs):
        on = [group.runs.get(arm, {}) for group in groups.values()]
        seeds = set.intersection(*map(set, on))
        if seeds:
            found[arm] = {seed: _mean_run(name, [runs[seed] for runs in on]) for seed in sorted(seeds)}
    return FoundGroup(title, found, is_over_all=True)


def _mean_run(dataset: str, runs: Sequence[FoundRun]) -> FoundRun:
    first = runs[0]
    broken = {name: f"{why} on {run.dataset}" for run in runs for name, why in run.broken.items()}
    whole = [name for name in first.metrics if name not in broken and all(name in run.metrics for run in runs)]
    metrics = {name: math.fsum(run.metrics[name] for run in runs) / len(runs) for name in whole}
    source = f"mean of {len(runs)} from {first.source}"
    given = first.given | {"given.dataset": dataset}
    return first._replace(dataset=dataset, metrics=metrics, broken=broken, source=source, given=given)


def some(parts: Sequence[object]) -> str:
    """Return the first of some things as a list in a sentence, and how many more there are."""
    more = len(parts) - MOST_NAMED
    named = list(map(str, parts[:MOST_NAMED]))
    return listed([*named, f"{more} more"] if more > 0 else named)


def seeds_are(seeds: Sequence[int]) -> str:
    """Return seeds with their verb: "seed 4 is", "seeds 4 and 5 are"."""
    return f"seed {seeds[0]} is" if len(seeds) == 1 else f"seeds {some(seeds)} are"


__all__ = [
    "BEYOND",
    "MOST_NAMED",
    "FoundGroup",
    "FoundRun",
    "by_question",
    "over_datasets",
    "seeds_are",
    "some",
]
