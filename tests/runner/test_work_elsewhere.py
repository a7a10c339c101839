"""Packed studies on a machine that has nothing but a subject's libraries and no network: a bare environment."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from commands import call
from packaging.requirements import Requirement
from packs import check_alike, home_of, numbers, pack
from processes import runs
from tiny import make_toy_root, stn_bench

from stn_bench.runner.packed import HARNESS
from stn_bench.study.catalogue import bundled_root
from stn_bench.tracking.archive import read_archive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.name != "posix", reason="its environment is made of links"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]

STORES = ("mlflow", "optuna", "sqlalchemy", "alembic", "scipy", "pandas", "matplotlib", "jinja2")


def needed(names: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """Return distributions with all that they require, as `pip install` would install them."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [(name, frozenset[str]()) for name in names]
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        found[key] = importlib.metadata.distribution(name)
        for text in found[key].requires or ():
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((one.name, frozenset(one.extras)))
    return found


def bare(folder: Path, *libraries: str) -> Path:
    """Return the Python of an environment as `pip install --no-deps stn-bench` and these libraries leave it."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for one in needed([*HARNESS, *libraries]).values():
        for top in {Path(str(file)).parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(one.locate_file(top))))
    package = Path(stn_bench_home())
    shutil.copytree(package, site / "stn_bench", ignore=shutil.ignore_patterns("__pycache__"))
    for kind in ("ablations", "studies"):
        shutil.copytree(bundled_root() / kind, site / "stn_bench/bundled" / kind)
    version = importlib.metadata.version("stn-bench")
    (site / f"stn_bench-{version}.dist-info").mkdir()
    told = f"Metadata-Version: 2.4\nName: stn-bench\nVersion: {version}\n"
    (site / f"stn_bench-{version}.dist-info/METADATA").write_text(told)
    return folder / "bin/python"


def stn_bench_home() -> Path:
    import stn_bench as package

    return Path(package.__file__).parent


def without_network() -> list[str]:
    """Return what a command begins with that is to reach no network, where this machine allows that."""
    for options in (["-n"], ["-rn"]):
        if shutil.which("unshare") and not subprocess.run(["unshare", *options, "true"], check=False).returncode:
            return ["unshare", *options]
    return []


def elsewhere(python: Path, folder: Path, *arguments: object) -> str:
    """Run `stn-bench …` there, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*without_network(), str(python), "-m", "stn_bench", *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_bare(python: Path) -> None:
    code = f"import importlib.util; print([one for one in {STORES} if importlib.util.find_spec(one)])"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_toys_are_trained_where_nothing_else_is_installed(tmp_path: Path) -> None:
    python = bare(tmp_path / "bare")
    check_bare(python)
    embedded, root = (make_toy_root(tmp_path / name) for name in ("embedded", "root"))
    assert call("run", "tiny", "--workers", 1, "--root", embedded) == 0
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(pack(root), there / "work.zip")
    for number in (1, 2, 3):
        elsewhere(
            python, there, "work", "work.zip", "-o", f"results{number}.zip", "--shard", f"{number}/3", "--workers", 1
        )
    for number in (3, 1, 2):
        assert call("import", there / f"results{number}.zip", "--root", root) == 0
    check_alike(root, embedded)


MODEL = '''
"""A small classifier of digits."""

from keras import Sequential, layers

from noise import digits
from stn_bench.settings import Settings
from stn_bench.subjects.keras_model import KerasModel


class Digits(Settings):
    width: int = 16
    """Units of the hidden layer."""
    dropout: float = 0.2
    """Fraction that is dropped."""
    epochs: int = 3
    """Passes over the training examples."""


def data(settings, folder):
    return digits(folder / "digits.npz")


def prepare(settings, lent):
    import numpy as np

    file = lent.data / "digits.npz"
    if not file.exists():
        lent.data.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        shapes, labels = random.random((10, 8, 8, 1)), random.integers(10, size=400)
        np.savez(file, x=shapes[labels] + 0.5 * random.normal(size=(400, 8, 8, 1)), y=labels)


def fingerprint(settings, data):
    import hashlib

    file = data / "digits.npz"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def build(settings):
    return Sequential([
        layers.Input((8, 8, 1)),
        layers.Flatten(),
        layers.Dense(settings.width, activation="relu"),
        layers.Dropout(settings.dropout),
        layers.Dense(10, activation="softmax"),
    ])


subject = KerasModel(
    Digits,
    data=data,
    build=build,
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    prepare=prepare,
    fingerprint=fingerprint,
)
'''
NOISE = """
import numpy as np


def digits(file):
    with np.load(file) as held:
        x, y = held["x"].astype("float32"), held["y"]
    return (x[:240], y[:240]), (x[240:320], y[240:320]), (x[320:], y[320:])
"""
STUDY = """
title = "Digits"
subject = "digits:subject"
ablations = ["depth"]
seeds = [1, 2, 3]
"""
WIDTH = 'title = "Width"\nquestion = "Is wider better?"\n[arms.wide]\nset = { width = 64 }\n'


def keras_root(folder: Path) -> Path:
    root = make_toy_root(folder, STUDY, WIDTH)
    (root / "digits.py").write_text(MODEL)
    (root / "noise.py").write_text(NOISE)
    return root


def digits_of(root: Path) -> Any:
    """Return the test pictures."""
    with np.load(root / "mlruns/datasets/digits.npz") as held:
        return held["x"][320:].astype("float32")


def test_a_keras_model_comes_to_the_same_bits_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = bare(tmp_path / "bare", "keras", "tensorflow")
    check_bare(python)
    embedded, root = (keras_root(tmp_path / name) for name in ("embedded", "root"))
    for one in (embedded, root):
        assert stn_bench("check", root=one).returncode == 0
    done = stn_bench("run", "tiny", "--workers", "1", "--threads", "1", root=embedded)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "work.zip"
    assert stn_bench("pack", "tiny", file, root=root).returncode == 0
    (tmp_path / "there").mkdir()
    told = elsewhere(python, tmp_path / "there", "work", file, "-o", "results.zip", "--workers", 1, "--threads", 1)
    assert "! runs code of tiny's own, with your rights: digits.py, noise.py" in told
    results = tmp_path / "there/results.zip"
    assert stn_bench("import", results, root=root).returncode == 0
    kept = {run.data.tags["run_key"]: home_of(embedded, run) for run in runs(embedded)}
    found: dict[str, Any] = numbers(results)
    assert found.keys() == kept.keys()
    for run_key, (metrics, history, outcome) in found.items():
        record = json.loads((kept[run_key] / "record.json").read_text())
        own = {name: value for name, value in record["metrics"].items() if not name.startswith("cost.")}
        assert (metrics, outcome) == (own, record["outcome"])  # bit for bit
        assert {name: list(series) for name, series in history.items()} == record["history"]
    files = read_archive(results).files
    assert all({"examples.npz", "predictions.npz", "model.keras"} == set(some) for some in files.values())
    for run in runs(root):  # the same network, by Keras' own file
        model = keras.saving.load_model(home_of(root, run) / "model.keras")
        with np.load(home_of(root, run) / "predictions.npz") as said:
            x = digits_of(root)
            assert np.allclose(model.predict(x, verbose=0), said[said.files[0]], atol=1e-6)
    check_alike(root, embedded)
