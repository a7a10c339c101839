from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import LEARNING_RATE, ablation, arm, plan

from stn_bench.study.plan import Plan, PlannedArm
from stn_bench.study.search_space import draw
from stn_bench.study.spec import Range, Tuning
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.layout import flops
from stn_bench.system.errors import CatalogueError, ConfigError

WIDE, NARROW = arm("wide", {"model.width": 2.0}), arm("narrow", {"model.width": 0.5})
DROPOUT = {"model.dropout": Range(low=0.0, high=0.5)}


def find(planned: Plan, label: str) -> PlannedArm:
    return next(one for one in planned.arms if one.label == label)


def rates(one: PlannedArm) -> list[float]:
    return [spec.settings["optimizer.learning_rate"] for spec in one.tuning_specs()]


def test_base_is_planned_once_for_all_ablations() -> None:
    planned = plan(ablation(WIDE), ablation(NARROW, name="other"))
    assert [one.label for one in planned.arms] == ["base", "depth/wide", "other/narrow"]
    assert planned.questions[0].base is planned.questions[1].base


def test_an_ablation_with_its_own_base_trains_that_too() -> None:
    planned = plan(ablation(WIDE), ablation(NARROW, name="other", base={"train.batch_size": 8}))
    assert [one.label for one in planned.arms] == ["base", "depth/wide", "other/base", "other/narrow"]
    assert find(planned, "other/narrow").settings["train.batch_size"] == 8


def test_a_base_that_repeats_the_studys_is_shared() -> None:
    planned = plan(ablation(WIDE, base={"train.batch_size": 32}))
    assert [one.label for one in planned.arms] == ["base", "depth/wide"]


def test_arms_that_are_equal_across_ablations_are_planned_once() -> None:
    planned = plan(ablation(WIDE), ablation(arm("broad", {"model.width": 2.0}), name="other"))
    assert [one.label for one in planned.arms] == ["base", "depth/wide"]
    other = planned.questions[1]
    assert (list(other.arms), other.arms["broad"].label) == (["base", "broad"], "depth/wide")
    assert other.written("broad").set == {"model.width": 2.0}


def test_cells_counts_trials_and_seeds_of_every_arm() -> None:
    assert plan(ablation(WIDE, NARROW), trials=4).jobs() == 3 * (4 + 3)


def test_arm_equal_to_the_base_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"depth.toml: \[arms.same\]: changes nothing in study `small`"):
        plan(ablation(arm("same", {"model.width": 1.0})))


def test_arm_that_only_the_study_makes_equal_to_the_base_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"\[arms.wide\]: changes nothing in study `small`"):
        plan(ablation(WIDE), base={"model.width": 2.0})


def test_two_equal_arms_are_refused() -> None:
    with pytest.raises(CatalogueError, match=r"\[arms.broad\]: is the same as \[arms.wide\] in study `small`"):
        plan(ablation(WIDE, arm("broad", {"model.width": 2.0})))


def test_arm_that_sets_what_is_searched_is_refused() -> None:
    with pytest.raises(
        CatalogueError, match=r"\[arms.fast\]: sets `optimizer.learning_rate`, which study `small` sea"
    ):
        plan(ablation(arm("fast", {"optimizer.learning_rate": 0.1})), trials=2)


def test_what_the_base_of_a_question_sets_is_searched_where_the_study_says_so() -> None:
    """The question's own value is what untuned studies train; of a tuned one no run has it."""
    question = ablation(WIDE, base={"optimizer.learning_rate": 0.1, "model.dropout": 0.3})
    for label in ("depth/base", "depth/wide"):
        planned = find(plan(question, trials=2), label)
        specs = (*planned.tuning_specs(), *planned.verdict_specs({"optimizer.learning_rate": 0.02}))
        assert 0.1 not in {spec.settings["optimizer.learning_rate"] for spec in specs}
        assert {spec.settings["model.dropout"] for spec in specs} == {0.3}
        assert "optimizer.learning_rate" not in planned.changes
    assert find(plan(question), "depth/base").changes == {"optimizer.learning_rate": 0.1, "model.dropout": 0.3}


def test_an_arm_kept_as_written_may_set_what_is_searched() -> None:
    planned = find(plan(ablation(arm("fast", {"optimizer.learning_rate": 0.1}, tuned=False)), trials=2), "depth/fast")
    assert (planned.trials, planned.tuning_specs()) == (0, ())
    assert {spec.settings["optimizer.learning_rate"] for spec in planned.verdict_specs({})} == {0.1}


