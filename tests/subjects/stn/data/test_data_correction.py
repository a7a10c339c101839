"""The OpenCV correction: letters drawn by hand, and what must come of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config, CorrectionConfig
from stn_bench.subjects.stn.data.correction import correct, correct_split, correction_matrix, find_letter
from stn_bench.subjects.stn.data.dataset import Pictures, Split

HAND_SET = CorrectionConfig(kind="opencv", threshold=128, smallest=0.01, opening=1)


def bar(top: int, left: int, height: int = 20, width: int = 6, size: int = 60) -> np.ndarray:
    picture = np.full((size, size, 3), 250, np.uint8)
    picture[top : top + height, left : left + width] = 10
    return picture


def config(**settings: object) -> Config:
    return override(
        Config(), {"data.correction.kind": "opencv"} | {f"data.correction.{k}": v for k, v in settings.items()}
    )


def corrected(picture: np.ndarray, **settings: object) -> np.ndarray:
    """Return the corrected picture; white comes in from outside, so that the letter alone is dark."""
    white = override(config(threshold=128, smallest=0.01, **settings), {"data.pad": 1.0})
    return correct(picture[None], white)[0]


def box(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of the dark pixels, both ends counted."""
    rows, columns = np.nonzero(picture.max(axis=2) < 128)
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


@pytest.mark.parametrize(("top", "left"), [(2, 3), (35, 50), (20, 27)])
def test_a_letter_comes_to_the_middle_at_the_size_asked_for(top: int, left: int) -> None:
    first, last, start, end = box(corrected(bar(top, left), extent=0.8))
    assert last - first + 1 == pytest.approx(48, abs=2)  # 0.8 of 60
    assert (first + last) / 2 == pytest.approx(29.5, abs=1)
    assert (start + end) / 2 == pytest.approx(29.5, abs=1)


def test_where_a_letter_stood_makes_no_difference() -> None:
    one, other = corrected(bar(5, 6)), corrected(bar(30, 40))
    assert box(one) == box(other)


@pytest.mark.parametrize("slope", [-0.5, 0.3, 0.6])
def test_a_slanting_letter_is_straightened(slope: float) -> None:
    slanted = cv2.warpAffine(
        bar(15, 27, 30), np.array([[1, slope, -slope * 29.5], [0, 1, 0.0]]), (60, 60), borderValue=(250,) * 3
    )
    letter = find_letter(slanted, HAND_SET)
    assert letter is not None
    matrix = correction_matrix(letter, HAND_SET)
    assert -matrix[0, 1] / matrix[0, 0] == pytest.approx(slope, abs=0.08)
    straight, kept = corrected(slanted), corrected(slanted, deskew=False)
    assert np.ptp(box(straight)[2:]) < np.ptp(box(kept)[2:])


def test_the_largest_component_is_the_letter() -> None:
    picture = bar(10, 10)
    picture[50:53, 50:53] = 10
    letter = find_letter(picture, HAND_SET)
    assert letter is not None
    assert letter[10:30, 10:16].all()
    assert not letter[50:53, 50:53].any()


def test_opening_removes_thin_lines_from_the_letter() -> None:
    picture = bar(20, 27)
    picture[30, :] = 10
    whole = find_letter(picture, HAND_SET)
    opened = find_letter(picture, HAND_SET.model_copy(update={"opening": 3}))
    assert whole is not None
    assert opened is not None
    assert whole[30].all()
    assert opened[30].sum() == 6


def test_opening_moves_nothing() -> None:
    for opening in (2, 3, 4):
        letter = find_letter(bar(20, 27), HAND_SET.model_copy(update={"opening": opening}))
        np.testing.assert_array_equal(letter, bar(20, 27)[:, :, 0] == 10)


@pytest.mark.parametrize("picture", [np.full((60, 60, 3), 250, np.uint8), bar(5, 5, 2, 2)])
def test_a_picture_without_a_letter_stays_as_it_is(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(corrected(picture), picture)


def test_what_comes_in_takes_the_pad_value() -> None:
    shrunk = correct(bar(0, 0, 60, 60)[None], config(threshold=128, extent=0.5))[0]
    assert (shrunk[0] == 0).all()
    white = override(config(threshold=128, extent=0.5), {"data.pad": 1.0})
    assert (correct(bar(0, 0, 60, 60)[None], white)[0][0] == 255).all()


def test_as_drawn_changes_nothing_and_copies_nothing() -> None:
    images = np.stack([bar(1, 2), bar(3, 4)])
    assert correct(images, Config()) is images


def test_all_parts_of_a_split_are_corrected() -> None:
    part = Pictures(np.stack([bar(2, 3)]), np.array([0]))
    white = override(config(threshold=128, smallest=0.01), {"data.pad": 1.0})
    split = correct_split(Split(part, part, part), white)
    for pictures in (split.train, split.validation, split.test):
        np.testing.assert_array_equal(pictures.images[0], corrected(bar(2, 3)))
        np.testing.assert_array_equal(pictures.labels, part.labels)
