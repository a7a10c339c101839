"""What the harness asks of this subject beside its training."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lent import SMALL
from PIL import Image

from stn_bench.settings import override
from stn_bench.subject import DataNote, KeptRun, Lent
from stn_bench.subjects.stn import libraries, subject
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.dataset import open_dataset
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.subjects.stn.nn.layout import flops, parameters
from stn_bench.system.errors import ConfigError, StoreError

SYMMETRIC = {"model.input_range": "[-1,1]"}


def settings(changes: Mapping[str, Any] = {}) -> Config:
    return override(Config(), changes)


def test_it_is_found_without_loading_what_draws_trains_or_plots() -> None:
    script = (
        "import sys; from stn_bench.subject import find_subject; find_subject('stn')\n"
        "heavy = {'keras', 'tensorflow', 'cv2', 'captcha', 'PIL', 'matplotlib', 'mlflow', 'optuna', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Pictures ---------------------------------------------------------------------------------------------------------


def test_each_data_set_is_made_once_and_told_of_by_its_name(tmp_path: Path) -> None:
    small = settings(SMALL)
    wide, more = override(small, {"model.width": 0.5}), override(small, {"data.seed": 7})
    told: list[tuple[str, int, int]] = []
    assert subject.prepare
    assert subject.fingerprint
    assert subject.fingerprint(small, tmp_path) is None
    subject.prepare([small, wide, more], Lent(tmp_path, 1, lambda *step: told.append(step)))
    names = [DatasetSpec.of(config).folder_name for config in (small, more)]
    assert [name for name, done, count in told if done == count] == names
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted(names)
    dataset = open_dataset(DatasetSpec.of(small), tmp_path)
    assert subject.fingerprint(small, tmp_path) == subject.fingerprint(wide, tmp_path) == dataset.fingerprint
    assert subject.fingerprint(more, tmp_path) != dataset.fingerprint
    assert subject.describe
    described = subject.describe(small.resolved().flat())
    assert described is not None
    assert (described.shape, described.dtype) == (dataset.images.shape, str(dataset.images.dtype))


def test_a_run_is_described_by_its_settings_as_plain_data() -> None:
    assert subject.describe
    varied = settings({"data.shapes": "varied", "data.seed": 3, "data.alphabet": "XYZ"}).resolved()
    assert subject.describe(varied.flat()) == DataNote(
        name=DatasetSpec.of(varied).folder_name,
        title="captcha, 10000 pictures, varied, seed 3",
        shape=(10_000, 60, 60, 3),
        dtype="uint8",
        classes=3,
        source="stn-bench data make",
    )


@pytest.mark.parametrize(
    "other",
    [{"data.count": "many"}, {"data.shapes": "round"}, {"data.validation": 10_000}],
    ids=["type", "choice", "contradiction"],
)
def test_settings_of_another_version_describe_nothing(other: dict[str, Any]) -> None:
    assert subject.describe
    assert subject.describe({**Config().flat(), **other}) is None


def test_a_setting_that_no_longer_exists_does_not_matter() -> None:
    assert subject.describe
    assert subject.describe({**Config().flat(), "data.colour": "grey"}) == subject.describe(Config().flat())


@pytest.mark.parametrize("younger", ["data.count", "data.seed", "data.alphabet"])
def test_a_setting_that_is_younger_than_a_run_counts_at_its_default(younger: str) -> None:
    assert subject.describe
    old = {path: value for path, value in Config().flat().items() if path != younger}
    assert subject.describe(old) == subject.describe(Config().flat())


def test_settings_that_say_nothing_of_pictures_describe_nothing() -> None:
    assert subject.describe
    assert subject.describe({"model.input_range": "[0,1]"}) is None
    assert (
        subject.describe({path: value for path, value in Config().flat().items() if path.startswith("data.")}) is None
    )


def test_settings_that_have_nothing_to_do_with_the_pictures_do_not_matter() -> None:
    assert subject.describe
    other = {"model.depth": 4, **Config().flat(), "model.width": "wide"}
    assert subject.describe(other) == subject.describe(Config().flat())


# Costs ------------------------------------------------------------------------------------------------------------


def test_the_cost_on_paper_is_that_of_the_layout() -> None:
    assert subject.cost
    cost = subject.cost(Config())
    assert cost is not None
    assert (cost.parameters, cost.flops) == (parameters(Config()), flops(Config()))
    # 8000 pictures forwards and, twice as dear, backwards; 1000 forwards; 400 times.
    assert cost.training_flops == pytest.approx(flops(Config()) * 25_000 * 400)


def test_work_counts_pictures_and_epochs() -> None:
    assert subject.cost
    once, twice = subject.cost(Config()), subject.cost(settings({"train.epochs": 800}))
    assert once is not None
    assert twice is not None
    assert once.training_flops is not None
    assert twice.training_flops == pytest.approx(2 * once.training_flops)


def test_a_network_of_ones_own_costs_nobody_knows_what() -> None:
    mine = settings({"model.factory": "mine:network"})
    assert subject.cost
    assert subject.extensions
    assert subject.cost(mine) is None
    assert (subject.extensions(mine), subject.extensions(Config())) == (("mine:network",), ())


def test_a_matched_width_gives_the_bases_flops() -> None:
    assert subject.match
    plain = settings({"model.transformer.kind": "none"})
    found = subject.match(plain, Config())
    assert list(found) == ["model.width"]
    assert flops(override(plain, found)) == pytest.approx(flops(Config()), rel=0.03)
    with pytest.raises(ConfigError, match=r"no `model\.width` brings it within 3%"):
        subject.match(override(plain, {"data.size": 16}), settings({"model.width": 8.0, "data.size": 512}))


def test_what_a_run_learns_from_and_how_many_steps_it_takes() -> None:
    assert subject.given
    assert subject.steps
    assert subject.given(Config()) == {"epoch": 400, "training picture": 8000}
    assert subject.steps(settings({"data.count": 2033, "train.epochs": 3})) == 3 * 2  # 33 pictures: 32 and 1


# Caveats ----------------------------------------------------------------------------------------------------------


def caveats(arm: Mapping[str, Any], base: Mapping[str, Any] = {}) -> list[str]:
    assert subject.caveats
    return list(subject.caveats(settings({**base, **arm}), settings(base)))


def test_a_range_that_takes_its_pad_value_along_is_no_caveat() -> None:
    assert caveats(SYMMETRIC, {"data.shapes": "varied"}) == []


@pytest.mark.parametrize(
    ("path", "value", "shade"), [("data.pad", 0.0, "mid-grey"), ("model.transformer.fill", 1.0, "white")]
)
def test_a_range_without_its_low_end_is_a_caveat(path: str, value: float, shade: str) -> None:
    assert caveats({**SYMMETRIC, path: value}, {"data.shapes": "varied"}) == [
        f"`{path}` {value:g} is {shade} in [-1,1], whose low end is −1"
    ]


def test_a_value_in_between_is_told_by_its_place() -> None:
    assert caveats({"model.transformer.fill": 0.3}) == [
        "`model.transformer.fill` 0.3 is grey, 30 % of white in [0,1], whose low end is 0"
    ]


def test_what_nothing_uses_is_no_caveat() -> None:
    assert caveats({"data.pad": 0.5}) == []  # square pictures are not padded
    assert caveats({"model.transformer.fill": 0.5}, {"model.transformer.kind": "none"}) == []


def test_an_uncoupled_base_is_told_of_itself_and_not_in_every_arm() -> None:
    base = {"model.transformer.fill": 0.5}
    assert subject.caveats
    assert list(subject.caveats(settings(base), None)) == [
        "`model.transformer.fill` 0.5 is mid-grey in [0,1], whose low end is 0"
    ]
    assert caveats({"model.dropout": 0.5}, base) == []


# Figures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Write what a run keeps of two pictures."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8)
    file = tmp_path / "rectified.npz"
    np.savez(file, originals=pictures[0], rectified=pictures[1], letters=np.array(["A", "$B$"]))
    return file


def kept(seed: int, file: Path, **changes: object) -> KeptRun:
    def find(name: str) -> Path:
        if name != file.name:
            raise StoreError(name)
        return file

    flat = settings({path.replace("__", "."): value for path, value in changes.items()}).flat()
    return KeptRun(seed, flat, find)


TRANSFORMER = frozenset({"model.transformer.kind"})


def test_the_first_seed_of_each_arm_with_a_transformer_is_drawn(gallery: Path) -> None:
    assert subject.figures
    plain = kept(1, gallery, model__transformer__kind="none")
    mine = kept(1, gallery, model__factory="mine:network")
    arms = {"base": [kept(5, gallery), kept(2, gallery)], "none": [plain], "mine": [mine, kept(3, gallery)], "new": []}
    found = list(subject.figures(TRANSFORMER, arms))
    assert [figure.name for figure in found] == ["gallery_base", "gallery_mine"]
    assert found[0].caption == "What the transformer of `base` does (seed 2): original | yellow bar | rectified"
    with Image.open(io.BytesIO(found[0].png)) as image:
        assert image.width > 500


def test_a_letter_that_is_shown_smaller_is_drawn_as_large_as_its_original(tmp_path: Path) -> None:
    file = tmp_path / "rectified.npz"
    grey, white = np.full((1, 24, 24, 3), 128, np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    np.savez(file, originals=grey, rectified=white, letters=np.array(["A"]))
    assert subject.figures
    (found,) = subject.figures(TRANSFORMER, {"base": [kept(1, file)]})
    assert found.caption.endswith("rectified, of 16 pixels where the original has 24, drawn as large")
    with Image.open(io.BytesIO(found.png)) as image:
        drawn = np.asarray(image.convert("RGB"))
    assert not (drawn[20:] == 0).all(axis=2).any()  # no black around it; above it stands its name


def test_a_question_about_something_else_has_no_gallery(gallery: Path) -> None:
    assert subject.figures
    assert list(subject.figures(frozenset({"model.width"}), {"base": [kept(1, gallery)]})) == []


def test_a_run_of_another_version_without_these_settings_is_not_drawn(gallery: Path) -> None:
    assert subject.figures
    old = KeptRun(1, {"model.kind": "stn"}, lambda name: gallery)
    assert list(subject.figures(TRANSFORMER, {"base": [old]})) == []


# What it needs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "library"), [("", "tensorflow"), ("tensorflow", "tensorflow"), ("jax", "jaxlib")])
def test_the_key_holds_the_versions_of_the_backend_that_trains(
    backend: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert callable(subject.libraries)
    named = subject.libraries()
    assert named[:2] == ("keras", "numpy")
    assert library in named
    assert named[-1].startswith("opencv-")


def installed(monkeypatch: pytest.MonkeyPatch, versions: Mapping[str, str]) -> dict[str, tuple[bool, str, str]]:
    monkeypatch.setattr(libraries, "package_version", versions.get)
    assert subject.check
    return {one.check: (one.sound, one.found, one.advice) for one in subject.check()}


def test_the_doctor_looks_at_opencv_the_backend_and_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    found = installed(monkeypatch, {"keras": "3.15", "tensorflow": "2.21", "opencv-python-headless": "4.12"})
    assert list(found) == ["OpenCV", "Keras backend", "keras", "captcha", "opencv-python", "pillow"]
    assert found["OpenCV"][0]
    assert found["Keras backend"] == (True, "tensorflow (tensorflow 2.21)", "")
    assert found["opencv-python"] == (True, "4.12", "")
    assert found["captcha"] == (False, "not installed", "pip install captcha")


def test_the_doctor_tells_what_a_backend_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert installed(monkeypatch, {"jax": "0.5"})["Keras backend"] == (False, "jax (jax 0.5)", "pip install jaxlib")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert installed(monkeypatch, {})["Keras backend"][2] == "set KERAS_BACKEND to one of tensorflow, jax"


def test_an_opencv_that_does_not_load_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    sound, found, advice = installed(monkeypatch, {})["OpenCV"]
    assert (sound, found) == (False, "cannot be loaded")
    assert "opencv-python-headless" in advice
