from __future__ import annotations

import datetime
import errno
import os
import shutil
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import psutil
import pytest
import sqlalchemy
from makers import LEARNING_RATE, wear_out, write
from optuna.trial import FrozenTrial, TrialState

from stn_bench.runner import queue
from stn_bench.runner.leases import TRIES, Finished, Lease
from stn_bench.runner.queue import Queue
from stn_bench.runner.queue.owner import is_dead, owner
from stn_bench.runner.queue.rows import SEED, SEEDS, QueuedJob
from stn_bench.study.spec import Range
from stn_bench.system.errors import Interrupted, LeaseLostError, MachineError, StoreAwayError, StoreError
from stn_bench.system.machine import machine_name

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as the queue does

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


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of an empty store: making Optuna's tables takes longer than copying them."""
    folder = tmp_path_factory.mktemp("empty")
    open_queue(folder)
    return folder / "optuna.db"


@pytest.fixture
def store(tmp_path: Path, empty: Path) -> Queue:
    shutil.copy(empty, tmp_path)
    return open_queue(tmp_path)


def trials(store: Queue, state: TrialState | None = None) -> list[FrozenTrial]:
    """Return the trials of the one study, read past our own door."""
    found = optuna.load_study(study_name=NAME, storage=store._storage).get_trials(deepcopy=False)
    return [trial for trial in found if state in (None, trial.state)]


def keys(store: Queue, state: TrialState) -> list[str]:
    return sorted(trial.user_attrs["run_key"] for trial in trials(store, state))


def lease(store: Queue, leased_by: str) -> FrozenTrial:
    """Leave a job RUNNING, as a worker does that dies in the middle of it."""
    study = optuna.load_study(study_name=NAME, storage=store._storage)
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
    """The other, on a machine that has another lock, takes it between this worker's look and its lease."""
    store.enqueue(NAME, "maximize", [job(1)], {})
    (waiting,) = trials(store)
    assert open_queue(tmp_path)._storage.claim(waiting._trial_id)
    assert store._storage.claim(waiting._trial_id) is None
    assert store.counts(NAME) == {"RUNNING": 1}


def test_workers_side_by_side_give_a_dead_ones_job_away_once(tmp_path: Path, store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    lease(store, DEAD)
    assert work_together(tmp_path, 4) == keys(store, TrialState.COMPLETE) == ["key-1"]


def test_a_study_is_open_while_a_job_of_it_waits_or_runs(store: Queue) -> None:
    assert not store.any_open("small")
    store.enqueue(NAME, "maximize", [job(1)], {})
    assert store.any_open("small")
    assert not store.any_open("smal")
    store.work([NAME], lambda lease: finish(lease) if store.any_open("small") else crash(lease))
    assert store.counts(NAME) == {"COMPLETE": 1}
    assert not store.any_open("small")


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
        pytest.param(lambda store: store.give_up([NAME], "key-1", machine_name(), 1), id="give up"),
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
    for _ in range(TRIES):
        lease(store, DEAD)
        lost.append(store.bury([NAME], "key-1"))
    assert lost == [False] * (TRIES - 1) + [True]
    assert keys(store, TrialState.WAITING) == []


def test_only_a_job_whose_last_worker_died_too_is_lost(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(seed) for seed in range(1, 6)], {})
    wear_out(store, [NAME], "key-1", deaths=TRIES - 1)
    wear_out(store, [NAME], "key-2", deaths=TRIES - 1)
    assert store.lost([NAME]) == frozenset()
    wear_out(store, [NAME], "key-2", deaths=1)
    wear_out(store, [NAME], "key-3")
    assert store.lost([NAME]) == {"key-2", "key-3"}
    store.enqueue(NAME, "maximize", [job(3), job(4)], {})  # the next `run` tries one anew, and takes back the others
    assert store.counts(NAME) == {"FAIL": 2 * TRIES + TRIES - 1 + 2, "WAITING": 2}
    assert store.lost([NAME]) == {"key-2"}
    store.work([NAME], finish)
    assert store.lost([NAME]) == {"key-2"}


