"""The settings of the article's network, its pictures and its training: the only home of their defaults.

The defaults are the article's setting with its defects mended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from stn_bench.settings import Group, Settings, override
from stn_bench.subjects.stn.data.spec import LOWER_BOUND
from stn_bench.system.text import quote


class CorrectionConfig(Group):
    """A correction of the pictures by classical computer vision, before the network sees them (Ques5)."""

    kind: Literal["as_drawn", "opencv"] = "as_drawn"
    """"opencv" finds the letter by a threshold, and centres, straightens and scales it; "as_drawn" does nothing."""
    threshold: int = Field(200, ge=1, le=254)
    """Grey level, 0..255, below which a pixel counts as ink."""
    opening: int = Field(2, ge=1, le=15)
    """Side of the square that ink must hold to survive, in pixels; removes dots and thin lines, 1 removes nothing."""
    smallest: float = Field(0.02, ge=0, le=1)
    """Fraction of the picture that the largest component must cover; a smaller one is left as it is."""
    extent: float = Field(0.8, gt=0, le=1)
    """Fraction of the picture's side that the longer side of the letter takes afterwards."""
    deskew: bool = True
    """Whether a slanting letter is straightened by a shear."""


class DataConfig(Group):
    """The pictures: how many, how large, of what, and how they are split."""

    source: str = Field("captcha", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """"captcha" draws the pictures; any other name is one given to `stn-bench data import --name`."""
    count: int = Field(10_000, ge=3, le=10_000_000)
    """Number of pictures in all; what validation and test do not take is for training."""
    validation: int = Field(1_000, ge=1)
    """Number of pictures that choose the best epoch; they follow the training pictures by index."""
    test: int = Field(1_000, ge=1)
    """Number of pictures that are looked at once, at the end; the last ones by index."""
    size: int = Field(60, ge=16, le=512)
    """Height and width of the pictures that the model sees, in pixels."""
    alphabet: str = Field("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_length=2, pattern=r"^[A-Za-z0-9]+$")
    """The characters drawn, one per picture; each is a class, in this order."""
    fonts: tuple[str, ...] = ()
    """TrueType files to draw with; none means the fonts that the captcha package brings."""
    shapes: Literal["square", "varied"] = "square"
    """"square" draws size x size; "varied" draws aspect ratios from 1:2 to 2:1 and letterboxes them."""
    pad: float | None = Field(None, ge=-1, le=1)
    """Value around a letterboxed picture, in units of `model.input_range`; unset, the range's lower bound."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the pictures; a run's own seed never changes them."""
    correction: CorrectionConfig = CorrectionConfig()

    @property
    def train(self) -> int:
        """Number of training pictures."""
        return self.count - self.validation - self.test

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.train < 1:
            raise ValueError(
                f"`data.count` must leave at least one training picture after "
                f"validation and test, got {self.count} - {self.validation} - {self.test}"
            )
        if len(set(self.alphabet)) != len(self.alphabet):
            raise ValueError(f"`data.alphabet` must not repeat a character, got {quote(self.alphabet)}")
        return self


_Channels = Annotated[int, Field(ge=1, le=4096)]
Channels = tuple[_Channels, _Channels, _Channels]
"""Channels of a trunk's three blocks."""


class TransformerConfig(Group):
    """The spatial transformer in front of the classifier (Jaderberg et al. 2015)."""

    kind: Literal["affine", "none"] = "affine"
    """"affine" learns a 2x3 matrix per picture; "none" is the plain CNN."""
    sampler: Literal["exact", "article"] = "exact"
    """"exact" returns the input for the identity matrix; "article" keeps the article's scale, rounding, border."""
    shared_blocks: int = Field(0, ge=0, le=3)
    """First blocks of the localisation net that are the classifier's own, same weights (Finnveden et al. 2020)."""
    channels: Channels | None = None
    """Channels of the localisation net's blocks at width 1; unset, those of the classifier."""
    size: int | None = Field(None, ge=8, le=512)
    """Height and width of what the classifier is shown, in pixels; unset, those of the picture.

    `letter.magnification` and `letter.centring` count those pixels: shown 40 of 60, a letter that stays as it is has a
    magnification of 39/59.
    """
    shrink: int = Field(1, ge=1, le=4)
    """Factor by which the localisation net's picture is smaller than the sampler's; 2 shows it half the size."""
    fill: float | None = Field(None, ge=-1, le=1)
    """Value outside the picture, in units of `model.input_range`; unset, the range's lower bound."""


class NormConfig(Group):
    """The normalisation that follows each convolution of a trunk."""

    kind: Literal["batch_renorm", "batch", "none"] = "batch_renorm"
    """"batch_renorm" (Ioffe 2017) is the article's; "batch" is plain batch normalisation."""
    position: Literal["before", "after"] = "after"
    """Before or after the activation."""
    affine: bool = True
    """Whether a learned scale and bias follow the normalisation."""


class ModelConfig(Group):
    """The network: every part of the article's, or a Keras model of your own."""

    factory: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """Import path `package.module:function` of a function (config) -> keras.Model; unset, the article's network."""
    input_range: Literal["[0,1]", "[-1,1]"] = "[0,1]"
    """The range that raw 0..255 pixels are rescaled to, inside the model."""
    transformer: TransformerConfig = TransformerConfig()
    downsampling: Literal["stride", "max_pool", "average_pool", "blur_pool"] = "stride"
    """How a trunk shrinks its picture: by the convolution's stride, or by pooling with the same factor behind it."""
    norm: NormConfig = NormConfig()
    activation: Literal["relu", "sigmoid", "tanh", "gelu"] = "relu"
    """Activation of the trunk's convolutions."""
    width: float = Field(1.0, gt=0, le=8)
    """Multiplier of every convolution's channels; 1 is the article's 512, 256, 64 and 20."""
    channels: Channels = (512, 256, 64)
    """Channels of the blocks of a trunk at width 1; the article's by default."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Fraction of activations dropped behind each block of a trunk."""
    scores: Literal["linear", "relu"] = "linear"
    """Activation of the class scores before the softmax; the article's ReLU forbids negative scores."""


class OptimizerConfig(Group):
    """The optimizer and its learning rate schedule."""

    name: Literal["adam", "amsgrad", "sgd"] = "adam"
    """The rule of the steps; "amsgrad" is Adam that never lets its second moment fall (Reddi et al. 2018)."""
    learning_rate: float = Field(1e-3, gt=0, le=10)
    """Learning rate after warm-up, per step."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Momentum of SGD; must be 0 for the others."""
    nesterov: bool = False
    """Nesterov's form of SGD's momentum."""
    schedule: Literal["constant", "cosine"] = "constant"
    """"cosine" falls from the learning rate to 0 over the whole training."""
    warmup_epochs: float = Field(0.0, ge=0)
    """Epochs over which the learning rate rises linearly from 0."""
    weight_decay: float = Field(0.0, ge=0, lt=1)
    """Share of each weight of a convolution or a dense layer, times the learning rate, that a step takes away.

    Biases, and the scales and shifts of normalisation, are spared (Loshchilov and Hutter 2019).
    """
    averaging: float = Field(0.0, ge=0, lt=1)
    """Share of itself that a running average of the weights keeps at a step; 0 takes none (Polyak and Juditsky 1992).

    The average is what is judged, tested and kept, while training goes on from the weights themselves. 0.998 looks
    back over some 500 steps. Moving statistics of normalisation are the latest, not averaged.
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name != "sgd" and self.momentum:
            raise ValueError(f"`optimizer.momentum` belongs to sgd, got {self.momentum} with {self.name}")
        if self.nesterov and not self.momentum:
            raise ValueError("`optimizer.nesterov` needs an `optimizer.momentum` above 0")
        return self


class AugmentationConfig(Group):
    """How training pictures are altered, anew in each epoch; every picture draws evenly between the ends of each.

    Sheared, scaled, turned and shifted about the middle, in one bilinear pass that repeats the border; then its
    colours, then noise. All off by default. The draws depend on the run's seed, the epoch and the picture alone.
    """

    rotation: float = Field(0.0, ge=0, le=180)
    """Largest angle, in degrees, either way."""
    scale: float = Field(0.0, ge=0, lt=1)
    """Largest growth, as a fraction: 0.2 draws factors between 1/1.2 and 1.2, even in their logarithm."""
    stretch: float = Field(0.0, ge=0, lt=1)
    """The same of the width alone, while the height shrinks by as much."""
    shear: float = Field(0.0, ge=0, lt=1)
    """Largest slant, either way: pixels to the side for each pixel down, before the width is stretched."""
    shift: float = Field(0.0, ge=0, lt=1)
    """Largest way along each axis, as a fraction of the picture's side; from about 0.3 on letters leave it."""
    contrast: float = Field(0.0, ge=0, lt=1)
    """Largest growth of the distances from the picture's mean, as for `scale`."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """Largest change of all values, as a fraction of white, either way."""
    permute_colours: bool = False
    """Whether red, green and blue change places at random."""
    noise: float = Field(0.0, ge=0, lt=1)
    """Standard deviation of Gaussian noise on each value, as a fraction of white."""


class TrainConfig(Group):
    """How long and in what portions the model is trained."""

    epochs: int = Field(400, ge=1)
    """Passes over the training pictures."""
    batch_size: int = Field(32, ge=1)
    """Pictures per step; the last batch of an epoch may be smaller, none is dropped."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """Keras' dtype policy; weights stay float32."""
    validation: Literal["whole", "shuffled_cut"] = "whole"
    """"shuffled_cut" validates as the article does: whole batches of a new order each epoch, the rest left out."""
    weights: Literal["best", "last"] = "best"
    """"best" tests and keeps the weights of the best epoch by the validation pictures; "last" those of the last."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each label that is spread evenly over all classes in the training loss (Szegedy et al. 2016)."""
    augmentation: AugmentationConfig = AugmentationConfig()
    timeout: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Seconds after which a study gives a run up as crashed; unset, never. It is no part of a run's identity."""


class Config(Settings):
    """Everything that can change a result; of what cannot, only how long to wait for it."""

    unkeyed: ClassVar[tuple[str, ...]] = ("train.timeout",)  # patience changes no result
    later: ClassVar[Mapping[str, Any]] = {
        "model.channels": (512, 256, 64),
        "model.transformer.channels": None,
        "model.transformer.size": None,
        "optimizer.weight_decay": 0.0,
        "optimizer.averaging": 0.0,
        "train.weights": "best",
        "train.label_smoothing": 0.0,
        **{f"train.augmentation.{name}": value for name, value in AugmentationConfig().model_dump().items()},
    }

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.optimizer.warmup_epochs > self.train.epochs:
            raise ValueError(
                f"`optimizer.warmup_epochs` must not exceed `train.epochs`, "
                f"got {self.optimizer.warmup_epochs} > {self.train.epochs}"
            )
        for path, value in (("data.pad", self.data.pad), ("model.transformer.fill", self.model.transformer.fill)):
            if value is not None and value < LOWER_BOUND[self.model.input_range]:
                raise ValueError(f"`{path}` must lie in `model.input_range` {self.model.input_range}, got {value}")
        transformer = self.model.transformer
        pairs: tuple[tuple[str, Any, Any], ...] = (
            ("shrink", transformer.shrink, 1),
            ("size", transformer.size or self.data.size, self.data.size),
            ("channels", transformer.channels or self.model.channels, self.model.channels),
        )
        for name, value, alike in pairs:
            if transformer.shared_blocks and value != alike:
                raise ValueError(
                    "`model.transformer.shared_blocks` needs nets that are alike and see the same picture, "
                    f"got it with `model.transformer.{name}` {value}"
                )
        if self.train.validation == "shuffled_cut" and self.data.validation < self.train.batch_size:
            raise ValueError(
                f"`train.validation` shuffled_cut keeps whole batches of {self.train.batch_size} only, "
                f"got `data.validation` {self.data.validation}"
            )
        return self

    def resolved(self) -> Config:
        """Return the same configuration with pad and fill written out, and unset what only repeats another setting."""
        bound = LOWER_BOUND[self.model.input_range]
        pad = bound if self.data.pad is None else self.data.pad
        fill = bound if self.model.transformer.fill is None else self.model.transformer.fill
        derived: dict[str, Any] = {"data.pad": pad, "model.transformer.fill": fill}
        followed = {"channels": self.model.channels, "size": self.data.size}
        alike = [name for name, value in followed.items() if getattr(self.model.transformer, name) == value]
        return override(self, derived | {f"model.transformer.{name}": None for name in alike})

    def unresolved(self) -> Config:
        """Return the same configuration; a pad value or a fill that is the lower bound follows the range again."""
        bound = LOWER_BOUND[self.model.input_range]
        values = {"data.pad": self.data.pad, "model.transformer.fill": self.model.transformer.fill}
        return override(self, {path: None for path, value in values.items() if value == bound})
