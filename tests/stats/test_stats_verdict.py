"""One look: Holm's correction, the words, families."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from stn_bench.stats import (
    Comparison,
    Direction,
    Judgement,
    Outcomes,
    Question,
    Rules,
    holm,
    judge,
    judge_questions,
    more_seeds,
)

SEEDS = (1, 2, 3)
CLEAR = (10.0, 10.1, 9.9)  # p = 2 t.sf(173, 2)
LIKELY = (1.0, 1.4, 1.1)  # p near 0.01


def comparison(low: float, high: float, n: int = 3) -> Comparison:
    return Comparison(n=n, difference=(low + high) / 2, low=low, high=high, p=0.5, wins=0)


def verdict(low: float, high: float, p: float, direction: Direction = "maximize") -> str:
    return judge(comparison(low, high), p, margin=0.01, direction=direction, equivalence_p=0.0)


def question(arms: Mapping[str, tuple[float, ...]]) -> Question:
    """Return arms by how much they differ from a base whose values are 0."""
    base = Outcomes(dict.fromkeys(SEEDS, 0.0))
    return Question(base, {name: Outcomes(dict(zip(SEEDS, values, strict=False))) for name, values in arms.items()})


def rules(**changes: object) -> Rules:
    return Rules(**{"seeds": SEEDS, "looks": (3,), "margin": 0.01, **changes})  # type: ignore[arg-type]


def only(question: Question, rules: Rules) -> Mapping[str, Judgement]:
    (judged,) = judge_questions([question], rules)
    return judged


def t_test(values: tuple[float, ...]) -> float:
    return float(scipy_stats.ttest_1samp(values, 0).pvalue)


# Holm's correction


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1, made to rise: 0.03, 0.04, 0.04."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_its_definition(values: list[float]) -> None:
    adjusted, order = holm(values), np.argsort(values)
    expected = np.minimum(1, np.maximum.accumulate([values[i] * (len(values) - k) for k, i in enumerate(order)]))
    assert [adjusted[i] for i in order] == pytest.approx(expected)


@pytest.mark.parametrize(
    "values", [[0.001, 0.2, 0.03, 0.04, 0.01, 0.01, 0.9], [0.5, 0.6, 0.7], [0.0, 0.02, 0.02], [1.0]]
)
def test_holm_agrees_with_statsmodels(values: list[float]) -> None:
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_holms_adjusted_values_rise_with_the_raw_ones() -> None:
    values = [0.001, 0.2, 0.03, 0.04, 0.01]
    adjusted = [p for _, p in sorted(zip(values, holm(values), strict=True))]
    assert all(before <= after for before, after in pairwise(adjusted))


def test_holm_keeps_nan_and_does_not_count_it() -> None:
    adjusted = holm([math.nan, 0.01, math.nan, 0.04])
    assert (adjusted[1], adjusted[3]) == pytest.approx((0.02, 0.04))
    assert math.isnan(adjusted[0])
    assert math.isnan(adjusted[2])


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_holm_of_nothing_known(values: list[float]) -> None:
    assert [math.isnan(p) for p in holm(values)] == [True] * len(values)


# the words


@pytest.mark.parametrize(
    ("low", "high", "p", "direction", "word"),
    [
        (0.02, 0.04, 0.01, "maximize", "better"),
        (-0.04, -0.02, 0.01, "maximize", "worse"),
        (0.02, 0.04, 0.01, "minimize", "worse"),
        (-0.04, -0.02, 0.01, "minimize", "better"),
        (-0.009, 0.009, 0.9, "maximize", "equivalent"),
        (0.001, 0.009, 0.01, "maximize", "equivalent"),  # real, and too small to matter
        (-0.02, 0.04, 0.4, "maximize", "undecided"),
        (0.001, 0.04, 0.08, "maximize", "undecided"),  # excludes 0 until Holm has counted the arms
    ],
)
def test_the_word_that_the_numbers_earn(low: float, high: float, p: float, direction: Direction, word: str) -> None:
    assert verdict(low, high, p, direction) == word


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_seeds_are_unreplicated(n: int) -> None:
    found = judge(comparison(0.02, 0.04, n), 0.001, margin=0.01, direction="maximize", equivalence_p=0.0)
    assert found == "unreplicated"


def test_what_no_test_can_be_made_of_is_not_equivalent() -> None:
    found = judge(comparison(-0.009, 0.009), 0.9, margin=0.01, direction="maximize", equivalence_p=math.nan)
    assert found == "undecided"


def test_an_arm_whose_seeds_all_failed_is_unreplicated() -> None:
    failed = Question(Outcomes(dict.fromkeys(SEEDS, 0.0)), {"empty": Outcomes({}, frozenset(SEEDS))})
    arm = only(failed, rules())["empty"]
    assert (arm.word, arm.comparison.n, arm.more_seeds) == ("unreplicated", 0, None)
    assert math.isnan(arm.p_adjusted)


# families


def test_the_arms_of_a_question_are_a_family() -> None:
    arms = {"clear": CLEAR, "likely": LIKELY, "nothing": (0.5, -0.5, 0.2)}
    judged = only(question(arms), rules())
    raw = [t_test(values) for values in arms.values()]
    assert [one.holm_p for one in judged.values()] == pytest.approx(multipletests(raw, method="holm")[1])
    # Ranked clear, likely, nothing; once clear is taken off, likely is the larger of two.
    assert judged["likely"].p_adjusted == pytest.approx(raw[1] / (0.8 * 2 / 3 + 0.1))
    assert [one.word for one in judged.values()] == ["better", "better", "undecided"]


def test_the_classic_can_be_chosen() -> None:
    arms = {"small": (0.10, 0.101, 0.099), "large": (9.0, -8.0, 5.0), "likely": LIKELY}
    judged = only(question(arms), rules(correction="holm"))
    assert [one.p_adjusted for one in judged.values()] == [one.holm_p for one in judged.values()]
    ranked = only(question(arms), rules())
    assert [one.holm_p for one in ranked.values()] == [one.holm_p for one in judged.values()]
    assert ranked["likely"].p_adjusted != ranked["likely"].holm_p


def test_each_question_is_a_family_unless_the_study_is_one() -> None:
    questions = [question({"one": LIKELY}), question({"two": CLEAR, "three": (0.5, -0.5, 0.2)})]
    raw = [t_test(values) for values in (LIKELY, CLEAR, (0.5, -0.5, 0.2))]
    apart, together = (judge_questions(questions, rules(family=family)) for family in ("question", "study"))
    assert apart[0]["one"].p_adjusted == pytest.approx(raw[0])
    flat = [one.holm_p for judged in together for one in judged.values()]
    assert flat == pytest.approx(multipletests(raw, method="holm")[1])


def test_an_arm_that_is_not_trained_yet_counts_as_the_one_that_moved_most() -> None:
    """What is decided today is not taken back when that arm's runs are there."""
    alone = only(question({"likely": LIKELY}), rules())["likely"]
    waiting = only(question({"likely": LIKELY, "waiting": ()}), rules())["likely"]
    assert waiting.p_adjusted == pytest.approx(alone.p_adjusted / (0.8 / 3 + 0.1))


