"""The plan: every arm resolved, and every run that answers the study's questions. Pure; nothing is trained here."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stn_bench.settings import Settings, canonical, override
from stn_bench.study.fixed import Preregistration, Reads
from stn_bench.study.metrics import Place, check_claims, check_margin, file_of, primary_metric, tuning_metrics
from stn_bench.study.search_space import draw, ends
from stn_bench.study.spec import BASE, Ablation, Arm, Range, Study, Tuning
from stn_bench.subject import DEFAULT, Metric, Subject
from stn_bench.system.errors import CatalogueError, ConfigError

COSTLIER = 0.05
"""Relative to the base: an arm that costs more than this is marked wherever it stands."""

COSTLIER_SIGN = " †"
"""Stands behind the name of such an arm."""

TUNED_BY = ("metric", "direction")
"""Keys of a study's tuning that are younger than its digest."""

Phase = Literal["tune", "verdict", "confirm"]
Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class RunSpec:
    """One run to be: an arm's resolved settings with one seed. Plain data.

    Args:
        study: name of the study.
        ablation: name of the ablation that owns the arm; "base" for the base that all share.
        arm: name of the arm; "base" for the one that the others are compared with.
        phase: "tune", "verdict" or "confirm".
        seed: the run's seed.
        trial: number of the tuning trial from 0, or None in the other phases.
        changes: what the arm sets, by dotted path.
        chosen: hyperparameters that the trial tries, or that tuning chose.
        settings: the resolved settings by dotted path, hyperparameters included.
    """

    study: str
    ablation: str
    arm: str
    phase: Phase
    seed: int
    trial: int | None
    changes: Overrides
    chosen: Overrides
    settings: Overrides

    @property
    def label(self) -> str:
        """Name of the arm within the study, such as "transformer/none"."""
        return arm_label(self.ablation, self.arm)


@dataclass(frozen=True)
class PlannedArm:
    """One arm of a study, trained once however many ablations show it.

    Args:
        subject: what is studied.
        study: name of the study.
        ablation: name of the ablation that owns the arm.
        name: its name there.
        changes: what it sets, by dotted path.
        config: its settings, with what tuning will choose still at its default.
        seeds: seeds of the verdict.
        trials: tuning trials.
        tuning_seed: the seed that they train on.
        space: the ranges that they search.
        confirm: fresh seeds.
    """

    subject: Subject
    study: str
    ablation: str
    name: str
    changes: Overrides
    config: Settings
    seeds: tuple[int, ...]
    trials: int
    tuning_seed: int
    space: Mapping[str, Range]
    confirm: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Name of the arm within the study, such as "transformer/none"."""
        return arm_label(self.ablation, self.name)

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """Its resolved settings by dotted path."""
        return self.config.resolved().flat()

    @functools.cached_property
    def idle(self) -> Mapping[str, str]:
        """The settings that nothing reads beside the others, with the reason, as far as the subject tells."""
        told = self.subject.idle
        return {path: why for path, why in told(self.config).items() if path in self.settings} if told else {}

    @functools.cached_property
    def effective_key(self) -> str:
        """Canonical text of what is read of its settings, and of its tuning: arms that share it train the same."""
        read = {path: value for path, value in self.settings.items() if path not in self.idle}
        space = {path: values.model_dump() for path, values in self.space.items() if path not in self.idle}
        return canonical([canonical(self.config.keyed(read)), self.trials, space])

    @functools.cached_property
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
        points = draw(self.space, self.trials, self.tuning_seed, type(self.config))
        return tuple(self._specs("tune", (self.tuning_seed,), trial, point)[0] for trial, point in enumerate(points))

    def verdict_specs(self, chosen: Overrides) -> tuple[RunSpec, ...]:
        """Return one run for each seed, with the hyperparameters that tuning chose ({} without tuning)."""
        return self._specs("verdict", self.seeds, None, chosen)

    def confirm_specs(self, chosen: Overrides) -> tuple[RunSpec, ...]:
        """Return one run for each seed that `run --confirm` trains, if the arm is the best of its question."""
        return self._specs("confirm", self.confirm, None, chosen)

    def _specs(
        self, phase: Phase, seeds: tuple[int, ...], trial: int | None, chosen: Overrides
    ) -> tuple[RunSpec, ...]:
        settings = self.settings
        if chosen:
            settings = override(self.config, chosen, where=f"tuning of {self.label}").resolved().flat()
        names = (self.study, self.ablation, self.name, phase)
        return tuple(RunSpec(*names, seed, trial, dict(self.changes), dict(chosen), settings) for seed in seeds)


@dataclass(frozen=True)
class PlannedQuestion:
    """One question with its arms.

    Args:
        ablation: the question as written.
        arms: what is trained for each arm, by the arm's name in the question; the base first.
        found: name of an arm -> the settings that `match` found for it here; another question may write them out.
    """

    ablation: Ablation
    arms: Mapping[str, PlannedArm]
    found: Mapping[str, Overrides] = field(default_factory=dict)

    @property
    def base(self) -> PlannedArm:
        """The arm that the others are compared with."""
        return self.arms[BASE]

    @functools.cached_property
    def tested(self) -> dict[str, PlannedArm]:
        """The arms that are compared with the base, by name."""
        return {name: arm for name, arm in self.arms.items() if name != BASE}

    @functools.cached_property
    def _written(self) -> dict[str, Arm]:
        return {arm.name: arm for arm in self.ablation.arms}

    def written(self, name: str) -> Arm:
        """Return an arm as the question's file has it, with the settings that `match` found in it."""
        return self._written[name]

    def matched(self, name: str) -> Overrides:
        """Return the settings that `match` found for an arm; {} where it was not asked."""
        return self.found.get(name, {})

    def moved(self, name: str) -> tuple[str, ...]:
        """Return the settings that an arm moves by itself, without those that `match` found or that change nothing."""
        written = [path for path in self.written(name).set if path not in self.matched(name)]
        return tuple(path for path in written if not self._changes_nothing(name, path))

    def _changes_nothing(self, name: str, path: str) -> bool:
        """Return whether an arm writes a setting as the base has it, and would train the same without."""
        arm = self.arms[name]
        if arm.settings[path] != self.base.settings[path]:
            return False
        rest = {other: value for other, value in self.written(name).set.items() if other != path}
        try:
            return override(self.base.config, rest, where=arm.label).resolved().flat() == arm.settings
        except ConfigError:  # it holds another setting in place
            return False


