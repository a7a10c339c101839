"""Faults of disks and stores: full, read-only, locked, damaged. Part of `pytest -m faults`.

A full or read-only disk is a small file system in memory, mounted for the test: that takes the right to mount.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from packs import pack
from processes import assert_each_job_once, checkpoints, running, runs, wait_for_checkpoint, workers
from tiny import PLAIN, TOYS, make_root, make_toy_root, slow_toys, stn_bench

from stn_bench.runner.packed import read_packed
from stn_bench.tracking.archive import read_archive

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

LONGER = PLAIN.replace('"train.epochs" = 2', '"train.epochs" = 40')
LONGER_TOYS = slow_toys(epochs=40)


def may_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


needs_mount = pytest.mark.skipif(not may_mount(), reason="mounting takes root (2026-11-24)")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


class SmallDisk:
    """A file system in memory that can be filled, made larger and made read-only."""

    def __init__(self, path: Path, size: str) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))

    def fill(self, leave: int) -> None:
        """Take up all room but so many bytes."""
        room = shutil.disk_usage(self.path).free
        with (self.path / "filler").open("wb") as file:
            file.write(bytes(max(0, room - leave)))

    def make_room(self) -> None:
        mount("-o", "remount,rw,size=1g", str(self.path))
        (self.path / "filler").unlink(missing_ok=True)

    def lock(self) -> None:
        mount("-o", "remount,ro", str(self.path))


@pytest.fixture
def disks() -> Iterator[list[SmallDisk]]:
    mounted: list[SmallDisk] = []
    yield mounted
    for disk in mounted:
        subprocess.run(["umount", "-l", str(disk.path)], check=True)


def assert_one_line(told: subprocess.CompletedProcess[str], *words: str) -> None:
    """See that a command said what is wrong in a line or two, and wrote no traceback."""
    lines = [line for line in told.stderr.splitlines() if line.strip()]
    assert told.returncode == 2, told.stdout + told.stderr
    assert "Traceback" not in told.stdout + told.stderr
    assert 1 <= len(lines) <= 2, told.stderr
    assert lines[0].startswith("stn-bench: ")
    for word in words:
        assert re.search(word, told.stderr, re.IGNORECASE), told.stderr


def assert_goes_on(root: Path, jobs: int = 6) -> None:
    told = stn_bench("run", "tiny", root=root)
    assert told.returncode == 0, told.stdout + told.stderr
    assert_each_job_once(root, jobs)


# Full disks ------------------------------------------------------------------------------------------------------


@needs_mount
@pytest.mark.parametrize(
    ("place", "size"),
    [
        pytest.param("mlruns/datasets", "40k", id="dataset"),
        pytest.param("mlruns/checkpoints", "40k", id="checkpoint"),
        pytest.param("mlruns/artifacts", "200k", id="artifacts"),
        pytest.param("reports", "40k", id="report"),
    ],
)
def test_a_full_disk_is_one_line_and_run_goes_on_after_room_is_made(
    tmp_path: Path, disks: list[SmallDisk], place: str, size: str
) -> None:
    root = make_root(tmp_path, PLAIN)
    disks.append(SmallDisk(root / place, size))
    assert_one_line(stn_bench("run", "tiny", root=root), "disk|room|space")
    half = [path for path in root.rglob("*.partial") if path.stat().st_size]
    assert half == []
    disks[0].make_room()
    assert_goes_on(root)


@needs_mount
@pytest.mark.parametrize(
    ("place", "leave"),
    [
        pytest.param("results.work/root/mlruns/datasets", 0, id="data"),
        pytest.param("results.work/root/mlruns/checkpoints", 4096, id="checkpoint"),
        pytest.param("results.work", 8192, id="files"),
        pytest.param("results.work", 100_000, id="runs"),
    ],
)
def test_a_full_disk_stops_work_in_one_line_and_it_goes_on(
    tmp_path: Path, disks: list[SmallDisk], place: str, leave: int
) -> None:
    file = pack(make_toy_root(tmp_path / "root"))
    disks.append(SmallDisk(tmp_path / place, "200k"))
    (tmp_path / "results.work/packed.sha256").write_text(read_packed(file).digest)
    disks[0].fill(leave)
    command = [sys.executable, "-m", "stn_bench", "work", str(file), "-o", str(tmp_path / "results.zip")]
    assert_one_line(subprocess.run(command, capture_output=True, text=True, check=False), "disk|room|space")
    disks[0].make_room()
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert len(read_archive(tmp_path / "results.zip").records) == 6


@needs_mount
@pytest.mark.parametrize("leave", [0, 200_000, 600_000], ids=["at once", "soon", "later"])
def test_a_store_without_room(tmp_path: Path, disks: list[SmallDisk], leave: int) -> None:
    root = make_root(tmp_path, PLAIN)
    disks.append(SmallDisk(root / "mlruns", "60m"))
    assert stn_bench("data", "make", "--study", "tiny", root=root).returncode in (0, 2)
    with running(root, "--workers", "2") as process:  # so that there are stores, and some run has finished
        wait_for_checkpoint(root, process)
        process.kill()
    disks[0].fill(leave)
    assert_one_line(stn_bench("run", "tiny", root=root), "disk|room|space")
    disks[0].make_room()
    assert_goes_on(root)


# Stores ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Return a root with a finished study of six runs."""
    return finish(make_toy_root(tmp_path, TOYS))


