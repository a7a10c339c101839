"""From a study, or its name, to its plan, and whether it may be run; from a root to the code that its studies name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from stn_bench.study.calibration import with_levels
from stn_bench.study.catalogue import Catalogue, load
from stn_bench.study.metrics import file_of
from stn_bench.study.plan import Plan, make_plan
from stn_bench.study.preregistration import check_preregistration, with_preregistration
from stn_bench.study.spec import Ablation, Study
from stn_bench.study.toml import parse_assignment
from stn_bench.study.written import called, place_in_code
from stn_bench.subject import is_shipped
from stn_bench.system.errors import CatalogueError, StnBenchError
from stn_bench.system.workspace import Workspace


def named_code(workspace: Workspace) -> frozenset[str]:
    """Return the code that the root's own studies of shipped subjects name, and run anyway; nothing is imported."""
    catalogue, found = Catalogue(workspace.root), set[str]()
    for name in catalogue.names("studies"):
        subject = catalogue.subject_name(name)
        if subject and is_shipped(subject) and not catalogue.is_bundled("studies", name):
            with contextlib.suppress(StnBenchError):  # a study that cannot be used names nothing
                plan = load_plan(name, workspace)
                found |= {code for arm in plan.arms for code in arm.subject.foreign_code(arm.config)}
    return frozenset(found)


def load_plan(
    study: str | Study,
    workspace: Workspace,
    assignments: Iterable[str] = (),
    overrides: Mapping[str, Any] = {},
) -> Plan:
    """Return the plan of a study, with what was fixed of it; code that it names can be found afterwards.

    Args:
        study: the study, or the name of its file.
        workspace: where files are.
        assignments: `PATH=VALUE` of settings for every arm.
        overrides: the same as values by path.

    Raises:
        StnBenchError: if a file is missing, or something cannot be used.
    """
    found, ablations, subject = load(workspace.root, study)
    given = dict(parse_assignment(text, subject.settings) for text in assignments)
    if isinstance(study, str):
        plan = make_plan(found, ablations, subject, given | dict(overrides), file_of, "--set" if given else "settings")
    else:
        _check_name(found, ablations, workspace)

        def place(found: Study, ablation: Ablation | None = None) -> str:
            return place_in_code(study, ablation)

        plan = make_plan(found, ablations, subject, overrides, place, "settings")
    plan = with_levels(with_preregistration(plan, workspace.root), workspace.root)
    if any(subject.foreign_code(arm.config) for arm in plan.arms):
        workspace.find_code()
    return plan


def check_runnable(plan: Plan, study: str | Study, *, confirm: bool = False) -> None:
    """Check that a plan may be run.

    Args:
        plan: the plan.
        study: what it was loaded from.
        confirm: whether the best arm of each question is to be trained on fresh seeds.

    Raises:
        PlanError: if it is not the one that was frozen.
        CatalogueError: if fresh seeds are asked for and the study has none.
    """
    check_preregistration(plan)
    if confirm and not plan.study.confirm:
        where = file_of(plan.study) if isinstance(study, str) else called(study)
        raise CatalogueError(
            f"{where}: confirmation needs fresh seeds; add `confirm = [..]` with some that "
            f"are neither in `seeds` nor `tuning.seed`"
        )


def _check_name(study: Study, ablations: tuple[Ablation, ...], workspace: Workspace) -> None:
    """Check that no file asks something else under the name of a study that was written in code.

    Raises:
        CatalogueError: if one does: reports and runs of the two would be taken for one another's.
    """
    catalogue = Catalogue(workspace.root)
    if study.name not in catalogue.names("studies"):
        return
    path = catalogue.path("studies", study.name)
    in_file, asked, _ = load(workspace.root, study.name)
    differs = [name for name in type(study).model_fields if getattr(study, name) != getattr(in_file, name)]
    differs += [one.name for one, other in zip(ablations, asked, strict=False) if one != other]
    if differs:
        raise CatalogueError(
            f"{called(study)}: {path} is another study of this name (`{differs[0]}` differs); choose another name, or "
            f"run that one by its name"
        )
