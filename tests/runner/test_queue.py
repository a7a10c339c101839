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

from stn_bench.runner import queue
from stn_bench.runner.queue import SEED, SEEDS, Finished, Lease, Queue, QueuedJob, owner
from stn_bench.study.spec import Range
from stn_bench.system.errors import LeaseLostError, StoreError

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as queue.py does

NAME = "small / base / verdict"
DEAD = owner().replace(f" {psutil.Process().pid} ", " 999999999 ")  # no process has this number


def job(seed: int) -> QueuedJob:
    return QueuedJob(f"key-{seed}", {SEED: seed}, {SEED: SEEDS})


def open_queue(folder: Path) -> Queue:
    return Queue(f"sqlite:///{folder / 'optuna.db'}", heartbeat=15, lock=folder / "search.lock")


def result(run_key: str) -> Finished:
    return Finished(float(run_key.removeprefix("key-")) / 10, f"run-of-{run_key}", "finished")


def finish(lease: Lease) -> Finished:
    return result(lease.run_key)


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.02)


@pytest.fixture
def store(tmp_path: Path) -> Queue:
    return open_queue(tmp_path)


def trials(store: Queue, state: TrialState | None = None) -> list[FrozenTrial]:
    """Return the trials of the one study, read past our own door."""
    found = optuna.load_study(study_name=NAME, storage=store._storage).get_trials(deepcopy=False)
    return [trial for trial in found if state in (None, trial.state)]


def keys(store: Queue, state: TrialState) -> list[str]:
    return sorted(trial.user_attrs["run_key"] for trial in trials(store, state))


def lease(store: Queue, leased_by: str) -> FrozenTrial:
    """Leave a job RUNNING, as a worker does that dies in the middle of it."""
    study = optuna.load_study(study_name=NAME, storage=store._storage, sampler=queue._OnlyEnqueued())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        study.ask().set_user_attr("owner", leased_by)
    return trials(store, TrialState.RUNNING)[0]


def test_enqueued_jobs_wait(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1), job(2)], {})
    assert keys(store, TrialState.WAITING) == ["key-1", "key-2"]
    assert store.counts(NAME) == {"WAITING": 2}


def test_enqueue_twice_is_the_same_as_once(store: Queue) -> None:
    for _ in range(2):
        store.enqueue(NAME, "maximize", [job(1), job(2)], {})
    assert store.counts(NAME) == {"WAITING": 2}


def test_a_job_that_was_tried_waits_for_the_next_run(store: Queue) -> None:
    def crash(lease: Lease) -> Finished:
        raise RuntimeError(lease.run_key)

    store.enqueue(NAME, "maximize", [job(1)], {})
    store.work([NAME], crash)
    store.enqueue(NAME, "maximize", [job(1), job(2)], {}, tried={"key-1"})
    assert keys(store, TrialState.WAITING) == ["key-2"]
    store.enqueue(NAME, "maximize", [job(1), job(2)], {})
    assert keys(store, TrialState.WAITING) == ["key-1", "key-2"]


