"""Which runs a study wants, from hand-made results: look by look, question by question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import FakeStore, ablation, arm, plan, record

from stn_bench.analysis.analyse import analyse
from stn_bench.study.plan import Plan
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import Results, gather

NO_FOLDER = Path("nowhere")
SEEDS = (1, 2, 3, 4, 5, 6, 7, 8)
LOOKS = (3, 5, 8)
BASE = (0.90, 0.91, 0.92, 0.90, 0.91, 0.92, 0.90, 0.91)
WORSE = tuple(value - 0.3 + 0.001 * (seed % 2) for seed, value in enumerate(BASE))  # at every look beyond doubt
OPEN = tuple(value + 0.02 * (-1) ** seed for seed, value in enumerate(BASE))  # undecided to the last
WIDE, SLIM = arm("wide", {"model.width": 2.0}), arm("slim", {"model.width": 0.5})
DRY = arm("dry", {"model.dropout": 0.0})
Outcome = float | str | None
"""A value, "crashed" or "diverged", or None for a run that has not ended."""


def two_arms(**rest: Any) -> Plan:
    return plan(ablation(WIDE, SLIM), **{"seeds": SEEDS, "looks": LOOKS, **rest})


def two_questions(**rest: Any) -> Plan:
    return plan(ablation(WIDE, SLIM), ablation(DRY, name="rest"), seeds=SEEDS, looks=LOOKS, **rest)


def results(planned: Plan, outcomes: Mapping[str, Sequence[Outcome]]) -> Results:
    """Return results with these outcomes by the arm's label, one for each seed from the first."""
    found = [
        _record(spec, outcome)
        for one in planned.arms
        for spec, outcome in zip(one.verdict_specs({}), outcomes.get(one.label, ()), strict=False)
        if outcome is not None
    ]
    return gather(planned, FakeStore(*found), NO_FOLDER)


def _record(spec: Any, outcome: float | str) -> RunRecord:
    name = f"{spec.label}-{spec.seed}"
    if isinstance(outcome, str):
        return record(spec, name, outcome=outcome)
    return record(spec, name, test_accuracy=outcome, test_loss=outcome)


def counts(planned: Plan, outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, int]:
    """Return label of the arm -> on how many seeds it is wanted."""
    wanted = analyse(results(planned, outcomes)).wanted_seeds
    assert all(seeds == SEEDS[: len(seeds)] for seeds in wanted.values())
    return {label: len(seeds) for label, seeds in wanted.items()}


def trained(look: int, **arms: Sequence[float]) -> dict[str, Sequence[Outcome]]:
    """Return the outcomes up to a look of the base and of arms of `depth`."""
    count = LOOKS[look - 1]
    return {"base": BASE[:count], **{f"depth/{name}": values[:count] for name, values in arms.items()}}


# Looks -----------------------------------------------------------------------------------------------------------


def test_every_arm_begins_with_the_first_look() -> None:
    assert counts(two_arms(), {}) == {"base": 3, "depth/wide": 3, "depth/slim": 3}


@pytest.mark.parametrize("outcomes", [{}, trained(1, wide=WORSE, slim=OPEN), trained(3, wide=WORSE, slim=OPEN)])
def test_without_looks_every_arm_is_wanted_on_all_seeds(outcomes: dict[str, Sequence[Outcome]]) -> None:
    assert counts(two_arms(looks=()), outcomes) == {"base": 8, "depth/wide": 8, "depth/slim": 8}


def test_an_open_arm_goes_on_with_its_base_and_a_decided_one_stops() -> None:
    found = counts(two_arms(), trained(1, wide=OPEN, slim=WORSE))
    assert found == {"base": 5, "depth/wide": 5, "depth/slim": 3}


def test_in_the_middle_of_a_round_the_same_seeds_are_wanted() -> None:
    begun = {**trained(1, wide=OPEN, slim=WORSE), "depth/wide": OPEN[:5], "base": BASE[:4]}
    assert counts(two_arms(), begun) == {"base": 5, "depth/wide": 5, "depth/slim": 3}


