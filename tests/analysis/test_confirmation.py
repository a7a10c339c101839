"""What fresh seeds say of the arm that other seeds chose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from makers import FakeStore, ablation, arm, plan, record
from scipy import stats

from stn_bench.analysis.analyse import analyse
from stn_bench.analysis.confirmation import ConfirmationSummary
from stn_bench.analysis.summarise import summarise
from stn_bench.report.frames import runs_table
from stn_bench.study.plan import Plan, RunSpec
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import Results, gather

FRESH = (101, 102, 103)
BASE, WIDE, SLIM = (0.70, 0.72, 0.74), (0.80, 0.81, 0.85), (0.60, 0.63, 0.65)
Values = Sequence[float | str]


def study(**rest: Any) -> Plan:
    arms = (arm("slim", {"model.width": 0.5}), arm("wide", {"model.width": 2.0}))
    return plan(ablation(*arms), **{"confirm": FRESH, "margin": 0.01, **rest})


def results(planned: Plan, wide: Values, base: Values, selected: Values = WIDE) -> Results:
    """Return results whose verdict prefers `wide`, and these values or outcomes of it and its base on fresh seeds."""
    found = []
    for one, values, fresh in zip(planned.arms, (BASE, SLIM, selected), (base, (), wide), strict=True):
        found += [_record(spec, value) for spec, value in zip(one.verdict_specs({}), values, strict=True)]
        found += [_record(spec, value) for spec, value in zip(one.confirm_specs({}), fresh, strict=False)]
    return gather(planned, FakeStore(*found), Path("nowhere"))


def _record(spec: RunSpec, value: float | str) -> RunRecord:
    name = f"{spec.label}-{spec.seed}"
    return (
        record(spec, name, outcome=value)
        if isinstance(value, str)
        else record(spec, name, test_accuracy=value, test_loss=value)
    )


def confirmation(found: Results) -> ConfirmationSummary | None:
    return summarise(analyse(found)).ablations[0].confirmation


def confirmed(wide: Values, base: Values, selected: Values = WIDE, **rest: Any) -> ConfirmationSummary:
    found = confirmation(results(study(**rest), wide, base, selected))
    assert found is not None
    return found


def test_both_numbers_stand_beside_each_other() -> None:
    """The selected differences are 0.10, 0.09 and 0.11; the fresh ones 0.05, 0.06 and 0.07."""
    found = confirmed((0.75, 0.77, 0.79), (0.70, 0.71, 0.72))
    assert (found.arm, found.seeds, found.wins) == ("wide", FRESH, 3)
    assert (found.values, found.base_values) == ((0.75, 0.77, 0.79), (0.70, 0.71, 0.72))
    assert (found.selected_difference, found.difference) == pytest.approx((0.10, 0.06))
    theirs = stats.ttest_rel(found.values, found.base_values)
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_fresh_seeds_change_nothing_in_the_verdict() -> None:
    planned = study()
    without = summarise(analyse(results(planned, (), ()))).ablations[0]
    assert without.confirmation is None
    assert summarise(analyse(results(planned, (0.1, 0.2, 0.1), (0.9, 0.9, 0.9)))).ablations[0].arms == without.arms


@pytest.mark.parametrize(
    ("wide", "agrees"),
    [
        ((0.75, 0.77, 0.79), True),
        ((0.60, 0.80, 0.75), False),  # ahead, but not surely
        ((0.60, 0.61, 0.62), False),  # surely behind
    ],
)
def test_what_was_ahead_must_be_surely_ahead_again(wide: Values, agrees: bool) -> None:
    assert confirmed(wide, (0.70, 0.71, 0.72)).agrees is agrees


@pytest.mark.parametrize(("wide", "agrees"), [((0.65, 0.66, 0.66), True), ((0.75, 0.77, 0.79), False)])
def test_where_the_base_was_best_the_second_must_be_surely_behind_again(wide: Values, agrees: bool) -> None:
    assert confirmed(wide, (0.70, 0.71, 0.72), selected=(0.65, 0.66, 0.70)).agrees is agrees


@pytest.mark.parametrize(("wide", "agrees"), [((0.701, 0.711, 0.72), True), ((0.75, 0.77, 0.79), False)])
def test_what_was_equivalent_must_lie_within_the_margin_again(wide: Values, agrees: bool) -> None:
    found = confirmed(wide, (0.70, 0.71, 0.72), selected=(0.701, 0.72, 0.741))
    assert found.agrees is agrees


def test_equal_fresh_differences_without_a_resolution_confirm_nothing() -> None:
    found = confirmed((0.25, 0.375, 0.5), (0.5, 0.625, 0.75), metric="test.loss", selected=(0.50, 0.51, 0.55))
    assert (found.p, found.wins, found.agrees) == (None, 3, False)


def test_wins_are_counted_the_way_that_is_better() -> None:
    assert confirmed((0.75, 0.77, 0.79), (0.70, 0.71, 0.72), metric="test.loss", selected=(0.5, 0.5, 0.5)).wins == 0


@pytest.mark.parametrize(("outcome", "told"), [("diverged", "diverged"), ("crashed", "crashed")])
def test_a_fresh_seed_that_failed_is_told_and_confirms_nothing(outcome: str, told: str) -> None:
    found = confirmed((0.75, 0.77, outcome), (0.70, 0.71, 0.72))
    assert (found.seeds, found.agrees) == (FRESH[:2], False)
    assert found.failed == {103: f"`wide` {told}: loss is nan at epoch 2"}


def test_a_failure_that_the_study_allows_does_not_forbid_it() -> None:
    fresh = ("diverged", 0.77, 0.79, 0.80), (0.70, 0.71, 0.7301, 0.74)
    found = confirmed(*fresh, max_failed=1, confirm=(*FRESH, 104))
    assert (found.agrees, found.reason, list(found.failed)) == (True, "", [101])
    assert confirmed(*fresh, confirm=(*FRESH, 104)).reason == "1 of 4 fresh seeds of `wide` failed"


def test_fresh_seeds_say_nothing_before_all_that_are_planned_have_ended() -> None:
    five = (*FRESH, 104, 105)
    found = confirmed((0.75, 0.77, 0.79), (0.70, 0.71, 0.72), confirm=five)
    assert (found.agrees, found.reason) == (False, "3 of 5 fresh seeds have ended")
    assert found.difference == pytest.approx(0.06)
    only_ours = confirmed((0.75, 0.77, 0.79, 0.78, 0.78), (0.70, 0.71, 0.72, 0.71), confirm=five)
    assert (only_ours.agrees, only_ours.reason) == (False, "4 of 5 fresh seeds have ended")


def test_two_fresh_seeds_say_nothing_however_sure_they_look() -> None:
    found = confirmed((0.75, 0.76), (0.70, 0.7101), confirm=FRESH[:2])
    assert found.p is not None
    assert found.p < 0.05
    assert (found.agrees, found.reason) == (False, "it takes three")
    failed = confirmed(("diverged", 0.77, 0.79), (0.70, 0.71, 0.7301), max_failed=1)
    assert (failed.agrees, failed.reason) == (False, "it takes three")


def test_fresh_seeds_that_differ_alike_say_nothing_where_no_test_can_be_made() -> None:
    """A loss has no resolution: nothing tells how much the differences could have scattered."""
    found = confirmed((1.0, 2.0, 3.0), (1.25, 2.25, 3.25), metric="test.loss", selected=(0.5, 0.5, 0.5))
    assert (found.difference, found.p, found.agrees) == (-0.25, None, False)
    assert found.reason.startswith("all pairs differ alike, and no test can be made")


def test_a_fresh_seed_without_a_finite_value_has_failed() -> None:
    found = confirmed((0.75, 0.77, math.nan), (0.70, 0.71, 0.72))
    assert found.failed == {103: "`wide` diverged: test.accuracy is not finite"}
    assert found.reason == "1 of 3 fresh seeds of `wide` failed"


def test_one_fresh_seed_has_no_interval() -> None:
    found = confirmed((0.75,), (0.70,))
    assert (found.interval, found.p, found.agrees) == (None, None, False)


def test_a_seed_that_only_one_of_the_two_has_does_not_count() -> None:
    assert confirmation(results(study(), (0.75,), ())) is None


def test_the_table_of_runs_tells_fresh_seeds_apart() -> None:
    table = runs_table(results(study(), (0.75, "crashed"), (0.70,)))
    fresh = table[table["phase"] == "confirm"]
    assert sorted(zip(fresh["arm"], fresh["seed"], fresh["status"], strict=True)) == [
        ("base", 101, "finished"),
        ("wide", 101, "finished"),
        ("wide", 102, "crashed"),
    ]


def test_a_run_is_listed_under_the_phase_that_it_serves_here() -> None:
    """Another study trained it to confirm; by its run key it is this one's."""
    planned = study()
    found = results(planned, (), ())
    borrowed = found.arms[0].runs[1].model_copy(update={"phase": "confirm"})
    arms = (type(found.arms[0])(planned.arms[0], (), {}, {1: borrowed}, {}),)
    assert list(runs_table(Results(planned, arms))["phase"]) == ["verdict"]
