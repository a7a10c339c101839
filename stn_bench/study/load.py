"""From the name of a study to its plan."""

from __future__ import annotations

from collections.abc import Iterable

from stn_bench.study.catalogue import load
from stn_bench.study.plan import Plan, make_plan
from stn_bench.study.preregistration import with_preregistration
from stn_bench.study.toml import parse_assignment
from stn_bench.system.workspace import Workspace


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
