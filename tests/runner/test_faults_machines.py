"""Faults across machines: networks that are cut, servers that restart, machines that go. Part of `pytest -m faults`.

Two machines, each a root of its own, share a real PostgreSQL server and a real MLflow server, each behind a network
that can be cut. A heartbeat takes one second here and not fifteen, so that what stands for a minute is 4 seconds, and
for an hour 240. At the end each job is COMPLETE once and has one finished run, and every value of every epoch is that
of an undisturbed study on one machine.
"""

from __future__ import annotations

import ctypes.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import GRACE, Machines, histories, machines
from mlflow.entities import Run
from processes import runs as local_runs
from servers import INITDB, NEEDS_POSTGRES
from test_faults import times
from test_faults_storage import SmallDisk, needs_mount
from tiny import make_toy_root, slow_toys, stn_bench

from stn_bench.system.workspace import Workspace

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(INITDB is None, reason=NEEDS_POSTGRES),
]

MINUTE = 60 / 15
HOUR = 3600 / 15
EPOCHS = 16
SECONDS = 0.3
AT_ONCE = 6  # seeds of a study: twice as many jobs
STARTING = 240  # seconds that machines may take to come to train
Values = dict[str, dict[str, list[tuple[int, float]]]]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with machines(tmp_path_factory.mktemp("machines")) as found:
        yield found


@pytest.fixture
def shared(places: Machines) -> Machines:
    """Return the stores, with nothing in them but what other tests trained under other names of arms."""
    places.fresh()
    return places


class Trial:
    """A study that two machines train while something happens to them, as often as is asked for.

    Args:
        shared: the stores.
        folder: where the roots are.
    """

    def __init__(self, shared: Machines, folder: Path, first: int) -> None:
        self.shared, self.folder, self._first = shared, folder, first
        self.ended: list[subprocess.Popen[str]] = []
        self.jobs = 0
        self._before = len(self._finished())

    def disturb(self, count: int, fault: Callable[[], None], seconds: float = 2.0) -> None:
        """Let something happen so often while a study is trained; with a fresh study where one is trained sooner."""
        done = 0
        while done < count:
            root, elsewhere = self.begin()
            while done < count and self.jobs_left() > 2:
                fault()
                done += 1
                time.sleep(seconds)
            for process in (root, elsewhere):
                self.shared.finish(process)
        self.check()

    def begin(self) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
        """Start `run` and a worker elsewhere on fresh seeds, and return once both have trained a run."""
        begun = self._first + self.jobs // 2
        seeds = list(range(begun, begun + AT_ONCE))
        root = self.folder / f"root-{self.jobs}"
        make_toy_root(root, study(seeds))
        self.jobs += 2 * AT_ONCE
        run, worker = self.shared.start_both(root, self.folder / f"elsewhere-{self.jobs}")
        deadline = time.monotonic() + STARTING
        while len(self._finished()) < self.jobs - 2 * AT_ONCE + self._before + 2:
            assert time.monotonic() < deadline, "no machine came to train"
            assert run.poll() is None, run.communicate()[0]
            assert worker.poll() is None, worker.communicate()[0]
            time.sleep(0.3)
        return run, worker

    def jobs_left(self) -> int:
        """Return how many runs are not finished yet."""
        return self.jobs + self._before - len(self._finished())

    def _finished(self) -> list[Run]:
        own = [run for run in self.shared.runs() if run.info.status == "FINISHED"]
        return [run for run in own if int(run.data.tags["seed"]) >= self._first]

    def check(self) -> None:
        """See that each job ended once, with the values of a study that nothing happened to."""
        self.shared.assert_each_job_once(self.jobs, self._first)
        seeds = range(self._first, self._first + self.jobs // 2)
        assert values(self.shared.tracking.address, self._finished()) == undisturbed(self.folder / "alone", seeds)


def study(seeds: list[int], seconds: float = SECONDS) -> str:
    return slow_toys(EPOCHS, seconds).replace("[1, 2, 3]", str(seeds))


def values(address: str, runs: list[Run]) -> Values:
    """Return the metrics of every epoch of runs by arm and seed."""
    named = {run.data.tags["run_key"]: f"{run.data.tags['arm']} {run.data.tags['seed']}" for run in runs}
    return {named[key]: found for key, found in histories(address, runs).items()}


def undisturbed(root: Path, seeds: range) -> Values:
    """Train the same on one machine, without the time that each epoch takes."""
    make_toy_root(root, study(list(seeds), seconds=0.0))
    done = stn_bench("run", "tiny", root=root)
    assert done.returncode == 0, done.stderr
    return values(Workspace.at(root).tracking, local_runs(root))


FIRST = iter(range(2001, 10**6, 1000))
"""First seeds of tests: each trains its own, since all share one MLflow server."""


@pytest.fixture
def trial(shared: Machines, tmp_path: Path) -> Trial:
    return Trial(shared, tmp_path, next(FIRST))


# Networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["stall", "cut"])
@pytest.mark.parametrize("server", ["to_database", "to_tracking"])
def test_the_network_to_a_server_is_cut_for_a_minute(trial: Trial, server: str, way: str) -> None:
    network = getattr(trial.shared, server)

    def cut() -> None:
        getattr(network, way)()
        time.sleep(2 * MINUTE)
        network.heal()

    trial.disturb(times(10), cut)


def test_one_machine_loses_the_network_for_longer_than_the_grace_period(trial: Trial) -> None:
    """The other, which keeps it, has its job meanwhile; back again, it drops what it trained of it."""
    shared, root = trial.shared, make_toy_root(trial.folder / "root", study([trial._first + n for n in range(10)]))
    trial.jobs = 20
    run, worker = shared.start_both(root, trial.folder / "elsewhere", is_cut=False)
    for _ in range(times(10)):
        before = trial.jobs_left()
        deadline = time.monotonic() + STARTING
        while trial.jobs_left() > max(before - 2, 0) and time.monotonic() < deadline:
            time.sleep(0.3)
        shared.to_database.cut()
        time.sleep(3 * GRACE)
        shared.to_database.heal()
    for process in (run, worker):
        shared.finish(process)
    trial.check()


# Servers ---------------------------------------------------------------------------------------------------------


def test_postgresql_restarts_under_load(trial: Trial) -> None:
    chance = random.Random(1)

    def restart() -> None:
        trial.shared.database.stop(chance.choice(["fast", "immediate"]))
        time.sleep(chance.uniform(0, MINUTE))
        trial.shared.database.start()

    trial.disturb(times(10), restart)


@pytest.mark.parametrize(("seconds", "count"), [(MINUTE, 10), (HOUR, 1)], ids=["a minute", "an hour"])
def test_the_mlflow_server_is_down(trial: Trial, seconds: float, count: int) -> None:
    def down() -> None:
        trial.shared.tracking.stop()
        time.sleep(seconds)
        trial.shared.tracking.start()

    trial.disturb(times(count), down)


# Machines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_machine_goes_and_another_comes(trial: Trial, signum: int) -> None:
    """Killed, it leaves its job to be found; asked to stop, it gives it back at the end of the epoch."""
    come = 0

    def replace() -> None:
        nonlocal come
        come += 1
        worker = trial.shared.start("worker", trial.folder / f"come-{come}")
        deadline = time.monotonic() + STARTING
        while not list((trial.folder / f"come-{come}").glob("mlruns/checkpoints/*/*/*")):
            if worker.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if worker.poll() is None:
            os.killpg(worker.pid, signum)
            output = worker.communicate(timeout=60)[0]
            assert worker.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM, 0), output
            assert "Traceback" not in output

    trial.disturb(times(10), replace, seconds=0.5)


