"""The engine of a Ray cluster, and Ray's door. Ray places the workers; a job's heartbeat alone says who holds it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import re
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stn_bench.runner.node import Code, at_home_here, code_of
from stn_bench.runner.stores import open_stores
from stn_bench.runner.worker import STOP, Assignment, Event, Halt, log_of, run_worker
from stn_bench.study.spec import Share
from stn_bench.system.errors import ConfigError, MachineError, StnBenchError
from stn_bench.system.machine import machine_name
from stn_bench.system.signals import children_ignore_interrupts
from stn_bench.system.text import first_line
from stn_bench.system.workspace import sqlite_file

if TYPE_CHECKING:
    from stn_bench.runner.engine import Worker
    from stn_bench.system.workspace import Workspace

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers of each cluster that it joins

try:
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError:
    raise ConfigError("--engine ray: needs Ray; in the checkout of stn-bench, run: pip install '.[ray]'") from None

LOCAL = "local"
"""Address of a cluster of this machine alone, which is started and ended with the run."""

ACCESS = ("MLFLOW_", "PG", "STN_BENCH_")
"""How variables begin that say how the stores are reached: workers have those of their parent."""

ASK_SECONDS = 2.0
"""Between two questions of a worker whether it is to stop."""

LOST_SECONDS = 60.0
"""How long a worker's parent may be out of reach before the worker takes it for gone."""

ANSWER_SECONDS = 30.0
"""How long a mailbox may take to answer."""

JOIN_SECONDS = 5.0
"""How long a cluster's head may take to be reached."""


class Cluster:
    """The engine of a Ray cluster; a context manager.

    A worker is a Ray task with a process of its own, which leases jobs until none is left. There are as many tasks as
    jobs: those without room wait, so that a cluster that grows is filled, and one that scales by demand sees it.

    Args:
        address: the cluster's: host and port of its head, "auto" for the one that this machine is part of, or "local".
        share: what each worker has of it.
        workspace: where the stores are; workers on nodes without this root work in a folder of their own.
        workers: how many workers at most; None: as many as the cluster has room for.

    Raises:
        ConfigError: if no cluster answers there, or if it has other nodes and a store is a file.
        MachineError: if no node has room for a worker.
    """

    def __init__(self, address: str, share: Share, workspace: Workspace, workers: int | None = None) -> None:
        self._share, self._workspace, self._workers = share, workspace, workers
        self._numbers = itertools.count(1)
        self._messages: dict[int, list[_Message]] = defaultdict(list)
        _join(address)
        try:
            self._check_room()
            self._check_stores(address)
        except BaseException:
            ray.shutdown()
            raise
        self._mailbox: Any = None
        self._assignment: Any = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
        ray.shutdown()

    def count(self, jobs: int) -> int:
        """Return how many workers to start for so many jobs."""
        return min(jobs, self._workers or jobs)

    def start(self, assignment: Assignment) -> Worker:
        """Start a worker, as soon as a node has room for it."""
        if self._mailbox is None:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self._mailbox = ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        number = next(self._numbers)
        task = ray.remote(
            num_cpus=self._share.cpus,
            num_gpus=self._share.gpus,
            max_calls=1,  # a process of its own: what a training leaves is gone with it
            max_retries=0,  # the heartbeat decides who takes over
        )(_serve)
        return _Task(self, number, task.remote(self._sent(assignment), self._mailbox, number))

    def _sent(self, assignment: Assignment) -> Any:
        """Return Ray's reference to an assignment, and to the user's own code if it needs some, sent once a round."""
        if self._assignment is None:
            code = code_of(assignment.jobs.values(), self._workspace.root)
            access = {name: value for name, value in os.environ.items() if name.startswith(ACCESS)}
            self._assignment = ray.put((replace(assignment, is_remote=True), code, access))
        return self._assignment

    def wait(self, workers: Sequence[Worker], seconds: float) -> None:
        """Return when a worker has ended, or after so many seconds, with what all have told in the meantime."""
        tasks = [one.reference for one in workers if isinstance(one, _Task)]
        ray.wait(tasks, num_returns=1, timeout=seconds)
        self.collect()

    def collect(self) -> None:
        """Take what workers have sent until now.

        Raises:
            MachineError: if the cluster is gone.
        """
        try:
            messages = ray.get(self._mailbox.take.remote(), timeout=ANSWER_SECONDS)
        except RayError as error:
            reason = first_line(str(error))
            raise MachineError(f"--engine ray: the cluster is lost ({reason}); run again to go on") from None
        for message in messages:
            self._keep(message)

    def messages(self, number: int) -> list[_Message]:
        """Return what a worker has sent since it was last asked."""
        return self._messages.pop(number, [])

    def stop(self, number: int) -> None:
        """Let a worker know, when it asks next, that it is to stop."""
        self._mailbox.stop.remote(number)

    def close(self) -> None:
        """Let go of the mailbox of a round."""
        if self._mailbox is not None:
            ray.kill(self._mailbox)
            self._mailbox = self._assignment = None

    def _keep(self, message: _Message) -> None:
        self._messages[message.number].append(message)
        if message.log:
            path = log_of(self._workspace, message.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(message.log)

    def _check_room(self) -> None:
        wanted = {"CPU": float(self._share.cpus), "GPU": float(self._share.gpus)}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= need for name, need in wanted.items() if need) for node in nodes):
            most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
            raise MachineError(
                f"--engine ray: no node has {self._share.cpus} CPUs and {self._share.gpus:g} GPUs for a worker; the "
                f"largest has {most['CPU']:g} and {most['GPU']:g}. Ask for less with --cpus and --gpus"
            )

    def _check_stores(self, address: str) -> None:
        hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        if hosts <= {socket.gethostname()}:
            return
        stores = {"--tracking-uri": self._workspace.tracking, "--storage": self._workspace.queue}
        if files := [option for option, store in stores.items() if sqlite_file(store)]:
            raise ConfigError(
                f"--engine ray: the cluster at {address} has nodes on {len(hosts)} machines, which cannot share a "
                f"SQLite file; give {' and '.join(files)} an address that all of them reach"
            )


