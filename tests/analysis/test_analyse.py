"""The analysis is made once, and everybody who is handed it says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from makers import FakeStore, ablation, arm, plan, record

from stn_bench.analysis import verdicts
from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.analysis.summarise import summarise
from stn_bench.report.build import FORMATS, build_report
from stn_bench.report.tables import arm_table
from stn_bench.tracking.results import gather

NOWHERE = Path("nowhere")
WIDE = arm("wide", {"model.width": 2.0})
BOTH = arm("both", {"model.width": 2.0, "model.dropout": 0.1})  # two factors, and no reason why they are one
VALUES = {"base": (0.90, 0.92, 0.94), "wide": (0.95, 0.965, 0.98), "both": (0.95, 0.965, 0.98)}


def analysed(**study: Any) -> Analysis:
    """Return the analysis of a study whose arms are decided at its first look, one of them invalid."""
    planned = plan(ablation(WIDE, BOTH), ablation(WIDE, name="again"), seeds=(1, 2, 3, 4), looks=(3, 4), **study)
    runs = [
        record(spec, f"{one.label}-{spec.seed}", test_accuracy=value)
        for one in planned.arms
        for spec, value in zip(one.verdict_specs({}), VALUES[one.name], strict=False)
    ]
    return analyse(gather(planned, FakeStore(*runs), NOWHERE))


def test_a_whole_report_judges_the_results_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    judge = verdicts.judge_questions
    monkeypatch.setattr(verdicts, "judge_questions", lambda *given: (asked.append(given), judge(*given))[1])
    analysis = analysed(confirm=(101, 102))
    files = build_report(analysis, lambda *_: NOWHERE, tuple(FORMATS))
    assert set(FORMATS.values()) <= set(files)
    summarise(analysis)
    assert (analysis.missing_runs, analysis.confirming_runs, len(analysis.stops)) == (0, 4, 1)
    assert len(asked) == 1


def test_an_invalid_verdict_has_not_stopped_wherever_it_is_told() -> None:
    analysis = analysed()
    both = analysis.verdicts["depth"]["both"]
    assert both.judgement.stopped  # its numbers alone would have
    assert (both.word, both.stopped) == ("invalid", False)
    assert analysis.stops == {1: ("depth/wide", "again/wide")}
    question = summarise(analysis).ablations[0]
    assert [one.stopped for one in question.arms] == [False, True, False]
    cells = {row[0]: row[6] for row in arm_table(question, analysis.plan.metric.unit, 2).rows}
    assert cells["`both`"] == "invalid"
    assert cells["`wide`"].startswith("better, stopped at look 1 of 2")


def test_the_same_arm_in_two_questions_is_told_apart_by_its_name() -> None:
    analysis = analysed()
    assert set(analysis.verdicts) == {"depth", "again"}
    assert [one.name for one in analysis.standings["again"]] == ["wide"]
    assert analysis.wanted_seeds == {"base": (1, 2, 3), "depth/wide": (1, 2, 3), "depth/both": (1, 2, 3)}


def test_a_base_is_told_by_what_its_question_sets_without_what_is_searched() -> None:
    """No run of it has the value that the file sets there."""
    base = {"optimizer.learning_rate": 0.003, "model.width": 0.5}
    planned = plan(ablation(WIDE, base=base), trials=2)
    assert "optimizer.learning_rate" in planned.questions[0].base.space
    (question,) = summarise(analyse(gather(planned, FakeStore(), NOWHERE))).ablations
    assert question.arms[0].set == {"model.width": 0.5}
