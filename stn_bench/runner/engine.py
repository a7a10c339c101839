"""Engines start the workers of a round: as processes of this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from stn_bench.runner.worker import Assignment, Event, run_worker
from stn_bench.system.global_state import environment
from stn_bench.system.gpus import GROWING, VISIBLE
from stn_bench.system.machine import Resources, children_without_main, machine_name, training_environment
from stn_bench.system.signals import children_ignore_interrupts


class Worker(Protocol):
    """A worker as its pool sees it, wherever it runs."""

    @property
    def host(self) -> str:
        """Name of its machine; "" while nobody knows."""

    @property
    def pid(self) -> int:
        """Number of its process there; 0 while nobody knows."""

    @property
    def name(self) -> str:
        """What its log is called by."""

    def news(self) -> list[Event]:
        """Return what it has told since it was last asked."""

    def tell(self, word: str) -> None:
        """Send it a word; one that has just ended does not hear it."""

    def exit_code(self) -> int | None:
        """Return what its process ended with; None while it works."""

    def cause(self) -> str:
        """Return in words how it ended."""

    def kill(self, seconds: float = 5) -> None:
        """End its process at once, and wait so long for it to be gone."""


class Engine(Protocol):
    """Starts workers, and waits for what they tell."""

    def count(self, jobs: int) -> int:
        """Return how many workers to start for so many jobs."""

    def start(self, assignment: Assignment) -> Worker:
        """Start a worker."""

    def wait(self, workers: Sequence[Worker], seconds: float) -> None:
        """Return when one of them may have told something or ended, or after so many seconds."""

    def close(self) -> None:
        """Let go of what holds the workers of a round together."""


class Processes:
    """The engine of one machine: a process a worker, each with one of its GPUs where it has any.

    Args:
        resources: how many at most, and the GPUs; more workers than GPUs share them.
    """

    def __init__(self, resources: Resources) -> None:
        self._most, self._gpus = resources.workers, [gpu.name for gpu in resources.gpus]
        self._users: dict[str, list[BaseProcess]] = {gpu: [] for gpu in self._gpus}
        self._context = multiprocessing.get_context("spawn")  # TensorFlow does not survive fork

    def count(self, jobs: int) -> int:
        """Return how many workers to start for so many jobs."""
        return min(self._most, jobs)

    def start(self, assignment: Assignment) -> Worker:
        """Start a process; numpy reads some variables of its environment before any code of ours."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=run_worker, args=(assignment, theirs), daemon=True)
        variables = training_environment(assignment.threads) | self._gpu_for(process)
        with children_ignore_interrupts(), children_without_main(), environment(variables):
            process.start()
        theirs.close()
        return _OwnProcess(process, ours)

    def _gpu_for(self, process: BaseProcess) -> dict[str, str]:
        """Return the variables by which a process sees the GPU that the fewest others use, and no other one."""
        if not self._gpus:
            return {}
        for gpu, users in self._users.items():
            self._users[gpu] = [one for one in users if one.is_alive()]
        chosen = min(self._gpus, key=lambda gpu: len(self._users[gpu]))
        self._users[chosen].append(process)
        return {VISIBLE: chosen, **{name: value for name, value in GROWING.items() if name not in os.environ}}

    def wait(self, workers: Sequence[Worker], seconds: float) -> None:
        """Return when a worker has told something or ended, or after so many seconds."""
        own = [worker for worker in workers if isinstance(worker, _OwnProcess)]
        wait([one.process.sentinel for one in own] + [one.connection for one in own], seconds)

    def close(self) -> None:
        """Do nothing: each process has ended by itself, or was killed."""


class _OwnProcess:
    """A worker in a process of this machine."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process, self.connection = process, connection
        self.host, self.pid = machine_name(), process.pid or 0
        self.name = str(self.pid)

    def news(self) -> list[Event]:
        found: list[Event] = []
        try:
            while self.connection.poll():
                found.append(self.connection.recv())
        except (EOFError, OSError):
            self.process.join(timeout=10)
        return found

    def tell(self, word: str) -> None:
        try:
            self.connection.send(word)
        except OSError:
            return  # it has just ended by itself

    def exit_code(self) -> int | None:
        return None if self.process.is_alive() else self.process.exitcode

    def cause(self) -> str:
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"{name}, out of memory?" if name == "SIGKILL" else name

    def kill(self, seconds: float = 5) -> None:
        self.process.kill()
        self.process.join(timeout=seconds)
