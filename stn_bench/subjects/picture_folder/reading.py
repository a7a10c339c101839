"""How pictures are read, and how they are split: what a `PictureFolder` was told, checked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stn_bench.settings import explain
from stn_bench.system.errors import ConfigError
from stn_bench.system.format import listed

Byte = Annotated[int, Field(ge=0, le=255)]
Side = Annotated[int, Field(ge=1, le=16384)]

CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
"""Keras' color mode -> channels."""


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reading(_Told):
    """How a picture becomes an array: by Keras' own names, and two where Keras does not show what a viewer shows.

    Args:
        image_size: height and width, in pixels.
        color_mode: what it is turned into.
        interpolation: how it is made larger or smaller.
        crop_to_aspect_ratio: cut off what is too long, instead of stretching.
        pad_to_aspect_ratio: put black around what is too short, instead of stretching.
        ground: colour behind transparent pixels; None: the colour that the file has there, as Keras.
        upright: whether a picture is turned as its EXIF note says.
    """

    image_size: tuple[Side, Side]
    color_mode: Literal["grayscale", "rgb", "rgba"] = "rgb"
    interpolation: Literal[
        "bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"
    ] = "bilinear"
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    ground: tuple[Byte, Byte, Byte] | None = (255, 255, 255)
    upright: bool = True

    @model_validator(mode="after")
    def _one_way(self) -> Reading:
        if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio:
            raise ValueError("`crop_to_aspect_ratio` and `pad_to_aspect_ratio` exclude each other")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of each array."""
        return (*self.image_size, CHANNELS[self.color_mode])

    @property
    def words(self) -> str:
        """What is done, in a few words."""
        height, width = self.image_size
        fit = "cropped" if self.crop_to_aspect_ratio else "padded" if self.pad_to_aspect_ratio else "stretched"
        how = "" if self.interpolation == "bilinear" else f" ({self.interpolation})"
        colour = {"grayscale": "grey", "rgb": "RGB", "rgba": "RGBA"}[self.color_mode]
        return f"{colour}, {fit} to {height} × {width}{how}"


class Shares(_Told):
    """How pictures are split where the folder or the table does not say it.

    Args:
        validation: fraction of each class for validation; 0: there is none.
        test: fraction of each class for the test.
        seed: drives which; "run": the seed of the run does, so that each seed is tested on other pictures.
    """

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: int | Literal["run"] = 0

    @model_validator(mode="after")
    def _some_for_training(self) -> Shares:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"`validation` and `test`: expected fractions that leave some for training, got {self.validation:g} "
                f"and {self.test:g}"
            )
        return self

    def words(self, given: Collection[str] = ()) -> str:
        """Return what is drawn, in a few words, where some parts are given; "" where nothing is."""
        shares = (("validation", self.validation), ("test", self.test))
        drawn = [f"{100 * share:.3g} % for {part}" for part, share in shares if share and part not in given]
        by = "the seed of the run" if self.seed == "run" else f"seed {self.seed}"
        return f"of each class {listed(drawn)}, drawn by {by}" if drawn else ""


Kind = TypeVar("Kind", bound=_Told)


def told(kind: type[Kind], **values: Any) -> Kind:
    """Return what was told, checked.

    Raises:
        ConfigError: if a value is none that it can be.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise ConfigError(f"PictureFolder: {explain(error)}") from None