@dataclass(frozen=True)
class Plan:
    """A study, resolved.

    Args:
        study: the study as written.
        subject: what it studies.
        questions: its questions.
        arms: every arm that is trained, each once.
        metric: the primary metric.
        tuning: the metrics that tuning looks at, the later ones where the earlier tie.
        preregistration: what was fixed of it before, if anything was; no part of the digest.
        reads: what its runs read of the user's, as it is now; None while nobody looked; no part of the digest.
        levels: number of arms -> level of one look, as calibrated for the study's looks; no part of the digest.
        overrides: settings that were given for every arm, beside the study; the arms have them.
    """

    study: Study
    subject: Subject
    questions: tuple[PlannedQuestion, ...]
    arms: tuple[PlannedArm, ...]
    metric: Metric
    tuning: tuple[Metric, ...] = ()
    preregistration: Preregistration | None = None
    reads: Reads | None = None
    levels: Mapping[int, float] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=dict)

    @property
    def families(self) -> tuple[int, ...]:
        """How many arms each family has: of a question, or of the whole study."""
        counts = tuple(len(question.tested) for question in self.questions)
        return (sum(counts),) if self.study.family == "study" else counts

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every metric that may be named: the subject's, the costs, and the study's own."""
        return {**self.subject.known_metrics, self.metric.name: self.metric}

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over all that was planned: a changed plan has another."""
        study = self.study.model_dump(
            mode="json", exclude={"base", "title", "scope", "remarks", "subject", "published", "resources"}
        )
        study |= {"metric": self.metric.name, "direction": self.metric.direction}
        if study["correction"] == "ranked":  # as in plans of the time before it could be chosen
            del study["correction"]
        if not study["tuning"]["metric"]:  # as in plans of the time before it could be named
            study["tuning"] = {
                key: study["tuning"][key] for key in study["tuning"] if key not in ("metric", "direction")
            }
        else:  # unset it was that, whatever the subject said
            study["tuning"]["direction"] = study["tuning"]["direction"] or "maximize"
        study |= {"subject": self.study.subject} if self.study.subject != DEFAULT else {}
        return hashlib.sha256(canonical([study, [(arm.label, arm.key) for arm in self.arms]]).encode()).hexdigest()

    def jobs(self) -> int:
        """Return the number of runs in tuning and verdict if no arm stops early."""
        return sum(arm.trials + len(arm.seeds) for arm in self.arms)


def arm_label(ablation: str, arm: str) -> str:
    """Return the name of an arm within its study: "base", or "ablation/arm"."""
    return BASE if ablation == BASE else f"{ablation}/{arm}"


def make_plan(
    study: Study,
    ablations: tuple[Ablation, ...],
    subject: Subject,
    overrides: Overrides = {},  # noqa: B006
    place: Place = file_of,
    option: str = "--set",
) -> Plan:
    """Return the plan of a study.

    Args:
        study: the study.
        ablations: its ablations, in its order.
        subject: what it studies.
        overrides: settings for every arm, over the study's own base (`--set`).
        place: where messages find the study and its ablations.
        option: what messages call the overrides.

    Raises:
        CatalogueError: if an arm equals its base or another arm, sets what is searched, or cannot be resolved; or if
            the study's metric is none of the subject's.
        ConfigError: if an override cannot be used.
    """
    metric = primary_metric(study, subject, place)
    tuning = tuning_metrics(study, subject, metric, place)
    check_margin(study, metric, place)
    for ablation in ablations:
        check_claims(ablation, metric, subject, place(study, ablation))
    base = _resolve(subject.settings(), study.base, f"{place(study)}: [base]")
    base = override(base, overrides, where=option)
    planner = _Planner(study, subject, base, place)
    questions = tuple(planner.question(ablation) for ablation in ablations)
    return Plan(study, subject, questions, tuple(planner.shared.values()), metric, tuning, overrides=overrides)