def test_equal_differences_of_whole_errors_decide_nothing() -> None:
    """Three runs at 100 %, three at 99 % of 100 pictures: p was 0."""
    base = Outcomes(dict.fromkeys(SEEDS, 1.0), resolution=0.01)
    for resolution in (0.01, 0.0):
        arm = Outcomes(dict.fromkeys(SEEDS, 0.99), resolution=resolution)
        base = Outcomes(dict.fromkeys(SEEDS, 1.0), resolution=resolution)
        judged = only(Question(base, {"arm": arm}), rules(margin=0.005))["arm"]
        assert judged.word == "undecided"


@pytest.mark.parametrize(("resolution", "word"), [(0.0, "undecided"), (0.001, "equivalent")])
def test_equal_differences_are_equivalent_only_where_a_resolution_is_known(resolution: float, word: str) -> None:
    """Three of +0.25 within a margin of 0.3 stopped at the first look, though nothing tells how sure they are."""
    seeds = (*SEEDS, 4, 5)
    arm, base = (Outcomes(dict.fromkeys(SEEDS, value), resolution=resolution) for value in (0.75, 0.5))
    judged = only(Question(base, {"arm": arm}), rules(seeds=seeds, looks=(3, 5), margin=0.3))["arm"]
    assert (judged.word, judged.stopped, judged.look) == (word, word == "equivalent", 1)
    assert math.isnan(judged.equivalence_p) == (word == "undecided")


def test_a_copy_of_the_base_is_equivalent() -> None:
    """Nothing differs, and that is certain; the caveat that the arm may set nothing says what it is worth."""
    same = Outcomes(dict(zip(SEEDS, (0.5, 0.75, 0.625), strict=True)))
    judged = only(Question(same, {"copy": same}), rules())["copy"]
    assert (judged.word, judged.equivalence_p) == ("equivalent", 0.0)


# how many more seeds


def test_only_an_undecided_arm_says_how_many_seeds_would_decide_it() -> None:
    judged = only(question({"clear": CLEAR, "equal": (0.001, -0.001, 0.0), "open": (1.0, 0.1, 0.4)}), rules())
    assert [one.word for one in judged.values()] == ["better", "equivalent", "undecided"]
    assert [one.more_seeds is None for one in judged.values()] == [True, True, False]


def test_what_an_arm_shares_with_others_asks_for_more_seeds() -> None:
    """By its rank among those that are left, not by an adjusted p that ends at 1."""
    values = (1.0, 0.1, 0.4)
    alone = only(question({"open": values}), rules())["open"]
    others = {f"other{number}": (5.0 + number, -5.0, 2.0) for number in range(7)}
    among = only(question({"open": values, **others}), rules())["open"]
    assert (alone.level, alone.beside, among.level, among.p_adjusted, len(among.beside)) == (0.05, (), 0.05, 1.0, 7)
    assert alone.more_seeds is not None
    assert among.more_seeds is not None
    # The seven spread by five, so that it ranks last however many seeds there are.
    last = 0.05 * (0.8 / 2**8 / (1 - 2**-8) + 0.2 / 8)
    needed = more_seeds(among.comparison, 0.01, last, 0.05 / 8)
    assert needed is not None
    assert among.more_seeds == pytest.approx(needed, abs=1)
    assert needed > alone.more_seeds + 5


def test_an_arm_that_is_awaited_ranks_before_one_that_wants_more_seeds() -> None:
    values = (1.0, 0.1, 0.4)
    found = only(question({"open": values, "late": ()}), rules())["open"]
    needed = more_seeds(found.comparison, 0.01, 0.05 * (0.8 / 3 + 0.1), 0.05 / 4)
    assert needed is not None
    assert found.more_seeds == pytest.approx(needed, abs=1)
