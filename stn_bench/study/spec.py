"""Ablations and studies as people write them: the shape of their files."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stn_bench.settings import Group
from stn_bench.stats.values import FEWEST_SEEDS
from stn_bench.subject import DEFAULT
from stn_bench.system.text import did_you_mean, quote, shorten

BASE = "base"
"""The arm that the others are compared with."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Range(Group):
    """The values that tuning may try for one setting: an interval, or a list of choices."""

    low: Finite | None = None
    """Smallest value."""
    high: Finite | None = None
    """Largest value."""
    log: bool = False
    """Draw evenly on a logarithmic scale; `low` must then be above 0."""
    choices: tuple[float | int | str | bool, ...] = ()
    """Values to choose from, instead of an interval."""

    @field_validator("choices", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError("a range needs either `low` and `high`, or `choices`")
        if not self.choices and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError(f"`low` must be below `high`, got low={self.low} and high={self.high}")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError(f"`log` needs an interval with `low` above 0, got low={self.low}")
        return self


class Arm(Group):
    """One arm: what it changes, and what somebody published for it."""

    name: str
    set: dict[str, Any] = Field({})
    """Overrides of the base, by dotted path."""
    published: dict[str, Finite] = Field({})
    """Numbers published elsewhere, by metric (for example accuracy); shown beside ours, never tested against."""
    search: dict[str, Range] = Field({})
    """Further settings to tune, that only this arm has."""
    tuned: bool = True
    """False keeps the arm as it is written: no tuning, and its verdict says so."""
    match: Literal["flops"] | None = None
    """"flops" scales the arm's model until it costs the base's FLOPs: capacity is not the question then."""
    together: str = ""
    """Why the settings in `set` are one factor, where there is more than one; without it the verdict is invalid."""


class Claim(Group):
    """A claim that somebody published, and the comparison of two arms, or the measurement of one, that tests it."""

    says: str = Field(min_length=1)
    """The claim, in a sentence."""
    asked: str = Field(min_length=1)
    """The question that the study asks instead; without one, the reason."""
    arm: str = ""
    """The arm that the claim is about; "" if the study does not ask it."""
    against: str = BASE
    """The arm that it is compared with."""
    metric: str = ""
    """The metric of the comparison; unset, the study's primary metric."""
    expect: Literal["better", "worse"] = "better"
    """The result of `arm` against `against` if the claim holds."""
    above: Finite | None = None
    """Instead of a comparison: the arm's own metric lies above this value if the claim holds."""
    needs: dict[str, Any] = Field({})
    """Settings that the study must have to ask the claim, by dotted path."""


class Ablation(Group):
    """One question about a model, and the arms that answer it."""

    name: str
    title: str = Field(min_length=1)
    """Heading of the question's section."""
    question: str = Field(min_length=1)
    """The question in one sentence."""
    source: str = ""
    """The origin of the question."""
    base: dict[str, Any] = Field({})
    """Overrides that the question needs in every arm, the base included."""
    published: dict[str, Finite] = Field({})
    """Numbers published elsewhere for the base."""
    published_pictures: int = Field(0, ge=0)
    """Number of test pictures behind published accuracies, to test their difference; 0 if unknown."""
    arms: tuple[Arm, ...] = ()
    factors: dict[str, tuple[Any, ...]] = Field({})
    """Settings and their values, whose product makes the arms."""
    claims: tuple[Claim, ...] = ()
    """Published claims about the question; the report opens with their results."""


class Tuning(Group):
    """The search for hyperparameters before the verdict, the same for every arm."""

    trials: int = Field(0, ge=0)
    """Configurations tried per arm; 0 takes the settings as they are."""
    seed: int = Field(1000, ge=0, lt=2**31)
    """Seed that the trials train on; never one of the verdict's seeds."""
    metric: str = ""
    """The metric that compares the trials, never a test metric; unset, the metrics that the subject names."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """The direction of `metric`, if the subject does not declare it."""
    search: dict[str, Range] = Field({})
    """Settings to search, by dotted path."""
    ablations: tuple[str, ...] = ()
    """Names of the ablations to tune, the base included; unset, all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.trials) != bool(self.search):
            counts = f"{self.trials} trials over {len(self.search)} settings"
            raise ValueError(f"`tuning.trials` and `tuning.search` belong together, got {counts}")
        return self


