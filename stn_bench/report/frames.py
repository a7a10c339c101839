"""The runs and the verdicts as tables for programs: `runs.csv`, which `stn_bench.runs` returns, and `verdicts.csv`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from stn_bench.analysis.summary import ArmSummary, Summary
from stn_bench.study.plan import Phase, PlannedArm
from stn_bench.subject import COSTS, Subject
from stn_bench.tracking.record import RunRecord, told_epochs
from stn_bench.tracking.results import ArmResults, Results

COLUMNS = ("study", "ablation", "arm", "phase", "seed", "trial", "status", "run_key", "run_id")


def runs_table(results: Results) -> pd.DataFrame:
    """Return one line a run: what it was, every resolved setting, every final metric and every cost.

    A run that another study trained is listed under the arm and the phase that it serves in this one. A setting or a
    metric that is called as another column is has `settings.` or `metrics.` before its name.
    """
    listed = [(record, arm.arm, phase) for arm in results.arms for phase, record in _phases(arm)]
    records, subject = [record for record, _, _ in listed], results.plan.subject
    metrics = _apart(_metrics(subject, records), "metrics.", COLUMNS)
    former = {path: None for record in records for path in record.settings}  # of records alone: they come last
    shown = _apart((*subject.paths, *former), "settings.", (*COLUMNS, *metrics, *metrics.values()))
    rows = [
        _identity(record, arm, phase, results)
        | {shown[path]: value for path, value in record.settings.items()}
        | {column: record.metrics.get(name) for name, column in metrics.items()}
        for record, arm, phase in listed
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, *shown.values(), *metrics.values()])


def curves_table(results: Results) -> pd.DataFrame:
    """Return one line for each epoch that a run told of: what the run was, the epoch, and its metrics."""
    listed = [(record, arm.arm, phase) for arm in results.arms for phase, record in _phases(arm) if record.history]
    fixed = (*COLUMNS, "epoch")
    metrics = _apart((name for record, _, _ in listed for name in record.history), "metrics.", fixed)
    rows = [
        {**_identity(record, arm, phase, results), "epoch": epoch}
        | {metrics[name]: value for name, value in values.items()}
        for record, arm, phase in listed
        for epoch, values in _by_epoch(record).items()
    ]
    return pd.DataFrame(rows, columns=[*fixed, *metrics.values()])


def _apart(names: Iterable[str], prefix: str, taken: Collection[str]) -> dict[str, str]:
    """Return name -> its column: the name itself, behind the prefix where another column is called so."""
    wanted = dict.fromkeys(names)
    found: dict[str, str] = {}
    for name in wanted:
        column = name
        while column in taken or (column != name and column in wanted):
            column = prefix + column
        found[name] = column
    return found


def _by_epoch(record: RunRecord) -> dict[int, dict[str, float]]:
    """Return epoch -> the metrics that were told of it."""
    told = {name: told_epochs(series) for name, series in record.history.items()}
    epochs = sorted({epoch for series in told.values() for epoch in series})
    return {epoch: {name: series[epoch] for name, series in told.items() if epoch in series} for epoch in epochs}


def _metrics(subject: Subject, records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return the metrics that the subject declares, in its order, and the costs; of one that declares none, all."""
    if not subject.metrics:
        return tuple(sorted({name for record in records for name in record.metrics}))
    return tuple(dict.fromkeys(metric.name for metric in (*subject.metrics, *COSTS)))


def _phases(arm: ArmResults) -> Iterator[tuple[Phase, RunRecord]]:
    for record in arm.trials:
        yield "tune", record
    for record in (*_by_seed(arm.runs), *arm.crashed.values()):
        yield "verdict", record
    for record in (*_by_seed(arm.confirmed), *arm.unconfirmed.values()):
        yield "confirm", record


def _by_seed(runs: Mapping[int, RunRecord]) -> list[RunRecord]:
    return [run for _, run in sorted(runs.items())]


def _identity(record: RunRecord, arm: PlannedArm, phase: Phase, results: Results) -> dict[str, Any]:
    return {
        "study": arm.study,
        "ablation": arm.ablation,
        "arm": results.called(arm.name) or arm.name,
        "phase": phase,
        "seed": record.seed,
        "trial": record.trial,
        "status": record.outcome,
        "run_key": record.run_key,
        "run_id": record.run_id,
    }


def verdicts_table(summary: Summary) -> pd.DataFrame:
    """Return one line for each question and arm, the base first, with every number of the summary.

    Ends of intervals have columns of their own; what belongs together by seed is joined by spaces, settings are JSON.
    """
    rows = [
        {"study": summary.study, "ablation": ablation.name, "metric": summary.metric, "margin": summary.margin}
        | _verdict_row(arm)
        for ablation in summary.ablations
        for arm in ablation.arms
    ]
    return pd.DataFrame(rows, dtype=object)  # whole numbers stay whole beside what is missing


def _verdict_row(arm: ArmSummary) -> dict[str, Any]:
    row: dict[str, Any] = {}
    dumped = arm.model_dump(mode="json", exclude={"layers", "called"})
    for name, value in (dumped | {"name": arm.called or arm.name}).items():
        if name.endswith("interval"):
            row |= {f"{name}_low": value and value[0], f"{name}_high": value and value[1]}
        elif isinstance(value, dict):
            row[name] = json.dumps(value, ensure_ascii=False) if value else ""
        elif isinstance(value, list):
            row[name] = ("; " if name == "caveats" else " ").join(map(str, value))
        else:
            row[name] = value
    return row


def stacked(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return tables of the same columns as one."""
    return pd.concat(list(tables), ignore_index=True)


def to_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV, the same text for the same runs."""
    return str(table.to_csv(index=False, lineterminator="\n", float_format="%.10g"))
