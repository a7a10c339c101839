"""GPUs: which a process sees, how workers share them, what a record tells; a tool of two GPUs stands in for some."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import make_toy_root, stn_bench

from stn_bench.runner.engine import Processes
from stn_bench.runner.shares import share_out
from stn_bench.study.load import load_plan
from stn_bench.system import gpus as module
from stn_bench.system.conditions import read_conditions
from stn_bench.system.gpus import GROWING, VISIBLE, Gpu, gpus
from stn_bench.system.machine import Resources, cores, describe_machine
from stn_bench.system.workspace import Workspace

BOTH = (Gpu("0", "NVIDIA H100 80GB HBM3"), Gpu("1", "NVIDIA H100 80GB HBM3"))


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a tool on the PATH that tells of two GPUs, as NVIDIA's does."""
    file = tmp_path / "bin/nvidia-smi"
    file.parent.mkdir()
    file.write_text("#!/bin/sh\n" + "".join(f"echo '{gpu.name}, {gpu.make}'\n" for gpu in BOTH))
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")
    monkeypatch.delenv(VISIBLE, raising=False)
    module._found.cache_clear()
    yield file
    module._found.cache_clear()


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, BOTH),
        ("1", BOTH[1:]),
        ("1,0", BOTH[::-1]),
        ("GPU-5f0b", (Gpu("GPU-5f0b", ""),)),
        ("", ()),
        ("-1", ()),
    ],
)
def test_a_process_sees_what_it_is_let(
    tool: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, found: tuple[Gpu, ...]
) -> None:
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    assert gpus() == found
    assert gpus(["scikit-learn", "numpy"]) == ()


@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA-SMI has failed'", None])
def test_a_tool_without_a_driver_is_no_gpu(tool: Path, script: str | None) -> None:
    tool.write_text(f"#!/bin/sh\n{script}\n") if script else tool.unlink()
    assert gpus() == ()
    assert "gpu" not in describe_machine(1)


@pytest.mark.skipif(cores() < 2, reason="one core alone (2026-11-27)")
def test_every_gpu_has_one_worker_unless_asked_otherwise() -> None:
    assert Resources.of(gpus=BOTH[:1]) == Resources(1, cores(), BOTH[:1])
    assert Resources.of(workers=6, threads=2, gpus=BOTH) == Resources(6, 2, BOTH)
    assert Resources.of(threads=cores(), gpus=BOTH).workers == 2
    assert Resources.of() == Resources(cores(), 1)


def test_a_plan_has_workers_by_what_it_trains_with(tool: Path, tmp_path: Path) -> None:
    """The article's network computes on GPUs, the toy does not."""
    workspace = Workspace.at(tmp_path)
    assert share_out(load_plan("quickstart", workspace)).gpus == BOTH
    toys = Workspace.at(make_toy_root(tmp_path / "toys"))
    assert share_out(load_plan("tiny", toys)) == Resources(cores(), 1)


class Process:
    """A process that lives until it is told otherwise."""

    def __init__(self) -> None:
        self.lives = True

    def is_alive(self) -> bool:
        return self.lives


def test_workers_take_the_gpu_that_the_fewest_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    engine, processes = Processes(Resources(5, 1, BOTH)), [Process() for _ in range(6)]

    def given(number: int) -> str:
        return engine._gpu_for(processes[number])[VISIBLE]  # type: ignore[arg-type]

    assert [given(number) for number in range(3)] == ["0", "1", "0"]
    processes[0].lives = processes[2].lives = False
    assert [given(number) for number in (3, 4, 5)] == ["0", "0", "1"]
    assert engine._gpu_for(Process()).items() >= GROWING.items()  # type: ignore[arg-type]
    assert Processes(Resources(2, 1))._gpu_for(Process()) == {}  # type: ignore[arg-type]


def test_what_the_user_says_of_memory_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in Processes(Resources(1, 1, BOTH))._gpu_for(Process())  # type: ignore[arg-type]


def test_a_record_tells_the_make_and_not_the_number(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_machine(1)["gpu"] == BOTH[0].make
    bare = read_conditions(1)
    for name, value in {VISIBLE: "1", **GROWING}.items():
        monkeypatch.setenv(name, value)
    assert read_conditions(1) == bare
    monkeypatch.setenv(VISIBLE, "-1")
    assert read_conditions(1)[VISIBLE] == "-1"


WATCHER = '''
"""Tells which GPU it sees, as if it trained there."""
import os


def train(*, seed: int, depth: int = 2) -> dict[str, float]:
    if seed < 0:
        import tensorflow  # noqa: F401
    with open(os.environ["SEEN"], "a") as file:
        file.write(f"{os.environ['CUDA_VISIBLE_DEVICES']} {os.environ['TF_FORCE_GPU_ALLOW_GROWTH']}\\n")
    return {"score": 0.5 + depth / 100 + seed / 1000}
'''
STUDY = """
title = "Who sees what"
subject = "watcher:train"
metric = "score"
direction = "maximize"
ablations = ["depth"]
seeds = [1, 2, 3]
"""


def test_workers_of_a_run_see_one_gpu_each(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    root = make_toy_root(tmp_path / "root", STUDY)
    (root / "watcher.py").write_text(WATCHER)
    told = stn_bench("plan", "tiny", root=root)
    assert f"2 workers of {max(1, cores() // 2)} thread" in told.stdout
    assert "on 2 GPUs" in told.stdout
    run = stn_bench("run", "tiny", root=root)
    assert run.returncode == 0, run.stderr
    seen = (tmp_path / "seen").read_text().splitlines()
    assert len(seen) == 6
    assert set(seen) <= {"0 true", "1 true"}
