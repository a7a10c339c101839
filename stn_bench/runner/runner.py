"""The runner: takes a plan to its end, with workers that train, and can be stopped and started at any moment."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from stn_bench.analysis.looks import confirming_seeds, wanted_seeds
from stn_bench.analysis.verdicts import ArmVerdict, verdicts
from stn_bench.runner.order import CellOrder
from stn_bench.runner.pool import Listener, Pool, counting_interrupts
from stn_bench.runner.queue import SEED, SEEDS, TRIES, Cell, Finished, Search
from stn_bench.runner.worker import Better, Shift
from stn_bench.study.plan import Phase, Plan, PlannedArm, RunSpec
from stn_bench.subjects.stn.data.dataset import make_dataset
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.subjects.stn.metrics import TUNING_METRIC
from stn_bench.system.errors import Interrupted, StnBenchError
from stn_bench.system.machine import Crew, now
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import RunRecord, arm_note, arm_tags, run_tags
from stn_bench.tracking.results import ArmResults, Results, gather, identity_of

if TYPE_CHECKING:
    from stn_bench.study.catalogue import Range


class Watcher(Listener, Protocol):
    """What is told of a run's progress; the terminal's display is one."""

    def drawing(self, dataset: str, done: int, count: int) -> None:
        """Some pictures are drawn."""

    def phase(self, phase: Phase, cells: Mapping[str, CellOrder], reused: int) -> None:
        """A phase begins with these cells to train, and this many finished before."""


@dataclass(frozen=True)
class _Work:
    """The cells of one round.

    Args:
        names: the Optuna studies that hold them.
        orders: run key -> cell, of those to train.
        known: the same of all that the phase may come to: another `run` of the study may be a round ahead.
        reused: number of those that are finished.
    """

    names: tuple[str, ...]
    orders: dict[str, CellOrder]
    known: dict[str, CellOrder]
    reused: int


@dataclass(frozen=True)
class Runner:
    """Takes one plan to its end.

    Args:
        plan: the plan.
        workspace: where things are.
        crew: processes and threads.
        watcher: what is told of the progress.
        accept_stale: whether runs that other code or libraries trained are kept, instead of trained again.
    """

    plan: Plan
    workspace: Workspace
    crew: Crew
    watcher: Watcher
    accept_stale: bool = False
    tracking: Tracking = field(init=False)
    search: Search = field(init=False)

    def __post_init__(self) -> None:
        workspace = self.workspace
        object.__setattr__(
            self, "tracking", Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))
        )
        object.__setattr__(self, "search", Search(workspace.search, workspace.heartbeat, workspace.lock("search")))

    def run(self, *, confirm: bool = False) -> Results:
        """Train what is not trained yet and return all results.

        Args:
            confirm: whether the best arm of each question is trained on fresh seeds at the end.

        Raises:
            Interrupted: after Ctrl-C.
            StnBenchError: if pictures or stores cannot be had.
        """
        make_datasets((arm.config for arm in self.plan.arms), self.workspace, self.crew.workers, self.watcher)
        experiment = self.tracking.open_study(self.plan.study.name, study_note(self.plan))
        self._round("tune", experiment)
        begun = tried = self._round("verdict", experiment)
        while begun and self.plan.study.looks:
            begun = self._round("verdict", experiment, tried)
            tried |= begun
        if confirm:
            self._round("confirm", experiment)
        return self._describe_arms(experiment)

    def gather(self) -> Results:
        """Return what is finished so far."""
        return gather(self.plan, self.tracking, self.workspace.datasets)

    def _round(self, phase: Phase, experiment: str, tried: frozenset[str] = frozenset()) -> frozenset[str]:
        """Train the runs that a phase wants today, but for those that were tried; return their run keys."""
        with self.search.planning():
            work = self._prepare(phase, experiment, tried)
        if work.orders:
            for line in _later_looks(self.plan, phase, work.orders.values()):
                self.watcher.say(line)
            self.watcher.phase(phase, work.orders, work.reused)
            self._train(phase, work)
        return frozenset(work.orders)

    def _prepare(self, phase: Phase, experiment: str, tried: frozenset[str]) -> _Work:
        results = self.gather()
        done = {record.run_key: record for record in results.records}
        planned = [(arm, self._orders(phase, arm, experiment)) for arm in results.arms]
        if self.accept_stale:
            done |= {key: record for arm, orders in planned for key, record in _standing_in(phase, arm, orders)}
        known = {key: order for _, orders in planned for key, order in orders.items()}
        is_strict = phase == "verdict" and not self.accept_stale
        seeds = _seeds(phase, results.trained_as(known) if is_strict else results)
        names: list[str] = []
        wanted: dict[str, CellOrder] = {}
        for arm, orders in planned:
            cells = {key: order for key, order in orders.items() if order.spec.seed in seeds.get(arm.arm.label, ())}
            if cells:
                names.append(optuna_name(arm.arm, phase))
                self._enqueue(names[-1], phase, [_cell(order, arm.arm) for order in cells.values()], done, tried)
                wanted |= cells
        fresh = {key: order for key, order in wanted.items() if key not in done and key not in tried}
        return _Work(tuple(names), fresh, known, len(wanted.keys() & done.keys()))

    def _enqueue(
        self, name: str, phase: Phase, cells: list[Cell], done: Mapping[str, RunRecord], tried: frozenset[str]
    ) -> None:
        metric, direction = self._told(phase)
        worst = float("-inf") if direction == "maximize" else float("inf")
        keys = {cell.run_key for cell in cells}
        finished = {  # by the cell's own key: a run that stands in for it has another
            key: Finished(record.metrics.get(metric, worst), record.run_id, record.outcome)
            for key, record in done.items()
            if key in keys
        }
        self.search.enqueue(name, direction, cells, finished, tried)

    def _open_arm(self, experiment: str, arm: PlannedArm) -> str:
        tags = arm_tags(arm.study, arm.ablation, arm.name)
        return self.tracking.open_arm(experiment, arm.label, tags, arm_note(arm))

    def _orders(self, phase: Phase, arm: ArmResults, experiment: str) -> dict[str, CellOrder]:
        """Return run key -> cell, of all runs that an arm may come to in a phase."""
        specs = _specs(phase, arm)
        parent = self._open_arm(experiment, arm.arm) if specs else ""
        orders = {}
        for spec in specs:
            identity = identity_of(spec, self.workspace.datasets)
            if identity is None:
                raise StnBenchError(f"{spec.label}: its pictures vanished from {self.workspace.datasets}; run again")
            checkpoints = self.workspace.checkpoints / identity.run_key
            orders[identity.run_key] = CellOrder(spec, identity, experiment, parent, checkpoints, self.crew.threads)
        return orders

    def _told(self, phase: Phase) -> tuple[str, Better]:
        """Return the metric that Optuna is told in a phase, and which way it is better."""
        study = self.plan.study
        return (TUNING_METRIC, "maximize") if phase == "tune" else (study.metric, study.direction)

    def _train(self, phase: Phase, work: _Work) -> None:
        metric, direction = self._told(phase)
        shift = Shift(self.workspace, self.crew.threads, work.names, work.known, metric, direction)
        count = min(self.crew.workers, len(work.orders))
        with counting_interrupts() as interrupts:
            Pool(shift, count, self.watcher, _Registrar(self.tracking, self.search, work), interrupts).run()
        if interrupts.count:
            raise Interrupted(f"stopped; `stn-bench run {self.plan.study.name}` goes on from here")

    def _describe_arms(self, experiment: str) -> Results:
        results = self.gather()
        found = verdicts(results)
        for arm in results.arms:
            verdict = found.get(arm.arm.ablation, {}).get(arm.arm.name)  # of the arm's own question; a base has none
            metrics = arm_metrics(arm, self.plan.study.metric) | (verdict_metrics(verdict) if verdict else {})
            tags = {"phase": "arm"} | (verdict_tags(verdict) if verdict else {})
            self.tracking.describe(self._open_arm(experiment, arm.arm), metrics, tags)
        return results


@dataclass(frozen=True)
class _Registrar:
    """Enters the end of cells whose worker cannot: it is dead, or hangs."""

    tracking: Tracking
    search: Search
    work: _Work

    def died(self, run_key: str, cause: str) -> bool:
        """Take note that a cell's process died; return whether that was the cell's last try."""
        is_lost = self.search.bury(self.work.names, run_key)
        if is_lost:
            self._crash(run_key, f"its process died in each of {TRIES} tries (the last: {cause})")
        return is_lost

    def overran(self, run_key: str, pid: int, seconds: float) -> bool:
        """Take a cell from a process that has been at it for too long; return whether it still was."""
        is_ours = self.search.give_up(self.work.names, run_key, pid)
        if is_ours and not self.tracking.finished_as(run_key):  # it may have been about to tell Optuna
            self._crash(run_key, f"it took longer than `train.timeout` = {seconds:g} s")
        return is_ours

    def _crash(self, run_key: str, reason: str) -> None:
        order, started = self.work.known[run_key], now()
        tags = run_tags(order.spec, order.identity)
        run_id = self.tracking.start_run(order.experiment, order.parent, order.name, tags)
        self.tracking.finish_run(order.record(run_id, started, "crashed", reason), {})


def make_datasets(configs: Iterable[Any], workspace: Workspace, processes: int, watcher: Watcher) -> None:
    """Make every data set that the configurations need, each once."""
    for spec in dict.fromkeys(DatasetSpec.of(config) for config in configs):

        def tell(done: int, count: int, name: str = spec.folder_name) -> None:
            watcher.drawing(name, done, count)

        make_dataset(spec, workspace.datasets, processes=processes, on_progress=tell)


def optuna_name(arm: PlannedArm, phase: Phase) -> str:
    """Return the name of an arm's Optuna study; other settings under the same names have another."""
    return f"{arm.study} / {arm.label} / {phase} / {arm.digest}"