def test_an_arm_kept_as_written_differs_from_the_tuned_base() -> None:
    assert [one.label for one in plan(ablation(arm("untuned", {}, tuned=False)), trials=2).arms] == [
        "base",
        "depth/untuned",
    ]


def test_contradiction_names_the_arm() -> None:
    with pytest.raises(CatalogueError, match=r"depth.toml: \[arms.push\]: `optimizer.momentum` belongs to sgd"):
        plan(ablation(arm("push", {"optimizer.momentum": 0.9})))


def test_range_that_leaves_the_settings_own_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"\[arms.drop\]: search of `model.dropout`: .* less than 1, got 1.5"):
        plan(ablation(arm("drop", {}, search={"model.dropout": Range(low=0.1, high=1.5)})), trials=2)


def test_override_from_the_command_line_reaches_every_arm() -> None:
    planned = plan(ablation(WIDE), overrides={"train.epochs": 2})
    assert [one.settings["train.epochs"] for one in planned.arms] == [2, 2]


def test_override_that_is_unknown_says_where_it_came_from() -> None:
    with pytest.raises(ConfigError, match=r"--set: no setting `train\.epoch`"):
        plan(ablation(WIDE), overrides={"train.epoch": 2})


def test_verdict_specs_are_one_a_seed_with_the_chosen_values() -> None:
    specs = find(plan(ablation(WIDE), trials=2), "depth/wide").verdict_specs({"optimizer.learning_rate": 0.02})
    assert [(spec.seed, spec.trial, spec.phase) for spec in specs] == [(s, None, "verdict") for s in (1, 2, 3)]
    assert {(spec.settings["optimizer.learning_rate"], spec.settings["model.width"]) for spec in specs} == {
        (0.02, 2.0)
    }


def test_specs_are_resolved() -> None:
    spec = find(plan(ablation(WIDE)), "base").verdict_specs({})[0]
    assert spec.settings == Config().resolved().flat()


def test_every_arm_tries_the_same_points() -> None:
    planned = plan(ablation(WIDE, NARROW), trials=5)
    assert len({tuple(rates(one)) for one in planned.arms}) == 1


def test_an_arms_own_search_leaves_the_shared_points_as_they_were() -> None:
    own = {"data.pad": Range(low=0.0, high=1.0)}  # sorts before the shared path
    planned = plan(ablation(arm("wide", {"model.width": 2.0}, search=own)), trials=5)
    assert rates(find(planned, "depth/wide")) == rates(find(planned, "base"))
    assert len({spec.settings["data.pad"] for spec in find(planned, "depth/wide").tuning_specs()}) == 5


def test_more_trials_begin_with_the_same_points() -> None:
    assert draw(LEARNING_RATE, 3, 7, Config) == draw(LEARNING_RATE, 8, 7, Config)[:3]


def test_two_tuning_seeds_differ_and_the_same_agrees() -> None:
    assert draw(LEARNING_RATE, 4, 7, Config) == draw(LEARNING_RATE, 4, 7, Config)
    assert draw(LEARNING_RATE, 4, 7, Config) != draw(LEARNING_RATE, 4, 8, Config)


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), st.integers(0, 100), st.booleans())
def test_points_lie_within_their_range(one: float, other: float, seed: int, log: bool) -> None:
    if one == other:
        return
    low, high = sorted((one, other))
    for point in draw({"optimizer.learning_rate": Range(low=low, high=high, log=log)}, 5, seed, Config):
        assert low <= point["optimizer.learning_rate"] <= high


def test_log_scale_gives_each_decade_its_share() -> None:
    exponents = sorted(math.log10(point["optimizer.learning_rate"]) for point in draw(LEARNING_RATE, 30, 3, Config))
    assert [sum(floor <= e < floor + 1 for e in exponents) for floor in (-4, -3, -2)] == pytest.approx([10] * 3, abs=1)
    assert max(after - before for before, after in pairwise(exponents)) < 3 * 3 / 30


def test_linear_scale_is_even() -> None:
    points = [point["model.dropout"] for point in draw(DROPOUT, 32, 3, Config)]
    assert sum(points) / 32 == pytest.approx(0.25, abs=0.02)


def test_whole_settings_get_whole_numbers() -> None:
    points = draw({"train.epochs": Range(low=2, high=9)}, 20, 0, Config)
    assert {type(point["train.epochs"]) for point in points} == {int}
    assert {point["train.epochs"] for point in points} <= set(range(2, 10))


