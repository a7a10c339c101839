"""Arms that fail, each in its own way, and studies that go on under other code. Part of `pytest -m faults`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import complete_trials, runs
from tiny import PLAIN, TOYS, make_root, make_toy_root, stn_bench

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SOUND = """
import keras

def build(config):
    size, classes = config.data.size, len(config.data.alphabet)
    picture = keras.Input((size, size, 3), dtype="uint8")
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(picture))
    return keras.Model(picture, keras.layers.Dense(classes, activation="softmax")(hidden))
"""
RAISES = "def build(config):\n    raise RuntimeError('this arm cannot be built')\n"
ENDS_ITS_PROCESS = "import os, signal\n\ndef build(config):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
ASKS_FOR_TOO_MUCH = "import numpy\n\ndef build(config):\n    return numpy.ones((1 << 48,), numpy.uint8)\n"
HANGS = "import time\n\ndef build(config):\n    time.sleep(3600)\n"


def write_arm(root: Path, settings: str, code: str = "") -> None:
    """Give the study one question with one arm, and a module `own` that a model factory may name."""
    (root / "ablations").mkdir(exist_ok=True)
    (root / "ablations/fate.toml").write_text(
        f'title = "Fate"\nquestion = "What becomes of it?"\n[arms.odd]\nset = {{ {settings} }}\n'
    )
    (root / "own.py").write_text(code)


def arm_study(folder: Path, settings: str, code: str = "", base: str = "") -> Path:
    study = PLAIN.replace('["transformer"]', '["fate"]', 1).replace('arms = { transformer = ["none"] }', "")
    root = make_root(folder, study.replace("[base]", f"[base]\n{base}"))
    write_arm(root, settings, code)
    return root


def arms(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    base, odd = json.loads((root / "reports/tiny/report.json").read_text())["ablations"][0]["arms"]
    return base, odd


def ends(root: Path) -> list[str]:
    """Return how each run of the odd arm ended that was not merely a dead try."""
    found = [run for run in runs(root) if run.data.tags["arm"] == "odd" and run.info.status != "KILLED"]
    return sorted(run.data.tags["outcome"] for run in found)


def toy_study(folder: Path, fate: str, more: str = "") -> Path:
    root = make_toy_root(folder, f"{TOYS}{more}")
    write_toy_arm(root, fate)
    return root


def write_toy_arm(root: Path, fate: str) -> None:
    arm = f'[arms.odd]\nset = {{ "fate" = "{fate}", "depth" = 4 }}\n'
    (root / "ablations/depth.toml").write_text(f'title = "Fate"\nquestion = "What becomes of it?"\n{arm}')


def test_an_arm_that_diverges(tmp_path: Path) -> None:
    root = toy_study(tmp_path, "diverge")
    told = stn_bench("run", "tiny", root=root)
    assert_ends_diverged(root, told)


def test_a_network_that_diverges(tmp_path: Path) -> None:
    root = arm_study(tmp_path, '"model.factory" = "own:build"', SOUND.replace("1 / 255", "3e38"))
    told = stn_bench("run", "tiny", root=root)
    assert_ends_diverged(root, told)


def assert_ends_diverged(root: Path, told: subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in told.stdout + told.stderr
    base, odd = arms(root)
    assert len(base["values"]) == 3
    assert ends(root) == ["diverged"] * 3
    assert odd["verdict"] == "invalid"
    assert "3 of 3 seeds" in odd["reason"]
    assert len(complete_trials(root)) == 6


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        pytest.param("raise", "this toy cannot be trained", id="raises"),
        pytest.param("starve", "MemoryError", id="asks for too much memory"),
        pytest.param("die", "its process died in each of 4 tries", id="is killed for its memory"),
        pytest.param("hang", "took longer than `timeout` = 5 s", id="hangs"),
    ],
)
def test_an_arm_that_crashes_is_recorded_and_the_study_goes_on(tmp_path: Path, fate: str, reason: str) -> None:
    root = toy_study(tmp_path, fate, '"timeout" = 5.0\n' if fate == "hang" else "")
    told = stn_bench("run", "tiny", "--workers", 2, root=root)
    assert_ends_crashed(root, told, reason)
    write_toy_arm(root, "finish")  # mended: its seeds are trained, the base's are not
    assert_mended(root)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(RAISES, "this arm cannot be built", id="raises"),
        pytest.param(ASKS_FOR_TOO_MUCH, "MemoryError", id="asks for too much memory"),
        pytest.param(ENDS_ITS_PROCESS, "its process died in each of 4 tries", id="is killed for its memory"),
        pytest.param(HANGS, "took longer than `train.timeout` = 60 s", id="hangs"),
    ],
)
def test_a_network_that_crashes_is_recorded_and_the_study_goes_on(tmp_path: Path, code: str, reason: str) -> None:
    patience = '"train.timeout" = 60.0' if code == HANGS else ""  # a worker's first run loads the libraries, too
    root = arm_study(tmp_path, '"model.factory" = "own:build"', code, base=patience)
    told = stn_bench("run", "tiny", "--workers", 2, root=root)
    assert_ends_crashed(root, told, reason)
    write_arm(root, '"model.factory" = "own:build"', SOUND)
    assert_mended(root)


def assert_ends_crashed(root: Path, told: subprocess.CompletedProcess[str], reason: str) -> None:
    assert told.returncode == 1, told.stdout + told.stderr
    assert "Traceback" not in told.stdout + told.stderr
    base, odd = arms(root)
    assert len(base["values"]) == 3
    assert ends(root) == ["crashed"] * 3
    assert "RUNNING" not in {run.info.status for run in runs(root)}
    assert odd["verdict"] == "invalid"
    assert "3 of 3 seeds" in odd["reason"]
    assert all(reason in why for why in odd["failed"].values()), odd["failed"]


def assert_mended(root: Path) -> None:
    assert stn_bench("run", "tiny", root=root).returncode == 0
    assert [len(arm["values"]) for arm in arms(root)] == [3, 3]
    assert len([run for run in runs(root) if run.info.status == "FINISHED"]) == 6


def test_other_code_is_not_mixed_in_silence(tmp_path: Path) -> None:
    root = arm_study(tmp_path, '"model.factory" = "own:build"', SOUND)
    assert stn_bench("run", "tiny", root=root).returncode == 0
    old = arms(root)[1]["run_ids"]
    write_arm(root, '"model.factory" = "own:build"', SOUND.replace("1 / 255", "1 / 128"))
    why = stn_bench("why", old[0], root=root)
    assert "would be trained again, since:" in why.stdout
    assert "code own:build" in why.stdout

    study = root / "studies/tiny.toml"
    study.write_text(study.read_text().replace("[1, 2, 3]", "[1, 2, 3, 4]"))
    kept = stn_bench("run", "tiny", "--accept-stale", root=root)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert arms(root)[1]["run_ids"][:3] == old
    assert "**Mixed versions.**" in (root / "reports/tiny/report.md").read_text()
    assert "own:build" in (root / "reports/tiny/report.md").read_text()

    again = stn_bench("run", "tiny", root=root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert not set(arms(root)[1]["run_ids"]) & set(old)
    assert "Mixed versions" not in (root / "reports/tiny/report.md").read_text()


def test_another_library_version_is_not_mixed_in_silence(tmp_path: Path) -> None:
    root = make_root(tmp_path, PLAIN)
    assert stn_bench("run", "tiny", root=root).returncode == 0
    before = {run.info.run_id for run in runs(root)}
    other = tmp_path / "other"  # a process that is told of another Keras, as after an upgrade
    other.mkdir()
    (other / "sitecustomize.py").write_text(
        "import importlib.metadata as m\nreal = m.version\n"
        "m.version = lambda name: '99.0' if name == 'keras' else real(name)\n"
    )
    env = {"PYTHONPATH": str(other)}
    why = stn_bench("why", sorted(before)[0], root=root, more=env)
    assert "libraries keras: was" in why.stdout
    assert "is '99.0'" in why.stdout
    kept = stn_bench("run", "tiny", "--accept-stale", root=root, more=env)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert {run.info.run_id for run in runs(root)} == before
    again = stn_bench("run", "tiny", root=root, more=env)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len({run.info.run_id for run in runs(root)} - before) == 6
