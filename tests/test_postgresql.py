"""Both stores in a real PostgreSQL server that asks for a password, started for the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import pytest
from servers import INITDB, NEEDS_PGBOUNCER, NEEDS_POSTGRES, PASSWORD, PGBOUNCER, Postgres, pgbouncer, postgres
from sqlalchemy import NullPool, create_engine, event, inspect, text
from tiny import make_toy_root, stn_bench

from stn_bench.runner.leases import Finished, Lease
from stn_bench.runner.queue import Queue
from stn_bench.runner.queue.rows import SEED, SEEDS, QueuedJob
from stn_bench.system.postgres import SLOTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(INITDB is None, reason=NEEDS_POSTGRES),
]

MACHINES = 24
JOBS = 20  # of an arm


@pytest.fixture(scope="module")
def started() -> Iterator[Postgres]:
    """Yield a server."""
    with postgres() as found:
        yield found


@pytest.fixture
def server(started: Postgres) -> str:
    """Return the address, password and all, of a server with new databases `tracking` and `search`."""
    for name in ("tracking", "search"):
        started.call("dropdb", "--if-exists", "-h", "127.0.0.1", "-p", started.port, "-U", "bench", "--force", name)
        started.create(name)
    return started.address


def contents(url: str) -> str:
    """Return every row of every table of a database as text."""
    with create_engine(url, poolclass=NullPool).connect() as connection:  # which leaves nothing open
        tables = inspect(connection).get_table_names()
        return "\n".join(str(row) for name in tables for row in connection.execute(text(f'SELECT * FROM "{name}"')))


def test_a_study_runs_with_both_stores_in_postgresql_and_nothing_tells_the_password(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STN_BENCH_OPTUNA_URL", f"{server}/search")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/tracking")
    root = make_toy_root(tmp_path)
    run = stn_bench("run", "tiny", root=root)
    assert run.returncode == 0, run.stderr
    status = stn_bench("status", "tiny", "--json", root=root)
    told = json.loads(status.stdout)
    assert told["finished"] == told["planned"] == 6
    assert [path.name for path in root.glob("mlruns/*.db")] == ["records.db"]  # what was read, kept; no store

    files = [path for path in root.rglob("*") if path.is_file()]
    assert list(root.glob("mlruns/logs/*.log"))
    assert root / "reports/tiny/report.md" in files
    rows = {name: contents(f"{server}/{name}") for name in ("tracking", "search")}
    assert all(rows.values())
    written = [run.stdout, run.stderr, status.stderr, *rows.values()]
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
        assert not any(secret in one for one in written)


def test_a_wrong_password_is_one_line_that_does_not_tell_it(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = server.replace("bench:", "bench:wr0ng-")
    monkeypatch.setenv("STN_BENCH_OPTUNA_URL", f"{wrong}/search")
    root = make_toy_root(tmp_path)
    for tracking in (f"{wrong}/tracking", f"{server}/tracking"):  # the store that is opened first, and the other
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
        run = stn_bench("run", "tiny", root=root)
        assert run.returncode == 2
        assert len(run.stderr.splitlines()) <= 2, run.stderr
        assert "password authentication failed" in run.stderr
        assert "wr0ng" not in run.stdout + run.stderr


@pytest.fixture(params=[False, True], ids=["straight", "through a pool"])
def way(request: pytest.FixtureRequest, server: str, started: Postgres) -> Iterator[str]:
    """Return the address of the server, or of a pool that has fewer connections to it than there are machines."""
    if not request.param:
        yield server
        return
    if PGBOUNCER is None:
        pytest.skip(NEEDS_PGBOUNCER)
    with pgbouncer(started, connections=2 * SLOTS + 2) as port:
        yield started.through(port)


def test_machines_share_the_jobs_of_a_queue_in_postgresql(way: str, tmp_path: Path) -> None:
    """Each machine has a lock of its own: the store alone tells who was faster.

    They plan and lease at the same moment, so that most of them wait for a lock that another has.
    """
    names = [f"arm {number}" for number in range(3)]

    def open_queue(machine: str) -> Queue:
        return Queue(f"{way}/search", heartbeat=15, lock=tmp_path / machine / "search.lock")

    def jobs(name: str) -> list[QueuedJob]:
        return [QueuedJob(f"{name}, {seed}", {SEED: seed}, {SEED: SEEDS}) for seed in range(JOBS)]

    def enter(machine: str) -> None:
        with queues[machine].planning():
            for name in names:
                queues[machine].enqueue(name, "maximize", jobs(name), {})

    worked: list[str] = []

    def work(machine: str) -> None:
        def note(lease: Lease) -> Finished:
            worked.append(lease.run_key)
            return Finished(0.5, "run", "finished")

        queues[machine].work(names, note)

    machines = [f"machine {number}" for number in range(MACHINES)]
    queues = {machine: open_queue(machine) for machine in machines}
    for do in (enter, work):
        threads = [threading.Thread(target=do, args=(machine,)) for machine in machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    storage = queues[machines[0]]._storage
    numbers = [[trial.number for trial in optuna.load_study(study_name=n, storage=storage).trials] for n in names]
    done = sum(queues[machines[0]].counts(name)["COMPLETE"] for name in names)
    for queue in queues.values():
        queue._storage.remove_session()
        queue._storage.engine.dispose()
    assert numbers == [list(range(len(those))) for those in numbers]
    assert len(worked) == len(set(worked)) == done == JOBS * len(names)


def open_queue(server: str, folder: Path) -> Queue:
    return Queue(f"{server}/search", heartbeat=15, lock=folder / "search.lock")


def close(*queues: Queue) -> None:
    for queue in queues:
        queue._storage.remove_session()
        queue._storage.engine.dispose()


def ask(queue: Queue, statement: str) -> list[tuple[object, ...]]:
    with queue._storage.engine.begin() as connection:
        found = connection.execute(text(statement))
        return [tuple(row) for row in found] if found.returns_rows else []


def test_nobody_leases_a_job_while_another_machine_plans(server: str, tmp_path: Path) -> None:
    one, two = open_queue(server, tmp_path / "one"), open_queue(server, tmp_path / "two")
    one.enqueue("arm", "maximize", [QueuedJob("key", {SEED: 1}, {SEED: SEEDS})], {})
    worked: list[str] = []

    def note(lease: Lease) -> Finished:
        worked.append(lease.run_key)
        return Finished(0.5, "run", "finished")

    thread = threading.Thread(target=two.work, args=(["arm"], note))
    with one.planning():
        thread.start()
        thread.join(timeout=1)
        assert not worked
    thread.join(timeout=60)
    assert worked == ["key"]
    close(one, two)


def test_a_job_is_not_given_away_while_its_result_is_written(server: str, tmp_path: Path) -> None:
    """Its worker was silent for long, on another machine; now it is about to end it."""
    one, two = open_queue(server, tmp_path / "one"), open_queue(server, tmp_path / "two")
    one.enqueue("arm", "maximize", [QueuedJob("key", {SEED: 1}, {SEED: SEEDS})], {})
    given_away: list[bool] = []

    def late(lease: Lease) -> Finished:
        with lease.ending():
            ask(two, "UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'")
            two._storage._is_stale = lambda *times: True  # type: ignore[method-assign]
            given_away.append(two.bury(["arm"], "key"))
            assert two.counts("arm") == {"RUNNING": 1}
        return Finished(0.5, "run", "finished")

    one.work(["arm"], late)
    assert given_away == [False]
    assert one.counts("arm") == {"COMPLETE": 1}
    close(one, two)


def test_workers_are_not_taken_for_silent_while_the_server_could_not_hear_them(server: str, tmp_path: Path) -> None:
    """It has just restarted, or this machine had no network: their signs of life begin again now."""
    queue = open_queue(server, tmp_path)
    queue.enqueue("arm", "maximize", [QueuedJob("key", {SEED: 1}, {SEED: SEEDS})], {})
    (trial,) = [trial_id for (trial_id,) in ask(queue, "SELECT trial_id FROM trials")]
    assert queue._storage.claim(int(str(trial)))
    ask(queue, "UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'")
    (running,) = queue._storage.running()
    (since,) = ask(queue, "SELECT now() - pg_postmaster_start_time() > interval '1 minute'")
    assert running.is_stale == since[0]
    queue._storage.note_away()
    (running,) = queue._storage.running()
    assert not running.is_stale
    close(queue)


def test_the_server_sees_soon_that_whoever_holds_something_is_gone(server: str, tmp_path: Path) -> None:
    """Left to itself it keeps the rows and locks of a machine that was cut off for two hours."""
    queue = open_queue(server, tmp_path)
    told: dict[int, list[str]] = {}
    careless = list[str]()

    def note(connection: Any, cursor: Any, statement: str, *rest: object) -> None:
        past = told.setdefault(id(connection.get_transaction()), [])
        locks = "FOR UPDATE" in statement or ("_lock" in statement and "try_advisory" not in statement)
        holds = locks or statement.startswith(("UPDATE", "INSERT", "DELETE"))
        if holds and not any("tcp_keepalives_idle" in one for one in past):
            careless.append(statement)
        past.append(statement)

    event.listen(queue._storage.engine, "before_cursor_execute", note)

    def finish(lease: Lease) -> Finished:
        with lease.ending():
            return Finished(0.5, "run", "finished")

    with queue.planning():
        queue.enqueue("arm", "maximize", [QueuedJob(f"key-{n}", {SEED: n}, {SEED: SEEDS}) for n in (1, 2)], {})
    queue.work(["arm"], finish)
    assert queue.counts("arm") == {"COMPLETE": 2}
    assert sum(len(some) for some in told.values()) > 20
    assert careless == []
    close(queue)


def test_a_session_of_another_time_zone_is_as_alive(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    far = open_queue(server, tmp_path / "far")
    far.enqueue("arm", "maximize", [QueuedJob("key", {SEED: 1}, {SEED: SEEDS})], {})
    (trial,) = [trial_id for (trial_id,) in ask(far, "SELECT trial_id FROM trials")]
    assert far._storage.claim(int(str(trial)))
    monkeypatch.setenv("PGTZ", "America/Lima")
    near = open_queue(server, tmp_path / "near")
    for queue in (near, far):
        far._storage._beat(int(str(trial)))
        beat, now = ask(queue, "SELECT heartbeat, timezone('UTC', now()) FROM trial_heartbeats")[0]
        assert abs(now - beat).total_seconds() < 60  # type: ignore[operator]
    close(near, far)
