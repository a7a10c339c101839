from __future__ import annotations

from pathlib import Path

import pytest
from makers import ablation, arm, plan

from stn_bench.runner import timing as module
from stn_bench.runner.timing import Sample, Timing, measure, probe
from stn_bench.subjects.stn.config import Config, override
from stn_bench.subjects.stn.data.dataset import make_dataset
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.system.errors import DataError, MachineError
from stn_bench.system.machine import Crew
from stn_bench.system.workspace import Workspace

SMALL = {
    "data.count": 90,
    "data.validation": 26,
    "data.test": 26,
    "data.size": 20,
    "data.alphabet": "AB",
    "model.width": 1 / 32,
    "train.epochs": 3,
    "train.batch_size": 8,
}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time no more than it takes to see that it works."""
    monkeypatch.setattr(module, "STEPS", 3)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    monkeypatch.setattr(module, "REPEATS", 1)


def test_a_cell_is_counted_up_from_its_parts() -> None:
    timing = Timing(start=100, correction=0.01, step=0.5, epoch=2, picture=0.25, call=3)
    # 38 training pictures are 5 steps of 8: 2 + 5 * 0.5, and 3 + 26 * 0.25 to validate; three such epochs.
    # Twice 3 + 26 * 0.25 for the test pictures, 100 to start, and 90 pictures corrected.
    assert timing.cell(override(Config(), SMALL)) == pytest.approx(3 * (4.5 + 9.5) + 19 + 100 + 0.9)


@pytest.mark.usefixtures("short")
def test_every_part_is_measured(tmp_path: Path) -> None:
    config = override(Config(), {**SMALL, "data.correction.kind": "opencv"})
    spec = DatasetSpec.of(config)
    make_dataset(spec, tmp_path)
    timing = measure(Sample("base", config, spec, tmp_path))
    assert timing.start > timing.step > 0
    assert timing.correction > 0
    assert min(timing.epoch, timing.picture, timing.call) >= 0
    assert timing.epoch > 0  # a checkpoint at least


def test_what_a_call_takes_by_itself_is_taken_from_the_parts() -> None:
    assert module._each(all_of_them=10.0, one=2.0, count=5) == 2.0  # and 0 for the call


def test_a_call_with_one_part_that_was_slower_than_one_with_all_tells_nothing() -> None:
    assert module._each(all_of_them=3.0, one=4.0, count=5) == pytest.approx(0.6)


def test_pictures_of_the_study_are_taken_where_they_are_made(tmp_path: Path) -> None:
    base = plan(ablation(arm("drop", {"model.dropout": 0.5})), base=SMALL).arms[0]
    workspace, spec = Workspace.at(tmp_path / "root"), DatasetSpec.of(base.config)
    drawn = module._sample(base, workspace, tmp_path / "some", Crew(1, 1))
    assert (drawn.datasets, drawn.pictures.count) == (tmp_path / "some", 90)
    make_dataset(spec, workspace.datasets)
    found = module._sample(base, workspace, tmp_path / "more", Crew(1, 1))
    assert (found.datasets, found.pictures) == (workspace.datasets, spec)
    assert not (tmp_path / "more").exists()


def test_no_more_pictures_are_drawn_than_a_probe_trains_on(tmp_path: Path) -> None:
    large = {**SMALL, "data.count": 5000, "data.validation": 1000}
    base = plan(ablation(arm("drop", {"model.dropout": 0.5})), base=large).arms[0]
    assert module._sample(base, Workspace.at(tmp_path), tmp_path, Crew(1, 1)).pictures.count == 48 * 8


def test_pictures_that_were_not_imported_are_named(tmp_path: Path) -> None:
    base = plan(ablation(arm("drop", {"model.dropout": 0.5})), base={"data.source": "mine"}).arms[0]
    with pytest.raises(DataError, match="no data set `mine`"):
        probe([base], Workspace.at(tmp_path), Crew(1, 1))


def test_an_arm_that_cannot_be_trained_is_named(tmp_path: Path) -> None:
    broken = {**SMALL, "model.factory": "broken:build"}
    (tmp_path / "broken.py").write_text("def build(config):\n    return None\n")
    base = plan(ablation(arm("drop", {"model.dropout": 0.5})), base=broken).arms[0]
    with pytest.raises(MachineError, match=r"base: cannot be probed: ConfigError: .*broken:build: expected a keras"):
        probe([base], Workspace.at(tmp_path), Crew(1, 1))
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["broken.py"]
