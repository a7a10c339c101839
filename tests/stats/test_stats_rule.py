"""The rule of ordered arms: worked by hand, against a second writing of it, and what it was made for."""

from __future__ import annotations

import sys
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stn_bench.stats import calibrate, is_shipped, level
from stn_bench.stats.levels import SHIPPED, quantile, smallest
from stn_bench.stats.rule import AWAITED, UNTESTABLE, Shown, adjusted, classic, weights

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import verdicts as simulated


def five_percent(_: int) -> float:
    return 0.05


# weights


@pytest.mark.parametrize("count", [1, 2, 3, 8, 50])
def test_the_weights_of_a_family_add_up_to_one(count: int) -> None:
    assert sum(weights(list(range(count)))) == pytest.approx(1)


def test_the_weights_of_three_by_hand() -> None:
    """0.8 (1/2, 1/4, 1/8) / (7/8) + 0.2 / 3."""
    expected = [Fraction(8, 10) * Fraction(1, 2**rank) / Fraction(7, 8) + Fraction(2, 30) for rank in (1, 2, 3)]
    assert weights([0.3, 9.0, 2.0]) == pytest.approx([float(expected[rank - 1]) for rank in (3, 1, 2)])


def test_equal_sizes_share_their_weights_whatever_rounding_made_of_them() -> None:
    one, two, three = weights([5.0, 1.0, 5.0 * (1 + 1e-15)])
    assert one == two + (one - two) == three
    assert weights([5.0, 1.0, 4.0])[0] + weights([5.0, 1.0, 4.0])[2] == pytest.approx(one + three)


# the steps


def test_one_look_by_hand() -> None:
    """Weights of two: 0.8 (2/3, 1/3) + 0.1, that is 0.6333 and 0.3667.

    The larger arm passes at 0.02 / 0.6333 = 0.0316; then the smaller is alone, at its own p.
    """
    found = adjusted({"small": [Shown(0.04, 1.0, 1)], "large": [Shown(0.02, 2.0, -1)]}, five_percent)
    assert found == pytest.approx({"large": 0.02 / (0.8 * 2 / 3 + 0.1), "small": 0.04})


def test_an_arm_that_moved_little_pays_for_its_rank() -> None:
    found = adjusted({"small": [Shown(0.02, 1.0, 1)], "large": [Shown(0.5, 2.0, 1)]}, five_percent)
    assert found["small"] == pytest.approx(0.02 / (0.8 / 3 + 0.1))
    assert found["large"] == 0.5


def test_the_level_of_the_looks_divides_the_five_percent() -> None:
    found = adjusted({"one": [Shown(0.01, 1.0, 1), Shown(0.2, 1.0, 1)]}, lambda _: 0.02)
    assert found == {"one": pytest.approx(0.05 * 0.01 / 0.02)}


def test_the_smallest_p_of_all_looks_so_far_counts_where_the_sign_is_that_of_now() -> None:
    kept = adjusted({"one": [Shown(0.01, 1.0, 1), Shown(0.2, 1.0, 1)]}, five_percent)["one"]
    turned = adjusted({"one": [Shown(0.01, 1.0, -1), Shown(0.2, 1.0, 1)]}, five_percent)["one"]
    assert (kept, turned) == (pytest.approx(0.01), pytest.approx(0.2))


def test_ranks_are_those_of_each_look() -> None:
    """At the first look the arm was the smaller one, at the second the larger."""
    family = {"arm": [Shown(0.02, 1.0, 1), Shown(0.03, 3.0, 1)], "other": [Shown(1.0, 2.0, 1)] * 2}
    first, second = 0.02 / (0.8 / 3 + 0.1), 0.03 / (0.8 * 2 / 3 + 0.1)
    assert adjusted(family, five_percent)["arm"] == pytest.approx(min(first, second)) == pytest.approx(second)


def test_an_arm_that_is_still_to_come_can_only_make_the_others_surer() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        arms = {name: [Shown(float(rng.uniform(0, 0.1)), float(rng.uniform(0, 3)), 1)] for name in range(3)}
        waiting = adjusted({**arms, 9: [AWAITED]}, five_percent)
        for late in (UNTESTABLE, Shown(0.9, 2.0, 1), Shown(1e-6, 0.1, -1)):
            come = adjusted({**arms, 9: [late]}, five_percent)
            assert all(come[name] <= waiting[name] + 1e-12 for name in arms)


PS = st.floats(1e-6, 1)
FAMILIES = st.lists(st.tuples(PS, st.sampled_from([0.5, 1.0, 1.5, 2.0])), min_size=1, max_size=6)


@given(FAMILIES, st.randoms(use_true_random=False))
def test_the_order_of_the_arms_does_not_matter(arms: list[tuple[float, float]], chance: object) -> None:
    family = {number: [Shown(p, size, 1)] for number, (p, size) in enumerate(arms)}
    names = list(family)
    chance.shuffle(names)  # type: ignore[attr-defined]
    assert adjusted({name: family[name] for name in names}, five_percent) == pytest.approx(
        adjusted(family, five_percent)
    )


