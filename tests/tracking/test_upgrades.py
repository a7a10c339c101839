"""Stores that other versions of MLflow and Optuna wrote: they open, or the message names the command that helps.

The stores were made by those versions (see `fixtures/stores/README.md`).
"""

from __future__ import annotations

import contextlib
import gzip
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow.store.db.utils
import optuna
import pytest
import sqlalchemy

from stn_bench.runner.leases import Finished
from stn_bench.runner.queue import Queue
from stn_bench.runner.queue.rows import SEED, SEEDS, QueuedJob
from stn_bench.runner.queue.store import INDEXES, refusal
from stn_bench.system.errors import StoreError
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import RECORD

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as the queue does

STORES = Path(__file__).parents[1] / "fixtures" / "stores"
LOWEST = dict(
    line.split("==")
    for line in (Path(__file__).parents[2] / "requirements" / "lowest.txt").read_text().split()
    if "==" in line
)
OLD_MLFLOW, OLD_OPTUNA = "3.14.0", "3.1.1"
NAME = "small / base / verdict"


def restore(dump: str, file: Path) -> str:
    """Write a store as it was made, and return its address."""
    text = gzip.decompress((STORES / f"{dump}.sql.gz").read_bytes()).decode()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(text.replace("/anywhere", str(file.parent)))
    return f"sqlite:///{file}"


