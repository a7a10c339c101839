"""The spec of a data set: every setting that decides its bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # drawing processes start without pydantic
    from stn_bench.subjects.stn.config import Config

DRAWN = "captcha"
"""The source whose pictures are drawn here and can be made again; every other source was imported."""

RECIPE = 1
"""Version of the drawing in `render`; raise it when that draws other bytes, so that no stale cache is used."""

LOWER_BOUND = {"[0,1]": 0.0, "[-1,1]": -1.0}
"""The value of a black pixel in each input range."""

Picture: TypeAlias = NDArray[np.uint8]
"""RGB, `(height, width, 3)`; or several of one size, `(batch, height, width, 3)`."""

Labels: TypeAlias = NDArray[np.int64]
"""Indices into the alphabet, `(batch,)`."""

Chunk: TypeAlias = tuple[Picture, Labels]
"""Some pictures of a data set, and their labels."""


@dataclass(frozen=True)
class DatasetSpec:
    """The settings that decide the bytes of a data set.

    Args:
        source: "captcha", or the name that pictures were imported under.
        count: number of pictures.
        size: height and width, in pixels.
        alphabet: the characters; a label is an index into it.
        fonts: TrueType files; none means the fonts that captcha brings.
        shapes: "square", or "varied" for letterboxed aspect ratios.
        pad_byte: 0..255, around a letterboxed picture; None where nothing is padded.
        seed: seed of the pictures.
    """

    source: str
    count: int
    size: int
    alphabet: str
    fonts: tuple[str, ...]
    shapes: Literal["square", "varied"]
    pad_byte: int | None
    seed: int

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return the data set that `config` asks for."""
        data = config.data
        return cls(
            source=data.source,
            count=data.count,
            size=data.size,
            alphabet=data.alphabet,
            fonts=data.fonts,
            shapes=data.shapes,
            pad_byte=pad_byte(config) if data.shapes == "varied" else None,
            seed=data.seed,
        )

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Self:
        """Return the spec that `dataclasses.asdict` and JSON made `tree` from."""
        return cls(**{**tree, "fonts": tuple(tree["fonts"])})

    @property
    def folder_name(self) -> str:
        """Name of the data set's folder: an imported one's own, else readable and ended by a digest."""
        if self.source != DRAWN:
            return self.source
        recipe = json.dumps({**asdict(self), "recipe": RECIPE}, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
        return f"{self.source}-{self.count}x{self.size}-{self.shapes}-{digest}"


def pad_byte(config: Config) -> int:
    """Return the value around a letterboxed picture, 0..255."""
    pad = config.resolved().data.pad
    assert pad is not None  # resolved() writes it out
    return round(255 * pad) if config.model.input_range == "[0,1]" else round((pad + 1) * 127.5)
