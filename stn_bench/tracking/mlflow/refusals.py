"""Why MLflow's store cannot be used, and what to do, in a line."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from stn_bench.system.text import without_secrets

URI_VARIABLE = "MLFLOW_TRACKING_URI"
REVISION = re.compile(  # of a damaged store it is something else, or None
    r"schema \(found version ([0-9a-f]{8,40}), but|Can't locate revision identified by '([0-9a-f]{8,40})'"
)
ANSWERED = re.compile(r"failed with error code (\d+)|too many (\d+) error responses")  # MLflow's words for a status
ASK_LATER = (429, 502, 503, 504)  # statuses of a server, or of what stands before it, that is away for now
REFUSALS = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}
AWAY = "TEMPORARILY_UNAVAILABLE"  # MLflow's code where its database does not answer
LOST = "failed with exception"  # MLflow's words where no answer came
AUTOFLUSH = "(raised as a result of Query-invoked autoflush"  # SQLAlchemy's first line, before the one that tells


def is_silent(error: Exception) -> bool:
    """Return whether no answer came of a server, or one of what stands before it."""
    if isinstance(error, MlflowException):
        return error.error_code == AWAY or _status(error) in ASK_LATER or LOST in str(error)
    if hasattr(error, "response"):  # of the library that asks: an artifact comes and goes by it alone
        return error.response is None or error.response.status_code in ASK_LATER
    return isinstance(error, ConnectionError | TimeoutError)


def _status(error: Exception) -> int:
    """Return the status with which a server refused; 0 where it is not told."""
    found = ANSWERED.search(str(error))
    known = REFUSALS.get(str(getattr(error, "error_code", "")), 0)
    return int(found[1] or found[2]) if found else known


def refusal(error: Exception, uri: str) -> str:
    """Return why a store cannot be used, and what to do.

    MLflow upgrades an older store by itself where whole tables are missing, and refuses it where only columns are. A
    newer one it calls out of date too, or it cannot "locate" its revision.
    """
    if isinstance(error, OSError):
        return f"cannot be used ({error})"
    if LOST in str(error):
        return "does not answer for now; is it there, and MLflow's?"
    if status := _status(error):
        return _refused_by_server(status)
    lines = [line for line in without_secrets(str(error)).strip().splitlines() if not line.startswith(AUTOFLUSH)]
    reason = lines[0] if lines else ""  # without secrets before it is cut: half an address is none
    if not (found := REVISION.search(reason)):
        return f"cannot be used ({reason[:200]}); is it there, and MLflow's?"
    return outdated(found[1] or found[2], uri)


def outdated(version: str, uri: str) -> str:
    """Return what to do about a store with tables of another version than this MLflow's."""
    migrations = Path(str(resources.files("mlflow.store.db_migrations.versions")))
    if not version or any(migrations.glob(f"{version}*.py")):
        command = f"mlflow db upgrade {shlex.quote(without_secrets(uri))}"
        return f"was written by an older MLflow than {mlflow.__version__}; make a copy of it, then run: {command}"
    return f"was written by a newer MLflow than {mlflow.__version__}; run: pip install --upgrade mlflow"


def _refused_by_server(status: int) -> str:
    """Return why a server does not do what it is asked, and what to do."""
    if status in (401, 403):
        return (
            f"refuses the password or token ({status}); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            f"MLFLOW_TRACKING_TOKEN"
        )
    if status in ASK_LATER:
        return f"does not answer for now ({status})"
    return f"answers with {status}; is it MLflow's?"


def undeleted_study(study: str, experiment: str, uri: str) -> str:
    """Return what to do about a study whose experiment was deleted."""
    what = f"the experiment of study `{study}` was deleted in MLflow, with its runs"
    return undeleted(what, "experiment", experiment, uri)


def undeleted(what: str, kind: str, known: str, uri: str) -> str:
    """Return what to do about an experiment or a run that was deleted; a server's own store is known to it alone."""
    address = shlex.quote(without_secrets(uri))
    store = "STORE_OF_THE_SERVER" if uri.startswith("http") else address
    return (
        f"{what}. To restore it, run: {URI_VARIABLE}={address} mlflow {kind}s restore --{kind}-id {known}\n"
        f"To delete it for good, run: mlflow gc --backend-store-uri {store} --tracking-uri {address} "
        f"--{kind}-ids {known}"
    )
