"""Faults of `work`, on a machine without a store: kills at random moments. `pytest -m faults` runs them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from packs import numbers, pack, working
from test_faults import times
from tiny import make_toy_root, slow_toys

from stn_bench.tracking.archive import read_archive

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(make_toy_root(tmp_path_factory.mktemp("faults") / "root", slow_toys(epochs=12, seeds=8)))


@pytest.fixture(scope="module")
def undisturbed(packed: Path) -> dict[str, Any]:
    with working(packed, packed.parent, "--workers", "2") as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return numbers(packed.with_name("results.zip"))


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())]
    return []


def check_whole(folder: Path) -> None:
    """Check that a file of results is whole, if there is one."""
    if (folder / "results.zip").exists():
        assert read_archive(folder / "results.zip").study == "tiny"


@pytest.mark.parametrize("whole", [True, False], ids=["all of it", "its first process"])
def test_work_is_killed_at_random_moments(
    packed: Path, undisturbed: dict[str, Any], tmp_path: Path, whole: bool
) -> None:
    chance, kills = random.Random(1), times(10)
    for _ in range(kills):
        with working(packed, tmp_path, "--workers", "2") as process:
            time.sleep(chance.uniform(0.2, 8))
            children = workers(process)
            if whole:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            assert not psutil.wait_procs(children, timeout=20)[1]
        check_whole(tmp_path)
    with working(packed, tmp_path, "--workers", "2") as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert numbers(tmp_path / "results.zip") == undisturbed


def test_its_workers_are_killed_at_random_moments(packed: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    chance, kills, killed = random.Random(2), times(20), 0
    while killed < kills:
        folder = tmp_path / str(killed)
        folder.mkdir()
        with working(packed, folder, "--workers", "2") as process:
            while killed < kills and process.poll() is None:
                time.sleep(chance.uniform(0.5, 4))
                if alive := workers(process):
                    chance.choice(alive).kill()
                    killed += 1
            output, _ = process.communicate(timeout=600)
        assert process.returncode in (0, 1), output  # a job whose worker died four times has crashed
        if process.returncode:
            with working(packed, folder, "--workers", "2") as process:
                process.communicate(timeout=600)
        assert numbers(folder / "results.zip") == undisturbed


def test_it_is_stopped_at_random_moments(packed: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    chance = random.Random(3)
    for number in range(times(10)):
        with working(packed, tmp_path, "--workers", "2") as process:
            time.sleep(chance.uniform(0.2, 6))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
        assert process.returncode in (0, 143, -signal.SIGTERM), (number, output)
        assert "Traceback" not in output, output
        check_whole(tmp_path)
    with working(packed, tmp_path, "--workers", "2") as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert numbers(tmp_path / "results.zip") == undisturbed
