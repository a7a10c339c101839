"""The catalogue: ablations and studies as people write them, read and checked.

Files are looked for under the root (`ablations/NAME.toml`, `studies/NAME.toml`) and then among those that
stn-bench brings along.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from stn_bench.settings import Group, Settings, check_path, defaults, override
from stn_bench.study.extends import inherit
from stn_bench.study.soundness import sound_subject
from stn_bench.study.spec import BASE, Ablation, Arm, Claim, Range, Study, Tuning, complaint, is_range, walk
from stn_bench.study.toml import read_toml
from stn_bench.study.written import called, tree_of
from stn_bench.subject import DEFAULT, Subject, find_subject, is_shipped
from stn_bench.system.errors import CatalogueError, ConfigError
from stn_bench.system.own_code import check_found
from stn_bench.system.text import EXPECTED, did_you_mean, is_name, quote, shorten
from stn_bench.system.workspace import Workspace

MOST_ARMS = 1000
"""Arms that factors may make: a product grows faster than anybody means it to."""

NOT_NAMED = f' It is read as one of `{DEFAULT}`: no study names a subject for it, as in subject = "module:attribute"'

Kind = Literal["ablations", "studies"]


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
            CatalogueError: if the name is no valid name, or no such file exists.
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

    def ablation(self, name: str, subject: Subject | None = None) -> Ablation:
        """Return an ablation, checked against the default settings of a subject.

        Args:
            name: its name.
            subject: whose settings it moves; unset, the subject of the first study that asks it.

        Raises:
            CatalogueError: if the file is missing or cannot be used.
        """
        path = self.path("ablations", name)
        tree = _without_name(read_toml(path), path)
        return read_ablation(tree, path.stem, subject or self._asked_of(name), path)

    def study(self, name: str) -> Study:
        """Return a study, merged over the one it extends.

        Raises:
            CatalogueError: if a file is missing or cannot be used.
        """
        path = self.path("studies", name)
        return self.read_study(self._extended(path, ()), path.stem, path)

    def is_bundled(self, kind: Kind, name: str) -> bool:
        """Return whether an ablation or study comes with stn-bench: none of the root has its name."""
        return not (self.root / kind / f"{name}.toml").is_file()

    def read_study(self, tree: dict[str, Any], name: str, where: object, given: Collection[str] = ()) -> Study:
        """Return a study from what its file holds.

        Args:
            tree: its tables and values.
            name: its name.
            where: the file, or what else it comes from, for messages.
            given: names of ablations that come with it, and are no files.

        Raises:
            CatalogueError: if it cannot be used.
        """
        schema = self.find_subject(tree.get("subject", DEFAULT), where).settings
        tree["base"] = _settings(tree.get("base", {}), schema, f"{where}: [base]")
        tree["tuning"] = _tuning(tree.get("tuning", {}), schema, where)
        study = _validate(Study, {**tree, "name": name}, where, schema)
        for ablation in study.ablations:
            if ablation not in given:
                self._check_reference(ablation, where)
        return study

    def named_subjects(self) -> frozenset[str]:
        """Return the names of the subjects that studies name, as far as their files can be read."""
        return frozenset(self._subject_names.values())

    def may_miss_subject(self, ablation: str) -> bool:
        """Return whether a study of the root's that cannot be read, or names no subject, may ask an ablation."""
        own = (study for study in self.names("studies") if not self.is_bundled("studies", study))
        trees = (self._trees.get(study) for study in own)
        return any(tree is None or ("subject" not in tree and _asks(tree, ablation)) for tree in trees)

    def subject_name(self, study: str) -> str:
        """Return the name of what a study studies, or "" where its file cannot be read; nothing is imported."""
        return self._subject_names.get(study, "")

    def find_subject(self, name: Any, where: object) -> Subject:
        """Return what a study studies.

        Raises:
            CatalogueError: if there is no such subject.
        """
        if not isinstance(name, str) or not name:
            raise CatalogueError(f"{where}: `subject`: expected the name of a subject, got {quote(name)}")
        if not is_shipped(name):
            Workspace(self.root).find_code()
        try:
            found = sound_subject(name)
            if not is_shipped(name):
                check_found(name.partition(":")[0], self.root)
            return found
        except ConfigError as error:
            raise CatalogueError(f"{where}: {error}") from None

    @functools.cached_property
    def _trees(self) -> dict[str, dict[str, Any]]:
        """Name of a study -> its file, merged over the one it extends; reading a broken one raises."""
        found = {}
        for name in filter(is_name, self.names("studies")):
            with contextlib.suppress(CatalogueError):
                found[name] = self._extended(self.path("studies", name), ())
        return found

    @functools.cached_property
    def _subject_names(self) -> dict[str, str]:
        return {name: str(tree.get("subject", DEFAULT)) for name, tree in self._trees.items()}

    def _asked_of(self, ablation: str) -> Subject:
        """Return the subject of the first study that asks an ablation and has one, or the default one."""
        refused: CatalogueError | None = None
        for name, tree in self._trees.items():
            if _asks(tree, ablation):
                try:
                    return self.find_subject(self._subject_names[name], self.path("studies", name))
                except CatalogueError as error:
                    refused = refused or error
        if refused:
            raise refused
        return find_subject(DEFAULT)

    def _check_name(self, kind: Kind, name: str) -> None:
        """Check that a name leads to no other folder, whether a person, a file or a file's own name says it."""
        if not is_name(name):
            known = filter(is_name, self.names(kind))
            raise CatalogueError(
                f"{self.root / kind}: expected {EXPECTED}, got `{shorten(name)}`.{did_you_mean(name, known)}"
            )
        if kind == "ablations" and name == BASE:
            raise CatalogueError(f"{self.root / kind}: `{BASE}` names the base of every ablation; choose another name")

    def _check_reference(self, ablation: str, where: object) -> None:
        try:
            self.path("ablations", ablation)
        except CatalogueError as error:
            raise CatalogueError(f"{where}: `ablations`: {error}") from None

    def _extended(self, path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
        if path in seen:
            raise CatalogueError(f"{path}: `extends` forms a cycle through {seen[-1].name}")
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
        return inherit(self._extended(found, (*seen, path)), tree)

    def _folders(self, kind: Kind) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.root / kind, bundled_root() / kind)))


