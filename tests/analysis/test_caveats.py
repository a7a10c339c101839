from __future__ import annotations

from typing import Any

import pytest
from makers import ablation, arm, plan, record

from stn_bench.analysis.analyse import analyse
from stn_bench.analysis.caveats import caveats, difference, in_words, suspicions
from stn_bench.analysis.cost import Costs
from stn_bench.settings import override
from stn_bench.study.spec import BASE, Arm
from stn_bench.subjects.stn.config import Config
from stn_bench.system.format import in_short
from stn_bench.tracking.results import ArmResults, Results

SYMMETRIC = {"model.input_range": "[-1,1]"}


def raised(one: Arm, *costs: Costs, base: dict[str, Any] | None = None, **rest: Any) -> tuple[str, ...]:
    """Return the caveats of an arm in a question of its own; costs are the arm's and the base's."""
    question = plan(ablation(one, base=base or {}, **rest)).questions[0]
    ours, theirs = costs or (Costs(), Costs())
    return caveats(question, one.name, {one.name: ours, BASE: theirs})


def differing(ours: dict[str, Any], theirs: dict[str, Any] | None = None) -> dict[str, Any]:
    one, other = (override(Config(), settings).resolved().flat() for settings in (ours, theirs or {}))
    return difference(one, other)


def test_the_difference_is_that_of_the_resolved_settings() -> None:
    assert differing(SYMMETRIC) == {
        "data.pad": (0.0, -1.0),
        "model.input_range": ("[0,1]", "[-1,1]"),
        "model.transformer.fill": (0.0, -1.0),
    }


def test_nothing_differs_from_itself() -> None:
    assert differing({}) == differing(SYMMETRIC, SYMMETRIC) == {}


def test_an_arm_with_one_factor_raises_nothing() -> None:
    assert raised(arm("wide", {"model.dropout": 0.5})) == ()


def test_settings_that_move_together_without_a_reason_make_the_verdict_invalid() -> None:
    (caveat,) = raised(arm("both", {"model.dropout": 0.5, "model.activation": "tanh"}))
    assert caveat.startswith("moves more than one factor: `model.dropout`, `model.activation`;")
    assert "makes its verdict invalid" in caveat


def test_settings_that_move_together_for_a_reason_are_told_with_it() -> None:
    (caveat,) = raised(arm("both", {"model.dropout": 0.5, "model.activation": "tanh"}, together="they are one"))
    assert caveat == "moves 2 settings as one factor: they are one"


def test_the_width_that_matches_is_no_factor() -> None:
    assert raised(arm("plain", {"model.transformer.kind": "none"}, match="flops")) == ()


def test_crossed_factors_raise_nothing() -> None:
    crossed = {"model.dropout": (0.2, 0.5), "model.activation": ("relu", "tanh")}
    assert raised(arm("both", {"model.dropout": 0.5, "model.activation": "tanh"}), factors=crossed) == ()


def test_an_arm_with_more_epochs_is_told() -> None:
    (caveat,) = raised(arm("long", {"train.epochs": 800}))
    assert caveat == "unequal budget: `train.epochs` 800 against 400; that makes its verdict invalid"


def test_what_the_subject_says_of_an_arm_and_of_a_base_stands_among_them() -> None:
    one = arm("uncoupled", {**SYMMETRIC, "model.transformer.fill": 0.0}, together="the mismatch")
    fill = "`model.transformer.fill` 0 is mid-grey in [-1,1], whose low end is −1"
    assert raised(one, Costs(flops=2.0), Costs(flops=1.0)) == (
        "moves 2 settings as one factor: the mismatch",
        fill,
        "FLOPs +100 %: 2 against 1",
    )
    base = {"model.transformer.fill": 0.5}
    question = plan(ablation(arm("drop", {"model.dropout": 0.5}), base=base)).questions[0]
    assert caveats(question, BASE, {}) == ("`model.transformer.fill` 0.5 is mid-grey in [0,1], whose low end is 0",)
    assert raised(arm("drop", {"model.dropout": 0.5}), base=base) == ()


def test_a_range_that_takes_its_pad_value_along_raises_nothing() -> None:
    assert raised(arm("symmetric", SYMMETRIC), base={"data.shapes": "varied"}) == ()


@pytest.mark.parametrize(
    ("path", "value", "shade"), [("data.pad", 0.0, "mid-grey"), ("model.transformer.fill", 1.0, "white")]
)
def test_a_range_without_its_low_end_is_told(path: str, value: float, shade: str) -> None:
    one = arm("uncoupled", {**SYMMETRIC, path: value}, together="the mismatch")
    assert raised(one, base={"data.shapes": "varied"})[1:] == (
        f"`{path}` {value:g} is {shade} in [-1,1], whose low end is −1",
    )


def test_a_value_in_between_is_told_by_its_place() -> None:
    (caveat,) = raised(arm("grey", {"model.transformer.fill": 0.3}))
    assert caveat == "`model.transformer.fill` 0.3 is grey, 30 % of white in [0,1], whose low end is 0"


