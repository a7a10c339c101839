from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import STN, ablation, arm, plan

from stn_bench.study.catalogue import Catalogue, load
from stn_bench.study.fixed import Deviation, Preregistration, Reads
from stn_bench.study.plan import Plan, make_plan
from stn_bench.study.preregistration import (
    changes_since,
    check_preregistration,
    preregister,
    preregistration_path,
    read_preregistration,
    terms_of,
    with_preregistration,
    write_preregistration,
)
from stn_bench.study.spec import Claim
from stn_bench.system.errors import PlanError

WIDE, NARROW = arm("wide", {"model.width": 2.0}), arm("narrow", {"model.width": 0.5})
CLAIM = Claim(says="Wide is better", asked="wide against the base", arm="wide")


def small(**rest: Any) -> Plan:
    return plan(ablation(WIDE, claims=(CLAIM,)), **rest)


def changes(before: Plan, after: Plan) -> list[str]:
    return changes_since(preregister(before), after)


def under(fixed: Preregistration, planned: Plan) -> Plan:
    return dataclasses.replace(planned, preregistration=fixed)


def test_what_is_frozen_holds_the_hypotheses_and_the_rules() -> None:
    terms = preregister(small(trials=2)).terms
    assert {"metric", "direction", "margin", "seeds", "looks", "confirm", "correction", "max_failed"} <= terms.keys()
    assert terms["questions"]["depth"]["question"] == "Does depth matter?"
    assert terms["questions"]["depth"]["arms"]["wide"]["changes"] == {"model.width": 2.0}
    assert terms["tuning"] == {
        "trials": 2,
        "seed": 1000,
        "search": {"optimizer.learning_rate": {"low": 0.0001, "high": 0.1, "log": True}},
    }
    assert terms["correction"] == {"method": "ranked", "family": "question"}


def test_the_classic_is_called_what_it_was_when_nothing_else_could_be_chosen() -> None:
    assert terms_of(small(correction="holm"))["correction"] == {"method": "Holm", "family": "question"}
    assert changes(small(correction="holm"), small()) == ["correction method: was Holm, is ranked"]


def test_levels_that_were_calibrated_are_frozen_with_the_plan() -> None:
    calibrated = dataclasses.replace(small(), levels={1: 0.03, 2: 0.029})
    assert terms_of(calibrated)["correction"]["levels"] == {"1": 0.03, "2": 0.029}


def test_the_plan_itself_is_no_change() -> None:
    assert changes(small(trials=2), small(trials=2)) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"margin": 0.01}, "margin: was 0.005, is 0.01"),
        ({"metric": "test.last_accuracy"}, "metric: was test.accuracy, is test.last_accuracy"),
        ({"max_failed": 1}, "max_failed: was 0, is 1"),
        ({"family": "study"}, "correction family: was question, is study"),
        ({"confirm": (7, 8, 9)}, "confirm: was none, is 7, 8, 9"),
        ({"overrides": {"train.epochs": 3}}, "train.epochs: was 400, is 3"),
        ({"base": {"train.batch_size": 8}}, "train.batch_size: was 32, is 8"),
    ],
)
def test_a_change_is_named_with_what_it_was_and_is(change: dict[str, Any], line: str) -> None:
    assert changes(small(), small(**change)) == [line]


def test_another_metric_brings_its_direction() -> None:
    assert changes(small(), small(metric="test.loss")) == [
        "metric: was test.accuracy, is test.loss",
        "direction: was maximize, is minimize",
    ]