def test_two_planners_at_the_same_moment_on_two_machines(trial: Trial) -> None:
    for _ in range(times(10)):
        seeds = list(range(trial._first + trial.jobs // 2, trial._first + trial.jobs // 2 + 3))
        text = study(seeds, seconds=0.0)
        planners = [
            trial.shared.start("run", make_toy_root(trial.folder / f"{name}-{trial.jobs}", text)) for name in "ab"
        ]
        for process in planners:
            trial.shared.finish(process)
        trial.jobs += 6
    trial.check()


SHIFTED = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) { const char *told = getenv("SHIFTED_SECONDS"); return told ? atol(told) : 0; }
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += shift();
    return done;
}
time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
"""
"""A library that lets a process see another time of day than the machine has; intervals stay what they are."""


@pytest.mark.skipif(shutil.which("cc") is None or ctypes.util.find_library("c") is None, reason="no compiler here")
def test_two_machines_whose_clocks_differ_by_five_minutes(trial: Trial) -> None:
    library = trial.folder / "shifted.so"
    source = trial.folder / "shifted.c"
    source.write_text(SHIFTED)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    for turn in range(times(10)):
        seconds = 300 if turn % 2 else -300
        other = {"LD_PRELOAD": str(library), "SHIFTED_SECONDS": str(seconds), "PGTZ": "Asia/Tokyo"}
        shown = subprocess.run(
            [sys.executable, "-c", "import time; print(time.time())"],
            env={**os.environ, **other},
            capture_output=True,
            text=True,
            check=True,
        )
        assert abs(float(shown.stdout) - time.time() - seconds) < 60
        first = trial._first + trial.jobs // 2
        root = make_toy_root(trial.folder / f"root-{turn}", study([first, first + 1, first + 2]))
        trial.jobs += 6
        for process in trial.shared.start_both(root, trial.folder / f"late-{turn}", **other):
            trial.shared.finish(process)
    trial.check()
    own = [run for run in trial.shared.runs() if int(run.data.tags["seed"]) >= trial._first]
    assert {run.info.status for run in own} == {"FINISHED"}  # no job was taken from a worker that lives


@needs_mount
def test_a_full_disk_on_one_machine(trial: Trial) -> None:
    """Its job is given back, and the other machine trains all that is left."""
    small = SmallDisk(trial.folder / "small", "64m")
    try:
        root = make_toy_root(trial.folder / "root", study([trial._first + n for n in range(5)]))
        trial.jobs = 10
        run, worker = trial.shared.start_both(root, small.path)
        deadline = time.monotonic() + STARTING
        while not list(small.path.glob("mlruns/checkpoints/*/*/*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        small.fill(leave=0)
        output = worker.communicate(timeout=STARTING)[0]
        assert worker.returncode in (0, 2), output
        assert "Traceback" not in output
        assert worker.returncode == 0 or "disk is full" in output
        trial.shared.finish(run)
    finally:
        small.make_room()
        subprocess.run(["umount", str(small.path)], check=False)
    trial.check()
