"""The preregistration: what was fixed before the first run, and every change since, with its date and its reason.

`studies/STUDY.plan.json` holds it. It fixes the terms that a verdict rests on: the questions and claims,
every arm's settings, the metric, the margin, the seeds, the looks, the correction and the tuning budget, and with them
the user's own code and the data that the runs read.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stn_bench.study.fixed import Deviation, Preregistration
from stn_bench.study.plan import Plan, PlannedArm, PlannedQuestion
from stn_bench.study.spec import Range, Tuning
from stn_bench.subject import Subject
from stn_bench.system.errors import PlanError
from stn_bench.system.files import read_text, write_whole
from stn_bench.system.machine import now

METHODS = {"ranked": "ranked", "holm": "Holm"}
"""What the terms call a correction."""

SHOWN = 3  # changes that a refusal names before it counts the rest
ABSENT = "not there"
UNNAMED = ("questions", "arms", "changes")  # levels of the terms that a reader of a change needs no word for
READ = ("code", "data")  # terms that plans of older versions lack, and those that nobody looked at
SHORT = 12  # hexadecimal digits of a digest that tell it from another
Tree = dict[str, Any]


def changes_since(fixed: Preregistration, plan: Plan) -> list[str]:
    """Return how a plan differs from the terms in force, each as "path: was …, is …"."""
    return _differences(fixed.terms, _as_known_then(terms_of(plan), fixed.terms), plan.subject)


def preregister(plan: Plan, because: str = "", runs: int = 0) -> Preregistration:
    """Return a plan frozen; one that was frozen before keeps its date, and a change of it is declared.

    Args:
        plan: the plan, with what was frozen before in it, and what its runs read.
        because: why it changed since.
        runs: the study's runs that have ended already, of whatever settings: their results may be known.

    Raises:
        PlanError: if it changed and nothing says why, or did not and something does.
    """
    study, because, fixed = plan.study.name, " ".join(because.split()), plan.preregistration
    if fixed is None:
        if because:
            raise PlanError(f"`--because` declares a change of a frozen plan, and study `{study}` has none yet")
        return Preregistration(study=study, date=now(), digest=plan.digest, terms=terms_of(plan), runs=runs)
    changes = changes_since(fixed, plan)
    if changes and not because:
        raise PlanError(
            f"study `{study}` was frozen on {fixed.date[:10]} and has changed since: {_shown(changes)}\n"
            f'declare it with `stn-bench plan {study} --freeze --because "why"`'
        )
    if not changes:
        if because:
            raise PlanError(f"study `{study}` is as it was frozen; `--because` has nothing to declare")
        return fixed
    deviation = Deviation(date=now(), because=because, changes=tuple(changes), digest=plan.digest, runs=runs)
    return fixed.model_copy(update={"terms": terms_of(plan), "deviations": (*fixed.deviations, deviation)})


def check_preregistration(plan: Plan) -> None:
    """Check that a plan is the one that was frozen, if one was.

    Raises:
        PlanError: if it is not; the message names what changed.
    """
    fixed = plan.preregistration
    if fixed and (changes := changes_since(fixed, plan)):
        name = plan.study.name
        raise PlanError(
            f"study `{name}` is not the plan that was frozen on {fixed.date[:10]}: {_shown(changes)}\n"
            f'undo it, or declare it with `stn-bench plan {name} --freeze --because "why"` and run again'
        )


def with_preregistration(plan: Plan, root: Path) -> Plan:
    """Return a plan with what was frozen of it under a root, if anything was.

    Raises:
        PlanError: if the file of the frozen plan cannot be used.
    """
    return dataclasses.replace(plan, preregistration=read_preregistration(root, plan.study.name))


def is_later(date: str, other: str) -> bool:
    """Return whether a moment comes after another, both in ISO 8601."""
    return datetime.datetime.fromisoformat(date) > datetime.datetime.fromisoformat(other)


def preregistration_path(root: Path, study: str) -> Path:
    """Return the file of a study's frozen plan."""
    return root / "studies" / f"{study}.plan.json"


def read_preregistration(root: Path, study: str) -> Preregistration | None:
    """Return the frozen plan of a study, or None if there is none.

    Raises:
        PlanError: if the file cannot be read, is something else, or was changed by hand.
    """
    path = preregistration_path(root, study)
    try:
        tree = json.loads(read_text(path))
        seal = tree.pop("seal")
        fixed = Preregistration.model_validate_json(json.dumps(tree))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError, ValidationError):
        raise PlanError(f"{path}: not a frozen plan of stn-bench; {_way_out(study)}") from None
    if fixed.study != study:
        raise PlanError(f"{path}: is the frozen plan of study `{fixed.study}`, expected `{study}`; {_way_out(study)}")
    if fixed.seal != seal:
        raise PlanError(f"{path}: was changed by hand or is damaged, its seal does not fit; {_way_out(study)}")
    return fixed


def _way_out(study: str) -> str:
    return f"restore it, or remove it and freeze anew with `stn-bench plan {study} --freeze`"


def write_preregistration(root: Path, fixed: Preregistration) -> Path:
    """Write the file of a preregistration, replaced whole, and return its path.

    Raises:
        PlanError: if it cannot be written.
    """
    path = preregistration_path(root, fixed.study)
    text = json.dumps({**fixed.model_dump(mode="json"), "seal": fixed.seal}, indent=1, ensure_ascii=False)
    try:
        write_whole(path, f"{text}\n".encode())
    except OSError as error:
        raise PlanError(f"{path}: cannot be written ({error.strerror})") from None
    return path


# The terms ---------------------------------------------------------------------------------------------------------