def finish(root: Path) -> Path:
    told = stn_bench("run", "tiny", root=root)
    assert told.returncode == 0, told.stdout + told.stderr
    return root


def more_seeds(root: Path) -> None:
    study = root / "studies/tiny.toml"
    study.write_text(study.read_text().replace("[1, 2, 3]", "[1, 2, 3, 4]"))


@needs_mount
def test_a_store_that_cannot_be_written(tmp_path: Path, disks: list[SmallDisk]) -> None:
    disks.append(SmallDisk(tmp_path / "root", "200m"))
    root = finish(make_toy_root(disks[0].path, TOYS))
    more_seeds(root)
    disks[0].lock()
    assert_one_line(stn_bench("run", "tiny", root=root), "read-?only")
    disks[0].make_room()
    assert_goes_on(root, 8)


@pytest.mark.parametrize("store", ["mlflow.db", "optuna.db"])
def test_a_store_that_another_program_locks_for_half_a_minute(tmp_path: Path, store: str) -> None:
    root = make_toy_root(tmp_path, LONGER_TOYS)
    with running(root, "--workers", "2") as process:
        wait_for_checkpoint(root, process)

        def hold() -> None:
            with closing(sqlite3.connect(root / "mlruns" / store, timeout=60, isolation_level=None)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                time.sleep(30)
                connection.execute("ROLLBACK")

        thread = threading.Thread(target=hold)
        thread.start()
        output, _ = process.communicate(timeout=600)
        thread.join()
    assert "Traceback" not in output
    assert process.returncode in (0, 2), output
    if process.returncode == 2:
        assert "locked" in output
    assert_goes_on(root)


@pytest.mark.parametrize("store", ["mlflow.db", "optuna.db"])
def test_a_damaged_store_is_told_and_the_finished_runs_stay(finished: Path, store: str) -> None:
    records = {path: path.read_bytes() for path in finished.glob("mlruns/artifacts/*/artifacts/record.json")}
    assert len(records) == 6
    path = finished / "mlruns" / store
    sound = path.read_bytes()
    for file in finished.glob(f"mlruns/{store}-*"):  # SQLite's log would mend the file
        file.unlink()
    path.write_bytes(sound[:4096] + b"\xff" * (len(sound) - 4096))
    more_seeds(finished)
    assert_one_line(stn_bench("run", "tiny", root=finished), store)
    assert {path: path.read_bytes() for path in records} == records
    if store == "optuna.db":  # can be made anew: what is finished stands in the other store
        path.unlink()
        assert_goes_on(finished, 8)
        assert len(runs(finished)) == 8


def test_damaged_pictures_are_drawn_again(tmp_path: Path) -> None:
    finished = finish(make_root(tmp_path, PLAIN))
    (images,) = finished.glob("mlruns/datasets/*/images.npy")
    content = bytearray(images.read_bytes())
    content[len(content) // 2] ^= 255
    images.write_bytes(content)
    more_seeds(finished)
    assert_goes_on(finished, 8)
    assert len(runs(finished)) == 8


@pytest.mark.parametrize("letters", [False, True], ids=["toys", "letters"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_a_damaged_checkpoint_means_a_fresh_start(tmp_path: Path, damage: str, letters: bool) -> None:
    root = make_root(tmp_path, LONGER) if letters else make_toy_root(tmp_path, LONGER_TOYS)
    with running(root, "--workers", "2") as process:
        wait_for_checkpoint(root, process)
        for worker in workers(process):
            worker.kill()
        process.kill()
    for path in checkpoints(root):
        sound = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": sound[: len(sound) // 2], "noise": os.urandom(len(sound))}[damage])
    assert_goes_on(root)


def test_a_damaged_report_folder_is_written_anew(finished: Path) -> None:
    folder = finished / "reports/tiny"
    sound = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "report.md").write_bytes(b"\x00\xff")
    (folder / "report.json").unlink()
    shutil.rmtree(folder / "figures")
    (folder / "figures").write_text("a file where a folder should be")
    told = stn_bench("report", "tiny", root=finished)
    if told.returncode:  # what is not ours is not removed
        assert_one_line(told, "figures")
        (folder / "figures").unlink()
        assert stn_bench("report", "tiny", root=finished).returncode == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == sound
