"""The catalogue: ablations and studies as people write them, read and checked.

Files are looked for under the root (`ablations/NAME.toml`, `studies/NAME.toml`) and then among those that
stn-bench brings along.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from stn_bench.stats.values import FEWEST_SEEDS
from stn_bench.subjects.stn.config import Config, Group, check_path, explain, override, parse_toml
from stn_bench.subjects.stn.metrics import METRICS
from stn_bench.system.errors import CatalogueError, ConfigError, did_you_mean
from stn_bench.system.text import EXPECTED, hidden_character, is_name, quote, shorten, texts

BASE = "base"
MOST_ARMS = 1000
"""Arms that factors may make: a product grows faster than anybody means it to."""

Kind = Literal["ablations", "studies"]
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
    """"flops" scales the arm's `model.width` until it costs the base's FLOPs: capacity is not the question then."""
    together: str = ""
    """Why the settings in `set` are one factor, where there is more than one; without it the verdict is invalid."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.match and "model.width" in self.set:
            raise ValueError("`match` finds `model.width`, so the arm must not set it too")
        return self


class Claim(Group):
    """A claim that somebody published, and the comparison of two arms, or the measurement of one, that tests it."""

    says: str = Field(min_length=1)
    """The claim, in a sentence."""
    asked: str = Field(min_length=1)
    """What is asked here instead; where nothing is, why not."""
    arm: str = ""
    """The arm that it is about; "" where the claim is not asked."""
    against: str = BASE
    """The arm that it is compared with."""
    metric: str = ""
    """What is compared; unset, the study's primary metric."""
    expect: Literal["better", "worse"] = "better"
    """How `arm` does beside `against` if the claim holds."""
    above: Finite | None = None
    """Instead of a comparison: the value that the arm's own metric lies above if the claim holds."""
    needs: dict[str, Any] = Field({})
    """Settings without which the claim is not asked, by dotted path."""

    @field_validator("metric")
    @classmethod
    def _metric(cls, metric: str) -> str:
        if metric and metric not in METRICS:
            raise ValueError(f"`metric`: no metric `{shorten(metric)}`.{did_you_mean(metric, METRICS)}")
        return metric


class Ablation(Group):
    """One question about a model, and the arms that answer it."""

    name: str
    title: str = Field(min_length=1)
    """Heading of the question's section."""
    question: str = Field(min_length=1)
    """The question in one sentence."""
    source: str = ""
    """Where the question comes from."""
    base: dict[str, Any] = Field({})
    """Overrides that the question needs in every arm, the base included."""
    published: dict[str, Finite] = Field({})
    """Numbers published elsewhere for the base."""
    published_pictures: int = Field(0, ge=0)
    """Number of test pictures behind published accuracies, to say what they can carry; 0 if nobody tells."""
    arms: tuple[Arm, ...] = ()
    factors: dict[str, tuple[Any, ...]] = Field({})
    """Settings and their values, whose product makes the arms."""
    claims: tuple[Claim, ...] = ()
    """What others claim about the question; the report opens with what came of it."""


