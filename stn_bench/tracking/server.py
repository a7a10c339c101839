"""The MLflow UI on a store, in processes of its own, which end with the process that asked for it.

MLflow's server is a chain of processes: a watcher of ours runs them, in a session of their own, for as long as its
parent lives. However that ends, nothing goes on serving the store.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence

import psutil

from stn_bench.system.errors import StoreError
from stn_bench.system.signals import counting_interrupts

LOCAL = ("127.0.0.1", "localhost", "::1")  # what listens there is reached from this machine alone
EVERYWHERE = ("0.0.0.0", "::")
POLL_SECONDS = 0.5
END_SECONDS = 5  # that a server gets to close its connections
IP = (socket.AF_INET, socket.AF_INET6)
SERVER_VARIABLES = ("MLFLOW_HOST", "MLFLOW_SERVER_", "MLFLOW_GUNICORN", "MLFLOW_UVICORN", "MLFLOW_STATIC", "UVICORN_")


def serve(uri: str, port: int, host: str = LOCAL[0]) -> subprocess.Popen[bytes]:
    """Start the MLflow UI on a store, for this machine alone unless another address is named.

    It answers only requests that call it by a name of this machine, so that no page of another site can reach it.

    Raises:
        StoreError: if the address to listen on is none, or somebody listens there.
    """
    if not re.fullmatch(r"[\w.:-]+", host):
        raise StoreError(f"--host {host}: expected an address of this machine, such as {LOCAL[0]} or 0.0.0.0")
    _check_free(host, port)
    names = [f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in _own_names(host)]
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", ",".join(names)]
    command += ["--cors-allowed-origins", ",".join(f"http://{name}" for name in names)]
    # uvicorn looks for modules in the current folder, which may be somebody else's, unless it is given another.
    command += ["--uvicorn-opts", f"--app-dir {shlex.quote(sysconfig.get_path('stdlib'))}"]
    watcher = [sys.executable, "-m", __name__, str(os.getpid())]
    return subprocess.Popen([*watcher, *command], env=_server_environment(uri))


def _check_free(host: str, port: int) -> None:
    """Check that nobody answers at an address.

    Raises:
        StoreError: if somebody does.
    """
    here = dict(zip(EVERYWHERE, (LOCAL[0], LOCAL[2]), strict=True)).get(host, host)
    with contextlib.suppress(OSError), socket.create_connection((here, port), timeout=1):
        raise StoreError(f"port {port} of {host} is in use: choose another with --port, or end what listens there")


def _own_names(host: str) -> list[str]:
    """Return by what names a server that listens on this address may be called."""
    names = [*LOCAL, host]
    if host in EVERYWHERE:
        own = itertools.chain.from_iterable(psutil.net_if_addrs().values())
        names += [one.address.partition("%")[0] for one in own if one.family in IP]
        names += [socket.gethostname(), socket.getfqdn()]
    return list(dict.fromkeys(names))


def _server_environment(uri: str) -> dict[str, str]:
    """Return the environment of an MLflow server. It holds the store's address, which all users see in a command.

    Variables that would open the server to others, or take its checks away, are left out.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SERVER_VARIABLES)}
    own = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONSAFEPATH": "1"}
    return kept | own


def _watch(parent: int, command: Sequence[str]) -> int:
    """Run a server until it ends, its parent is gone or a signal comes; return its exit code."""
    with counting_interrupts() as interrupts:
        server = subprocess.Popen(command, start_new_session=True)
        while server.poll() is None and not interrupts.count and _lives(parent):
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(POLL_SECONDS)
        if server.poll() is None:
            _end(server.pid)
    return server.wait()


def _lives(parent: int) -> bool:
    """Return whether the process that asked for the server is there; one that waits to be buried is not."""
    return psutil.pid_exists(parent) and (os.name != "posix" or os.getppid() == parent)


def _end(pid: int) -> None:
    """End a process and all that it started."""
    first = psutil.Process(pid)
    family = [first, *first.children(recursive=True)]
    for signal_all in (psutil.Process.terminate, psutil.Process.kill):
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                signal_all(process)
        _, family = psutil.wait_procs(family, timeout=END_SECONDS)


if __name__ == "__main__":
    sys.exit(_watch(int(sys.argv[1]), sys.argv[2:]))
