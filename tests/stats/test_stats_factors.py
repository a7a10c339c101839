from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from stn_bench.stats import Effect, Values, effects

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


@pytest.mark.parametrize(("factors", "formula"), [(TWO, "norm * width"), (THREE, "norm * width * pooling")])
def test_effects_agree_with_least_squares(factors: Mapping[str, Sequence[object]], formula: str) -> None:
    """Coded -1 and +1, a main effect is twice the coefficient and an interaction four times."""
    values = cells(factors)
    fit = ols(f"value ~ {formula} + C(seed)", coded(factors, values)).fit()
    found = effects(factors, values)
    assert len(found) == len(factors) + len(list(itertools.combinations(factors, 2)))
    for names, ours in named(found).items():
        times, name = 2 ** len(names), ":".join(names)
        low, high = fit.conf_int().loc[name]
        assert ours.method == "pooled"
        assert (ours.value, ours.p) == pytest.approx((times * fit.params[name], fit.pvalues[name]), rel=1e-8)
        assert (ours.low, ours.high) == pytest.approx((times * low, times * high), rel=1e-8)


def test_two_factors_by_hand() -> None:
    """Without noise: before/narrow 1, before/wide 2, after/narrow 4, after/wide 9, each seed 0.5 more."""
    means = {("before", 0.5): 1.0, ("before", 1.0): 2.0, ("after", 0.5): 4.0, ("after", 1.0): 9.0}
    values = {levels: {seed: value + 0.5 * seed for seed in SEEDS} for levels, value in means.items()}
    found = named(effects(TWO, values))
    assert found["norm",].value == pytest.approx((4 - 1 + 9 - 2) / 2)
    assert found["width",].value == pytest.approx((2 - 1 + 9 - 4) / 2)
    assert found["norm", "width"].value == pytest.approx((9 - 4) - (2 - 1))
    assert [effect.p for effect in found.values()] == [0.0, 0.0, 0.0]


def test_three_levels_are_each_compared_with_the_first() -> None:
    values = cells(LEVELS)
    found = effects(LEVELS, values)
    assert [dict(effect.levels) for effect in found] == [
        {"norm": "after"},
        {"width": 0.5},
        {"width": 1.0},
        {"norm": "after", "width": 0.5},
        {"norm": "after", "width": 1.0},
    ]
    for effect in found[:3]:
        ((name, level),) = effect.levels.items()
        first = {name: LEVELS[name][0]}
        change = mean(values, LEVELS, **{name: level}) - mean(values, LEVELS, **first)
        assert effect.value == pytest.approx(change)
    for effect in found[3:]:
        wide, narrow = effect.levels["width"], LEVELS["width"][0]
        changes = [
            mean(values, LEVELS, norm="after", width=w) - mean(values, LEVELS, norm="before", width=w)
            for w in (wide, narrow)
        ]
        assert effect.value == pytest.approx(changes[0] - changes[1])


def test_the_error_of_three_levels_agrees_with_least_squares() -> None:
    """Cells and seeds as categories; the effect of the last width is a contrast of the cells' coefficients."""
    values = cells(LEVELS)
    rows = [(number, seed, one[seed]) for number, one in enumerate(values.values()) for seed in SEEDS]
    fit = ols("value ~ 0 + C(cell) + C(seed)", pd.DataFrame(rows, columns=["cell", "seed", "value"])).fit()
    weights = np.zeros(len(fit.params))
    for index, (_, width) in enumerate(values):
        weights[index] = {0.25: -0.5, 0.5: 0.0, 1.0: 0.5}[width]  # the mean over both places of the norm
    theirs = fit.t_test(weights)
    ours = effects(LEVELS, values)[2]
    assert (ours.value, ours.p) == pytest.approx((float(theirs.effect[0]), float(theirs.pvalue)), rel=1e-8)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.conf_int()[0]), rel=1e-8)


def test_two_way_interactions_of_three_factors_are_means_over_the_third() -> None:
    values = cells(THREE)
    found = named(effects(THREE, values))
    at = [mean(values, THREE, norm=norm, width=width) for norm in ("before", "after") for width in (0.5, 1.0)]
    assert found["norm", "width"].value == pytest.approx((at[3] - at[2]) - (at[1] - at[0]))


def test_a_combination_that_spreads_three_times_as_much_forbids_pooling() -> None:
    """The contrast of each seed by itself is then what is tested."""
    pattern, multiples = np.array([1.0, -1.0, 0.0]), [1.0, 1.0, 1.0, -3.0]
    combinations = list(itertools.product(*TWO.values()))
    values = {
        levels: dict(enumerate((0.1 * number + times * pattern).tolist()))
        for number, (levels, times) in enumerate(zip(combinations, multiples, strict=True))
    }
    found = named(effects(TWO, values))
    table = np.array([list(values[levels].values()) for levels in combinations])
    theirs = scipy_stats.ttest_1samp(table[3] - table[2] - table[1] + table[0], 0)
    ours = found["norm", "width"]
    assert {effect.method for effect in found.values()} == {"paired t (spreads differ)"}
    assert (ours.p, ours.low) == pytest.approx((theirs.pvalue, theirs.confidence_interval().low))


def test_holms_correction_counts_the_effects_of_the_question() -> None:
    found = effects(THREE, cells(THREE))
    adjusted = multipletests([effect.p for effect in found], method="holm")[1]
    assert [effect.p_adjusted for effect in found] == pytest.approx(adjusted)


def test_only_seeds_that_every_combination_has_are_counted() -> None:
    values = cells(TWO)
    short = {levels: {seed: run[seed] for seed in run if seed != 5} for levels, run in values.items()}
    lacking = {**values, ("after", 1.0): short["after", 1.0]}
    assert effects(TWO, lacking) == effects(TWO, short)


def test_two_common_seeds_say_nothing_of_effects() -> None:
    values = cells(TWO)
    values["after", 1.0] = {1: 0.9, 2: 0.8}
    assert effects(TWO, values) == []


def test_combinations_that_agree_have_no_effects() -> None:
    same = {seed: 0.1 * seed + 0.7 for seed in SEEDS}
    found = effects(TWO, dict.fromkeys(itertools.product(*TWO.values()), same))
    assert [effect.p for effect in found] == [1.0, 1.0, 1.0]


def test_the_order_of_the_combinations_does_not_matter() -> None:
    values = cells(THREE)
    assert effects(THREE, dict(reversed(values.items()))) == effects(THREE, values)
