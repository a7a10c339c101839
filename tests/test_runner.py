"""Workers that die, runs that are stopped: real processes, real signals, real stores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow.tracking import MlflowClient
from tiny import PLAIN, make_root, stn_bench

from stn_bench.workspace import Workspace

LONG = PLAIN.replace('"train.epochs" = 2', '"train.epochs" = 30')


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
    """Return when some cell has finished an epoch."""
    deadline = time.monotonic() + seconds
    while not list(root.glob("mlruns/checkpoints/*/checkpoint.npz")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.05)


def complete_trials(root: Path) -> list[str]:
    storage = Workspace.at(root).search
    trials = [
        trial
        for name in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(study_name=name, storage=storage).trials
    ]
    return [t.user_attrs["run_key"] for t in trials if t.state == optuna.trial.TrialState.COMPLETE]


def statuses(root: Path) -> list[str]:
    client = MlflowClient(tracking_uri=Workspace.at(root).tracking)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return [run.info.status for run in client.search_runs([experiment.experiment_id], "tags.kind = 'run'")]


def values(root: Path) -> list[list[float]]:
    report = json.loads((root / "reports/tiny/report.json").read_text())
    return [arm["values"] for arm in report["ablations"][0]["arms"]]


@pytest.mark.slow
def test_a_killed_workers_cell_is_run_again_once(tmp_path: Path) -> None:
    root = make_root(tmp_path, LONG)
    with running(root, "--workers", "2") as process:
        wait_for_checkpoint(root, process)
        workers(process)[0].kill()
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "killed" in output
    assert len(complete_trials(root)) == len(set(complete_trials(root))) == 6
    assert sorted(set(statuses(root))) == ["FINISHED", "KILLED"]
    assert statuses(root).count("FINISHED") == 6


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_run_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    root = make_root(tmp_path / "stopped", LONG)
    with running(root, "--workers", "2") as process:
        wait_for_checkpoint(root, process)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "stn-bench run tiny" in output
    assert "Traceback" not in output
    assert "RUNNING" not in statuses(root)
    again = stn_bench("run", "tiny", root=root)
    assert again.returncode == 0, again.stderr
    undisturbed = make_root(tmp_path / "undisturbed", LONG)
    assert stn_bench("run", "tiny", root=undisturbed).returncode == 0
    assert values(root) == values(undisturbed)


def test_workers_end_when_run_is_killed(tmp_path: Path) -> None:
    root = make_root(tmp_path, LONG)
    with running(root, "--workers", "2") as process:
        wait_for_checkpoint(root, process)
        children = workers(process)
        assert len(children) == 2
        process.kill()
        gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert len(gone) == 2


def test_a_crashing_arm_is_recorded_and_the_study_goes_on(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        PLAIN.replace('["transformer"]', '["crash"]', 1)
        .replace('arms = { transformer = ["none"] }', "")
        .replace("[1, 2, 3]", "[1, 2]"),
    )
    (root / "ablations").mkdir()
    (root / "ablations/crash.toml").write_text(
        'title = "Crash"\nquestion = "What if an arm raises?"\n'
        '[arms.broken]\nset = { "model.factory" = "broken:build" }\n'
    )
    (root / "broken.py").write_text("def build(config):\n    raise RuntimeError('this arm cannot be built')\n")
    run = stn_bench("run", "tiny", root=root)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "this arm cannot be built" in run.stdout
    base, broken = json.loads((root / "reports/tiny/report.json").read_text())["ablations"][0]["arms"]
    assert len(base["values"]) == 2
    assert broken["verdict"] == "invalid"
    assert "2 of 2 seeds" in broken["reason"]


@pytest.mark.parametrize("option", ["--dry-run"])
def test_a_dry_run_trains_nothing(tmp_path: Path, option: str) -> None:
    root = make_root(tmp_path, PLAIN)
    shown = stn_bench("run", "tiny", option, root=root)
    assert shown.returncode == 0
    assert "6 runs" in shown.stdout
    assert not (root / "mlruns").exists()
