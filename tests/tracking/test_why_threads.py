"""`why` of a run whose number of threads followed from the number of workers."""

from __future__ import annotations

from pathlib import Path

from makers import ablation, arm, plan, record

from stn_bench.system.workspace import Workspace
from stn_bench.tracking.why import compare_with_today


def test_other_threads_are_told_with_what_gives_them_back(tmp_path: Path) -> None:
    planned = plan(ablation(arm("deep", {"depth": 4})), subject="toy")
    (spec, *_) = planned.arms[0].verdict_specs({})
    made = record(spec, "one").model_copy(update={"subject": "toy", "machine": {"threads": 997}})
    (line,) = compare_with_today(made, Workspace.at(tmp_path)).conditions
    assert line.startswith("threads: was 997, is ")
    assert "a worker's share of the cores; `run --threads 997` trains as then" in line
    assert compare_with_today(made, Workspace.at(tmp_path), threads=997).conditions == []
