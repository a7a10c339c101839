"""The forecast: what a study will cost on this machine. Pure: finished runs and a probe's numbers in, seconds out."""

from __future__ import annotations

import dataclasses
import datetime
import heapq
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from stn_bench.analysis.looks import wanted_seeds
from stn_bench.analysis.verdicts import verdicts
from stn_bench.study.plan import Plan, PlannedArm, RunSpec
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.layout import flops
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import ArmResults, Results

BACKWARD = 2
"""A step's backward pass costs this many forward passes: the gradients of the weights and those of the values."""

KeyOf = Callable[[RunSpec], str | None]
"""The run key of a planned run, or None as long as its pictures are not made."""


@dataclass(frozen=True)
class Pace:
    """How long one cell takes.

    Args:
        seconds: from its start to its finished run.
        source: where that is known from, such as "3 runs".
        is_measured: whether its own arm was timed, in runs or by a probe.
    """

    seconds: float
    source: str
    is_measured: bool = True


@dataclass(frozen=True)
class Clock:
    """What is known of how long cells take here.

    Args:
        machine: this machine, as `machine.describe_machine` describes it; runs of others do not count.
        probed: label of an arm -> seconds of one of its cells, as a probe measured it today.
    """

    machine: Mapping[str, Any]
    probed: Mapping[str, float] = field(default_factory=dict)

    def timed(self, runs: Iterable[RunRecord]) -> list[RunRecord]:
        """Return the finished runs of this machine."""
        return [run for run in runs if run.outcome == "finished" and self._is_ours(run)]

    def drift(self, timed: Mapping[str, Sequence[RunRecord]]) -> float:
        """Return how many times as long a training takes today as when the finished runs were trained.

        A machine that is shared, or was busy then, is not as fast as it was. 1 where no arm with runs was probed.
        """
        ratios = [
            seconds / statistics.median(run.metrics.get("cost.seconds", run_seconds(run)) for run in timed[label])
            for label, seconds in self.probed.items()
            if timed.get(label)
        ]
        return statistics.median(ratios) if ratios else 1.0

    @property
    def note(self) -> str:
        """What stands behind the number of runs that a time is known from."""
        return ", probe" if self.probed else ""

    def _is_ours(self, run: RunRecord) -> bool:
        return all(run.machine.get(part) == self.machine.get(part) for part in ("processor", "cores"))


@dataclass(frozen=True)
class ArmForecast:
    """What one arm will cost.

    Args:
        label: the arm's name in the study.
        rounds: cells to train in the tuning phase and then up to each look, if the arm stays open to the last.
        sure: how many of them are trained whatever the looks say.
        reused: cells that are finished.
        pace: how long a cell takes, or None where nothing tells.
    """

    label: str
    rounds: tuple[int, ...]
    sure: int
    reused: int
    pace: Pace | None

    @property
    def cells(self) -> int:
        """Cells to train at most."""
        return sum(self.rounds)

    @property
    def is_unmeasured(self) -> bool:
        """Whether it has cells to train and nobody timed one of its own."""
        return bool(self.cells) and not (self.pace and self.pace.is_measured)


@dataclass(frozen=True)
class Forecast:
    """What a study will cost, with cells trained side by side.

    Args:
        arms: its arms, in the plan's order.
        workers: cells that are trained at once.
        is_probed: whether a probe looked how fast the machine is today.
    """

    arms: tuple[ArmForecast, ...]
    workers: int
    is_probed: bool = False

    @property
    def cells(self) -> int:
        """Cells to train at most."""
        return sum(arm.cells for arm in self.arms)

    @property
    def sure(self) -> int:
        """Cells that are trained whatever the looks say."""
        return sum(arm.sure for arm in self.arms)

    @property
    def reused(self) -> int:
        """Cells that are finished."""
        return sum(arm.reused for arm in self.arms)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Arms with cells to train of which nothing tells how long they take."""
        return tuple(arm.label for arm in self.arms if arm.cells and arm.pace is None)

    @property
    def seconds(self) -> float | None:
        """From the first cell's start to the last one's end, if every arm stays open to the last look."""
        if self.unknown:
            return None
        rounds = max((len(arm.rounds) for arm in self.arms), default=0)
        return sum(makespan(_in_turn(self.arms, number), self.workers) for number in range(rounds))

    @property
    def sure_seconds(self) -> float | None:
        """The same for the cells that are trained whatever the looks say."""
        sure = tuple(ArmForecast(arm.label, (arm.sure,), arm.sure, 0, arm.pace) for arm in self.arms)
        return Forecast(sure, self.workers).seconds if self.sure < self.cells else self.seconds

    def of(self, label: str) -> ArmForecast:
        """Return what one arm will cost."""
        return next(arm for arm in self.arms if arm.label == label)

    def share(self, arm: ArmForecast) -> float | None:
        """Return an arm's part of the whole time, in seconds: its cells, shared out among the workers."""
        return arm.cells * arm.pace.seconds / self.workers if arm.pace else None if arm.cells else 0.0


