"""Faults that happen to subjects of others: a function, and a Keras model. Part of `pytest -m faults`."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from processes import assert_each_job_once, running, runs, values, wait_for_checkpoint, workers
from test_faults_storage import SmallDisk, assert_goes_on, assert_one_line, disks, needs_mount
from tiny import make_toy_root, stn_bench

__all__ = ["disks"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

FUNCTION = '''
import json
import time

import numpy as np


def train(*, seed, run, depth=2, epochs=12):
    """Walk at random, from the last step that the checkpoint holds."""
    file = run.folder / "walk.json"
    walk = json.loads(file.read_text())["walk"] if file.exists() else []
    for epoch in range(1, epochs + 1):
        if epoch > len(walk):
            time.sleep(0.2)
            walk.append(float(np.random.default_rng([seed, epoch]).normal(depth)))
            partial = run.folder / "walk.partial"
            partial.write_text(json.dumps({"walk": walk, "ballast": "x" * 60_000}))
            partial.replace(file)
        run.log(epoch, {"train.error": walk[epoch - 1]})
    return {"test.error": sum(walk)}
'''
KERAS = """
import time

import numpy as np

from stn_bench.settings import Settings
from stn_bench.subjects.keras_model import KerasModel


class Line(Settings):
    depth: int = 2
    epochs: int = 12


def data(settings):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 8)).astype("float32")
    y = x.sum(axis=1)
    return (x[:64], y[:64]), (x[64:80], y[64:80]), (x[80:], y[80:])


def build(settings):
    import keras

    layers = [keras.layers.Dense(32, activation="relu") for _ in range(settings.depth)]
    return keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dropout(0.1), keras.layers.Dense(1)])


def callbacks(settings):
    import keras

    return [keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: time.sleep(0.2))]


train = KerasModel(Line, data=data, build=build, loss="mse", callbacks=callbacks)
"""
STUDY = """
title = "Tiny: a subject of one's own"
subject = "own:train"
ablations = ["depth"]
seeds = [1, 2, 3]
margin = 0.05
"""
KINDS = {"function": (FUNCTION, 'metric = "test.error"\ndirection = "minimize"\n'), "keras": (KERAS, "")}


def own_root(folder: Path, kind: str) -> Path:
    text, metric = KINDS[kind]
    root = make_toy_root(folder, STUDY + metric)
    (root / "own.py").write_text(text)
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_killed_workers_change_no_number(tmp_path: Path, kind: str) -> None:
    undisturbed, root = own_root(tmp_path / "undisturbed", kind), own_root(tmp_path / "disturbed", kind)
    assert stn_bench("run", "tiny", root=undisturbed).returncode == 0
    chance = random.Random(4)
    with running(root, "--workers", "2") as process:
        for _ in range(3):
            wait_for_checkpoint(root, process)
            time.sleep(chance.uniform(0, 2))
            if alive := workers(process):
                chance.choice(alive).kill()
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert_each_job_once(root, 6)
    assert values(root) == values(undisturbed)


@needs_mount
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_without_room_is_one_line_and_run_goes_on(
    tmp_path: Path, disks: list[SmallDisk], kind: str
) -> None:
    root = own_root(tmp_path, kind)
    disks.append(SmallDisk(root / "mlruns/checkpoints", "40k"))
    assert_one_line(stn_bench("run", "tiny", root=root), "disk|room|space")
    assert {run.info.status for run in runs(root)} == {"KILLED"}
    disks[0].make_room()
    assert_goes_on(root)
