"""The runner: takes a plan to its end, with workers that train, and can be stopped and started at any moment."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from stn_bench.data.dataset import make_dataset
from stn_bench.data.spec import DatasetSpec
from stn_bench.errors import Interrupted, StnBenchError
from stn_bench.machine import children_ignore_interrupts
from stn_bench.metrics import TUNING_METRIC
from stn_bench.order import CellOrder
from stn_bench.plan import Phase, Plan, PlannedArm, RunSpec
from stn_bench.record import arm_note, arm_tags
from stn_bench.results import ArmResults, Results, gather, identity_of
from stn_bench.search import SEED, SEEDS, Cell, Finished, Search
from stn_bench.tracking import Tracking
from stn_bench.worker import STOP, Better, CellEnded, CellStarted, Event, Shift, run_worker
from stn_bench.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.catalogue import Range

MAX_DEATHS = 20  # of workers, before the runner stops replacing them
POLL_SECONDS = 0.5


class Watcher(Protocol):
    """What is told of a run's progress; the terminal's display is one."""

    def drawing(self, dataset: str, done: int, count: int) -> None:
        """Some pictures are drawn."""

    def phase(self, phase: Phase, cells: Mapping[str, CellOrder], reused: int) -> None:
        """A phase begins with these cells to train, and this many finished before."""

    def event(self, event: Event) -> None:
        """A worker tells of a cell."""

    def say(self, line: str) -> None:
        """Something happened that a person should know."""


@dataclass(frozen=True)
class Crew:
    """How the work is shared: processes, and threads in each."""

    workers: int
    threads: int


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    cell: str = ""


@dataclass
class Interrupts:
    """How often Ctrl-C was pressed."""

    count: int = 0


@dataclass(frozen=True)
class _Work:
    """The cells of one phase: orders of those to train, and the Optuna studies that hold them."""

    names: tuple[str, ...]
    orders: dict[str, CellOrder]
    reused: int


@dataclass(frozen=True)
class Runner:
    """Takes one plan to its end.

    Args:
        plan: the plan.
        workspace: where things are.
        crew: processes and threads.
        watcher: what is told of the progress.
    """

    plan: Plan
    workspace: Workspace
    crew: Crew
    watcher: Watcher
    tracking: Tracking = field(init=False)
    search: Search = field(init=False)

    def __post_init__(self) -> None:
        workspace = self.workspace
        object.__setattr__(
            self, "tracking", Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))
        )
        object.__setattr__(self, "search", Search(workspace.search, workspace.heartbeat, workspace.lock("search")))

    def run(self) -> Results:
        """Train what is not trained yet and return all results.

        Raises:
            Interrupted: after Ctrl-C.
            StnBenchError: if pictures or stores cannot be had.
        """
        make_datasets((arm.config for arm in self.plan.arms), self.workspace, self.crew.workers, self.watcher)
        experiment = self.tracking.open_study(self.plan.study.name, study_note(self.plan))
        phases: tuple[Phase, Phase] = ("tune", "verdict")
        for phase in phases:
            work = self._prepare(phase, experiment)
            if work.orders:
                self.watcher.phase(phase, work.orders, work.reused)
                self._train(phase, work)
        return self._describe_arms(experiment)

    def gather(self) -> Results:
        """Return what is finished so far."""
        return gather(self.plan, self.tracking, self.workspace.datasets)

    def _prepare(self, phase: Phase, experiment: str) -> _Work:
        results = self.gather()
        done = {run.run_key: run for run in self.tracking.finished()}
        names: list[str] = []
        orders: dict[str, CellOrder] = {}
        reused = 0
        for arm in results.arms:
            specs = arm.arm.tuning_specs() if phase == "tune" else arm.arm.verdict_specs(arm.chosen or {})
            if not specs or (phase == "verdict" and arm.chosen is None):
                continue
            parent = self._open_arm(experiment, arm.arm)
            planned = {order.identity.run_key: order for order in self._orders(specs, experiment, parent)}
            name = optuna_name(arm.arm, phase)
            finished = self._finished(phase, [done[key].run_id for key in planned if key in done])
            self.search.enqueue(
                name, self._told(phase)[1], (_cell(order, arm.arm) for order in planned.values()), finished
            )
            names.append(name)
            reused += len(finished)
            orders |= {key: order for key, order in planned.items() if key not in done}
        return _Work(tuple(names), orders, reused)

    def _open_arm(self, experiment: str, arm: PlannedArm) -> str:
        tags = arm_tags(arm.study, arm.ablation, arm.name)
        return self.tracking.open_arm(experiment, arm.label, tags, arm_note(arm))

    def _orders(self, specs: Iterable[RunSpec], experiment: str, parent: str) -> Iterator[CellOrder]:
        for spec in specs:
            identity = identity_of(spec, self.workspace.datasets)
            if identity is None:
                raise StnBenchError(f"{spec.label}: its pictures vanished from {self.workspace.datasets}; run again")
            checkpoint = self.workspace.checkpoints / identity.run_key / "checkpoint.npz"
            yield CellOrder(spec, identity, experiment, parent, checkpoint, self.crew.threads)

    def _finished(self, phase: Phase, run_ids: list[str]) -> dict[str, Finished]:
        metric, direction = self._told(phase)
        worst = float("-inf") if direction == "maximize" else float("inf")
        return {
            record.run_key: Finished(record.metrics.get(metric, worst), record.run_id, record.outcome)
            for record in self.tracking.records(run_ids)
        }

    def _told(self, phase: Phase) -> tuple[str, Better]:
        """Return the metric that Optuna is told in a phase, and which way it is better."""
        study = self.plan.study
        return (TUNING_METRIC, "maximize") if phase == "tune" else (study.metric, study.direction)

    def _train(self, phase: Phase, work: _Work) -> None:
        metric, direction = self._told(phase)
        shift = Shift(self.workspace, self.crew.threads, work.names, work.orders, metric, direction)
        count = min(self.crew.workers, len(work.orders))
        with counting_interrupts() as interrupts:
            _Pool(shift, count, self.watcher, interrupts).run()
        if interrupts.count:
            raise Interrupted(f"stopped; `stn-bench run {self.plan.study.name}` goes on from here")

    def _describe_arms(self, experiment: str) -> Results:
        results = self.gather()
        for arm in results.arms:
            parent = self._open_arm(experiment, arm.arm)
            self.tracking.describe(parent, arm_metrics(arm, self.plan.study.metric), {"phase": "arm"})
        return results


class _Pool:
    """The worker processes of one phase; one that dies is replaced."""

    def __init__(self, shift: Shift, count: int, watcher: Watcher, interrupts: Interrupts) -> None:
        self._shift, self._watcher, self._interrupts = shift, watcher, interrupts
        self._context = multiprocessing.get_context("spawn")  # TensorFlow does not survive fork
        self._deaths = 0
        self._told = 0
        self._workers = [self._start() for _ in range(count)]

    def run(self) -> None:
        """Return when every worker has ended its shift."""
        try:
            while self._workers:
                wait([worker.process.sentinel for worker in self._workers] + self._connections(), POLL_SECONDS)
                for worker in tuple(self._workers):
                    self._hear(worker)
                self._pass_on_interrupts()
        finally:
            for worker in self._workers:
                worker.process.terminate()

    def _connections(self) -> list[Any]:
        return [worker.connection for worker in self._workers]

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=run_worker, args=(self._shift, theirs), daemon=True)
        with children_ignore_interrupts():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hear(self, worker: _Worker) -> None:
        try:
            while worker.connection.poll():
                event = worker.connection.recv()
                worker.cell = event.run_key if isinstance(event, CellStarted) else worker.cell
                self._watcher.event(event)
        except (EOFError, OSError):
            worker.process.join(timeout=10)
        if not worker.process.is_alive():
            self._bury(worker)

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        if worker.process.exitcode == 0 or self._interrupts.count:
            return
        self._deaths += 1
        if worker.cell:
            self._watcher.event(CellEnded(worker.cell, "killed", f"exit code {worker.process.exitcode}"))
        if self._deaths > MAX_DEATHS:
            raise StnBenchError(
                f"{self._deaths} workers died (last exit code {worker.process.exitcode}); "
                f"see what they need with `stn-bench doctor`, then run again: finished runs are kept"
            )
        self._workers.append(self._start())

    def _pass_on_interrupts(self) -> None:
        if self._interrupts.count > self._told == 0:
            self._told = 1
            self._watcher.say("stopping at the end of the current epochs; press Ctrl-C again to stop at once")
            for worker in self._workers:
                try:
                    worker.connection.send(STOP)
                except OSError:
                    continue  # it has just ended by itself
        if self._interrupts.count > 1:
            for worker in self._workers:
                worker.process.kill()


@contextmanager
def counting_interrupts() -> Iterator[Interrupts]:
    """Count Ctrl-C instead of raising KeyboardInterrupt in the middle of something."""
    interrupts = Interrupts()

    def count(signum: int, frame: FrameType | None) -> None:
        interrupts.count += 1

    before = signal.signal(signal.SIGINT, count)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


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
    found = {f"{metric}.mean": values.mean, f"{metric}.sd": values.sd, "seeds": float(values.n)}
    return {name: value for name, value in found.items() if value == value}
