"""Judges results that exist: a table of anybody's runs, to the verdicts and the report that a study of ours has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.report.judged import Judged
from stn_bench.subject import Metric
from stn_bench.system.errors import DataError
from stn_bench.tracking.columns import Columns, metric_of
from stn_bench.tracking.found import FoundRun, Source, Terms, results_of
from stn_bench.tracking.reading import read_runs
from stn_bench.tracking.table import Sheet, from_frame, read_file

if TYPE_CHECKING:
    import pandas as pd

FRACTION_MARGIN = 0.005
"""Differences of a fraction that count as equivalent unless asked otherwise: half a point."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Request:
    """What somebody asks of results that exist.

    Args:
        direction: which way each metric is better, or one for all; (): more is, where no name speaks against it.
        margin: differences of each metric that count as equivalent, or one for all; (): half a point for fractions,
            and none for other metrics, of which no arm is called equivalent then.
        looks: numbers of seeds after which the verdicts were looked at.
        resolution: the smallest step by which the metric can differ, such as 1 / test examples.
        max_failed: seeds of an arm that may have failed before its verdict is invalid.
        family: what Holm's correction counts: the arms of a "question", or those of the whole "study".
    """

    direction: tuple[str, ...] = ()
    margin: tuple[float, ...] = ()
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
    directions = _each(request.direction, names, "direction", "")
    margins = _each(request.margin, names, "margin", None)
    _check(request)
    analyses = []
    for name, direction, margin in zip(names, directions, margins, strict=True):
        metric = metric_of(name, runs, direction, request.resolution)
        analyses.append(_analysed(runs, source, metric, margin, request))
    return JudgedTable(analyses=tuple(analyses), columns=columns)


def judge_frame(
    frame: pd.DataFrame | Path | str,
    *,
    arm: str = "",
    seed: str = "",
    metric: str | Sequence[str] = (),
    base: str = "",
    question: str = "",
    dataset: str = "",
    wide: bool = False,
    direction: str | Sequence[str] = (),
    margin: float | Sequence[float] | None = None,
    looks: Sequence[int] = (),
    resolution: float | None = None,
    max_failed: int = 0,
    family: str = "question",
) -> JudgedTable:
    """Return what may be said of the runs in a DataFrame, or in a CSV file; what stands behind `stn_bench.judge`."""
    columns = Columns(str(arm), str(seed), _several(metric), str(base), str(question), str(dataset), wide)
    margins = () if margin is None else (margin,) if isinstance(margin, int | float) else tuple(margin)
    asked = Request(_several(direction), margins, tuple(looks), resolution, max_failed, family)
    return judge(read_file(Path(frame)) if isinstance(frame, Path | str) else from_frame(frame), columns, asked)


def _several(names: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(filter(None, (names,))) if isinstance(names, str) else tuple(map(str, names))


def _each(given: Sequence[Value], names: Sequence[str], option: str, unset: Value | None) -> list[Any]:
    """Return what was given for each metric: nothing, one for all, or one each."""
    if len(given) not in (0, 1, len(names)):
        raise DataError(f"--{option}: expected one, or one for each of {len(names)} metrics, got {len(given)}")
    return list(given) * (len(names) if len(given) == 1 else 1) or [unset] * len(names)


def _check(request: Request) -> None:
    if bad := next((one for one in request.margin if not (math.isfinite(one) and one >= 0)), None):
        raise DataError(f"--margin: expected 0 or more, in units of the metric, got {bad:g}")
    step = request.resolution
    if step is not None and not (math.isfinite(step) and step > 0):
        raise DataError(f"--resolution: expected a step above 0, such as 1 / test examples, got {step:g}")
    if request.max_failed < 0:
        raise DataError(f"--max-failed: expected 0 or more, got {request.max_failed}")
    if request.family not in ("question", "study"):
        raise DataError(f"--family: expected question or study, got `{request.family}`")


def _analysed(
    runs: Sequence[FoundRun], source: Source, metric: Metric, margin: float | None, request: Request
) -> Analysis:
    """Return the analysis of one metric."""
    unset = FRACTION_MARGIN if metric.scale == "fraction" else 0.0
    chosen = unset if margin is None else float(margin)
    notes = list(source.notes)
    step, unit = request.resolution, metric.unit
    if step is not None:
        notes.append(f"a run's {unit.name} moves in steps of {unit.value(step)}{unit.points}")
        if 0 < chosen < step:
            notes.append(f"the margin of {unit.value(chosen)}{unit.points} is less than one such step")
    told = Source(source.name, source.digest, source.arm, source.base, tuple(notes))
    return analyse(results_of(runs, told, Terms(metric, chosen, request.looks, request.max_failed, request.family)))


__all__ = ["JudgedTable", "Request", "judge", "judge_frame"]
