"""`extends`: a study file merged over the one that it extends."""

from __future__ import annotations

from typing import Any


def inherit(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    """Return a study file merged over its parent, without the parent's entries for ablations that the child drops."""
    told = ("scope", "remarks", "published")  # what is said of the parent's own runs
    merged = _merge({key: value for key, value in parent.items() if key not in told}, child)
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


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        both = isinstance(value, dict) and isinstance(parent.get(key), dict)
        merged[key] = _merge(parent[key], value) if both else value
    return merged


__all__ = ["inherit"]
