"""Pictures in folders as the data of a run: read once, known by what is in them, and described."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from albums import album, noise, save
from picture_subjects import Bars, bars

from stn_bench.subject import Lent
from stn_bench.subjects.picture_folder import PictureFolder
from stn_bench.subjects.picture_folder.decoding import read_picture
from stn_bench.system.errors import ConfigError, DataError, MachineError

SIZE = (4, 6)


def folder_of(source: Path, **more: Any) -> PictureFolder:
    return PictureFolder(source, **{"image_size": SIZE, **more})


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return album(tmp_path / "pets", count=8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "datasets"


def fingerprint(pictures: PictureFolder, data: Path) -> str:
    pictures.prepare([None], Lent(data))
    found = pictures.fingerprint(None, data)
    assert found
    return found


def test_x_are_the_pictures_and_y_the_places_of_their_classes(pets: Path, data: Path) -> None:
    pictures = folder_of(pets)
    parts = pictures(None, folder=data)
    assert pictures.class_names == ("cat", "dog")
    assert {name: (x.shape, x.dtype, y.dtype) for name, (x, y) in parts.items()} == {
        "train": ((12, 4, 6, 3), np.float32, np.int32),
        "validation": ((2, 4, 6, 3), np.float32, np.int32),
        "test": ((2, 4, 6, 3), np.float32, np.int32),
    }
    files = {(read_picture(one, pictures.reading(None)).tobytes(), one.parent.name) for one in pets.rglob("*.png")}
    given = {(x.tobytes(), pictures.class_names[y]) for xs, ys in parts.values() for x, y in zip(xs, ys, strict=True)}
    assert given == files
    assert {name: pictures.count(None, name) for name in parts} == {"train": 12, "validation": 2, "test": 2}


def test_without_a_folder_for_data_nothing_is_kept(pets: Path, data: Path) -> None:
    kept, read = folder_of(pets)(None, folder=data), folder_of(pets)(None)
    for part, (x, y) in kept.items():
        np.testing.assert_array_equal(x, read[part][0])
        np.testing.assert_array_equal(y, read[part][1])


def test_a_table_says_the_same_as_folders(pets: Path, data: Path) -> None:
    rows = [f"{one.relative_to(pets)},{one.parent.name}" for one in sorted(pets.rglob("*.png"))]
    (pets / "labels.csv").write_text("\n".join(["file,label", *rows]))
    by_folder, by_table = folder_of(pets)(None, folder=data), folder_of(pets / "labels.csv")(None, folder=data)
    for part, (x, y) in by_folder.items():
        np.testing.assert_array_equal(x, by_table[part][0])
        np.testing.assert_array_equal(y, by_table[part][1])


def test_pictures_are_read_once(pets: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    lent = Lent(data, tell=lambda *these: told.append(these))
    folder_of(pets).prepare([None, None], lent)
    assert told == [("pets", 16, 16)]
    monkeypatch.setattr(Path, "read_bytes", None)
    folder_of(pets).prepare([None], lent)
    folder_of(pets)(None, folder=data)
    assert told == [("pets", 16, 16)]


def test_each_way_of_reading_is_kept_beside_the_others(data: Path) -> None:
    grey, rgb = Bars(), Bars(color="rgb")
    assert bars.prepare
    assert bars.fingerprint
    bars.prepare([grey, rgb], Lent(data))
    assert bars.fingerprint(grey, data) != bars.fingerprint(rgb, data)
    assert len(list(data.glob("pictures-bars-*"))) == 2


# The fingerprint ----------------------------------------------------------------------------------------------------


def changed(pets: Path) -> None:
    save(noise(8, 8, 77), pets / "cat" / "0.png")


def added(pets: Path) -> None:
    save(noise(8, 8, 78), pets / "cat" / "new.png")


def removed(pets: Path) -> None:
    (pets / "dog" / "0.png").unlink()


def moved(pets: Path) -> None:
    (pets / "dog" / "0.png").rename(pets / "cat" / "moved.png")


def renamed(pets: Path) -> None:
    (pets / "dog").rename(pets / "wolf")


@pytest.mark.parametrize("change", [changed, added, removed, moved, renamed])
def test_what_is_in_the_folder_is_in_the_fingerprint(pets: Path, data: Path, change: Any) -> None:
    pictures = folder_of(pets)
    before = fingerprint(pictures, data)
    kept = shutil.copytree(pets, pets.parent / "kept")
    change(pets)
    at_once = pictures.fingerprint(None, data)
    assert at_once not in (None, before)
    assert fingerprint(pictures, data) == at_once
    shutil.rmtree(pets)
    kept.rename(pets)
    assert fingerprint(pictures, data) == before


def test_a_change_that_leaves_size_and_time_is_seen(pets: Path, data: Path) -> None:
    pictures = folder_of(pets)
    before, file = fingerprint(pictures, data), pets / "cat" / "0.png"
    times, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert pictures.fingerprint(None, data) != before


def test_other_files_and_times_are_not_in_the_fingerprint(pets: Path, data: Path) -> None:
    pictures = folder_of(pets)
    before = fingerprint(pictures, data)
    (pets / "cat" / "notes.txt").write_text("fluffy")
    os.utime(pets / "cat" / "0.png")
    assert fingerprint(pictures, data) == before
    moved_home = pets.rename(pets.with_name("animals"))
    assert fingerprint(folder_of(moved_home), data) == before


@pytest.mark.parametrize(
    "more",
    [{"seed": 1}, {"seed": "run"}, {"test": 0.3}, {"color_mode": "grayscale"}, {"ground": None}, {"image_size": 5}],
)
def test_how_pictures_are_read_and_split_is_in_the_fingerprint(pets: Path, data: Path, more: dict[str, Any]) -> None:
    assert fingerprint(folder_of(pets, **more), data) != fingerprint(folder_of(pets), data)


def test_there_is_no_fingerprint_while_nothing_was_read_or_nothing_is_there(pets: Path, data: Path) -> None:
    pictures = folder_of(pets)
    assert pictures.fingerprint(None, data) is None
    fingerprint(pictures, data)
    pets.rename(pets.with_name("gone"))
    assert pictures.fingerprint(None, data) is None
    with pytest.raises(DataError, match="pets: no such folder"):
        pictures.prepare([None], Lent(data))


def test_an_array_that_was_cut_short_is_read_again(pets: Path, data: Path) -> None:
    pictures = folder_of(pets)
    before = pictures(None, folder=data)
    (array,) = data.glob("*/pictures.npy")
    array.write_bytes(array.read_bytes()[:-9])
    np.testing.assert_array_equal(pictures(None, folder=data)["test"][0], before["test"][0])


def test_a_picture_that_cannot_be_read_leaves_what_was_there(pets: Path, data: Path) -> None:
    pictures = folder_of(pets)
    before = pictures(None, folder=data)
    whole = (pets / "cat" / "0.png").read_bytes()
    (pets / "cat" / "0.png").write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"cat/0\.png: is a picture that was cut short or damaged"):
        pictures.prepare([None], Lent(data))
    assert not list(data.glob("*.partial"))
    (pets / "cat" / "0.png").write_bytes(whole)
    np.testing.assert_array_equal(pictures(None, folder=data)["train"][0], before["train"][0])


def test_what_has_a_picture_s_name_and_is_no_file_is_refused(pets: Path, data: Path) -> None:
    os.mkfifo(pets / "cat" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: is no file, though its name is one of a picture"):
        folder_of(pets).prepare([None], Lent(data))
    (pets / "cat" / "pipe.png").unlink()
    (pets / "cat" / "broken.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"broken\.png: cannot be read: No such file"):
        folder_of(pets).prepare([None], Lent(data))


# The split ----------------------------------------------------------------------------------------------------------


def test_the_split_depends_on_the_run_only_where_it_is_told_to(pets: Path, data: Path) -> None:
    def test_part(run: int, **more: Any) -> bytes:
        return bytes(folder_of(pets, test=0.4, **more)(None, seed=run, folder=data)["test"][0].tobytes())

    assert test_part(1) == test_part(2)
    assert test_part(1, seed="run") != test_part(2, seed="run")
    assert test_part(1, seed="run") == test_part(9, seed=1)


# What is said -------------------------------------------------------------------------------------------------------


def test_a_page_says_what_they_are_and_how_they_were_split(pets: Path) -> None:
    note = folder_of(pets, color_mode="grayscale", crop_to_aspect_ratio=True, test=0.25).describe(None)
    assert note.title == (
        "pictures in pets, grey, cropped to 4 × 6; "
        "of each class 15 % for validation and 25 % for test, drawn by seed 0"
    )
    assert (note.name, note.shape, note.classes, note.example) == ("pets", (16, 4, 6, 1), 2, "picture")


def test_a_page_says_which_parts_were_given(tmp_path: Path) -> None:
    for part in ("train", "test"):
        album(tmp_path / "pets" / part)
    assert folder_of(tmp_path / "pets", seed="run").describe(None).title == (
        "pictures in pets, RGB, stretched to 4 × 6; test and train as given; "
        "of each class 15 % for validation, drawn by the seed of the run"
    )


def test_what_is_said_of_missing_pictures_is_what_was_said_of_them(pets: Path) -> None:
    pictures = folder_of(pets)
    before = pictures.describe(None).title
    shutil.rmtree(pets)
    assert pictures.describe(None).title == before
    assert list(pictures.caveats(None, None)) == []


def test_a_reader_is_told_of_copies_and_of_what_lacks(tmp_path: Path) -> None:
    album(tmp_path / "train", ("cat", "dog", "emu"))
    album(tmp_path / "test", ("cat", "dog"), 3)
    shutil.copy(tmp_path / "test/dog/0.png", tmp_path / "test/cat/dog.png")
    (tmp_path / "test/cat/1.tiff").touch()
    assert sorted(folder_of(tmp_path).caveats(None, None)) == [
        "1 file of other kinds, such as test/cat/1.tiff, was left out: Keras reads no such pictures from a folder.",
        "1 picture is in more than one class, byte for byte.",
        "7 test pictures are in training or validation too, byte for byte.",
        "No test picture shows class emu.",
    ]
    assert list(folder_of(tmp_path).caveats(None, object())) == []


# What it is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"image_size": (0, 8)}, "PictureFolder: `image_size.0`: input should be greater than or equal to 1, got 0"),
        ({"image_size": 8.5}, "PictureFolder: `image_size`"),
        (
            {"color_mode": "gray"},
            "PictureFolder: `color_mode`: input should be 'grayscale', 'rgb' or 'rgba', got 'gray'",
        ),
        ({"interpolation": "linear"}, "PictureFolder: `interpolation`"),
        ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "exclude each other"),
        ({"ground": (0, 0, 256)}, "PictureFolder: `ground.2`"),
        ({"validation": 0.5, "test": 0.5}, "leave some for training, got 0.5 and 0.5"),
        ({"test": 0}, "PictureFolder: `test`: input should be greater than 0, got 0"),
        ({"seed": "fold"}, "PictureFolder: `seed"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_once(tmp_path: Path, more: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^PictureFolder: ") as told:
        folder_of(tmp_path, **more)
    assert message in str(told.value)


def test_a_relative_path_begins_at_the_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert PictureFolder("pets", image_size=8).source == Path(__file__).parent / "pets"


# Folders that are filled --------------------------------------------------------------------------------------------


def draw(folder: Path) -> None:
    album(folder, count=3)


def draw_more(folder: Path) -> None:
    album(folder, count=4)


def fail(folder: Path) -> None:
    album(folder)
    raise RuntimeError("out of paint")


def test_a_missing_folder_is_filled_once_and_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its `make` failed \(RuntimeError: out of paint\)"):
        folder_of(tmp_path / "drawn", make=fail).class_names  # noqa: B018
    assert list(tmp_path.iterdir()) == []
    assert folder_of(tmp_path / "drawn", make=draw).class_names == ("cat", "dog")
    (tmp_path / "drawn" / "cat" / "0.png").unlink()
    assert folder_of(tmp_path / "drawn", make=draw).class_names == ("cat", "dog")
    assert not (tmp_path / "drawn" / "cat" / "0.png").exists()


def test_a_folder_that_other_code_filled_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "drawn", make=draw).class_names  # noqa: B018
    with pytest.raises(DataError, match="drawn: was filled by other code than that of `make` today; remove it"):
        folder_of(tmp_path / "drawn", make=draw_more).class_names  # noqa: B018
    album(tmp_path / "mine")
    assert folder_of(tmp_path / "mine", make=draw_more).class_names == ("cat", "dog")


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere (2026-11-26)")
def test_a_place_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MachineError, match="drawn: cannot be filled"):
        folder_of(tmp_path / "drawn", make=draw).class_names  # noqa: B018


@pytest.mark.parametrize(
    ("count", "message"), [(1, "has 1 picture; expected 3 or more"), (2, "has 2 pictures; expec")]
)
def test_classes_that_are_too_small_to_be_split_are_told_before_anything_is_trained(
    count: int, message: str, tmp_path: Path
) -> None:
    pictures = PictureFolder(album(tmp_path / "pets", count=count), image_size=8)
    with pytest.raises(DataError, match=message):
        pictures.split(None, tmp_path / "data")
    assert PictureFolder(album(tmp_path / "more", count=3), image_size=8).split(None, tmp_path / "data") == ""


def test_a_folder_that_is_still_to_be_filled_is_not_filled_to_look_at_its_split(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        raise AssertionError

    assert PictureFolder(tmp_path / "later", image_size=8, make=make).split(None, tmp_path / "data") == ""
    with pytest.raises(DataError, match="no such folder"):
        PictureFolder(tmp_path / "gone", image_size=8).split(None, tmp_path / "data")
