"""The command line's `run` as real processes, and what its stores hold afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import psutil
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from stn_bench.system.workspace import Workspace


@contextmanager
def running(root: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start `run` in a process group of its own; nothing of it outlives the test."""
    command = [sys.executable, "-m", "stn_bench", "run", "tiny", "--root", str(root), *options]
    environment = {**os.environ, "STN_BENCH_HEARTBEAT": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        for child in workers(process):
            child.kill()
        process.kill()
        process.communicate()


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the worker processes of a run."""
    try:
        return [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def wait_for_checkpoint(root: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Return when some job has finished an epoch."""
    deadline = time.monotonic() + seconds
    while not checkpoints(root):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.05)


def checkpoints(root: Path) -> list[Path]:
    """Return the files of unfinished trainings, without what is half written."""
    return [path for path in root.glob("mlruns/checkpoints/*/*/*") if path.suffix != ".partial"]


def complete_trials(root: Path) -> list[str]:
    storage = Workspace.at(root).queue
    trials = [
        trial
        for name in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(study_name=name, storage=storage).trials
    ]
    return [t.user_attrs["run_key"] for t in trials if t.state == optuna.trial.TrialState.COMPLETE]


def statuses(root: Path) -> list[str]:
    return [run.info.status for run in runs(root)]


def values(root: Path) -> list[list[float]]:
    report = json.loads((root / "reports/tiny/report.json").read_text())
    return [arm["values"] for arm in report["ablations"][0]["arms"]]


def runs(root: Path) -> list[Run]:
    """Return every run of a job that MLflow knows, however it ended."""
    return [run for run in all_runs(root) if run.data.tags["kind"] == "run"]


def all_runs(root: Path) -> list[Run]:
    """Return the same with the runs of arms, and that of the report."""
    client = MlflowClient(tracking_uri=Workspace.at(root).tracking)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=5000))


def assert_each_job_once(root: Path, jobs: int) -> None:
    """See that each job ended with one COMPLETE trial and one FINISHED run, and that the report shows these alone."""
    found = runs(root)
    finished = Counter(run.data.tags["run_key"] for run in found if run.info.status == "FINISHED")
    assert len(finished) == jobs
    assert set(finished.values()) == {1}
    assert {run.info.status for run in found} <= {"FINISHED", "KILLED"}
    assert Counter(complete_trials(root)) == finished
    report = json.loads((root / "reports/tiny/report.json").read_text())
    shown = {run_id for question in report["ablations"] for arm in question["arms"] for run_id in arm["run_ids"]}
    assert shown == {run.info.run_id for run in found if run.info.status == "FINISHED"}