@pytest.mark.parametrize(("error", "waits"), [(StoreAwayError("away"), 1), (StoreError("broken"), 0)])
def test_a_store_that_is_away_is_no_death_of_a_worker(store: Queue, error: StoreError, waits: int) -> None:
    def refuse(lease: Lease) -> Finished:
        raise error

    store.enqueue(NAME, "maximize", [job(1)], {})
    tries = iter(range(TRIES + 1))
    store.work([NAME], refuse, lambda: next(tries) >= TRIES)
    assert len(keys(store, TrialState.WAITING)) == waits


def test_who_waits_for_one_study_lets_others_look_for_theirs(store: Queue) -> None:
    looked = []
    for study in ("one", "two", "one"):
        store.work([f"{study} / base / verdict"], finish)
        looked.append(store._looked)
    assert looked[0] == looked[2] != looked[1]


def test_a_job_that_is_given_up_is_not_tried_again(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    lease(store, owner())
    assert not store.give_up([NAME], "key-1", machine_name(), 999999999)
    assert store.counts(NAME) == {"RUNNING": 1}
    assert store.give_up([NAME], "key-1", machine_name(), psutil.Process().pid)
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


# What a look costs ---------------------------------------------------------------------------------------------------


Statements = list[tuple[str, tuple[object, ...]]]


def statements_of_a_claim(folder: Path, arms: int, done: int) -> Statements:
    """Return what the store is asked from one job to the next: the end of the one, and the claim of the other."""
    folder.mkdir()
    store, asked, by_job = open_queue(folder), Statements(), list[Statements]()
    names = [f"arm {number}" for number in range(arms)]
    with store.planning():
        for name in names:
            jobs = [QueuedJob(f"{name}-{seed}", {SEED: seed}, {SEED: SEEDS}) for seed in range(done + 4)]
            store.enqueue(name, "maximize", jobs, {one.run_key: Finished(0.5, "r", "finished") for one in jobs[:done]})

    def take_note(lease: Lease) -> Finished:
        by_job.append(asked.copy())
        asked.clear()
        return Finished(0.5, "r", "finished")

    sqlalchemy.event.listen(
        store._storage.engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, parameters, *rest: asked.append((statement, parameters)),
    )
    store.work(names, take_note, lambda: len(by_job) == 3)
    return by_job[-1]


def test_a_claim_asks_as_much_whatever_the_number_of_arms_and_of_finished_jobs(tmp_path: Path) -> None:
    few = [statement for statement, _ in statements_of_a_claim(tmp_path / "few", arms=2, done=1)]
    many = [statement for statement, _ in statements_of_a_claim(tmp_path / "many", arms=40, done=20)]
    assert len(few) == len(many) > 0


def test_no_statement_of_a_claim_reads_all_trials(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    asked = statements_of_a_claim(folder, arms=3, done=3)
    with closing(sqlite3.connect(folder / "optuna.db")) as database:
        plans = [database.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall() for statement, values in asked]
    details = [detail for plan in plans for *_, detail in plan]
    assert any("stn_bench_trials_by_state" in detail for detail in details)
    assert any("stn_bench_trials_by_run_key" in detail for detail in details)
    assert [detail for detail in details if detail.startswith("SCAN")] == []


def test_of_the_workers_that_wait_one_looks_at_a_time(tmp_path: Path, store: Queue) -> None:
    """However many there are: who has looked in vain lets the others wait, who has found something lets them look."""
    other = open_queue(tmp_path)
    store._note_look(in_vain=True)
    assert not other._is_due()
    os.utime(tmp_path / "search.looked", (0, 0))
    assert other._is_due()
    store._note_look(in_vain=True)
    store._note_look(in_vain=False)
    assert other._is_due()


def test_a_clock_that_was_set_back_does_not_keep_workers_waiting(tmp_path: Path, store: Queue) -> None:
    store._note_look(in_vain=True)
    os.utime(tmp_path / "search.looked", (2**31, 2**31))
    assert store._is_due()


# What Optuna sees ----------------------------------------------------------------------------------------------------


def test_what_is_planned_is_entered_as_the_planning_ends(store: Queue) -> None:
    names = ["a", "b"]
    with store.planning():
        for name in names:
            store.enqueue(name, "minimize", [QueuedJob(f"{name}-1", {SEED: 1}, {SEED: SEEDS})], {})
        assert [store.counts(name) for name in names] == [{}, {}]
    assert [store.counts(name) for name in names] == [{"WAITING": 1}] * 2
    assert optuna.load_study(study_name="b", storage=store._storage).direction.name == "MINIMIZE"


def test_a_planning_that_fails_enters_nothing(store: Queue) -> None:
    def plan() -> None:
        with store.planning():
            store.enqueue(NAME, "maximize", [job(1)], {})
            raise RuntimeError("as planned")

    with pytest.raises(RuntimeError, match="as planned"):
        plan()
    assert store.counts(NAME) == {}
    store.enqueue(NAME, "maximize", [job(1)], {})
    assert store.counts(NAME) == {"WAITING": 1}


def test_optunas_own_tools_show_jobs_that_wait_run_and_are_done(store: Queue) -> None:
    before = datetime.datetime.now() - datetime.timedelta(seconds=1)
    store.enqueue(NAME, "maximize", [job(1), job(2), job(3)], {"key-3": result("key-3")})
    answers = iter([False])
    store.work([NAME], finish, lambda: next(answers, True))
    found = optuna.load_study(study_name=NAME, storage=store._storage)
    assert [(trial.number, trial.state.name, trial.params) for trial in found.trials] == [
        (0, "COMPLETE", {SEED: 1}),
        (1, "WAITING", {SEED: 2}),
        (2, "COMPLETE", {SEED: 3}),
    ]
    for trial in (found.trials[0], found.trials[2]):
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert before <= trial.datetime_start <= trial.datetime_complete <= datetime.datetime.now()
    assert found.best_trial.number == 2
    frame = found.trials_dataframe()
    assert list(frame[f"params_{SEED}"]) == [1, 2, 3]


def test_equal_ranges_of_other_kinds_are_kept_apart(store: Queue) -> None:
    """1 == 1.0 == True in Python, and not in what Optuna shows."""
    kinds: dict[str, tuple[object, ...]] = {"whole": (0, 1), "real": (0.0, 1.0), "yes or no": (False, True)}
    space = {name: Range(choices=choices) for name, choices in kinds.items()}  # type: ignore[arg-type]
    store.enqueue(NAME, "maximize", [QueuedJob("key-1", {name: kind[1] for name, kind in kinds.items()}, space)], {})
    (trial,) = trials(store)
    assert [repr(value) for value in trial.params.values()] == ["1", "1.0", "True"]


def test_numbers_go_on_where_trials_were_entered_before(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1), job(2)], {})
    store.enqueue(NAME, "maximize", [job(seed) for seed in range(5)], {})
    assert [trial.number for trial in trials(store)] == [0, 1, 2, 3, 4]


