"""Patience with a server that is away for now: what is asked of it is asked again, until it answers or time is up."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from stn_bench.system.errors import StoreAwayError

VARIABLE = "STN_BENCH_PATIENCE"
DEFAULT_SECONDS = 4 * 3600.0
PAUSES = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds between two tries, the last again and again: short enough to see a server that only restarts."""

Answer = TypeVar("Answer")


def _seconds() -> float:
    return float(os.environ.get(VARIABLE) or DEFAULT_SECONDS)


@dataclass
class Patience:
    """How long a process waits for a store that it has opened before, and whom it tells that it does.

    Args:
        seconds: how long; nobody answers for that long only where something is wrong for good.
        should_stop: asked meanwhile; whoever is asked to stop waits for nobody.
        tell: called with a line as a wait begins, and with another as it ends.
    """

    seconds: float = field(default_factory=_seconds)
    should_stop: Callable[[], bool] = lambda: False
    tell: Callable[[str], None] = lambda line: None
    _waiting: int = field(default=0, init=False, repr=False)
    _counting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def insist(self, ask: Callable[[], Answer]) -> Answer:
        """Return what a store answers, asked again while it is away.

        Raises:
            StoreAwayError: if it is away for too long, or somebody asks to stop meanwhile.
        """
        try:
            return ask()
        except StoreAwayError as error:
            if self.should_stop() or self.seconds <= 0:
                raise
            away = error
        with self._told(away):
            return self._ask_again(ask)

    def _ask_again(self, ask: Callable[[], Answer]) -> Answer:
        deadline = time.monotonic() + self.seconds
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            self._pause(pause)
            try:
                return ask()
            except StoreAwayError:
                if self.should_stop() or time.monotonic() >= deadline:
                    raise
        raise AssertionError  # pauses never end

    @contextlib.contextmanager
    def _told(self, error: StoreAwayError) -> Iterator[None]:
        """Tell that a wait begins, and that it ended well: once for all threads that wait side by side."""
        began = time.monotonic()
        with self._counting:
            self._waiting += 1
            is_first = self._waiting == 1
        if is_first:
            self.tell(f"waiting: {error}")
        try:
            yield
        finally:
            with self._counting:
                self._waiting -= 1
                is_last = not self._waiting
        if is_last:
            self.tell(f"it answers again after {time.monotonic() - began:.0f} s")

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.should_stop():
            time.sleep(min(left, PAUSES[0]))
