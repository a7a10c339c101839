"""Judges results that exist: a table of anybody's runs, to the verdicts and the report that a study of ours has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.report.judged import Judged
from stn_bench.study.calibration import calibrated_anew
from stn_bench.study.metrics import absurd_margin
from stn_bench.subject import Metric
from stn_bench.system.errors import DataError
from stn_bench.system.sounds import sounds
from stn_bench.system.text import as_label, did_you_mean, shorten
from stn_bench.tracking.columns import Columns, metric_of
from stn_bench.tracking.found import Source, Terms, results_of
from stn_bench.tracking.groups import FoundRun
from stn_bench.tracking.reading import read_runs
from stn_bench.tracking.spelling import Spelling
from stn_bench.tracking.table import Sheet

FRACTION_MARGIN = 0.005
"""Differences of a fraction that count as equivalent unless asked otherwise: half a point."""

ROUNDED = 1e-6
"""Of a step: values that differ by less are the same, but for rounding."""

Value = TypeVar("Value")
Stated: TypeAlias = tuple[Value, ...] | Mapping[str, Value]
"""What was said of metrics: in their order, or by their names."""


@dataclass(frozen=True)
class Request:
    """What somebody asks of results that exist.

    Args:
        direction: which way each metric is better, by name or in order, or one for all; (): more is, where no name
            speaks against it.
        margin: differences of each metric that count as equivalent, the same; (): half a point for fractions, and
            none for other metrics, of which no arm is called equivalent then.
        looks: numbers of seeds after which the verdicts were looked at.
        resolution: the smallest step by which the metric can differ, such as 1 / test examples.
        max_failed: seeds of an arm that may have failed before its verdict is invalid.
        family: what is corrected for: the arms of a "question", or those of the whole "study".
    """

    direction: Stated[str] = ()
    margin: Stated[float] = ()
    looks: tuple[int, ...] = ()
    resolution: float | None = None
    max_failed: int = 0
    family: str = "question"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class JudgedTable(Judged):
    """What may be said of results that exist.

    Args:
        columns: which column told what.
    """

    columns: Columns


def judge(table: Sheet, asked: Columns, request: Request) -> JudgedTable:
    """Return what may be said of the runs in a table.

    Raises:
        DataError: if the table cannot be read, or what was asked does not fit it.
    """
    runs, source, columns = read_runs(table, asked)
    names = [name.removeprefix("metrics.") for name in columns.metrics]
    spelling = table.spelling
    _check_directions(request.direction, names, spelling)
    directions = _each(request.direction, names, "direction", "", spelling)
    margins = _each(request.margin, names, "margin", None, spelling)
    _check(request, spelling)
    analyses = []
    for name, direction, margin in zip(names, directions, margins, strict=True):
        is_one_of_several = len(names) > 1
        metric = metric_of(
            name, runs, direction, request.resolution, is_one_of_several=is_one_of_several, spelling=spelling
        )
        analyses.append(_analysed(runs, source, metric, margin, request))
    return JudgedTable(analyses=tuple(analyses), columns=columns, inputs=(table.path,) if table.path else ())


def stated(given: Any) -> Stated[Any]:
    """Return what somebody said of metrics: one value, several in the metrics' order, or some by name."""
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items()}
    if given is None or isinstance(given, str | int | float):
        return () if given in (None, "") else (given,)
    return tuple(given)


def _each(
    given: Stated[Value], names: Sequence[str], option: str, unset: Value | None, spelling: Spelling
) -> list[Any]:
    """Return what was given for each metric: nothing, one for all, one each, or some by their names.

    Raises:
        DataError: if it cannot be told apart.
    """
    if isinstance(given, Mapping):
        given = {as_label(name): value for name, value in given.items()}
        for name in given:
            if name not in names:
                raise DataError(
                    f"{spelling.name(option)}: no metric `{shorten(name)}` is judged.{did_you_mean(name, names)}"
                )
        return [given.get(name, unset) for name in names]
    if len(given) not in (0, 1, len(names)):
        told = (
            f"expected one, one for each of {len(names)} metrics, or `{spelling.of_metrics(option, {names[0]: '…'})}`"
        )
        raise DataError(f"{spelling.name(option)}: {told}; got {len(given)}")
    return list(given) * (len(names) if len(given) == 1 else 1) or [unset] * len(names)


def _check_directions(given: Stated[str], names: Sequence[str], spelling: Spelling) -> None:
    """See that one direction for several metrics is none that the name of one speaks against.

    Raises:
        DataError: if it is.
    """
    if isinstance(given, Mapping) or len(given) != 1 or len(names) == 1:
        return
    (one,) = given
    if against := [name for name in names if sounds(name) not in (None, one)]:
        better = spelling.of_metrics("direction", {name: sounds(name) or one for name in names})
        said = f"{spelling.name('direction')}: {shorten(one)} is said of {len(names)} metrics"
        raise DataError(
            f"{said}, and `{shorten(against[0])}` sounds as if "
            f"{'more' if sounds(against[0]) == 'maximize' else 'less'} were better; say it of each: {better}"
        )


def _check(request: Request, spelling: Spelling) -> None:
    margins = request.margin.values() if isinstance(request.margin, Mapping) else request.margin
    if bad := next((one for one in margins if not (math.isfinite(one) and one >= 0)), None):
        raise DataError(f"{spelling.name('margin')}: expected 0 or more, in units of the metric, got {bad:g}")
    step = request.resolution
    if step is not None and not (math.isfinite(step) and step > 0):
        raise DataError(
            f"{spelling.name('resolution')}: expected a step above 0, such as 1 / test examples, got {step:g}"
        )
    if request.max_failed < 0:
        raise DataError(f"{spelling.name('max_failed')}: expected 0 or more, got {request.max_failed}")
    if request.family not in ("question", "study"):
        raise DataError(f"{spelling.name('family')}: expected question or study, got `{request.family}`")


def _analysed(
    runs: Sequence[FoundRun], source: Source, metric: Metric, margin: float | None, request: Request
) -> Analysis:
    """Return the analysis of one metric."""
    unset = FRACTION_MARGIN if metric.scale == "fraction" else 0.0
    chosen = unset if margin is None else float(margin)
    if reason := absurd_margin(metric, chosen):
        raise DataError(f"{source.spelling.name('margin')}: {reason}")
    notes = list(source.notes)
    step, unit = request.resolution, metric.unit.to_show([request.resolution or chosen])
    if step is not None:
        notes.append(f"a run's {unit.name} moves in steps of {unit.value(step)}{unit.points}")
        if 0 < chosen < step:
            notes.append(f"the margin of {unit.given(chosen)}{unit.points} is less than one such step")
        if _is_finer(runs, metric.name, step):
            notes.append("but values differ by less than a quarter of one such step: see whether it is meant")
    told = Source(source.name, source.digest, source.arm, source.base, tuple(notes), source.spelling)
    results = results_of(runs, told, Terms(metric, chosen, request.looks, request.max_failed, request.family))
    return analyse(replace(results, plan=calibrated_anew(results.plan)))


def _is_finer(runs: Sequence[FoundRun], metric: str, step: float) -> bool:
    """Whether values of one data set lie closer together than steps can, even if they are rounded."""
    by_data: dict[str, set[float]] = {}
    for run in runs:
        if metric in run.metrics:
            by_data.setdefault(run.dataset, set()).add(run.metrics[metric])
    gaps = (after - before for values in by_data.values() for before, after in pairwise(sorted(values)))
    return any(ROUNDED * step < gap < step / 4 for gap in gaps)


__all__ = ["JudgedTable", "Request", "judge", "stated"]
