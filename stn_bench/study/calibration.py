"""The levels of a study's looks, calibrated where none are shipped, and kept with the plan.

`studies/STUDY.levels.json` holds them, or the frozen plan. The same looks give the same levels, so that a file that is
lost is made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stn_bench.stats import calibrate, is_shipped
from stn_bench.study.plan import Plan
from stn_bench.system.files import read_text, write_whole


def with_levels(plan: Plan, root: Path) -> Plan:
    """Return a plan with the levels that were kept of it, if any were; else the looks share the 5 % evenly."""
    looks = plan.study.all_looks
    if is_shipped(looks):
        return plan
    fixed = plan.preregistration.terms if plan.preregistration else {}
    for kept in ({"looks": fixed.get("looks"), **fixed.get("correction", {})}, _read(levels_path(root, plan))):
        levels = _levels(kept)
        if levels and kept.get("looks") == list(looks):
            return dataclasses.replace(plan, levels=levels)
    return plan


def calibrated(plan: Plan, root: Path) -> Plan:
    """Return a plan with the levels of its looks: as shipped, as kept, or calibrated now, which takes seconds.

    They are kept if they can be; a frozen plan that has none keeps its even share.
    """
    looks = plan.study.all_looks
    if is_shipped(looks) or plan.levels or plan.preregistration:
        return plan
    return keep(calibrated_anew(plan), root)


def calibrated_anew(plan: Plan) -> Plan:
    """Return a plan with levels for the arms that its families have; those of looks that are shipped need none.

    Those of a frozen plan stay. Levels in a file count for nothing here: anybody can write one, and the same looks
    give the same levels.
    """
    fixed = plan.preregistration.terms if plan.preregistration else {}
    if is_shipped(plan.study.all_looks) or (plan.levels and "levels" in fixed.get("correction", {})):
        return plan
    return dataclasses.replace(plan, levels=calibrate(plan.study.all_looks, max(plan.families, default=1)))


def keep(plan: Plan, root: Path) -> Plan:
    """Write the levels of a plan beside its study's file, where there is room to write, and return the plan."""
    levels = {str(arms): level for arms, level in plan.levels.items()}
    text = json.dumps({"looks": plan.study.all_looks, "levels": levels}, indent=1)
    with contextlib.suppress(OSError):
        write_whole(levels_path(root, plan), f"{text}\n".encode())
    return plan


def levels_path(root: Path, plan: Plan) -> Path:
    """Return the file of the levels of a study's looks."""
    return root / "studies" / f"{plan.study.name}.levels.json"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _levels(kept: Mapping[str, Any]) -> dict[int, float]:
    """Return levels as they were kept; {} if they are none, which is as if they had been lost."""
    try:
        levels = {int(arms): float(level) for arms, level in kept.get("levels", {}).items()}
    except (AttributeError, TypeError, ValueError):
        return {}
    even = 0.05 / max(1, len(kept.get("looks") or ()))
    return levels if all(0.9 * even < level < 0.05 and arms > 0 for arms, level in levels.items()) else {}


__all__ = ["calibrated", "calibrated_anew", "with_levels"]
