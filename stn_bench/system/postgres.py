"""PostgreSQL, where several machines share a store: how it is reached, whether it is away, and its locks.

A file's lock holds for one machine. What one process of all machines does at a time, it does under a lock of the
database: PostgreSQL lets go of it with the connection, however that ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from stn_bench.system.errors import StoreError
from stn_bench.system.text import first_line

CONNECT_SECONDS = 3
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
PSYCOPG = "postgresql+psycopg"
LIBPQ = ("postgresql", PSYCOPG, "postgresql+psycopg2")
REACHING = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
"""Options of libpq by which a server that is gone is known as such in half a minute, and not after two hours."""

SERVING = {
    "idle_in_transaction_session_timeout": "10min",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}
"""Settings of a transaction that holds something, by which the server knows that its client is gone, and lets go."""

PAUSES = (0.02, 1.0)
"""Seconds between two tries to have a lock, the first and the longest."""

SLOTS = 8
"""Processes that share a lock at a time: of a pool, each takes two connections, and who has it alone two more."""

REFUSED = "28"
"""Class of the errors by which PostgreSQL refuses a user or a password: waiting would change nothing."""


def is_postgres(address: str) -> bool:
    """Return whether an address of SQLAlchemy's is one of PostgreSQL."""
    return address.partition(":")[0].partition("+")[0] == "postgresql"


def engine_options(address: str) -> dict[str, Any]:
    """Return with what options an engine reaches a server; those that its address sets stay as they are."""
    dialect = address.partition(":")[0]
    if dialect not in LIBPQ:
        return {"pool_pre_ping": True} if is_postgres(address) else {}
    said = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query, keep_blank_values=True))
    options: dict[str, Any] = {name: value for name, value in REACHING.items() if name not in said}
    if dialect == PSYCOPG and "prepare_threshold" not in said:
        options["prepare_threshold"] = None  # a pool lends another connection, which does not know what was prepared
    return {"pool_pre_ping": True, "connect_args": options}


def check_answers(what: str, address: str, option: str) -> None:
    """See that somebody answers at the address of a store: left to themselves, libraries try for minutes.

    Args:
        what: what the store is called in a message.
        address: its address; one without a host is somebody else's to check.
        option: where another is chosen.

    Raises:
        StoreError: if nobody does, or it is no address.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
    except ValueError:  # its text quotes what stands there, part of a password maybe
        raise StoreError(
            f"{what} {address}: is no address; write / @ : # ? in a password as %2F %40 %3A %23 %3F"
        ) from None
    if not parts.hostname:
        return
    try:
        socket.create_connection((parts.hostname, port or 0), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{what} {address}: nobody answers at {parts.hostname}:{port} ({error}); "
            f"start it, or choose another with {option}"
        ) from None


def check_opens(what: str, address: str, option: str) -> None:
    """See that a store answers in its language, and that PostgreSQL lets us in, before a library is loaded for it.

    MLflow takes seconds to load, and tries ten times to get into a database before it says why it cannot.

    Raises:
        StoreError: if nobody answers, it is something else, or we are not let in.
    """
    check_answers(what, address, option)
    try:
        if address.startswith(("http://", "https://")):
            _ask_for_a_page(address)
        if engine := brief_engine(address):
            with engine.connect():
                pass
    except (OSError, HTTPException) as error:
        reason = f"no server of pages answers ({error or type(error).__name__})"
        raise StoreError(f"{what} {address}: {reason}; choose another with {option}") from None
    except ImportError:
        return  # whoever opens it says which package is missing
    except SQLAlchemyError as error:
        reason = first_line(str(getattr(error, "orig", None) or error))
        raise StoreError(f"{what} {address}: cannot be used ({reason}); choose another with {option}") from None


def _ask_for_a_page(address: str) -> None:
    """Ask a server for any page; whatever it answers, it is a server of pages."""
    parts = urllib.parse.urlsplit(address)
    host, port = parts.hostname or "", parts.port
    connection = HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    if parts.scheme == "https":  # nothing is told to it, or believed of what it says
        unverified = ssl._create_unverified_context()
        connection = HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=unverified)
    with contextlib.closing(connection):
        connection.request("GET", f"{parts.path.rstrip('/')}/health")
        connection.getresponse()


def is_away(error: BaseException | None) -> bool:
    """Return whether an error of SQLAlchemy's, or what caused it, is a server that is not there for now.

    A file of SQLite is never away: what it refuses is refused for good, or locked for longer than anybody waits.
    """
    while error is not None:
        if isinstance(error, DBAPIError) and type(error.orig).__module__.partition(".")[0] != "sqlite3":
            refused = str(getattr(error.orig, "sqlstate", None) or "").startswith(REFUSED)
            refused |= "password authentication failed" in str(error.orig)
            return not refused and (
                error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
            )
        error = error.__cause__ or error.__context__
    return False


class DatabaseLock:
    """What one process of all machines does at a time; or many share, and none does meanwhile.

    It is held in a transaction, so that a pool of connections (PgBouncer) may stand before the server. Who holds it
    takes a second connection for the work itself: if a thousand held or awaited it at once, each on a connection of
    the pool, none would be left for that work. So no more than `SLOTS` share it, and whoever waits asks again and
    again, each time in a transaction of its own. Only the next to have it alone waits in the server's queue, where it
    goes before all that share it and came later.

    Args:
        engine: what reaches the database.
        name: whose lock it is: others of the same database have other names.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._key, self._turn = _key_of(name), _key_of(f"{name}, whose turn is next")
        self._slots = [_key_of(f"{name}, slot {number}") for number in range(SLOTS)]

    @contextmanager
    def held(self, *, shared: bool = False) -> Iterator[DatabaseHold]:
        """Wait for it and hold it; it is gone with its connection, and `DatabaseHold.check` says whether it is.

        Args:
            shared: whether others may hold it too, that share it.
        """
        pause, chance = PAUSES[0], random.Random()  # the global one is a training's
        with self._engine.connect() as connection:
            while True:
                with connection.begin():
                    first = chance.choice(self._slots) if shared else self._turn
                    if _takes(connection, "pg_try_advisory_xact_lock", first):
                        see_who_is_gone(connection)
                        main = "pg_try_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
                        if _takes(connection, main, self._key):
                            yield DatabaseHold(connection)
                            return
                time.sleep(pause * chance.uniform(0.5, 1.0))  # those who began together do not ask together
                pause = min(2 * pause, PAUSES[1])