def test_where_all_are_decided_the_base_stops_too() -> None:
    assert counts(two_arms(), trained(1, wide=WORSE, slim=WORSE)) == {"base": 3, "depth/wide": 3, "depth/slim": 3}


def test_nobody_goes_beyond_the_last_look() -> None:
    assert counts(two_arms(), trained(3, wide=OPEN, slim=OPEN)) == {"base": 8, "depth/wide": 8, "depth/slim": 8}


def test_nobody_goes_on_while_a_seed_of_the_question_is_missing() -> None:
    begun = {**trained(1, wide=OPEN, slim=OPEN), "depth/slim": OPEN[:2]}
    assert counts(two_arms(), begun) == {"base": 3, "depth/wide": 3, "depth/slim": 3}


def test_a_crashed_arm_holds_up_nobody_and_is_tried_again() -> None:
    begun = {**trained(1, wide=OPEN), "depth/slim": (*OPEN[:2], "crashed")}
    assert counts(two_arms(), begun) == {"base": 5, "depth/wide": 5, "depth/slim": 3}


def test_the_hindmost_arm_catches_up_first() -> None:
    begun = {**trained(2, wide=OPEN), "depth/slim": OPEN[:3]}
    assert counts(two_arms(), begun) == {"base": 5, "depth/wide": 5, "depth/slim": 5}


def test_an_arm_added_later_begins_with_the_first_look() -> None:
    begun = trained(3, wide=OPEN)
    assert counts(two_arms(), begun) == {"base": 8, "depth/wide": 8, "depth/slim": 3}


def test_a_missing_seed_of_another_question_holds_up_nobody() -> None:
    assert counts(two_questions(), trained(1, wide=OPEN, slim=WORSE))["depth/wide"] == 5


def test_a_missing_seed_of_another_question_holds_up_all_that_are_corrected_together() -> None:
    assert counts(two_questions(family="study"), trained(1, wide=OPEN, slim=WORSE))["depth/wide"] == 3


# Failures --------------------------------------------------------------------------------------------------------


def test_nobody_goes_on_where_the_base_has_failed() -> None:
    begun = {**trained(1, wide=OPEN, slim=WORSE), "base": ("crashed", *BASE[1:3])}
    assert counts(two_arms(), begun) == {"base": 3, "depth/wide": 3, "depth/slim": 3}


def test_a_failure_that_the_study_allows_stops_nobody() -> None:
    begun = {**trained(1, wide=OPEN, slim=WORSE), "depth/wide": ("diverged", *OPEN[1:3])}
    assert counts(two_arms(max_failed=1), begun)["depth/wide"] == 5


def test_an_arm_that_fails_in_a_later_round_stops_there_and_tries_the_crashed_seed_again() -> None:
    begun = {**trained(2, wide=OPEN, slim=WORSE), "depth/wide": (*OPEN[:3], "crashed", OPEN[4]), "depth/slim": ()}
    begun["depth/slim"] = WORSE[:3]
    assert counts(two_arms(), begun) == {"base": 5, "depth/wide": 5, "depth/slim": 3}


def test_a_failure_before_the_end_of_a_round_leaves_the_round_as_it_is() -> None:
    begun = {**trained(1, wide=OPEN, slim=WORSE), "depth/wide": (*OPEN[:3], "crashed")}
    assert counts(two_arms(), begun)["depth/wide"] == 5


def test_a_later_failure_of_the_base_does_not_undo_what_an_early_look_decided() -> None:
    begun = {**trained(2, wide=OPEN), "depth/slim": WORSE[:3], "base": (*BASE[:4], "diverged")}
    found = analyse(results(two_arms(), begun)).verdicts["depth"]
    assert (found["slim"].word, found["slim"].judgement.look) == ("worse", 1)
    assert (found["wide"].word, found["wide"].reason) == ("invalid", "1 of 5 seeds of `base` failed")


def test_an_arm_that_moves_two_factors_is_not_trained_beyond_the_first_look() -> None:
    both = arm("both", {"model.width": 2.0, "model.dropout": 0.0})
    planned = plan(ablation(both, SLIM), seeds=SEEDS, looks=LOOKS)
    begun = {**trained(1, slim=OPEN), "depth/both": OPEN[:3]}
    assert counts(planned, begun) == {"base": 5, "depth/both": 3, "depth/slim": 5}


