from __future__ import annotations

from typing import Any

import pytest
from makers import ablation, arm, plan, record

from stn_bench.analysis.caveats import caveats, difference, in_words
from stn_bench.analysis.cost import Costs, known_costs, measured_costs
from stn_bench.settings import override
from stn_bench.study.spec import Arm
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.layout import flops, parameters

SYMMETRIC = {"model.input_range": "[-1,1]"}
NO_COSTS = (Costs(), Costs())


def raised(one: Arm, *costs: Costs, base: dict[str, Any] | None = None, **rest: Any) -> tuple[str, ...]:
    """Return the flags of an arm in a question of its own."""
    planned = plan(ablation(one, base=base or {}, **rest)).ablations[0]
    return flags(planned, one.name, *(costs or NO_COSTS))


def test_the_difference_is_that_of_the_resolved_settings() -> None:
    changed = difference(override(Config(), SYMMETRIC), Config())
    assert changed == {
        "data.pad": (0.0, -1.0),
        "model.input_range": ("[0,1]", "[-1,1]"),
        "model.transformer.fill": (0.0, -1.0),
    }


def test_nothing_differs_from_itself() -> None:
    written_out = Config().resolved()
    assert difference(Config(), written_out) == difference(written_out, Config()) == {}


def test_an_arm_with_one_factor_raises_nothing() -> None:
    assert raised(arm("wide", {"model.dropout": 0.5})) == ()


def test_settings_that_move_together_without_a_reason_make_the_verdict_invalid() -> None:
    (flag,) = raised(arm("both", {"model.dropout": 0.5, "model.activation": "tanh"}))
    assert flag.startswith("moves more than one factor: `model.dropout`, `model.activation`;")
    assert "makes its verdict invalid" in flag


def test_settings_that_move_together_for_a_reason_are_flagged_with_it() -> None:
    (flag,) = raised(arm("both", {"model.dropout": 0.5, "model.activation": "tanh"}, together="they are one"))
    assert flag == "moves 2 settings as one factor: they are one"


def test_the_width_that_matches_is_no_factor() -> None:
    assert raised(arm("plain", {"model.transformer.kind": "none"}, match="flops")) == ()


def test_crossed_factors_are_not_flagged() -> None:
    crossed = {"model.dropout": (0.2, 0.5), "model.activation": ("relu", "tanh")}
    assert raised(arm("both", {"model.dropout": 0.5, "model.activation": "tanh"}), factors=crossed) == ()


def test_an_arm_with_more_epochs_is_flagged() -> None:
    (flag,) = raised(arm("long", {"train.epochs": 800}))
    assert flag == "unequal budget: `train.epochs` 800 against 400; that makes its verdict invalid"


def test_a_range_that_takes_its_pad_value_along_raises_nothing() -> None:
    assert raised(arm("symmetric", SYMMETRIC), base={"data.shapes": "varied"}) == ()


@pytest.mark.parametrize(
    ("path", "value", "shade"), [("data.pad", 0.0, "mid-grey"), ("model.transformer.fill", 1.0, "white")]
)
def test_a_range_without_its_low_end_is_flagged(path: str, value: float, shade: str) -> None:
    one = arm("uncoupled", {**SYMMETRIC, path: value}, together="the mismatch")
    assert raised(one, base={"data.shapes": "varied"})[1:] == (
        f"`{path}` {value:g} is {shade} in [-1,1], whose low end is −1",
    )


def test_a_value_in_between_is_told_by_its_place() -> None:
    (flag,) = raised(arm("grey", {"model.transformer.fill": 0.3}))
    assert flag == "`model.transformer.fill` 0.3 is grey, 30 % of white in [0,1], whose low end is 0"


def test_what_nothing_uses_is_not_flagged() -> None:
    assert raised(arm("pad", {"data.pad": 0.5})) == ()  # square pictures are not padded
    plain = {"model.transformer.kind": "none"}
    assert raised(arm("fill", {"model.transformer.fill": 0.5}), base=plain) == ()


def test_an_uncoupled_base_is_flagged_itself_and_not_in_every_arm() -> None:
    planned = plan(ablation(arm("drop", {"model.dropout": 0.5}), base={"model.transformer.fill": 0.5})).ablations[0]
    assert flags(planned, "base", *NO_COSTS) == (
        "`model.transformer.fill` 0.5 is mid-grey in [0,1], whose low end is 0",
    )
    assert flags(planned, "drop", *NO_COSTS) == ()


@pytest.mark.parametrize("ratio", [0.95, 1.0, 1.05])
def test_costs_within_five_per_cent_raise_nothing(ratio: float) -> None:
    theirs = Costs(1000, 2e6, 10.0)
    ours = Costs(*(round(ratio * cost, 9) for cost in (1000, 2e6, 10.0)))
    assert raised(arm("drop", {"model.dropout": 0.5}), ours, theirs) == ()


def test_costs_beyond_five_per_cent_are_flagged_in_either_direction() -> None:
    found = raised(arm("drop", {"model.dropout": 0.5}), Costs(500, 3e6, 10.6), Costs(1000, 2e6, 10.0))
    assert found == (
        "parameters −50 %: 500 against 1 k",
        "FLOPs +50 %: 3 M against 2 M",
        "processor time a step +6 %: 10.6 ms against 10.0 ms",
    )


def test_costs_that_are_not_known_raise_nothing() -> None:
    assert raised(arm("drop", {"model.dropout": 0.5}), Costs(500), Costs(None, 2e6, 10.0)) == ()


def test_costs_are_measured_where_there_are_runs_and_on_paper_elsewhere() -> None:
    config = plan(ablation(arm("wide", {"model.width": 2.0}))).arms[1]
    assert costs_of(config.config) == Costs(parameters(config.config), flops(config.config), None)
    runs = [record(spec, f"r{spec.seed}") for spec in config.verdict_specs({})]
    disturbed = runs[0].model_copy(update={"metrics": {**runs[0].metrics, "cost.cpu_seconds": 31.0}})
    broken = record(config.verdict_specs({})[0], "r9", outcome="diverged", **{"cost.cpu_seconds": 1.0})
    steps = 400 * 250  # epochs of 8,000 pictures in batches of 32
    expected = Costs(1000.0, 2_000_000.0, pytest.approx(1000 * 20.0 / steps))
    assert costs_of(config.config, [disturbed, *runs[1:], broken]) == expected
    quick = runs[2].model_copy(update={"metrics": {**runs[2].metrics, "cost.cpu_seconds": 5.0}})
    assert costs_of(config.config, [*runs[:2], quick], (runs[0].seed, runs[1].seed)) == expected


def test_a_network_of_ones_own_costs_what_its_runs_say() -> None:
    assert costs_of(override(Config(), {"model.factory": "mine:network"})) == Costs()


def test_counts_and_changes_read_well() -> None:
    assert [in_short(count) for count in (24, 98_000, 15_862_551, 2.5e9)] == ["24", "98 k", "15.9 M", "2.5 G"]
    changed = difference(override(Config(), {"model.norm.affine": False, "model.width": 0.5}), Config())
    assert in_words(changed) == ["model.norm.affine true → false", "model.width 1 → 0.5"]


def test_an_untuned_arm_is_flagged_beside_a_tuned_base() -> None:
    one = arm("fixed", {"model.dropout": 0.5}, tuned=False)
    planned = plan(ablation(one), trials=2).ablations[0]
    assert flags(planned, "fixed", *NO_COSTS) == (
        "unequal budget: 0 tuning trials against 2; that makes its verdict invalid",
    )
