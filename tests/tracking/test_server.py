"""The MLflow UI: it ends with whoever asked for it, and says why where it cannot be had."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from commands import call

from stn_bench.system.errors import Interrupted, StoreError
from stn_bench.tracking import server

SLEEP = "import time; time.sleep(60)"
CHAIN = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"
"""A server that waits for another process, as MLflow's does."""

ASKING = f"""
import os, subprocess, sys
watcher = [sys.executable, "-m", "stn_bench.tracking.server", str(os.getpid())]
process = subprocess.Popen([*watcher, sys.executable, "-c", {CHAIN!r}])
print(process.pid, flush=True)
process.wait()
"""


@pytest.fixture
def asking() -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """Yield a process that has asked for a server, and the processes of that."""
    process = subprocess.Popen([sys.executable, "-c", ASKING], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    watcher = psutil.Process(int(process.stdout.readline()))
    deadline = time.monotonic() + 30
    while len(found := [watcher, *watcher.children(recursive=True)]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield process, found
    for one in found:
        if one.is_running():
            one.kill()
    process.kill()
    process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_ends_with_the_process_that_asked_for_it(
    asking: tuple[subprocess.Popen[str], list[psutil.Process]], signum: int
) -> None:
    process, family = asking
    process.send_signal(signum)
    assert psutil.wait_procs(family, timeout=20)[1] == []


def test_a_watcher_that_is_told_to_end_ends_the_server(
    asking: tuple[subprocess.Popen[str], list[psutil.Process]],
) -> None:
    _, family = asking
    family[0].terminate()
    assert psutil.wait_procs(family, timeout=20)[1] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_that_is_in_use_is_refused_in_one_line(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.subprocess, "Popen", lambda command, env: pytest.fail("was started"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StoreError, match=rf"^port {port} of {host} is in use: choose another with --port"):
            server.serve("sqlite:///x.db", port, host)


class Served:
    """A server that ends, or is asked to end."""

    def __init__(self, end: int | Interrupted) -> None:
        self.ends, self.terminated = [end, 0], False

    def wait(self) -> int:
        end = self.ends.pop(0)
        if isinstance(end, Interrupted):
            raise end
        return end

    def terminate(self) -> None:
        self.terminated = True


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        (0, 2, "stn-bench: the MLflow UI ended by itself, with exit code 0; what it printed above says why\n"),
        (Interrupted("stopped", signal.SIGTERM), 143, "stn-bench: stopped\n"),
        (Interrupted("stopped"), 0, ""),
    ],
)
def test_the_ui_ends_as_it_was_asked_to(
    end: int | Interrupted,
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served = Served(end)
    monkeypatch.setattr("stn_bench.runner.stores.open_tracking", lambda workspace: SimpleNamespace(uri="sqlite:///x"))
    monkeypatch.setattr(server, "serve", lambda uri, port, host: served)
    assert call("ui", "--root", tmp_path) == code
    assert capsys.readouterr().err == told
    assert served.terminated == isinstance(end, Interrupted)
