from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from stn_bench.stats import Effect, Outcomes, Rules, Values, effects

TWO = {"norm": ("before", "after"), "width": (0.5, 1.0)}
THREE = {**TWO, "pooling": ("max", "mean")}
LEVELS = {"norm": ("before", "after"), "width": (0.25, 0.5, 1.0)}
SEEDS = (1, 2, 3, 4, 5)


def cells(factors: Mapping[str, Sequence[object]], seed: int = 0) -> dict[tuple[object, ...], Values]:
    """Return values of every combination: what each level adds, a few interactions, the seed's luck and noise."""
    random = np.random.default_rng(seed)
    luck = random.normal(0, 0.02, len(SEEDS))
    combinations = list(itertools.product(*factors.values()))
    means = random.normal(0.9, 0.02, len(combinations))
    noise = random.normal(0, 0.005, (len(combinations), len(SEEDS)))
    return {
        levels: dict(zip(SEEDS, map(float, mean + luck + rest), strict=True))
        for levels, mean, rest in zip(combinations, means, noise, strict=True)
    }


def coded(factors: Mapping[str, Sequence[object]], values: Mapping[tuple[object, ...], Values]) -> pd.DataFrame:
    """Return one row a run: each factor of two levels coded -1 and +1, the seed, the value."""
    rows = [
        {name: -1 if level == factors[name][0] else 1 for name, level in zip(factors, levels, strict=True)}
        | {"seed": seed, "value": value}
        for levels, runs in values.items()
        for seed, value in runs.items()
    ]
    return pd.DataFrame(rows)


def named(found: Sequence[Effect]) -> dict[tuple[str, ...], Effect]:
    return {tuple(effect.levels): effect for effect in found}


def mean(values: Mapping[tuple[object, ...], Values], factors: Mapping[str, Sequence[object]], **at: object) -> float:
    """Return the mean of all runs whose combination has these levels."""
    rows = [
        list(runs.values())
        for levels, runs in values.items()
        if all(dict(zip(factors, levels, strict=True))[name] == level for name, level in at.items())
    ]
    return float(np.mean(rows))


def found(
    factors: Mapping[str, Sequence[object]], values: Mapping[tuple[object, ...], Values], **more: Any
) -> list[Effect]:
    """Return the effects of a study with one look, unless told."""
    rules = Rules(SEEDS, more.pop("looks", (5,)), 0.01, **more)
    return effects(factors, {levels: Outcomes(runs) for levels, runs in values.items()}, rules)


def contrast(
    values: Mapping[tuple[object, ...], Values],
    signs: Mapping[tuple[object, ...], float],
    seeds: Sequence[int] = SEEDS,
) -> list[float]:
    """Return a contrast seed by seed."""
    return [sum(sign * values[levels][seed] for levels, sign in signs.items()) for seed in seeds]


@pytest.mark.parametrize("formula", ["norm * width"])
def test_effects_are_those_of_least_squares(formula: str) -> None:
    """Coded -1 and +1, a main effect is twice the coefficient and an interaction four times."""
    values = cells(TWO)
    fit = ols(f"value ~ {formula} + C(seed)", coded(TWO, values)).fit()
    for names, ours in named(found(TWO, values)).items():
        assert ours.value == pytest.approx(2 ** len(names) * fit.params[":".join(names)])


def test_an_effect_is_tested_by_its_contrast_seed_by_seed() -> None:
    values = cells(TWO)
    signs = {levels: (1.0 if levels[0] == "after" else -1.0) / 2 for levels in values}
    theirs = scipy_stats.ttest_1samp(contrast(values, signs), 0)
    ours = named(found(TWO, values))["norm",]
    interval = theirs.confidence_interval()
    assert (ours.p, ours.low, ours.high, ours.n) == pytest.approx((theirs.pvalue, interval.low, interval.high, 5))


def test_the_effects_of_a_question_are_a_family_of_the_rule() -> None:
    """The root mean square ranks them; the p of the first to be tested is over its weight."""
    ours = found(THREE, cells(THREE))
    assert [effect.holm_p for effect in ours] == pytest.approx(multipletests([e.p for e in ours], method="holm")[1])
    first = min(ours, key=lambda effect: effect.p_adjusted)
    assert first.p_adjusted >= first.p