class Study(Group):
    """Which ablations, on which base, with which seeds and which tuning budget."""

    name: str
    title: str = Field(min_length=1)
    """Heading of the report."""
    subject: str = Field(DEFAULT, min_length=1)
    """The name of a subject, or the import path `module:attribute` of your own."""
    scope: str = ""
    """The scope and the limits of the study; shown at the top of its report."""
    ablations: tuple[str, ...] = Field(min_length=1)
    """Names of the ablations, in the order of the report."""
    arms: dict[str, tuple[str, ...]] = Field({})
    """Arms to keep of an ablation, by its name; the others are left out. An ablation not named here keeps all."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Seeds of the verdict, in the order in which they are trained; each arm is trained at most once on each."""
    looks: tuple[int, ...] = ()
    """Interim looks: numbers of seeds after which decided arms stop, such as [3, 5, 8]; unset, no arm stops early."""
    confirm: tuple[int, ...] = ()
    """Fresh seeds on which `run --confirm` trains the best arm of each question and its base again."""
    family: Literal["question", "study"] = "question"
    """The comparisons that Holm's correction counts: those of a question, or those of the whole study."""
    max_failed: int = Field(0, ge=0)
    """Seeds of an arm that may diverge or crash before its verdict is invalid."""
    remarks: dict[str, str] = Field({})
    """Remarks on a question's runs, by ablation: the report shows them, no verdict depends on them."""
    metric: str = ""
    """The primary metric; unset, the first that the subject declares."""
    direction: Literal["maximize", "minimize"] | None = None
    """Which way the primary metric is better; unset, as the subject says of it."""
    margin: float = Field(0.005, gt=0, allow_inf_nan=False)
    """Differences smaller than this count as equivalent, in units of the metric."""
    base: dict[str, Any] = Field({})
    """Overrides of the defaults, for every arm."""
    tuning: Tuning = Tuning()

    @field_validator("ablations")
    @classmethod
    def _ablations(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"`ablations` must differ from one another, got `{shorten(name)}` more than once")
        return names

    @field_validator("arms")
    @classmethod
    def _arms(cls, arms: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, kept in arms.items():
            if not kept:
                raise ValueError(f"`arms.{shorten(name)}`: expected the arms to keep, got an empty list")
        return arms

    @field_validator("seeds", "confirm")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        repeated = sorted(seed for seed, count in Counter(seeds).items() if count > 1)
        if repeated:
            raise ValueError(f"`{info.field_name}` must differ from one another, got {repeated[0]} more than once")
        if any(not 0 <= seed < 2**31 for seed in seeds):
            raise ValueError(f"`{info.field_name}` must lie between 0 and 2^31 - 1, got {quote(seeds)}")
        return seeds

    @property
    def all_looks(self) -> tuple[int, ...]:
        """The looks as planned; without any, the one at all seeds."""
        return self.looks or (len(self.seeds),)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for named in (*self.arms, *self.tuning.ablations, *self.remarks):
            if named not in self.ablations:
                raise ValueError(
                    f"`arms`, `tuning.ablations` and `remarks` name only ablations of the study, "
                    f"got `{shorten(named)}`.{did_you_mean(named, self.ablations)}"
                )
        for name, seeds in {"seeds": self.seeds, "confirm": self.confirm}.items():
            if self.tuning.seed in seeds:
                raise ValueError(f"`tuning.seed` must not be one of `{name}`, got {self.tuning.seed} in both")
        if common := sorted(set(self.seeds) & set(self.confirm)):
            raise ValueError(f"`confirm` needs seeds that chose nothing, got {common[0]} in `seeds` too")
        self._check_looks()
        return self

    def _check_looks(self) -> None:
        looks = list(self.looks)
        if looks and (looks != sorted(set(looks)) or looks[0] < FEWEST_SEEDS or looks[-1] != len(self.seeds)):
            raise ValueError(
                f"`looks` must rise from {FEWEST_SEEDS} or more to the number of seeds, {len(self.seeds)}; "
                f"got {quote(looks)}"
            )