def test_choices_are_each_tried_as_they_are() -> None:
    points = draw({"optimizer.name": Range(choices=("adam", "sgd"))}, 8, 0, Config)
    assert sorted(point["optimizer.name"] for point in points) == ["adam"] * 4 + ["sgd"] * 4


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    one = plan(ablation(arm("a", {"model.width": 2.0, "train.epochs": 3})), base={"data.seed": 1, "data.size": 32})
    other = plan(ablation(arm("a", {"train.epochs": 3, "model.width": 2.0})), base={"data.size": 32, "data.seed": 1})
    assert one.digest == other.digest


@pytest.mark.parametrize(
    "change",
    [
        {"base": {"train.epochs": 3}},
        {"seeds": (1, 2)},
        {"margin": 0.1},
        {"metric": "test.loss"},
        {"metric": "test.last_accuracy"},
        {"trials": 2},
        {"overrides": {"train.epochs": 3}},
    ],
)
def test_digest_changes_with_what_was_planned(change: dict[str, object]) -> None:
    assert plan(ablation(WIDE), **change).digest != plan(ablation(WIDE)).digest  # type: ignore[arg-type]


def test_digest_changes_with_an_arm() -> None:
    assert plan(ablation(WIDE)).digest != plan(ablation(NARROW)).digest


def test_a_matched_arm_gets_the_width_that_costs_what_the_base_costs() -> None:
    planned = plan(ablation(arm("plain", {"model.transformer.kind": "none"}, match="flops")))
    (question,) = planned.questions
    written, trained = question.written("plain"), question.arms["plain"]
    width = trained.settings["model.width"]
    assert width > 1
    assert written.set == trained.changes == {"model.transformer.kind": "none", "model.width": width}
    assert (question.matched("plain"), question.moved("plain")) == (
        {"model.width": width},
        ("model.transformer.kind",),
    )
    assert flops(trained.config) == pytest.approx(flops(question.base.config), rel=0.03)


def test_what_match_found_in_one_question_is_moved_where_another_writes_it_out() -> None:
    """The two arms share their runs, whichever question comes first."""
    matched = ablation(arm("plain", {"model.transformer.kind": "none"}, match="flops"), name="matched")
    width = plan(matched).questions[0].matched("plain")["model.width"]
    both = {"model.transformer.kind": "none", "model.width": width}
    written = ablation(arm("both", both), name="written")
    for questions in ((matched, written), (written, matched)):
        planned = plan(*questions)
        by_name = {one.ablation.name: one for one in planned.questions}
        assert by_name["matched"].arms["plain"] is by_name["written"].arms["both"]
        assert by_name["matched"].moved("plain") == ("model.transformer.kind",)
        assert by_name["written"].moved("both") == ("model.transformer.kind", "model.width")
        assert by_name["written"].matched("both") == {}


def test_a_setting_that_an_arm_writes_as_the_base_has_it_is_not_moved() -> None:
    (question,) = plan(ablation(arm("wide", {"model.width": 2.0, "train.batch_size": 32}))).questions
    assert question.base.settings["train.batch_size"] == 32
    assert question.moved("wide") == ("model.width",)


def test_an_arm_that_cannot_be_matched_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"\[arms.plain\]: `match`: .*not known before it is built"):
        plan(ablation(arm("plain", {"model.factory": "mine:network"}, match="flops")))


def test_tuning_may_be_for_some_ablations_only() -> None:
    one, other = ablation(WIDE), ablation(NARROW, name="other")
    tuning = Tuning(trials=2, search=LEARNING_RATE, ablations=("other",))
    planned = plan(one, other, tuning=tuning)
    assert {arm.label: arm.trials for arm in planned.arms} == {
        "base": 0,
        "depth/wide": 0,
        "other/base": 2,
        "other/narrow": 2,
    }
    assert planned.jobs() == 4 * 3 + 2 * 2


def test_tuned_bases_are_shared_between_ablations() -> None:
    ablations = (ablation(WIDE), ablation(NARROW, name="other"), ablation(WIDE, name="third"))
    tuning = Tuning(trials=2, search=LEARNING_RATE, ablations=("other", "third"))
    planned = plan(*ablations, tuning=tuning)
    assert planned.questions[1].base is planned.questions[2].base
    assert planned.questions[0].base is not planned.questions[1].base


def test_an_arm_with_settings_to_search_needs_tuning() -> None:
    with pytest.raises(
        CatalogueError, match=r"\[arms.dropped\]: has settings to search, but study `small` tunes noth"
    ):
        plan(ablation(arm("dropped", {"model.width": 0.5}, search=DROPOUT)))
