"""The name of a process that works on a job, by which others of its machine see whether it is dead."""

from __future__ import annotations

import os

import psutil

from stn_bench.system.machine import machine_name

CLOCK_SECONDS = 5  # by how much a process' start may seem to move while the machine's clock is set


def owner() -> str:
    """Return the name of this process, which no later process on this machine can have."""
    return f"{machine_name()} {os.getpid()} {psutil.Process().create_time():.2f}"


def is_dead(name: str) -> bool:
    """Return whether the process of a name is of this machine, and not there any more."""
    host, _, rest = name.partition(" ")
    if host != machine_name():
        return False
    pid, _, created = rest.partition(" ")
    try:
        process = psutil.Process(int(pid))
        is_another = abs(process.create_time() - float(created)) > CLOCK_SECONDS
        return is_another or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
