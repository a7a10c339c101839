"""Which weights a run is tested with: those of the best epoch or of the last, their running average or themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_network_training import PLAINEST, network, stop, train, weights

from stn_bench.system.errors import Interrupted

LAST = {**PLAINEST, "train__weights": "last", "train__batch_size": 42}  # one step an epoch
AVERAGED = {**LAST, "optimizer__averaging": 0.9}


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])  # which scales the loss around the optimizer
def test_the_average_is_the_one_worked_out_from_the_weights_of_each_step(tmp_path: Path, precision: str) -> None:
    by_epoch = [train(tmp_path / str(n), train__epochs=n, train__precision=precision, **LAST) for n in (1, 2, 3)]
    first, second, third = map(weights, by_epoch)
    expected = 0.9 * (0.9 * first + 0.1 * second) + 0.1 * third
    found = weights(train(tmp_path / "averaged", train__precision=precision, **AVERAGED))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(found, third, rtol=1e-3)


def test_training_goes_on_from_the_weights_themselves_and_the_average_is_judged(tmp_path: Path) -> None:
    plain, averaged = train(tmp_path / "plain", **LAST), train(tmp_path / "averaged", **AVERAGED)
    assert averaged.history["train.loss"] == plain.history["train.loss"]
    assert averaged.history["validation.loss"][0] == plain.history["validation.loss"][0]  # of one step it is itself
    assert averaged.history["validation.loss"][1:] != plain.history["validation.loss"][1:]


def test_the_average_outlives_an_interruption_bit_for_bit(tmp_path: Path) -> None:
    undisturbed = train(tmp_path / "whole", **AVERAGED)
    with pytest.raises(Interrupted):
        train(tmp_path / "parted", then=lambda epoch: stop(epoch) if epoch >= 2 else None, **AVERAGED)
    resumed = train(tmp_path / "parted", **AVERAGED)
    np.testing.assert_array_equal(weights(resumed), weights(undisturbed))
    assert resumed.history == undisturbed.history


def test_the_best_epoch_of_an_average_is_tested_with_the_average(tmp_path: Path) -> None:
    settings = {**AVERAGED, "train__weights": "best", "optimizer__learning_rate": 0.3}
    outcome = train(tmp_path / "whole", **settings)
    best = int(outcome.metrics["best.epoch"])
    expected = train(tmp_path / "short", **{**settings, "train__weights": "last"}, train__epochs=best)
    np.testing.assert_array_equal(weights(outcome), weights(expected))


def test_the_last_weights_are_tested_and_kept_though_another_epoch_was_the_best(tmp_path: Path) -> None:
    settings = {**PLAINEST, "optimizer__learning_rate": 3.0}  # it worsens
    best, last = train(tmp_path / "best", **settings), train(tmp_path / "last", train__weights="last", **settings)
    assert best.metrics["best.epoch"] < 3
    assert last.metrics["best.epoch"] == best.metrics["best.epoch"]
    assert last.metrics["test.loss"] == last.metrics["test.last_loss"] == best.metrics["test.last_loss"]
    assert best.metrics["test.loss"] != best.metrics["test.last_loss"]
    assert not np.array_equal(weights(best), weights(last))
    assert network(last).name == network(best).name
