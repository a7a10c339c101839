"""Model files that other programs packed again, or that were cut short."""

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
from stn_bench.subjects.stn.repacked import plainly_packed
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


def open_model(path: Path) -> keras.Model:
    with plainly_packed(path) as plain:
        return load_model(plain)[0]


def zipped_again(path: Path, method: int, around: str = "", added: tuple[str, ...] = ()) -> Path:
    """Return a copy of a model file as another program packs what it had unpacked."""
    copy = path.with_name("again.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", method) as new:
        for name in added:
            new.writestr(name, b"")
        for name in old.namelist():
            new.writestr(around + name, old.read(name))
    return copy


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize(
    ("around", "added"),
    [
        ("", ("__MACOSX/._config.json", ".DS_Store", "Thumbs.db")),
        ("model/", ("model/", "model/.DS_Store", "__MACOSX/", "__MACOSX/model/._config.json", "__MACOSX/._model")),
    ],
    ids=["plain", "folder"],
)
def test_a_model_file_that_was_zipped_again_is_read(
    tmp_path: Path, method: int, around: str, added: tuple[str, ...]
) -> None:
    path, model = tmp_path / "model.keras", build_model(TINY)
    save_model(model, path, TINY)
    loaded = open_model(zipped_again(path, method, around, added))
    np.testing.assert_allclose(loaded(noise(2)), model(noise(2)), atol=1e-7)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_model_file_that_was_cut_short_is_called_damaged(
    saved: tuple[keras.Model, Path], tmp_path: Path, kept: float
) -> None:
    content = saved[1].read_bytes()
    (tmp_path / "cut.keras").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ModelFileError, match=r"cut\.keras: is damaged, or was cut short; copy or download it again"):
        open_model(tmp_path / "cut.keras")


def test_a_model_file_with_a_hole_is_called_damaged(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    content = bytearray(saved[1].read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    (tmp_path / "hole.keras").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"hole\.keras: is damaged"):
        open_model(tmp_path / "hole.keras")


def test_what_is_no_zip_file_is_left_to_its_reader(tmp_path: Path) -> None:
    for name, content in (("page.keras", b"<html>404</html>"), ("empty.keras", b"")):
        (tmp_path / name).write_bytes(content)
        with plainly_packed(tmp_path / name) as plain:
            assert plain == tmp_path / name
    with plainly_packed(tmp_path / "nothing.keras") as plain:
        assert plain == tmp_path / "nothing.keras"
