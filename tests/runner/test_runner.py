"""Workers that die, runs that are stopped: real processes, real signals, real stores."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from commands import call
from processes import (
    all_runs,
    checkpoints,
    complete_trials,
    running,
    runs,
    statuses,
    values,
    wait_for_checkpoint,
    workers,
)
from tiny import PLAIN, TOYS, TUNED_TOYS, make_root, make_toy_root, slow_toys, stn_bench

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as the queue does

LONG = slow_toys(epochs=30)


@pytest.mark.slow
def test_a_killed_workers_job_is_run_again_once(tmp_path: Path) -> None:
    root = make_toy_root(tmp_path, LONG)
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
def test_runs_that_are_imported_while_a_study_is_trained_count_once(tmp_path: Path) -> None:
    """Those that wait are not trained any more; the one at which a worker is, it gives up at its end."""
    there, here = (make_toy_root(tmp_path / name, LONG) for name in ("there", "here"))
    archive = tmp_path / "runs.zip"
    assert call("run", "tiny", "--workers", 2, "--root", there) == 0
    assert call("export", "tiny", archive, "--root", there) == 0
    with running(here, "--workers", "1") as process:
        wait_for_checkpoint(here, process)
        assert stn_bench("import", archive, root=here).returncode == 0
        output, _ = process.communicate(timeout=60)  # six jobs would take 36 s of training alone
    assert process.returncode == 0, output
    finished = Counter(run.data.tags["run_key"] for run in runs(here) if run.info.status == "FINISHED")
    assert (len(finished), set(finished.values())) == (6, {1})
    assert Counter(complete_trials(here)) == finished
    assert values(here) == values(there)


def test_a_batch_system_ends_a_run_as_ctrl_c_does(tmp_path: Path) -> None:
    """Slurm sends SIGTERM to every process of a job, `timeout` to the first and then to all: that is one signal."""
    root = make_toy_root(tmp_path, LONG)
    with running(root, "--workers", "1") as process:
        wait_for_checkpoint(root, process)
        process.terminate()
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "stopping at the end of the current epochs; a second signal stops at once" in output
    assert output.endswith("stn-bench: stopped; `stn-bench run tiny` goes on from here\n")
    assert {(run.data.tags["kind"], run.info.status) for run in all_runs(root)} == {
        ("run", "KILLED"),
        ("arm", "KILLED"),
    }
    assert checkpoints(root)


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once_and_leaves_none_open(tmp_path: Path) -> None:
    root = make_toy_root(tmp_path, slow_toys(epochs=3, seconds=60))
    with running(root, "--workers", "1") as process:
        while not list(root.glob("mlruns/checkpoints/*/*")):
            assert process.poll() is None
            time.sleep(0.1)
        for _ in range(2):
            os.killpg(process.pid, signal.SIGTERM)
            time.sleep(0.5)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 143, output
    assert {run.info.status for run in all_runs(root)} == {"KILLED"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("letters", "signum"),
    [(False, signal.SIGINT), (True, signal.SIGINT), (True, signal.SIGTERM), (False, signal.SIGHUP)],
)
def test_a_stop_is_clean_and_run_goes_on_to_the_same_numbers(tmp_path: Path, letters: bool, signum: int) -> None:
    def fresh(name: str) -> Path:
        if letters:
            return make_root(tmp_path / name, PLAIN.replace('"train.epochs" = 2', '"train.epochs" = 30'))
        return make_toy_root(tmp_path / name, LONG)

    root = fresh("stopped")
    with running(root, "--workers", "2") as process:
        wait_for_checkpoint(root, process)
        os.killpg(process.pid, signum)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, output
    assert "stn-bench run tiny" in output
    assert "Traceback" not in output
    assert "RUNNING" not in {run.info.status for run in all_runs(root)}
    again = stn_bench("run", "tiny", root=root)
    assert again.returncode == 0, again.stderr
    undisturbed = fresh("undisturbed")
    assert stn_bench("run", "tiny", root=undisturbed).returncode == 0
    assert values(root) == values(undisturbed)


def test_workers_end_when_run_is_killed(tmp_path: Path) -> None:
    root = make_toy_root(tmp_path, LONG)
    with running(root, "--workers", "1") as process:
        wait_for_checkpoint(root, process)
        children = workers(process)
        assert len(children) == 1
        process.kill()
        gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert len(gone) == 1


def test_a_crashing_arm_is_recorded_and_the_study_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = '[arms.broken]\nset = { "fate" = "raise" }\n'
    root = make_toy_root(
        tmp_path,
        TOYS.replace("[1, 2, 3]", "[1, 2]"),
        f'title = "Crash"\nquestion = "What if an arm raises?"\n{broken}',
    )
    assert call("run", "tiny", "--workers", 1, "--root", root) == 1
    assert "this toy cannot be trained" in capfd.readouterr().out
    base, arm = json.loads((root / "reports/tiny/report.json").read_text())["ablations"][0]["arms"]
    assert len(base["values"]) == 2
    assert arm["verdict"] == "invalid"
    assert "2 of 2 seeds" in arm["reason"]
    assert "RUNNING" not in statuses(root)
    assert not checkpoints(root)


MINE = """
from stn_bench.settings import Settings
from stn_bench.subject import Metric, Subject


class Dice(Settings):
    sides: int = 6
    \"\"\"Number of sides.\"\"\"


def train(settings, seed, run):
    for epoch in (1, 2):
        run.log(epoch, {"eyes": epoch})
    (run.files / "note.txt").write_text("kept")
    return {"eyes": settings.sides + seed / 10}


subject = Subject("dice:subject", Dice, train)
"""


def test_four_fields_are_a_subject_of_the_users_own(tmp_path: Path) -> None:
    """Its code lies under the root, its result is a mapping, and its metric is the study's alone."""
    study = TOYS.replace('"toy"', '"dice:subject"\nmetric = "eyes"\ndirection = "maximize"').replace(
        '"epochs" = 3', '"sides" = 6'
    )
    root = make_toy_root(tmp_path, study, 'title = "D"\nquestion = "More?"\n[arms.more]\nset = { "sides" = 8 }\n')
    (root / "dice.py").write_text(MINE)
    assert call("run", "tiny", "--workers", 1, "--root", root) == 0
    assert values(root) == [[6.1, 6.2, 6.3], [8.1, 8.2, 8.3]]
    run = next(run for run in runs(root) if run.data.tags["arm"] == "base")
    kept = root / "mlruns/artifacts" / run.info.run_id / "artifacts"
    assert (kept / "note.txt").read_text() == "kept"
    record = json.loads((kept / "record.json").read_text())
    assert record["subject"] == "dice:subject"
    assert record["history"] == {"eyes": [1.0, 2.0]}
    assert {"cost.seconds", "cost.cpu_seconds", "cost.peak_memory_mb"} <= record["metrics"].keys()


def test_a_dry_run_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_toy_root(tmp_path, TUNED_TOYS)
    assert call("run", "tiny", "--dry-run", "--root", root) == 0
    assert "10 runs" in capsys.readouterr().out
    assert not (root / "mlruns").exists()
