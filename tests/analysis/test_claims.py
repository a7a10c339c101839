"""What comes of a claim, from hand-made runs: each outcome, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from makers import FakeStore, ablation, arm, plan, record
from scipy import stats as scipy_stats

from stn_bench.analysis.analyse import analyse
from stn_bench.analysis.claims import ClaimSummary
from stn_bench.analysis.summarise import summarise
from stn_bench.analysis.summary import Summary
from stn_bench.report.page import render_page
from stn_bench.report.tables import anchor, claim_table, cost_note, notes, published_note
from stn_bench.stats import estimate, published_p
from stn_bench.study.plan import Plan
from stn_bench.study.spec import Ablation, Claim
from stn_bench.tracking.results import gather

NOWHERE = Path("nowhere")
Values = Mapping[str, Mapping[str, tuple[float, ...]]]  # arm -> metric -> one value a seed
BETTER = (0.95, 0.97, 0.985)
BASE = (0.90, 0.92, 0.94)


def question(claim: Claim, **rest: object) -> Ablation:
    arms = (arm("wide", {"model.width": 2.0}), arm("narrow", {"model.width": 0.5}))
    return ablation(*arms, claims=(claim,), **rest)


def claimed(**fields: object) -> Claim:
    return Claim(says="Wide reads more", asked="wide against the base", **fields)  # type: ignore[arg-type]


def summary(planned: Plan, values: Values, outcome: str = "finished") -> Summary:
    runs = [
        record(spec, f"{one.label}-{spec.seed}", outcome=outcome if one.name == "wide" else "finished").model_copy(
            update={"metrics": {**COSTS, **{metric: each[index] for metric, each in values[one.name].items()}}}
        )
        for one in planned.arms
        for index, spec in enumerate(one.verdict_specs({}))
        if one.name in values and index < len(next(iter(values[one.name].values())))
    ]
    return summarise(analyse(gather(planned, FakeStore(*runs), NOWHERE)))


COSTS = {"cost.parameters": 1000.0, "cost.flops": 2e6, "cost.seconds": 3.0, "cost.step_ms": 1.0}


def outcome_of(claim: Claim, values: Values, outcome: str = "finished", **study: object) -> ClaimSummary:
    return summary(plan(question(claim), **study), values, outcome).claims[0]  # type: ignore[arg-type]


def accuracies(**arms: tuple[float, ...]) -> Values:
    return {name: {"test.accuracy": values} for name, values in arms.items()}


@pytest.mark.parametrize(
    ("expect", "wide", "outcome"),
    [
        ("better", BETTER, "reproduced"),
        ("worse", BETTER, "contradicted"),
        ("better", (0.9001, 0.9202, 0.9401), "contradicted"),  # equivalent: no difference beyond the margin
        ("better", (0.80, 0.99, 0.93), "undecided"),
    ],
)
def test_a_comparison_with_the_base_has_the_verdict_of_its_table(expect, wide, outcome) -> None:
    found = outcome_of(claimed(arm="wide", expect=expect), accuracies(base=BASE, wide=wide))
    assert found.outcome == outcome
    assert (found.metric, found.against, found.reason) == ("test.accuracy", "base", "")


def test_a_claim_of_the_table_says_how_many_seeds_there_are_before_its_first_look() -> None:
    found = outcome_of(claimed(arm="wide"), accuracies(base=BASE, wide=BETTER[:2]))
    assert (found.outcome, found.reason) == ("undecided", "2 of 3 seeds")


def test_the_tables_correction_holds_for_the_claim_too() -> None:
    wide = (0.93, 0.94, 0.98)  # p alone is below 0.05, and twice it is not
    p = scipy_stats.ttest_rel(wide, BASE).pvalue
    assert 0.025 < p < 0.05
    both = accuracies(base=BASE, wide=wide, narrow=(0.90, 0.93, 0.93))
    assert outcome_of(claimed(arm="wide"), both).outcome == "undecided"
    alone = plan(ablation(arm("wide", {"model.width": 2.0}), claims=(claimed(arm="wide"),)))
    assert summary(alone, accuracies(base=BASE, wide=wide)).claims[0].outcome == "reproduced"


def test_a_claim_of_the_table_has_the_tables_numbers() -> None:
    values = accuracies(base=BASE, wide=BETTER, narrow=(0.90, 0.93, 0.93))
    arms = [arm(name, {"model.width": width}) for name, width in (("wide", 2.0), ("narrow", 0.5), ("third", 0.25))]
    planned = plan(ablation(*arms, claims=(claimed(arm="wide"),)))
    found = summary(planned, {**values, **accuracies(third=(0.91, 0.91, 0.93))})
    ours = found.ablations[0].arms[1]
    assert (found.claims[0].value, found.claims[0].interval) == (ours.difference, ours.interval)


def test_another_pair_is_compared_by_itself() -> None:
    claim = claimed(arm="wide", against="narrow", expect="better")
    narrow = (0.85, 0.85, 0.86)
    found = outcome_of(claim, accuracies(base=BASE, wide=BETTER, narrow=narrow))
    assert found.outcome == "reproduced"
    assert found.value == pytest.approx(sum(BETTER) / 3 - sum(narrow) / 3)
    assert found.p == pytest.approx(scipy_stats.ttest_rel(BETTER, narrow).pvalue)


def test_equal_differences_without_a_resolution_contradict_no_claim() -> None:
    """They all lie within the margin, and nothing tells how sure that is."""
    claim = claimed(arm="wide", against="narrow", expect="better")
    losses = {"base": (2.0, 2.1, 2.2), "wide": (1.0, 1.5, 2.0), "narrow": (1.25, 1.75, 2.25)}
    values = {name: {"test.loss": each} for name, each in losses.items()}
    assert outcome_of(claim, values, metric="test.loss", margin=0.3).outcome == "undecided"


def test_a_lower_loss_is_the_better_one() -> None:
    losses = {"base": {"early.train.loss": (2.0, 2.1, 2.2)}, "wide": {"early.train.loss": (1.5, 1.6, 1.71)}}
    assert outcome_of(claimed(arm="wide", metric="early.train.loss"), losses).outcome == "reproduced"
    assert outcome_of(claimed(arm="wide", metric="early.train.loss", expect="worse"), losses).outcome == "contradicted"


@pytest.mark.parametrize(
    ("values", "outcome"),
    [((1.2, 1.25, 1.3), "reproduced"), ((0.7, 0.75, 0.8), "contradicted"), ((0.9, 1.0, 1.2), "undecided")],
)
def test_a_measurement_is_held_against_its_bound(values, outcome) -> None:
    claim = claimed(arm="base", metric="letter.magnification", above=1.0)
    found = outcome_of(claim, {"base": {"letter.magnification": values}})
    assert found.outcome == outcome
    low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval()
    assert found.interval == pytest.approx((low, high))
    assert (found.against, found.bound) == ("", 1.0)


def test_a_claim_about_nothing_here_is_not_asked() -> None:
    assert outcome_of(claimed(), accuracies(base=BASE)).outcome == "not asked at this scale"


def test_a_claim_that_needs_another_scale_is_not_asked_and_says_so() -> None:
    claim = claimed(arm="wide", needs={"train.epochs": 1000})
    found = outcome_of(claim, accuracies(base=BASE, wide=BETTER))
    assert (found.outcome, found.reason) == ("not asked at this scale", "needs `train.epochs` = 1000")
    asked = outcome_of(claim, accuracies(base=BASE, wide=BETTER), base={"train.epochs": 1000})
    assert asked.outcome == "reproduced"


def test_a_claim_may_need_a_list() -> None:
    """A file's list is the tuple that settings hold."""
    claim = claimed(arm="wide", needs={"model.channels": [8, 16, 8]})
    found = outcome_of(claim, accuracies(base=BASE, wide=BETTER), base={"model.channels": [8, 16, 8]})
    assert found.outcome == "reproduced"