def test_effects_are_judged_at_planned_looks_alone() -> None:
    values = cells(TWO)
    four = {levels: {seed: run[seed] for seed in SEEDS[:4]} for levels, run in values.items()}
    three = {levels: {seed: run[seed] for seed in SEEDS[:3]} for levels, run in values.items()}
    assert found(TWO, four, looks=(3, 5)) == found(TWO, three, looks=(3, 5)) != []
    assert found(TWO, four, looks=(5,)) == []


def test_the_step_of_the_metric_floors_a_contrast_too() -> None:
    """Equal contrasts of whole errors: each of the four cells has a variance of a quarter of the squared step."""
    values = {
        levels: dict.fromkeys(SEEDS, 0.99 if levels == ("after", 1.0) else 1.0)
        for levels in itertools.product(*TWO.values())
    }
    rules = Rules(SEEDS, (5,), 0.001)
    outcomes = {levels: Outcomes(runs, resolution=0.01) for levels, runs in values.items()}
    ours = named(effects(TWO, outcomes, rules))["norm", "width"]
    se = math.sqrt(4 * 0.01**2 / 4 / 5)
    assert ours.p == pytest.approx(2 * scipy_stats.t.sf(0.01 / se, 4))


def test_two_factors_by_hand() -> None:
    """Without noise: before/narrow 1, before/wide 2, after/narrow 4, after/wide 9, each seed 0.5 more."""
    means = {("before", 0.5): 1.0, ("before", 1.0): 2.0, ("after", 0.5): 4.0, ("after", 1.0): 9.0}
    values = {levels: {seed: value + 0.5 * seed for seed in SEEDS} for levels, value in means.items()}
    found_ones = named(found(TWO, values))
    assert found_ones["norm",].value == pytest.approx((4 - 1 + 9 - 2) / 2)
    assert found_ones["width",].value == pytest.approx((2 - 1 + 9 - 4) / 2)
    assert found_ones["norm", "width"].value == pytest.approx((9 - 4) - (2 - 1))
    assert all(math.isnan(effect.p) for effect in found_ones.values())  # no spread, and no step: no test


def test_three_levels_are_each_compared_with_the_first() -> None:
    values = cells(LEVELS)
    ours = found(LEVELS, values)
    assert [dict(effect.levels) for effect in ours] == [
        {"norm": "after"},
        {"width": 0.5},
        {"width": 1.0},
        {"norm": "after", "width": 0.5},
        {"norm": "after", "width": 1.0},
    ]
    for effect in ours[:3]:
        ((name, level),) = effect.levels.items()
        first = {name: LEVELS[name][0]}
        change = mean(values, LEVELS, **{name: level}) - mean(values, LEVELS, **first)
        assert effect.value == pytest.approx(change)
    for effect in ours[3:]:
        wide, narrow = effect.levels["width"], LEVELS["width"][0]
        changes = [
            mean(values, LEVELS, norm="after", width=w) - mean(values, LEVELS, norm="before", width=w)
            for w in (wide, narrow)
        ]
        assert effect.value == pytest.approx(changes[0] - changes[1])


def test_two_way_interactions_of_three_factors_are_means_over_the_third() -> None:
    values = cells(THREE)
    ours = named(found(THREE, values))
    at = [mean(values, THREE, norm=norm, width=width) for norm in ("before", "after") for width in (0.5, 1.0)]
    assert ours["norm", "width"].value == pytest.approx((at[3] - at[2]) - (at[1] - at[0]))


def test_two_common_seeds_say_nothing_of_effects() -> None:
    values = cells(TWO)
    values["after", 1.0] = {1: 0.9, 2: 0.8}
    assert found(TWO, values) == []


def test_combinations_that_agree_have_no_effects() -> None:
    same = {seed: 0.1 * seed + 0.7 for seed in SEEDS}
    ours = found(TWO, dict.fromkeys(itertools.product(*TWO.values()), same))
    assert [effect.p for effect in ours] == [1.0, 1.0, 1.0]


def test_the_order_of_the_combinations_does_not_matter() -> None:
    values = cells(THREE)
    assert found(THREE, dict(reversed(values.items()))) == found(THREE, values)