def see_who_is_gone(connection: Connection) -> None:
    """Let the server see in half a minute that a client is gone which holds something in this transaction.

    Left to itself it takes two hours, for which nobody else has the row or the lock.
    """
    settings = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in SERVING.items())
    connection.execute(text(f"SELECT {settings}"))


def _key_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def _takes(connection: Connection, how: str, key: int) -> bool:
    """Return whether a lock was had; a way that waits always has it."""
    return connection.execute(text(f"SELECT {how}(:key)"), {"key": key}).scalar() is not False


class DatabaseHold:
    """A lock of a database that is held, as far as anybody knows."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def check(self) -> None:
        """See that the lock is still held.

        Raises:
            DBAPIError: if its connection is gone, and the lock with it.
        """
        self._connection.execute(text("SELECT 1"))


def brief_engine(address: str) -> Engine | None:
    """Return what reaches a database and keeps no connection; None for another store than PostgreSQL."""
    return create_engine(address, poolclass=NullPool, **engine_options(address)) if is_postgres(address) else None


@contextmanager
def making_tables(address: str, last: str) -> Iterator[None]:
    """Let one machine at a time make the tables of a database, where they are not made yet.

    Of another store than PostgreSQL nothing is kept: it lies on one machine, or its server sees to that.

    Args:
        address: address of the store.
        last: the table that is filled last of all.
    """
    engine = brief_engine(address)
    if engine is None or _is_filled(engine, last):
        yield
        return
    with DatabaseLock(engine, f"tables behind {last}").held():
        yield


def _is_filled(engine: Engine, table: str) -> bool:
    with engine.connect() as connection:
        is_there = connection.execute(text("SELECT to_regclass(:table)"), {"table": table}).scalar()
        return bool(is_there and connection.execute(text(f"SELECT 1 FROM {table} LIMIT 1")).scalar())


__all__ = [
    "DatabaseHold",
    "DatabaseLock",
    "brief_engine",
    "check_answers",
    "check_opens",
    "engine_options",
    "is_away",
    "is_postgres",
    "making_tables",
    "see_who_is_gone",
]
