from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_bench.subjects.stn.data.pictures import (
    AROUND,
    MAGENTA,
    YELLOW,
    check_ending,
    contact_sheet,
    draw_frame,
    enlarge,
    find_pictures,
    frame_margin,
    framed_pair,
    read_picture,
    side_by_side,
    write_picture,
)
from stn_bench.system.errors import DataError

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


# Frames ----------------------------------------------------------------------------------------------------------

GREEN = np.full((10, 14, 3), (0, 160, 0), np.uint8)
TIMES, MARGIN = 20, 3


def magenta_at(canvas: np.ndarray, column: float, row: float) -> bool:
    """Say whether the frame passes over a place of the picture; 0 is the centre of its first pixel."""
    x, y = (round((place + MARGIN + 0.5) * TIMES - 0.5) for place in (column, row))
    return bool((canvas[y, x] == MAGENTA).all())


def test_a_frame_passes_through_its_corners_and_along_its_sides() -> None:
    corners = np.array([(1, 2), (12, 2), (12, 8), (1, 8)])
    canvas = draw_frame(GREEN, corners, MARGIN, TIMES)
    assert all(magenta_at(canvas, *corner) for corner in corners)
    assert all(magenta_at(canvas, *place) for place in [(6, 2), (12, 5), (6, 8), (1, 5)])
    assert not any(magenta_at(canvas, *place) for place in [(6, 3), (11, 5), (6, 7), (2.5, 5), (0, 5), (6, 1)])


def test_a_frame_lies_where_it_is_asked_to_the_fraction_of_a_pixel() -> None:
    canvas = draw_frame(GREEN, np.array([(2.25, -1), (30, -1), (30, 40), (2.25, 40)]), MARGIN, TIMES)
    line = canvas[(MARGIN + 5) * TIMES].astype(int)  # row 5: the left side alone crosses it
    reddish = np.clip(line[:, 0] - line[:, 1], 0, None).astype(float)
    reddish[: MARGIN * TIMES] = 0
    centre = (reddish * np.arange(len(reddish))).sum() / reddish.sum()
    assert (centre + 0.5) / TIMES - MARGIN - 0.5 == pytest.approx(2.25, abs=0.03)


def test_a_framed_picture_keeps_its_pixels_in_a_grey_margin() -> None:
    canvas = draw_frame(COLOURS, np.full((4, 2), 500.0), MARGIN, TIMES)  # a frame that lies outside
    centres = canvas[TIMES // 2 :: TIMES, TIMES // 2 :: TIMES]
    np.testing.assert_array_equal(centres[MARGIN:-MARGIN, MARGIN:-MARGIN], COLOURS)
    assert (centres[:MARGIN] == AROUND).all()
    assert (centres[:, -MARGIN:] == AROUND).all()


def test_a_frame_far_outside_is_cut_off() -> None:
    assert draw_frame(GREEN, np.array([(-1e9, 5), (1e9, 5), (1e9, 1e12), (-1e9, 1e12)]), 2, 4).shape == (56, 72, 3)


def test_a_framed_pair_is_original_bar_and_rectified() -> None:
    corners = np.array([(0, 0), (13, 0), (13, 9), (0, 9)])
    pair = framed_pair(GREEN, GREEN, corners, margin=2, height=100)
    width = (14 + 2 * 2) * 10
    assert pair.shape == ((10 + 2 * 2) * 10, width + 10 + width, 3)
    assert (pair[:, width : width + 10] == YELLOW).all()
    np.testing.assert_array_equal(pair[:, :width], pair[:, width + 10 :])  # the identity's frame is the whole picture


@pytest.mark.parametrize(
    ("corners", "margin"),
    [
        ([(0, 0), (13, 0), (13, 9), (0, 9)], 2),  # inside
        ([(-2.5, 0), (13, 0), (13, 9), (0, 9)], 4),
        ([(0, 0), (13, 0), (13, 11.5), (0, 9)], 4),
        ([(-100, 0), (13, 0), (13, 9), (0, 9)], 5),  # no more than half of the picture
    ],
)
def test_the_margin_shows_the_frames_as_far_as_half_a_picture(corners: list[tuple[float, float]], margin: int) -> None:
    assert frame_margin(np.array([corners]), (10, 14)) == margin


def test_an_ending_can_be_checked_before_there_is_a_picture() -> None:
    check_ending(Path("a.PNG"))
    with pytest.raises(DataError, match=r"a\.jpg: expected a file name that ends in \.png"):
        check_ending(Path("a.jpg"), frozenset({".png"}))
