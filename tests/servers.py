"""Servers of a study on several machines, real ones, and the network before them, which can be cut."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil

FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # Debian keeps servers out of the PATH
INITDB = str(FOUND[-1]) if FOUND else shutil.which("initdb")
PASSWORD = "s3cr3t/of-the-store"
NEEDS_POSTGRES = "no PostgreSQL server on this machine (2026-11-22)"
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NEEDS_PGBOUNCER = "no PgBouncer on this machine (2026-11-27)"
STARTING = 120  # seconds that a server may take on a busy machine


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Postgres:
    """A PostgreSQL server of a test's own, that asks for a password."""

    folder: Path
    port: int
    user: str | None

    @property
    def address(self) -> str:
        """Where its databases are, password and all, without the name of one."""
        return self.through(self.port)

    def through(self, port: int) -> str:
        """Return the same through what listens on another port."""
        return f"postgresql+psycopg://bench:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"

    def call(self, program: str, *arguments: object) -> None:
        assert INITDB is not None
        command = [str(Path(INITDB).with_name(program)), *map(str, arguments)]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        subprocess.run(
            command, check=True, user=self.user, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL
        )

    def make(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o644)
        pwfile = ("--pwfile", self.folder / "password")
        self.call("initdb", "-D", self.folder / "data", "-U", "bench", "--auth=scram-sha-256", "-N", *pwfile)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c fsync=off"
        self.call("pg_ctl", "-D", self.folder / "data", "-o", options, "-l", self.folder / "log", "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self.call("pg_ctl", "-D", self.folder / "data", "-m", mode, "stop")

    def create(self, *names: str) -> None:
        for name in names:
            self.call("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "bench", name)


@contextmanager
def postgres(*databases: str) -> Iterator[Postgres]:
    """Start a server with some databases; nothing of it outlives the test."""
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
    if user:
        shutil.chown(folder, user)
    server = Postgres(folder, free_port(), user)
    try:
        server.make()
        server.start()
        try:
            server.create(*databases)
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):  # a test may have stopped it
                server.stop("immediate")
    finally:
        shutil.rmtree(folder)


@contextmanager
def pgbouncer(server: Postgres, connections: int) -> Iterator[int]:
    """Start a pool before a server, which lends a connection for a transaction, and yield its port.

    Args:
        server: the server.
        connections: how many it may have to each database.
    """
    assert PGBOUNCER is not None
    folder, port = Path(tempfile.mkdtemp(prefix="pgbouncer-")), free_port()
    (folder / "users").write_text(f'"bench" "{PASSWORD}"\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users\n"
        f"pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 500\n"
    )
    if server.user:  # it refuses to run as root, as the server does
        shutil.chown(folder, server.user)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PGBOUNCER, str(folder / "ini")], user=server.user, stdout=log, stderr=log)
    try:
        _wait_for(port, process, folder / "log")
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
            return
        time.sleep(0.1)
    raise AssertionError("the pool did not come up")


@dataclass
class MlflowServer:
    """MLflow's own server on a store of SQLite, with the artifacts that it keeps itself."""

    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "kept"), *self.options]
        own = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**own, **self.environment}, start_new_session=True
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + STARTING
        while time.monotonic() < deadline:
            assert self.process
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=2):
                return
            time.sleep(0.2)
        raise AssertionError("the server did not come up")

    def stop(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            family = [first, *first.children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()
        self.process = None


@contextmanager
def mlflow_server(folder: Path, *options: str, **environment: str) -> Iterator[MlflowServer]:
    """Start a server that keeps all under a folder; nothing of it outlives the test."""
    folder.mkdir(parents=True, exist_ok=True)
    server = MlflowServer(folder, free_port(), environment, options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Proxy:
    """The network before a server, on a port of its own: it can be cut, in two ways.

    Args:
        target: port of the server.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._is_stalled = self._is_closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stall(self) -> None:
        """Let nothing through, as a network that drops packets: who waits for an answer waits on."""
        self._is_stalled = True

    def cut(self) -> None:
        """End all connections and refuse new ones, as a server that is gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def heal(self) -> None:
        """Let all through again."""
        self._is_stalled = False
        if self._listener.fileno() < 0:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        self._is_closed = True
        with contextlib.suppress(OSError):
            self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                ours, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(ours,), daemon=True).start()

    def _serve(self, ours: socket.socket) -> None:
        while self._is_stalled and not self._is_closed:
            time.sleep(0.05)
        try:
            theirs = socket.create_connection(("127.0.0.1", self._target), timeout=10)
        except OSError:
            ours.close()
            return
        theirs.settimeout(None)
        pair = (ours, theirs)
        self._pairs.append(pair)
        with contextlib.suppress(OSError), ours, theirs, selectors.DefaultSelector() as selector:
            selector.register(ours, selectors.EVENT_READ, theirs)
            selector.register(theirs, selectors.EVENT_READ, ours)
            self._pass_on(selector)

    def _pass_on(self, selector: selectors.BaseSelector) -> None:
        while not self._is_closed:
            for key, _ in selector.select(timeout=0.2):
                while self._is_stalled and not self._is_closed:
                    time.sleep(0.05)
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    found = Proxy(target)
    try:
        yield found
    finally:
        found.close()