class Tuning(Group):
    """The search for hyperparameters before the verdict, the same for every arm."""

    trials: int = Field(0, ge=0)
    """Configurations tried per arm; 0 takes the settings as they are."""
    seed: int = Field(1000, ge=0, lt=2**31)
    """Seed that the trials train on; never one of the verdict's seeds."""
    search: dict[str, Range] = Field({})
    """Settings to search, by dotted path."""
    ablations: tuple[str, ...] = ()
    """Names of the ablations whose arms are tuned, the base among them; none named, all are."""

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
    scope: str = ""
    """What the study can speak of and what not; stands on top of its report."""
    ablations: tuple[str, ...] = Field(min_length=1)
    """Names of the ablations, in the order of the report."""
    arms: dict[str, tuple[str, ...]] = Field({})
    """Arms to keep of an ablation, by its name; the others are left out. An ablation not named here keeps all."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Seeds of the verdict, in the order in which they are trained; each arm is trained at most once on each."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds after which arms that are decided stop, such as [3, 5, 8]; none, all arms get all seeds."""
    confirm: tuple[int, ...] = ()
    """Fresh seeds on which `run --confirm` trains the best arm of each question and its base again."""
    family: Literal["question", "study"] = "question"
    """The comparisons that Holm's correction counts: those of a question, or those of the whole study."""
    max_failed: int = Field(0, ge=0)
    """Seeds of an arm that may diverge or crash before its verdict is invalid."""
    remarks: dict[str, str] = Field({})
    """What was found out about a question's runs, by ablation: the report shows it, no verdict depends on it."""
    metric: str = "test.accuracy"
    """The primary metric."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Which way the primary metric is better."""
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
        repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
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
        if self.metric not in METRICS:
            raise ValueError(f"`metric`: no metric `{shorten(self.metric)}`.{did_you_mean(self.metric, METRICS)}")
        return self

    def _check_looks(self) -> None:
        looks = list(self.looks)
        if looks and (looks != sorted(set(looks)) or looks[0] < FEWEST_SEEDS or looks[-1] != len(self.seeds)):
            raise ValueError(
                f"`looks` must rise from {FEWEST_SEEDS} or more to the number of seeds, {len(self.seeds)}; "
                f"got {quote(looks)}"
            )


@dataclass(frozen=True)
class Catalogue:
    """All ablations and studies that can be found from a root folder."""

    root: Path

    def names(self, kind: Kind) -> tuple[str, ...]:
        """Return the names of all ablations or studies, sorted."""
        return tuple(sorted({path.stem for folder in self._folders(kind) for path in folder.glob("*.toml")}))

    def path(self, kind: Kind, name: str) -> Path:
        """Return the file of an ablation or study.

        Raises:
            CatalogueError: if there is none of that name, or it is none.
        """
        self._check_name(kind, name)
        for folder in self._folders(kind):
            if (folder / f"{name}.toml").is_file():
                return folder / f"{name}.toml"
        known = self.names(kind)
        raise CatalogueError(
            f"{self.root / kind}: no {kind.removesuffix('s').replace('studie', 'study')} `{shorten(name)}`."
            f"{did_you_mean(name, known) or ' Known: ' + (', '.join(known) or 'none') + '.'}"
        )

    def ablation(self, name: str) -> Ablation:
        """Return an ablation, checked against the default configuration.

        Raises:
            CatalogueError: if the file is missing or cannot be used.
        """
        path = self.path("ablations", name)
        tree = _without_name(read_toml(path), path)
        for table in ("base", "factors"):
            tree[table] = _settings(tree.get(table, {}), f"{path}: [{table}]")
        arms = tree.get("arms", {})
        if not isinstance(arms, dict) or not all(isinstance(arm, dict) for arm in arms.values()):
            raise CatalogueError(f"{path}: `arms`: expected tables [arms.NAME], got {quote(arms)}")
        tree["arms"] = tuple(_arm(name, arm, path) for name, arm in arms.items())
        tree["factors"] = {setting: _levels(levels, setting, path) for setting, levels in tree["factors"].items()}
        tree["claims"] = tuple(_claim(claim, path) for claim in _list_of_tables(tree.get("claims", []), path))
        ablation = _with_factor_arms(_validate(Ablation, {**tree, "name": path.stem}, path), path)
        _check_claims(ablation, path)
        return ablation

    def study(self, name: str) -> Study:
        """Return a study, what it extends merged in.

        Raises:
            CatalogueError: if a file is missing or cannot be used.
        """
        path = self.path("studies", name)
        tree = self._extended(path, ())
        tree["base"] = _settings(tree.get("base", {}), f"{path}: [base]")
        tree["tuning"] = _tuning(tree.get("tuning", {}), path)
        if isinstance(tree.get("arms"), dict):
            tree["arms"] = {name: _tuple(arms) for name, arms in tree["arms"].items()}
        study = _validate(Study, {**tree, "name": path.stem}, path)
        for ablation in study.ablations:
            self._check_reference(ablation, path)
        return study

    def _check_name(self, kind: Kind, name: str) -> None:
        """See that a name leads to no other folder, whether a person, a file or a file's own name says it."""
        if not is_name(name):
            known = filter(is_name, self.names(kind))
            raise CatalogueError(
                f"{self.root / kind}: expected {EXPECTED}, got `{shorten(name)}`.{did_you_mean(name, known)}"
            )
        if kind == "ablations" and name == BASE:
            raise CatalogueError(
                f"{self.root / kind}: `{BASE}` is the arm of every ablation, and none may be named so"
            )

    def _check_reference(self, ablation: str, path: Path) -> None:
        try:
            self.path("ablations", ablation)
        except CatalogueError as error:
            raise CatalogueError(f"{path}: `ablations`: {error}") from None

    def _extended(self, path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
        if path in seen:
            raise CatalogueError(f"{path}: `extends` comes back to itself through {seen[-1].name}")
        tree = _without_name(read_toml(path), path)
        parent = tree.pop("extends", None)
        if parent is None:
            return tree
        if not isinstance(parent, str):
            raise CatalogueError(f"{path}: `extends`: expected the name of one study, got {quote(parent)}")
        try:
            found = self.path("studies", parent)
        except CatalogueError as error:
            raise CatalogueError(f"{path}: `extends`: {error}") from None
        return _inherit(self._extended(found, (*seen, path)), tree)

    def _folders(self, kind: Kind) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.root / kind, bundled_root() / kind)))


