"""Waiting for a store that is away: again and again, aloud, and not for ever."""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from stn_bench.system import patience
from stn_bench.system.errors import StoreAwayError, StoreError
from stn_bench.system.patience import Patience


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES", (0.01,))


class Away:
    """A store that is away for some times."""

    def __init__(self, times: int) -> None:
        self.asked, self._times = 0, times

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self._times:
            raise StoreAwayError("store x: does not answer for now")
        return "here"


def test_it_is_asked_until_it_answers_and_both_are_told_once() -> None:
    told: list[str] = []
    away = Away(3)
    assert Patience(60, tell=told.append).insist(away) == "here"
    assert away.asked == 4
    assert told == ["waiting: store x: does not answer for now", "it answers again after 0 s"]


def test_patience_ends() -> None:
    began = time.monotonic()
    with pytest.raises(StoreAwayError):
        Patience(0.05).insist(Away(10**6))
    assert time.monotonic() - began < 10


def test_who_is_asked_to_stop_waits_no_longer() -> None:
    away = Away(10**6)
    with pytest.raises(StoreAwayError):
        Patience(60, should_stop=lambda: away.asked == 2).insist(away)
    assert away.asked == 2


def test_what_is_refused_for_good_is_asked_once() -> None:
    def refuse() -> None:
        raise StoreError("wrong password")

    with pytest.raises(StoreError, match="wrong password"):
        Patience(60).insist(refuse)


def test_the_environment_says_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STN_BENCH_PATIENCE", "7")
    assert Patience().seconds == 7


def test_threads_that_wait_side_by_side_are_told_of_as_one() -> None:
    told: list[str] = []
    patience_, together = Patience(60, tell=told.append), threading.Barrier(4)

    def ask(store: Away) -> str:
        if store.asked in (0, 9):
            together.wait(60)  # nobody is answered before all wait
        return store()

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(patience_.insist, functools.partial(ask, Away(9))) for _ in range(4)]
    assert [one.result() for one in found] == ["here"] * 4
    assert told == ["waiting: store x: does not answer for now", "it answers again after 0 s"]


def test_a_wait_that_ended_badly_lets_the_next_be_told() -> None:
    told: list[str] = []
    impatient = Patience(0.05, tell=told.append)
    with pytest.raises(StoreAwayError):
        impatient.insist(Away(10**6))
    assert impatient.insist(Away(1)) == "here"
    assert [line.split()[0] for line in told] == ["waiting:", "waiting:", "it"]