def forecast(results: Results, key_of: KeyOf, clock: Clock, workers: int) -> Forecast:
    """Return what is left of a study to train, and how long that takes.

    Args:
        results: what is finished.
        key_of: the run keys of today: a run with another is trained again.
        clock: what is known of how long cells take here.
        workers: cells that are trained at once.
    """
    study, reused = results.plan.study, _reused(results, key_of)
    wanted = {label: set(seeds) for label, seeds in wanted_seeds(reused).items()}
    still_open = set(_still_open(reused))
    added = [set(study.seeds[start:stop]) for start, stop in pairwise((0, *study.all_looks))]
    timed = {arm.arm.label: clock.timed((*arm.trials, *arm.runs.values())) for arm in results.arms}
    drift = clock.drift(timed)
    measured = {label: [drift * run_seconds(run) for run in runs] for label, runs in timed.items()}
    arms = []
    for arm in reused.arms:
        label, tuning, trained = arm.arm.label, arm.arm.trials - len(arm.trials), arm.runs.keys()
        sure = wanted[label] - trained
        left = [len((seeds if label in still_open else seeds & sure) - trained) for seeds in added]
        pace = _pace(arm.arm, results, measured, clock)
        arms.append(ArmForecast(label, (tuning, *left), tuning + len(sure), len(arm.trials) + len(trained), pace))
    return Forecast(tuple(arms), max(1, min(workers, sum(arm.cells for arm in arms))), bool(clock.probed))


def nothing_finished(plan: Plan) -> Results:
    """Return the results of a plan of which nothing is trained."""
    return Results(plan, tuple(ArmResults(arm, (), None if arm.trials else {}, {}, {}) for arm in plan.arms))


def run_seconds(run: RunRecord) -> float:
    """Return how long a run took: from start to end, or its training alone where it was resumed and that is longer."""
    started, ended = (datetime.datetime.fromisoformat(moment) for moment in (run.started, run.ended))
    return max((ended - started).total_seconds(), run.metrics.get("cost.seconds", 0.0))


def work(config: Config) -> float | None:
    """Return the operations of a whole training, roughly, or None for a network that has no closed form."""
    if config.model.factory:
        return None
    pictures = (1 + BACKWARD) * config.data.train + config.data.validation
    return float(flops(config)) * pictures * config.train.epochs


def makespan(cells: Sequence[float], workers: int) -> float:
    """Return when the last of some cells ends, each begun in its turn by the first worker that is free."""
    free = [0.0] * workers
    for seconds in cells:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def _in_turn(arms: Iterable[ArmForecast], number: int) -> list[float]:
    """Return the seconds of a round's cells in the order in which they are begun: one of each arm, then the next."""
    counts = [(arm.rounds[number], arm.pace.seconds) for arm in arms if arm.pace and number < len(arm.rounds)]
    longest = max((count for count, _ in counts), default=0)
    return [seconds for turn in range(longest) for count, seconds in counts if turn < count]


def _reused(results: Results, key_of: KeyOf) -> Results:
    """Return the results without the runs that are trained again, since they have another run key today."""
    return dataclasses.replace(results, arms=tuple(_reused_of_arm(arm, key_of) for arm in results.arms))


def _reused_of_arm(arm: ArmResults, key_of: KeyOf) -> ArmResults:
    if not arm.trials and not arm.runs:
        return arm
    keys = {key_of(spec) for spec in (*arm.arm.tuning_specs(), *arm.arm.verdict_specs(arm.chosen or {}))}
    if None in keys:  # pictures that are not made here have no fingerprint yet; they are taken to be the same
        return arm
    trials = tuple(run for run in arm.trials if run.run_key in keys)
    return dataclasses.replace(arm.trained_as({key for key in keys if key}), trials=trials)


def _still_open(results: Results) -> Iterator[str]:
    """Yield the arms that may be trained up to the last look, and their bases."""
    found, study = verdicts(results), results.plan.study
    for question in results.plan.ablations:
        for written, arm in question.arms:
            verdict = found[question.ablation.name][written.name]
            seeds = set(study.seeds[: study.all_looks[verdict.judgement.look - 1]])
            has_ended = seeds <= results.of(arm).ended & results.of(question.base).ended
            if not (has_ended and (verdict.judgement.stopped or verdict.word == "invalid")):
                yield from (arm.label, question.base.label)


def _pace(arm: PlannedArm, results: Results, measured: Mapping[str, Sequence[float]], clock: Clock) -> Pace | None:
    own = measured[arm.label]
    if own:
        return Pace(statistics.median(own), f"{len(own)} run{'s' if len(own) > 1 else ''}{clock.note}")
    if arm.label in clock.probed:
        return Pace(clock.probed[arm.label], "probe")
    return min(_scaled(arm, results, measured), key=lambda found: found[0], default=(0.0, None))[1]


def _scaled(
    arm: PlannedArm, results: Results, measured: Mapping[str, Sequence[float]]
) -> Iterator[tuple[float, Pace | None]]:
    """Yield what each measured arm says of one that is not, behind how far apart the two are."""
    ours = work(arm.config)
    for other in results.arms:
        theirs, seconds = work(other.arm.config), measured[other.arm.label]
        if ours and theirs and seconds:
            ratio = ours / theirs
            pace = Pace(statistics.median(seconds) * ratio, f"{other.arm.label}, by FLOPs", is_measured=False)
            yield max(ratio, 1 / ratio), pace
