"""Workers that die, runs that are stopped: real processes, real signals, real stores."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from processes import complete_trials, running, statuses, values, wait_for_checkpoint, workers
from tiny import PLAIN, make_root, stn_bench

LONG = PLAIN.replace('"train.epochs" = 2', '"train.epochs" = 30')


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
