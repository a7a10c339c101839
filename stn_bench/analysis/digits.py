"""With how many digits the numbers of a question are written: the same in its sentences and its tables. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from stn_bench.analysis.summary import AblationSummary, MetricSummary, Summary
from stn_bench.system.format import Unit, size_of, size_of_spread

NOTHING = 1e-12
"""Of the values: what is smaller is rounding, and asks for no digits."""


def unit_of(summary: Summary, ablation: AblationSummary) -> Unit:
    """Return how values and differences of the primary metric are written wherever a question is told of."""
    means = [arm.mean for arm in ablation.arms if arm.mean is not None]
    return Unit.of(summary.metric, is_fraction=summary.scale == "fraction").to_show(means, _sizes(ablation))


def unit_of_other(metric: MetricSummary) -> Unit:
    """Return how values of another metric are written in a question."""
    means = [mean for mean in metric.means.values() if mean is not None]
    sds = [sd for sd in metric.sds.values() if sd is not None]
    return Unit.of(metric.name, is_fraction=metric.scale == "fraction").to_show(means, _spread(sds, means))


def _sizes(ablation: AblationSummary) -> Iterator[float]:
    """Yield what must not look like nothing: differences with their intervals, and the largest deviation."""
    means = [abs(arm.mean) for arm in ablation.arms if arm.mean is not None]
    base = abs(ablation.base.mean or 0.0)
    for arm in ablation.arms[1:]:
        yield from _size(arm.difference, arm.interval, max(base, abs(arm.mean or 0.0)))
    for effect in ablation.effects:
        yield from _size(effect.value, effect.interval, base)
    if fresh := ablation.confirmation:
        yield from _size(fresh.selected_difference, fresh.selected_interval, base)
        yield from _size(fresh.difference, fresh.interval, base)
    yield from _spread([arm.sd for arm in ablation.arms if arm.sd is not None], means)


def _size(difference: float | None, interval: tuple[float, float] | None, beside: float) -> Iterator[float]:
    if difference is not None and (size := size_of(difference, interval)) > NOTHING * beside:
        yield size


def _spread(sds: list[float], means: list[float]) -> Iterator[float]:
    """Yield the size of the largest deviation: not every one has to be told from 0."""
    if sds and max(sds) > NOTHING * max(map(abs, means), default=0.0):
        yield size_of_spread(max(sds))


__all__ = ["unit_of", "unit_of_other"]