def restore_record(version: str, folder: Path) -> None:
    content = gzip.decompress((STORES / f"mlflow-{version}.record.gz").read_bytes())
    run_id = re.search(rb'"run_id": ?"(\w+)"', content)
    assert run_id
    path = folder / "artifacts" / run_id[1].decode() / "artifacts" / RECORD
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def change(file: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.commit()


def open_tracking(folder: Path) -> Tracking:
    return Tracking(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts", folder / "tracking.lock")


def open_queue(folder: Path) -> Queue:
    return Queue(f"sqlite:///{folder / 'optuna.db'}", heartbeat=15, lock=folder / "search.lock")


def run_command_of(error: pytest.ExceptionInfo[StoreError]) -> None:
    """Run the command that a message ends with, as a person would who copies it."""
    program, *arguments = shlex.split(str(error.value).rpartition("run: ")[2])
    command = [Path(sys.executable).with_name(program), *arguments]
    subprocess.run(command, check=True, capture_output=True)


# MLflow ----------------------------------------------------------------------------------------------------------


def test_mlflows_store_of_the_lowest_version_is_read_and_written(tmp_path: Path) -> None:
    restore(f"mlflow-{LOWEST['mlflow']}", tmp_path / "mlflow.db")
    restore_record(LOWEST["mlflow"], tmp_path)
    store = open_tracking(tmp_path)
    (run,) = store.finished()
    (record,) = store.records([run.run_id])
    assert (record.seed, record.arm, record.metrics["test.accuracy"]) == (1, "base", 0.5)
    tags = {"run_key": "another", "phase": "verdict", "seed": "2"}
    store.start_run(store.open_study("small"), None, "another", tags)
    assert [one.status for one in store.tries() if one.run_key == "another"] == ["RUNNING"]


def test_an_older_store_of_mlflow_is_upgraded_as_it_opens(tmp_path: Path) -> None:
    restore(f"mlflow-{OLD_MLFLOW}", tmp_path / "mlflow.db")
    assert [(run.seed, run.outcome) for run in open_tracking(tmp_path).finished()] == [(1, "finished")]


def test_an_older_store_that_mlflow_refuses_is_upgraded_by_the_command_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my studies"  # the command is quoted
    folder.mkdir()
    restore(f"mlflow-{OLD_MLFLOW}", folder / "mlflow.db")
    # As where only columns are missing and no whole table, the one case in which MLflow does not upgrade by itself.
    monkeypatch.setattr(mlflow.store.db.utils, "_all_tables_exist", lambda engine: True)
    with pytest.raises(StoreError, match="written by an older MLflow") as refused:
        open_tracking(folder)
    assert str(refused.value).endswith(f"run: mlflow db upgrade 'sqlite:///{folder}/mlflow.db'")
    run_command_of(refused)
    assert [(run.seed, run.outcome) for run in open_tracking(folder).finished()] == [(1, "finished")]


@pytest.mark.parametrize("gone", ["", "DROP TABLE spans"])
def test_a_newer_store_of_mlflow_asks_for_a_newer_mlflow(tmp_path: Path, gone: str) -> None:
    restore(f"mlflow-{LOWEST['mlflow']}", tmp_path / "mlflow.db")
    change(tmp_path / "mlflow.db", "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    if gone:
        change(tmp_path / "mlflow.db", gone)
    with pytest.raises(StoreError) as refused:
        open_tracking(tmp_path)
    assert str(refused.value) == (
        f"tracking store sqlite:///{tmp_path}/mlflow.db: was written by a newer MLflow than {mlflow.__version__}; "
        f"run: pip install --upgrade mlflow"
    )


# Optuna ----------------------------------------------------------------------------------------------------------


def test_optunas_store_of_the_lowest_version_is_read_and_written(tmp_path: Path) -> None:
    restore(f"optuna-{LOWEST['optuna']}", tmp_path / "optuna.db")
    store, worked = open_queue(tmp_path), list[str]()
    assert store.counts(NAME) == {"COMPLETE": 2, "WAITING": 1}
    store.enqueue(
        NAME, "maximize", [QueuedJob(f"key-{seed}", {SEED: seed}, {SEED: SEEDS}) for seed in (1, 2, 3)], ended(1, 2)
    )
    store.work([NAME], lambda lease: worked.append(lease.run_key) or Finished(0.75, "run", "finished"))
    assert worked == ["key-3"]
    assert store.counts(NAME) == {"COMPLETE": 3}
    trials = optuna.load_study(study_name=NAME, storage=f"sqlite:///{tmp_path / 'optuna.db'}").trials
    assert [trial.params for trial in trials] == [{SEED: 1}, {SEED: 2}, {SEED: 3}]  # the last one's were left to us


def ended(*seeds: int) -> dict[str, Finished]:
    return {f"key-{seed}": Finished(0.5, f"run-of-key-{seed}", "finished") for seed in seeds}


def test_an_older_store_of_optuna_is_upgraded_by_the_command_it_names(tmp_path: Path) -> None:
    folder = tmp_path / "my studies"
    folder.mkdir()
    restore(f"optuna-{OLD_OPTUNA}", folder / "optuna.db")
    with pytest.raises(StoreError, match="written by an older Optuna") as refused:
        open_queue(folder)
    assert str(refused.value).endswith(f"run: optuna storage upgrade --storage 'sqlite:///{folder}/optuna.db'")
    run_command_of(refused)
    assert open_queue(folder).counts(NAME) == {"COMPLETE": 1, "WAITING": 1}


def test_our_indexes_are_no_hindrance_to_optunas_own_upgrade(tmp_path: Path) -> None:
    restore(f"optuna-{OLD_OPTUNA}", tmp_path / "optuna.db")
    for name, (table, columns) in INDEXES.items():
        change(tmp_path / "optuna.db", f"CREATE INDEX {name} ON {table} {columns}")
    optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}", skip_compatibility_check=True).upgrade()
    store = open_queue(tmp_path)
    assert store.counts(NAME) == {"COMPLETE": 1, "WAITING": 1}
    kept = sqlalchemy.inspect(store._storage.engine)
    assert INDEXES.keys() <= {
        index["name"] for table in ("trials", "trial_user_attributes") for index in kept.get_indexes(table)
    }


def test_a_newer_store_of_optuna_asks_for_a_newer_optuna(tmp_path: Path) -> None:
    restore(f"optuna-{LOWEST['optuna']}", tmp_path / "optuna.db")
    change(tmp_path / "optuna.db", "UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(StoreError, match=r"newer Optuna than [\d.]+; run: pip install --upgrade optuna$"):
        open_queue(tmp_path)


# Addresses -------------------------------------------------------------------------------------------------------


def test_a_refusal_tells_no_password() -> None:
    from stn_bench.system.text import without_secrets
    from stn_bench.tracking.mlflow import refusals

    address = "postgresql://bench:hunter2@host/name"
    outdated = RuntimeError("no longer compatible with the table schema. Please execute `$ optuna storage upgrade")
    told = [
        refusals.refusal(RuntimeError("Can't locate revision identified by 'dc11669786a5'"), address),
        refusal(outdated, without_secrets(address)),
    ]
    assert told[0].endswith("run: mlflow db upgrade 'postgresql://bench:***@host/name'")
    assert told[1].endswith("run: optuna storage upgrade --storage 'postgresql://bench:***@host/name'")
