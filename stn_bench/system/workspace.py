"""The workspace: where things are and how the work is shared out. Nothing here can change a result."""

from __future__ import annotations

import glob
import os
import re
import sqlite3
import urllib.parse
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from stn_bench.system.errors import ConfigError, StoreError
from stn_bench.system.own_code import find_under
from stn_bench.system.text import shorten

DEFAULT_HEARTBEAT_SECONDS = 15
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
STORAGE_VARIABLE = "STN_BENCH_OPTUNA_URL"
SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<file>[^?]+)(?P<query>.*)", re.DOTALL)
STRANGE = re.compile(r"[%?#{}\[\]\x00-\x1f\x7f]")  # what an address, or a template of one, reads as something else


@dataclass(frozen=True)
class Workspace:
    """The folders and stores of one root.

    Args:
        root: folder with `ablations/`, `studies/`, `mlruns/` and `reports/`.
        tracking_uri: MLflow's store; "" means SQLite under the root.
        storage: Optuna's store, the job queue; "" means SQLite under the root.
        heartbeat: seconds between a worker's signs of life; after four without one its job is given away.
    """

    root: Path
    tracking_uri: str = ""
    storage: str = ""
    heartbeat: int = field(
        default_factory=lambda: int(os.environ.get("STN_BENCH_HEARTBEAT", DEFAULT_HEARTBEAT_SECONDS))
    )

    @classmethod
    def at(
        cls, root: Path | str | None = None, tracking_uri: str | None = None, storage: str | None = None
    ) -> Workspace:
        """Return the workspace of a folder (the current one, unset) and of two addresses.

        Unset, MLFLOW_TRACKING_URI and STN_BENCH_OPTUNA_URL tell them.

        Raises:
            ConfigError: if there is no such folder, or its name is no UTF-8: no store can hold such an address.
        """
        uri = tracking_uri or os.environ.get(TRACKING_VARIABLE, "")
        queue = storage or os.environ.get(STORAGE_VARIABLE, "")
        folder = (Path(root).expanduser() if root else Path.cwd()).resolve()
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{os.fsencode(folder)!r}: expected a folder whose name is UTF-8; rename it") from None
        if not folder.is_dir():
            what = "is no folder" if folder.exists() else "no such folder; make it first, or name another"
            raise ConfigError(f"{folder}: {what}")
        return cls(folder, uri, queue)

    @property
    def stores(self) -> Path:
        """Folder of all that a program wrote: stores, artifacts, data, checkpoints."""
        return self.root / "mlruns"

    @property
    def tracking(self) -> str:
        """Address of MLflow's store."""
        return self.tracking_uri or sqlite_address(self.stores / "mlflow.db")

    @property
    def has_tracking(self) -> bool:
        """Whether there is a store to read: a server's is taken to be there."""
        file = sqlite_file(self.tracking)
        return file is None or file.exists()

    @property
    def records(self) -> Path:
        """The file of records beside the store: it is made again where it is missing or damaged."""
        return self.stores / "records.db"

    @property
    def artifacts(self) -> Path:
        """Folder of MLflow's artifacts, unless a tracking server keeps them."""
        return self.stores / "artifacts"

    @property
    def queue(self) -> str:
        """Address of Optuna's store, the job queue."""
        return self.storage or sqlite_address(self.stores / "optuna.db")

    @property
    def datasets(self) -> Path:
        """Folder of the data that subjects prepare."""
        return self.stores / "datasets"

    @property
    def checkpoints(self) -> Path:
        """Folder of unfinished trainings."""
        return self.stores / "checkpoints"

    @property
    def logs(self) -> Path:
        """Folder of what the workers and their libraries printed."""
        return self.stores / "logs"

    def report(self, study: str) -> Path:
        """Return the folder of a study's report."""
        return self.root / "reports" / study

    def page(self, study: str) -> Path:
        """Return the page of a study's report."""
        return self.report(study) / "report.md"

    def lock(self, name: str) -> Path:
        """Return the lock file of something that one process does at a time."""
        return self.stores / f"{name}.lock"

    def find_code(self) -> None:
        """Let code under the root be found: a subject, or what its settings name. Call it only where some is named.

        The root may be somebody else's folder. It stands behind all that is installed, so that no `scipy.py` in it
        runs when a library is loaded.
        """
        find_under(self.root)


def sqlite_address(file: Path) -> str:
    """Return the address of a SQLite file, whatever its folders are called.

    A name such as `what?x` or `50%41 off` is escaped. Of a `sqlite:///` address, MLflow would make the folder of that
    escaped name; of one that names the driver it makes none.
    """
    if not STRANGE.search(str(file)):
        return f"sqlite:///{file}"
    return f"sqlite+pysqlite:///{urllib.parse.quote(file.as_posix(), safe='/:')}"


def sqlite_file(address: str) -> Path | None:
    """Return the file of a SQLite address, read as SQLAlchemy reads it; None for any other store's."""
    found = SQLITE.match(address)
    if not found:
        return None
    file = urllib.parse.unquote(found["file"])
    if file.startswith("file:") and "uri=true" in found["query"]:  # SQLite itself undoes escapes once more
        file = urllib.parse.unquote(file.removeprefix("file:"))
    return Path(file)


def make_whole(path: Path, make: Callable[[str], None]) -> None:
    """Make a SQLite file, all of it or none: tables that a kill cut short are of no use, and refused for good.

    Call it where one process at a time does.

    Args:
        path: the file; what is there is replaced.
        make: address of a file beside it -> makes its tables, and closes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial*"):  # of a process that was killed
        left.unlink(missing_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    make(sqlite_address(partial))
    partial.replace(path)


def tables_of(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the tables in a SQLite file."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def refuse_foreign(store: str, path: Path, ours: set[str], option: str) -> None:
    """Check that a SQLite file is new, or holds a library's tables: the library would write its own into anybody's.

    Args:
        store: which store it is, and its address.
        path: the file; one that is not there yet is new.
        ours: tables by which the library's store is known.
        option: where another store is chosen.

    Raises:
        StoreError: if it is another program's.
        sqlite3.DatabaseError: if it is no SQLite file, or damaged.
    """
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as connection:
        tables = tables_of(connection)
    if tables and not tables >= ours:
        found = shorten(", ".join(sorted(tables)))
        raise StoreError(f"{store}: is another program's database (tables {found}); choose another with {option}")
