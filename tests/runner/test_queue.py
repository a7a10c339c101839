from __future__ import annotations

import sqlite3
import threading
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import psutil
import pytest
from makers import LEARNING_RATE, write
from optuna.trial import FrozenTrial, TrialState

from stn_bench.runner import queue as search
from stn_bench.runner.queue import SEED, SEEDS, Cell, Claim, Finished, Search, owner
from stn_bench.study.catalogue import Range
from stn_bench.system.errors import ClaimLostError, StoreError

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as search.py does

NAME = "small / base / verdict"
DEAD = owner().replace(f" {psutil.Process().pid} ", " 999999999 ")  # no process has this number


def cell(seed: int) -> Cell:
    return Cell(f"key-{seed}", {SEED: seed}, {SEED: SEEDS})


def open_search(folder: Path) -> Search:
    return Search(f"sqlite:///{folder / 'optuna.db'}", heartbeat=15, lock=folder / "search.lock")


def result(run_key: str) -> Finished:
    return Finished(float(run_key.removeprefix("key-")) / 10, f"run-of-{run_key}", "finished")


def finish(claim: Claim) -> Finished:
    return result(claim.run_key)


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "POLL_SECONDS", 0.02)


@pytest.fixture
def store(tmp_path: Path) -> Search:
    return open_search(tmp_path)


def trials(store: Search, state: TrialState | None = None) -> list[FrozenTrial]:
    """Return the trials of the one study, read past our own door."""
    found = optuna.load_study(study_name=NAME, storage=store._storage).get_trials(deepcopy=False)
    return [trial for trial in found if state in (None, trial.state)]


def keys(store: Search, state: TrialState) -> list[str]:
    return sorted(trial.user_attrs["run_key"] for trial in trials(store, state))


def claim(store: Search, claimed_by: str) -> FrozenTrial:
    """Leave a cell RUNNING, as a worker does that dies in the middle of it."""
    study = optuna.load_study(study_name=NAME, storage=store._storage, sampler=search._OnlyEnqueued())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        study.ask().set_user_attr("owner", claimed_by)
    return trials(store, TrialState.RUNNING)[0]


def test_enqueued_cells_wait(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1), cell(2)], {})
    assert keys(store, TrialState.WAITING) == ["key-1", "key-2"]
    assert store.counts(NAME) == {"WAITING": 2}


def test_enqueue_twice_is_the_same_as_once(store: Search) -> None:
    for _ in range(2):
        store.enqueue(NAME, "maximize", [cell(1), cell(2)], {})
    assert store.counts(NAME) == {"WAITING": 2}


def test_a_cell_that_was_tried_waits_for_the_next_run(store: Search) -> None:
    def crash(claim: Claim) -> Finished:
        raise RuntimeError(claim.run_key)

    store.enqueue(NAME, "maximize", [cell(1)], {})
    store.work([NAME], crash)
    store.enqueue(NAME, "maximize", [cell(1), cell(2)], {}, tried={"key-1"})
    assert keys(store, TrialState.WAITING) == ["key-2"]
    store.enqueue(NAME, "maximize", [cell(1), cell(2)], {})
    assert keys(store, TrialState.WAITING) == ["key-1", "key-2"]


