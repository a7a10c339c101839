"""The MLflow UI on a store, as a process of its own."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import socket
import subprocess
import sys
import sysconfig

import psutil

from stn_bench.system.errors import StoreError

LOCAL = ("127.0.0.1", "localhost", "::1")  # what listens there is reached from this machine alone
EVERYWHERE = ("0.0.0.0", "::")
IP = (socket.AF_INET, socket.AF_INET6)
SERVER_VARIABLES = ("MLFLOW_HOST", "MLFLOW_SERVER_", "MLFLOW_GUNICORN", "MLFLOW_UVICORN", "MLFLOW_STATIC", "UVICORN_")


def serve(uri: str, port: int, host: str = LOCAL[0]) -> subprocess.Popen[bytes]:
    """Start the MLflow UI on a store, for this machine alone unless another address is named.

    It answers only requests that call it by a name of this machine, so that no page of another site can reach it.

    Raises:
        StoreError: if the address to listen on is none.
    """
    if not re.fullmatch(r"[\w.:-]+", host):
        raise StoreError(f"--host {host}: expected an address of this machine, such as {LOCAL[0]} or 0.0.0.0")
    names = [f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in _own_names(host)]
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", ",".join(names)]
    command += ["--cors-allowed-origins", ",".join(f"http://{name}" for name in names)]
    # uvicorn looks for modules in the current folder, which may be somebody else's, unless it is given another.
    command += ["--uvicorn-opts", f"--app-dir {shlex.quote(sysconfig.get_path('stdlib'))}"]
    return subprocess.Popen(command, env=_server_environment(uri))


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