def _join(address: str) -> None:
    if found := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):  # Ray itself asks a silent address for minutes
        try:
            socket.create_connection((found[1], int(found[2])), timeout=JOIN_SECONDS).close()
        except OSError as error:
            raise _no_cluster(address, error.strerror or str(error)) from None
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    options |= {"include_dashboard": False} if address == LOCAL else {"address": address}
    try:
        with children_ignore_interrupts():  # a cluster of its own must outlive Ctrl-C until its workers have ended
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise _no_cluster(address, first_line(str(error))) from None


def _no_cluster(address: str, reason: str) -> ConfigError:
    return ConfigError(f"--address {address}: no Ray cluster answers ({reason}); start one with `ray start --head`")


@dataclass(frozen=True)
class _Message:
    """What a worker sends: who it is, an event or none, and what its log has more than before."""

    number: int
    host: str
    pid: int
    event: Event | None
    log: str

    @property
    def name(self) -> str:
        """What its sender's log is called by."""
        return f"{self.host}-{self.pid}"


class _Mailbox:
    """What workers and their parent leave for one another; an actor on the parent's node."""

    def __init__(self) -> None:
        self._messages: list[_Message] = []
        self._stopped: set[int] = set()

    def put(self, message: _Message) -> None:
        self._messages.append(message)

    def take(self) -> list[_Message]:
        messages, self._messages = self._messages, []
        return messages

    def stop(self, number: int) -> None:
        self._stopped.add(number)

    def is_stopped(self, number: int) -> bool:
        return number in self._stopped