def test_an_arm_without_a_choice_holds_up_nobody() -> None:
    """Its tuning has failed: there is no verdict run of it to wait for."""
    planned = two_arms(trials=1)
    tuned = [one for one in planned.arms if one.name != "slim"]
    chosen = tuned[0].tuning_specs()[0].chosen
    runs = [
        record(spec, f"{spec.label}-{spec.seed}", test_accuracy=value)
        for one, values in zip(tuned, (BASE, OPEN), strict=True)
        for spec, value in zip(one.verdict_specs(chosen)[:3], values, strict=False)
    ]
    trials = [record(one.tuning_specs()[0], f"t-{one.label}") for one in tuned]
    found = gather(planned, FakeStore(*trials, *runs), NO_FOLDER)
    assert {label: len(seeds) for label, seeds in analyse(found).wanted_seeds.items()} == {
        "base": 5,
        "depth/wide": 5,
        "depth/slim": 3,
    }


# Shared arms -----------------------------------------------------------------------------------------------------


def shared() -> Plan:
    """Return a plan whose two questions have bases of their own and share the arm that is dry and wide."""
    both = arm("both", {"model.width": 2.0, "model.dropout": 0.0}, together="what the test needs")
    dry_base = ablation(WIDE, name="dry", base={"model.dropout": 0.0})
    planned = plan(ablation(both), dry_base, seeds=SEEDS, looks=LOOKS)
    assert [one.label for one in planned.arms] == ["base", "depth/both", "dry/base"]
    return planned


def test_a_shared_arm_goes_on_for_the_question_that_is_open_and_only_that_base_with_it() -> None:
    begun = {"base": BASE[:3], "depth/both": OPEN[:3], "dry/base": [value + 0.4 for value in OPEN[:3]]}
    assert counts(shared(), begun) == {"base": 5, "depth/both": 5, "dry/base": 3}


def test_a_shared_arm_that_is_decided_everywhere_stops() -> None:
    begun = {"base": BASE[:3], "depth/both": WORSE[:3], "dry/base": BASE[:3]}
    assert counts(shared(), begun) == {"base": 3, "depth/both": 3, "dry/base": 3}


# The whole way ---------------------------------------------------------------------------------------------------


Seeds = dict[str, set[int]]
Cells = list[tuple[str, int]]


def to_the_end(whole: Results, portion: Callable[[Cells], Cells]) -> Seeds:
    """Train what is wanted, in portions, until nothing is; return the seeds of each arm.

    Args:
        whole: the study as it would be with every seed trained.
        portion: what is missing -> what of that is trained before the study is looked at again.
    """
    seeds: Seeds = {one.arm.label: set() for one in whole.arms}
    while True:
        wanted = analyse(_so_far(whole, seeds)).wanted_seeds
        missing = [(label, seed) for label, some in wanted.items() for seed in some if seed not in seeds[label]]
        if not missing:
            return seeds
        for label, seed in portion(missing):
            seeds[label].add(seed)


