"""Both stores in a real PostgreSQL server that asks for a password, started for the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import optuna
import pytest
from servers import INITDB, NEEDS_POSTGRES, PASSWORD, Postgres, postgres
from sqlalchemy import NullPool, create_engine, inspect, text
from tiny import make_toy_root, stn_bench

from stn_bench.runner.queue import SEED, SEEDS, Finished, Lease, Queue, QueuedJob

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(INITDB is None, reason=NEEDS_POSTGRES),
]


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


def test_machines_share_the_jobs_of_a_queue_in_postgresql(server: str, tmp_path: Path) -> None:
    """Each machine has a lock of its own: the store alone tells who was faster."""
    names = [f"arm {number}" for number in range(3)]

    def open_queue(machine: str) -> Queue:
        return Queue(f"{server}/search", heartbeat=15, lock=tmp_path / machine / "search.lock")

    def jobs(machine: str, name: str) -> list[QueuedJob]:
        return [QueuedJob(f"{name}, {machine} {seed}", {SEED: seed}, {SEED: SEEDS}) for seed in range(10)]

    def enter(machine: str) -> None:
        with queues[machine].planning():
            for name in names:
                both = jobs("one", name) + jobs("two", name)
                queues[machine].enqueue(name, "maximize", [one for one in both if machine in one.run_key], {})

    worked: list[str] = []

    def work(machine: str) -> None:
        def note(lease: Lease) -> Finished:
            worked.append(lease.run_key)
            return Finished(0.5, "run", "finished")

        queues[machine].work(names, note)

    machines = ("one", "two")
    queues = {machine: open_queue(machine) for machine in machines}
    for do in (enter, work):
        threads = [threading.Thread(target=do, args=(machine,)) for machine in machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    numbers = [
        [trial.number for trial in optuna.load_study(study_name=n, storage=queues["one"]._storage).trials]
        for n in names
    ]
    done = sum(queues["one"].counts(name)["COMPLETE"] for name in names)
    for queue in queues.values():
        queue._storage.remove_session()
        queue._storage.engine.dispose()
    assert numbers == [list(range(len(those))) for those in numbers]
    assert len(worked) == len(set(worked)) == done
