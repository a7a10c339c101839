"""Levels of looks that are not shipped: calibrated once, and kept with the plan."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from makers import ablation, arm, plan

from stn_bench.stats import is_shipped
from stn_bench.study import calibration
from stn_bench.study.calibration import calibrated, calibrated_anew, levels_path, with_levels
from stn_bench.study.plan import Plan
from stn_bench.study.preregistration import changes_since, preregister

KNOWN = {1: 0.03, 2: 0.028}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], int]]:
    """Calibrate without simulation, and take note of what was asked."""
    asked: list[tuple[tuple[int, ...], int]] = []

    def calibrate(looks: tuple[int, ...], arms: int) -> dict[int, float]:
        asked.append((looks, arms))
        return dict(KNOWN)

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    return asked


def looking(*looks: int) -> Plan:
    arms = (arm("wide", {"model.width": 2.0}), arm("narrow", {"model.width": 0.5}))
    return plan(ablation(*arms), seeds=tuple(range(1, looks[-1] + 1)), looks=looks)


def test_levels_are_calibrated_once_and_read_again(tmp_path: Path, quick: list[tuple[tuple[int, ...], int]]) -> None:
    (tmp_path / "studies").mkdir()
    planned = looking(3, 7)
    assert with_levels(planned, tmp_path).levels == {}
    assert calibrated(planned, tmp_path).levels == KNOWN
    again = with_levels(planned, tmp_path)
    assert again.levels == calibrated(again, tmp_path).levels == KNOWN
    assert quick == [((3, 7), 2)]


def test_other_looks_are_not_judged_by_them(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    calibrated(looking(3, 7), tmp_path)
    assert with_levels(looking(3, 6), tmp_path).levels == {}


@pytest.mark.parametrize("looks", [(5,), (3, 5), (4, 6, 8)])
def test_looks_that_are_shipped_need_no_file(looks: tuple[int, ...], tmp_path: Path) -> None:
    assert is_shipped(looks)
    assert calibrated(looking(*looks), tmp_path).levels == {}
    assert not levels_path(tmp_path, looking(*looks)).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"looks": [3, 7]}', '{"looks": [3, 7], "levels": {"1": 0.9}}', "{"])
def test_a_file_that_is_damaged_is_made_again(text: str, tmp_path: Path) -> None:
    planned = looking(3, 7)
    path = levels_path(tmp_path, planned)
    path.parent.mkdir()
    path.write_text(text)
    assert with_levels(planned, tmp_path).levels == {}
    calibrated(planned, tmp_path)
    assert json.loads(path.read_text())["levels"] == {"1": 0.03, "2": 0.028}


def test_where_nothing_can_be_written_they_count_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file, where a folder should be")
    assert calibrated(looking(3, 7), tmp_path).levels == KNOWN


def test_levels_that_somebody_wrote_are_not_frozen(tmp_path: Path) -> None:
    planned = looking(3, 7)
    path = levels_path(tmp_path, planned)
    path.parent.mkdir()
    path.write_text('{"looks": [3, 7], "levels": {"1": 0.0499, "2": 0.0499}}')
    assert calibrated_anew(with_levels(planned, tmp_path)).levels == KNOWN


def test_a_frozen_plan_keeps_its_levels_where_a_change_is_declared(quick: list[tuple[tuple[int, ...], int]]) -> None:
    bare = looking(3, 7)
    frozen = dataclasses.replace(bare, levels={1: 0.031, 2: 0.029})
    found = dataclasses.replace(frozen, preregistration=preregister(frozen))
    assert calibrated_anew(found).levels == {1: 0.031, 2: 0.029}
    assert quick == []


def test_a_frozen_plan_holds_its_levels_and_one_frozen_without_keeps_its_even_share(tmp_path: Path) -> None:
    bare = looking(3, 7)
    frozen = dataclasses.replace(bare, preregistration=preregister(calibrated_anew(bare)))
    found = with_levels(frozen, tmp_path)
    assert found.levels == KNOWN
    assert changes_since(frozen.preregistration, found) == []  # type: ignore[arg-type]
    even = dataclasses.replace(bare, preregistration=preregister(bare))
    assert calibrated(even, tmp_path).levels == {}
    assert changes_since(even.preregistration, dataclasses.replace(even, levels=KNOWN)) == []  # type: ignore[arg-type]