class _Task:
    """A worker on some node, as the pool sees it."""

    def __init__(self, cluster: Cluster, number: int, reference: Any) -> None:
        self._cluster, self._number, self.reference = cluster, number, reference
        self.host, self.pid = "", 0
        self._ended: int | None = None
        self._cause = ""

    @property
    def name(self) -> str:
        return f"{self.host}-{self.pid}"

    def news(self) -> list[Event]:
        messages = self._cluster.messages(self._number)
        for message in messages:
            self.host, self.pid = message.host, message.pid
        return [message.event for message in messages if message.event]

    def tell(self, word: str) -> None:
        if not self.pid:  # it waits for room, and would stop as soon as it began
            self.kill(0)
        self._cluster.stop(self._number)

    def exit_code(self) -> int | None:
        if self._ended is None and ray.wait([self.reference], timeout=0)[0]:
            try:
                self._ended = int(ray.get(self.reference))
            except RayError as error:
                self._ended, self._cause = 1, type(error).__name__
            self._cluster.collect()  # its last words arrived before its end was known
        return self._ended

    def cause(self) -> str:
        where = f" on {self.host}" if self.host else ""
        return f"{self._cause or f'exit code {self._ended}'}{where}"

    def kill(self, seconds: float = 5) -> None:
        with contextlib.suppress(RayError, ValueError):
            ray.cancel(self.reference, force=True)
            ray.wait([self.reference], timeout=seconds)


# On the node ---------------------------------------------------------------------------------------------------------


def _serve(sent: tuple[Assignment, Code, Mapping[str, str]], mailbox: Any, number: int) -> int:
    """Work on an assignment, in a process of its own on some node, and return its exit code."""
    told, code, access = sent
    os.environ.update(access)
    try:
        assignment = at_home_here(told, code)
    except StnBenchError as error:
        with contextlib.suppress(RayError):  # it must have arrived before this process ends
            last = _Message(number, machine_name(), os.getpid(), Halt(str(error)), "")
            ray.get(mailbox.put.remote(last), timeout=ANSWER_SECONDS)
        return 0
    assignment = replace(assignment, places=functools.partial(open_stores, assignment.workspace))
    end = _WorkersEnd(mailbox, number, assignment)
    try:
        run_worker(assignment, end)
    except SystemExit as error:
        return int(error.code or 0)
    finally:
        end.close()
    return 0


class _WorkersEnd:
    """The worker's end of the connection to its parent."""

    def __init__(self, mailbox: Any, number: int, assignment: Assignment) -> None:
        self._mailbox, self._number = mailbox, number
        self._log, self._read = log_of(assignment.workspace, str(os.getpid())), 0
        self._host = machine_name()
        self._is_stopped = False

    def send(self, event: Event) -> None:
        self._mailbox.put.remote(_Message(self._number, self._host, os.getpid(), event, self._new_lines()))

    def close(self) -> None:
        """See that the last words have arrived: this process ends, and what is under way would be lost."""
        with contextlib.suppress(RayError):
            last = _Message(self._number, self._host, os.getpid(), None, self._new_lines())
            ray.get(self._mailbox.put.remote(last), timeout=ANSWER_SECONDS)

    def recv(self) -> str:
        """Return the next word of the parent, whenever it comes.

        Raises:
            EOFError: if the parent is gone.
        """
        heard = time.monotonic()
        while time.monotonic() - heard < LOST_SECONDS:
            time.sleep(ASK_SECONDS)
            with contextlib.suppress(GetTimeoutError):
                is_stopped = self._ask()
                heard = time.monotonic()
                if is_stopped and not self._is_stopped:
                    self._is_stopped = True
                    return STOP
        raise EOFError

    def _ask(self) -> bool:
        try:
            return bool(ray.get(self._mailbox.is_stopped.remote(self._number), timeout=ANSWER_SECONDS))
        except GetTimeoutError:
            raise
        except RayError as error:
            raise EOFError from error

    def _new_lines(self) -> str:
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            with self._log.open(errors="replace") as file:
                file.seek(self._read)
                text = file.read()
                self._read = file.tell()
                return text
        except OSError:
            return ""