def _so_far(whole: Results, seeds: Seeds) -> Results:
    arms = [replace(one, runs={s: one.runs[s] for s in sorted(seeds[one.arm.label])}) for one in whole.arms]
    return replace(whole, arms=tuple(arms))


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from(["question", "study"]))
def test_however_often_it_is_stopped_a_study_ends_with_the_same_seeds(data: st.DataObject, family: str) -> None:
    planned = two_questions(family=family)
    values = st.lists(st.sampled_from((0.5, 0.6, 0.7, 0.72, 0.9)), min_size=8, max_size=8)
    whole = results(planned, {one.label: data.draw(values) for one in planned.arms})

    def some(missing: Cells) -> Cells:
        return data.draw(st.lists(st.sampled_from(missing), min_size=1 + len(missing) // 2, unique=True))

    assert to_the_end(whole, some) == to_the_end(whole, list)


# How many --------------------------------------------------------------------------------------------------------


def test_planned_runs_are_those_wanted() -> None:
    begun = analyse(results(two_arms(), trained(1, wide=OPEN, slim=WORSE)))
    assert begun.planned_seeds == {"base": 5, "depth/wide": 5, "depth/slim": 3}
    assert (begun.planned_runs, begun.results.finished, begun.missing_runs) == (13, 9, 4)


def test_runs_beyond_a_stop_count_as_planned() -> None:
    """They were trained before the study had looks."""
    begun = analyse(results(two_arms(), trained(2, wide=WORSE, slim=WORSE)))
    assert (begun.planned_runs, begun.results.finished, begun.missing_runs) == (15, 15, 0)


def test_tuning_trials_are_planned_too() -> None:
    assert analyse(results(two_arms(trials=2), {})).planned_runs == 3 * (2 + 3)


# The best arm ----------------------------------------------------------------------------------------------------


def selected(planned: Plan, outcomes: Mapping[str, Sequence[Outcome]]) -> str | None:
    return analyse(results(planned, outcomes)).selected.get("depth")


def confirmable(**rest: Any) -> Plan:
    return two_arms(**{"seeds": (1, 2, 3), "looks": (), "confirm": (101, 102), **rest})


BETTER = tuple(value + 0.05 for value in BASE)


@pytest.mark.parametrize(
    ("wide", "slim", "best"),
    [(BETTER, OPEN, "wide"), (OPEN, BETTER, "slim"), (WORSE, OPEN, "slim"), (BETTER, BETTER, "wide")],
)
def test_the_arm_with_the_best_difference_is_selected(wide: Any, slim: Any, best: str) -> None:
    assert selected(confirmable(), trained(1, wide=wide, slim=slim)) == best


def test_where_the_base_is_best_the_second_is_selected() -> None:
    worst = tuple(value - 0.4 for value in BASE)
    assert selected(confirmable(), trained(1, wide=worst, slim=WORSE)) == "slim"


def test_the_best_of_a_loss_is_the_lowest() -> None:
    assert selected(confirmable(metric="test.loss"), trained(1, wide=WORSE, slim=OPEN)) == "wide"


def test_an_invalid_arm_is_never_selected() -> None:
    begun = {**trained(1, slim=WORSE), "depth/wide": (*BETTER[:2], "diverged")}
    assert selected(confirmable(), begun) == "slim"


def test_arms_that_stopped_at_different_looks_are_compared_by_their_differences_to_the_base() -> None:
    """The base is better on the later seeds, and so is `slim`, which was not trained on them."""
    rising = (*BASE[:3], *(value + 0.05 for value in BASE[3:]))
    close = tuple(value + 0.01 + 0.02 * (-1) ** seed for seed, value in enumerate(rising))
    begun = {"base": rising, "depth/wide": close, "depth/slim": [value + 0.03 for value in BASE[:3]]}
    planned = confirmable(seeds=SEEDS, looks=LOOKS)
    means = [sum(begun[f"depth/{name}"]) / len(begun[f"depth/{name}"]) for name in ("wide", "slim")]
    assert means[0] > means[1]
    assert selected(planned, begun) == "slim"


@pytest.mark.parametrize("slim", [OPEN[:2], ()])
def test_nothing_is_selected_before_the_verdicts_are_there(slim: Sequence[float]) -> None:
    assert selected(confirmable(), {**trained(1, wide=BETTER), "depth/slim": slim}) is None


def test_nothing_is_selected_while_an_arm_is_open() -> None:
    assert selected(confirmable(seeds=SEEDS, looks=LOOKS), trained(1, wide=OPEN, slim=WORSE)) is None


def test_the_selected_arm_and_its_base_are_confirmed() -> None:
    found = analyse(results(confirmable(), trained(1, wide=BETTER, slim=OPEN)))
    assert found.confirming_seeds == {"base": (101, 102), "depth/wide": (101, 102)}
    assert found.confirming_runs == 4


def test_a_study_without_fresh_seeds_confirms_nothing() -> None:
    assert analyse(results(confirmable(confirm=()), trained(1, wide=BETTER, slim=OPEN))).confirming_runs == 0
