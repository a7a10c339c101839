"""Cost: what each arm costs, and what the rest of a study will cost on this machine. Pure: runs in, numbers out."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import heapq
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from stn_bench.analysis.analyse import Analysis
from stn_bench.stats import known, spread
from stn_bench.study.plan import PlannedArm, PlannedQuestion, RunSpec
from stn_bench.system.format import counted
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import ArmResults, Results, common_seeds

KeysOf = Callable[[RunSpec], tuple[str, ...]]
"""The run keys by which a planned run is known, today's first; () as long as its data are not made."""

SIZES = ("parameters", "flops")
"""Costs that do not depend on how long a run took."""


# What an arm costs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Costs:
    """What an arm costs, as far as it is known: means over the seeds that all arms of its question finished.

    Runs that diverged count for none of it: they may have ended early.

    Args:
        parameters: number of weights, moving statistics included.
        flops: floating-point operations to predict one example.
        seconds: seconds of training and validation.
        cpu_seconds: processor seconds of the same, all threads.
        cpu_step_ms: processor milliseconds per training step, its share of validation included, of the least
            disturbed of those seeds: what else the machine does costs a step time, and never saves it any.
        peak_memory_mb: largest resident memory of the training process in MiB.
    """

    parameters: float | None = None
    flops: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    cpu_step_ms: float | None = None
    peak_memory_mb: float | None = None


def timed_seeds(question: PlannedQuestion, results: Results) -> tuple[int, ...]:
    """Return the seeds whose runs tell what the arms of a question cost: those that all of its arms finished."""
    return common_seeds(results.of(arm) for arm in question.arms.values())


def measured_costs(question: PlannedQuestion, results: Results) -> dict[str, Costs]:
    """Return what the runs of a question's arms measured, by the arm's name."""
    timed = timed_seeds(question, results)
    return {name: _measured(results.of(arm), timed) for name, arm in question.arms.items()}


def _measured(arm: ArmResults, timed: Collection[int]) -> Costs:
    seeds = set(timed)
    runs = [run for seed, run in arm.finished.items() if not seeds or seed in seeds]
    sized = runs or list(arm.runs.values())  # a run that diverged has the size of one that did not
    values = {
        one.name: _told(f"cost.{one.name}", sized if one.name in SIZES else runs) for one in dataclasses.fields(Costs)
    }
    means = {name: known(spread(found).mean) for name, found in values.items()}
    return Costs(**{**means, "cpu_step_ms": _cpu_step_ms(arm.arm, runs)})


def _told(metric: str, runs: Iterable[RunRecord]) -> list[float]:
    """Return a cost of each run that tells it; what a training told itself may be no finite number."""
    return [run.metrics[metric] for run in runs if math.isfinite(run.metrics.get(metric, math.nan))]


def _cpu_step_ms(arm: PlannedArm, runs: Iterable[RunRecord]) -> float | None:
    """Return the processor time of a step in the least disturbed run."""
    steps = arm.subject.steps(arm.config) if arm.subject.steps else 0
    quickest = min(_told("cost.cpu_seconds", runs), default=None)
    return 1000 * quickest / steps if quickest is not None and steps else None


def known_costs(question: PlannedQuestion, measured: Mapping[str, Costs]) -> dict[str, Costs]:
    """Return what a question's arms cost: what their runs measured, and on paper what they do not tell."""
    return {name: _with_paper(measured[name], arm) for name, arm in question.arms.items()}


def _with_paper(costs: Costs, arm: PlannedArm) -> Costs:
    if costs.parameters is not None and costs.flops is not None:
        return costs
    paper = arm.subject.cost(arm.config) if arm.subject.cost else None
    if paper is None:
        return costs
    return dataclasses.replace(
        costs,
        parameters=paper.parameters if costs.parameters is None else costs.parameters,
        flops=paper.flops if costs.flops is None else costs.flops,
    )