@given(FAMILIES)
def test_a_smaller_p_of_one_arm_makes_no_arm_less_sure(arms: list[tuple[float, float]]) -> None:
    family = {number: [Shown(p, size, 1)] for number, (p, size) in enumerate(arms)}
    surer = {**family, 0: [family[0][0]._replace(p=family[0][0].p / 2)]}
    before, after = adjusted(family, five_percent), adjusted(surer, five_percent)
    assert all(after[name] <= before[name] + 1e-12 for name in family)


@given(FAMILIES, st.sampled_from([1.0, 0.9, 0.7]))
def test_the_steps_are_the_closed_test_over_every_set_of_arms(arms: list[tuple[float, float]], fall: float) -> None:
    """Marcus, Peritz and Gabriel (1976): an arm's p is the largest of all sets that it is in; 63 sets of six arms."""
    family = {number: [Shown(p, size, 1)] for number, (p, size) in enumerate(arms)}

    def of_set(names: tuple[int, ...]) -> float:
        shares = weights([family[name][0].size for name in names])
        smallest = min(family[name][0].p / share for name, share in zip(names, shares, strict=True))
        return min(1.0, smallest / fall ** len(names))

    sets = [names for count in range(1, len(arms) + 1) for names in combinations(family, count)]
    closed = {name: max(of_set(names) for names in sets if name in names) for name in family}
    assert adjusted(family, lambda left: 0.05 * fall**left) == pytest.approx(closed)


def test_the_classic_is_holms_method_on_the_smallest_p_of_the_looks() -> None:
    family = {"one": [Shown(0.01, 1.0, 1), Shown(0.2, 1.0, 1)], "two": [Shown(0.3, 9.0, 1), Shown(0.004, 9.0, 1)]}
    assert classic(family, lambda _: 0.025) == pytest.approx({"one": 0.02, "two": 2 * 0.008})


# the levels


def test_one_look_has_the_whole_level() -> None:
    assert [level((7,), arms) for arms in (1, 3, 500)] == [0.05] * 3


def test_between_the_numbers_of_arms_the_next_larger_counts_and_beyond_the_looks_share_evenly() -> None:
    known = SHIPPED[3, 5]
    assert [level((3, 5), arms) for arms in (1, 3, 16, 17)] == [known[1], known[4], known[16], 0.025]


def test_a_plan_that_is_not_shipped_shares_evenly_until_it_is_calibrated() -> None:
    assert not is_shipped((6, 9))
    assert level((6, 9), 2) == 0.025
    assert level((6, 9), 3, {1: 0.03, 4: 0.028}) == 0.028


@pytest.mark.parametrize("looks", SHIPPED)
def test_shipped_levels_lie_between_an_even_share_and_all_of_it(looks: tuple[int, ...]) -> None:
    levels = list(SHIPPED[looks].values())
    assert all(0.05 / len(looks) < one < 0.05 for one in levels)
    assert levels == pytest.approx(sorted(levels, reverse=True), abs=3e-4)  # they were simulated


def test_calibration_gives_the_shipped_levels_again_and_the_same_for_the_same_seed() -> None:
    found = calibrate((3, 5), studies=20_000)
    assert found == calibrate.__wrapped__((3, 5), studies=20_000)
    for arms, shipped in SHIPPED[3, 5].items():
        assert found[arms] == pytest.approx(shipped, rel=0.15)


@pytest.mark.parametrize("arms", [1, 6])
def test_at_one_look_the_level_is_five_percent_for_any_number_of_arms(arms: int) -> None:
    found, error = quantile(smallest((4,), arms, 40_000, 7))
    assert found == pytest.approx(0.05, abs=4 * error)


# many at once


def test_the_code_for_many_studies_agrees_with_the_code_for_one() -> None:
    assert simulated.agree(300, seed=1) == 0


@pytest.mark.slow
def test_it_does_so_in_ten_thousand_random_studies() -> None:
    assert simulated.agree(10_000, seed=2) == 0


@pytest.mark.parametrize(
    ("shape", "arms", "looks"), [("arms alike", 8, (5,)), ("base 3 ×", 8, (3, 5, 8)), ("one arm 3 ×", 4, (3, 5))]
)
def test_one_family_in_twenty_at_most_has_a_false_alarm(shape: str, arms: int, looks: tuple[int, ...]) -> None:
    """Where the pooled error had 9 to 12 %; 4,000 studies, three standard errors; and the worst arm's coverage."""
    cell = simulated.simulate(simulated.Setting(shape, arms, looks), 4000, seed=11)
    assert cell.alarms <= 0.05 + 3 * 0.0035
    assert cell.coverage >= 0.94 - 3 * 0.0037


@pytest.mark.parametrize(("arms", "looks"), [(8, (5,)), (15, (5,)), (15, (4, 6, 8))])
def test_one_family_in_twenty_at_most_is_called_equivalent_at_the_margin(arms: int, looks: tuple[int, ...]) -> None:
    """All arms lie exactly there; without a correction over them it was 13 % of 8 arms and 20 % of 15."""
    cell = simulated.simulate(simulated.Setting("normal", arms, looks, 2.0, 2.0, True), 4000, seed=12)
    assert cell.any_equivalent <= 0.05 + 3 * 0.0035
