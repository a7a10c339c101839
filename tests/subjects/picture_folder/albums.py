"""Folders of small pictures that the tests draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise(height: int = 20, width: int = 30, seed: int = 0) -> Image.Image:
    """Return an RGB picture of noise: every fault of reading shows in it."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def save(picture: Image.Image, path: Path, **options: object) -> Path:
    """Write a picture, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


def album(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> Path:
    """Fill a folder with one folder a class, and return it."""
    for label, name in enumerate(classes):
        for index in range(count):
            save(noise(8, 8, 1000 * label + index), folder / name / f"{index}.png")
    return folder