def test_failed_seeds_leave_a_claim_undecided_with_the_reason() -> None:
    found = outcome_of(claimed(arm="wide"), accuracies(base=BASE, wide=BETTER), outcome="diverged")
    assert (found.outcome, found.reason) == ("undecided", "3 of 3 seeds of `wide` failed")


MEASURED = claimed(arm="base", above=0.5)
PAIR = claimed(arm="wide", against="narrow")
MANY = accuracies(  # of five seeds
    base=(0.90, 0.91, 0.92, 0.90, 0.91), wide=(0.96, 0.97, 0.98, 0.97, 0.97), narrow=(0.80, 0.82, 0.81, 0.80, 0.82)
)


def of_some(claim: Claim, values: Values, *failed: tuple[str, int], **study: object) -> ClaimSummary:
    """Return what comes of a claim where some arms diverged on some seeds."""
    planned = plan(question(claim), seeds=(1, 2, 3, 4, 5), **study)  # type: ignore[arg-type]
    runs = []
    for one in planned.arms:
        for spec, value in zip(one.verdict_specs({}), values[one.name]["test.accuracy"], strict=False):
            outcome = "diverged" if (one.name, spec.seed) in failed else "finished"
            runs.append(record(spec, f"{one.label}-{spec.seed}", outcome=outcome, test_accuracy=value))
    return summarise(analyse(gather(planned, FakeStore(*runs), NOWHERE))).claims[0]


