"""Arms that set what nothing reads would be compared with noise: they are refused, or meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import call, widen
from makers import ablation, arm, make_root, plan, study

from stn_bench.analysis.caveats import caveats
from stn_bench.analysis.cost import Costs
from stn_bench.study.plan import make_plan
from stn_bench.subject import find_subject
from stn_bench.system.errors import CatalogueError

STN, TOY = find_subject("stn"), find_subject("toy")
NOTHING = Costs(None, None, None, None, None, None)
PADS = "`data.pad` has no effect here: square pictures are not padded"

IDLE = [
    ({}, {"data.pad": 0.5}, PADS),
    ({}, {"data.correction.threshold": 100}, "`data.correction.threshold` has no effect here: pictures are not corr"),
    ({}, {"data.correction.deskew": False}, "`data.correction.deskew` has no effect here"),
    (
        {"model.transformer.kind": "none"},
        {"model.transformer.fill": 0.5},
        "`model.transformer.fill` has no effect here: there is no transformer",
    ),
    ({"model.transformer.kind": "none"}, {"model.transformer.sampler": "article"}, "there is no transformer"),
    ({"model.norm.kind": "none"}, {"model.norm.position": "before"}, "nothing is normalised"),
    ({"data.source": "mine"}, {"data.seed": 3}, "`data.seed` has no effect here: imported pictures are not drawn"),
    ({"data.source": "mine"}, {"data.shapes": "varied"}, "`data.shapes` has no effect here"),
]
READ = [
    ({"data.shapes": "varied"}, {"data.pad": 0.5}),
    ({"data.correction.kind": "opencv"}, {"data.pad": 0.5}),  # what a correction brings in from outside
    ({"data.correction.kind": "opencv"}, {"data.correction.threshold": 100}),
    ({}, {"model.transformer.fill": 0.5}),
    ({}, {"data.seed": 3}),
    ({"model.factory": "mine:build", "model.transformer.kind": "none"}, {"model.transformer.fill": 0.5}),
]


@pytest.mark.parametrize(("base", "sets", "message"), IDLE)
def test_an_arm_that_sets_what_nothing_reads_is_refused(
    base: Mapping[str, Any], sets: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(CatalogueError) as refused:
        plan(ablation(arm("odd", sets), base=base))
    assert message in str(refused.value)
    assert "[arms.odd]: is trained as [arms.base] is" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(("base", "sets"), READ)
def test_an_arm_that_sets_what_is_read_is_planned(base: Mapping[str, Any], sets: Mapping[str, Any]) -> None:
    assert "odd" in plan(ablation(arm("odd", sets), base=base)).questions[0].arms


def test_two_arms_that_nothing_read_sets_apart_are_refused() -> None:
    none = {"model.transformer.kind": "none"}
    with pytest.raises(CatalogueError, match=r"\[arms.other\]: is trained as \[arms.one\] is: .*fill` has no effect"):
        plan(ablation(arm("one", none), arm("other", {**none, "model.transformer.fill": 0.5}, together="so")))


def test_an_arm_that_is_meant_is_planned_and_flagged() -> None:
    planned = plan(ablation(arm("odd", {"data.pad": 0.5}, no_effect="shows what noise does")))
    told = caveats(planned.questions[0], "odd", {"odd": NOTHING, "base": NOTHING})
    assert f"{PADS}; meant so: shows what noise does" in told


def test_an_arm_that_sets_one_thing_more_is_flagged_alone() -> None:
    sets = {"model.width": 0.5, "data.pad": 0.5}
    planned = plan(ablation(arm("odd", sets, together="so")))
    assert PADS in caveats(planned.questions[0], "odd", {"odd": NOTHING, "base": NOTHING})


def test_any_subject_may_tell() -> None:
    subject = dataclasses.replace(TOY, idle=lambda settings: {"rate": "nothing learns"} if settings.depth == 8 else {})
    asked = study(subject="toy", base={"depth": 8})
    with pytest.raises(CatalogueError, match="`rate` has no effect here: nothing learns"):
        make_plan(asked, (ablation(arm("fast", {"rate": 0.5})),), subject)
    make_plan(study(subject="toy"), (ablation(arm("fast", {"rate": 0.5})),), subject)


def test_the_preview_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    widen(monkeypatch, 200)
    text = 'title = "Pad"\nquestion = "Does the pad matter?"\n[arms.grey]\nset = { "data.pad" = 0.5 }\n'
    root = make_root(tmp_path, ablation=text)
    assert call("plan", "small", "--root", root) == 2
    assert PADS in capsys.readouterr().err
    root = make_root(tmp_path, ablation=text + 'no_effect = "a check"\n')
    assert call("plan", "small", "--root", root) == 0
    assert f"! {PADS}; meant so: a check" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["slim", "article", "quickstart"])
def test_no_shipped_study_sets_what_nothing_reads(name: str) -> None:
    from stn_bench.study.catalogue import bundled_root
    from stn_bench.study.load import load_plan
    from stn_bench.system.workspace import Workspace

    for question in load_plan(name, Workspace.at(bundled_root())).questions:
        for one in question.tested:
            assert not [path for path in question.moved(one) if path in question.arms[one].idle]
