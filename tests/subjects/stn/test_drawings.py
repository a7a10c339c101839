from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from stn_bench.subjects.stn.drawings import (
    Example,
    Mistake,
    at_height,
    draw_confusion,
    draw_gallery,
    draw_letter_check,
    draw_mistakes,
)
from stn_bench.subjects.stn.letters import check_letters

PALE_GREEN = (211, 235, 225)
PALE_ORANGE = (251, 217, 195)
DARK_ORANGE = (122, 47, 0)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PICTURE = np.full((16, 16, 3), (10, 200, 30), np.uint8)


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def share(png: bytes, colour: tuple[int, int, int]) -> float:
    """Return the fraction of a figure's pixels that have this colour."""
    return float((pixels(png) == colour).all(axis=2).mean())


def test_without_mistakes_the_diagonal_alone_is_coloured() -> None:
    png = draw_confusion(np.diag([5, 7, 1]), "ABC", "13 of 13")
    assert share(png, PALE_GREEN) > 0.05
    assert share(png, PALE_ORANGE) == 0


def test_one_mistake_among_hundreds_is_coloured_and_more_are_darker() -> None:
    counts = np.diag([300] * 26)
    counts[3, 14] = 1
    single = draw_confusion(counts, LETTERS, "a title")
    counts[8, 19] = 40
    both = draw_confusion(counts, LETTERS, "a title")
    assert share(single, PALE_ORANGE) == pytest.approx(share(both, PALE_ORANGE), rel=0.1)
    assert share(single, DARK_ORANGE) == 0 < share(both, DARK_ORANGE)


@pytest.mark.parametrize("count", [2, 26, 62])
def test_cells_stay_readable_in_any_alphabet(count: int) -> None:
    alphabet = "".join(map(chr, range(48, 48 + count)))
    assert min(pixels(draw_confusion(np.eye(count, dtype=int), alphabet, "title")).shape[:2]) >= 40 * count


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert draw_confusion(np.eye(3, dtype=int), "ABC", "t") == draw_confusion(np.eye(3, dtype=int), "ABC", "t")


@pytest.mark.parametrize("count", [1, 10, 11, 60])
def test_every_mistake_is_on_the_sheet(count: int) -> None:
    png = draw_mistakes([Mistake(PICTURE, "A read as B, 50 %", "0001_A.png")] * count, "title")
    side = 0.9 * 200  # inches, dots an inch
    assert (pixels(png) == PICTURE[0, 0]).all(axis=2).sum() == pytest.approx(count * side**2, rel=0.05)


@pytest.mark.parametrize("name", ["一张图片_K.png", "$a$_K.png", "x" * 200 + "_K.png", "%s_{0}_K.png"])
def test_any_file_name_can_stand_below_its_picture(name: str) -> None:
    assert draw_mistakes([Mistake(PICTURE, "K read as X, 97 %", name)], "1 mistake").startswith(b"\x89PNG")


def test_a_sheet_without_mistakes_is_a_line() -> None:
    assert pixels(draw_mistakes([], "no mistakes")).shape[0] < 100


@pytest.mark.parametrize(
    ("magnification", "offset"),
    [([1.0], [2.0]), ([1.2, 1.3, 0.9], [2.0, 3.0, 0.5]), ([0.1, 10.0], [0.0, 0.0]), ([1.5, 2.0], [math.nan] * 2)],
    ids=["one", "some", "wide", "no ink"],
)
def test_the_check_is_drawn_whatever_the_numbers(magnification: list[float], offset: list[float]) -> None:
    values = (np.array(magnification), np.array(offset), np.array(offset) / 2)
    height, width, _ = pixels(draw_letter_check(*values, check_letters(*values))).shape
    assert (height, width) == (660, 1400)


def test_a_gallery_has_four_pairs_a_row_and_is_the_same_bytes_every_time() -> None:
    five = [Example("A", np.zeros((8, 20, 3), np.uint8))] * 5
    height, width = pixels(draw_gallery(five)).shape[:2]
    assert width == 700  # a column of a paper, 200 dots an inch
    assert 150 <= height <= 300
    assert draw_gallery(five) == draw_gallery(five)
    assert pixels(draw_gallery(five[:4])).shape[0] < height


def test_pictures_at_another_height_keep_their_pixels_and_their_shape() -> None:
    small = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    large = at_height(small, 6)
    assert large.shape == (2, 6, 9, 3)
    for row in range(6):
        for column in range(9):
            assert (large[:, row, column] == small[:, row * 2 // 3, column * 2 // 3]).all()
    assert (at_height(small, 4) == small).all()