# What is left to train ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """How long one job takes.

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
    """What is known of how long jobs take here.

    Args:
        machine: this machine, as `machine.describe_machine` describes it; runs of others do not count.
        probed: label of an arm -> seconds of one of its jobs, as `--probe` measured it today.
    """

    machine: Mapping[str, Any]
    probed: Mapping[str, float] = field(default_factory=dict)

    def timed(self, runs: Iterable[RunRecord]) -> list[RunRecord]:
        """Return the finished runs of this machine."""
        parts = ("processor", "cores")
        return [
            run
            for run in runs
            if run.outcome == "finished" and all(run.machine.get(part) == self.machine.get(part) for part in parts)
        ]

    def drift(self, timed: Mapping[str, Sequence[RunRecord]]) -> float:
        """Return how many times as long a training takes today as when the finished runs were trained.

        A machine that is shared, or was busy then, is not as fast as it was. 1 where no arm with runs was probed.
        """
        ratios = [
            seconds / statistics.median(_seconds(run) for run in timed[label])
            for label, seconds in self.probed.items()
            if timed.get(label)
        ]
        return statistics.median(ratios) if ratios else 1.0

    @property
    def note(self) -> str:
        """What stands behind the number of runs that a time is known from."""
        return ", probe" if self.probed else ""


@dataclass(frozen=True)
class ArmCostEstimate:
    """What one arm will cost.

    Args:
        label: the arm's name in the study.
        rounds: jobs to train in the tuning phase and then up to each look, if the arm stays open to the last.
        sure: how many of them are trained whatever the looks say.
        reused: jobs that are finished.
        pace: how long a job takes, or None where nothing tells.
    """

    label: str
    rounds: tuple[int, ...]
    sure: int
    reused: int
    pace: Pace | None

    @property
    def jobs(self) -> int:
        """Jobs to train at most."""
        return sum(self.rounds)

    @property
    def is_unmeasured(self) -> bool:
        """Whether it has jobs to train and nobody timed one of its own."""
        return bool(self.jobs) and not (self.pace and self.pace.is_measured)


@dataclass(frozen=True)
class CostEstimate:
    """What a study will cost, with jobs trained side by side.

    Args:
        arms: its arms, in the plan's order.
        workers: jobs that are trained at once.
        is_probed: whether `--probe` looked how fast the machine is today.
    """

    arms: tuple[ArmCostEstimate, ...]
    workers: int
    is_probed: bool = False

    @property
    def jobs(self) -> int:
        """Jobs to train at most."""
        return sum(arm.jobs for arm in self.arms)

    @property
    def sure(self) -> int:
        """Jobs that are trained whatever the looks say."""
        return sum(arm.sure for arm in self.arms)

    @property
    def reused(self) -> int:
        """Jobs that are finished."""
        return sum(arm.reused for arm in self.arms)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Arms with jobs to train of which nothing tells how long they take."""
        return tuple(arm.label for arm in self.arms if arm.jobs and arm.pace is None)

    @property
    def seconds(self) -> float | None:
        """From the first job's start to the last one's end, if every arm stays open to the last look."""
        if self.unknown:
            return None
        rounds = max((len(arm.rounds) for arm in self.arms), default=0)
        return sum(makespan(_in_turn(self.arms, number), self.workers) for number in range(rounds))

    @property
    def sure_seconds(self) -> float | None:
        """The same for the jobs that are trained whatever the looks say."""
        sure = tuple(ArmCostEstimate(arm.label, (arm.sure,), arm.sure, 0, arm.pace) for arm in self.arms)
        return CostEstimate(sure, self.workers).seconds if self.sure < self.jobs else self.seconds

    def of(self, label: str) -> ArmCostEstimate:
        """Return what one arm will cost."""
        return self._by_label[label]

    @functools.cached_property
    def _by_label(self) -> dict[str, ArmCostEstimate]:
        return {arm.label: arm for arm in self.arms}

    def share(self, arm: ArmCostEstimate) -> float | None:
        """Return an arm's part of the whole time, in seconds: its jobs, shared out among the workers."""
        return arm.jobs * arm.pace.seconds / self.workers if arm.pace else None if arm.jobs else 0.0


def reusable(results: Results, keys_of: KeysOf) -> Results:
    """Return the results without the runs that are trained again, since they have another run key today."""

    def of_arm(arm: ArmResults) -> ArmResults:
        if not arm.trials and not arm.runs:
            return arm
        keys = [keys_of(spec) for spec in (*arm.arm.tuning_specs(), *arm.arm.verdict_specs(arm.chosen or {}))]
        if () in keys:  # data that are not made here have no fingerprint yet; they are taken to be the same
            return arm
        known_keys = {key for some in keys for key in some}
        trials = tuple(run for run in arm.trials if run.run_key in known_keys)
        return dataclasses.replace(arm.trained_as(known_keys), trials=trials)

    return dataclasses.replace(results, arms=tuple(of_arm(arm) for arm in results.arms))


