"""The plan: every arm resolved, and every run that answers the study's questions. Pure; nothing is trained here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stn_bench.study.catalogue import BASE, Ablation, Arm, Range, Study, Tuning
from stn_bench.subjects.stn.config import Config, override
from stn_bench.subjects.stn.nn.layout import flops, matching_width
from stn_bench.system.errors import CatalogueError, ConfigError
from stn_bench.tracking.identity import canonical

if TYPE_CHECKING:
    from stn_bench.study.preregistration import FrozenPlan

COSTLIER = 0.05
"""Relative to the base: an arm that costs more than this is marked wherever it stands."""

COSTLIER_SIGN = " †"
"""Stands behind the name of such an arm."""

Phase = Literal["tune", "verdict", "confirm"]
Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class RunSpec:
    """One run to be: an arm's resolved configuration with one seed.

    Args:
        study: name of the study.
        ablation: name of the ablation that owns the arm; "base" for the base that all share.
        arm: name of the arm; "base" for the one that the others are compared with.
        phase: "tune", "verdict" or "confirm".
        seed: the run's seed.
        trial: number of the tuning trial from 0, or None in the other phases.
        changes: what the arm sets, by dotted path.
        chosen: hyperparameters that the trial tries, or that tuning chose.
        config: the resolved configuration, hyperparameters included.
    """

    study: str
    ablation: str
    arm: str
    phase: Phase
    seed: int
    trial: int | None
    changes: Overrides
    chosen: Overrides
    config: Config

    @property
    def label(self) -> str:
        """Name of the arm within the study, such as "transformer/none"."""
        return arm_label(self.ablation, self.arm)


@dataclass(frozen=True)
class PlannedArm:
    """One arm of a study, trained once however many ablations show it."""

    study: str
    ablation: str
    name: str
    changes: Overrides
    config: Config
    seeds: tuple[int, ...]
    trials: int
    tuning_seed: int
    space: Mapping[str, Range]
    confirm: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Name of the arm within the study, such as "transformer/none"."""
        return arm_label(self.ablation, self.name)

    @property
    def key(self) -> str:
        """Canonical text of all that decides how the arm is trained: equal for arms that can share their runs."""
        space = {path: values.model_dump() for path, values in self.space.items()}
        return canonical([json.loads(self.config.canonical()), self.trials, space])

    @property
    def digest(self) -> str:
        """First 8 hexadecimal digits of the SHA-256 of the key."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:8]

    def tuning_specs(self) -> tuple[RunSpec, ...]:
        """Return one run for each tuning trial, the same points of the shared space for every arm."""
        points = draw(self.space, self.trials, self.tuning_seed)
        return tuple(self._spec("tune", self.tuning_seed, trial, point) for trial, point in enumerate(points))

    def verdict_specs(self, chosen: Overrides) -> tuple[RunSpec, ...]:
        """Return one run for each seed, with the hyperparameters that tuning chose ({} without tuning)."""
        return tuple(self._spec("verdict", seed, None, chosen) for seed in self.seeds)

    def confirm_specs(self, chosen: Overrides) -> tuple[RunSpec, ...]:
        """Return one run for each seed that `run --confirm` trains, if the arm is the best of its question."""
        return tuple(self._spec("confirm", seed, None, chosen) for seed in self.confirm)

    def _spec(self, phase: Phase, seed: int, trial: int | None, chosen: Overrides) -> RunSpec:
        config = override(self.config, chosen, where=f"tuning of {self.label}").resolved()
        return RunSpec(
            self.study, self.ablation, self.name, phase, seed, trial, dict(self.changes), dict(chosen), config
        )


@dataclass(frozen=True)
class PlannedAblation:
    """One question with its arms: the base, and each arm as written beside the arm that is trained for it."""

    ablation: Ablation
    base: PlannedArm
    arms: tuple[tuple[Arm, PlannedArm], ...]

    def arm(self, name: str) -> PlannedArm:
        """Return what is trained for one of the question's arms."""
        return next(trained for written, trained in self.arms if written.name == name)


