"""From the name of a study to its plan, and from all of a root to the code that they name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from stn_bench.study.catalogue import Catalogue, load
from stn_bench.study.plan import Plan, make_plan
from stn_bench.study.preregistration import with_preregistration
from stn_bench.study.toml import parse_assignment
from stn_bench.subject import is_shipped
from stn_bench.system.errors import StnBenchError
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


def load_plan(study: str, workspace: Workspace, assignments: Iterable[str] = ()) -> Plan:
    """Return the plan of a study by its name, with what was fixed of it; code that it names can be found afterwards.

    Args:
        study: its name.
        workspace: where its files are.
        assignments: `PATH=VALUE` of settings for every arm.

    Raises:
        StnBenchError: if a file is missing or cannot be used.
    """
    found, ablations, subject = load(workspace.root, study)
    overrides = dict(parse_assignment(text, subject.settings) for text in assignments)
    plan = with_preregistration(make_plan(found, ablations, subject, overrides), workspace.root)
    if any(subject.foreign_code(arm.config) for arm in plan.arms):
        workspace.find_code()
    return plan
