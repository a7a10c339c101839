"""The frozen plan: what was fixed before the first run, and every change since, with its date and its reason.

`studies/STUDY.plan.json` holds it. What is frozen are the terms that a verdict rests on: the questions and claims,
every arm's settings, the metric, the margin, the seeds, the looks, the correction and the tuning budget.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from stn_bench.study.catalogue import Range, Tuning
from stn_bench.study.plan import Plan, PlannedAblation, PlannedArm
from stn_bench.subjects.stn.config import Config
from stn_bench.system.errors import PlanError
from stn_bench.system.machine import now
from stn_bench.tracking.identity import canonical

SHOWN = 3  # changes that a refusal names before it counts the rest
ABSENT = "not there"
UNNAMED = ("questions", "arms", "changes")  # levels of the terms that a reader of a change needs no word for
Tree = dict[str, Any]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Deviation(_Frozen):
    """A change of the plan after it was frozen.

    Args:
        date: when it was declared, ISO 8601 in UTC.
        because: why.
        changes: what changed, each as "path: was …, is …".
        digest: digest of the plan from then on.
    """

    date: str
    because: str
    changes: tuple[str, ...]
    digest: str


class FrozenPlan(_Frozen):
    """A plan as it was frozen, with what was changed since.

    Args:
        study: its name.
        date: when it was frozen, ISO 8601 in UTC.
        digest: its digest then.
        terms: what is in force: as it was frozen, with every declared change.
        deviations: the declared changes, in their order.
    """

    study: str
    date: str
    digest: str
    terms: Tree
    deviations: tuple[Deviation, ...] = ()

    @property
    def seal(self) -> str:
        """SHA-256 over all of it: a file that was changed by hand has another."""
        return hashlib.sha256(canonical(self.model_dump(mode="json")).encode()).hexdigest()

    def changes(self, plan: Plan) -> list[str]:
        """Return how a plan differs from the terms in force, each as "path: was …, is …"."""
        return _differences(self.terms, terms_of(plan))

    def with_deviation(self, plan: Plan, because: str) -> Self:
        """Return the same with a plan's changes declared; a plan that has none leaves it as it is."""
        changes = self.changes(plan)
        if not changes:
            return self
        deviation = Deviation(date=now(), because=because, changes=tuple(changes), digest=plan.digest)
        return self.model_copy(update={"terms": terms_of(plan), "deviations": (*self.deviations, deviation)})


def freeze(plan: Plan, because: str = "") -> FrozenPlan:
    """Return a plan frozen; one that was frozen before keeps its date, and a change of it is declared.

    Args:
        plan: the plan, with what was frozen before in it.
        because: why it changed since.

    Raises:
        PlanError: if it changed and nothing says why, or did not and something does.
    """
    study, because = plan.study.name, " ".join(because.split())
    if plan.frozen is None:
        if because:
            raise PlanError(f"`--because` declares a change of a frozen plan, and study `{study}` has none yet")
        return FrozenPlan(study=study, date=now(), digest=plan.digest, terms=terms_of(plan))
    changes = plan.frozen.changes(plan)
    if changes and not because:
        raise PlanError(
            f"study `{study}` was frozen on {plan.frozen.date[:10]} and has changed since: {_shown(changes)}\n"
            f'declare it with `stn-bench plan {study} --freeze --because "why"`'
        )
    if because and not changes:
        raise PlanError(f"study `{study}` is as it was frozen; `--because` has nothing to declare")
    return plan.frozen.with_deviation(plan, because)


def check_frozen(plan: Plan) -> None:
    """See that a plan is the one that was frozen, if one was.

    Raises:
        PlanError: if it is not; the message names what changed.
    """
    changes = plan.frozen.changes(plan) if plan.frozen else []
    if plan.frozen and changes:
        name = plan.study.name
        raise PlanError(
            f"study `{name}` is not the plan that was frozen on {plan.frozen.date[:10]}: {_shown(changes)}\n"
            f'undo it, or declare it with `stn-bench plan {name} --freeze --because "why"` and run again'
        )


def with_frozen(plan: Plan, root: Path) -> Plan:
    """Return a plan with what was frozen of it under a root, if anything was.

    Raises:
        PlanError: if the file of the frozen plan cannot be used.
    """
    return dataclasses.replace(plan, frozen=read_frozen(root, plan.study.name))


def is_later(date: str, other: str) -> bool:
    """Return whether a moment comes after another, both in ISO 8601."""
    return datetime.datetime.fromisoformat(date) > datetime.datetime.fromisoformat(other)


def frozen_path(root: Path, study: str) -> Path:
    """Return the file of a study's frozen plan."""
    return root / "studies" / f"{study}.plan.json"