@functools.cache
def bundled_root() -> Path:
    """Return the folder whose ablations and studies come with stn-bench: in the wheel, or the checkout."""
    package = Path(__file__).parent.parent
    bundled = package / "bundled"
    return bundled if bundled.is_dir() else package.parent


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file as a dict.

    Raises:
        CatalogueError: if it cannot be read, is not TOML (the message tells the line), or holds characters that
            steer a terminal or reorder what is read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path}: cannot be read as UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        tree = parse_toml(text)
    except ValueError as error:
        raise CatalogueError(f"{path}: not valid TOML: {error}") from None
    for text in texts(tree):
        if character := hidden_character(text):
            raise CatalogueError(
                f"{path}: expected text that a terminal shows as it is, got the character U+{ord(character):04X} in "
                f"`{shorten(text)}`"
            )
    return tree


def _is_range(value: Any) -> bool:
    return isinstance(value, dict) and bool(set(value) & set(Range.model_fields))


def _ranges(table: Any, where: str) -> dict[str, Any]:
    """Return what is to be searched by dotted path; a misspelt key of a range is told with what was meant."""
    found = _settings(table, where, leaf=_is_range)
    for path, values in found.items():
        if not isinstance(values, dict):
            raise CatalogueError(
                f"{where}: `{path}`: expected a table with `low` and `high`, or with `choices`, got {quote(values)}"
            )
    return {path: _validate(Range, values, f"{where}: `{path}`") for path, values in found.items()}


def _settings(table: Any, where: str, leaf: Any = lambda value: False) -> dict[str, Any]:
    """Return a table by dotted paths, whether it was written with quoted or with bare keys."""
    if not isinstance(table, dict):
        raise CatalogueError(f"{where}: expected a table, got {quote(table)}")
    flat: dict[str, Any] = {}
    for path, value in _walk(table, leaf):
        if path in flat:
            raise CatalogueError(f"{where}: `{path}` is set twice, with a quoted key and with bare ones")
        try:
            flat[check_path(path, where=where)] = value
        except ConfigError as error:
            raise CatalogueError(str(error)) from None
    return flat


