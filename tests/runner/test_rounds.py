"""The runner's rounds: runs end in memory, with accuracies made by hand; cells wait in Optuna's store where
others have to find them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from makers import FakeStore, ablation, arm, plan, record

from stn_bench.analysis.looks import planned_runs
from stn_bench.runner import runner
from stn_bench.runner.order import CellOrder
from stn_bench.runner.queue import Cell, Claim, Finished, Search
from stn_bench.runner.runner import Crew, Runner, _Work
from stn_bench.runner.worker import Event
from stn_bench.study.plan import Phase, Plan, RunSpec
from stn_bench.system.errors import Interrupted
from stn_bench.system.workspace import Workspace
from stn_bench.tracking import results
from stn_bench.tracking.identity import identify
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import Results

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as search.py does

FINGERPRINT = "f" * 64
LOOKS: dict[str, Any] = {"seeds": (1, 2, 3, 4, 5), "looks": (3, 5)}
CELLS = {"base": 5, "depth/wide": 3, "depth/slim": 5}  # `wide` is decided at the first look
Seed = tuple[str, int]
"""An arm's label, and one of its seeds."""


def small(**rest: Any) -> Plan:
    arms = (arm("wide", {"model.width": 2.0}), arm("slim", {"model.width": 0.5}))
    return plan(ablation(*arms), **(LOOKS | rest))


def accuracy(spec: RunSpec) -> float:
    """Return 0.8 or so for the base, much less for `wide`, and now more, now less for `slim`."""
    below = {"base": 0.0, "wide": 0.3, "slim": 0.05 * (-1) ** spec.seed}
    return 0.8 + 0.001 * spec.seed - below[spec.arm]


@dataclass
class Told:
    """A watcher that remembers."""

    lines: list[str] = field(default_factory=list)
    rounds: list[tuple[Phase, list[Seed]]] = field(default_factory=list)

    def drawing(self, dataset: str, done: int, count: int) -> None: ...

    def event(self, event: Event) -> None: ...

    def phase(self, phase: Phase, cells: Mapping[str, CellOrder], reused: int) -> None:
        self.rounds.append((phase, [(order.spec.label, order.spec.seed) for order in cells.values()]))

    def say(self, line: str) -> None:
        self.lines.append(line)


