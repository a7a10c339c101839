"""Ablations and studies as people write them: the shape of their files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from stn_bench.settings import Group, explain
from stn_bench.stats.values import FEWEST_SEEDS
from stn_bench.subject import DEFAULT, Subject
from stn_bench.system.errors import ConfigError
from stn_bench.system.own_code import address_of
from stn_bench.system.text import did_you_mean, quote, shorten

BASE = "base"
"""The arm that the others are compared with."""

OUTSIDE = "train"
"""The study, and so the experiment, of runs that no study asked for."""


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


SHIPPED = re.compile(r"^stn_bench\.subjects\.(\w+):subject$")
Finite = Annotated[float, Field(allow_inf_nan=False)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]
Settled = Annotated[Any, BeforeValidator(_as_tuple)]
"""A setting's value as settings hold it: a tuple for a file's list, so that the two compare equal."""
Values = Annotated[tuple[Settled, ...], BeforeValidator(_as_tuple)]


def plain(value: Any) -> Any:
    """Return a value of code as a file would hold it: lists for tuples, ranges and arrays, numbers for numpy's."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(one) for one in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else value


class Range(Group):
    """The values that tuning may try for one setting: an interval, or a list of choices."""

    low: Finite | None = None
    """Smallest value."""
    high: Finite | None = None
    """Largest value."""
    log: bool = False
    """Draw evenly on a logarithmic scale; `low` must then be above 0."""
    choices: Annotated[tuple[float | int | str | bool, ...], BeforeValidator(_as_tuple)] = ()
    """Values to choose from, instead of an interval."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError("a range needs either `low` and `high`, or `choices`")
        if not self.choices and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError(f"`low` must be below `high`, got low={self.low} and high={self.high}")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError(f"`log` needs an interval with `low` above 0, got low={self.low}")
        return self


def is_range(value: Any) -> bool:
    """Return whether a table is a range, and not settings of a group."""
    return isinstance(value, Mapping) and bool(set(value) & set(Range.model_fields))


def walk(
    table: Mapping[str, Any], is_leaf: Callable[[Any], bool] = lambda value: False, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the dotted paths of nested tables, each with its value."""
    for key, value in table.items():
        if isinstance(value, Mapping) and not is_leaf(value):
            yield from walk(value, is_leaf, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _by_path(table: Any) -> Any:
    return dict(walk(table, is_range)) if isinstance(table, Mapping) else table


Space = Annotated[dict[str, Range], BeforeValidator(_by_path)]


class Written(Group):
    """What a person writes: in a file, or in code, where lists, ranges and arrays will do for tuples.

    Raises:
        ConfigError: if it is written in code and cannot be used; a file's name stands before what a file lacks.
    """

    name: str

    def __init__(self, name: str, **fields: Any) -> None:
        kind = type(self)
        _refuse_unknown(kind, fields, _head(kind))
        try:
            super().__init__(**{"name": name, **plain(fields)})
        except ValidationError as error:
            raise ConfigError(f"{_head(kind)}{explain(error)}") from None

    def tree(self) -> dict[str, Any]:
        """Return what a file of it would hold."""
        tree: dict[str, Any] = plain(self.model_dump(exclude_unset=True, exclude={"name"}))
        return tree


def _refuse_unknown(kind: type[Group], fields: Mapping[str, Any], where: str) -> None:
    """Refuse names that are no fields of something written, or of a group in it; the message suggests the nearest."""
    for key, value in fields.items():
        if key not in kind.model_fields:
            raise ConfigError(f"{where}no argument `{shorten(str(key))}`.{did_you_mean(str(key), kind.model_fields)}")
        group = kind.model_fields[key].annotation
        if isinstance(value, Mapping) and isinstance(group, type) and issubclass(group, Group):
            _refuse_unknown(group, value, f"{where}`{key}`: ")


def complaint(kind: type[Group], error: Exception) -> str:
    """Return what is wrong with something written, without the name of its kind before it."""
    return explain(error) if isinstance(error, ValidationError) else str(error).removeprefix(_head(kind))


def _head(kind: type[Group]) -> str:
    return f"{kind.__name__}: "


MOST_LABEL, MARKUP = 60, "`*"
"""Characters that an arm's label may have, so that it fits a table; and those that it may not."""


class Arm(Written):
    """One arm: what it changes, and what somebody published for it.

    Example:
        >>> Arm("wide", {"width": 64}, together="a wider layer needs a smaller rate")
    """

    set: dict[str, Any] = Field({})
    """Overrides of the base, by dotted path."""
    published: dict[str, Finite] = Field({})
    """Numbers published elsewhere, by metric (for example accuracy); shown beside ours, never tested against."""
    search: Space = Field({})
    """Further settings to tune, that only this arm has."""
    tuned: bool = True
    """False keeps the arm as it is written: no tuning, and its verdict says so."""
    match: Literal["flops"] | None = None
    """"flops" scales the arm's model until it costs the base's FLOPs: capacity is not the question then."""
    together: str = ""
    """Why the settings in `set` are one factor, where there is more than one; without it the verdict is invalid."""
    no_effect: str = ""
    """Why the arm is meant although nothing reads what it sets, as a check that nothing does; else it is refused."""
    label: Annotated[str, Field(max_length=MOST_LABEL)] = ""
    """What the report calls the arm, for a reader; unset, its name. It decides nothing: no run, no key, no verdict."""

    @field_validator("label")
    @classmethod
    def _label(cls, label: str) -> str:
        if not label.isprintable() or label != label.strip() or any(one in label for one in MARKUP):
            raise ValueError(
                f"`label`: expected a few words in one line, without ` and *, and no space around; got {quote(label)}"
            )
        return label

    def __init__(self, name: str, set: Mapping[str, Any] | None = None, **fields: Any) -> None:
        super().__init__(name, **({} if set is None else {"set": set}), **fields)


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
    needs: dict[str, Settled] = Field({})
    """Settings that the study must have to ask the claim, by dotted path."""


class Ablation(Written):
    """One question about a model, and the arms that answer it.

    In code the arms are a table of overrides by the arm's name, or a list of `Arm`s, which can say more.

    Example:
        >>> Ablation("width", title="Width", question="Does a wider layer read more?", arms={"wide": {"width": 64}})
    """

    title: str = Field(min_length=1)
    """Heading of the question's section."""
    question: str = Field(min_length=1)
    """The question in one sentence."""
    source: str = ""
    """The origin of the question."""
    answer: str = ""
    """The arm whose difference answers the question, with which its report begins; unset, the most telling one.

    It decides nothing: no run, no key, no verdict.
    """
    base: dict[str, Any] = Field({})
    """Overrides that the question needs in every arm, the base included."""
    published: dict[str, Finite] = Field({})
    """Numbers published elsewhere for the base."""
    published_pictures: int = Field(0, ge=0)
    """Number of test pictures behind published accuracies, to test their difference; 0 if unknown."""
    arms: Annotated[tuple[Arm, ...], BeforeValidator(_as_tuple)] = ()
    factors: dict[str, Values] = Field({})
    """Settings and their values, whose product makes the arms."""
    claims: Annotated[tuple[Claim, ...], BeforeValidator(_as_tuple)] = ()
    """Published claims about the question; the report opens with their results."""

    def __init__(self, name: str, **fields: Any) -> None:
        if isinstance(arms := fields.get("arms"), Mapping):
            fields["arms"] = [_arm(arm, overrides) for arm, overrides in arms.items()]
        super().__init__(name, **fields)

    @field_validator("arms")
    @classmethod
    def _arms(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        repeated = next((name for name, count in Counter(arm.name for arm in arms).items() if count > 1), None)
        if repeated is not None:
            raise ValueError(f"two arms named `{shorten(repeated)}`; give each its own name in [arms] and [factors]")
        labels = [BASE, *(arm.label for arm in arms if arm.label)]
        if twice := next((label for label in labels if labels.count(label) > 1), None):
            raise ValueError(f"two arms labelled `{shorten(twice)}`; give each its own `label`")
        return arms

    @model_validator(mode="after")
    def _published(self) -> Self:
        told = {BASE: self.published, **{arm.name: arm.published for arm in self.arms}}
        for name, accuracy in ((name, found["accuracy"]) for name, found in told.items() if "accuracy" in found):
            if self.published_pictures and not 0 <= accuracy <= 1:
                raise ValueError(
                    f"`published` of `{name}`: expected `accuracy` as a fraction of "
                    f"{self.published_pictures} pictures, such as 0.994; got {accuracy:g}"
                )
        return self

    def tree(self) -> dict[str, Any]:
        """Return what a file of it would hold."""
        return {**super().tree(), "arms": {arm.name: arm.tree() for arm in self.arms}}


def _arm(name: str, overrides: Any) -> Arm:
    if not isinstance(overrides, Mapping):
        raise ConfigError(
            f'Ablation: `arms.{shorten(str(name))}`: expected what the arm sets, such as {{"width": 64}}, '
            f"got {quote(overrides)}; an `Arm` stands in a list"
        )
    return Arm(name, overrides)


class Tuning(Group):
    """The search for hyperparameters before the verdict, the same for every arm."""

    trials: int = Field(0, ge=0)
    """Configurations tried per arm; 0 takes the settings as they are."""
    seed: int = Field(1000, ge=0, lt=2**31)
    """Seed that the trials train on; never one of the verdict's seeds."""
    metric: str = ""
    """The metric that compares the trials, never a test metric; unset, the metrics that the subject names."""
    direction: Literal["maximize", "minimize"] | None = None
    """Which way `metric` is better; unset, as the subject says of it."""
    search: Space = Field({})
    """Settings to search, by dotted path."""
    ablations: Names = ()
    """Names of the ablations to tune, the base included; unset, all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.trials) != bool(self.search):
            counts = f"{self.trials} trials over {len(self.search)} settings"
            raise ValueError(f"`tuning.trials` and `tuning.search` belong together, got {counts}")
        return self


class Share(Group):
    """What each worker of the study needs of a machine or a cluster. No result depends on it."""

    cpus: int = Field(1, ge=1, le=1024)
    """Cores, which are the threads that it trains with."""
    gpus: float = Field(0.0, ge=0, le=64, allow_inf_nan=False)
    """GPUs, of a cluster; a fraction shares one."""


class Published(Group):
    """The words of a report that was published while verdicts followed other rules."""

    until: str = Field(min_length=1)
    """The day until which they stood, such as "2026-11-26"."""
    ended: str = Field(min_length=1)
    """When the last of the runs ended that they were said of; of other runs the report says nothing."""
    rule: str = Field(min_length=1)
    """The rules that they followed, in a few words that go on with "the words followed"."""
    words: dict[str, str] = Field(min_length=1)
    """Question and arm, such as "width/half" -> the word that the report had."""


class Study(Written):
    """Which ablations, on which base, with which seeds and which tuning budget.

    In code `ablations` holds `Ablation`s, or names of files; `subject` may be a function or a Subject of a module.

    Example:
        >>> Study("waves", title="A wave", subject="waves:train", ablations=[degree], seeds=range(1, 6),
        ...       metric="test.error", direction="minimize", margin=0.02)
    """

    title: str = Field(min_length=1)
    """Heading of the report."""
    subject: str = Field(DEFAULT, min_length=1)
    """The name of a subject, or the import path `module:attribute` of your own."""
    scope: str = ""
    """The scope and the limits of the study; shown at the top of its report."""
    ablations: Names = Field(min_length=1)
    """Names of the ablations, in the order of the report."""
    arms: dict[str, Names] = Field({})
    """Arms to keep of an ablation, by its name; the others are left out. An ablation not named here keeps all."""
    seeds: Numbers = Field(min_length=1)
    """Seeds of the verdict, in the order in which they are trained; each arm is trained at most once on each."""
    looks: Numbers = ()
    """Interim looks: numbers of seeds after which decided arms stop, such as [3, 5, 8]; unset, no arm stops early."""
    confirm: Numbers = ()
    """Fresh seeds on which `run --confirm` trains the best arm of each question and its base again."""
    family: Literal["question", "study"] = "question"
    """The comparisons that are corrected for together: those of a question, or those of the whole study."""
    correction: Literal["ranked", "holm"] = "ranked"
    """How p is adjusted: "ranked" tests the arms that moved most first; "holm" is the classic, Holm's method."""
    max_failed: int = Field(0, ge=0)
    """Seeds of an arm that may diverge or crash before its verdict is invalid."""
    published: Published | None = None
    """Words that were published under other rules; the report says which of them are others now, and why."""
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
    resources: Share = Share()
    """What each worker needs of a machine or a cluster; no result and no digest depends on it."""
    _given: tuple[Ablation, ...] = PrivateAttr(())

    def __init__(self, name: str, **fields: Any) -> None:
        given: list[Ablation] = []
        asked = fields.get("ablations")
        asked = [asked] if isinstance(asked, Ablation) else asked
        if isinstance(asked, list | tuple):
            given = [one for one in asked if isinstance(one, Ablation)]
            fields["ablations"] = [one.name if isinstance(one, Ablation) else one for one in asked]
        if isinstance(fields.get("subject"), Subject | FunctionType):
            address = address_of(fields["subject"], "Study: `subject`")
            fields["subject"] = SHIPPED.sub(r"\1", address)
        super().__init__(name, **fields)
        self._given = tuple(given)

    @property
    def given(self) -> dict[str, Ablation]:
        """The ablations that were written in code, by name; the others are files."""
        return {ablation.name: ablation for ablation in self._given}

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