def _cell(order: CellOrder, arm: PlannedArm) -> Cell:
    spec = order.spec
    values: dict[str, Any] = {SEED: spec.seed, **(spec.chosen if spec.phase == "tune" else {})}
    space: dict[str, Range] = {SEED: SEEDS, **(arm.space if spec.phase == "tune" else {})}
    return Cell(order.identity.run_key, values, space)


def _later_looks(plan: Plan, phase: Phase, orders: Iterable[CellOrder]) -> Iterator[str]:
    """Yield the arms that go on beyond the first look, a line for each look."""
    looks, arms = plan.study.all_looks, dict[int, dict[str, None]]()
    for order in orders if phase == "verdict" else ():
        look = bisect.bisect(looks, plan.study.seeds.index(order.spec.seed)) + 1
        arms.setdefault(look, {})[order.spec.label] = None
    for look, labels in sorted(arms.items()):
        if look > 1:
            yield f"look {look} of {len(looks)}: {', '.join(labels)}"


def study_note(plan: Plan) -> str:
    """Return the Markdown that MLflow shows on a study's page."""
    questions = "\n".join(f"- **{planned.ablation.name}**: {planned.ablation.question}" for planned in plan.ablations)
    return (
        f"**{plan.study.title}**\n\n{questions}\n\nOne parent run an arm, one child run a seed or a tuning trial. "
        f"The run `report` carries the whole report as an artifact."
    )


