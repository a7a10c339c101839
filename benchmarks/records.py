"""What commands cost that train nothing: on the runs of slim_november, on 10,000 runs in 500 arms, and on a plan.

    python benchmarks/records.py [--runs 10000] [--cells 100000]

The runs are written into MLflow's tables by SQL, as a worker leaves them; `slim_november` is imported. Each command is
run twice in a process of its own; the table shows both: processor seconds, and of the second its largest memory and
what it left in the temporary folder. That study itself would train on, since its words were published under another
rule; `again` asks the same questions on its first three seeds, of which every run is there.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stn_bench.runner.job import Job
from stn_bench.runner.runner import study_note
from stn_bench.runner.stores import open_tracking
from stn_bench.study.load import load_plan
from stn_bench.study.plan import Plan, RunSpec
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.record import RECORD, RunRecord, run_name, run_tags
from stn_bench.tracking.results import Keys

PROJECT = Path(__file__).parent.parent
ARMS = 20  # of an ablation, its base beside them
SUBJECT = '''
"""Somebody's training."""
import math


def train(*, seed: int, rate: float = 0.1, depth: int = 4) -> dict[str, float]:
    return {"score": 1.0 - abs(math.log10(rate) + 1) + 0.01 * (seed % 7)}
'''
OLD = "slim_november"
AGAIN = f'title = "Slim, its first three seeds"\nextends = "{OLD}"\nseeds = [1, 2, 3]\nlooks = []\n'
DAY = 1_750_000_000_000  # milliseconds since 1970


def make_root(folder: Path, arms: int, seeds: int) -> Path:
    """Write the study `many` of so many arms, on so many seeds."""
    (folder / "studies").mkdir(parents=True)
    (folder / "ablations").mkdir()
    (folder / "waves.py").write_text(SUBJECT)
    names = [f"rate{number}" for number in range(1, arms // ARMS + 1)]
    for number, name in enumerate(names):
        rates = [0.001 + 0.8 * (number * ARMS + one) / arms for one in range(ARMS)]
        text = f'title = "Rates {number}"\nquestion = "Does another rate score more?"\n'
        text += "".join(f'[arms.r{one}]\nset = {{ "rate" = {rate} }}\n' for one, rate in enumerate(rates))
        (folder / "ablations" / f"{name}.toml").write_text(text)
    text = f'title = "Many"\nsubject = "waves:train"\nmetric = "score"\ndirection = "maximize"\nablations = {names}\n'
    (folder / "studies/many.toml").write_text(f"{text}seeds = {list(range(1, seeds + 1))}\n".replace("'", '"'))
    return folder


def finish_all(root: Path) -> int:
    """Write a finished run of every cell into the store of a root, and return their number."""
    workspace = Workspace.at(root, f"sqlite:///{root / 'mlruns/mlflow.db'}")
    plan = load_plan("many", workspace)
    tracking = open_tracking(workspace)
    experiment = tracking.open_study("many", study_note(plan))
    keys = Keys(plan.subject, workspace.datasets)
    with sqlite3.connect(root / "mlruns/mlflow.db") as store:
        count = 0
        for record, tags in _records(plan, keys, workspace, experiment):
            _write(store, record, tags, experiment, workspace.artifacts, DAY + 1000 * count)
            count += 1
    store.close()
    return count


def _records(
    plan: Plan, keys: Keys, workspace: Workspace, experiment: str
) -> Iterator[tuple[RunRecord, dict[str, str]]]:
    random = np.random.default_rng(0)
    for arm in plan.arms:
        for spec in arm.verdict_specs({}):
            identity = keys.identity(spec)
            assert identity
            job = Job.of(plan.subject, spec, identity, workspace, experiment=experiment, parent=None, threads=1)
            made = job.record(uuid.uuid4().hex, "2026-01-01T00:00:00+00:00", "finished", "")
            metrics = {"score": _score(spec) + 0.02 * random.normal(), "cost.seconds": 1.0, "cost.cpu_seconds": 1.0}
            made = made.model_copy(update={"metrics": metrics, "ended": "2026-01-01T00:00:01+00:00"})
            yield made, run_tags(spec, identity, plan.subject.settings)


def _score(spec: RunSpec) -> float:
    return 1.0 - abs(float(np.log10(spec.settings["rate"])) + 1) / 4


def _write(
    store: sqlite3.Connection, record: RunRecord, tags: dict[str, str], experiment: str, artifacts: Path, now: int
) -> None:
    home = artifacts / record.run_id / "artifacts"
    home.mkdir(parents=True)
    (home / RECORD).write_text(record.model_dump_json())
    row = (record.run_id, run_name(record), "FINISHED", now, now + 1000, "active", home.as_uri(), int(experiment))
    columns = "run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id"
    store.execute(f"INSERT INTO runs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    told = {**tags, "kind": "run", "outcome": record.outcome, "mlflow.runName": run_name(record)}
    store.executemany(
        'INSERT INTO tags ("key", value, run_uuid) VALUES (?, ?, ?)', [(*one, record.run_id) for one in told.items()]
    )
    params = [(name, str(value), record.run_id) for name, value in record.settings.items()]
    store.executemany('INSERT INTO params ("key", value, run_uuid) VALUES (?, ?, ?)', params)
    values = [(name, value, now, 0, 0, record.run_id) for name, value in record.metrics.items()]
    columns = '"key", value, timestamp, step, is_nan, run_uuid'
    for table in ("metrics", "latest_metrics"):
        store.executemany(f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?, ?)", values)


def measure(root: Path, *arguments: str) -> tuple[float, float, int]:
    """Return the processor seconds of a command, its largest memory in MiB, and the files that it left."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stn_bench", *arguments]
        command += [] if "--help" in arguments else ["--root", str(root)]
        process = subprocess.Popen(
            command, env={**os.environ, "TMPDIR": folder, "PYTHONPATH": str(PROJECT)}, stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
        return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, len(list(Path(folder).iterdir()))


def show(title: str, root: Path, commands: Sequence[tuple[tuple[str, ...], float]]) -> None:
    """Print what commands cost beside their targets, in processor seconds."""
    for arguments, target in commands:
        first = measure(root, *arguments)
        seconds, memory, left = measure(root, *arguments)
        word = "met" if seconds <= target else "NOT MET"
        print(
            f"{title:<18} {' '.join(arguments):<14} {first[0]:6.2f} s, again {seconds:6.2f} s "
            f"(target {target:g}) {word}, {memory:5.0f} MiB, {left} left in the temporary folder",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--arms", type=int, default=500)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slim = Path(folder, "slim")
        (slim / "studies").mkdir(parents=True)
        (slim / "studies/again.toml").write_text(AGAIN)
        measure(slim, "import", str(PROJECT / "reports" / OLD / "runs.zip"))
        show("slim", slim, [(("--help",), 0.5), (("list",), 0.5), (("show", OLD), 0.5)])
        show("slim", slim, [(("status", OLD), 1.5), (("report", OLD), 10), (("run", "again"), 3)])
        many = make_root(Path(folder, "many"), asked.arms, asked.runs // asked.arms)
        began = time.perf_counter()
        count = finish_all(many)
        print(f"{count} runs written in {time.perf_counter() - began:.0f} s", flush=True)
        show(f"{count} runs", many, [(("status", "many"), 5), (("report", "many"), 60), (("run", "many"), 20)])
        planned = make_root(Path(folder, "planned"), asked.arms, asked.cells // asked.arms)
        show(f"{asked.cells} cells", planned, [(("plan", "many"), 10)])


if __name__ == "__main__":
    main()
