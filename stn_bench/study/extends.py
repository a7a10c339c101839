"""`extends`: a study file merged over the one that it extends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from stn_bench.study.spec import is_range, walk


def inherit(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    """Return a study file merged over its parent, without the parent's entries for ablations that the child drops."""
    parent, child = _by_path(parent), _by_path(child)
    told = ("scope", "remarks", "published")  # what is said of the parent's own runs
    merged = _merge({key: value for key, value in parent.items() if key not in told}, child)
    inherited_ranges, ranges = _ranges(parent), _ranges(child)
    if inherited_ranges and ranges:
        merged["tuning"] = {**merged["tuning"], "search": {**inherited_ranges, **ranges}}
    wanted = merged.get("ablations", [])
    if "ablations" not in child or not isinstance(wanted, list) or not _has_tables(parent, child):
        return merged
    inherited = {name: arms for name, arms in parent.get("arms", {}).items() if name in wanted}
    tuned = [name for name in parent.get("tuning", {}).get("ablations", []) if name in wanted]
    if parent.get("arms"):
        merged["arms"] = _merge(inherited, child.get("arms", {}))
    if parent.get("tuning", {}).get("ablations") and "ablations" not in child.get("tuning", {}):
        merged["tuning"] = {**merged["tuning"], "ablations": tuned} if tuned or "tuning" in child else {}
    return merged


def _has_tables(*trees: dict[str, Any]) -> bool:
    """Return whether the inherited parts have the right form; a wrong form is refused later, by name."""
    tables = [tree.get(name, {}) for tree in trees for name in ("arms", "tuning")]
    return all(isinstance(one, dict) and isinstance(one.get("ablations", []), list) for one in tables)


def _by_path(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a file with its settings by dotted path, whichever way each was written."""
    flat = {"base": _flat(tree["base"])} if "base" in tree else {}
    tuning = tree.get("tuning")
    if isinstance(tuning, dict) and "search" in tuning:
        flat["tuning"] = {**tuning, "search": _flat(tuning["search"], is_range)}
    return {**tree, **flat}


def _ranges(tree: dict[str, Any]) -> dict[str, Any]:
    """Return what a file searches, by dotted path: a range is taken over or replaced as a whole."""
    tuning = tree.get("tuning")
    found = tuning.get("search") if isinstance(tuning, dict) else None
    return found if isinstance(found, dict) else {}


def _flat(table: Any, is_leaf: Callable[[Any], bool] = lambda value: False) -> Any:
    """Return a table by dotted path; as it is if its form is wrong or it says a thing twice: it is refused later."""
    if not isinstance(table, dict):
        return table
    found = list(walk(table, is_leaf))
    return dict(found) if max(Counter(path for path, _ in found).values(), default=0) < 2 else table


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        both = isinstance(value, dict) and isinstance(parent.get(key), dict)
        merged[key] = _merge(parent[key], value) if both else value
    return merged


__all__ = ["inherit"]