class Memory(FakeStore):
    """A tracking store in memory, as the runner and its workers use it."""

    def __init__(self) -> None:
        super().__init__()
        self.arms: dict[str, tuple[dict[str, float], dict[str, str]]] = {}

    def open_study(self, name: str, note: str = "") -> str:
        return name

    def open_arm(self, experiment: str, name: str, tags: Mapping[str, str], note: str) -> str:
        return name

    def describe(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        self.arms[run_id] = (dict(metrics), dict(tags))

    def end(self, spec: RunSpec, outcome: str) -> RunRecord:
        """Keep a run as a cell does that has ended."""
        identity = identify(spec.config, spec.seed, FINGERPRINT)
        made = record(spec, f"{spec.label}-{spec.seed}-{outcome}", outcome=outcome, test_accuracy=accuracy(spec))
        self._records = {made.run_id: made.model_copy(update={"run_key": identity.run_key}), **self._records}
        return made


class Queue:
    """A search store in memory, for one runner alone."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[str]] = {}

    def planning(self) -> AbstractContextManager[None]:
        return nullcontext()

    def enqueue(self, name: str, direction: str, cells: list[Cell], done: Any, tried: Any = ()) -> None:
        self.waiting[name] = [one.run_key for one in cells if one.run_key not in done and one.run_key not in tried]

    def work(self, names: list[str], objective: Callable[[Claim], Finished], should_stop: Callable[[], bool]) -> None:
        while any(self.waiting[name] for name in names) and not should_stop():
            name = next(name for name in names if self.waiting[name])
            with suppress(RuntimeError):
                objective(Claim(self.waiting[name].pop(0), lambda: False, nullcontext))


@dataclass(frozen=True)
class Rehearsal(Runner):
    """A runner whose cells are claimed and finished as ever, but not trained.

    Args:
        crashing: cells that raise an error.
        stop_after: number of cells after which Ctrl-C is pressed.
        before: called before each round's work.
        trained: every cell that was claimed, in order.
    """

    crashing: tuple[Seed, ...] = ()
    stop_after: int = 1000
    before: Callable[[], None] = lambda: None
    trained: list[Seed] = field(default_factory=list)

    def _train(self, phase: Phase, work: _Work) -> None:
        self.before()

        def objective(claim: Claim) -> Finished:
            spec = work.known[claim.run_key].spec
            self.trained.append((spec.label, spec.seed))
            if self.trained[-1] in self.crashing:
                self.tracking.end(spec, "crashed")  # type: ignore[attr-defined]
                raise RuntimeError("as planned")
            ended = self.tracking.end(spec, "finished")  # type: ignore[attr-defined]
            return Finished(accuracy(spec), ended.run_id, "finished")

        self.search.work(work.names, objective, lambda: len(self.trained) >= self.stop_after)
        if len(self.trained) >= self.stop_after:
            raise Interrupted("stopped")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Return the tracking store that every runner of a test opens."""
    memory = Memory()
    monkeypatch.setattr(runner, "Tracking", lambda *arguments: memory)
    return memory


@pytest.fixture
def quick_root(tmp_path: Path, store: Memory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a root whose pictures are taken for made and whose cells wait in memory."""
    monkeypatch.setattr(results, "read_fingerprint", lambda spec, folder: FINGERPRINT)
    monkeypatch.setattr(runner, "make_datasets", lambda *arguments: None)
    monkeypatch.setattr(runner, "Search", lambda *arguments: Queue())
    return tmp_path


@pytest.fixture
def root(quick_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a root whose cells wait in Optuna's store, where others find them."""
    monkeypatch.setattr(runner, "Search", Search)
    return quick_root


def rehearse(root: Path, planned: Plan, **rest: Any) -> Rehearsal:
    return Rehearsal(planned, Workspace.at(root), Crew(1, 1), Told(), **rest)


def go(root: Path, planned: Plan, *, confirm: bool = False, **rest: Any) -> tuple[list[Seed], Results]:
    """Run a study and return the cells that it trained, and its results."""
    one = rehearse(root, planned, **rest)
    found = one.run(confirm=confirm)
    return one.trained, found


def cells(seeds: Mapping[str, Iterable[int]]) -> list[Seed]:
    return sorted((label, seed) for label, some in seeds.items() for seed in some)


def complete(root: Path) -> list[Seed]:
    """Return every complete trial by the name of its Optuna study and its seed."""
    storage = Workspace.at(root).search
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    return sorted(
        (study.study_name.rpartition(" / ")[0], trial.params["seed"])
        for study in studies
        for trial in study.trials
        if trial.state == optuna.trial.TrialState.COMPLETE
    )


# Rounds ----------------------------------------------------------------------------------------------------------


def test_open_arms_go_on_with_their_base_and_decided_ones_stop(quick_root: Path) -> None:
    one = rehearse(quick_root, small())
    found = one.run()
    assert sorted(one.trained[:9]) == cells(dict.fromkeys(CELLS, (1, 2, 3)))
    assert sorted(one.trained[9:]) == cells({"base": (4, 5), "depth/slim": (4, 5)})
    assert {arm.arm.label: len(arm.runs) for arm in found.arms} == CELLS
    assert planned_runs(found) == found.finished == 13


def test_each_round_is_told_with_its_look(quick_root: Path) -> None:
    one = rehearse(quick_root, small())
    one.run()
    told = one.watcher
    assert isinstance(told, Told)
    assert [(phase, len(some)) for phase, some in told.rounds] == [("verdict", 9), ("verdict", 4)]
    assert told.lines == ["look 2 of 2: base, depth/slim"]


def test_every_cell_has_one_complete_trial_in_the_arms_own_study(root: Path) -> None:
    go(root, small())
    assert complete(root) == sorted(
        (f"small / {label} / verdict", seed) for label, n in CELLS.items() for seed in range(1, n + 1)
    )


def test_without_looks_there_is_one_round_with_all_seeds(quick_root: Path) -> None:
    one = rehearse(quick_root, small(looks=()))
    one.run()
    assert isinstance(one.watcher, Told)
    assert [(phase, len(some)) for phase, some in one.watcher.rounds] == [("verdict", 15)]


def test_looks_added_to_a_finished_study_train_the_added_seeds_of_the_open_arms_alone(quick_root: Path) -> None:
    go(quick_root, small(seeds=(1, 2, 3), looks=()))
    trained, found = go(quick_root, small())
    assert sorted(trained) == cells({"base": (4, 5), "depth/slim": (4, 5)})
    assert {arm.arm.label: len(arm.runs) for arm in found.arms} == CELLS


def test_a_finished_study_trains_nothing(quick_root: Path) -> None:
    go(quick_root, small())
    assert go(quick_root, small())[0] == []


@pytest.mark.parametrize("stop_after", [9, 11])
def test_a_stopped_study_goes_on_in_the_same_round(root: Path, stop_after: int) -> None:
    one = rehearse(root, small(), stop_after=stop_after)
    with pytest.raises(Interrupted):
        one.run()
    rest, _ = go(root, small())
    assert sorted(one.trained + rest) == cells({label: range(1, count + 1) for label, count in CELLS.items()})


def test_what_waits_from_before_the_study_had_looks_is_not_trained(root: Path) -> None:
    one = rehearse(root, small(looks=()), stop_after=1)
    with pytest.raises(Interrupted):
        one.run()
    trained, _ = go(root, small())
    assert ("depth/wide", 4) not in trained
    assert len(trained) == 12


def test_a_crashed_seed_is_tried_again_by_the_next_run_alone(quick_root: Path) -> None:
    trained, found = go(quick_root, small(), crashing=(("depth/wide", 2),))
    assert trained.count(("depth/wide", 2)) == 1
    assert len(trained) == 13  # the others went on
    assert planned_runs(found) - found.finished == 1
    assert go(quick_root, small())[0] == [("depth/wide", 2)]


def test_an_arm_goes_on_once_its_crashed_seed_is_there(quick_root: Path) -> None:
    trained, _ = go(quick_root, small(), crashing=(("depth/slim", 2),))
    assert sorted(trained) == cells(dict.fromkeys(CELLS, (1, 2, 3)))
    assert sorted(go(quick_root, small())[0]) == cells({"base": (4, 5), "depth/slim": (2, 4, 5)})


def test_a_crashed_base_holds_up_its_question(quick_root: Path) -> None:
    trained, _ = go(quick_root, small(), crashing=(("base", 1),))
    assert len(trained) == 9


# Two at once -----------------------------------------------------------------------------------------------------


def test_two_runs_at_once_train_each_cell_once(root: Path) -> None:
    other = rehearse(root, small(), stop_after=5)

    def interfere() -> None:
        if not other.trained:
            with pytest.raises(Interrupted):
                other.run()

    trained, found = go(root, small(), before=interfere)
    assert sorted(trained + other.trained) == cells({label: range(1, count + 1) for label, count in CELLS.items()})
    assert planned_runs(found) == found.finished


def test_a_worker_takes_over_the_round_that_another_run_has_begun(root: Path) -> None:
    """The other run is a round ahead and stops there: its waiting cells are known to this one's workers."""
    other = rehearse(root, small(), stop_after=10)

    def interfere() -> None:
        if not other.trained:
            with pytest.raises(Interrupted):
                other.run()

    one = rehearse(root, small(), before=interfere)
    one.run()
    assert isinstance(one.watcher, Told)
    assert len(one.watcher.rounds) == 1
    assert len(other.trained) == 10
    assert sorted(one.trained + other.trained) == cells({label: range(1, n + 1) for label, n in CELLS.items()})


# The arms' own runs ----------------------------------------------------------------------------------------------


def test_the_verdict_is_on_the_arms_run(quick_root: Path, store: Memory) -> None:
    go(quick_root, small())
    metrics, tags = store.arms["depth/wide"]
    assert (tags["verdict"], tags["verdict.reason"]) == ("worse", "")
    assert metrics["difference"] == pytest.approx(-0.3)
    assert metrics["difference.low"] <= metrics["difference"] <= metrics["difference.high"]
    assert metrics["p"] <= metrics["p_adjusted"] < 0.05


def test_the_base_has_no_verdict(quick_root: Path, store: Memory) -> None:
    go(quick_root, small())
    metrics, tags = store.arms["base"]
    assert (tags, metrics["seeds"], "difference" in metrics) == ({"phase": "arm"}, 5, False)


def test_an_invalid_verdict_says_why(quick_root: Path, store: Memory) -> None:
    go(quick_root, small(), crashing=(("depth/slim", 2),))
    tags = store.arms["depth/slim"][1]
    assert (tags["verdict"], tags["verdict.reason"]) == ("invalid", "1 of 3 seeds of `slim` failed")


def test_an_arm_that_two_questions_show_has_the_verdict_of_its_own(quick_root: Path, store: Memory) -> None:
    again = ablation(arm("again", {"model.width": 2.0}), name="other", base={"model.dropout": 0.2})
    go(quick_root, plan(ablation(arm("wide", {"model.width": 2.0})), again, **LOOKS))
    assert sorted(store.arms) == ["base", "depth/wide"]
    assert store.arms["depth/wide"][1]["verdict"] == "worse"


# Confirmation ----------------------------------------------------------------------------------------------------


def test_the_best_arm_and_its_base_are_trained_on_fresh_seeds(root: Path) -> None:
    planned = small(confirm=(101, 102))
    go(root, planned)
    trained, found = go(root, planned, confirm=True)
    assert sorted(trained) == cells({"base": (101, 102), "depth/slim": (101, 102)})
    assert {arm.arm.label: sorted(arm.confirmed) for arm in found.arms} == {
        "base": [101, 102],
        "depth/wide": [],
        "depth/slim": [101, 102],
    }
    assert [name for name, seed in complete(root) if seed > 100] == ["small / base / confirm"] * 2 + [
        "small / depth/slim / confirm"
    ] * 2


def test_a_confirmed_study_trains_nothing_again(quick_root: Path) -> None:
    planned = small(confirm=(101, 102))
    go(quick_root, planned, confirm=True)
    assert go(quick_root, planned, confirm=True)[0] == []


def test_fresh_seeds_are_left_alone_unless_asked_for(quick_root: Path) -> None:
    trained, _ = go(quick_root, small(confirm=(101, 102)))
    assert max(seed for _, seed in trained) == 5