@dataclass(frozen=True)
class Plan:
    """A study, resolved.

    Args:
        study: the study as written.
        ablations: its questions.
        arms: every arm that is trained, each once.
        frozen: what was frozen of it before, if anything was; no part of the digest.
    """

    study: Study
    ablations: tuple[PlannedAblation, ...]
    arms: tuple[PlannedArm, ...]
    frozen: FrozenPlan | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over all that was planned: a changed plan has another."""
        study = self.study.model_dump(mode="json", exclude={"base", "title", "scope", "remarks"})
        return hashlib.sha256(canonical([study, [(arm.label, arm.key) for arm in self.arms]]).encode()).hexdigest()

    def cells(self) -> int:
        """Return the number of runs in tuning and verdict if no arm stops early."""
        return sum(arm.trials + len(arm.seeds) for arm in self.arms)


def arm_label(ablation: str, arm: str) -> str:
    """Return the name of an arm within its study: "base", or "ablation/arm"."""
    return BASE if ablation == BASE else f"{ablation}/{arm}"


def make_plan(study: Study, ablations: tuple[Ablation, ...], overrides: Overrides = {}) -> Plan:  # noqa: B006
    """Return the plan of a study.

    Args:
        study: the study.
        ablations: its ablations, in its order.
        overrides: settings for every arm, over the study's own base (`--set`).

    Raises:
        CatalogueError: if an arm equals its base or another arm, sets what is searched, or cannot be resolved.
        ConfigError: if an override cannot be used.
    """
    base = _resolve(Config(), study.base, f"studies/{study.name}.toml: [base]")
    base = override(base, overrides, where="--set")
    shared: dict[str, PlannedArm] = {}
    planned = tuple(_plan_ablation(study, ablation, base, shared) for ablation in ablations)
    return Plan(study, planned, tuple(shared.values()))


def _plan_ablation(study: Study, ablation: Ablation, base: Config, shared: dict[str, PlannedArm]) -> PlannedAblation:
    where = f"ablations/{ablation.name}.toml"
    config = _resolve(base, ablation.base, f"{where}: [base]")
    tuning = _tuning_of(ablation, study)
    is_tuned_apart = bool(tuning.trials and study.tuning.ablations)
    owner = BASE if config.canonical() == base.canonical() and not is_tuned_apart else ablation.name
    changes = {} if owner == BASE else ablation.base
    own = _planned(study, tuning, owner, Arm(name=BASE, set=changes), config, where)
    ours = _share(shared, own)
    seen = {ours.key: BASE}
    arms = []
    for written in ablation.arms:
        spot = f"{where}: [arms.{written.name}]"
        arm, arm_config = _matched(written, own.config, spot)
        planned = _planned(study, tuning, ablation.name, arm, arm_config, spot)
        if planned.config.canonical() == own.config.canonical() and not arm.search and arm.tuned:
            raise CatalogueError(f"{spot}: changes nothing in study `{study.name}`; its settings equal the base's")
        if planned.key in seen:
            raise CatalogueError(f"{spot}: is the same as [arms.{seen[planned.key]}] in study `{study.name}`")
        seen[planned.key] = arm.name
        arms.append((arm, _share(shared, planned)))
    return PlannedAblation(ablation, ours, tuple(arms))


def _tuning_of(ablation: Ablation, study: Study) -> Tuning:
    """Return the study's tuning, or none for an ablation that it leaves out."""
    tuned = not study.tuning.ablations or ablation.name in study.tuning.ablations
    return study.tuning if tuned else Tuning(seed=study.tuning.seed)


def _matched(arm: Arm, base: Config, where: str) -> tuple[Arm, Config]:
    """Return an arm with the width that gives it the base's FLOPs, if it asks for that, and its configuration."""
    config = _resolve(base, arm.set, where)
    if not arm.match:
        return arm, config
    try:
        width = matching_width(config, flops(base))
    except ConfigError as error:
        raise CatalogueError(f"{where}: `match`: {error}") from None
    arm = arm.model_copy(update={"set": {**arm.set, "model.width": width}})
    return arm, _resolve(base, arm.set, where)


def _share(shared: dict[str, PlannedArm], arm: PlannedArm) -> PlannedArm:
    return shared.setdefault(arm.key, arm)


def _resolve(config: Config, overrides: Overrides, where: str) -> Config:
    try:
        return override(config, overrides, where=where)
    except ConfigError as error:
        raise CatalogueError(str(error)) from None


def _planned(study: Study, tuning: Tuning, ablation: str, arm: Arm, config: Config, where: str) -> PlannedArm:
    space = {**_sorted(tuning.search), **_sorted(arm.search)} if arm.tuned and tuning.trials else {}
    for path in space:
        if path in arm.set:
            raise CatalogueError(
                f"{where}: sets `{path}`, which study `{study.name}` searches; "
                f"leave it to the search, or keep the arm as written with `tuned = false`"
            )
    if arm.search and not space:
        raise CatalogueError(
            f"{where}: has settings to search, but study `{study.name}` tunes nothing here; "
            f"give it [tuning], or choose other arms with `arms`"
        )
    _check_space(arm.search if space else {}, config, where)
    shared = {path: values for path, values in space.items() if path not in arm.search}
    _check_space(shared, config, f"studies/{study.name}.toml: [tuning.search] for {where}")
    trials = tuning.trials if arm.tuned else 0
    return PlannedArm(
        study=study.name,
        ablation=ablation,
        name=arm.name,
        changes=dict(arm.set),
        config=config,
        seeds=study.seeds,
        trials=trials,
        tuning_seed=tuning.seed,
        space=space,
        confirm=study.confirm,
    )


def _sorted(space: Mapping[str, Range]) -> dict[str, Range]:
    return dict(sorted(space.items()))


def _check_space(space: Mapping[str, Range], config: Config, where: str) -> None:
    """See that both ends of every range, and every choice, are values that the setting takes."""
    for path, values in space.items():
        for value in values.choices or (_typed(path, values.low), _typed(path, values.high)):
            _resolve(config, {path: value}, f"{where}: search of `{path}`")


def draw(space: Mapping[str, Range], count: int, seed: int) -> tuple[dict[str, Any], ...]:
    """Return `count` points spread evenly over the space; a larger count begins with the same points.

    The points are a scrambled Halton sequence. An arm's own settings come behind those that all arms search, so
    that every arm tries the same values of the shared ones.
    """
    if not space or not count:
        return ()
    from scipy.stats import qmc

    fractions = qmc.Halton(len(space), scramble=True, rng=seed).random(count)
    return tuple(
        {path: _at(path, values, float(at)) for (path, values), at in zip(space.items(), row, strict=True)}
        for row in fractions
    )


def _at(path: str, values: Range, fraction: float) -> Any:
    if values.choices:
        return values.choices[int(fraction * len(values.choices))]
    low, high = float(values.low or 0), float(values.high or 0)
    value = low * (high / low) ** fraction if values.log else low + (high - low) * fraction
    return _typed(path, min(max(float(f"{value:.4g}"), low), high))


def _typed(path: str, value: float | None) -> Any:
    """Return a number as the setting wants it: whole where its default is whole."""
    default = Config().flat()[path]
    return round(value or 0) if isinstance(default, int) and not isinstance(default, bool) else value