@dataclass(frozen=True)
class _Planner:
    """Resolves the questions of a study, and sees that arms which can share their runs are one."""

    study: Study
    subject: Subject
    base: Settings
    place: Place
    shared: dict[str, PlannedArm] = field(default_factory=dict)

    def question(self, ablation: Ablation) -> PlannedQuestion:
        where, study = self.place(self.study, ablation), self.study
        config = _resolve(self.base, ablation.base, f"{where}: [base]")
        is_tuned = not study.tuning.ablations or ablation.name in study.tuning.ablations
        tuning = study.tuning if is_tuned else Tuning(seed=study.tuning.seed)
        is_tuned_apart = bool(tuning.trials and study.tuning.ablations)
        owner = BASE if config.canonical() == self.base.canonical() and not is_tuned_apart else ablation.name
        kept = {path: value for path, value in ablation.base.items() if path not in tuning.search}
        own = self._arm(tuning, owner, Arm(name=BASE, set={} if owner == BASE else kept), config, where)
        arms, written, found = {BASE: self._share(own)}, list[Arm](), dict[str, Overrides]()
        seen, effective = {own.key: BASE}, {own.effective_key: BASE}
        for as_written in ablation.arms:
            spot = f"{where}: [arms.{as_written.name}]"
            arm, arm_config, matched = self._matched(as_written, config, spot)
            planned = self._arm(tuning, ablation.name, arm, arm_config, spot)
            if planned.config.canonical() == config.canonical() and not arm.search and arm.tuned:
                raise CatalogueError(f"{spot}: changes nothing in study `{study.name}`; its settings equal the base's")
            if planned.key in seen:
                raise CatalogueError(f"{spot}: is the same as [arms.{seen[planned.key]}] in study `{study.name}`")
            seen[planned.key] = arm.name
            if planned.effective_key in effective and not arm.no_effect:
                raise CatalogueError(f"{spot}: {_without_effect(planned, own, effective[planned.effective_key])}")
            effective.setdefault(planned.effective_key, arm.name)
            written.append(arm)
            arms[arm.name], found[arm.name] = self._share(planned), matched
        return PlannedQuestion(ablation.model_copy(update={"arms": tuple(written)}), arms, found)

    def _share(self, arm: PlannedArm) -> PlannedArm:
        return self.shared.setdefault(arm.key, arm)

    def _matched(self, arm: Arm, base: Settings, where: str) -> tuple[Arm, Settings, Overrides]:
        """Return an arm with the settings that give it the base's FLOPs, if it asks for that; and its settings."""
        config = _resolve(base, arm.set, where)
        if not arm.match:
            return arm, config, {}
        if self.subject.match is None:
            raise CatalogueError(f"{where}: `match`: subject `{self.subject.name}` cannot match FLOPs; leave it out")
        try:
            found = dict(self.subject.match(config, base))
        except ConfigError as error:
            raise CatalogueError(f"{where}: `match`: {error}") from None
        for path in found.keys() & arm.set.keys():
            raise CatalogueError(f"{where}: `match` finds `{path}`, so the arm must not set it too")
        arm = arm.model_copy(update={"set": {**arm.set, **found}})
        return arm, _resolve(base, arm.set, where), found

    def _arm(self, tuning: Tuning, ablation: str, arm: Arm, config: Settings, where: str) -> PlannedArm:
        study = self.study
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
        for path, values in space.items():  # both ends of every range, and every choice, must be sound
            spot = where if path in arm.search else f"{self.place(study)}: [tuning.search] for {where}"
            for value in ends(path, values, type(config)):
                _resolve(config, {path: value}, f"{spot}: search of `{path}`")
        return PlannedArm(
            subject=self.subject,
            study=study.name,
            ablation=ablation,
            name=arm.name,
            changes=dict(arm.set),
            config=config,
            seeds=study.seeds,
            trials=tuning.trials if arm.tuned else 0,
            tuning_seed=tuning.seed,
            space=space,
            confirm=study.confirm,
        )


def _without_effect(arm: PlannedArm, base: PlannedArm, same: str) -> str:
    """Return why an arm trains the same as another one, and what to do."""
    paths = [path for path in arm.changes if path in arm.idle] or [path for path in arm.idle if path in base.changes]
    told = "; ".join(f"`{path}` has no effect here: {arm.idle[path]}" for path in paths)
    told = told or "nothing reads what sets them apart"
    return f"is trained as [arms.{same}] is: {told}; leave it out, or say why it is meant with `no_effect`"


def _sorted(space: Mapping[str, Range]) -> dict[str, Range]:
    return dict(sorted(space.items()))


def _resolve(config: Settings, overrides: Overrides, where: str) -> Settings:
    try:
        return override(config, overrides, where=where)
    except ConfigError as error:
        raise CatalogueError(str(error)) from None
