"""Why a verdict is invalid, and which seeds an arm still needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from makers import ablation, arm, plan, record
from scipy.stats import t

from stn_bench.analysis.analyse import analyse
from stn_bench.analysis.verdicts import failed_seeds, unfair_reason, verdicts
from stn_bench.study.plan import Plan, PlannedArm
from stn_bench.study.spec import Arm, Range
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import ArmResults, Results

CLEAR = (0.80, 0.81, 0.79, 0.80, 0.82, 0.81)
BASE = (0.60, 0.61, 0.59, 0.60, 0.62, 0.61)
ALIKE = (0.6001, 0.6101, 0.5900, 0.6000, 0.6201, 0.6101)
NOISY = (0.70, 0.55, 0.66, 0.50, 0.71, 0.58)
NARROW = arm("narrow", {"model.width": 0.5})
WIDE = arm("wide", {"model.width": 2.0})
DEEP = arm("deep", {"model.width": 2.0, "train.batch_size": 64})


def looking(*arms: Arm, looks: tuple[int, ...] = (3, 6), **study: Any) -> Plan:
    """Return the plan of one question over six seeds."""
    return plan(ablation(*arms), seeds=(1, 2, 3, 4, 5, 6), looks=looks, margin=0.01, **study)


def outcome(
    planned: PlannedArm, values: Sequence[float], diverged: Sequence[int] = (), crashed: Sequence[int] = ()
) -> ArmResults:
    """Return an arm with these values on its first seeds; where a seed failed its value is not used."""
    runs, crashes = {}, {}
    for spec, value in zip(planned.verdict_specs({}), values, strict=False):
        name = f"{planned.name}-{spec.seed}"
        if spec.seed in crashed:
            crashes[spec.seed] = record(spec, name, outcome="crashed")
        else:
            runs[spec.seed] = _run(spec, name, value, spec.seed in diverged)
    return ArmResults(planned, (), {}, runs, crashes)


def _run(spec: Any, name: str, value: float, diverged: bool) -> RunRecord:
    return (
        record(spec, name, outcome="diverged")
        if diverged
        else record(spec, name, test_accuracy=value, test_loss=value)
    )


def results(planned: Plan, values: Mapping[str, Any]) -> Results:
    """Return results by the arms' names: values, or values and failures."""
    found = []
    for one in planned.arms:
        given = values[one.name]
        found.append(outcome(one, **given) if isinstance(given, dict) else outcome(one, given))
    return Results(planned, tuple(found))


def words(found: Results) -> dict[str, str]:
    return {name: verdict.word for name, verdict in verdicts(found)["depth"].items()}


def wanted(found: Results) -> dict[str, int]:
    """Return name of the arm -> how many of its seeds are wanted; they must be the first."""
    seeds = analyse(found).wanted_seeds
    assert all(some == found.plan.study.seeds[: len(some)] for some in seeds.values())
    return {label.rpartition("/")[2]: len(some) for label, some in seeds.items()}


# the words


def test_sound_arms_get_the_words_of_their_numbers() -> None:
    arms = {"base": BASE, "narrow": CLEAR, "wide": ALIKE, "noisy": NOISY}
    planned = looking(NARROW, WIDE, arm("noisy", {"model.width": 4.0}), looks=())
    assert words(results(planned, arms)) == {"narrow": "better", "wide": "equivalent", "noisy": "undecided"}


def test_a_metric_to_minimise_turns_better_and_worse_over() -> None:
    planned = looking(NARROW, looks=(), metric="test.loss")
    scattered = [value + 0.001 * (index % 3) for index, value in enumerate(CLEAR)]
    assert words(results(planned, {"base": BASE, "narrow": scattered})) == {"narrow": "worse"}


def test_two_questions_are_two_families_unless_the_study_is_one() -> None:
    questions = (ablation(NARROW), ablation(WIDE, name="other"))
    apart, together = (
        verdicts(results(plan(*questions, family=family), {"base": BASE, "narrow": CLEAR, "wide": NOISY}))
        for family in ("question", "study")
    )
    narrow = apart["depth"]["narrow"].judgement
    assert narrow.p_adjusted == pytest.approx(narrow.comparison.p)
    assert together["depth"]["narrow"].judgement.holm_p == pytest.approx(2 * narrow.comparison.p)


def test_the_step_of_the_metric_floors_what_equal_differences_say() -> None:
    """Of 100 test pictures, one error more on each of three seeds; its p was 0."""
    planned = plan(ablation(NARROW), seeds=(1, 2, 3), base={"data.test": 100})
    found = verdicts(results(planned, {"base": (1.0,) * 3, "narrow": (0.99,) * 3}))["depth"]["narrow"]
    assert found.word == "undecided"
    assert found.judgement.comparison.p == pytest.approx(2 * t.sf(6**0.5, 2))


