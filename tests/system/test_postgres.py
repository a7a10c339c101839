"""Stores of other machines that cannot be used: told in a line, in seconds, without a secret."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest
from sqlalchemy.exc import InterfaceError, OperationalError

from stn_bench.cli.secrecy import split_off
from stn_bench.system.errors import StoreError
from stn_bench.system.postgres import check_opens, engine_options, is_away

SECRET = "hunter2"


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def stranger() -> Iterator[int]:
    """Yield the port of a server of pages that is none of ours."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def mute() -> Iterator[int]:
    """Yield the port of a server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield int(server.getsockname()[1])


def refusal(address: str) -> str:
    """Return what is told of a store, and see that it was told within five seconds and without the secret."""
    began = time.monotonic()
    with pytest.raises(StoreError) as raised:
        check_opens("a store", address, "--storage")
    assert time.monotonic() - began < 5
    told = str(raised.value)
    assert SECRET not in told
    assert "\n" not in told
    return told


def test_a_server_that_says_nothing(mute: int) -> None:
    assert "no server of pages answers (timed out)" in refusal(f"http://{SECRET}@127.0.0.1:{mute}")
    assert "timeout expired" in refusal(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{mute}/x")


def test_a_server_that_is_something_else(stranger: int) -> None:
    assert "cannot be used" in refusal(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{stranger}/x")
    check_opens("a store", f"http://127.0.0.1:{stranger}", "--tracking-uri")  # whether it is MLflow's, MLflow tells


def test_no_server() -> None:
    assert "nobody answers" in refusal(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/x")


def test_options_of_an_address_stay_as_they_are() -> None:
    asked = engine_options("postgresql+psycopg://me@db/x?connect_timeout=60")["connect_args"]
    assert "connect_timeout" not in asked
    assert asked["keepalives_count"] == 4
    assert asked["prepare_threshold"] is None  # a pool before the server knows no prepared statements
    assert "prepare_threshold" not in engine_options("postgresql+psycopg2://me@db/x")["connect_args"]
    assert engine_options("sqlite:///x.db") == {}


class Answer(Exception):
    sqlstate: str | None = None


def test_what_is_away_for_now_and_what_is_refused_for_good() -> None:
    restarting, refused, locked = Answer("x"), Answer("password authentication failed"), __import__("sqlite3")
    restarting.sqlstate = "57P03"
    assert is_away(OperationalError("SELECT 1", {}, restarting))
    assert is_away(InterfaceError("SELECT 1", {}, Answer("the connection is closed")))
    assert not is_away(OperationalError("SELECT 1", {}, refused))
    assert not is_away(OperationalError("SELECT 1", {}, locked.OperationalError("database is locked")))
    assert not is_away(ValueError("x"))


def test_addresses_with_secrets_are_taken_out_of_a_command() -> None:
    with_secret, plain = f"postgresql://me:{SECRET}@db/x", "http://tracking:5000"
    given = ["run", "mine", "--storage", with_secret, "--tracking-uri", plain, "--workers", "2"]
    kept = ["run", "mine", "--tracking-uri", plain, "--workers", "2"]
    assert split_off(given) == (kept, {"STN_BENCH_OPTUNA_URL": with_secret})
    joined = ["run", f"--tracking-uri=https://{SECRET}@tracking", "--storage"]
    assert split_off(joined) == (["run", "--storage"], {"MLFLOW_TRACKING_URI": f"https://{SECRET}@tracking"})


@pytest.mark.skipif(os.name != "posix", reason="a process of Windows cannot become another (2026-11-27)")
def test_a_command_shows_no_other_user_a_password(mute: int) -> None:
    """It waits for a server that says nothing; meanwhile anybody may look at it."""
    address = f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{mute}/x"
    command = [sys.executable, "-m", "stn_bench", "doctor", "--subject", "toy", "--storage", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline, shown = time.monotonic() + 60, SECRET
    # While a process becomes another its command line is empty for an instant, which is neither answer.
    while (SECRET in shown or not shown) and time.monotonic() < deadline:
        shown = " ".join(psutil.Process(process.pid).cmdline())
        time.sleep(0.02)
    assert SECRET not in shown
    assert "doctor" in shown
    output, _ = process.communicate(timeout=120)
    assert SECRET not in output
    assert "me:***@127.0.0.1" in output
