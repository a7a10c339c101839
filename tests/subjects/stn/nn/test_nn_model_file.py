from __future__ import annotations

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.model_file import load_model, save_model
from stn_bench.system.errors import ModelFileError

TINY = override(Config(), {"data.size": 16, "data.alphabet": "ABC", "model.width": 1 / 64})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    path = tmp_path_factory.mktemp("models") / "model.keras"
    model = build_model(TINY)
    save_model(model, path, TINY)
    return model, path


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_a_loaded_model_predicts_what_the_saved_one_did(saved: tuple[keras.Model, Path]) -> None:
    model, path = saved
    loaded, config = load_model(path)
    np.testing.assert_allclose(loaded(noise(4)), model(noise(4)), atol=1e-7)
    assert config.flat() == TINY.resolved().flat()


def test_a_saved_model_is_a_plain_keras_file_too(saved: tuple[keras.Model, Path]) -> None:
    model, path = saved
    np.testing.assert_allclose(keras.saving.load_model(path)(noise(4)), model(noise(4)), atol=1e-7)


def test_saving_leaves_no_partial_file(saved: tuple[keras.Model, Path]) -> None:
    assert [path.name for path in saved[1].parent.iterdir()] == ["model.keras"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nothing\.keras: no such model file"):
        load_model(tmp_path / "nothing.keras")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="expected a model file written by stn-bench"):
        load_model(path)


def test_a_keras_file_from_elsewhere_is_refused_before_it_is_built(tmp_path: Path) -> None:
    path = tmp_path / "other.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    with pytest.raises(ModelFileError, match="expected a model file written by stn-bench"):
        load_model(path)


def test_a_factory_is_not_called_unless_the_file_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile.py").write_text("raise SystemExit('the file ran code')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "model.keras"
    save_model(build_model(TINY), path, override(TINY, {"model.factory": "hostile:build"}))
    with pytest.raises(ModelFileError, match=r"hostile:build.*--trust"):
        load_model(path)


def test_weights_of_another_network_are_refused(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    save_model(build_model(TINY), path, override(TINY, {"model.width": 1 / 16}))
    with pytest.raises(ModelFileError, match="do not fit the network"):
        load_model(path)


def test_settings_that_are_not_ours_are_refused(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(saved[1]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, b'{"settings": {"model.magic": 1}}' if name == "stn_bench.json" else old.read(name))
    with pytest.raises(ModelFileError, match="settings are not ours"):
        load_model(path)
