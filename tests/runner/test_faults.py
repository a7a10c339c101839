"""Faults that happen: killed processes, late workers, Ctrl-C, many commands at once. `pytest -m faults` runs them all.

Real processes, real signals, real stores, on toys that take a while; on letters where weights and checkpoints are
looked into. `STN_BENCH_FAULTS=0.1 pytest -m faults` takes a tenth of the counts. What they found, and how it was
mended, stands in docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
import zipfile
from multiprocessing.synchronize import Barrier
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from processes import (
    assert_each_job_once,
    checkpoints,
    complete_trials,
    running,
    runs,
    statuses,
    wait_for_checkpoint,
    workers,
)
from tiny import PLAIN, make_root, make_toy_root, slow_toys, stn_bench

from stn_bench.subject import find_subject
from stn_bench.system.workspace import Workspace

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

SCALE = float(os.environ.get("STN_BENCH_FAULTS", "1"))
MODEL = find_subject("stn").start
SLOWER = PLAIN.replace('"train.epochs" = 2', '"train.epochs" = 12')
STARTING = 240  # seconds that a worker may take to load its libraries on a busy machine


def times(count: int) -> int:
    return max(1, round(SCALE * count))


def toys(count: int, epochs: int = 12) -> str:
    """Return a study of a base and one arm on so many seeds: twice as many jobs of a few seconds."""
    return slow_toys(epochs, seconds=0.3, seeds=count)


def letters(count: int) -> str:
    """Return the same of letters."""
    return SLOWER.replace("[1, 2, 3]", str(list(range(1, count + 1))))


def training(root: Path, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until some worker has trained an epoch, and return the workers."""
    began, deadline = time.time(), time.monotonic() + STARTING
    while time.monotonic() < deadline:
        if process.poll() is not None or written_since(root, began):
            return [worker for worker in workers(process) if worker.is_running()]
        time.sleep(0.05)
    raise AssertionError("no worker came to train")


def written_since(root: Path, began: float) -> bool:
    with contextlib.suppress(FileNotFoundError):  # the job has just ended
        return any(path.stat().st_mtime > began for path in checkpoints(root))
    return False


def outlived(children: list[psutil.Process], seconds: float = 20) -> list[psutil.Process]:
    return psutil.wait_procs(children, timeout=seconds)[1]


def weights(root: Path) -> dict[str, list[np.ndarray]]:
    """Return run key -> the weights of the run's model, in the order of its file."""
    found: dict[str, list[np.ndarray]] = {}
    for run in runs(root):
        if run.info.status != "FINISHED":
            continue
        file = Workspace.at(root).artifacts / run.info.run_id / "artifacts" / MODEL
        with zipfile.ZipFile(file) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as layers:
            arrays: list[np.ndarray] = []
            layers.visititems(
                lambda name, node, kept=arrays: kept.append(node[()]) if hasattr(node, "shape") else None
            )
        found[run.data.tags["run_key"]] = arrays
    return found


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    return all(len(ours[key]) == len(theirs[key]) and all(map(np.array_equal, ours[key], theirs[key])) for key in ours)


# Killed workers --------------------------------------------------------------------------------------------------


