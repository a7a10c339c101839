"""The epochs of a training: each value is that of its epoch, and none is lost while a store is away."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import pytest

from stn_bench.runner import epochs
from stn_bench.runner.epochs import EpochEnd, Epochs
from stn_bench.system import patience
from stn_bench.system.errors import StoreAwayError, SubjectError
from stn_bench.system.patience import Patience


class Store:
    """A tracking store that is away when it is told to be."""

    def __init__(self) -> None:
        self.is_away, self.asked = False, 0
        self.written: list[tuple[int, float, int]] = []
        self.patience = Patience(60, should_stop=lambda: False)

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float], now: int) -> None:
        self.asked += 1
        if self.is_away:
            raise StoreAwayError("away")
        self.written.append((epoch, metrics.get("loss", math.nan), now))


class Nobody:
    subject, epochs = "toy", 5
    is_trial = False


def training(store: Store, told: list[EpochEnd]) -> Epochs:
    job: Any = Nobody()
    tracking: Any = store
    return Epochs(job, tracking, "r1", told.append, lambda: False)


def test_epochs_are_kept_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "AGAIN_SECONDS", 0.0)
    store, told = Store(), list[EpochEnd]()
    found = training(store, told)
    for epoch in range(1, 6):
        store.is_away = epoch in (2, 3)
        found.log(epoch, {"loss": epoch / 10})
    assert [(epoch, value) for epoch, value, _ in store.written] == [(n, n / 10) for n in range(1, 6)]
    moments = [now for _, _, now in store.written]
    assert moments == sorted(moments)
    assert [one.epoch for one in told] == [1, 2, 3, 4, 5]


def test_a_store_that_is_away_is_not_asked_at_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES", (0.01,))
    store = Store()
    found = training(store, [])
    store.is_away = True
    for epoch in range(1, 6):
        found.log(epoch, {"loss": 0.0})
    assert store.asked == 1
    store.is_away = False
    found.send_all()
    assert [epoch for epoch, _, _ in store.written] == [1, 2, 3, 4, 5]
    found.send_all()
    assert len(store.written) == 5


def test_a_value_stands_at_its_epoch_whichever_epochs_are_told() -> None:
    found = training(Store(), [])
    for epoch in (2, 3, 5):
        found.log(epoch, {"loss": epoch / 10, **({"error": float(epoch)} if epoch == 5 else {})})
    assert found.history == {
        "loss": pytest.approx([math.nan, 0.2, 0.3, math.nan, 0.5], nan_ok=True),
        "error": pytest.approx([*[math.nan] * 4, 5.0], nan_ok=True),
    }


@pytest.mark.parametrize("again", [1, 2])
def test_a_metric_is_told_once_an_epoch_and_epochs_rise(again: int) -> None:
    found = training(Store(), [])
    found.log(2, {"loss": 0.2})
    message = f"expects a metric once an epoch, and epochs that rise; got 'loss' for epoch {again} after epoch 2"
    with pytest.raises(SubjectError, match=message):
        found.log(again, {"loss": 0.1})


def test_one_epoch_may_be_told_in_several_parts() -> None:
    store = Store()
    found = training(store, [])
    found.log(1, {"loss": 0.2})
    found.log(1, {"error": 0.3})
    assert found.history == {"loss": [0.2], "error": [0.3]}
    assert [epoch for epoch, _, _ in store.written] == [1, 1]


def test_a_process_that_training_began_tells_of_no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes on one connection would spoil the store."""
    store, told = Store(), list[EpochEnd]()
    found = training(store, told)
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        with pytest.raises(
            SubjectError, match=r"^subject `toy`: `run\.log` was called in a process that training began"
        ):
            found.log(1, {"loss": 0.5})
    assert (store.written, told) == ([], [])
    found.log(1, {"loss": 0.25})
    assert found.history == {"loss": [0.25]}