def _walk(table: Mapping[str, Any], leaf: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and not leaf(value):
            yield from _walk(value, leaf, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _arm(name: str, table: dict[str, Any], path: Path) -> Arm:
    where = f"{path}: [arms.{shorten(name)}]"
    if name == BASE or not is_name(name):
        raise CatalogueError(f"{where}: expected {EXPECTED}, other than `{BASE}`")
    tree = _without_name(table, where)
    tree["set"] = _settings(tree.get("set", {}), where)
    tree["search"] = _ranges(tree.get("search", {}), f"{where} search")
    return _validate(Arm, {**tree, "name": name}, where)


def _without_name(table: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Return what a file or a table says; that it names itself otherwise than it is called must not go unseen."""
    if "name" in table:
        raise CatalogueError(f"{where}: unknown key `name`; the name is that of the file, or of the table [arms.NAME]")
    return dict(table)


def _list_of_tables(value: Any, path: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise CatalogueError(f"{path}: `claims`: expected tables [[claims]], got {quote(value)}")
    return value


def _claim(table: dict[str, Any], path: Path) -> Claim:
    where = f"{path}: [[claims]]"
    return _validate(Claim, {**table, "needs": _settings(table.get("needs", {}), f"{where} needs")}, where)


def _check_claims(ablation: Ablation, path: Path) -> None:
    names = (BASE, *(arm.name for arm in ablation.arms))
    for claim in ablation.claims:
        for arm in (claim.arm or BASE, claim.against):
            if arm not in names:
                raise CatalogueError(f"{path}: [[claims]] no arm `{shorten(arm)}` here.{did_you_mean(arm, names)}")


def _tuning(table: Any, path: Path) -> Any:
    if not isinstance(table, dict):
        return table
    _refuse_unknown(table, Tuning, f"{path}: [tuning]")
    search = _ranges(table.get("search", {}), f"{path}: [tuning.search]")
    return {**table, "search": search, "ablations": _tuple(table.get("ablations", ()))}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _levels(levels: Any, setting: str, path: Path) -> tuple[Any, ...]:
    if not isinstance(levels, list) or len(levels) < 2:
        raise CatalogueError(
            f"{path}: [factors] `{setting}`: expected a list of two or more values, got {quote(levels)}"
        )
    return tuple(levels)


def _with_factor_arms(ablation: Ablation, path: Path) -> Ablation:
    """Return the ablation with one arm for each combination of factor levels but the base's own."""
    made = _factor_arms(ablation, path)
    arms = (*ablation.arms, *made)
    if not arms:
        raise CatalogueError(f"{path}: expected at least one [arms.NAME], or [factors], got neither")
    names = [arm.name for arm in arms]
    for arm in made:
        if not is_name(arm.name):
            raise CatalogueError(
                f"{path}: [factors] make an arm named `{shorten(arm.name)}`, expected {EXPECTED}; "
                f"write it as [arms.NAME]"
            )
    for arm, spot in ((arm, f"[arms.{arm.name}]" if arm in ablation.arms else "[factors]") for arm in arms):
        if names.count(arm.name) > 1:
            raise CatalogueError(
                f"{path}: two arms named `{arm.name}`; give each its own name in [arms] and [factors]"
            )
        _checked({**ablation.base, **arm.set}, f"{path}: {spot}")
    return ablation.model_copy(update={"arms": arms})


def _factor_arms(ablation: Ablation, path: Path) -> tuple[Arm, ...]:
    base = _checked(ablation.base, f"{path}: [base]").resolved().flat()
    count = math.prod(map(len, ablation.factors.values()))
    if count > MOST_ARMS:
        raise CatalogueError(f"{path}: [factors]: expected at most {MOST_ARMS} combinations, got {count}")
    combinations = itertools.product(*ablation.factors.values()) if ablation.factors else ()
    settings = [dict(zip(ablation.factors, levels, strict=True)) for levels in combinations]
    return tuple(
        Arm(name=_level_name(overrides), set=overrides)
        for overrides in settings
        if any(base[setting] != level for setting, level in overrides.items())
    )


def _level_name(overrides: Mapping[str, Any]) -> str:
    words = (re.sub(r"(?<![\w.])-(?=\d)", "minus ", str(level).lower()) for level in overrides.values())
    return "_".join(re.sub(r"[^a-z0-9]+", "_", word).strip("_") for word in words)


def _checked(overrides: Mapping[str, Any], where: str) -> Config:
    try:
        return override(Config(), overrides, where=where)
    except ConfigError as error:
        raise CatalogueError(str(error)) from None


Model = TypeVar("Model", bound=Group)


def _validate(model: type[Model], tree: dict[str, Any], where: object) -> Model:
    _refuse_unknown(tree, model, where)
    values = {key: _tuple(value) for key, value in tree.items()}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise CatalogueError(f"{where}: {explain(error)}") from None


def _refuse_unknown(tree: Mapping[str, Any], model: type[Group], where: object) -> None:
    for key in sorted(set(tree) - set(model.model_fields)):
        raise CatalogueError(f"{where}: unknown key `{shorten(key)}`.{did_you_mean(key, model.model_fields)}")


def _inherit(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    """Return what a study file says over its parent; what the parent says of ablations that the child drops goes."""
    told = ("scope", "remarks")  # what is said of the parent's own runs
    merged = _merge({key: value for key, value in parent.items() if key not in told}, child)
    wanted = merged.get("ablations", [])
    if "ablations" not in child or not isinstance(wanted, list) or not _has_tables(parent, child):
        return merged
    inherited = {name: arms for name, arms in parent.get("arms", {}).items() if name in wanted}
    tuned = [name for name in parent.get("tuning", {}).get("ablations", []) if name in wanted]
    if parent.get("arms"):
        merged["arms"] = _merge(inherited, child.get("arms", {}))
    if parent.get("tuning", {}).get("ablations") and "ablations" not in child.get("tuning", {}):
        merged["tuning"] = {**merged["tuning"], "ablations": tuned} if tuned or "tuning" in child else {}
    return merged


def _has_tables(*trees: dict[str, Any]) -> bool:
    """Return whether what is to be inherited has the form that it needs; what has not is refused later, by name."""
    tables = [tree.get(name, {}) for tree in trees for name in ("arms", "tuning")]
    return all(isinstance(one, dict) and isinstance(one.get("ablations", []), list) for one in tables)


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        both = isinstance(value, dict) and isinstance(parent.get(key), dict)
        merged[key] = _merge(parent[key], value) if both else value
    return merged


def load(root: Path, study: str) -> tuple[Study, tuple[Ablation, ...]]:
    """Return a study and its ablations, each with the arms that the study keeps.

    Raises:
        CatalogueError: if a file is missing or cannot be used.
    """
    catalogue = Catalogue(root)
    found = catalogue.study(study)
    path = catalogue.path("studies", study)
    return found, tuple(_kept(catalogue.ablation(name), found, path) for name in found.ablations)


def _kept(ablation: Ablation, study: Study, path: Path) -> Ablation:
    """Return an ablation with the study's choice of its arms, and the claims that are about these."""
    names = study.arms.get(ablation.name)
    if names is None:
        return ablation
    known = [arm.name for arm in ablation.arms]
    for name in names:
        if name not in known:
            raise CatalogueError(
                f"{path}: `arms.{ablation.name}`: no arm `{shorten(name)}` there.{did_you_mean(name, known)}"
            )
    arms = tuple(arm for arm in ablation.arms if arm.name in names)
    kept = {BASE, *names}
    claims = tuple(claim for claim in ablation.claims if {claim.arm or BASE, claim.against} <= kept)
    return ablation.model_copy(update={"arms": arms, "claims": claims})


__all__ = ["BASE", "Ablation", "Arm", "Catalogue", "Claim", "Range", "Study", "Tuning", "load", "read_toml"]