# invalid, and why


def test_an_arm_that_moves_two_settings_is_invalid_and_keeps_its_numbers() -> None:
    verdict = verdicts(results(looking(DEEP), {"base": BASE, "deep": CLEAR}))["depth"]["deep"]
    assert verdict.word == "invalid"
    assert verdict.reason == "more than one factor: `model.width`, `train.batch_size`"
    assert verdict.judgement.word == "better"


def test_settings_that_go_together_are_one_factor() -> None:
    together = DEEP.model_copy(update={"together": "wider nets need larger batches"})
    assert words(results(looking(together), {"base": BASE, "deep": CLEAR})) == {"deep": "better"}


def test_a_width_that_is_matched_to_the_bases_flops_is_no_second_factor() -> None:
    matched = arm("none", {"model.transformer.kind": "none"}, match="flops")
    planned = plan(ablation(matched), seeds=(1, 2, 3, 4, 5, 6))
    assert "model.width" in planned.questions[0].arms["none"].changes
    assert words(results(planned, {"base": BASE, "none": CLEAR})) == {"none": "better"}


@pytest.mark.parametrize("failing", ["narrow", "base"])
@pytest.mark.parametrize("how", ["diverged", "crashed"])
def test_a_failed_seed_of_arm_or_base_makes_a_verdict_invalid(failing: str, how: str) -> None:
    values = {"base": {"values": BASE}, "narrow": {"values": CLEAR}}
    values[failing][how] = (4,)  # type: ignore[assignment]
    verdict = verdicts(results(looking(NARROW, looks=()), values))["depth"]["narrow"]
    assert (verdict.word, verdict.reason) == ("invalid", f"1 of 6 seeds of `{failing}` failed")


def test_as_many_seeds_may_fail_as_the_study_allows() -> None:
    values = {"base": BASE, "narrow": {"values": CLEAR, "diverged": (4,), "crashed": (5,)}}
    strict, lenient = (results(looking(NARROW, looks=(), max_failed=most), values) for most in (1, 2))
    assert words(strict) == {"narrow": "invalid"}
    verdict = verdicts(lenient)["depth"]["narrow"]
    assert (verdict.word, verdict.reason, verdict.judgement.comparison.n) == ("better", "", 4)


def test_failed_seeds_say_what_happened() -> None:
    found = results(looking(NARROW), {"base": BASE, "narrow": {"values": CLEAR, "diverged": (2,), "crashed": (5,)}})
    assert failed_seeds(found.arms[1], "test.accuracy") == {
        2: "diverged: loss is nan at epoch 2",
        5: "crashed: loss is nan at epoch 2",
    }


@pytest.mark.parametrize("path", ["train.epochs", "data.count", "data.validation", "data.test"])
def test_an_arm_with_more_epochs_or_pictures_is_invalid(path: str) -> None:
    planned = looking(arm("more", {path: 30_000 if path == "data.count" else 150}))
    found = results(planned, {"base": BASE, "more": CLEAR})
    reason = verdicts(found)["depth"]["more"].reason
    assert reason.startswith(f"unequal budget: `{path}` ")
    assert " against " in reason


def test_an_arm_that_searches_more_settings_is_invalid() -> None:
    more = arm("more", {"model.width": 0.5}, search={"train.batch_size": Range(choices=(16, 32))})
    planned = looking(more, trials=2)
    found = results(planned, {"base": BASE, "more": CLEAR})
    assert verdicts(found)["depth"]["more"].reason == "unequal search: 2 settings against 1"


def test_arms_with_other_numbers_of_trials_are_not_compared() -> None:
    tuned, untuned = looking(NARROW, trials=3), looking(NARROW)
    arm_results, base = outcome(untuned.arms[1], CLEAR), outcome(tuned.arms[0], BASE)
    assert unfair_reason(arm_results, base, "test.accuracy") == "unequal budget: 0 tuning trials against 3"


# the seeds that are wanted


def test_all_arms_begin_with_the_seeds_of_the_first_look() -> None:
    assert wanted(results(looking(NARROW, WIDE), {"base": (), "narrow": (), "wide": ()})) == {
        "base": 3,
        "narrow": 3,
        "wide": 3,
    }


def test_without_looks_all_seeds_are_wanted_at_once() -> None:
    assert wanted(results(looking(NARROW, looks=()), {"base": (), "narrow": ()})) == {"base": 6, "narrow": 6}


def test_an_open_arm_and_its_base_go_on_and_a_decided_arm_does_not() -> None:
    arms = {"base": BASE[:3], "narrow": CLEAR[:3], "wide": NOISY[:3]}
    assert wanted(results(looking(NARROW, WIDE), arms)) == {"base": 6, "narrow": 3, "wide": 6}