def test_a_measurement_and_another_pair_are_undecided_while_seeds_failed() -> None:
    """The third claim is the table's, which says the same."""
    lost = [("base", 4), ("base", 5), ("narrow", 1)]
    found = of_some(MEASURED, MANY, *lost)
    assert (found.outcome, found.reason) == ("undecided", "2 of 5 seeds of `base` failed")
    assert found.value == pytest.approx(0.91)
    assert of_some(PAIR, MANY, *lost).reason == "1 of 5 seeds of `narrow` failed"
    assert of_some(claimed(arm="wide"), MANY, *lost).reason == "2 of 5 seeds of `base` failed"
    assert of_some(MEASURED, MANY, *lost, max_failed=2).outcome == "reproduced"
    assert of_some(PAIR, MANY, *lost, max_failed=1).outcome == "reproduced"


@pytest.mark.parametrize("claim", [MEASURED, PAIR])
def test_no_claim_is_read_before_all_of_its_seeds_have_ended(claim: Claim) -> None:
    three = {name: {"test.accuracy": values["test.accuracy"][:3]} for name, values in MANY.items()}
    found = of_some(claim, three)
    assert (found.outcome, found.reason) == ("undecided", "3 of 5 seeds")
    assert found.value is not None


def test_a_claim_on_arms_that_stopped_at_a_look_has_all_of_its_seeds() -> None:
    """Three seeds decide both arms; where an arm is undecided, it goes on, and the base with it."""
    three = {name: {"test.accuracy": values["test.accuracy"][:3]} for name, values in MANY.items()}
    for claim in (MEASURED, PAIR):
        assert of_some(claim, three, looks=(3, 5)).outcome == "reproduced"
    alike = {**three, "narrow": {"test.accuracy": (0.93, 0.90, 0.93)}}
    assert of_some(MEASURED, alike, looks=(3, 5)).reason == "3 of 5 seeds"
    assert of_some(PAIR, alike, looks=(3, 5)).reason == "3 of 5 seeds"