def test_a_tried_job_that_another_run_lets_wait_is_left_to_it(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    store.enqueue(NAME, "maximize", [job(1), job(2)], {}, tried={"key-1"})
    assert keys(store, TrialState.WAITING) == ["key-1", "key-2"]


def test_nobody_leases_a_job_while_another_plans(tmp_path: Path) -> None:
    """Two processes have two locks on one file."""
    planner, worker = open_queue(tmp_path), open_queue(tmp_path)
    planner.enqueue(NAME, "maximize", [job(1)], {})
    worked: list[str] = []
    thread = threading.Thread(
        target=worker.work,
        args=([NAME], lambda lease: worked.append(lease.run_key) or finish(lease)),  # type: ignore[func-returns-value]
    )
    with planner.planning():
        thread.start()
        thread.join(timeout=0.3)
        assert (worked, thread.is_alive()) == ([], True)
    thread.join(timeout=60)
    assert worked == ["key-1"]


def test_enqueue_after_the_work_adds_nothing(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    store.work([NAME], finish)
    store.enqueue(NAME, "maximize", [job(1)], {"key-1": result("key-1")})
    assert store.counts(NAME) == {"COMPLETE": 1}


def test_a_job_that_is_done_is_complete_without_work(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {"key-1": Finished(0.75, "r1", "finished")})
    store.work([NAME], lambda lease: pytest.fail(f"{lease.run_key} was trained"))
    (trial,) = trials(store, TrialState.COMPLETE)
    assert (trial.value, trial.params, trial.user_attrs["run_id"]) == (0.75, {SEED: 1}, "r1")


def test_a_diverged_run_is_complete_with_the_worst_value(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {"key-1": Finished(float("-inf"), "r1", "diverged")})
    (trial,) = trials(store, TrialState.COMPLETE)
    assert (trial.value, trial.user_attrs["outcome"]) == (float("-inf"), "diverged")


def test_a_waiting_job_that_was_finished_elsewhere_is_complete(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    store.enqueue(NAME, "maximize", [job(1)], {"key-1": result("key-1")})
    assert keys(store, TrialState.COMPLETE) == ["key-1"]
    assert keys(store, TrialState.WAITING) == []


def test_work_completes_each_job_once(store: Queue) -> None:
    worked: list[str] = []
    store.enqueue(NAME, "maximize", [job(seed) for seed in (1, 2, 3)], {})
    store.work([NAME], lambda lease: worked.append(lease.run_key) or finish(lease))  # type: ignore[func-returns-value]
    assert sorted(worked) == keys(store, TrialState.COMPLETE) == ["key-1", "key-2", "key-3"]


def test_optuna_is_told_value_parameters_and_run(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(2)], {})
    store.work([NAME], finish)
    (trial,) = trials(store)
    assert (trial.value, trial.params) == (0.2, {SEED: 2})
    assert (trial.user_attrs["run_id"], trial.user_attrs["outcome"]) == ("run-of-key-2", "finished")


def test_every_kind_of_range_keeps_its_planned_value(store: Queue) -> None:
    space = {
        SEED: SEEDS,
        **LEARNING_RATE,
        "optimizer.name": Range(choices=("adam", "sgd")),
        "train.batch_size": Range(low=8, high=64),
    }
    values = {SEED: 7, "optimizer.learning_rate": 0.0123, "optimizer.name": "sgd", "train.batch_size": 16}
    store.enqueue(NAME, "maximize", [QueuedJob("key-1", values, space)], {})
    store.work([NAME], finish)
    assert trials(store, TrialState.COMPLETE)[0].params == values


def test_the_study_with_the_fewest_leased_jobs_is_served_first(store: Queue) -> None:
    worked: list[str] = []
    store.enqueue("a", "maximize", [job(1), job(2)], {})
    store.enqueue("b", "maximize", [job(3), job(4)], {})
    store.work(["a", "b"], lambda lease: worked.append(lease.run_key) or finish(lease))  # type: ignore[func-returns-value]
    assert worked == ["key-1", "key-3", "key-2", "key-4"]


def test_work_stops_when_it_is_told_to(store: Queue) -> None:
    worked: list[str] = []
    store.enqueue(NAME, "maximize", [job(1), job(2)], {})
    stop: Callable[[], bool] = lambda: len(worked) > 0  # noqa: E731
    store.work([NAME], lambda lease: worked.append(lease.run_key) or finish(lease), stop)  # type: ignore[func-returns-value]
    assert store.counts(NAME) == {"COMPLETE": 1, "WAITING": 1}


def crash(lease: Lease) -> Finished:
    raise RuntimeError("out of memory")


def test_a_crash_fails_the_job_and_not_the_work(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1), job(2)], {})
    store.work([NAME], lambda lease: crash(lease) if lease.run_key == "key-1" else finish(lease))
    assert (keys(store, TrialState.FAIL), keys(store, TrialState.COMPLETE)) == (["key-1"], ["key-2"])