def arm_metrics(results: ArmResults, metric: str) -> dict[str, float]:
    """Return an arm's aggregates: mean and standard deviation of the primary metric, and the number of runs."""
    from stn_bench.stats import spread

    values = spread(list(results.values(metric).values()))
    return _known({f"{metric}.mean": values.mean, f"{metric}.sd": values.sd, "seeds": float(values.n)})


def verdict_metrics(verdict: ArmVerdict) -> dict[str, float]:
    """Return the numbers of a verdict by which MLflow's table of arms can be sorted, named as in `report.json`."""
    judgement, comparison = verdict.judgement, verdict.judgement.comparison
    return _known(
        {
            "difference": comparison.difference,
            "difference.low": comparison.low,
            "difference.high": comparison.high,
            "p": comparison.p,
            "p_adjusted": judgement.p_adjusted,
        }
    )


def verdict_tags(verdict: ArmVerdict) -> dict[str, str]:
    """Return the verdict as tags; the reason is "" unless it is invalid."""
    return {"verdict": verdict.word, "verdict.reason": verdict.reason}


def _known(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value == value}


def _specs(phase: Phase, arm: ArmResults) -> tuple[RunSpec, ...]:
    """Return all runs that an arm may come to in a phase; none behind a tuning that is not finished."""
    if phase == "tune":
        return arm.arm.tuning_specs()
    if arm.chosen is None:
        return ()
    return arm.arm.verdict_specs(arm.chosen) if phase == "verdict" else arm.arm.confirm_specs(arm.chosen)


def _standing_in(phase: Phase, arm: ArmResults, orders: Mapping[str, CellOrder]) -> Iterator[tuple[str, RunRecord]]:
    """Yield the run keys of an arm's cells, each with the run that is its own or stands in, trained by other code."""
    records = {"tune": arm.trials, "verdict": arm.runs.values(), "confirm": arm.confirmed.values()}[phase]
    found = {(record.seed, record.trial): record for record in records}
    for key, order in orders.items():
        if record := found.get((order.spec.seed, order.spec.trial)):
            yield key, record


def _seeds(phase: Phase, results: Results) -> dict[str, tuple[int, ...]]:
    """Return label of the arm -> the seeds that a phase wants it to be trained on today.

    Args:
        phase: the phase.
        results: all results, but for those of the verdict that merely stand in: they open no later look.
    """
    if phase == "tune":
        return {arm.label: (arm.tuning_seed,) for arm in results.plan.arms}
    return wanted_seeds(results) if phase == "verdict" else confirming_seeds(results)
