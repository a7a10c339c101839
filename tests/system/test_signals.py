"""Signals that ask to stop: what is counted, what is an echo, and what is left as it was."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from commands import call

from stn_bench.system import signals
from stn_bench.system.errors import Interrupted
from stn_bench.system.machine import children_without_main
from stn_bench.system.signals import (
    STOPS,
    children_ignore_interrupts,
    counting_interrupts,
    follow_parent,
    leave_to_parent,
)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Leave the session its handlers; in a session of a terminal's that hung up, SIGHUP may be ignored."""
    kept = {one: signal.getsignal(one) for one in STOPS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for one, handler in kept.items():
        signal.signal(one, handler)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what lets time pass."""
    moment = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: moment[0])

    def pass_by(seconds: float) -> None:
        moment[0] += seconds

    return pass_by


# Counting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", STOPS)
def test_a_signal_to_stop_is_counted_and_the_users_handlers_are_put_back(signum: int) -> None:
    heard: list[int] = []

    def own(one: int, frame: object) -> None:
        heard.append(one)

    for one in STOPS:
        signal.signal(one, own)
    with counting_interrupts() as interrupts:
        signal.raise_signal(signum)
    assert (interrupts.count, interrupts.signum, heard) == (1, signum, [])
    assert [signal.getsignal(one) for one in STOPS] == [own] * len(STOPS)


def test_the_echo_of_a_signal_is_no_second_one(later: Callable[[float], None]) -> None:
    """`timeout` sends SIGTERM to its child and, at once, to the group; a shell and a terminal both hang up."""
    with counting_interrupts() as interrupts:
        for signum in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(signum)
        assert interrupts.count == 1
        later(0.3)
        signal.raise_signal(signal.SIGTERM)
        assert (interrupts.count, interrupts.signum) == (2, signal.SIGTERM)


def test_a_signal_after_the_most_that_are_counted_raises(later: Callable[[float], None]) -> None:
    with counting_interrupts(most=1):
        signal.raise_signal(signal.SIGTERM)
        later(0.3)
        with pytest.raises(Interrupted) as stopped:
            signal.raise_signal(signal.SIGTERM)
    assert stopped.value.exit_code == 143


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with counting_interrupts() as interrupts:
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert interrupts.count == 0


def test_a_thread_leaves_all_handlers_alone() -> None:
    before, within = [signal.getsignal(one) for one in STOPS], list[object]()

    def work() -> None:
        with counting_interrupts():
            within.extend(signal.getsignal(one) for one in STOPS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert within == before


# The command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_command_ends_with_the_code_of_its_signal(
    signum: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app() -> None:
        signal.raise_signal(signum)
        time.sleep(30)

    monkeypatch.setattr("stn_bench.cli.app.app", app)
    assert call() == code
    assert capsys.readouterr().err == "stn-bench: stopped; what was finished is kept\n"


def test_ctrl_c_before_signals_are_listened_to_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def early() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stn_bench.system.signals.raise_interrupts", early)
    assert (call(), capsys.readouterr().err) == (130, "stn-bench: stopped\n")


def test_an_echo_disturbs_no_clean_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned: list[bool] = []

    def app() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    monkeypatch.setattr("stn_bench.cli.app.app", app)
    assert (call(), cleaned) == (143, [True])


# Children --------------------------------------------------------------------------------------------------------


def obey(connection: Connection) -> None:
    """Hear nothing until the parent says so; then start a child by fork, and tell how that ends by SIGTERM."""
    leave_to_parent()
    connection.send("ready")
    connection.recv()
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    connection.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def follow(connection: Connection) -> None:
    follow_parent()
    connection.send("ready")
    time.sleep(30)


def start(target: Callable[[Connection], None]) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs,), daemon=True)
    with children_ignore_interrupts(), children_without_main():
        process.start()
    assert process.pid
    os.kill(process.pid, signal.SIGTERM)  # at its first moment: it hears nothing yet
    theirs.close()
    return process, ours


@pytest.mark.skipif(sys.platform == "win32", reason="forks (2026-11-26)")
def test_a_worker_hears_its_parent_alone_and_what_it_starts_can_be_ended() -> None:
    process, connection = start(obey)
    assert connection.recv() == "ready"
    for signum in STOPS:
        os.kill(process.pid or 0, signum)
    connection.send("go on")
    assert connection.recv() == -signal.SIGTERM
    process.join()
    assert process.exitcode == 0


HUNG_UP = """
import multiprocessing.resource_tracker as tracking, os, signal, sys, time
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.subjects.stn.data.parallel import render_chunks
from stn_bench.system.signals import children_ignore_interrupts
if sys.argv[1] == "child":
    with children_ignore_interrupts():
        pass
else:  # a pool, whose locks Python counts
    next(render_chunks(DatasetSpec.of(Config()), 2))
tracker = tracking._resource_tracker
os.kill(tracker._pid, signal.SIGHUP)
time.sleep(0.3)
assert os.waitpid(tracker._pid, os.WNOHANG) == (0, 0), "it ended"
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no hang-ups (2026-11-27)")
@pytest.mark.parametrize("started", ["child", "pool"])
def test_python_s_own_helper_outlives_a_hang_up(started: str) -> None:
    """It would be started anew, and end in tracebacks about semaphores that it had never heard of."""
    command = [sys.executable, "-c", HUNG_UP, started]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_that_follows_its_parent_ends_by_a_signal_that_came_before_it_listened() -> None:
    process, connection = start(follow)
    process.join(30)
    assert process.exitcode == -signal.SIGTERM
    connection.close()


def test_only_what_a_gone_terminal_held_goes_nowhere(tmp_path: Path) -> None:
    main, terminal = os.openpty()
    os.close(main)
    script = (
        "import os, sys\n"
        "from stn_bench.system.signals import _leave_terminal\n"
        "_leave_terminal()\n"
        "sys.stdout.write('to nobody'); sys.stdout.flush()\n"
        "sys.stderr.write('to a file'); sys.stderr.flush()\n"
    )
    kept = tmp_path / "kept"
    with kept.open("w") as file:
        code = os.waitstatus_to_exitcode(
            os.waitpid(
                os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-c", script],
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, terminal, 1),
                        (os.POSIX_SPAWN_DUP2, file.fileno(), 2),
                    ],
                ),
                0,
            )[1]
        )
    os.close(terminal)
    assert (code, kept.read_text()) == (0, "to a file")