def terms_of(plan: Plan) -> Tree:
    """Return what a plan fixes, as JSON holds it."""
    study, bases = plan.study, [question.base.settings for question in plan.questions]
    common = {path: value for path, value in bases[0].items() if all(base[path] == value for base in bases)}
    terms = {
        "subject": study.subject,
        "metric": plan.metric.name,
        "direction": plan.metric.direction,
        "margin": study.margin,
        "seeds": study.seeds,
        "looks": study.all_looks,
        "confirm": study.confirm,
        "correction": {"method": METHODS[study.correction], "family": study.family, **_levels(plan)},
        "max_failed": study.max_failed,
        "tuning": {
            "trials": study.tuning.trials,
            "seed": study.tuning.seed,
            "search": _space(study.tuning.search),
            **({"metric": plan.tuning[0].name, "direction": plan.tuning[0].direction} if study.tuning.metric else {}),
        },
        "settings": common,
        "questions": {one.ablation.name: _question(one, common, study.tuning) for one in plan.questions},
    }
    if plan.reads is not None:
        terms |= {"code": dict(plan.reads.code), "data": dict(plan.reads.data)}
    return dict(json.loads(json.dumps(terms)))


def _levels(plan: Plan) -> Tree:
    """Return the levels that were calibrated for the looks of a plan; those that are shipped need no keeping."""
    return {"levels": {str(arms): level for arms, level in plan.levels.items()}} if plan.levels else {}


def _question(question: PlannedQuestion, common: Mapping[str, Any], tuning: Tuning) -> Tree:
    base = question.base.settings
    return {
        "question": question.ablation.question,
        "settings": {path: value for path, value in base.items() if path not in common},
        "base": _arm_terms(question.base, base, tuning),
        "arms": {
            name: {
                **_arm_terms(arm, base, tuning),
                "together": question.written(name).together,
                "matched": sorted(question.matched(name)),
            }
            for name, arm in question.tested.items()
        },
        "factors": question.ablation.factors,
        "claims": {
            str(number): claim.model_dump(mode="json", exclude_defaults=True)
            for number, claim in enumerate(question.ablation.claims, start=1)
        },
    }


def _arm_terms(arm: PlannedArm, base: Mapping[str, Any], tuning: Tuning) -> Tree:
    return {
        "changes": {path: value for path, value in arm.settings.items() if value != base[path]},
        "tuned": bool(arm.trials),
        "search": _space({path: values for path, values in arm.space.items() if path not in tuning.search}),
    }


def _space(space: Mapping[str, Range]) -> Tree:
    return {path: values.model_dump(mode="json", exclude_defaults=True) for path, values in space.items()}


# What differs ------------------------------------------------------------------------------------------------------


def _as_known_then(terms: Tree, fixed: Tree) -> Tree:
    """Return terms without what plans of older versions did not fix, where the plan in force is one of them."""
    if "levels" not in fixed.get("correction", {}):  # calibrated since, or shipped since: the looks say them
        terms["correction"].pop("levels", None)
    if "metric" in fixed["tuning"] and "direction" not in fixed["tuning"]:
        terms["tuning"].pop("direction", None)
    for name in terms["questions"].keys() & fixed["questions"].keys():
        question, before = terms["questions"][name], fixed["questions"][name]
        if "factors" not in before:
            question.pop("factors")
            for arm in question["arms"].values():
                arm.pop("matched")
    return terms


def _differences(before: Tree, after: Tree, subject: Subject) -> list[str]:
    """Return one line for each term that differs; a setting that differs alike in every question has one for all."""
    before = {"subject": after["subject"], **before}  # plans of older versions do not name it
    return [
        *_term_differences(before["subject"], after["subject"], "subject"),
        *_setting_differences(before, after, subject),
        *_term_differences(_without_settings(before), _without_settings(after)),
        *_read_differences(before, after),
    ]


def _setting_differences(before: Tree, after: Tree, subject: Subject) -> Iterator[str]:
    """Yield the settings that differ; one that is younger than the terms had its default of today then."""
    names = [name for name in before["questions"] if name in after["questions"]]
    defaults = json.loads(json.dumps(subject.settings().resolved().flat()))
    found: dict[str, list[str]] = {}
    for name in names:
        was, now = ({**tree["settings"], **tree["questions"][name]["settings"]} for tree in (before, after))
        younger = {path: value for path, value in defaults.items() if path not in was}
        for line in _term_differences({**younger, **was}, now):
            found.setdefault(line, []).append(name)
    for line, where in found.items():
        yield line if where == names else f"{', '.join(where)}: {line}"


def _without_settings(terms: Tree) -> Tree:
    questions = {name: {**question, "settings": {}} for name, question in terms["questions"].items()}
    rest = {name: value for name, value in terms.items() if name not in ("subject", *READ)}
    return {**rest, "settings": {}, "questions": questions}


def _read_differences(before: Tree, after: Tree) -> Iterator[str]:
    """Yield the code and the data that differ, of those that both know.

    A definition that is only in one of them is named by another that differs, or belongs to an arm that does.
    """
    for what in READ:
        was, now = before.get(what, {}), after.get(what, {})
        for name in sorted(was.keys() & now.keys()):
            if was[name] != now[name]:
                yield f"{what} {name}: was {was[name][:SHORT]}, is {now[name][:SHORT]}"


def _term_differences(was: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*was, *now)):
            inner = name if key in UNNAMED else f"{name} {key}".strip()
            yield from _term_differences(was.get(key, ABSENT), now.get(key, ABSENT), inner)
    elif was != now:
        yield f"{name}: was {_told(was)}, is {_told(now)}"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return "there"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _shown(changes: list[str]) -> str:
    more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return "; ".join(changes[:SHOWN]) + more
