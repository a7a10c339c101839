"""Several looks at growing data: worked by hand, rule by rule, and as properties.

Where a base's values are 0, an arm's values are its differences, and scipy's one-sample test is the oracle. Two arms
are never pooled with their base.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from stn_bench.stats import Direction, Judgement, Outcomes, Question, Rules, judge_questions

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


def test_the_p_of_a_look_is_multiplied_by_the_number_of_looks_and_the_interval_widened() -> None:
    arm = judged({"clear": outcomes(CLEAR)})["clear"]
    interval = scipy_stats.ttest_1samp(CLEAR[:3], 0).confidence_interval(1 - 0.05 / 3)
    assert (arm.word, arm.look, arm.looks, arm.stopped) == ("better", 1, 3, True)
    assert arm.p == pytest.approx(3 * t_test(CLEAR[:3]))
    assert (arm.comparison.low, arm.comparison.high) == pytest.approx((interval.low, interval.high))


def test_arms_stop_at_different_looks_and_holm_takes_each_ones_p_from_its_own() -> None:
    found = judged({"clear": outcomes(CLEAR), "slow": outcomes(SLOW)})
    raw = [3 * t_test(CLEAR[:3]), 3 * t_test(SLOW[:5])]
    assert [(one.word, one.look, one.comparison.n) for one in found.values()] == [("better", 1, 3), ("better", 2, 5)]
    assert [one.p for one in found.values()] == pytest.approx(raw)
    assert [one.p_adjusted for one in found.values()] == pytest.approx(multipletests(raw, method="holm")[1])


def test_the_smallest_p_of_all_looks_so_far_counts() -> None:
    """3 * 0.016 = 0.047 at the first look, which would do but for the second arm; later looks are less sure."""
    fading = (1.0, 1.5, 1.1, -0.9, 2.9, -1.0, 2.0, -0.5)
    ps = [min(1.0, 3 * t_test(fading[:count])) for count in (3, 5, 8)]
    found = judged({"fading": outcomes(fading), "nothing": outcomes(NOTHING)})["fading"]
    assert ps[0] == pytest.approx(0.047, abs=5e-4)
    assert min(ps[1:]) > 0.3
    assert (found.word, found.look, found.p) == ("undecided", 3, pytest.approx(ps[0]))
    assert found.p_adjusted == pytest.approx(2 * ps[0])


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


def test_an_arm_that_stopped_no_longer_lends_its_error_to_the_others() -> None:
    """Three arms and their base are pooled at the first look; at the second they are one too few."""
    arms = {"clear": outcomes(CLEAR), "one": outcomes(NOTHING), "two": outcomes(NOTHING[::-1])}
    at_first, at_second = (judged(arms, looks, outcomes([0.1] * 8))["one"].comparison for looks in ((3,), (3, 8)))
    assert (at_first.method, at_first.df) == ("pooled", 6)
    assert (at_second.method, at_second.df) == ("paired t", 7)


# the third rule: an early stop needs all seeds on one side, or from six on the sign-flip test, and no failed seed


@pytest.mark.parametrize(("looks", "word", "look"), [((5, 8), "undecided", 1), ((5,), "better", 1)])
def test_up_to_five_seeds_one_on_the_other_side_forbids_an_early_stop(
    looks: tuple[int, ...], word: str, look: int
) -> None:
    """The t-test alone, doubled for two looks, would be content: t = 3.95."""
    values = (10.0, 10.1, 9.9, 10.0, -0.1)
    arm = judged({"lopsided": outcomes(values)}, looks, outcomes([0.0] * 5))["lopsided"]
    assert len(looks) * t_test(values) < 0.05
    assert (arm.word, arm.look, arm.stopped) == (word, look, False)


@pytest.mark.parametrize(("last", "stopped"), [(9.8, True), (-0.1, False)])
def test_from_six_seeds_on_the_sign_flip_test_must_agree_with_an_early_stop(last: float, stopped: bool) -> None:
    """2 of 64 flips with all on one side, 0.031; 4 of 64 with the smallest on the other, 0.0625."""
    values = (10.0, 10.1, 9.9, 10.0, 10.2, last)
    arm = judged({"arm": outcomes(values)}, (6, 9))["arm"]
    assert 2 * t_test(values) < 0.05
    assert arm.comparison.flip_p == (2 / 64 if stopped else 4 / 64)
    assert (arm.word, arm.stopped) == (("better", True) if stopped else ("undecided", False))


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
    """Within the margin at 95 %, not at 98.3 %."""
    values = (0.003, -0.003, 0.0015)
    wide, wider = (judged({"arm": outcomes(values)}, looks, outcomes([0.0] * 8))["arm"] for looks in ((3,), (3, 5, 8)))
    assert wide.comparison.high < MARGIN < wider.comparison.high
    assert (wide.word, wider.word) == ("equivalent", "undecided")


# looks that are not complete


@pytest.mark.parametrize("side", ["arm", "base"])
def test_a_look_counts_once_arm_and_base_have_ended_all_its_seeds(side: str) -> None:
    lacking = {"arm": (), "base": (), side: (5,)}
    arm, base = outcomes(SLOW[:5], lacking=lacking["arm"]), outcomes([0.0] * 5, lacking=lacking["base"])
    found = judged({"slow": arm}, (3, 5, 8), base)["slow"]
    assert (found.word, found.look, found.comparison.n) == ("undecided", 1, 3)


def test_before_the_first_look_is_complete_what_is_there_is_shown() -> None:
    arm = judged({"clear": outcomes(CLEAR[:2])})["clear"]
    assert (arm.word, arm.look, arm.comparison.n) == ("unreplicated", 1, 2)


def test_nobody_stops_before_the_first_look_is_complete() -> None:
    """Three of five seeds are there, and they leave no doubt."""
    arm = judged({"clear": outcomes(CLEAR[:3])}, (5, 8))["clear"]
    assert (arm.word, arm.stopped, arm.comparison.n) == ("undecided", False, 3)
    assert arm.p_adjusted < 0.05


def test_one_arms_missing_seeds_do_not_hold_up_the_others() -> None:
    found = judged({"behind": outcomes(NOTHING[:4]), "slow": outcomes(SLOW)})
    assert [(one.word, one.look) for one in found.values()] == [("undecided", 1), ("better", 2)]


def test_an_early_decision_stands_when_an_arm_that_had_failed_begins_to_count() -> None:
    """Two of its first three seeds failed, so that it had no p at the first look."""
    likely, late = outcomes((1.0, 1.05, 1.1)), outcomes(NOTHING[:5], failed=[1, 2])
    first, second = (
        judged({"likely": likely, "late": arm}, (3, 5), outcomes([0.0] * 5))["likely"]
        for arm in (late, outcomes(NOTHING[:3], failed=[1, 2]))
    )
    assert (first.word, first.look, first.p_adjusted) == ("better", 1, pytest.approx(2 * first.p))
    assert first == second


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
    arms: Sequence[Sequence[float]], base: Sequence[float], direction: Direction = "maximize", order: str = "012345"
) -> list[Judgement]:
    """Return the verdicts on arms by number, the seeds in the given order within the looks at 3 and 6."""
    seeds = tuple(map(int, order))
    question = Question(
        Outcomes({seed: base[seed] for seed in seeds}),
        {str(number): Outcomes({seed: arm[seed] for seed in seeds}) for number, arm in enumerate(arms)},
    )
    return list(judge_questions([question], Rules(seeds, (3, 6), MARGIN, direction))[0].values())


def numbers(found: Sequence[Judgement]) -> list[float]:
    return [
        value
        for one in found
        for value in (one.comparison.difference, one.comparison.low, one.comparison.high, one.p, one.p_adjusted)
    ]


def words(found: Sequence[Judgement]) -> list[tuple[str, int, bool, str]]:
    return [(one.word, one.look, one.stopped, one.comparison.method) for one in found]


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
        assert (one.word == "equivalent") == (low > -MARGIN and high < MARGIN) or one.look == 1
        if one.word in ("better", "worse"):
            assert one.p_adjusted < 0.05
            assert (low > 0) == (one.word == "better")
            assert not math.isnan(one.p)


def test_one_seed_has_no_p_of_any_kind() -> None:
    arm = judged({"young": outcomes(CLEAR[:1])})["young"]
    assert (arm.word, arm.comparison.n) == ("unreplicated", 1)
    assert all(map(math.isnan, (arm.p, arm.p_adjusted, arm.equivalence_p)))