def _asks(study: Mapping[str, Any], ablation: str) -> bool:
    asked = study.get("ablations")
    return isinstance(asked, list) and ablation in asked


@functools.cache
def bundled_root() -> Path:
    """Return the folder whose ablations and studies come with stn-bench: in the wheel, or the checkout."""
    package = Path(__file__).parent.parent
    bundled = package / "bundled"
    return bundled if bundled.is_dir() else package.parent


def read_ablation(tree: dict[str, Any], name: str, subject: Subject, where: object) -> Ablation:
    """Return an ablation from what its file holds, checked against the default settings of a subject.

    Args:
        tree: its tables and values.
        name: its name.
        subject: whose settings it moves.
        where: the file, or what else it comes from, for messages.

    Raises:
        CatalogueError: if it cannot be used.
    """
    schema = subject.settings
    for table in ("base", "factors"):
        tree[table] = _settings(tree.get(table, {}), schema, f"{where}: [{table}]")
    arms = tree.get("arms", {})
    if not isinstance(arms, dict) or not all(isinstance(arm, dict) for arm in arms.values()):
        raise CatalogueError(f"{where}: `arms`: expected tables [arms.NAME], got {quote(arms)}")
    tree["arms"] = tuple(_arm(name, arm, schema, where) for name, arm in arms.items())
    tree["factors"] = {setting: _levels(levels, setting, where) for setting, levels in tree["factors"].items()}
    tree["claims"] = tuple(_claim(claim, schema, where) for claim in _list_of_tables(tree.get("claims", []), where))
    ablation = _with_factor_arms(_validate(Ablation, {**tree, "name": name}, where, schema), schema, where)
    _check_names(ablation, subject, where)
    return ablation


