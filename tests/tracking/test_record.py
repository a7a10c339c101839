"""What MLflow shows on the page of a run: texts of files, as they are."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from makers import ablation, arm, plan
from markdown_it import MarkdownIt

from stn_bench.tracking.record import arm_note, run_note, told_epochs

PLAN = plan(ablation(arm("wide", {"model.width": 2.0})))
KEY = "0123456789ab" * 5
NAN = math.nan


def page(note: str) -> str:
    return MarkdownIt("gfm-like", {"linkify": False}).render(note)


def test_a_run_is_told_by_study_arm_seed_and_question() -> None:
    planned = plan(ablation(arm("wide", {"model.width": 2.0}), name="depth"))
    (spec, *_) = planned.arms[1].verdict_specs({"optimizer.learning_rate": 0.01})
    shown = page(run_note(spec, KEY, "Does depth matter?"))
    for part in (
        "<strong>depth/wide, seed 1</strong> of study <strong>small</strong>",
        "<p>Does depth matter?</p>",
        "<code>model.width</code> = <code>2.0</code>",
        "for the verdict, seed 1",
        "chosen by tuning: <code>optimizer.learning_rate</code> = <code>0.01</code>",
        "its parent run is the arm",
        "<code>stn-bench why 0123456789ab</code>",
    ):
        assert part in shown
    (trial, *_) = plan(ablation(arm("wide", {"model.width": 2.0})), trials=2).arms[0].tuning_specs()
    assert "for tuning, seed 1000, trial 0" in page(run_note(trial, KEY))
    assert "parent" not in run_note(trial, KEY, has_arm=False)


@pytest.mark.parametrize(
    "text", ["<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "# a\n- b", "![p](http://x)", "`` ` <b>"]
)
def test_texts_of_files_are_text_on_the_page(text: str) -> None:
    (spec, *_) = PLAN.arms[1].verdict_specs({})
    odd = dataclasses.replace(spec, changes={"model.factory": text}, chosen={text: text})
    plain = tags(page(run_note(spec, KEY, "Does it?"))) | {"code"}
    assert tags(page(run_note(odd, KEY, text))) == plain
    assert tags(page(arm_note(dataclasses.replace(PLAN.arms[1], changes={text: text})))) <= plain


@pytest.mark.parametrize(
    ("series", "told"),
    [
        ((), {}),
        ((0.5, 0.4), {1: 0.5, 2: 0.4}),
        ((NAN, 0.5, NAN, 0.4), {2: 0.5, 4: 0.4}),
        ((0.5, NAN, NAN), {1: 0.5, 2: NAN, 3: NAN}),  # it diverged
        ((NAN, math.inf), {2: math.inf}),
    ],
)
def test_a_gap_is_an_epoch_that_was_not_told(series: tuple[float, ...], told: dict[int, float]) -> None:
    assert told_epochs(series) == pytest.approx(told, nan_ok=True)


def tags(shown: str) -> set[str]:
    return set(re.findall(r"<(\w+)", shown))
