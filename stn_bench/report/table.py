"""The runs as a table: what `runs.csv` holds and `stn_bench.runs` returns."""

from __future__ import annotations

from typing import Any

import pandas as pd

from stn_bench.config import setting_paths
from stn_bench.metrics import METRICS
from stn_bench.record import RunRecord
from stn_bench.results import Results

COLUMNS = ("study", "ablation", "arm", "phase", "seed", "trial", "status", "run_key", "run_id")


def runs_table(results: Results) -> pd.DataFrame:
    """Return one line a run: what it was, every resolved setting, every final metric and every cost.

    A run that another study trained is listed under the arm that it serves in this one.
    """
    rows = [
        _row(record, arm.arm.study, arm.arm.ablation, arm.arm.name)
        for arm in results.arms
        for record in (*arm.trials, *(run for _, run in sorted(arm.runs.items())), *arm.crashed.values())
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, *setting_paths(), *METRICS])


def _row(record: RunRecord, study: str, ablation: str, arm: str) -> dict[str, Any]:
    identity = {
        "study": study,
        "ablation": ablation,
        "arm": arm,
        "phase": record.phase,
        "seed": record.seed,
        "trial": record.trial,
        "status": record.outcome,
        "run_key": record.run_key,
        "run_id": record.run_id,
    }
    return identity | record.settings | {name: record.metrics.get(name) for name in METRICS}


def to_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV, the same text for the same runs."""
    return str(table.to_csv(index=False, lineterminator="\n", float_format="%.10g"))
