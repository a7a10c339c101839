"""The primary metric class by class, where each test example's value and class are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from stn_bench.analysis.summary import ClassSummary
from stn_bench.subject import CLASSES, Numbers
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import ArmResults


def by_class(
    arms: Mapping[str, ArmResults], metric: str, read: Callable[[RunRecord, str], Numbers | None]
) -> tuple[ClassSummary, ...]:
    """Return each class with its mean in each arm, over the seeds; () where nothing tells, or of one class.

    Args:
        arms: the arms of a question by name.
        metric: the primary metric.
        read: run, name -> what is known of each of its test examples by that name, or None.
    """
    values: dict[str, dict[str, list[float]]] = {}
    sizes: dict[str, list[int]] = {}
    for arm, results in arms.items():
        for seed in results.values(metric):
            each, classes = read(results.runs[seed], metric), read(results.runs[seed], CLASSES)
            if each is None or classes is None or each.shape != classes.shape or each.ndim != 1:
                continue
            names, places, counts = np.unique(classes.astype(str), return_inverse=True, return_counts=True)
            means = np.bincount(places, weights=each.astype(float)) / counts
            for name, mean, count in zip(names.tolist(), means.tolist(), counts.tolist(), strict=True):
                values.setdefault(name, {}).setdefault(arm, []).append(mean)
                sizes.setdefault(name, []).append(count)
    if len(values) < 2:
        return ()
    return tuple(
        ClassSummary(
            name=name,
            examples=round(float(np.mean(sizes[name]))),
            values={arm: float(np.mean(some)) for arm, some in values[name].items()},
        )
        for name in sorted(values, key=_place)
    )


def _place(name: str) -> tuple[bool, int, str]:
    """Return what orders classes: numbers by their size, before texts."""
    is_number = name.isascii() and name.isdecimal()
    return not is_number, int(name) if is_number else 0, name


__all__ = ["by_class"]
