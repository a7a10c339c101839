"""Tracking stores with hand-made runs: written as a job writes them, with no training."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
from makers import ablation, arm, plan, record

from stn_bench.study.plan import Plan, RunSpec
from stn_bench.subject import DataNote, find_subject
from stn_bench.system.workspace import sqlite_address, sqlite_file
from stn_bench.tracking.identity import identify
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import RunRecord, arm_tags, run_name, run_note, run_tags

FINGERPRINT = "f" * 64
STN = find_subject("stn")
PICTURES = DataNote("captcha-9x16", "captcha", (9, 16, 16, 3), "uint8", 26, "picture")
EPOCHS = 3


def question(**rest: object) -> Plan:
    """Return a plan of two arms, one tuning trial and three seeds; its report shows what the transformer does."""
    none = arm("none", {"model.transformer.kind": "none"})
    return plan(ablation(none, name="transformer"), **{"trials": 1, **rest})


@functools.cache
def _empty() -> Path:
    """Return a folder with an empty store: making MLflow's tables takes seconds, copying them does not."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _open(folder)
    return folder


def _open(folder: Path) -> Tracking:
    return Tracking(sqlite_address(folder / "mlflow.db"), folder / "artifacts", folder / "tracking.lock")


def open_store(folder: Path) -> Tracking:
    """Return the store in a folder, made if it is missing."""
    if not (folder / "mlflow.db").exists():
        shutil.copytree(_empty(), folder, dirs_exist_ok=True)
    return _open(folder)


def artifact_file(store: Tracking, run_id: str, name: str) -> Path:
    """Return the file of an artifact in a store here, to be changed; what `Tracking.file` returns is a copy."""
    path = (sqlite_file(store.uri) or Path()).parent / "artifacts" / run_id / "artifacts" / name
    assert path.is_file()
    return path


def finish(spec: RunSpec, store: Tracking, outcome: str = "finished", accuracy: float = 0.5) -> RunRecord:
    """Write a run of a spec to a store, and return its record as it is read."""
    identity = identify(STN, spec.settings, spec.seed, FINGERPRINT)
    experiment = store.open_study(spec.study)
    parent = store.open_arm(experiment, spec.label, arm_tags(spec.study, spec.ablation, spec.arm), f"Arm {spec.label}")
    run_id = store.start_run(experiment, parent, run_name(spec), run_tags(spec, identity, STN.settings))
    store.note_run(run_id, run_note(spec, identity.run_key))
    store.log_settings(run_id, spec.settings, PICTURES, FINGERPRINT)
    history = {
        "train.loss": tuple(1.0 / (spec.seed + epoch) for epoch in range(EPOCHS)),
        "validation.accuracy": tuple(accuracy * (epoch + 1) / EPOCHS for epoch in range(EPOCHS)),
    }
    for epoch in range(EPOCHS):
        store.log_epoch(run_id, epoch + 1, {name: series[epoch] for name, series in history.items()})
    metrics = {"test.accuracy": accuracy, "best.validation.accuracy": accuracy, "best.validation.loss": 0.1}
    made = record(spec, run_id, outcome=outcome, **metrics)
    made = made.model_copy(update={"run_key": identity.run_key, "identity": identity, "history": history})
    if outcome == "finished" and spec.phase != "tune":
        _keep_files(spec, run_id, store)
    store.finish_run(made, made.metrics)
    return RunRecord.model_validate_json(made.model_dump_json())


def _keep_files(spec: RunSpec, run_id: str, store: Tracking) -> None:
    random = np.random.default_rng(spec.seed)
    with tempfile.TemporaryDirectory() as folder:
        labels = np.arange(9, dtype=np.uint8)
        probability = random.random(9).astype(np.float16)
        np.savez_compressed(Path(folder, "predictions.npz"), labels=labels, predicted=labels, probability=probability)
        pictures = random.integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8)
        letters = np.array(["A", "B"])
        np.savez_compressed(
            Path(folder, "rectified.npz"), originals=pictures[0], rectified=pictures[1], letters=letters
        )
        Path(folder, "model.keras").write_bytes(b"a model")
        store.log_files(run_id, Path(folder))


def train(planned: Plan, store: Tracking, seeds: tuple[int, ...] = (1, 2, 3)) -> None:
    """Write all runs of a plan to a store, those of the verdict on these seeds."""
    for one in planned.arms:
        for spec in one.tuning_specs():
            finish(spec, store)
        for spec in one.verdict_specs(one.tuning_specs()[0].chosen if one.trials else {}):
            if spec.seed in seeds:
                finish(spec, store, accuracy=0.5 + 0.01 * spec.seed + 0.1 * (one.name == "base"))


__all__ = ["FINGERPRINT", "artifact_file", "finish", "open_store", "question", "train"]
