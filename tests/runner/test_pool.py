"""The pool, with workers that tell what a test lets them tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from stn_bench.runner.pool import Pool
from stn_bench.runner.worker import Event, Halt, JobEnded, JobEvent, JobStarted
from stn_bench.system.errors import StnBenchError
from stn_bench.system.signals import Interrupts


class Scripted:
    """A worker that tells some news at each look, and then ends.

    Args:
        script: what it tells at each look.
        pid: number of its process; 0: it waits for room, and begins only when it is not told to stop before.
        code: what it ends with.
    """

    host, name = "here", "1"

    def __init__(self, script: Iterable[list[Event]] = (), pid: int = 1, code: int = 0) -> None:
        self.pid, self._script, self._code = pid, list(script), code
        self.words: list[str] = []
        self.is_killed = False

    def news(self) -> list[Event]:
        return self._script.pop(0) if self._script else []

    def tell(self, word: str) -> None:
        self.words.append(word)

    def exit_code(self) -> int | None:
        if not self.pid:
            return 1 if self.words else None  # as Ray tells of a task that it cancelled
        return None if self._script else self._code

    def cause(self) -> str:
        return "a test"

    def kill(self, seconds: float = 5) -> None:
        self.is_killed = True


class Ready:
    """An engine that hands out these workers."""

    def __init__(self, *workers: Scripted) -> None:
        self._left, self.started = list(workers), list[Scripted]()

    def count(self, jobs: int) -> int:
        return len(self._left)

    def start(self, assignment: Any) -> Scripted:
        self.started.append(self._left.pop(0))
        return self.started[-1]

    def wait(self, workers: Sequence[Any], seconds: float) -> None: ...

    def close(self) -> None: ...


class Deaf:
    """A listener, a registrar and an assignment without a job, in one."""

    def __init__(self) -> None:
        self.jobs = dict[str, Any]()
        self.told = list[JobEvent]()

    def event(self, event: JobEvent) -> None:
        self.told.append(event)

    def say(self, line: str) -> None: ...

    def take_note(self, event: JobEvent, name: str) -> str:
        return ""

    def died(self, run_key: str, cause: str) -> bool:
        return False


def run(*workers: Scripted, count: int | None = None) -> Deaf:
    """Work with these, of which `count` begin, unset all, and each of the others in place of one that died."""
    deaf: Any = Deaf()
    engine: Any = Ready(*workers)
    Pool(engine, deaf, len(workers) if count is None else count, deaf, deaf, Interrupts(), deaf).run()
    return deaf  # type: ignore[no-any-return]


def test_a_job_that_another_command_entered_stops_the_pool_with_its_line() -> None:
    """Its worker leased it before it saw that it does not know it."""
    reason = "job other: was planned by other code than this worker's; run again"
    halted = Scripted([[JobStarted("other")], [], [Halt(reason), JobEnded("other", "interrupted", "")]])
    with pytest.raises(StnBenchError, match="planned by other code"):
        run(halted)


def test_workers_that_still_wait_for_room_do_not_begin_once_nothing_is_left() -> None:
    waiting = [Scripted(pid=0) for _ in range(3)]
    run(Scripted([[JobStarted("a")], [JobEnded("a", "finished", "")]]), *waiting)
    assert [len(one.words) for one in waiting] == [1, 1, 1]


def test_a_worker_that_ends_within_its_job_is_dead_though_it_says_that_all_is_well() -> None:
    """A library may end its process with exit code 0."""
    following = Scripted([[JobStarted("b")], [JobEnded("b", "finished", "")]])
    deaf = run(Scripted([[JobStarted("a")]]), following, count=1)
    ended = [(one.run_key, one.outcome) for one in deaf.told if isinstance(one, JobEnded)]
    assert ended == [("a", "killed"), ("b", "finished")]


def test_a_worker_at_a_job_goes_on_when_another_has_found_nothing() -> None:
    busy = Scripted([[JobStarted("a")], [], [], [JobEnded("a", "finished", "")]])
    deaf = run(Scripted(), busy)
    assert busy.words == []
    assert deaf.told[-1] == JobEnded("a", "finished", "")