def _ranges(table: Any, schema: type[Settings], where: str) -> dict[str, Any]:
    """Return the search space by dotted path; the error for a misspelt key of a range suggests the right key."""
    found = _settings(table, schema, where, leaf=is_range)
    for path, values in found.items():
        if not isinstance(values, dict):
            raise CatalogueError(
                f"{where}: `{path}`: expected a table with `low` and `high`, or with `choices`, got {quote(values)}"
            )
    return {path: _validate(Range, values, f"{where}: `{path}`") for path, values in found.items()}


def _settings(
    table: Any, schema: type[Settings], where: str, leaf: Callable[[Any], bool] = lambda value: False
) -> dict[str, Any]:
    """Return a table by dotted paths, whether it was written with quoted or with bare keys."""
    if not isinstance(table, dict):
        raise CatalogueError(f"{where}: expected a table, got {quote(table)}")
    flat: dict[str, Any] = {}
    for path, value in walk(table, leaf):
        if path in flat:
            raise CatalogueError(f"{where}: `{path}` is set twice, with a quoted key and with bare ones")
        try:
            flat[check_path(schema, path, where=where)] = value
        except ConfigError as error:
            told, is_default = str(error), schema is find_subject(DEFAULT).settings
            raise CatalogueError(told + NOT_NAMED * (is_default and told.endswith("`."))) from None
    return flat


def _arm(name: str, table: dict[str, Any], schema: type[Settings], where: object) -> Arm:
    where = f"{where}: [arms.{shorten(name)}]"
    if name == BASE or not is_name(name):
        raise CatalogueError(f"{where}: expected {EXPECTED}, other than `{BASE}`")
    tree = _without_name(table, where)
    tree["set"] = _settings(tree.get("set", {}), schema, where)
    tree["search"] = _ranges(tree.get("search", {}), schema, f"{where} search")
    return _validate(Arm, {**tree, "name": name}, where, schema)