def test_a_tried_cell_that_another_run_lets_wait_is_left_to_it(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    store.enqueue(NAME, "maximize", [cell(1), cell(2)], {}, tried={"key-1"})
    assert keys(store, TrialState.WAITING) == ["key-1", "key-2"]


def test_nobody_claims_a_cell_while_another_plans(tmp_path: Path) -> None:
    """Two processes have two locks on one file."""
    planner, worker = open_search(tmp_path), open_search(tmp_path)
    planner.enqueue(NAME, "maximize", [cell(1)], {})
    worked: list[str] = []
    thread = threading.Thread(
        target=worker.work,
        args=([NAME], lambda claim: worked.append(claim.run_key) or finish(claim)),  # type: ignore[func-returns-value]
    )
    with planner.planning():
        thread.start()
        thread.join(timeout=0.3)
        assert (worked, thread.is_alive()) == ([], True)
    thread.join(timeout=60)
    assert worked == ["key-1"]


def test_enqueue_after_the_work_adds_nothing(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    store.work([NAME], finish)
    store.enqueue(NAME, "maximize", [cell(1)], {"key-1": result("key-1")})
    assert store.counts(NAME) == {"COMPLETE": 1}


def test_a_cell_that_is_done_is_complete_without_work(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {"key-1": Finished(0.75, "r1", "finished")})
    store.work([NAME], lambda claim: pytest.fail(f"{claim.run_key} was trained"))
    (trial,) = trials(store, TrialState.COMPLETE)
    assert (trial.value, trial.params, trial.user_attrs["run_id"]) == (0.75, {SEED: 1}, "r1")


def test_a_diverged_run_is_complete_with_the_worst_value(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {"key-1": Finished(float("-inf"), "r1", "diverged")})
    (trial,) = trials(store, TrialState.COMPLETE)
    assert (trial.value, trial.user_attrs["outcome"]) == (float("-inf"), "diverged")


def test_a_waiting_cell_that_was_finished_elsewhere_is_complete(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    store.enqueue(NAME, "maximize", [cell(1)], {"key-1": result("key-1")})
    assert keys(store, TrialState.COMPLETE) == ["key-1"]
    assert keys(store, TrialState.WAITING) == []


def test_work_completes_each_cell_once(store: Search) -> None:
    worked: list[str] = []
    store.enqueue(NAME, "maximize", [cell(seed) for seed in (1, 2, 3)], {})
    store.work([NAME], lambda claim: worked.append(claim.run_key) or finish(claim))  # type: ignore[func-returns-value]
    assert sorted(worked) == keys(store, TrialState.COMPLETE) == ["key-1", "key-2", "key-3"]


def test_optuna_is_told_value_parameters_and_run(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(2)], {})
    store.work([NAME], finish)
    (trial,) = trials(store)
    assert (trial.value, trial.params) == (0.2, {SEED: 2})
    assert (trial.user_attrs["run_id"], trial.user_attrs["outcome"]) == ("run-of-key-2", "finished")


def test_every_kind_of_range_keeps_its_planned_value(store: Search) -> None:
    space = {
        SEED: SEEDS,
        **LEARNING_RATE,
        "optimizer.name": Range(choices=("adam", "sgd")),
        "train.batch_size": Range(low=8, high=64),
    }
    values = {SEED: 7, "optimizer.learning_rate": 0.0123, "optimizer.name": "sgd", "train.batch_size": 16}
    store.enqueue(NAME, "maximize", [Cell("key-1", values, space)], {})
    store.work([NAME], finish)
    assert trials(store, TrialState.COMPLETE)[0].params == values


def test_the_study_with_the_fewest_claimed_cells_is_served_first(store: Search) -> None:
    worked: list[str] = []
    store.enqueue("a", "maximize", [cell(1), cell(2)], {})
    store.enqueue("b", "maximize", [cell(3), cell(4)], {})
    store.work(["a", "b"], lambda claim: worked.append(claim.run_key) or finish(claim))  # type: ignore[func-returns-value]
    assert worked == ["key-1", "key-3", "key-2", "key-4"]


def test_work_stops_when_it_is_told_to(store: Search) -> None:
    worked: list[str] = []
    store.enqueue(NAME, "maximize", [cell(1), cell(2)], {})
    stop: Callable[[], bool] = lambda: len(worked) > 0  # noqa: E731
    store.work([NAME], lambda claim: worked.append(claim.run_key) or finish(claim), stop)  # type: ignore[func-returns-value]
    assert store.counts(NAME) == {"COMPLETE": 1, "WAITING": 1}


def crash(claim: Claim) -> Finished:
    raise RuntimeError("out of memory")


def test_a_crash_fails_the_cell_and_not_the_work(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1), cell(2)], {})
    store.work([NAME], lambda claim: crash(claim) if claim.run_key == "key-1" else finish(claim))
    assert (keys(store, TrialState.FAIL), keys(store, TrialState.COMPLETE)) == (["key-1"], ["key-2"])


def test_a_crashed_cell_is_enqueued_again_the_next_time(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    store.work([NAME], crash)
    store.enqueue(NAME, "maximize", [cell(1)], {})
    store.work([NAME], finish)
    assert store.counts(NAME) == {"COMPLETE": 1, "FAIL": 1}


def test_a_cell_that_the_plan_no_longer_has_is_withdrawn(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1), cell(2)], {})
    store.enqueue(NAME, "maximize", [cell(2), cell(3)], {})
    assert keys(store, TrialState.WAITING) == ["key-2", "key-3"]
    assert keys(store, TrialState.FAIL) == ["key-1"]


