from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_bench.data.pictures import contact_sheet, enlarge, find_pictures, read_picture, side_by_side, write_picture
from stn_bench.errors import DataError

COLOURS = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.png", "A.PNG", "a.bmp", "字 é.png"])
def test_pillow_reads_the_colours_that_were_written(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / "new" / name, COLOURS)
    with Image.open(tmp_path / "new" / name) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), COLOURS)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_colours_that_pillow_wrote_are_read(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "字.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "字.png"), COLOURS)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_grey_transparent_and_indexed_pictures_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.fromarray(COLOURS).convert(mode).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n1234"])
def test_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.png: not a picture"):
        read_picture(tmp_path / "bad.png")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: cannot be read: No such file"):
        read_picture(tmp_path / "gone.png")


def test_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt: expected a file name that ends in"):
        write_picture(tmp_path / "a.txt", COLOURS)


def test_side_by_side_has_a_yellow_bar_between() -> None:
    joined = side_by_side(COLOURS, COLOURS[:, ::-1])
    assert joined.shape == (5, 7 + 10 + 7, 3)
    np.testing.assert_array_equal(joined[:, :7], COLOURS)
    assert (joined[:, 7:17] == (255, 255, 0)).all()
    np.testing.assert_array_equal(joined[:, 17:], COLOURS[:, ::-1])


def test_side_by_side_centres_the_lower_picture() -> None:
    joined = side_by_side(COLOURS, COLOURS[:2], bar=1)
    np.testing.assert_array_equal(joined[1:3, 8:], COLOURS[:2])
    assert not joined[[0, 3, 4], 8:].any()


def test_contact_sheet_lays_rows_in_order() -> None:
    pictures = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(pictures, columns=2, margin=1)
    assert sheet.shape == (2 * 5 + 1, 2 * 7 + 1, 3)
    assert [sheet[2, 3, 0], sheet[2, 10, 0], sheet[7, 3, 0], sheet[7, 10, 0]] == [10, 20, 30, 255]


def test_empty_contact_sheet_is_refused() -> None:
    with pytest.raises(DataError, match="at least one picture"):
        contact_sheet([], columns=3)


def test_folders_are_expanded_and_sorted(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    named = tmp_path / "notes.txt"
    assert find_pictures([named, tmp_path]) == [named, tmp_path / "a.JPG", tmp_path / "b.png"]


def test_missing_path_and_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such file or folder"):
        find_pictures([tmp_path / "gone"])
    with pytest.raises(DataError, match="no pictures in this folder"):
        find_pictures([tmp_path])


def test_enlarged_pixels_become_squares() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    enlarged = enlarge(picture, 5)
    assert enlarged.shape == (6, 6, 3)
    np.testing.assert_array_equal(enlarged[::3, ::3], picture)
    np.testing.assert_array_equal(enlarged[:3, :3], np.broadcast_to(picture[0, 0], (3, 3, 3)))
