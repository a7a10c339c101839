from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from makers import FakeStore, ablation, arm, plan, record

from stn_bench.analysis.power import ASSUMED_MEAN, ASSUMED_SD, Power, powers
from stn_bench.study.plan import Plan
from stn_bench.tracking.results import gather

ARMS = [arm(f"d{number}", {"model.dropout": number / 10}) for number in range(3, 10)]


def asked(count: int, accuracies: tuple[float, ...] = (), **rest: Any) -> Power:
    """Return the power of a question with so many arms, of whose base some seeds are trained."""
    planned = plan(ablation(*ARMS[:count]), **rest)
    return of_questions(planned, accuracies)[0]


def of_questions(planned: Plan, accuracies: tuple[float, ...] = ()) -> tuple[Power, ...]:
    specs = planned.arms[0].verdict_specs({})
    made = [record(spec, f"r{spec.seed}", test_accuracy=value) for spec, value in zip(specs, accuracies, strict=False)]
    return powers(gather(planned, FakeStore(*made), Path("nowhere")))


def test_two_arms_on_five_seeds_show_what_the_table_of_the_t_test_says() -> None:
    # STATISTICS: 1.68 standard deviations of the paired difference, which are sqrt(2) of a seed's without correlation.
    assert asked(1, seeds=(1, 2, 3, 4, 5)).smallest == pytest.approx(1.68 * math.sqrt(2) * 0.01, rel=0.01)


def test_more_arms_show_less() -> None:
    """Each arm has its own error, and the first of the order no more than its weight of the level."""
    found = [asked(count).smallest for count in (1, 3, 7)]
    assert found == sorted(found)  # type: ignore[type-var]


def test_more_seeds_show_smaller_differences() -> None:
    found = [asked(2, seeds=tuple(range(1, count + 1))).smallest for count in (3, 5, 8)]
    assert found == sorted(found, reverse=True)  # type: ignore[type-var]


def test_looks_cost_some_power_and_the_first_one_shows_less() -> None:
    seeds = (1, 2, 3, 4, 5)
    once, twice = asked(2, seeds=seeds), asked(2, seeds=seeds, looks=(3, 5))
    assert once.smallest_at_first is None
    assert once.smallest < twice.smallest < twice.smallest_at_first  # type: ignore[operator]


def test_a_family_of_the_whole_study_shows_less() -> None:
    questions = (ablation(*ARMS[:2]), ablation(*ARMS[2:5], name="other"))
    narrow, wide = (of_questions(plan(*questions, family=family))[0].smallest for family in ("question", "study"))
    assert narrow < wide  # type: ignore[operator]


def test_without_runs_the_spread_is_assumed() -> None:
    power = asked(1)
    assert (power.sd, power.mean) == (ASSUMED_SD, ASSUMED_MEAN)


def test_three_runs_of_the_base_tell_its_spread_and_accuracy() -> None:
    power = asked(1, (0.90, 0.91, 0.95))
    assert power.sd is not None
    assert (power.sd.value, power.sd.source) == (pytest.approx(0.0264575), "3 runs of base")
    assert power.smallest == pytest.approx(asked(1).smallest * 2.64575, rel=1e-4)  # type: ignore[operator]
    assert power.mean is not None
    assert (power.mean.value, power.mean.source) == (pytest.approx(0.92), "3 runs of base")


def test_two_runs_tell_an_accuracy_and_no_spread() -> None:
    power = asked(1, (0.90, 0.92))
    assert power.sd == ASSUMED_SD
    assert power.mean is not None
    assert (power.mean.value, power.mean.source) == (pytest.approx(0.91), "2 runs of base")


def test_ten_thousand_pictures_leave_thirty_hundredths_of_a_point() -> None:
    power = asked(1, base={"data.count": 20_000, "data.test": 10_000})
    assert power.example_error == pytest.approx(0.0030)


def test_a_metric_of_the_validation_pictures_counts_those() -> None:
    power = asked(1, metric="best.validation.accuracy", base={"data.validation": 250})
    assert (power.examples, power.example_error) == (250, pytest.approx(math.sqrt(0.9 * 0.1 / 250)))


def test_of_a_loss_nothing_is_assumed() -> None:
    power = asked(1, metric="test.loss")
    assert (power.sd, power.smallest, power.example_error) == (None, None, None)


def test_fewer_than_three_seeds_show_nothing() -> None:
    assert asked(1, seeds=(1, 2)).smallest is None
