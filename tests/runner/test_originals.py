"""The files that a packed study takes along for its data, and what becomes of them elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call
from packs import pack
from PIL import Image
from tiny import make_root, make_toy_root

from stn_bench.runner.packed import read_packed
from stn_bench.runner.work import Work
from stn_bench.system.errors import DataError
from stn_bench.system.machine import Resources

WIDTH = 'title = "Width"\nquestion = "Is wider better?"\n[arms.wide]\nset = { width = 16 }\n'
STUDY = """
title = "Pets"
subject = "pets:subject"
ablations = ["depth"]
seeds = [1, 2, 3]
"""
PETS = """
from stn_bench.settings import Settings
from stn_bench.subjects.keras_model import KerasModel
from stn_bench.subjects.picture_folder import PictureFolder


class Pets(Settings):
    width: int = 8
    epochs: int = 1


def build(settings):
    from keras import Sequential, layers

    return Sequential([layers.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2, activation="softmax")])


pets = PictureFolder("SOURCE", image_size=8)
subject = KerasModel(Pets, data=pets, build=build, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
"""


class Quiet:
    """A watcher that tells nobody."""

    def preparing(self, data: str, done: int, count: int) -> None: ...

    def phase(self, phase: str, jobs: Any, reused: int) -> None: ...

    def event(self, event: Any) -> None: ...

    def say(self, line: str) -> None: ...


def unpacked(file: Path, folder: Path) -> Work:
    """Return the work on a packed study, whose files are there."""
    packed = read_packed(file)
    work = Work(packed, packed.jobs, folder / "results.zip", Resources(1, 1))
    work.check()
    return work


def draw(folder: Path, names: list[str]) -> None:
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / name)


def pets_root(folder: Path, *, as_table: bool, module: str) -> Path:
    root = make_toy_root(folder, STUDY.replace("pets:", f"{module}:"), WIDTH)
    (root / f"{module}.py").write_text(PETS.replace("SOURCE", "table.csv" if as_table else "pets"))
    names = [f"{kind}/{number} ü.png" for kind in ("cat", "dog") for number in range(10)]
    draw(root / "pets", names)
    (root / "pets/Thumbs.db").write_bytes(b"clutter")
    (root / "pets/notes.md").write_text("of nobody's interest")
    rows = "".join(f"pets/{name},{name[:3]}\n" for name in names)
    (root / "table.csv").write_text(f"file,label\n{rows}", encoding="utf-8")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("as_table", [False, True])
def test_pictures_in_folders_travel(as_table: bool, tmp_path: Path) -> None:
    root = pets_root(tmp_path / "root", as_table=as_table, module=f"pets_{as_table}".lower())
    file = pack(root)
    places = set(read_packed(file).files)
    pictures = {place for place in places if place.endswith(".png")}
    assert len(pictures) == 20
    assert all(place.startswith("pets/") for place in pictures)
    assert ("table.csv" in places) == as_table
    assert not {"pets/Thumbs.db", "pets/notes.md"} & places
    work = unpacked(file, tmp_path)
    assert len(work.prepared(work.subject(), Quiet())) == 6
    subject = work.subject()
    (work.workspace.root / sorted(pictures)[0]).unlink()
    with pytest.raises(DataError):
        work.prepared(subject, Quiet())


LETTERS = """
title = "Letters"
ablations = ["transformer"]
arms = { transformer = ["none"] }
seeds = [1, 2, 3]

[base]
"data.source" = "mine"
"data.count" = 24
"data.validation" = 8
"data.test" = 8
"data.size" = 20
"data.alphabet" = "AB"
"""


def test_imported_letters_travel_and_drawn_ones_do_not(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root", LETTERS)
    draw(tmp_path / "letters", [f"{number:04}_{letter}.png" for letter in "AB" for number in range(12)])
    options = ["--name", "mine", "--set", "data.size=20", "--set", "data.alphabet=AB", "--root", root]
    assert call("data", "import", tmp_path / "letters", *options) == 0
    file = pack(root)
    home = "mlruns/datasets/mine"
    kept = {f"{home}/images.npy", f"{home}/labels.npy", f"{home}/manifest.json"}
    assert set(read_packed(file).files) == {"studies/tiny.toml", *kept}
    work = unpacked(file, tmp_path)
    assert len(work.prepared(work.subject(), Quiet())) == 6
    drawn = pack(root, "drawn.zip", "--set", "data.source=captcha")
    assert set(read_packed(drawn).files) == {"studies/tiny.toml"}
