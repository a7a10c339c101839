"""Several looks at growing data: worked by hand, rule by rule, and as properties.

Where a base's values are 0, an arm's values are its differences, and scipy's one-sample test is the oracle.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from stn_bench.stats import Direction, Judgement, Outcomes, Question, Rules, judge_questions, level

MARGIN = 0.01037  # no mean of thousandths lies on it, so that rounding decides nothing
EIGHT = (1, 2, 3, 4, 5, 6, 7, 8)
CLEAR = (10.0, 10.1, 9.9, 10.2, 9.8, 10.1, 9.9, 10.0)
SLOW = (1.0, 1.6, 0.8, 1.2, 1.3, 1.1, 1.3, 1.6)  # better with five seeds, not with three
NOTHING = (0.5, -0.5, 0.2, 0.4, -0.3, -0.6, 0.1, 0.3)


def outcomes(values: Sequence[float], failed: Sequence[int] = (), lacking: Sequence[int] = ()) -> Outcomes:
    """Return values by seed from 1 on, but for those that failed or are not trained yet."""
    known = {seed: value for seed, value in enumerate(values, start=1) if seed not in {*failed, *lacking}}
    return Outcomes(known, frozenset(failed))


def judged(
    arms: Mapping[str, Outcomes], looks: tuple[int, ...] = (3, 5, 8), base: Outcomes | None = None
) -> dict[str, Judgement]:
    base = base or outcomes([0.0] * looks[-1])
    rules = Rules(tuple(range(1, looks[-1] + 1)), looks, MARGIN)
    return judge_questions([Question(base, arms)], rules)[0]


def t_test(values: Sequence[float]) -> float:
    return float(scipy_stats.ttest_1samp(values, 0).pvalue)


# the numbers of a look


def test_the_level_of_a_look_widens_the_interval_and_divides_the_p() -> None:
    arm, x = judged({"clear": outcomes(CLEAR)})["clear"], level((3, 5, 8), 1)
    interval = scipy_stats.ttest_1samp(CLEAR[:3], 0).confidence_interval(1 - x)
    assert (arm.word, arm.look, arm.looks, arm.stopped) == ("better", 1, 3, True)
    assert arm.p_adjusted == arm.holm_p == pytest.approx(0.05 * t_test(CLEAR[:3]) / x)
    assert (arm.comparison.low, arm.comparison.high) == pytest.approx((interval.low, interval.high))


def test_arms_stop_at_different_looks_and_each_keeps_the_numbers_of_its_own() -> None:
    found = judged({"clear": outcomes(CLEAR), "slow": outcomes(SLOW)})
    assert [(one.word, one.look, one.comparison.n) for one in found.values()] == [("better", 1, 3), ("better", 2, 5)]
    alone = 0.05 * t_test(SLOW[:5]) / level((3, 5, 8), 1)  # once the clear one is taken off
    assert found["slow"].p_adjusted == pytest.approx(alone)
    by_holm = [0.05 * t_test(values) / level((3, 5, 8), 1) for values in (CLEAR[:3], SLOW[:5])]
    assert found["slow"].holm_p == pytest.approx(multipletests(by_holm, method="holm")[1][1])


def test_the_smallest_p_of_all_looks_so_far_counts() -> None:
    """A first look that all but decided it; later looks are less sure."""
    fading = (1.0, 1.5, 1.1, -0.9, 2.9, -1.0, 2.0, -0.5)
    ps = [0.05 * t_test(fading[:count]) / level((3, 5, 8), 1) for count in (3, 5, 8)]
    found = judged({"fading": outcomes(fading), "nothing": outcomes([3 * one for one in NOTHING])})["fading"]
    assert min(ps[1:]) > 0.3 > ps[0]
    assert (found.word, found.look) == ("undecided", 3)
    assert found.holm_p == pytest.approx(2 * ps[0])


def test_a_look_that_said_worse_lends_nothing_to_a_later_better() -> None:
    """Far below on four seeds, on the fifth it failed, so that it went on; then far above."""
    turning = outcomes((-1.0, -1.001, -0.999, -1.0, 0.0, 9.0, 9.1, 8.9), failed=[5])
    found, x = judged({"turning": turning}, (5, 8))["turning"], level((5, 8), 1)
    assert found.comparison.difference > 0
    assert t_test((-1.0, -1.001, -0.999, -1.0)) < 1e-8
    assert found.p_adjusted == found.holm_p == pytest.approx(min(1.0, 0.05 * found.comparison.p / x))


def test_a_small_early_p_is_no_verdict_once_the_interval_holds_0() -> None:
    """A failed seed kept it from stopping at the first look."""
    fading = outcomes((10.0, 10.1, 0.0, 9.9, -9.0, 29.0), failed=[3])
    found = judged({"fading": fading}, (4, 6))["fading"]
    assert found.p_adjusted < 0.05
    assert (found.look, found.comparison.low < 0, found.word) == (2, True, "undecided")


def test_three_looks_that_decide_nothing_end_at_the_last() -> None:
    arm = judged({"nothing": outcomes(NOTHING)})["nothing"]
    assert (arm.word, arm.look, arm.stopped, arm.comparison.n) == ("undecided", 3, False, 8)


def test_an_arm_decided_at_the_last_look_has_not_stopped_early() -> None:
    late = (1.0, -0.4, 1.2, 0.9, 1.1, 1.0, 1.2, 0.9)
    arm = judged({"late": outcomes(late)})["late"]
    assert (arm.word, arm.look, arm.stopped) == ("better", 3, False)


def test_what_an_early_look_decides_does_not_depend_on_seeds_that_came_later() -> None:
    short, long = (judged({"clear": outcomes(values)}, (3, 8)) for values in (CLEAR[:3], (*CLEAR[:3], *[-50.0] * 5)))
    assert short == long


# an early stop needs no failed seed


@pytest.mark.parametrize("side", ["arm", "base"])
def test_a_failed_seed_forbids_an_early_stop(side: str) -> None:
    failed = {"arm": (), "base": (), side: (4,)}
    arm = outcomes(CLEAR, failed["arm"])
    base = outcomes([0.0] * 8, failed["base"])
    found = judged({"clear": arm}, (5, 8), base)["clear"]
    assert (found.look, found.word, found.comparison.n) == (2, "better", 7)


def test_a_failed_seed_forbids_an_early_equivalence_too() -> None:
    alike = (0.0, 0.0001, 0.0002, 0.0, 0.0001)
    assert judged({"alike": outcomes(alike)}, (4, 5))["alike"].look == 1
    assert judged({"alike": outcomes(alike, failed=[1])}, (4, 5))["alike"].look == 2


def test_an_early_look_stops_for_equivalence_whatever_the_signs() -> None:
    arm = judged({"alike": outcomes((0.001, -0.001, 0.0005, 0.5, 0.5, 0.5, 0.5, 0.5))})["alike"]
    assert (arm.word, arm.look, arm.stopped) == ("equivalent", 1, True)
    assert arm.equivalence_p < 0.05


def test_equivalence_needs_the_interval_at_the_level_of_the_looks() -> None:
    """Within the margin at 95 %, not at the level of one of three looks."""
    values = (0.003, -0.003, 0.0015)
    wide, wider = (judged({"arm": outcomes(values)}, looks, outcomes([0.0] * 8))["arm"] for looks in ((3,), (3, 5, 8)))
    assert wide.comparison.high < MARGIN < wider.comparison.high
    assert (wide.word, wider.word) == ("equivalent", "undecided")


def test_equivalence_is_corrected_for_the_arms_by_holms_method() -> None:
    """Alone it is equivalent; among eight of which the others tell nothing, its p of the two tests is not enough."""
    values = (0.003, -0.003, 0.0015)
    others = {str(number): outcomes([0.02, -0.02, 0.01]) for number in range(7)}
    alone, among = (judged({"arm": outcomes(values), **more}, (3,))["arm"] for more in ({}, others))
    assert (alone.word, among.word) == ("equivalent", "undecided")
    ps = [one.comparison.equivalence_p(MARGIN) for one in judged({"arm": outcomes(values), **others}, (3,)).values()]
    assert among.equivalence_p == pytest.approx(multipletests(ps, method="holm")[1][0])


# looks that are not complete


@pytest.mark.parametrize("side", ["arm", "base"])
def test_a_look_counts_once_arm_and_base_have_ended_all_its_seeds(side: str) -> None:
    lacking = {"arm": (), "base": (), side: (5,)}
    arm, base = outcomes(SLOW[:5], lacking=lacking["arm"]), outcomes([0.0] * 5, lacking=lacking["base"])
    found = judged({"slow": arm}, (3, 5, 8), base)["slow"]
    assert (found.word, found.look, found.comparison.n) == ("undecided", 1, 3)


@pytest.mark.parametrize("looks", [(5,), (5, 8)])
@pytest.mark.parametrize("there", [0, 1, 2, 3, 4])
def test_before_the_first_look_is_complete_nothing_is_said(looks: tuple[int, ...], there: int) -> None:
    """What is there is shown; no word and no p, however clear: else there are as many looks as seeds."""
    arm = judged({"clear": outcomes(CLEAR[:there])}, looks)["clear"]
    assert (arm.word, arm.look, arm.comparison.n, arm.lacks) == ("undecided", 1, there, 5 - there)
    assert all(map(math.isnan, (arm.p_adjusted, arm.holm_p, arm.equivalence_p)))
    assert (arm.stopped, arm.more_seeds) == (False, None)


def test_reading_a_study_of_one_look_at_every_seed_gives_no_more_false_alarms() -> None:
    """With words before its seeds were in, 9.5 % of studies of five seeds had one."""
    drawn = np.random.default_rng(5).normal(size=(600, 5)).tolist()
    said = [
        any(judged({"idle": outcomes(row[:n])}, (5,), outcomes([0.0] * 5))["idle"].word == "better" for n in (3, 4))
        for row in drawn
    ]
    assert not any(said)


def test_runs_that_others_made_wait_for_nothing() -> None:
    found = judged({"clear": Outcomes({1: 10.0, 2: 10.1, 3: 9.9}, is_closed=True)}, (5,))["clear"]
    assert (found.word, found.comparison.n, found.lacks) == ("better", 3, 0)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -1e300])
def test_a_value_that_is_no_number_is_a_failed_seed_and_touches_no_other_arm(broken: float) -> None:
    arms = {"clear": outcomes(CLEAR[:5]), "slow": outcomes(SLOW[:5]), "third": outcomes(NOTHING[:5])}
    whole = judged(arms, (5,))
    hurt = judged({**arms, "third": outcomes([*NOTHING[:4], broken])}, (5,))
    assert hurt["third"].comparison.n == 4
    assert hurt["clear"] == whole["clear"]
    assert (hurt["slow"].word, hurt["slow"].comparison) == ("better", whole["slow"].comparison)


@pytest.mark.parametrize("look", [1, 2, 3])
def test_a_failed_seed_at_each_look_keeps_the_rest_as_it_is(look: int) -> None:
    failed = (3, 5, 8)[look - 1]
    found = judged({"slow": outcomes(SLOW, failed=[failed]), "clear": outcomes(CLEAR)})
    assert found["clear"].word == "better"
    assert found["slow"].word in ("better", "undecided")
    assert found["slow"].comparison.n == len([s for s in EIGHT[: (3, 5, 8)[found["slow"].look - 1]] if s != failed])


def test_a_copy_of_another_arm_changes_no_number_of_its_own() -> None:
    one = judged({"clear": outcomes(CLEAR), "slow": outcomes(SLOW)})
    two = judged({"clear": outcomes(CLEAR), "slow": outcomes(SLOW), "copy": outcomes(SLOW)})
    assert two["copy"] == two["slow"]
    assert two["slow"].comparison == one["slow"].comparison
    assert two["slow"].p_adjusted >= one["slow"].p_adjusted


def test_a_copy_of_the_base_lends_nobody_certainty() -> None:
    """Pooled, its residuals of 0 shrank the error of all."""
    noisy = (1.0, -0.5, 1.4, 0.3, 0.9)
    alone, beside = (
        judged({"noisy": outcomes(noisy), **copies}, (5,))["noisy"]
        for copies in ({}, {str(n): outcomes([0.0] * 5) for n in range(4)})
    )
    assert beside.comparison == alone.comparison
    assert beside.p_adjusted >= alone.p_adjusted


def test_one_arms_missing_seeds_do_not_hold_up_the_others() -> None:
    found = judged({"behind": outcomes(NOTHING[:4]), "slow": outcomes(SLOW)})
    assert [(one.word, one.look) for one in found.values()] == [("undecided", 1), ("better", 2)]


def test_an_early_decision_stands_when_an_arm_that_was_awaited_comes() -> None:
    likely = outcomes((1.0, 1.02, 1.01))
    for late in (outcomes(NOTHING[:3]), outcomes(CLEAR[:3]), outcomes(NOTHING[:3], failed=[1, 2])):
        waiting, come = (judged({"likely": likely, "late": arm}, (3, 5))["likely"] for arm in (outcomes([]), late))
        assert (waiting.word, waiting.look, come.word, come.look) == ("better", 1, "better", 1)
        assert come.p_adjusted <= waiting.p_adjusted


# properties


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[list[float]], list[float]]:
    """Draw one to four arms and a base on six seeds, in thousandths; some arms clearly apart, so that words differ."""
    spreads = st.lists(st.integers(0, 60), min_size=6, max_size=6)
    rows = [
        [(500 + apart + value) / 1000 for value in draw(spreads)]
        for apart in (0, *draw(st.lists(st.sampled_from([0, 0, 5, 60, -60]), min_size=1, max_size=4)))
    ]
    return rows[1:], rows[0]


def judge_rows(
    arms: Sequence[Sequence[float]],
    base: Sequence[float],
    direction: Direction = "maximize",
    order: str = "012345",
    margin: float = MARGIN,
) -> list[Judgement]:
    """Return the verdicts on arms by number, the seeds in the given order within the looks at 3 and 6."""
    seeds = tuple(map(int, order))
    question = Question(
        Outcomes({seed: base[seed] for seed in seeds}),
        {str(number): Outcomes({seed: arm[seed] for seed in seeds}) for number, arm in enumerate(arms)},
    )
    return list(judge_questions([question], Rules(seeds, (3, 6), margin, direction))[0].values())


def numbers(found: Sequence[Judgement]) -> list[float]:
    return [
        value
        for one in found
        for value in (
            one.comparison.difference,
            one.comparison.low,
            one.comparison.high,
            *(0.0 if math.isnan(p) else p for p in (one.p_adjusted, one.holm_p)),
        )
    ]


def words(found: Sequence[Judgement]) -> list[tuple[str, int, bool]]:
    return [(one.word, one.look, one.stopped) for one in found]


@given(studies(), st.randoms(use_true_random=False))
def test_the_order_of_the_arms_does_not_matter(
    study: tuple[list[list[float]], list[float]], chance: random.Random
) -> None:
    arms, base = study
    order = chance.sample(range(len(arms)), len(arms))
    straight, shuffled = judge_rows(arms, base), judge_rows([arms[index] for index in order], base)
    assert words([straight[index] for index in order]) == words(shuffled)
    assert numbers([straight[index] for index in order]) == pytest.approx(numbers(shuffled), abs=1e-9)


@given(studies(), st.permutations("012"), st.permutations("345"))
def test_the_order_of_the_seeds_within_a_look_does_not_matter(
    study: tuple[list[list[float]], list[float]], first: list[str], second: list[str]
) -> None:
    straight, shuffled = judge_rows(*study), judge_rows(*study, order="".join(first + second))
    assert words(straight) == words(shuffled)
    assert numbers(straight) == pytest.approx(numbers(shuffled), abs=1e-9)


@given(studies(), st.integers(-400, 400))
def test_a_constant_added_to_every_value_changes_nothing(
    study: tuple[list[list[float]], list[float]], thousandths: int
) -> None:
    arms, base = study
    shifted = [[value + thousandths / 1000 for value in row] for row in (base, *arms)]
    straight, moved = judge_rows(arms, base), judge_rows(shifted[1:], shifted[0])
    assert words(straight) == words(moved)
    assert numbers(straight) == pytest.approx(numbers(moved), abs=1e-9)


@given(studies())
def test_turning_direction_and_signs_over_changes_no_word(study: tuple[list[list[float]], list[float]]) -> None:
    arms, base = study
    negative = [[-value for value in row] for row in (base, *arms)]
    straight, turned = judge_rows(arms, base), judge_rows(negative[1:], negative[0], "minimize")
    assert words(straight) == words(turned)
    assert [one.comparison.wins for one in straight] == [one.comparison.wins for one in turned]


@given(studies())
def test_turning_the_direction_alone_swaps_better_and_worse(study: tuple[list[list[float]], list[float]]) -> None:
    other = {"better": "worse", "worse": "better"}
    straight, turned = judge_rows(*study), judge_rows(*study, direction="minimize")
    assert [other.get(one.word, one.word) for one in straight] == [one.word for one in turned]


@given(studies())
def test_every_number_of_a_verdict_agrees_with_its_word(study: tuple[list[list[float]], list[float]]) -> None:
    for one in judge_rows(*study):
        low, high = one.comparison.low, one.comparison.high
        assert one.word in ("better", "worse", "equivalent", "undecided")
        if one.word == "equivalent":
            assert low > -MARGIN
            assert high < MARGIN
            assert one.equivalence_p <= 0.05
        if one.word in ("better", "worse"):
            assert one.p_adjusted < 0.05
            assert (low > 0) == (one.word == "better")


MEAN_OF_ZERO = [0.505, 0.519, 0.522, 0.546, 0.552, 0.565], [0.5, 0.524, 0.56, 0.505, 0.56, 0.56]
"""An arm and a base whose mean difference is 0 but for rounding, which is another in each unit."""


@given(studies(), st.sampled_from([1e-12, 1e-6, 3.7, 1e12]))
@example(([MEAN_OF_ZERO[0], [0.5] * 6, [0.5] * 6], MEAN_OF_ZERO[1]), 1e-6)
def test_the_unit_of_the_metric_changes_no_word(study: tuple[list[list[float]], list[float]], unit: float) -> None:
    arms, base = study
    scaled = [[unit * value for value in row] for row in (base, *arms)]
    straight, other = judge_rows(arms, base), judge_rows(scaled[1:], scaled[0], margin=unit * MARGIN)
    assert words(straight) == words(other)
    assert [one.p_adjusted for one in straight] == pytest.approx(
        [one.p_adjusted for one in other], nan_ok=True, rel=1e-6
    )


def test_one_seed_of_one_is_unreplicated() -> None:
    arm = judged({"young": outcomes(CLEAR[:1])}, (1,))["young"]
    assert (arm.word, arm.comparison.n) == ("unreplicated", 1)
    assert all(map(math.isnan, (arm.p_adjusted, arm.holm_p, arm.equivalence_p)))