def test_equal_values_are_no_certainty() -> None:
    """Of 40 test examples an accuracy moves in steps of 0.025: three times 0.95 do not show more than 0.94."""
    toy = ablation(arm("wide", {"depth": 4}), claims=(claimed(arm="base", metric="test.score", above=0.94),))
    planned = plan(toy, subject="toy")
    runs = [
        record(spec, f"{one.label}-{spec.seed}", test_score=0.95).model_copy(update={"subject": "toy"})
        for one in planned.arms
        for spec in one.verdict_specs({})
    ]
    found = summarise(analyse(gather(planned, FakeStore(*runs), NOWHERE))).claims[0]
    reach = scipy_stats.t.ppf(0.975, 2) * (0.025 / 2) / math.sqrt(3)
    assert found.interval == pytest.approx((0.95 - reach, 0.95 + reach))
    assert found.outcome == "undecided"


def test_what_cannot_be_tested_decides_nothing() -> None:
    """Nothing tells the resolution of a loss: equal differences, or equal values, leave no test."""
    losses = {"base": (1.0, 2.0, 3.0), "wide": (1.5, 2.5, 3.5), "narrow": (1.0, 2.0, 3.0)}
    values = {name: {"test.loss": each} for name, each in losses.items()}
    for fields in ({"against": "narrow"}, {"against": "narrow", "expect": "worse"}, {}):
        found = outcome_of(claimed(arm="wide", metric="test.loss", **fields), values, metric="test.loss", margin=1.0)
        assert (found.outcome, found.p) == ("undecided", None), fields
    pair = outcome_of(claimed(arm="wide", against="narrow", metric="test.loss"), values, metric="test.loss")
    assert pair.reason.startswith("all pairs differ alike")
    same = {**values, "base": {"test.loss": (1.0, 1.0, 1.0)}}
    measured = outcome_of(claimed(arm="base", metric="test.loss", above=0.5), same, metric="test.loss")
    assert measured.outcome == "undecided"
    assert measured.reason.startswith("all seeds have one value")


def test_the_claims_stand_behind_the_verdicts_and_lead_to_their_sections() -> None:
    claim = claimed(arm="wide")
    page = render_page(summary(plan(question(claim)), accuracies(base=BASE, wide=BETTER)), {})
    assert page.index("**Better**: ") < page.index("## What came of the claims") < page.index("\n## Depth")
    row = next(line for line in page.splitlines() if line.startswith("| Wide reads more"))
    assert "**reproduced**: test accuracy +4.83 points" in row
    assert "[depth](#depth)" in row
    assert "\n## Depth\n" in page


def test_a_claim_that_is_asked_twice_is_counted_once() -> None:
    one, other = claimed(arm="wide"), claimed(arm="wide", against="narrow")
    third = Claim(says="Nothing here", asked="no letters")
    values = accuracies(base=BASE, wide=BETTER, narrow=(0.90, 0.93, 0.93))
    twice = question(one).model_copy(update={"claims": (one, other, third)})
    page = render_page(summary(plan(twice), values), {})
    assert "\nOf 2 claims, asked in 3 comparisons: 2 reproduced, 1 not asked at this scale.\n" in page
    assert "A claim on another metric or pair is judged at 95 % alone, without correction.\n" in page
    once = render_page(summary(plan(twice.model_copy(update={"claims": (one, third)})), values), {})
    assert "\nOf 2 claims: 1 reproduced, 1 not asked at this scale.\n" in once


def test_a_study_without_claims_has_no_such_table() -> None:
    planned = plan(ablation(arm("wide", {"model.width": 2.0})))
    assert "claims" not in render_page(summary(planned, accuracies(base=BASE, wide=BETTER)), {})


def test_the_scope_stands_on_top_of_the_report() -> None:
    planned = plan(ablation(arm("wide", {"model.width": 2.0})), scope="Nothing is extrapolated.")
    page = render_page(summary(planned, accuracies(base=BASE, wide=BETTER)), {})
    assert 0 < page.index("Nothing is extrapolated.") < page.index("\n## ")