def estimate_cost(results: Results, reused: Analysis, clock: Clock, workers: int) -> CostEstimate:
    """Return what is left of a study to train, and how long that takes.

    Args:
        results: what is finished, for how long it took.
        reused: what of that is not trained again, see `reusable`.
        clock: what is known of how long jobs take here.
        workers: jobs that are trained at once.
    """
    study = results.plan.study
    still_open = {
        one.arm.label
        for rows in reused.standings.values()
        for standing in rows
        if not standing.is_settled
        for one in (standing.arm, standing.base)
    }
    added = [set(study.seeds[start:stop]) for start, stop in pairwise((0, *study.all_looks))]
    paces = _paces(results, clock)
    arms = []
    for arm in reused.results.arms:
        label, tuning, trained = arm.arm.label, arm.arm.trials - len(arm.trials), arm.runs.keys()
        sure = set(reused.wanted_seeds[label]) - trained
        left = [len((seeds if label in still_open else seeds & sure) - trained) for seeds in added]
        done = len(arm.trials) + len(trained)
        arms.append(ArmCostEstimate(label, (tuning, *left), tuning + len(sure), done, paces[label]))
    return CostEstimate(tuple(arms), max(1, min(workers, sum(arm.jobs for arm in arms))), bool(clock.probed))


def _paces(results: Results, clock: Clock) -> dict[str, Pace | None]:
    """Return label of the arm -> how long one of its jobs takes: by its runs, a probe, or the arm nearest in work."""
    timed = {arm.arm.label: clock.timed((*arm.trials, *arm.runs.values())) for arm in results.arms}
    drift = clock.drift(timed)
    measured = {label: [drift * run_seconds(run) for run in runs] for label, runs in timed.items()}
    work = {arm.arm.label: training_flops(arm.arm) for arm in results.arms}
    paces: dict[str, Pace | None] = {}
    for label, own in measured.items():
        if own:
            paces[label] = Pace(statistics.median(own), counted(len(own), "run") + clock.note)
        elif label in clock.probed:
            paces[label] = Pace(clock.probed[label], "probe")
        else:
            paces[label] = min(_scaled(label, work, measured), key=lambda found: found[0], default=(0.0, None))[1]
    return paces


def _scaled(
    label: str, work: Mapping[str, float | None], measured: Mapping[str, Sequence[float]]
) -> Iterator[tuple[float, Pace | None]]:
    """Yield what each measured arm says of one that is not, behind how far apart the two are."""
    ours = work[label]
    for other, theirs in work.items():
        seconds = measured[other]
        if ours and theirs and seconds:
            ratio = ours / theirs
            pace = Pace(statistics.median(seconds) * ratio, f"{other}, by FLOPs", is_measured=False)
            yield max(ratio, 1 / ratio), pace


def training_flops(arm: PlannedArm) -> float | None:
    """Return the operations of a whole training of an arm, roughly, or None where its subject cannot tell them."""
    paper = arm.subject.cost(arm.config) if arm.subject.cost else None
    return paper.training_flops if paper else None


def run_seconds(run: RunRecord) -> float:
    """Return how long a run took: from start to end, or its training alone where it was resumed and that is longer."""
    started, ended = (datetime.datetime.fromisoformat(moment) for moment in (run.started, run.ended))
    return max((ended - started).total_seconds(), *_told("cost.seconds", [run]), 0.0)


def _seconds(run: RunRecord) -> float:
    """Return the seconds of a run's training, or of all of the run where it does not tell them."""
    return next(iter(_told("cost.seconds", [run])), run_seconds(run))


def makespan(jobs: Sequence[float], workers: int) -> float:
    """Return when the last of some jobs ends, each begun in its turn by the first worker that is free."""
    free = [0.0] * workers
    for seconds in jobs:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def _in_turn(arms: Iterable[ArmCostEstimate], number: int) -> list[float]:
    """Return the seconds of a round's jobs in the order in which they are begun: one of each arm, then the next."""
    counts = [(arm.rounds[number], arm.pace.seconds) for arm in arms if arm.pace and number < len(arm.rounds)]
    longest = max((count for count, _ in counts), default=0)
    return [seconds for turn in range(longest) for count, seconds in counts if turn < count]


__all__ = [
    "ArmCostEstimate",
    "Clock",
    "CostEstimate",
    "Costs",
    "KeysOf",
    "Pace",
    "estimate_cost",
    "known_costs",
    "makespan",
    "measured_costs",
    "reusable",
    "run_seconds",
    "timed_seeds",
    "training_flops",
]