def test_the_cell_of_a_dead_worker_is_given_away(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    claim(store, DEAD)
    store.work([NAME], finish)
    (trial,) = trials(store, TrialState.COMPLETE)
    assert (trial.user_attrs["run_key"], trial.params) == ("key-1", {SEED: 1})
    assert store.counts(NAME) == {"COMPLETE": 1, "FAIL": 1}


def test_the_retry_of_a_dead_workers_cell_belongs_to_nobody_yet(store: Search) -> None:
    """Claimed with the dead worker's name still on it, it would be given away a second time."""
    store.enqueue(NAME, "maximize", [cell(1)], {})
    claim(store, DEAD)
    store.enqueue(NAME, "maximize", [cell(1)], {})
    (retry,) = trials(store, TrialState.WAITING)
    assert retry.user_attrs["run_key"] == "key-1"
    assert "owner" not in retry.user_attrs


def test_the_cell_of_a_living_worker_is_left_to_it(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    claim(store, owner())
    store.enqueue(NAME, "maximize", [cell(1)], {})
    assert store.counts(NAME) == {"RUNNING": 1}


def test_a_worker_on_another_machine_is_not_taken_for_dead(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    claim(store, "elsewhere 999999999 1.00")
    store.enqueue(NAME, "maximize", [cell(1)], {})
    assert store.counts(NAME) == {"RUNNING": 1}


def work_together(folder: Path, workers: int) -> list[str]:
    """Let some workers, each with a connection of its own, work until nothing is left; return what they worked on."""
    worked: list[str] = []
    stores = [open_search(folder) for _ in range(workers)]

    def note(claim: Claim) -> Finished:
        worked.append(claim.run_key)
        return finish(claim)

    threads = [threading.Thread(target=store.work, args=([NAME], note)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(worked)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_side_by_side_complete_each_cell_exactly_once(tmp_path: Path, store: Search, workers: int) -> None:
    store.enqueue(NAME, "maximize", [cell(seed) for seed in range(9)], {})
    worked = work_together(tmp_path, workers)
    assert worked == keys(store, TrialState.COMPLETE) == [f"key-{seed}" for seed in range(9)]
    assert store.counts(NAME) == {"COMPLETE": 9}  # not an empty trial for whoever came too late


def test_who_comes_too_late_for_the_last_cell_leaves_no_trial(tmp_path: Path, store: Search) -> None:
    """The other takes it between this worker's look at what waits and its claim."""
    store.enqueue(NAME, "maximize", [cell(1)], {})
    late = open_search(tmp_path)
    late._claim(late._study(NAME), finish)
    store._claim(store._study(NAME), lambda claim: pytest.fail(f"{claim.run_key} was worked on twice"))
    assert store.counts(NAME) == {"COMPLETE": 1}


def test_workers_side_by_side_give_a_dead_ones_cell_away_once(tmp_path: Path, store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    claim(store, DEAD)
    assert work_together(tmp_path, 4) == keys(store, TrialState.COMPLETE) == ["key-1"]


def test_counts_of_a_study_that_is_not_there_is_empty(store: Search) -> None:
    assert store.counts("nothing") == {}


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "optuna.db", "not a database " * 100)
    with pytest.raises(StoreError, match=r"optuna\.db: cannot be opened \(.*not a database"):
        open_search(tmp_path)


def enqueue_one(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(enqueue_one, id="enqueue"),
        pytest.param(lambda store: store.work([NAME], finish), id="work"),
        pytest.param(lambda store: store.bury([NAME], "key-1"), id="bury"),
        pytest.param(lambda store: store.give_up([NAME], "key-1", 1), id="give up"),
        pytest.param(lambda store: store.counts(NAME), id="counts"),
        pytest.param(lambda store: store.claimed(), id="claimed"),
    ],
)
def test_a_store_that_breaks_after_it_was_opened_is_told_by_whoever_uses_it(
    tmp_path: Path, store: Search, use: Callable[[Search], object]
) -> None:
    enqueue_one(store)
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as database, database:
        database.execute("DROP TABLE studies")
    with pytest.raises(StoreError, match=r"optuna\.db: cannot be used \(.*no such table.*put this one aside"):
        use(store)


def lose(store: Search, to: TrialState = TrialState.FAIL) -> None:
    """Take a cell from a worker that is silent: what a grace period that has passed does."""
    (trial,) = trials(store, TrialState.RUNNING)
    store._storage.set_trial_state_values(trial._trial_id, state=to)


def test_a_worker_that_lost_its_cell_can_neither_end_it_nor_stop_the_work(store: Search) -> None:
    written: list[str] = []

    def slow(claim: Claim) -> Finished:
        assert not claim.is_lost()
        lose(store)
        assert claim.is_lost()
        with claim.ending():
            written.append(claim.run_key)
        return finish(claim)

    store.enqueue(NAME, "maximize", [cell(1)], {})
    store.work([NAME], slow)
    assert written == []
    assert store.counts(NAME) == {"FAIL": 1}


def test_a_lost_claim_says_why(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    trial = claim(store, owner())
    held = store._held("key-1", trial._trial_id)
    lose(store)
    with pytest.raises(ClaimLostError, match="silent for too long"), held.ending():
        pytest.fail("its result was written")


def test_nobody_takes_a_cell_while_its_result_is_written(tmp_path: Path, store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    held = store._held("key-1", claim(store, DEAD)._trial_id)
    other = open_search(tmp_path)
    thread = threading.Thread(target=other.bury, args=([NAME], "key-1"))
    with held.ending():
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        assert not held.is_lost()
    thread.join(timeout=60)
    assert held.is_lost()


def test_a_dead_workers_cell_is_lost_only_after_its_last_try(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    lost = []
    for _ in range(search.TRIES):
        claim(store, DEAD)
        lost.append(store.bury([NAME], "key-1"))
    assert lost == [False] * (search.TRIES - 1) + [True]
    assert keys(store, TrialState.WAITING) == []


def test_a_cell_that_is_given_up_is_not_tried_again(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    claim(store, owner())
    assert not store.give_up([NAME], "key-1", pid=999999999)
    assert store.counts(NAME) == {"RUNNING": 1}
    assert store.give_up([NAME], "key-1", psutil.Process().pid)
    assert store.counts(NAME) == {"FAIL": 1}
    assert store.bury([NAME], "key-1")


def test_a_finished_cell_is_not_lost_with_its_worker(store: Search) -> None:
    store.enqueue(NAME, "maximize", [cell(1)], {})
    store.work([NAME], finish)
    assert not store.bury([NAME], "key-1")
