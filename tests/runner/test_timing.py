"""The probe in processes of its own; what a subject times is that subject's affair."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from makers import ablation, arm, study

from stn_bench.runner.timing import probe
from stn_bench.study.plan import PlannedArm, make_plan
from stn_bench.subject import Subject, find_subject
from stn_bench.system.errors import ConfigError, DataError, MachineError
from stn_bench.system.machine import Resources
from stn_bench.system.workspace import Workspace

TOY, STN = find_subject("toy"), find_subject("stn")
SMALL = {"data.count": 90, "data.validation": 26, "data.test": 26, "data.size": 20, "model.width": 1 / 32}


def toys(subject: Subject = TOY, **base: object) -> tuple[PlannedArm, ...]:
    asked = ablation(arm("slow", {"epochs": 5}))
    return make_plan(study(subject="toy", base=base), (asked,), subject).arms


def letters(**base: object) -> tuple[PlannedArm, ...]:
    return make_plan(study(base=base), (ablation(arm("drop", {"model.dropout": 0.5})),), STN).arms[:1]


def test_every_arm_is_probed_by_as_many_workers_as_there_are(tmp_path: Path) -> None:
    found = probe(toys(seconds=0.5), Workspace.at(tmp_path), Resources(2, 1))
    assert found == {"base": 1.5, "depth/slow": 2.5}
    assert list(tmp_path.iterdir()) == []


def test_a_subject_without_a_probe_says_so_in_one_line(tmp_path: Path) -> None:
    arms = toys(dataclasses.replace(TOY, probe=None))
    with pytest.raises(ConfigError, match=r"^--probe: subject `toy` has no probe; without it, .*finished runs$"):
        probe(arms, Workspace.at(tmp_path), Resources(1, 1))


OWN = """
from dataclasses import replace
from stn_bench.subject import find_subject
from stn_bench.system.errors import ConfigError, DataError

def lose(*given):
    raise DataError("no data set `mine`")

def refuse(*given):
    raise ConfigError("expected another depth")

lost, refused = (replace(find_subject("toy"), probe=probe) for probe in (lose, refuse))
"""


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("lost", DataError, "^no data set `mine`$"),
        ("refused", MachineError, "^base: cannot be probed: ConfigError: expected another depth"),
    ],
)
def test_what_a_probe_raises_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception], message: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_probes.py").write_text(OWN)
    arms = toys(find_subject(f"own_probes:{name}"))
    with pytest.raises(error, match=message):
        probe(arms, Workspace.at(tmp_path), Resources(1, 1))


@pytest.mark.slow  # it loads TensorFlow
def test_an_arm_that_cannot_be_trained_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def build(config):\n    return None\n")
    arms = letters(**SMALL, **{"model.factory": "broken:build"})
    with pytest.raises(MachineError, match=r"base: cannot be probed: ConfigError: .*broken:build: expected a keras"):
        probe(arms, Workspace.at(tmp_path), Resources(1, 1))
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["broken.py"]
