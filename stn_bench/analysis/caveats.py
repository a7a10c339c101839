"""Flags: what sets an arm apart from its base besides its one factor, said before anything is trained. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from stn_bench.analysis.verdicts import budget_reason, factor_reason, moved_settings
from stn_bench.study.catalogue import BASE
from stn_bench.study.plan import COSTLIER, PlannedAblation
from stn_bench.subjects.stn.config import LOWER_BOUND, Config
from stn_bench.subjects.stn.nn.layout import flops, parameters
from stn_bench.tracking.record import RunRecord

BLACK, MID_GREY, WHITE = 0.0, 0.5, 1.0  # places in a range, from its low end to its high one


class Change(NamedTuple):
    """A setting that differs: what it is in the base, and in the arm."""

    was: Any
    now: Any


@dataclass(frozen=True)
class Costs:
    """What an arm costs, as far as it is known.

    Args:
        parameters: number of weights, moving statistics included.
        flops: floating-point operations to read one picture.
        step_ms: processor milliseconds per training step, its share of the validation included, in the least disturbed
            run: what else the machine does makes steps wait, and never makes them faster. Only a run can tell.
    """

    parameters: float | None = None
    flops: float | None = None
    step_ms: float | None = None


def costs_of(config: Config, runs: Iterable[RunRecord] = (), timed: Collection[int] = ()) -> Costs:
    """Return what a configuration costs: what its runs measured, and on paper what they do not tell.

    Args:
        config: the configuration.
        runs: its runs.
        timed: the seeds whose runs tell the time of a step; all runs do, unset.
    """
    finished = [run for run in runs if run.outcome == "finished"]

    def measured(name: str) -> float | None:
        values = [run.metrics[name] for run in finished if name in run.metrics]
        return sum(values) / len(values) if values else None

    on_paper = Costs() if config.model.factory else Costs(parameters(config), flops(config))
    return Costs(
        measured("cost.parameters") or on_paper.parameters,
        measured("cost.flops") or on_paper.flops,
        _step_ms(config, [run.metrics for run in finished if not timed or run.seed in timed]),
    )


def _step_ms(config: Config, finished: Iterable[Mapping[str, float]]) -> float | None:
    seconds = min((metrics["cost.cpu_seconds"] for metrics in finished if "cost.cpu_seconds" in metrics), default=None)
    data, train = config.data, config.train
    steps = train.epochs * math.ceil(data.train / train.batch_size)
    return None if seconds is None else 1000 * seconds / steps


def difference(arm: Config, base: Config) -> dict[str, Change]:
    """Return every setting of the resolved configurations that differs, by dotted path."""
    ours, theirs = arm.resolved().flat(), base.resolved().flat()
    return {path: Change(theirs[path], value) for path, value in ours.items() if value != theirs[path]}


def flags(planned: PlannedAblation, name: str, ours: Costs, theirs: Costs) -> tuple[str, ...]:
    """Return what a reader should know of an arm beside its base, each in a sentence without its full stop.

    Args:
        planned: the question.
        name: the arm's name in it; "base" for the base itself.
        ours: what the arm costs.
        theirs: what the base costs.
    """
    if name == BASE:
        return tuple(_uncoupled(planned.base.config))
    trained = next(arm for written, arm in planned.arms if written.name == name)
    moved = difference(trained.config, planned.base.config)
    uncoupled = _uncoupled(trained.config) if moved.keys() & {"model.input_range", *ENDS} else ()
    return (*_factors(planned, name), *uncoupled, *_costs(ours, theirs))


def _factors(planned: PlannedAblation, name: str) -> Iterator[str]:
    written, trained = next(pair for pair in planned.arms if pair[0].name == name)
    moved = moved_settings(written)
    if reason := factor_reason(planned, name):
        yield f"moves {reason}; without a reason in `together` that makes its verdict invalid"
    elif written.together and len(moved) > 1:
        yield f"moves {len(moved)} settings as one factor: {written.together}"
    if reason := budget_reason(trained, planned.base):
        yield f"{reason}; that makes its verdict invalid"


def _fill(config: Config) -> float | None:
    return config.model.transformer.fill if config.model.transformer.kind != "none" else None


def _pad(config: Config) -> float | None:
    return config.data.pad if config.data.shapes == "varied" else None


ENDS = {"data.pad": _pad, "model.transformer.fill": _fill}
"""Setting that stands for black -> its value, or None where nothing uses it."""


def _uncoupled(config: Config) -> Iterator[str]:
    """Yield the values that should be the low end of the input range and are not."""
    lower, name = LOWER_BOUND[config.model.input_range], config.model.input_range
    for path, value_of in ENDS.items():
        value = value_of(config.resolved())
        if value is not None and value != lower:
            yield f"`{path}` {_number(value)} is {_shade(value, lower)} in {name}, whose low end is {_number(lower)}"


def _shade(value: float, lower: float) -> str:
    place = (value - lower) / (1 - lower)
    return {BLACK: "black", MID_GREY: "mid-grey", WHITE: "white"}.get(place, f"grey, {100 * place:.0f} % of white")


def _costs(ours: Costs, theirs: Costs) -> Iterator[str]:
    for what, one, other, text in (
        ("parameters", ours.parameters, theirs.parameters, in_short),
        ("FLOPs", ours.flops, theirs.flops, in_short),
        ("processor time a step", ours.step_ms, theirs.step_ms, lambda value: f"{value:.1f} ms"),
    ):
        if one and other and abs(one - other) > COSTLIER * other:
            yield f"{what} {_relative(one / other)}: {text(one)} against {text(other)}"


def _relative(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %".replace("-", "−")


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def in_short(value: float) -> str:
    """Return a large number with three digits and its unit: 1.24 M."""
    for scale, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g}"


def in_words(changes: Mapping[str, Change]) -> list[str]:
    """Return each changed setting as "`path` was → is"."""
    return [f"{path} {_plain(change.was)} → {_plain(change.now)}" for path, change in changes.items()]


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return _number(value) if isinstance(value, float) else str(value)


__all__ = ["Change", "Costs", "costs_of", "difference", "flags", "in_short", "in_words"]