def test_of_what_nothing_uses_it_is_told_that_nothing_does() -> None:
    (told,) = raised(arm("pad", {"data.pad": 0.5}, no_effect="a check"))
    assert told == "`data.pad` has no effect here: square pictures are not padded; meant so: a check"
    plain = {"model.transformer.kind": "none"}
    (told,) = raised(arm("fill", {"model.transformer.fill": 0.5}, no_effect="a check"), base=plain)
    assert told == "`model.transformer.fill` has no effect here: there is no transformer; meant so: a check"


@pytest.mark.parametrize("ratio", [0.95, 1.0, 1.05])
def test_costs_within_five_per_cent_raise_nothing(ratio: float) -> None:
    theirs = Costs(1000, 2e6, cpu_step_ms=10.0)
    ours = Costs(round(ratio * 1000, 9), round(ratio * 2e6, 9), cpu_step_ms=round(ratio * 10.0, 9))
    assert raised(arm("drop", {"model.dropout": 0.5}), ours, theirs) == ()


def test_costs_beyond_five_per_cent_are_told_in_either_direction() -> None:
    found = raised(
        arm("drop", {"model.dropout": 0.5}), Costs(500, 3e6, cpu_step_ms=10.6), Costs(1000, 2e6, cpu_step_ms=10.0)
    )
    assert found == (
        "parameters −50 %: 500 against 1 k",
        "FLOPs +50 %: 3 M against 2 M",
        "CPU time a step +6 %: 10.6 ms against 10.0 ms",
    )


def test_costs_that_are_not_known_raise_nothing() -> None:
    assert raised(arm("drop", {"model.dropout": 0.5}), Costs(500), Costs(None, 2e6, cpu_step_ms=10.0)) == ()


def test_counts_and_changes_read_well() -> None:
    assert [in_short(count) for count in (24, 98_000, 15_862_551, 2.5e9)] == ["24", "98 k", "15.9 M", "2.5 G"]
    changed = differing({"model.norm.affine": False, "model.width": 0.5})
    assert in_words(changed) == ["model.norm.affine true → false", "model.width 1 → 0.5"]


def test_an_untuned_arm_is_told_beside_a_tuned_base() -> None:
    question = plan(ablation(arm("fixed", {"model.dropout": 0.5}, tuned=False)), trials=2).questions[0]
    assert caveats(question, "fixed", {"fixed": Costs(), BASE: Costs()}) == (
        "unequal budget: 0 tuning trials against 2; that makes its verdict invalid",
    )


# Values that look as if nothing had been measured ---------------------------------------------------------------


def doubts(base: list[float], ours: list[float], metric: str = "test.accuracy") -> dict[str, tuple[str, ...]]:
    """Return arm -> what makes its values doubtful, of runs with these values on seeds 1, 2, …"""
    seeds = tuple(range(1, max(len(base), len(ours)) + 1))
    planned = plan(ablation(arm("wide", {"model.dropout": 0.5})), seeds=seeds, metric=metric)
    found = []
    for one, values in zip(planned.arms, (base, ours), strict=True):
        runs = [
            record(spec, f"{one.name}{seed}", **{metric.replace(".", "_"): value})
            for spec, seed, value in zip(one.verdict_specs({}), seeds, values, strict=False)
        ]
        found.append(ArmResults(one, (), {}, {run.seed: run for run in runs}, {}))
    analysis = analyse(Results(planned, tuple(found)))
    (question,) = planned.questions
    return {name: suspicions(question, name, analysis) for name in question.arms}


def test_values_that_differ_by_seed_and_arm_are_not_doubtful() -> None:
    assert doubts([0.5, 0.6, 0.7], [0.51, 0.6, 0.7]) == {BASE: (), "wide": ()}


def test_an_arm_that_equals_its_base_on_every_seed_is_doubtful() -> None:
    told = doubts([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert told[BASE] == ()
    assert told["wide"] == ("equals the base on each of 3 seeds; perhaps training does not use what it sets",)


def test_one_value_on_all_seeds_is_doubtful() -> None:
    told = doubts([0.5, 0.5, 0.5], [0.5, 0.6, 0.55])
    assert told[BASE] == ("has one value on all 3 seeds, 50.00 %; perhaps training does not use the seed",)
    assert told["wide"] == ()


def test_two_runs_say_nothing_of_that() -> None:
    assert doubts([0.5, 0.5], [0.5, 0.5]) == {BASE: (), "wide": ()}


@pytest.mark.parametrize(("value", "is_told"), [(1 / 36 - 0.01, True), (1 / 36 + 0.01, False)])
def test_a_model_that_is_right_by_chance_is_told(value: float, is_told: bool) -> None:
    classes = len(Config().data.alphabet)
    shifted = value - 1 / 36 + 1 / classes
    told = doubts([shifted - 0.001, shifted, shifted + 0.001], [shifted, shifted + 0.001, shifted - 0.001])
    line = f"is right no more often than by chance, 1 in {classes}"
    assert (line in told[BASE], line in told["wide"]) == (is_told, is_told)


def test_of_a_worse_arm_the_verdict_says_it_already() -> None:
    told = doubts([0.9, 0.91, 0.92], [0.01, 0.01, 0.01])
    assert told["wide"] == ()


def test_a_loss_has_no_chance() -> None:
    assert doubts([0.01, 0.02, 0.03], [0.02, 0.01, 0.03], "test.loss") == {BASE: (), "wide": ()}
