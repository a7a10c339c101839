"""Jobs that wait in a folder: the queue of a machine that reaches no store. A file is a lease, on one machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from stn_bench.runner.leases import TRIES, Finished, Lease
from stn_bench.system.errors import Interrupted, LeaseLostError
from stn_bench.system.lock import Lock
from stn_bench.tracking.folders import RunFolders

NOBODY = "given up"


class FolderQueue:
    """The jobs of one `work`: each is leased once, again only if its worker dies. A job's name is its run key.

    Args:
        folder: where the leases are; whoever begins a `work` empties it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, Lock(folder.with_name(f"{folder.name}.lock"))
        self._deaths = Counter[str]()
        folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Take back all leases: those who held them are gone."""
        for left in self._folder.iterdir():
            left.unlink()

    def work(
        self,
        names: Sequence[str],
        objective: Callable[[Lease], Finished],
        should_stop: Callable[[], bool] = lambda: False,
        is_doubtful: Callable[[], bool] = lambda: False,
    ) -> None:
        """Lease jobs in the order of their names and work on them until each is leased."""
        while not should_stop():
            run_key = self._claim(names)
            if run_key is None:
                return
            with suppress(Exception, Interrupted):  # the objective has told of it
                objective(Lease(run_key, lambda: False, self._ending(run_key)))

    def bury(self, names: Iterable[str], run_key: str) -> bool:
        """Give away the job of a dead worker, and return whether it is lost: nobody tries it again."""
        self._deaths[run_key] += 1
        if self._deaths[run_key] >= TRIES:
            return True
        (self._folder / run_key).unlink(missing_ok=True)
        return False

    def give_up(self, names: Iterable[str], run_key: str, pid: int) -> bool:
        """Take a job from a process, for good; return whether it was at it."""
        with self._lock:
            if self._owner(run_key) != str(pid):
                return False
            (self._folder / run_key).write_text(NOBODY, encoding="ascii")
            return True

    def _claim(self, names: Sequence[str]) -> str | None:
        leased = {one.name for one in self._folder.iterdir()}
        for run_key in names:
            if run_key not in leased:
                with suppress(FileExistsError), (self._folder / run_key).open("x", encoding="ascii") as file:
                    file.write(str(os.getpid()))
                    return run_key
        return None

    def _ending(self, run_key: str) -> Callable[[], AbstractContextManager[None]]:
        @contextmanager
        def ending() -> Iterator[None]:
            with self._lock:
                if self._owner(run_key) != str(os.getpid()):
                    raise LeaseLostError
                yield

        return ending

    def _owner(self, run_key: str) -> str:
        try:
            return (self._folder / run_key).read_text(encoding="ascii")
        except FileNotFoundError:
            return ""


@dataclass(frozen=True)
class FolderPlaces:
    """Where the runs and the jobs of one `work` are."""

    tracking: RunFolders
    queue: FolderQueue


def open_folders(folder: Path) -> FolderPlaces:
    """Return the places in a folder, made where they are missing."""
    return FolderPlaces(RunFolders(folder), FolderQueue(folder / "leases"))
