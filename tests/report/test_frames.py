"""The tables for programs: each column is what its name says, whatever a training calls its metrics."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from makers import FakeStore, ablation, arm, record, study

from stn_bench.report.frames import COLUMNS, curves_table, runs_table, to_csv
from stn_bench.study.plan import make_plan
from stn_bench.subject import find_subject
from stn_bench.tracking.results import Results, gather

NAN = math.nan


def results(metrics: dict[str, float], history: dict[str, tuple[float, ...]] | None = None) -> Results:
    """Return the results of a subject that declares no metrics, where every run returned these."""
    own = dataclasses.replace(find_subject("toy"), name="mine:train", metrics=(), curve=None, tune_on=(), figures=None)
    asked = study(subject="mine:train", metric="test.error", direction="minimize")
    planned = make_plan(asked, (ablation(arm("deep", {"depth": 8})),), own)
    told: dict[str, Any] = {"metrics": metrics, "history": history or {}, "subject": "mine:train"}
    runs = [
        record(spec, f"{one.name}-{spec.seed}").model_copy(update=told)
        for one in planned.arms
        for spec in one.verdict_specs({})
    ]
    return gather(planned, FakeStore(*runs), Path("nowhere"))


def test_a_metric_that_is_called_as_a_fixed_column_stands_beside_it() -> None:
    found = runs_table(results({"test.error": 0.5, "arm": 5.0, "status": 3.0, "depth": 7.0}))
    assert found.columns.is_unique
    assert list(found["arm"]) == ["base"] * 3 + ["deep"] * 3
    assert set(found["status"]) == {"finished"}
    assert set(found["metrics.arm"]) == {5.0}
    assert set(found["metrics.status"]) == {3.0}
    assert list(found["settings.depth"]) == [2] * 3 + [8] * 3
    assert set(found["depth"]) == {7.0}, "it keeps its name: the setting gives way"
    assert list(found.columns)[: len(COLUMNS)] == list(COLUMNS)
    assert to_csv(found).partition("\n")[0].split(",") == list(found.columns)


@pytest.mark.parametrize("names", [("arm", "metrics.arm"), ("metrics.arm", "arm"), ("arm", "settings.depth", "depth")])
def test_no_two_columns_are_called_alike(names: tuple[str, ...]) -> None:
    told = dict(zip(names, (1.0, 2.0, 3.0), strict=False))
    found = runs_table(results({"test.error": 0.5, **told}))
    assert found.columns.is_unique
    assert {"arm", "depth"} <= set(found.columns)
    if "metrics.arm" in names:
        assert set(found["metrics.arm"]) == {told["metrics.arm"]}


def test_curves_stand_at_the_epochs_that_were_told_of() -> None:
    history = {
        "train.error": (NAN, 0.5, NAN, 0.4),
        "validation.error": (NAN, NAN, NAN, 0.9),
        "epoch": (NAN, 20.0),
        "early": (1.0,),
    }
    found = curves_table(results({"test.error": 0.5}, history))
    assert found.columns.is_unique
    one = found[(found["arm"] == "base") & (found["seed"] == 1)].set_index("epoch")
    assert list(one.index) == [1, 2, 4]
    assert one["train.error"].to_dict() == pytest.approx({1: NAN, 2: 0.5, 4: 0.4}, nan_ok=True)
    assert one["validation.error"].to_dict() == pytest.approx({1: NAN, 2: NAN, 4: 0.9}, nan_ok=True)
    assert one["metrics.epoch"].to_dict() == pytest.approx({1: NAN, 2: 20.0, 4: NAN}, nan_ok=True)
