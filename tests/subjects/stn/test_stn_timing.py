"""How long a run would take, counted up from a short training."""

from __future__ import annotations

from pathlib import Path

import pytest

from stn_bench.settings import override
from stn_bench.subject import Lent
from stn_bench.subjects.stn import subject
from stn_bench.subjects.stn import timing as module
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.dataset import make_dataset
from stn_bench.subjects.stn.data.spec import DatasetSpec, Labels, Picture
from stn_bench.subjects.stn.timing import Timing, measure, take_sample
from stn_bench.system.errors import DataError

SMALL = {
    "data.count": 90,
    "data.validation": 26,
    "data.test": 26,
    "data.size": 20,
    "data.alphabet": "AB",
    "model.width": 1 / 32,
    "model.norm.kind": "none",  # with SGD it is traced in half the time
    "optimizer.name": "sgd",
    "train.epochs": 3,
    "train.batch_size": 8,
}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time no more than it takes to see that it works."""
    monkeypatch.setattr(module, "STEPS", 3)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    monkeypatch.setattr(module, "REPEATS", 1)


def test_a_run_is_counted_up_from_its_parts() -> None:
    timing = Timing(start=100, correction=0.01, step=0.5, epoch=2, picture=0.25, call=3)
    # 38 training pictures are 5 steps of 8: 2 + 5 * 0.5, and 3 + 26 * 0.25 to validate; three such epochs.
    # Twice 3 + 26 * 0.25 for the test pictures, 100 to start, and 90 pictures corrected.
    assert timing.run(override(Config(), SMALL)) == pytest.approx(3 * (4.5 + 9.5) + 19 + 100 + 0.9)


@pytest.mark.usefixtures("short")
def test_every_part_is_measured(tmp_path: Path) -> None:
    config = override(Config(), {**SMALL, "data.correction.kind": "opencv"})
    timing = measure(take_sample(config, Lent(tmp_path / "data"), tmp_path / "scratch"))
    assert timing.start > timing.step > 0
    assert timing.correction > 0
    assert min(timing.epoch, timing.picture, timing.call) >= 0
    assert timing.epoch > 0  # a checkpoint at least


@pytest.mark.usefixtures("short")
def test_pictures_are_altered_as_those_of_a_run_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def altered(pictures: Picture, indices: Labels, epoch: int) -> Picture:
        seen.append(len(pictures))
        return pictures

    monkeypatch.setattr(module, "augmentation", lambda config, seed: altered)
    measure(take_sample(override(Config(), SMALL), Lent(tmp_path / "data"), tmp_path / "scratch"))
    assert seen == [8] * (1 + 1 + 3)  # to trace, one step alone, and three together


@pytest.mark.usefixtures("short")
def test_a_probe_returns_the_seconds_of_a_run_and_leaves_no_data(tmp_path: Path) -> None:
    assert subject.probe
    assert subject.probe(override(Config(), SMALL), Lent(tmp_path / "data"), tmp_path / "scratch") > 0
    assert not (tmp_path / "data").exists()


def test_what_a_call_takes_by_itself_is_taken_from_the_parts() -> None:
    assert module._each(all_of_them=10.0, one=2.0, count=5) == 2.0  # and 0 for the call


def test_a_call_with_one_part_that_was_slower_than_one_with_all_tells_nothing() -> None:
    assert module._each(all_of_them=3.0, one=4.0, count=5) == pytest.approx(0.6)


def test_pictures_of_the_study_are_taken_where_they_are_made(tmp_path: Path) -> None:
    config, lent = override(Config(), SMALL), Lent(tmp_path / "data")
    drawn = take_sample(config, lent, tmp_path / "some")
    assert (drawn.datasets, drawn.pictures.count) == (tmp_path / "some", 90)
    make_dataset(DatasetSpec.of(config), lent.data)
    found = take_sample(config, lent, tmp_path / "more")
    assert (found.datasets, found.pictures) == (lent.data, DatasetSpec.of(config))
    assert not (tmp_path / "more").exists()


def test_no_more_pictures_are_drawn_than_a_probe_trains_on(tmp_path: Path) -> None:
    large = override(Config(), {**SMALL, "data.count": 5000, "data.validation": 1000})
    assert take_sample(large, Lent(tmp_path / "data"), tmp_path / "scratch").pictures.count == 48 * 8


def test_pictures_that_were_not_imported_are_named(tmp_path: Path) -> None:
    config = override(Config(), {"data.source": "mine"})
    assert subject.probe
    with pytest.raises(DataError, match="no data set `mine`"):
        subject.probe(config, Lent(tmp_path), tmp_path / "scratch")
