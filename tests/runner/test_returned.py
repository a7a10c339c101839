"""What a training returns: numbers are kept as they are, and all else is refused in a line."""

from __future__ import annotations

import dataclasses
import fractions
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stn_bench.runner.returned import check_metric, read_epoch, read_metrics, read_outcome
from stn_bench.subject import Outcome, find_subject
from stn_bench.system.errors import SubjectError

TOY = find_subject("toy")


class LikeTorch:
    """A number as PyTorch has it: no numpy, no dtype of numpy's."""

    def __init__(self, shape: tuple[int, ...] = (), dtype: str = "torch.float32") -> None:
        self.shape, self.dtype = shape, dtype

    def __float__(self) -> float:
        return 0.5


class Refuses:
    def __float__(self) -> float:
        raise RuntimeError("not on this device")


@given(st.floats(), st.sampled_from([float, np.float64, np.array, lambda value: value]))
def test_a_number_stays_the_number_that_it_is(value: float, kind: Any) -> None:
    found = read_metrics("s", {"test.error": kind(value)})["test.error"]
    assert type(found) is float
    assert found == value or (math.isnan(found) and math.isnan(value))


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.float32(3), fractions.Fraction(3), LikeTorch()])
def test_numbers_of_other_libraries_are_numbers(value: Any) -> None:
    assert read_metrics("s", {"a": value})["a"] == float(value)


NO_NUMBERS = [
    *("0.5", b"1", None, True, [0.5], {"a": 1}, 1j, 10**400, Refuses()),
    *(np.bool_(True), np.array("0.5"), np.zeros(1), np.zeros(3), np.complex128(1), np.timedelta64(3, "s")),
    *(LikeTorch((1,)), LikeTorch(dtype="torch.bool"), LikeTorch(dtype="torch.complex64")),
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda one: f"{type(one).__name__}-{str(one)[:12]}")
def test_what_is_no_number_is_refused_in_a_line_that_names_it(value: Any) -> None:
    with pytest.raises(SubjectError, match=r"`s`: .*numbers by name; got .* for metric 'test\.error'") as one:
        read_metrics("s", {"test.error": value})
    assert len(str(one.value).splitlines()) == 1


@pytest.mark.parametrize("name", [3, None, "", "a\nb", "a=b", "/a", "../a", "a//b", ".", "é\x1b", "x" * 251])
def test_a_name_that_no_store_takes_is_refused(name: Any) -> None:
    with pytest.raises(SubjectError, match="`s`: "):
        read_metrics("s", {name: 1.0})


@pytest.mark.parametrize("name", ["test.error", "a/b", "top-5 accuracy", "f1:macro", "x" * 250])
def test_a_name_that_stores_take_is_kept(name: str) -> None:
    assert read_metrics("s", {name: 1.0}) == {name: 1.0}


@pytest.mark.parametrize("returned", [None, 0.5, [("a", 1)], "a", Outcome(None)])  # type: ignore[arg-type]
def test_what_is_no_table_of_metrics_is_refused(returned: Any) -> None:
    with pytest.raises(
        SubjectError, match=r"must return an Outcome, or metrics by name; got .*; end it with a line such as `return {"
    ):
        read_outcome(TOY, returned, {}, {})


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (Outcome({"a": 1.0}, status="fine"), "`status` of an Outcome is finished or diverged, got 'fine'"),  # type: ignore[arg-type]
        (Outcome({"a": 1.0}, history={"x": ["a"]}), "`history` of an Outcome holds numbers by name"),  # type: ignore[list-item]
        (Outcome({"a": 1.0}, history={"x": 3}), "`history` of an Outcome holds numbers by name"),  # type: ignore[dict-item]
    ],
)
def test_the_other_parts_of_an_outcome_are_checked_too(outcome: Outcome, message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        read_outcome(TOY, outcome, {}, {})


@pytest.mark.parametrize(
    ("name", "kept"),
    [("val loss", "val loss"), ("top@5", "top_5"), ("val loss (kg)", "val loss _kg_"), ("a\nb", "a_b")],
)
def test_a_run_is_not_lost_for_the_name_of_a_curve(name: str, kept: str) -> None:
    assert read_outcome(TOY, Outcome({"a": 1.0}, history={name: [1.0, 2.0]}), {}, {}).history == {kept: (1.0, 2.0)}


@pytest.mark.parametrize("names", [("top@5", "top_5"), ("../x",), ("",)])
def test_curves_that_no_two_names_are_left_for_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(SubjectError, match="no two alike"):
        read_outcome(TOY, Outcome({"a": 1.0}, history={name: [1.0] for name in names}), {}, {})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_is_a_run_that_diverged(value: float) -> None:
    outcome = read_outcome(TOY, {"test.error": value}, {}, {}, "test.error")
    assert (outcome.status, outcome.reason) == ("diverged", "test.error is not finite")
    check_metric("s", "study", "test.loss", outcome)  # which needs no other metric


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("other", ["test.recall", "cost.flops"])
@pytest.mark.parametrize("kind", [dict, Outcome])
def test_only_the_metric_of_the_study_decides_whether_a_run_diverged(value: float, other: str, kind: Any) -> None:
    outcome = read_outcome(TOY, kind({"test.error": 0.5, other: value}), {}, {}, "test.error")
    assert (outcome.status, outcome.reason) == ("finished", "")
    assert outcome.metrics == {"test.error": 0.5, other: pytest.approx(value, nan_ok=True)}
    outcome = read_outcome(TOY, kind({"test.error": 0.5, other: value}), {}, {}, other)
    assert (outcome.status, outcome.reason) == ("diverged", f"{other} is not finite")


def test_outside_a_study_the_first_declared_metric_decides_and_no_cost_does() -> None:
    told = {"test.score": 0.5, "test.loss": math.nan, "cost.flops": math.nan}
    assert read_outcome(TOY, told, {}, {}).status == "finished"
    undeclared = dataclasses.replace(TOY, metrics=())
    assert read_outcome(undeclared, told, {}, {}).reason == "test.loss is not finite"
    assert read_outcome(undeclared, told | {"test.loss": 1.0}, {}, {}).status == "finished"


def test_measured_costs_count_where_the_training_tells_none() -> None:
    outcome = read_outcome(TOY, {"a": 1.0, "cost.seconds": 7}, {"cost.seconds": 1.0, "cost.cpu_seconds": 2.0}, {})
    assert outcome.metrics == {"a": 1.0, "cost.seconds": 7.0, "cost.cpu_seconds": 2.0}


@pytest.mark.parametrize("epoch", [0, -1, 1.5, "1", None, 1_000_001])
def test_an_epoch_that_is_no_number_from_one_is_refused(epoch: Any) -> None:
    with pytest.raises(SubjectError, match="number of an epoch, from 1 to 1,000,000; got"):
        read_epoch("s", epoch)
    assert read_epoch("s", np.int64(3)) == 3