def test_another_direction_is_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a metric that the subject does not declare, the study says which way it is better."""
    free = dataclasses.replace(STN, metrics=())
    monkeypatch.setattr("makers.find_subject", lambda name: free)
    own = {"metric": "my.score"}
    up, down = small(**own, direction="maximize"), small(**own, direction="minimize")
    assert changes(up, down) == ["direction: was maximize, is minimize"]


def test_more_seeds_are_a_change_of_seeds_and_of_looks() -> None:
    assert changes(small(), small(seeds=(1, 2, 3, 4))) == ["seeds: was 1, 2, 3, is 1, 2, 3, 4", "looks: was 3, is 4"]


def test_a_tuning_budget_is_a_change_of_its_own() -> None:
    assert changes(small(trials=2), small(trials=4)) == ["tuning trials: was 2, is 4"]


def test_another_arm_is_named_once() -> None:
    more = plan(ablation(WIDE, NARROW, claims=(CLAIM,)))
    assert changes(small(), more) == ["depth narrow: was not there, is there"]
    assert changes(more, small()) == ["depth narrow: was there, is not there"]


def test_another_question_is_named_once() -> None:
    more = plan(ablation(WIDE, claims=(CLAIM,)), ablation(NARROW, name="other"))
    assert changes(small(), more) == ["other: was not there, is there"]


def test_an_arms_setting_names_question_and_arm() -> None:
    wider = plan(ablation(arm("wide", {"model.width": 3.0}), claims=(CLAIM,)))
    assert changes(small(), wider) == ["depth wide model.width: was 2.0, is 3.0"]


def test_a_question_and_a_claim_are_hypotheses_too() -> None:
    turned = CLAIM.model_copy(update={"expect": "worse"})
    other = plan(ablation(WIDE, claims=(turned,)))
    assert changes(small(), other) == ["depth claims 1 expect: was not there, is worse"]
    reworded = ablation(WIDE, claims=(CLAIM,)).model_copy(update={"question": "Does width matter?"})
    assert changes(small(), plan(reworded)) == ["depth question: was Does depth matter?, is Does width matter?"]


def test_a_setting_that_differs_in_one_question_names_it() -> None:
    one, other = ablation(WIDE), ablation(NARROW, name="other")
    changed = ablation(NARROW, name="other", base={"train.epochs": 3})
    assert changes(plan(one, other), plan(one, changed)) == ["other: train.epochs: was 400, is 3"]
    assert changes(plan(one, other), plan(one, other, overrides={"train.epochs": 3})) == [
        "train.epochs: was 400, is 3"
    ]


def test_a_setting_younger_than_the_plan_had_its_default() -> None:
    fixed = preregister(small())
    older = json.loads(json.dumps(fixed.terms))
    del older["settings"]["model.dropout"]
    older = fixed.model_copy(update={"terms": older})
    assert changes_since(older, small()) == []
    assert changes_since(older, small(base={"model.dropout": 0.5})) == ["model.dropout: was 0.2, is 0.5"]


def test_title_and_scope_may_change() -> None:
    assert changes(small(), small(title="Another title", scope="Another scope")) == []


# Freezing and declaring --------------------------------------------------------------------------------------------


def test_a_frozen_plan_keeps_its_date_and_digest() -> None:
    fixed = preregister(small())
    assert preregister(under(fixed, small())) == fixed
    assert fixed.digest == small().digest
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", fixed.date)


def test_what_was_not_frozen_or_has_not_changed_may_run() -> None:
    check_preregistration(small())
    check_preregistration(under(preregister(small()), small()))


def test_a_changed_plan_is_refused() -> None:
    changed = under(preregister(small()), small(margin=0.01))
    with pytest.raises(PlanError, match=r"`small` is not the plan that was frozen .*: margin: was 0\.005, is 0\.01\n"):
        check_preregistration(changed)
    with pytest.raises(PlanError, match=r"has changed since: margin: was 0\.005, is 0\.01\n.*--because"):
        preregister(changed)


def test_a_refusal_counts_what_it_does_not_name() -> None:
    settings = {"train.epochs": 3, "train.batch_size": 8, "model.dropout": 0.5, "model.width": 0.5, "data.seed": 1}
    with pytest.raises(PlanError, match="; and 2 more\n") as caught:
        check_preregistration(under(preregister(small()), small(overrides=settings)))
    assert len(str(caught.value).splitlines()) == 2


def test_a_declared_change_may_run_and_stays_on_record() -> None:
    before, after = small(), small(margin=0.01)
    fixed = preregister(under(preregister(before), after), "a margin of half a point was too fine")
    check_preregistration(under(fixed, after))
    (deviation,) = fixed.deviations
    assert deviation == Deviation(
        date=deviation.date,
        because="a margin of half a point was too fine",
        changes=("margin: was 0.005, is 0.01",),
        digest=after.digest,
    )
    assert (fixed.digest, fixed.terms) == (before.digest, terms_of(after))


def test_going_back_is_a_change_too() -> None:
    fixed = preregister(under(preregister(small()), small(margin=0.01)), "finer")
    with pytest.raises(PlanError, match=r"margin: was 0\.01, is 0\.005"):
        check_preregistration(under(fixed, small()))
    assert len(preregister(under(fixed, small()), "back again").deviations) == 2


def test_a_reason_is_one_line_and_an_empty_one_is_none() -> None:
    changed = under(preregister(small()), small(margin=0.01))
    assert preregister(changed, " too\n  fine ").deviations[0].because == "too fine"
    with pytest.raises(PlanError, match="has changed since"):
        preregister(changed, "  ")


def test_a_reason_without_a_change_is_refused() -> None:
    with pytest.raises(PlanError, match="has none yet"):
        preregister(small(), "why not")
    with pytest.raises(PlanError, match="has nothing to declare"):
        preregister(under(preregister(small()), small()), "why not")


# The file ----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=40).filter(str.strip))
@settings(max_examples=20, deadline=None)
def test_what_is_written_is_read(because: str) -> None:
    fixed = preregister(under(preregister(small()), small(margin=0.01)), because)
    with tempfile.TemporaryDirectory() as folder:
        path = write_preregistration(Path(folder), fixed)
        assert path == Path(folder, "studies/small.plan.json")
        assert read_preregistration(Path(folder), "small") == fixed
        assert sorted(path.parent.iterdir()) == [path]


def test_nothing_frozen_is_none(tmp_path: Path) -> None:
    assert read_preregistration(tmp_path, "small") is None
    assert with_preregistration(small(), tmp_path) == small()


def test_a_plan_takes_up_what_was_frozen_and_keeps_its_digest(tmp_path: Path) -> None:
    write_preregistration(tmp_path, preregister(small()))
    planned = with_preregistration(small(margin=0.01), tmp_path)
    assert planned.preregistration is not None
    assert planned.digest == small(margin=0.01).digest


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '"text"', "{}", '{"seal": 1}', '{"study": "small"}', "\xff", "[" * 100_000]
)
def test_something_else_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = preregistration_path(tmp_path, "small")
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(
        PlanError, match=r"small\.plan\.json: not a frozen plan of stn-bench; restore it, or "
    ) as caught:
        read_preregistration(tmp_path, "small")
    assert "\n" not in str(caught.value)


def test_a_file_changed_by_hand_is_refused(tmp_path: Path) -> None:
    path = write_preregistration(tmp_path, preregister(small()))
    path.write_text(path.read_text().replace('"margin": 0.005', '"margin": 0.05'))
    with pytest.raises(PlanError, match=r"small\.plan\.json: was changed by hand or is damaged"):
        read_preregistration(tmp_path, "small")


def test_the_file_of_another_study_is_refused(tmp_path: Path) -> None:
    path = write_preregistration(tmp_path, preregister(small()))
    path.rename(preregistration_path(tmp_path, "mine"))
    with pytest.raises(PlanError, match=r"mine\.plan\.json: is the frozen plan of study `small`, expected `mine`"):
        read_preregistration(tmp_path, "mine")


def test_a_frozen_plan_is_no_study(tmp_path: Path) -> None:
    before = Catalogue(tmp_path).names("studies")
    write_preregistration(tmp_path, preregister(small()))
    assert Catalogue(tmp_path).names("studies") == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file in the folder's place")
    with pytest.raises(PlanError, match=r"small\.plan\.json: cannot be written"):
        write_preregistration(tmp_path, preregister(small()))


@pytest.mark.parametrize("name", Catalogue(Path("nowhere")).names("studies"))
def test_every_study_that_comes_along_can_be_frozen(name: str, tmp_path: Path) -> None:
    planned = make_plan(*load(tmp_path, name))
    write_preregistration(tmp_path, preregister(planned))
    check_preregistration(with_preregistration(planned, tmp_path))


def test_what_makes_several_settings_one_factor_is_fixed() -> None:
    """Else an arm that is invalid could become valid, with its numbers known: a grid, or settings found by `match`."""
    both = arm("2_64", {"model.width": 2.0, "train.batch_size": 64})
    factors = {"model.width": (1.0, 2.0), "train.batch_size": (32, 64)}
    before, after = plan(ablation(both)), plan(ablation(both, factors=factors))
    assert changes(before, after) == [
        "depth factors model.width: was not there, is 1.0, 2.0",
        "depth factors train.batch_size: was not there, is 32, 64",
    ]
    plain = {"model.transformer.kind": "none"}
    matched = plan(ablation(arm("plain", plain, match="flops")))
    found = matched.questions[0].matched("plain")
    assert changes(plan(ablation(arm("plain", {**plain, **found}))), matched) == [
        "depth plain matched: was none, is model.width"
    ]


def test_plans_of_older_versions_lack_factors_and_what_match_found() -> None:
    older = preregister(plan(ablation(WIDE)))
    for question in older.terms["questions"].values():
        del question["factors"]
        for one in question["arms"].values():
            del one["matched"]
    factors = {"model.width": (1.0, 2.0)}
    assert changes_since(older, plan(ablation(WIDE, factors=factors))) == []


def test_the_direction_of_tuning_is_fixed() -> None:
    def tuned(direction: str) -> Plan:
        planned = plan(ablation(WIDE), trials=2)
        tuning = planned.study.tuning.model_copy(update={"metric": "validation.loss"})
        metric = dataclasses.replace(planned.tuning[0], name="validation.loss", direction=direction)
        return dataclasses.replace(
            planned, study=planned.study.model_copy(update={"tuning": tuning}), tuning=(metric,)
        )

    assert changes(tuned("minimize"), tuned("maximize")) == ["tuning direction: was minimize, is maximize"]


def test_a_file_of_older_versions_keeps_its_seal_and_names_no_code(tmp_path: Path) -> None:
    fixed = preregister(small())
    older = fixed.model_copy(update={"terms": {k: v for k, v in fixed.terms.items() if k != "subject"}})
    assert "runs" not in older.model_dump()
    write_preregistration(tmp_path, older)
    planned = with_preregistration(dataclasses.replace(small(), reads=Reads({"mine:build": "ab"}, {})), tmp_path)
    check_preregistration(planned)