def read_frozen(root: Path, study: str) -> FrozenPlan | None:
    """Return the frozen plan of a study, or None if there is none.

    Raises:
        PlanError: if the file cannot be read, is something else, or was changed by hand.
    """
    path = frozen_path(root, study)
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        seal = tree.pop("seal")
        frozen = FrozenPlan.model_validate_json(json.dumps(tree))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError, ValidationError):
        raise PlanError(f"{path}: not a frozen plan of stn-bench; {_way_out(study)}") from None
    if frozen.study != study:
        raise PlanError(f"{path}: is the frozen plan of study `{frozen.study}`, expected `{study}`; {_way_out(study)}")
    if frozen.seal != seal:
        raise PlanError(f"{path}: was changed by hand or is damaged, its seal does not fit; {_way_out(study)}")
    return frozen


def _way_out(study: str) -> str:
    return f"restore it, or remove it and freeze anew with `stn-bench plan {study} --freeze`"


def write_frozen(root: Path, frozen: FrozenPlan) -> Path:
    """Write the file of a frozen plan, replaced whole, and return its path.

    Raises:
        PlanError: if it cannot be written.
    """
    path = frozen_path(root, frozen.study)
    text = json.dumps({**frozen.model_dump(mode="json"), "seal": frozen.seal}, indent=1, ensure_ascii=False)
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(f"{text}\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise PlanError(f"{path}: cannot be written ({error.strerror})") from None
    return path


# The terms ---------------------------------------------------------------------------------------------------------


def terms_of(plan: Plan) -> Tree:
    """Return what a plan fixes, as JSON holds it."""
    study, bases = plan.study, [planned.base.config.resolved().flat() for planned in plan.ablations]
    common = {path: value for path, value in bases[0].items() if all(base[path] == value for base in bases)}
    terms = {
        "metric": study.metric,
        "direction": study.direction,
        "margin": study.margin,
        "seeds": study.seeds,
        "looks": study.all_looks,
        "confirm": study.confirm,
        "correction": {"method": "Holm", "family": study.family},
        "max_failed": study.max_failed,
        "tuning": {"trials": study.tuning.trials, "seed": study.tuning.seed, "search": _search(study.tuning.search)},
        "settings": common,
        "questions": {planned.ablation.name: _question(planned, common, study.tuning) for planned in plan.ablations},
    }
    return dict(json.loads(json.dumps(terms)))


def _question(planned: PlannedAblation, common: Mapping[str, Any], tuning: Tuning) -> Tree:
    base = planned.base.config.resolved().flat()
    return {
        "question": planned.ablation.question,
        "settings": {path: value for path, value in base.items() if path not in common},
        "base": _arm(planned.base, base, tuning),
        "arms": {
            written.name: {**_arm(trained, base, tuning), "together": written.together}
            for written, trained in planned.arms
        },
        "claims": {
            str(number): claim.model_dump(mode="json", exclude_defaults=True)
            for number, claim in enumerate(planned.ablation.claims, start=1)
        },
    }


def _arm(arm: PlannedArm, base: Mapping[str, Any], tuning: Tuning) -> Tree:
    settings = arm.config.resolved().flat()
    return {
        "changes": {path: value for path, value in settings.items() if value != base[path]},
        "tuned": bool(arm.trials),
        "search": _search({path: values for path, values in arm.space.items() if path not in tuning.search}),
    }


def _search(space: Mapping[str, Range]) -> Tree:
    return {path: values.model_dump(mode="json", exclude_defaults=True) for path, values in space.items()}


# What differs ------------------------------------------------------------------------------------------------------


def _differences(before: Tree, after: Tree) -> list[str]:
    """Return one line for each term that differs; a setting that differs alike in every question has one for all."""
    return [
        *_setting_differences(before, after),
        *_term_differences(_without_settings(before), _without_settings(after)),
    ]


def _setting_differences(before: Tree, after: Tree) -> Iterator[str]:
    names = [name for name in before["questions"] if name in after["questions"]]
    found: dict[str, list[str]] = {}
    for name in names:
        was, now = ({**tree["settings"], **tree["questions"][name]["settings"]} for tree in (before, after))
        younger = {path: value for path, value in _defaults().items() if path not in was}
        for line in _term_differences({**younger, **was}, now):
            found.setdefault(line, []).append(name)
    for line, where in found.items():
        yield line if where == names else f"{', '.join(where)}: {line}"


def _defaults() -> Tree:
    """Return the value that a setting had before there was such a setting."""
    return dict(json.loads(Config().canonical()))


def _without_settings(terms: Tree) -> Tree:
    questions = {name: {**question, "settings": {}} for name, question in terms["questions"].items()}
    return {**terms, "settings": {}, "questions": questions}


def _term_differences(was: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*was, *now)):
            inner = name if key in UNNAMED else f"{name} {key}".strip()
            yield from _term_differences(was.get(key, ABSENT), now.get(key, ABSENT), inner)
    elif was != now:
        yield f"{name}: was {_short(was)}, is {_short(now)}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "there"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _shown(changes: list[str]) -> str:
    more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return "; ".join(changes[:SHOWN]) + more