def test_the_base_stops_when_all_its_arms_have() -> None:
    arms = {"base": BASE[:3], "narrow": CLEAR[:3], "wide": ALIKE[:3]}
    assert wanted(results(looking(NARROW, WIDE), arms)) == {"base": 3, "narrow": 3, "wide": 3}


@pytest.mark.parametrize("behind", ["base", "wide"])
def test_a_look_is_not_left_before_arm_and_base_have_ended_its_seeds(behind: str) -> None:
    arms = {"base": BASE[:3], "narrow": CLEAR[:3], "wide": NOISY[:3]}
    arms[behind] = arms[behind][:2]
    assert wanted(results(looking(NARROW, WIDE), arms))["wide"] == 3


def test_a_seed_that_may_fail_does_not_hold_up_the_next_look() -> None:
    arms = {"base": BASE[:3], "narrow": {"values": NOISY[:3], "crashed": (2,)}}
    assert wanted(results(looking(NARROW, max_failed=1), arms)) == {"base": 6, "narrow": 6}


def test_an_arm_whose_verdict_is_invalid_is_trained_no_further() -> None:
    arms = {"base": BASE[:3], "deep": NOISY[:3], "narrow": {"values": NOISY[:3], "crashed": (2,)}}
    assert wanted(results(looking(DEEP, NARROW), arms)) == {"base": 3, "deep": 3, "narrow": 3}


def test_arms_that_are_invalid_by_design_cost_the_others_no_more_than_if_they_were_trained_on() -> None:
    """They get no seeds beyond the first look, and were once taken for arms still to come, which rank first."""
    deep = [arm(f"deep{size}", {"model.width": 2.0, "train.batch_size": size}) for size in (16, 64, 128)]
    good = arm("good", {"model.width": 0.5})
    slight = (0.62, 0.63, 0.595, 0.625, 0.632, 0.63)
    flat = (0.6, 0.611, 0.5895, 0.6005, 0.6195, 0.6102)
    found = {}
    for seeds in (3, 6):
        arms = {"base": BASE, "good": slight, **{one.name: flat[:seeds] for one in deep}}
        found[seeds] = verdicts(results(looking(*deep, good), arms))["depth"]
    assert {verdict.word for name, verdict in found[3].items() if name != "good"} == {"invalid"}
    assert found[3]["good"].word == found[6]["good"].word == "better"
    assert found[3]["good"].judgement.p_adjusted == pytest.approx(found[6]["good"].judgement.p_adjusted)


def test_an_invalid_arm_that_another_question_trains_on_is_compared_on_all_its_seeds() -> None:
    two = ablation(DEEP.model_copy(update={"together": "they go together"}), name="valid")
    planned = plan(ablation(DEEP), two, seeds=(1, 2, 3, 4, 5, 6), looks=(3, 6), margin=0.01)
    found = verdicts(results(planned, {"base": BASE, "deep": NOISY}))
    assert [found[name]["deep"].judgement.look for name in ("depth", "valid")] == [2, 2]
    assert found["depth"]["deep"].word == "invalid"


def test_an_arm_of_two_questions_goes_on_while_one_of_them_is_open() -> None:
    """In the second question it stands beside two others, for which Holm's correction leaves it open."""
    others = [arm(f"other{number}", {"model.width": width}) for number, width in enumerate((2.0, 4.0))]
    slight = (0.66, 0.69, 0.66, 0.66, 0.69, 0.68)
    questions = (ablation(NARROW), ablation(NARROW, *others, name="crowd"))
    planned = plan(*questions, seeds=(1, 2, 3, 4, 5, 6), looks=(3, 6), margin=0.01)
    arms = {"base": BASE[:3], "narrow": slight[:3], "other0": NOISY[:3], "other1": NOISY[:3]}
    found = results(planned, arms)
    assert verdicts(found)["depth"]["narrow"].judgement.stopped
    assert not verdicts(found)["crowd"]["narrow"].judgement.stopped
    assert wanted(found)["narrow"] == 6


def test_looks_added_to_a_finished_study_ask_for_the_undecided_arms_alone() -> None:
    """Trained with three seeds and no looks; then the study was given six seeds and two looks."""
    arms = {"base": BASE[:3], "narrow": CLEAR[:3], "wide": NOISY[:3]}
    assert wanted(results(looking(NARROW, WIDE), arms)) == {"base": 6, "narrow": 3, "wide": 6}


def test_a_finished_study_wants_what_it_has() -> None:
    arms = {"base": BASE, "narrow": CLEAR[:3], "wide": NOISY}
    assert wanted(results(looking(NARROW, WIDE), arms)) == {"base": 6, "narrow": 3, "wide": 6}