# A worker's life -----------------------------------------------------------------------------------------------------


def test_a_leased_job_has_its_owner_and_a_heartbeat_from_the_first_moment(store: Queue) -> None:
    """In one transaction: a worker that dies between two would leave a job that nobody can give away."""
    store.enqueue(NAME, "maximize", [job(1)], {})
    (waiting,) = trials(store)
    store._storage.claim(waiting._trial_id)
    (running,) = store._storage.running()
    assert (running.owner, running.is_stale) == (owner(), False)
    with store._storage.engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM trial_heartbeats")).scalar_one() == 1


def claim_elsewhere(store: Queue, beat: str) -> None:
    """Lease the one waiting job as a worker on another machine, whose last sign of life is of then."""
    (waiting,) = trials(store, TrialState.WAITING)
    assert store._storage.claim(waiting._trial_id)
    with store._storage.engine.begin() as connection:
        there = {"owner": '"elsewhere 1 1.00"', "beat": beat}
        connection.execute(
            sqlalchemy.text("UPDATE trial_user_attributes SET value_json = :owner WHERE key = 'owner'"), there
        )
        connection.execute(sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = :beat"), there)


def test_the_job_of_a_worker_elsewhere_is_given_away_after_its_grace(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    claim_elsewhere(store, "2026-01-01 00:00:00")
    store.work([NAME], finish)
    assert store.counts(NAME) == {"COMPLETE": 1, "FAIL": 1}


def test_a_worker_gives_signs_of_life(tmp_path: Path) -> None:
    store = Queue(f"sqlite:///{tmp_path / 'optuna.db'}", heartbeat=1, lock=tmp_path / "search.lock")
    beats: list[object] = []

    def wait_for_a_beat(lease: Lease) -> Finished:
        with store._storage.engine.begin() as connection:
            connection.execute(sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'"))
        while beats[-1:] in ([], ["2026-01-01 00:00:00"]):
            time.sleep(0.05)
            with store._storage.engine.connect() as connection:
                beats.append(connection.execute(sqlalchemy.text("SELECT heartbeat FROM trial_heartbeats")).scalar())
        return finish(lease)

    store.enqueue(NAME, "maximize", [job(1)], {})
    store.work([NAME], wait_for_a_beat)
    assert keys(store, TrialState.COMPLETE) == ["key-1"]


def is_first(store: Queue, name: str = NAME, *, crashes: bool = False) -> list[bool]:
    """Work on what waits, and return whether each lease was known to be the first of its job."""
    found: list[bool] = []

    def note(lease: Lease) -> Finished:
        found.append(lease.is_first)
        if crashes:
            raise RuntimeError("as planned")
        return finish(lease)

    store.work([name], note)
    return found


def test_a_lease_tells_whether_it_is_the_first_of_its_job(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    assert is_first(store, crashes=True) == [True]
    store.enqueue(NAME, "maximize", [job(1), job(2)], {})
    assert is_first(store) == [False, True]
    store.enqueue("another study", "maximize", [job(2), job(3)], {})
    assert is_first(store, "another study") == [False, True]


def test_a_job_is_not_lost_where_another_study_has_it_too(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    store.enqueue("another study", "maximize", [job(1)], {})
    store.work([NAME], crash)
    assert store.bury([NAME], "key-1")
    assert not store.bury(["another study"], "key-1")


def test_jobs_that_were_deleted_meanwhile_end_the_work(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1), job(2)], {})

    def delete(lease: Lease) -> Finished:
        optuna.delete_study(study_name=NAME, storage=store._storage)
        return finish(lease)

    with pytest.raises(StoreError, match="jobs were deleted while they waited; run again"):
        store.work([NAME], delete)


# Given back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        Interrupted("stopped"),
        MachineError("the disk is full"),
        StoreError("gone"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_job_that_is_no_ones_fault_waits_for_another_worker(store: Queue, error: BaseException) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    tries: list[bool] = []

    def attempt(lease: Lease) -> Finished:
        tries.append(lease.is_first)
        if len(tries) == 1:
            raise error
        return finish(lease)

    store.work([NAME], attempt, should_stop=lambda: len(tries) == 1)
    assert store.counts(NAME) == {"FAIL": 1, "WAITING": 1}
    store.work([NAME], attempt)
    assert store.counts(NAME) == {"COMPLETE": 1, "FAIL": 1}
    assert tries == [True, False]
    assert [trial.params for trial in trials(store)] == [{SEED: 1}] * 2


def test_a_job_may_be_given_back_any_number_of_times_but_not_die_so_often(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    for _ in range(2 * TRIES):
        store._storage.release(lease(store, owner())._trial_id, has_died=False)
    assert store.counts(NAME) == {"FAIL": 2 * TRIES, "WAITING": 1}
    for _ in range(TRIES):
        store._storage.release(lease(store, owner())._trial_id)
    assert store.counts(NAME) == {"FAIL": 3 * TRIES}


def test_a_worker_of_another_machine_of_the_same_name_is_not_taken_for_dead() -> None:
    name, _, rest = DEAD.partition(" ")
    host, _, _ = name.rpartition(".")
    assert is_dead(DEAD)
    assert not is_dead(f"{host}.00000000 {rest}")


def test_a_job_whose_run_is_closed_is_left_to_its_worker_to_end(store: Queue) -> None:
    """Another machine plans between the two: it must not end the job besides."""
    store.enqueue(NAME, "maximize", [job(1)], {})

    def closed(lease: Lease) -> Finished:
        store.enqueue(NAME, "maximize", [job(1)], {"key-1": result("key-1")})
        return finish(lease)

    store.work([NAME], closed)
    assert store.counts(NAME) == {"COMPLETE": 1}


def test_a_job_whose_run_was_closed_by_a_worker_that_died_is_done(store: Queue) -> None:
    store.enqueue(NAME, "maximize", [job(1)], {})
    lease(store, DEAD)
    store.enqueue(NAME, "maximize", [job(1)], {"key-1": result("key-1")})
    assert store.counts(NAME) == {"COMPLETE": 1, "FAIL": 2}
