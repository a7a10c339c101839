"""What the workers of a study need from whoever began it: its plan, and what its runs depend on, to be compared.

A worker on another machine has no files of the study. It takes the plan from the store, makes the data by the plan's
recipe, and trains only where its own code, libraries and data are the same: each is compared by name.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from stn_bench.study.catalogue import Catalogue
from stn_bench.study.fixed import Preregistration
from stn_bench.study.load import named_code
from stn_bench.study.metrics import file_of
from stn_bench.study.plan import Plan, PlannedQuestion, make_plan
from stn_bench.study.spec import Ablation, Study
from stn_bench.subject import is_shipped
from stn_bench.system.errors import ConfigError, StoreError
from stn_bench.system.text import shorten
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.results import Keys

SHOWN = 3  # differences that a refusal names before it counts the rest
SHORT = 12  # hexadecimal digits of a digest that tell it from another
ABSENT = "none"
APART = {"libraries", "code", "data", "digest", "confirm", "accept_stale"}
"""What is no part of the plan: compared by itself, or another in each command."""

Tree = dict[str, Any]


class Posted(BaseModel):
    """A study as its workers need it.

    Args:
        study: the study as written, merged over what it extends.
        ablations: its ablations, with the arms that it keeps.
        overrides: settings for every arm (`--set`).
        fixed: what was fixed of it before, if anything was.
        levels: number of arms -> level of one look, where these were calibrated.
        digest: digest of the plan that comes of all that.
        libraries: package -> the versions that its runs name.
        code: definition -> the digests that its runs name; more than one where arms reach different parts of it.
        data: label of an arm -> fingerprint of its data.
        confirm: whether the best arm of each question is trained on fresh seeds at the end (`--confirm`).
        accept_stale: whether runs that other code or libraries trained are kept (`--accept-stale`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: Tree
    ablations: list[Tree]
    overrides: Tree
    fixed: Preregistration | None
    levels: dict[int, float]
    digest: str
    libraries: dict[str, list[str]]
    code: dict[str, list[str]]
    data: dict[str, str]
    confirm: bool = False
    accept_stale: bool = False

    @property
    def name(self) -> str:
        """Name of the study."""
        return str(self.study["name"])


def post(plan: Plan, keys: Keys, *, confirm: bool = False, accept_stale: bool = False) -> Posted:
    """Return what workers need of a plan whose data are made.

    Args:
        plan: the plan.
        keys: the run keys of today.
        confirm: as `Posted` has it, as the next.
        accept_stale: what `run` was asked for besides.
    """
    libraries, code, data = dict[str, set[str]](), dict[str, set[str]](), dict[str, str]()
    for arm in plan.arms:
        identity = keys.identity((*arm.tuning_specs(), *arm.verdict_specs({}))[0])
        if identity is None:
            continue
        data[arm.label] = identity.dataset
        for found, parts in ((libraries, identity.libraries), (code, identity.code)):
            for name, value in parts.items():
                found.setdefault(name, set()).add(value)
    study = json.loads(plan.study.model_dump_json(exclude_unset=True))
    return Posted(
        study=study,
        ablations=[_as_written(question) for question in plan.questions],
        overrides=json.loads(json.dumps(dict(plan.overrides))),
        fixed=plan.preregistration,
        levels=dict(plan.levels),
        digest=plan.digest,
        libraries={name: sorted(values) for name, values in sorted(libraries.items())},
        code={name: sorted(values) for name, values in sorted(code.items())},
        data=data,
        confirm=confirm,
        accept_stale=accept_stale,
    )


def _as_written(question: PlannedQuestion) -> Tree:
    """Return an ablation without what `match` found: whoever reads it finds the same."""
    tree: Tree = json.loads(question.ablation.model_dump_json(exclude_unset=True))
    for arm in tree["arms"]:
        for path in question.matched(arm["name"]):
            del arm["set"][path]
    return tree


def read_posted(text: str, study: str) -> Posted:
    """Return what was posted of a study.

    Raises:
        StoreError: if it cannot be read.
    """
    try:
        return Posted.model_validate_json(text)
    except ValidationError:
        raise StoreError(
            f"study `{study}`: what its workers need was posted by another version of stn-bench; install that one, "
            f"or end its workers and run it anew"
        ) from None


def plan_of(posted: Posted, workspace: Workspace, *, trust: bool = False) -> Plan:
    """Return the plan that was posted.

    Args:
        posted: the study.
        workspace: where code of the user's is found.
        trust: whether code that the store names may be run; else a study of this root must name it too.

    Raises:
        StoreError: if another plan comes of it here, or it names code that is not trusted.
        StnBenchError: if the subject cannot be found, or the study not be read.
    """
    where, named = f"study `{posted.name}` of the store", str(posted.study.get("subject", ""))
    catalogue = Catalogue(workspace.root)
    if named and not is_shipped(named) and not trust and named not in catalogue.named_subjects():
        raise _untrusted(posted.name, named)
    try:
        study = Study.model_validate(posted.study)
        ablations = tuple(Ablation.model_validate(tree) for tree in posted.ablations)
    except (ValidationError, ConfigError):
        raise StoreError(f"{where}: this version of stn-bench cannot read it") from None
    subject = catalogue.find_subject(study.subject, where)
    plan = make_plan(study, ablations, subject, posted.overrides, file_of, "--set")
    foreign = {code for arm in plan.arms for code in subject.foreign_code(arm.config)}
    if foreign:
        if unknown := sorted(foreign - named_code(workspace)) if not trust else []:
            raise _untrusted(posted.name, unknown[0])
        workspace.find_code()
    if plan.digest != posted.digest:
        raise StoreError(f"{where}: comes to another plan here; install the version of stn-bench that began it")
    return dataclasses.replace(plan, preregistration=posted.fixed, levels=posted.levels)


def _untrusted(study: str, code: str) -> StoreError:
    return StoreError(
        f"study `{study}` of the store: names code, `{shorten(code)}`, that no study under this root names; "
        f"add --trust if you trust it"
    )


def differences(there: Posted, here: Posted) -> list[str]:
    """Return one line for each part in which a study differs here from what was posted."""
    found = [*_differences("library", there.libraries, here.libraries), *_differences("code", there.code, here.code)]
    found += _differences("data of", there.data, here.data)
    both = [one.model_dump(mode="json", exclude=APART) for one in (there, here)]
    return found + [line for line in _differences("plan", *both) if line]


def _differences(what: str, there: Any, here: Any) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in dict.fromkeys((*there, *here)):
            yield from _differences(f"{what} {name}", there.get(name, ABSENT), here.get(name, ABSENT))
    elif there != here:
        yield f"{what}: there {_told(there)}, here {_told(here)}"


def _told(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return shorten(", ".join(map(_told, value)) or ABSENT)
    is_digest = isinstance(value, str) and len(value) == 64
    return value[:SHORT] if is_digest else shorten(value if isinstance(value, str) else json.dumps(value))


def shown(lines: list[str]) -> str:
    """Return differences as a message names them."""
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more


def check_same(there: Posted, here: Posted) -> None:
    """Check that a study is the same here as it was posted.

    Raises:
        StoreError: if it is not; the message names what differs.
    """
    if lines := differences(there, here):
        raise StoreError(
            f"study `{here.name}`: is another here than its other workers train: {shown(lines)}\n"
            f"install the same here; or end those workers, and run it here first"
        )


def as_text(posted: Posted) -> str:
    """Return what is put into the store."""
    return posted.model_dump_json()


__all__ = ["Posted", "as_text", "check_same", "differences", "plan_of", "post", "read_posted", "shown"]
