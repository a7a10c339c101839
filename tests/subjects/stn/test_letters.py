from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from stn_bench.subjects.stn.letters import LetterCheck, check_letters

RANDOM = np.random.default_rng(5)


def check(magnification: list[float], before: list[float], after: list[float]) -> LetterCheck:
    return check_letters(np.array(magnification), np.array(before), np.array(after))


def test_magnification_is_a_geometric_mean() -> None:
    found = check([0.5, 2.0, 8.0], [1, 1, 1], [1, 1, 1])
    assert found.magnification.value == pytest.approx(2.0)
    assert (found.magnification.pictures, found.larger) == (3, 2)


def test_its_interval_is_students_on_the_logarithms() -> None:
    values = RANDOM.lognormal(0.3, 0.2, 12)
    found = check_letters(values, np.ones(12), np.ones(12)).magnification
    logs = np.log(values)
    half = stats.t.ppf(0.975, 11) * logs.std(ddof=1) / math.sqrt(12)
    assert (found.low, found.high) == pytest.approx((np.exp(logs.mean() - half), np.exp(logs.mean() + half)))


def test_centring_is_the_paired_difference_with_students_interval() -> None:
    before, after = RANDOM.uniform(2, 6, 9), RANDOM.uniform(1, 5, 9)
    found = check_letters(np.ones(9), before, after)
    differences = before - after
    half = stats.t.ppf(0.975, 8) * stats.sem(differences)
    assert (found.before, found.after) == pytest.approx((before.mean(), after.mean()))
    assert found.centring.value == pytest.approx(differences.mean())
    assert (found.centring.low, found.centring.high) == pytest.approx(
        (differences.mean() - half, differences.mean() + half)
    )
    assert found.nearer == sum(b > a for b, a in zip(before, after, strict=True))


def test_a_picture_without_letter_is_left_out_of_the_distances_and_counted() -> None:
    found = check([2, 2, 2, 2], [3, math.nan, 4, 5], [1, 1, math.nan, 4])
    assert (found.without_letter, found.centring.pictures, found.magnification.pictures) == (2, 2, 4)
    assert (found.before, found.after, found.centring.value) == (4, 2.5, 1.5)
    assert "left out of the second: 2 pictures without a letter" in found.lines()[2]


def test_no_ink_at_all_is_said_and_is_valid_json() -> None:
    found = check([1.5, 1.6], [math.nan] * 2, [math.nan] * 2)
    assert found.lines()[1] == "letters move to the middle: undecided. No picture has a letter both before and after"
    assert json.loads(json.dumps(found.tree(), allow_nan=False))["centring"]["value"] is None


def test_one_picture_has_no_interval_and_decides_nothing() -> None:
    found = check([1.5], [2], [1])
    assert math.isnan(found.magnification.low)
    assert found.claims == {"larger": "undecided", "centred": "undecided"}
    assert "1.500 times as large [no interval]" in found.lines()[0]


@pytest.mark.parametrize(
    ("shift", "claim"), [(0.5, "holds"), (0.0, "undecided"), (-0.5, "fails")], ids=["nearer", "same", "further"]
)
def test_claims_follow_the_intervals(shift: float, claim: str) -> None:
    noise = np.array([-0.1, 0.1, -0.2, 0.2, 0.0])
    found = check_letters(np.exp(shift + noise), 5 + shift + noise, np.full(5, 5.0))
    assert found.claims == {"larger": claim, "centred": claim}