def test_a_remark_stands_under_its_question_and_is_no_part_of_the_plan() -> None:
    asked = ablation(arm("wide", {"model.width": 2.0}))
    planned = plan(asked, remarks={asked.name: "Two seeds start late."})
    page = render_page(summary(planned, accuracies(base=BASE, wide=BETTER)), {})
    assert page.index(f"**{asked.question}**") < page.index("<summary>Remark") < page.index("Two seeds start late.")
    assert planned.digest == plan(asked).digest


@pytest.mark.parametrize(
    ("title", "found"),
    [
        ("Does the spatial transformer help?", "does-the-spatial-transformer-help"),
        ("Which input range, and what is outside the picture?", "which-input-range-and-what-is-outside-the-picture"),
    ],
)
def test_anchors_are_those_of_code_hosting_sites(title: str, found: str) -> None:
    assert anchor(title) == found


# What costs more, and what was published -------------------------------------------------------------------------


def costly(flops: float, parameters: float) -> Summary:
    planned = plan(question(claimed(arm="wide")))
    found = summary(planned, accuracies(base=BASE, wide=BETTER))
    base = found.ablations[0].base
    assert (base.flops, base.parameters) == (2e6, 1000)
    runs = [
        record(spec, f"{one.label}-{spec.seed}").model_copy(
            update={
                "metrics": {
                    "test.accuracy": 0.9,
                    "cost.flops": 2e6 * (flops if one.name == "wide" else 1),
                    "cost.parameters": 1000 * (parameters if one.name == "wide" else 1),
                }
            }
        )
        for one in planned.arms
        for spec in one.verdict_specs({})
    ]
    return summarise(analyse(gather(planned, FakeStore(*runs), NOWHERE)))


@pytest.mark.parametrize(
    ("flops", "parameters", "marked"),
    [
        (1.04, 1.04, {}),
        (1.06, 1.0, {"flops": 0.06}),
        (1.0, 1.2, {"parameters": 0.2}),
        (4.0, 2.0, {"flops": 3.0, "parameters": 1.0}),
        (0.5, 0.5, {}),
    ],
)
def test_an_arm_that_costs_over_five_per_cent_more_is_marked(flops, parameters, marked) -> None:
    found = costly(flops, parameters)
    assert found.ablations[0].arms[1].costlier == pytest.approx(marked)
    page = render_page(found, {})
    rows = [line for line in page.splitlines() if line.startswith(("| `wide`", "| `depth/wide`"))]
    assert len(rows) == 6  # the arm, how sure it is, its cost, and its three runs
    assert all(("†" in row) == bool(marked) for row in rows)
    assert any("†" in row[1] for row in claim_table(found).rows) == bool(marked)
    assert bool(cost_note(found.ablations[0])) == bool(marked)


def test_the_notes_tell_what_costs_more_and_how_much() -> None:
    found = costly(4.0, 1.2).ablations[0]
    assert cost_note(found) == "† costs over 5 % more than the base: `wide`."
    flagged = next(note for note in notes(found) if note.startswith("Caveats of `wide`: "))
    assert "FLOPs +300 %" in flagged
    assert "parameters +20 %" in flagged


def test_what_published_figures_can_carry() -> None:
    arms = (arm("none", {"model.transformer.kind": "none"}, published={"accuracy": 0.985}),)
    planned = plan(ablation(*arms, published={"accuracy": 0.994}, published_pictures=1000))
    found = summary(planned, accuracies(base=BASE, none=BASE)).ablations[0]
    assert found.arms[1].published_p == pytest.approx(scipy_stats.fisher_exact([[985, 15], [994, 6]])[1])
    assert "994 of 1,000 right for the base and 985 for `none`" in published_note(found)
    assert "p = 0.077" in published_note(found)


def test_fishers_p_by_hand() -> None:
    # 0 of 3 against 3 of 3: one of C(6, 3) = 20 tables on either side.
    assert published_p(0, 3, 3) == pytest.approx(2 / 20)


def test_an_estimate_of_one_seed_has_no_interval() -> None:
    found = estimate([0.5])
    assert (found.n, found.mean) == (1, 0.5)
    assert math.isnan(found.low)
