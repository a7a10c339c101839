"""Whether the same job trains to the same bits twice, and whether a difference would be noticed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from stn_bench.cli.app import app
from stn_bench.runner import determinism
from stn_bench.runner.determinism import Difference, Trained, examine_twice, first_difference
from stn_bench.subject import Outcome, find_subject

LOSS = "`train.loss` of epoch 1"
KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3) / 7


def trained(metrics: Mapping[str, float] = {}, **state: np.ndarray) -> Trained:
    return Trained({LOSS: 0.5, "`test.accuracy`": 0.25, **metrics}, {"kernel": KERNEL, **state})


def next_after(array: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    """Return a copy with one number moved by its last bit."""
    changed = array.copy()
    changed[index] = np.nextafter(changed[index], np.float32(np.inf))
    return changed


@pytest.fixture(scope="module")
def examined() -> tuple[Trained, Difference | None]:
    """Train twice for real."""
    return examine_twice(find_subject("stn"))


@pytest.mark.slow
def test_two_fresh_processes_train_to_the_same_bits(examined: tuple[Trained, Difference | None]) -> None:
    assert examined[1] is None


@pytest.mark.slow
def test_a_real_training_is_compared_in_everything_that_counts(
    examined: tuple[Trained, Difference | None],
) -> None:
    one, _ = examined
    assert {"`train.loss` of epoch 1", "`validation.loss` of epoch 2", "`test.accuracy`"} <= one.metrics.keys()
    assert any("localisation" in name for name in one.state)
    assert any("momentum" in name for name in one.state)
    assert not any("seconds" in name for name in one.metrics)


@pytest.mark.slow
def test_one_bit_of_one_weight_of_a_real_training_is_found(examined: tuple[Trained, Difference | None]) -> None:
    one, _ = examined
    name = list(one.state)[-1]
    index = tuple(size - 1 for size in one.state[name].shape)
    difference = first_difference(one, replace(one, state={**one.state, name: next_after(one.state[name], index)}))
    assert difference is not None
    assert difference.place == f"{name}[{', '.join(map(str, index))}]"
    assert difference.first != difference.second


def test_toys_are_trained_twice_in_fresh_processes() -> None:
    one, difference = examine_twice(find_subject("toy"))
    assert difference is None
    assert {"`train.loss` of epoch 1", "`validation.score` of epoch 3", "`test.score`"} <= one.metrics.keys()
    assert list(one.state) == ["`skill`"]


def test_what_it_took_is_not_compared() -> None:
    one, other = (Trained.of(Outcome({"test.loss": 0.5, "cost.seconds": seconds})) for seconds in (1.0, 2.0))
    assert one == other == Trained.of({"test.loss": 0.5, "cost.seconds": 3.0})


def test_what_is_the_same_has_no_difference() -> None:
    assert first_difference(trained(), trained(kernel=KERNEL.copy())) is None


def test_a_weights_last_bit_is_named_with_its_index_and_both_values() -> None:
    found = first_difference(trained(), trained(kernel=next_after(KERNEL, (1, 2))))
    assert found == Difference("kernel[1, 2]", "0.7142857313156128", "0.7142857909202576")


def test_a_metric_comes_before_the_weights_and_the_first_epoch_before_the_last() -> None:
    other = trained({LOSS: math.nextafter(0.5, 1), "`test.accuracy`": 0.3}, kernel=KERNEL + 1)
    assert first_difference(trained(), other) == Difference(LOSS, "0.5", "0.5000000000000001")


def test_nan_is_the_same_as_itself_and_minus_0_is_not_0() -> None:
    assert first_difference(trained({LOSS: math.nan}), trained({LOSS: math.nan})) is None
    assert first_difference(trained({LOSS: 0.0}), trained({LOSS: -0.0})) == Difference(LOSS, "0.0", "-0.0")


@pytest.mark.parametrize(
    ("other", "second"),
    [(KERNEL.T, "float32 (3, 2)"), (KERNEL.astype(np.float64), "float64 (2, 3)")],
    ids=["shape", "type"],
)
def test_another_shape_or_type_is_a_difference(other: np.ndarray, second: str) -> None:
    assert first_difference(trained(), trained(kernel=other)) == Difference("kernel", "float32 (2, 3)", second)


def test_what_only_one_training_has_is_a_difference() -> None:
    found = first_difference(trained(), trained(bias=np.zeros(3, np.float32)))
    assert found == Difference("bias", "missing", "float32 (3,)")


def test_the_doctor_names_the_difference_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (trained(), Difference("`conv/kernel`[0, 1]", "0.25", "0.26"))
    monkeypatch.setattr(determinism, "examine_twice", lambda subject: found)
    told = CliRunner().invoke(app, ["doctor", "--determinism"], env={"COLUMNS": "200"})
    assert told.exit_code == 1
    assert told.output.startswith("differs determinism: `conv/kernel`[0, 1] is 0.25 in one training and 0.26 in the")


def test_the_doctor_says_bit_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(determinism, "examine_twice", lambda subject: (trained(), None))
    told = CliRunner().invoke(app, ["doctor", "--determinism", "--json"])
    (finding,) = json.loads(told.output)
    assert (told.exit_code, finding["sound"]) == (0, True)
    assert finding["found"].startswith("bit-equal: 2 metrics and 6 numbers of model and optimizer")
