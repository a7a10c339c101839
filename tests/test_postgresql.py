"""Both stores in a real PostgreSQL server, started for the test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import PLAIN, make_root, stn_bench

FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # Debian keeps servers out of the PATH
INITDB = str(FOUND[-1]) if FOUND else shutil.which("initdb")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(INITDB is None, reason="no PostgreSQL server on this machine (2026-11-22)"),
]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def server() -> Iterator[str]:
    """Yield the address of a server with the databases `tracking` and `search`."""
    assert INITDB is not None
    binaries = Path(INITDB).parent
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
    if user:
        shutil.chown(folder, user)

    def call(program: str, *arguments: object) -> None:
        command = [str(binaries / program), *map(str, arguments)]
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    port = free_port()
    call("initdb", "-D", folder / "data", "-U", "bench", "--auth=trust")
    call("pg_ctl", "-D", folder / "data", "-o", f"-p {port} -k {folder}", "-l", folder / "log", "-w", "start")
    try:
        for name in ("tracking", "search"):
            call("createdb", "-h", "127.0.0.1", "-p", port, "-U", "bench", name)
        yield f"postgresql+psycopg://bench@127.0.0.1:{port}"
    finally:
        call("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_a_study_runs_with_both_stores_in_postgresql(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STN_BENCH_OPTUNA_URL", f"{server}/search")
    root = make_root(tmp_path, PLAIN)
    run = stn_bench("run", "tiny", "--tracking-uri", f"{server}/tracking", root=root)
    assert run.returncode == 0, run.stderr
    status = json.loads(
        stn_bench("status", "tiny", "--json", "--tracking-uri", f"{server}/tracking", root=root).stdout
    )
    assert status["finished"] == status["planned"] == 6
    assert not list(root.glob("mlruns/*.db"))