def test_a_crashed_job_is_enqueued_again_the_next_time(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    store.work([NAME], crash)
    store.enqueue(NAME, "maximize", [job(1)], {})
    store.work([NAME], finish)
    assert store.counts(NAME) == {"COMPLETE": 1, "FAIL": 1}


def test_a_job_that_the_plan_no_longer_has_is_withdrawn(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1), job(2)], {})
    store.enqueue(NAME, "maximize", [job(2), job(3)], {})
    assert keys(store, TrialState.WAITING) == ["key-2", "key-3"]
    assert keys(store, TrialState.FAIL) == ["key-1"]


def test_the_job_of_a_dead_worker_is_given_away(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    lease(store, DEAD)
    store.work([NAME], finish)
    (trial,) = trials(store, TrialState.COMPLETE)
    assert (trial.user_attrs["run_key"], trial.params) == ("key-1", {SEED: 1})
    assert store.counts(NAME) == {"COMPLETE": 1, "FAIL": 1}


def test_the_retry_of_a_dead_workers_job_belongs_to_nobody_yet(store: Queue) -> None:
    """Leased with the dead worker's name still on it, it would be given away a second time."""
    store.enqueue(NAME, "maximize", [job(1)], {})
    lease(store, DEAD)
    store.enqueue(NAME, "maximize", [job(1)], {})
    (retry,) = trials(store, TrialState.WAITING)
    assert retry.user_attrs["run_key"] == "key-1"
    assert "owner" not in retry.user_attrs


def test_the_job_of_a_living_worker_is_left_to_it(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    lease(store, owner())
    store.enqueue(NAME, "maximize", [job(1)], {})
    assert store.counts(NAME) == {"RUNNING": 1}


def test_a_worker_on_another_machine_is_not_taken_for_dead(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    lease(store, "elsewhere 999999999 1.00")
    store.enqueue(NAME, "maximize", [job(1)], {})
    assert store.counts(NAME) == {"RUNNING": 1}


def work_together(folder: Path, workers: int) -> list[str]:
    """Let some workers, each with a connection of its own, work until nothing is left; return what they worked on."""
    worked: list[str] = []
    stores = [open_queue(folder) for _ in range(workers)]

    def note(lease: Lease) -> Finished:
        worked.append(lease.run_key)
        return finish(lease)

    threads = [threading.Thread(target=store.work, args=([NAME], note)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(worked)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_side_by_side_complete_each_job_exactly_once(tmp_path: Path, store: Queue, workers: int) -> None:
    store.enqueue(NAME, "maximize", [job(seed) for seed in range(9)], {})
    worked = work_together(tmp_path, workers)
    assert worked == keys(store, TrialState.COMPLETE) == [f"key-{seed}" for seed in range(9)]
    assert store.counts(NAME) == {"COMPLETE": 9}  # not an empty trial for whoever came too late


def test_who_comes_too_late_for_the_last_job_leaves_no_trial(tmp_path: Path, store: Queue) -> None:
    """The other takes it between this worker's look at what waits and its lease."""
    store.enqueue(NAME, "maximize", [job(1)], {})
    late = open_queue(tmp_path)
    late._lease(late._study(NAME), finish)
    store._lease(store._study(NAME), lambda lease: pytest.fail(f"{lease.run_key} was worked on twice"))
    assert store.counts(NAME) == {"COMPLETE": 1}


def test_workers_side_by_side_give_a_dead_ones_job_away_once(tmp_path: Path, store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    lease(store, DEAD)
    assert work_together(tmp_path, 4) == keys(store, TrialState.COMPLETE) == ["key-1"]


def test_counts_of_a_study_that_is_not_there_is_empty(store: Queue) -> None:
    assert store.counts("nothing") == {}


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "optuna.db", "not a database " * 100)
    with pytest.raises(StoreError, match=r"optuna\.db: cannot be opened \(.*not a database"):
        open_queue(tmp_path)


def enqueue_one(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(enqueue_one, id="enqueue"),
        pytest.param(lambda store: store.work([NAME], finish), id="work"),
        pytest.param(lambda store: store.bury([NAME], "key-1"), id="bury"),
        pytest.param(lambda store: store.give_up([NAME], "key-1", 1), id="give up"),
        pytest.param(lambda store: store.counts(NAME), id="counts"),
        pytest.param(lambda store: store.leased(), id="leased"),
    ],
)
def test_a_store_that_breaks_after_it_was_opened_is_told_by_whoever_uses_it(
    tmp_path: Path, store: Queue, use: Callable[[Queue], object]
) -> None:
    enqueue_one(store)
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as database, database:
        database.execute("DROP TABLE studies")
    with pytest.raises(StoreError, match=r"optuna\.db: cannot be used \(.*no such table.*put this one aside"):
        use(store)


def lose(store: Queue, to: TrialState = TrialState.FAIL) -> None:
    """Take a job from a worker that is silent: what a grace period that has passed does."""
    (trial,) = trials(store, TrialState.RUNNING)
    store._storage.set_trial_state_values(trial._trial_id, state=to)


def test_a_worker_that_lost_its_job_can_neither_end_it_nor_stop_the_work(store: Queue) -> None:
    written: list[str] = []

    def slow(lease: Lease) -> Finished:
        assert not lease.is_lost()
        lose(store)
        assert lease.is_lost()
        with lease.ending():
            written.append(lease.run_key)
        return finish(lease)

    store.enqueue(NAME, "maximize", [job(1)], {})
    store.work([NAME], slow)
    assert written == []
    assert store.counts(NAME) == {"FAIL": 1}


def test_a_lost_lease_says_why(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    trial = lease(store, owner())
    held = store._held("key-1", trial._trial_id)
    lose(store)
    with pytest.raises(LeaseLostError, match="silent for too long"), held.ending():
        pytest.fail("its result was written")


def test_nobody_takes_a_job_while_its_result_is_written(tmp_path: Path, store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    held = store._held("key-1", lease(store, DEAD)._trial_id)
    other = open_queue(tmp_path)
    thread = threading.Thread(target=other.bury, args=([NAME], "key-1"))
    with held.ending():
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        assert not held.is_lost()
    thread.join(timeout=60)
    assert held.is_lost()


def test_a_dead_workers_job_is_lost_only_after_its_last_try(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    lost = []
    for _ in range(queue.TRIES):
        lease(store, DEAD)
        lost.append(store.bury([NAME], "key-1"))
    assert lost == [False] * (queue.TRIES - 1) + [True]
    assert keys(store, TrialState.WAITING) == []


def test_a_job_that_is_given_up_is_not_tried_again(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    lease(store, owner())
    assert not store.give_up([NAME], "key-1", pid=999999999)
    assert store.counts(NAME) == {"RUNNING": 1}
    assert store.give_up([NAME], "key-1", psutil.Process().pid)
    assert store.counts(NAME) == {"FAIL": 1}
    assert store.bury([NAME], "key-1")


def test_a_finished_job_is_not_lost_with_its_worker(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    store.work([NAME], finish)
    assert not store.bury([NAME], "key-1")


def test_jobs_that_fail_are_served_in_turn_by_two_studies_until_one_is_done(store: Queue) -> None:
    """So that three of them tell whether any can be done, whatever the number of studies."""
    names = [f"small / {arm} / verdict" for arm in "abcd"]
    for name in names:
        store.enqueue(name, "maximize", [QueuedJob(f"{name} {n}", {SEED: n}, {SEED: SEEDS}) for n in (1, 2, 3)], {})
    done: list[str] = []

    def attempt(lease: Lease) -> Finished:
        done.append("".join(lease.run_key.split()[2::3]))
        if len(done) <= 4:
            raise RuntimeError("fails")
        return Finished(0.0, "r", "finished")

    store.work(names, attempt, is_doubtful=lambda: 0 < len(done) <= 4)
    assert done[:4] == ["a1", "b1", "a2", "b2"]
    assert sorted(done) == sorted(f"{arm}{n}" for arm in "abcd" for n in (1, 2, 3))