def _without_name(table: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Return the content of a file or a table; a key `name` in it is refused, since the name comes from outside."""
    if "name" in table:
        raise CatalogueError(f"{where}: unknown key `name`; the name is that of the file, or of the table [arms.NAME]")
    return dict(table)


def _list_of_tables(value: Any, where: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise CatalogueError(f"{where}: `claims`: expected tables [[claims]], got {quote(value)}")
    return value


def _claim(table: dict[str, Any], schema: type[Settings], where: object) -> Claim:
    where = f"{where}: [[claims]]"
    return _validate(Claim, {**table, "needs": _settings(table.get("needs", {}), schema, f"{where} needs")}, where)


def _check_names(ablation: Ablation, subject: Subject, where: object) -> None:
    arms, metrics = [arm.name for arm in ablation.arms], subject.known_metrics
    if ablation.answer not in ("", *arms):
        told = did_you_mean(ablation.answer, arms)
        raise CatalogueError(f"{where}: `answer`: no arm `{shorten(ablation.answer)}` here.{told}")
    for arm in (arm for claim in ablation.claims for arm in (claim.arm or BASE, claim.against)):
        if arm not in (BASE, *arms):
            told = did_you_mean(arm, (BASE, *arms))
            raise CatalogueError(f"{where}: [[claims]] no arm `{shorten(arm)}` here.{told}")
    for claim in ablation.claims:
        if claim.metric and subject.metrics and claim.metric not in metrics:
            raise CatalogueError(
                f"{where}: [[claims]]: `metric`: no metric `{shorten(claim.metric)}`."
                f"{did_you_mean(claim.metric, metrics)}"
            )


def _tuning(table: Any, schema: type[Settings], where: object) -> Any:
    if not isinstance(table, dict):
        return table
    _refuse_unknown(table, Tuning, f"{where}: [tuning]")
    search = _ranges(table.get("search", {}), schema, f"{where}: [tuning.search]")
    return {**table, "search": search}


def _levels(levels: Any, setting: str, where: object) -> tuple[Any, ...]:
    if not isinstance(levels, list) or len(levels) < 2:
        raise CatalogueError(
            f"{where}: [factors] `{setting}`: expected a list of two or more values, got {quote(levels)}"
        )
    return tuple(levels)


def _with_factor_arms(ablation: Ablation, schema: type[Settings], where: object) -> Ablation:
    """Return the ablation with one arm for each combination of factor levels but the base's own."""
    made = _factor_arms(ablation, schema, where)
    arms = (*ablation.arms, *made)
    if not arms:
        raise CatalogueError(f"{where}: expected at least one [arms.NAME], or [factors], got neither")
    names = [arm.name for arm in arms]
    for arm in made:
        if not is_name(arm.name):
            raise CatalogueError(
                f"{where}: [factors] make an arm named `{shorten(arm.name)}`, expected {EXPECTED}; "
                f"write it as [arms.NAME]"
            )
    for arm, spot in ((arm, f"[arms.{arm.name}]" if arm in ablation.arms else "[factors]") for arm in arms):
        if names.count(arm.name) > 1:
            raise CatalogueError(
                f"{where}: two arms named `{arm.name}`; give each its own name in [arms] and [factors]"
            )
        _checked({**ablation.base, **arm.set}, schema, f"{where}: {spot}")
    return ablation.model_copy(update={"arms": arms})


def _factor_arms(ablation: Ablation, schema: type[Settings], where: object) -> tuple[Arm, ...]:
    base = _checked(ablation.base, schema, f"{where}: [base]").resolved().flat()
    count = math.prod(map(len, ablation.factors.values()))
    if count > MOST_ARMS:
        raise CatalogueError(f"{where}: [factors]: expected at most {MOST_ARMS} combinations, got {count}")
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


def _checked(overrides: Mapping[str, Any], schema: type[Settings], where: str) -> Settings:
    try:
        return override(schema(), overrides, where=where)
    except ConfigError as error:
        raise CatalogueError(str(error)) from None


Model = TypeVar("Model", bound=Group)


def _validate(model: type[Model], tree: dict[str, Any], where: object, schema: type[Settings] | None = None) -> Model:
    _refuse_unknown(tree, model, where, schema)
    try:
        return model.model_validate(tree)
    except (ValidationError, ConfigError) as error:
        raise CatalogueError(f"{where}: {complaint(model, error)}") from None


def _refuse_unknown(tree: Mapping[str, Any], model: type[Group], where: object, schema: Any = None) -> None:
    for key in sorted(set(tree) - set(model.model_fields)):
        hint = did_you_mean(key, model.model_fields)
        if schema and any(path.partition(".")[0] == key for path in defaults(schema)):
            hint = f" Settings stand in {'`set`, as in `set = { … }`' if model is Arm else 'the table `[base]`'}"
        raise CatalogueError(f"{where}: unknown key `{shorten(key)}`.{hint}")


def load(root: Path, study: str | Study) -> tuple[Study, tuple[Ablation, ...], Subject]:
    """Return a study, its ablations, each with the arms that the study keeps, and its subject.

    Args:
        root: folder of the files.
        study: the study, or the name of its file.

    Raises:
        CatalogueError: if a file is missing, or what it holds cannot be used.
    """
    catalogue, given = Catalogue(root), {} if isinstance(study, str) else study.given
    if isinstance(study, str):
        where, found = str(catalogue.path("studies", study)), catalogue.study(study)
    else:
        where, found = called(study), catalogue.read_study(tree_of(study), study.name, called(study), given)
    subject = catalogue.find_subject(found.subject, where)
    ablations = [
        read_ablation(tree_of(given[name]), name, subject, called(given[name]))
        if name in given
        else catalogue.ablation(name, subject)
        for name in found.ablations
    ]
    return found, tuple(_kept(ablation, found, where) for ablation in ablations), subject


def _kept(ablation: Ablation, study: Study, where: object) -> Ablation:
    """Return an ablation with the study's choice of its arms, and the claims that are about these."""
    names = study.arms.get(ablation.name)
    if names is None:
        return ablation
    known = [arm.name for arm in ablation.arms]
    for name in names:
        if name not in known:
            raise CatalogueError(
                f"{where}: `arms.{ablation.name}`: no arm `{shorten(name)}` there.{did_you_mean(name, known)}"
            )
    arms = tuple(arm for arm in ablation.arms if arm.name in names)
    kept = {BASE, *names}
    claims = tuple(claim for claim in ablation.claims if {claim.arm or BASE, claim.against} <= kept)
    return ablation.model_copy(update={"arms": arms, "claims": claims})