def test_a_worker_killed_at_a_random_moment(tmp_path: Path) -> None:
    kills, chance = times(50), random.Random(1)
    root = make_toy_root(tmp_path, toys(max(3, kills // 2)))
    killed = 0
    while killed < kills:
        with running(root, "--workers", "2") as process:
            while killed < kills and process.poll() is None:
                time.sleep(chance.uniform(0.5, 12))
                if alive := workers(process):
                    chance.choice(alive).kill()
                    killed += 1
            output, _ = process.communicate(timeout=1800)
        assert "Traceback" not in output
        if process.returncode == 0 and killed < kills:  # all jobs are trained: go on with fresh ones
            assert_each_job_once(root, 2 * max(3, kills // 2))
            root = make_toy_root(tmp_path / str(killed), toys(max(3, (kills - killed) // 2)))
    again = stn_bench("run", "tiny", root=root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert_each_job_once(root, len(set(complete_trials(root))))


# Killed `run` ----------------------------------------------------------------------------------------------------


def test_run_and_its_workers_killed_at_a_random_moment(tmp_path: Path) -> None:
    undisturbed = make_root(tmp_path / "undisturbed", letters(4))
    assert stn_bench("run", "tiny", root=undisturbed).returncode == 0
    kills, chance, killed = times(20), random.Random(2), 0
    while killed < kills:  # where all jobs are trained before that, with a fresh root
        root = make_root(tmp_path / f"disturbed-{killed}", letters(4))
        while killed < kills and kill_run(root, chance, whole_group=killed % 2 == 1):
            killed += 1
        finished = stn_bench("run", "tiny", root=root)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert_each_job_once(root, 8)
        assert same_weights(root, undisturbed)


def kill_run(root: Path, chance: random.Random, *, whole_group: bool) -> bool:
    """Start `run`, kill it a while after its workers began to train, and return whether it was there to be killed.

    Its whole group is killed at once, as a batch system does, or it alone: then its workers must end themselves.
    """
    with running(root, "--workers", "2") as process:
        training(root, process)
        time.sleep(chance.uniform(0, 6))
        if process.poll() is not None:
            return False
        children = workers(process)
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        assert not outlived(children)
    return True


def test_a_job_goes_on_at_its_epoch(tmp_path: Path) -> None:
    root = make_root(tmp_path, letters(1).replace('"train.epochs" = 12', '"train.epochs" = 400'))
    before = epochs_until_killed(root)
    after = epochs_until_killed(root)
    assert max(map(len, before.values())) > 1
    assert before.keys() & after.keys()
    for key in before.keys() & after.keys():  # how long an epoch took is never the same twice
        assert len(after[key]) > len(before[key])
        assert after[key][: len(before[key])] == before[key]


def epochs_until_killed(root: Path) -> dict[str, list[float]]:
    """Let a study train for some seconds, kill it, and return run key -> seconds of each epoch in its checkpoint."""
    with running(root, "--workers", "1") as process:
        training(root, process)
        wait_for_checkpoint(root, process)
        time.sleep(8)
        os.killpg(process.pid, signal.SIGKILL)
    return {path.parent.parent.name: _epoch_seconds(path) for path in checkpoints(root)}


def _epoch_seconds(checkpoint: Path) -> list[float]:
    with np.load(checkpoint) as file:
        return list(json.loads(file["note"].tobytes())["progress"]["fit_seconds"])


# Late workers ----------------------------------------------------------------------------------------------------


def test_a_worker_that_wakes_too_late_overwrites_nothing(tmp_path: Path) -> None:
    turns, chance = times(10), random.Random(3)
    lost = sum(stop_a_worker(make_toy_root(tmp_path / str(turn), toys(3, epochs=40)), chance) for turn in range(turns))
    print(f"{lost} of {turns} late workers had lost their job")
    assert lost >= turns / 2  # a worker that is stopped between two jobs, or while it holds the lock, loses none


def stop_a_worker(root: Path, chance: random.Random) -> bool:
    """Stop a worker until its job is another's, see that all ends well, and return whether it had lost one."""
    with running(root, "--workers", "2") as process:
        training(root, process)
        wait_for_checkpoint(root, process)
        time.sleep(chance.uniform(0, 2))
        late = workers(process)[0]
        late.send_signal(signal.SIGSTOP)
        wait_until_given_away(root)
        late.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert_each_job_once(root, 6)
    assert not list(root.glob("mlruns/checkpoints/*/*"))
    return "KILLED" in statuses(root)


def wait_until_given_away(root: Path) -> None:
    """Return when some trial has failed: workers look for stale ones between two jobs. Or when none does for long."""
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        time.sleep(0.5)
        with (
            contextlib.suppress(sqlite3.OperationalError),  # the stopped worker may hold the store
            contextlib.closing(sqlite3.connect(root / "mlruns/optuna.db", timeout=1)) as store,
        ):
            if store.execute("SELECT count(*) FROM trials WHERE state = 'FAIL'").fetchone()[0]:
                return


# Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("presses", [1, 2])
def test_a_signal_to_stop_at_a_random_moment(tmp_path: Path, presses: int, signum: int) -> None:
    turns, chance, pressed = times(10), random.Random(3 + presses), 0
    while pressed < turns:  # where all jobs are trained before that, with a fresh root
        root = make_toy_root(tmp_path / str(pressed), toys(3, epochs=60))
        while pressed < turns and press(root, chance, presses, signum):
            pressed += 1
        finished = stn_bench("run", "tiny", root=root)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert_each_job_once(root, 6)


def press(root: Path, chance: random.Random, presses: int, signum: int) -> bool:
    """Stop `run` a while after it began to train, once or twice, and return whether it was there to be stopped."""
    with running(root, "--workers", "2") as process:
        if not training(root, process):
            return False
        wait_for_checkpoint(root, process)
        time.sleep(chance.uniform(0, 3))
        pressed = time.monotonic()
        for _ in range(presses):
            os.killpg(process.pid, signum)
            time.sleep(0.3)
        output, _ = process.communicate(timeout=60)
    if process.returncode == 0:  # its last job ended as Ctrl-C was pressed
        return False
    assert process.returncode == 128 + signum, output
    assert "Traceback" not in output
    assert "goes on from here" in output
    if presses == 1:
        assert "RUNNING" not in statuses(root)
    else:
        assert time.monotonic() - pressed < 10
    return True


# Many at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commands", [2, 4])
@pytest.mark.parametrize("turn", range(times(10)))
def test_commands_on_one_study_share_its_jobs(tmp_path: Path, commands: int, turn: int) -> None:
    root = make_toy_root(tmp_path, toys(4))
    found: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(stn_bench("run", "tiny", "--workers", 1, root=root)))
        for _ in range(commands)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.returncode for run in found] == [0] * commands, [run.stdout + run.stderr for run in found]
    assert_each_job_once(root, 8)


def open_stores(folder: str, rounds: int, barrier: Barrier, told: multiprocessing.Queue[str]) -> None:
    """Open a new store, a round, at the same moment as others, and write to it."""
    from stn_bench.runner.stores import open_stores

    for number in range(rounds):
        root = Path(folder, str(number))
        root.mkdir(exist_ok=True)
        barrier.wait(timeout=300)
        try:
            workspace = Workspace.at(root)
            stores = open_stores(workspace)
            study = stores.tracking.open_study("one")
            stores.queue.enqueue("one", "maximize", [], {})
            told.put(f"{number} {study} {stores.queue.counts('one')}")
        except Exception as error:
            told.put(f"{number} failed: {error!r}")


def test_eight_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    rounds, context = times(20), multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(8), context.Queue()
    crowd = [
        context.Process(target=open_stores, args=(str(tmp_path), rounds, barrier, told), daemon=True) for _ in range(8)
    ]
    for process in crowd:
        process.start()
    answers = [told.get(timeout=900) for _ in range(8 * rounds)]
    for process in crowd:
        process.join()
    assert sorted(answers) == sorted(f"{number} 1 {{}}" for number in range(rounds) for _ in range(8))
