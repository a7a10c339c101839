"""The machine: what it is, what it has, and what a process took of it."""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import hashlib
import importlib.metadata
import math
import os
import platform
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from stn_bench.system.errors import ConfigError, MachineError
from stn_bench.system.gpus import Gpu, gpus
from stn_bench.system.quota import allowed_cores
from stn_bench.system.text import text_of

MEGABYTE = 1024 * 1024
NO_ROOM = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name))
FULL = re.compile(r"No space left on device|database or disk is full|[Dd]isk quota exceeded")
RESET_PEAK = "5"  # Linux: sets the process's peak resident set back to its present size


class PeakMemory:
    """The largest resident set of this process since this object was made, in MiB.

    Where the kernel cannot forget an earlier peak (anything but Linux), it is the peak of the process's life; where
    none is known, it is what the process has now.
    """

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text(RESET_PEAK)
            self._resettable = True
        except OSError:
            self._resettable = False

    def read(self) -> float:
        """Return the peak in MiB."""
        if self._resettable:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return _peak_of_life() / MEGABYTE


def _peak_of_life() -> float:
    """Return the largest resident set that this process ever had, in bytes."""
    try:
        import resource
    except ImportError:  # Windows, which tells it in another way
        told = psutil.Process().memory_info()
        return float(getattr(told, "peak_wset", told.rss))
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def cpu_seconds() -> float:
    """Return the processor seconds of this process so far, those of programs it has waited for included."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def cores() -> int:
    """Return the number of cores that this process may use; part of a core that a container allows counts as one."""
    allowed = allowed_cores()
    return _own_cores() if allowed is None else max(1, min(_own_cores(), math.ceil(allowed)))


def _own_cores() -> int:
    """Return the number of cores that this process may run on."""
    process = psutil.Process()
    affinity = process.cpu_affinity() if hasattr(process, "cpu_affinity") else []
    return len(affinity or []) or os.cpu_count() or 1


def disk_full(error: BaseException) -> MachineError | None:
    """Return what to tell a person if an error, or what caused it, is a disk without room; else None.

    SQLite, TensorFlow and MLflow each say it in words of their own.
    """
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "errno", None) in NO_ROOM or FULL.search(text_of(seen)):
            where = f" ({seen.filename})" if isinstance(seen, OSError) and seen.filename else ""
            return MachineError(f"the disk is full{where}: make room, then run again; finished runs are kept")
        seen = seen.__cause__ or seen.__context__
    return None


def library_missing(error: BaseException) -> MachineError | None:
    """Return what to tell a person if an error is a library that is not installed, as `work` needs none; else None."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    library = error.name.partition(".")[0]
    return MachineError(
        f"this command takes the module `{library}`, which is not installed here; `pip install .` in the "
        f"checkout of stn-bench installs what all commands take"
    )


def now() -> str:
    """Return the time, ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def started() -> float:
    """Return when this process began, in seconds since 1970."""
    return psutil.Process().create_time()


def load() -> float:
    """Return how many processes wanted each core over the last minute."""
    return psutil.getloadavg()[0] / cores()


@dataclass(frozen=True)
class Resources:
    """How jobs are shared out: worker processes, threads in each, and the GPUs that they have in turn."""

    workers: int
    threads: int
    gpus: tuple[Gpu, ...] = ()

    @classmethod
    def of(cls, workers: int | None = None, threads: int | None = None, gpus: tuple[Gpu, ...] = ()) -> Resources:
        """Return resources; what is not said is such that every GPU has one worker, and every core one thread.

        Args:
            workers: processes.
            threads: threads of each.
            gpus: the GPUs that the training can use.

        Raises:
            ConfigError: if there are to be none.
        """
        for name, number in (("workers", workers), ("threads", threads)):
            if number is not None and number < 1:
                raise ConfigError(f"`{name}`: expected 1 or more, got {number}")
        count = workers or len(gpus) or (max(1, cores() // threads) if threads else cores())
        return cls(count, threads or max(1, cores() // count), gpus)


def describe_machine(threads: int) -> dict[str, Any]:
    """Return what a reader needs to judge a timing: system, processor, cores, threads, memory, Python."""
    return {
        "system": platform.system(),
        "processor": processor(),
        "cores": cores(),
        "threads": threads,
        "memory_gb": round(psutil.virtual_memory().total / 1024**3),
        "python": platform.python_version(),
        **({"gpu": found[0].make} if (found := gpus()) else {}),
    }


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@functools.cache
def machine_name() -> str:
    """Return the name of this machine, which no other has: many are called alike, and containers share their host's.

    On Linux it is made of the host's name, of what the kernel drew as it started, and of whose processes are seen.
    """
    told = [socket.gethostname()]
    with contextlib.suppress(OSError):
        told += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return f"{told[0]}.{hashlib.sha256(' '.join(told).encode()).hexdigest()[:8]}"


def package_version(name: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def training_environment(threads: int) -> dict[str, str]:
    """Return the environment of a process that trains: thread counts, determinism, silence.

    It must be set before the libraries that read it are imported; PYTHONHASHSEED, which orders Python's sets, before
    the process starts.
    """
    hash_seed = os.environ.get("PYTHONHASHSEED", "")
    return {
        "PYTHONHASHSEED": hash_seed if hash_seed.isdigit() else "0",
        "OMP_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
        "TF_DETERMINISTIC_OPS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }


@contextlib.contextmanager
def children_without_main() -> Iterator[None]:
    """Start processes that do not run the main script again, as `spawn` lets them: they need nothing that is in it.

    So a script needs no `if __name__ == "__main__":`, and a notebook or a script from standard input has no file that
    they could run.
    """
    main: dict[str, Any] = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        main.update(hidden)
