"""A study on several machines: each a root of its own, and between them and the stores a network that can be cut."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from servers import STARTING, MlflowServer, Postgres, Proxy, mlflow_server, postgres, proxy
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from tiny import make_toy_root

HEARTBEAT = 1
GRACE = 4 * HEARTBEAT
Histories = dict[str, dict[str, list[tuple[int, float]]]]


@dataclass
class Machines:
    """Stores that several machines share, and the machines that were started.

    Args:
        folder: where their roots are.
        database: the server of the job queue.
        tracking: MLflow's server.
        to_database: the network before the one.
        to_tracking: the network before the other.
    """

    folder: Path
    database: Postgres
    tracking: MlflowServer
    to_database: Proxy
    to_tracking: Proxy
    name: str = "search"
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def queue(self) -> str:
        """Address of the queue, past the network that can be cut."""
        return f"{self.database.address}/{self.name}"

    def environment(self, *, is_cut: bool = True, **more: str) -> dict[str, str]:
        """Return the environment of a command, with the addresses of the stores behind the network or past it."""
        through = self.database.through(self.to_database.port) if is_cut else self.database.address
        address = f"http://127.0.0.1:{self.to_tracking.port}" if is_cut else self.tracking.address
        own = {"STN_BENCH_OPTUNA_URL": f"{through}/{self.name}", "MLFLOW_TRACKING_URI": address}
        return {**os.environ, **own, "STN_BENCH_HEARTBEAT": str(HEARTBEAT), "COLUMNS": "200", **more}

    def start(
        self, command: str, root: Path, *options: str, is_cut: bool = True, **more: str
    ) -> subprocess.Popen[str]:
        """Start `run` or `worker` on a machine, in a process group of its own."""
        root.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-m", "stn_bench", command, "tiny", "--root", str(root), "--workers", "1", *options]
        process = subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(is_cut=is_cut, **more),
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def start_both(
        self, root: Path, elsewhere: Path, *, is_cut: bool = True, **more: str
    ) -> list[subprocess.Popen[str]]:
        """Start `run`, and a worker on another machine once its plan is in the store.

        Args:
            root: where the study's files are.
            elsewhere: the root of the other machine.
            is_cut: whether `run` is behind the network that can be cut; the worker is.
            more: the environment of the worker.
        """
        before, deadline = self._posted(), time.monotonic() + STARTING
        run = self.start("run", root, is_cut=is_cut)
        while self._posted() == before and time.monotonic() < deadline:
            assert run.poll() is None, run.communicate()[0]
            time.sleep(0.3)
        return [run, self.start("worker", elsewhere, **more)]

    def _posted(self) -> list[Any]:
        engine = create_engine(self.queue, poolclass=NullPool)
        with contextlib.suppress(SQLAlchemyError), engine.connect() as connection:
            return list(connection.execute(text("SELECT value_json FROM study_user_attributes")))
        return []

    def fresh(self) -> None:
        """Take another, empty database for the queue, and forget the runs."""
        self.name = f"search{len(self.started)}"
        self.database.create(self.name)

    def finish(self, process: subprocess.Popen[str], code: int = 0, seconds: float = 600) -> str:
        """Wait until a command ends, see how, and return what it said."""
        output, _ = process.communicate(timeout=seconds)
        assert "Traceback" not in output, output
        assert process.returncode == code, output
        return output

    def runs(self) -> list[Run]:
        """Return every run of a job that MLflow knows, however it ended."""
        client = MlflowClient(tracking_uri=self.tracking.address)
        experiment = client.get_experiment_by_name("tiny")
        if experiment is None:
            return []
        found = client.search_runs([experiment.experiment_id], max_results=5000)
        return [run for run in found if run.data.tags["kind"] == "run"]

    def histories(self) -> Histories:
        """Return the metrics of every epoch of the finished runs, as MLflow has them."""
        return histories(self.tracking.address, [run for run in self.runs() if run.info.status == "FINISHED"])

    def assert_each_job_once(self, jobs: int, first: int = 0) -> None:
        """See that each job has one COMPLETE trial and one FINISHED run, and that no try is left open.

        Args:
            jobs: how many there are in the queue.
            first: the first of their seeds; the tracking store may hold others.
        """
        found = [run for run in self.runs() if int(run.data.tags["seed"]) >= first]
        finished = Counter(run.data.tags["run_key"] for run in found if run.info.status == "FINISHED")
        assert len(finished) == jobs
        assert set(finished.values()) == {1}
        assert {run.info.status for run in found} <= {"FINISHED", "KILLED"}
        ended = Counter(complete_trials(self.queue))
        assert {key: (ended[key], finished[key]) for key in ended | finished if ended[key] != finished[key]} == {}


def histories(address: str, runs: list[Run]) -> Histories:
    """Return run key -> metric -> step and value of each of its points in a store."""
    client = MlflowClient(tracking_uri=address)
    return {
        run.data.tags["run_key"]: {
            name: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))
            for name in run.data.metrics
            if not name.startswith("cost.")
        }
        for run in runs
    }


def complete_trials(queue: str) -> list[str]:
    """Return the run keys of the trials that Optuna calls COMPLETE."""
    storage = optuna.storages.RDBStorage(queue)
    try:
        names = optuna.get_all_study_names(storage)
        trials = [trial for name in names for trial in optuna.load_study(study_name=name, storage=storage).trials]
        return [one.user_attrs["run_key"] for one in trials if one.state == optuna.trial.TrialState.COMPLETE]
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def machines(folder: Path, *options: str, **environment: str) -> Iterator[Machines]:
    """Start the stores; nothing that was started outlives the test."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres("search"))
        tracking = stack.enter_context(mlflow_server(folder / "server", *options, **environment))
        to_database = stack.enter_context(proxy(database.port))
        to_tracking = stack.enter_context(proxy(tracking.port))
        found = Machines(folder, database, tracking, to_database, to_tracking)
        try:
            yield found
        finally:
            for process in found.started:
                end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End a command and all that it started."""
    import psutil

    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    for one in (process, *children):
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.communicate()


def report(root: Path) -> dict[str, Any]:
    """Return the values of a report by their place in it, without ids, times and costs."""
    return dict(leaves(json.loads((root / "reports/tiny/report.json").read_text())))


def leaves(tree: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a report but for what is another in every store and on every day."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if inner is None:
        yield place, tree
        return
    for name, value in inner:
        if name not in OF_THE_DAY:
            yield from leaves(value, f"{place}/{name}")


OF_THE_DAY = {"run_ids", "started", "ended", "seconds", "cpu_seconds", "peak_memory_mb"}

__all__ = ["GRACE", "Machines", "histories", "machines", "make_toy_root", "report"]
