from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stn_bench.subjects.stn.data.letterbox import letterbox
from stn_bench.subjects.stn.data.opencv import load_opencv
from stn_bench.system.errors import MachineError

NOISE = np.random.default_rng(0).integers(0, 256, (120, 60, 3), np.uint8)


def test_picture_of_the_right_shape_is_returned_unchanged() -> None:
    np.testing.assert_array_equal(letterbox(NOISE[:60], 60, 9), NOISE[:60])


def test_shrinking_by_a_whole_factor_averages_blocks() -> None:
    boxed = letterbox(NOISE, 60, 9)
    blocks = NOISE.reshape(60, 2, 30, 2, 3).mean((1, 3))
    np.testing.assert_allclose(boxed[:, 15:45], blocks, atol=0.5)
    assert (boxed[:, :15] == 9).all()
    assert (boxed[:, 45:] == 9).all()


@pytest.mark.parametrize("shape", [(90, 150), (77, 31), (61, 200)])
def test_shrinking_agrees_with_pillows_box_filter(shape: tuple[int, int]) -> None:
    height, width = shape
    # A smooth picture: the two libraries weigh the pixels at a block's edge a little differently.
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * np.array([0.5, 0.7, 0.9])
    picture = ramp.astype(np.uint8)
    new_height, new_width = round(height * 40 / max(shape)), round(width * 40 / max(shape))
    expected = np.asarray(Image.fromarray(picture).resize((new_width, new_height), Image.Resampling.BOX))
    top, left = (40 - new_height) // 2, (40 - new_width) // 2
    inside = letterbox(picture, 40, 0)[top : top + new_height, left : left + new_width]
    assert np.abs(inside.astype(int) - expected).max() <= 4


def test_growing_interpolates_between_the_pixels() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[:, 1] = 200
    row = letterbox(picture, 8, 0)[4, :, 0].astype(int)
    np.testing.assert_array_equal(row, [0, 0, 25, 75, 125, 175, 200, 200])  # centres at (x + 0.5) / 4 - 0.5


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (3, 2), (59, 60)])
def test_every_shape_fits(shape: tuple[int, int]) -> None:
    boxed = letterbox(np.full((*shape, 3), 200, np.uint8), 60, 7)
    assert boxed.shape == (60, 60, 3)
    assert set(np.unique(boxed)) == {7, 200}


def test_missing_system_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_opengl(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_opengl)
    with pytest.raises(MachineError, match=r"libGL\.so\.1[\s\S]*opencv-python-headless[\s\S]*libglib2\.0-0"):
        load_opencv()
