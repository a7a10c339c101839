"""MLflow's store: how it is opened, and how its runs are read."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from alembic.util import CommandError
from mlflow.artifacts import download_artifacts
from mlflow.entities import (
    LifecycleStage,
    Run,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.rest_utils import http_request, verify_rest_response
from mlflow.utils.uri import is_local_uri
from sqlalchemy import text as sql
from sqlalchemy.exc import SQLAlchemyError

from stn_bench.system.errors import StoreAwayError, StoreError
from stn_bench.system.global_state import environment
from stn_bench.system.lock import Lock
from stn_bench.system.machine import disk_full
from stn_bench.system.patience import Patience
from stn_bench.system.postgres import brief_engine, check_answers, is_away, making_tables
from stn_bench.system.text import first_line
from stn_bench.system.workspace import sqlite_file
from stn_bench.tracking.ended import (
    KIND,
    ORIGINAL,
    PAGE,
    Ask,
    EndedRun,
    Wanted,
    ended_run,
    ended_runs,
    reading,
    searched_runs,
)
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.mlflow.fluent import point_fluent_calls_at
from stn_bench.tracking.mlflow.refusals import is_silent, refusal, undeleted, undeleted_study
from stn_bench.tracking.mlflow.tables import make_tables
from stn_bench.tracking.moved import bring_home
from stn_bench.tracking.quick import note_opened
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.store import ArmPage, FinishedRun, StoredRun
from stn_bench.tracking.stored import IMPORTED, StoredRuns

HASTY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
"""How a server is asked as it is opened: what is wrong is told in seconds."""

STEADY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""How it is asked from then on: MLflow's own tries stay few, since `Patience` knows when to stop."""

RUNS_SEARCH = "/api/2.0/mlflow/runs/search"

Tracked = TypeVar("Tracked", bound="TrackedRuns")
Given = ParamSpec("Given")
Returned = TypeVar("Returned")


def patient(
    method: Callable[Concatenate[Tracked, Given], Returned],
) -> Callable[Concatenate[Tracked, Given], Returned]:
    """Let a method be called again while the store is away; it must come to the same if it is done twice."""

    @functools.wraps(method)
    def insisting(tracking: Tracked, /, *args: Given.args, **kwargs: Given.kwargs) -> Returned:
        return tracking.patience.insist(lambda: method(tracking, *args, **kwargs))

    return insisting


class TrackedRuns:
    """MLflow's store, opened, and the runs in it, to be read.

    Args:
        uri: address of the store.
        artifacts: folder for artifacts, used where no server keeps them.
        lock: file under which one process at a time creates stores, experiments and arms.
        kept: the file of records beside the store; None to do without.

    Where the store is away for a while, what is asked of it waits, as long as `patience` has it; but for what says
    otherwise.

    Raises:
        StoreError: if the store cannot be reached, or is not MLflow's of a version that we read.
    """

    def __init__(self, uri: str, artifacts: Path, lock: Path, kept: KeptRecords | None = None) -> None:
        self.uri = uri
        self._artifacts = artifacts
        self._lock = Lock(lock)
        self._sqlite = sqlite_file(uri)
        self.patience = Patience()
        self._requests = HASTY
        self._downloads: tempfile.TemporaryDirectory[str] | None = None
        self._one_folder = threading.Lock()  # records are fetched side by side
        self._stored = StoredRuns(uri, self.ended, self.fetch, self.deleted, kept)
        check_answers("tracking store", uri, "--tracking-uri")
        with self._lock, self._reachable():  # several processes opening a new store at once break it for good
            self._engine = brief_engine(uri)
            make_tables(uri)
            point_fluent_calls_at(uri)
            with making_tables(uri, "experiments"):
                self._client = MlflowClient(tracking_uri=uri)
                self._client.search_experiments(max_results=1)
            bring_home(uri, artifacts)
            # MLflow remembers by a run's id alone where its files are: the next root may hold a copy of it.
            _artifact_repos_cache.clear()
            if kept:
                note_opened(uri, kept)
        self._requests = STEADY

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        """Tell of an error in a line, as a store that is away for now, or one that cannot be used."""
        own = {name: value for name, value in self._requests.items() if name not in os.environ}
        try:
            with environment(own):
                yield
        except (MlflowException, OSError, ImportError, sqlite3.DatabaseError, SQLAlchemyError, CommandError) as error:
            told = f"tracking store {self.uri}: {refusal(error, self.uri)}"
            refused = StoreAwayError(told) if self._is_away(error) else StoreError(told)
            raise disk_full(error) or refused from None

    def _is_away(self, error: Exception) -> bool:
        """Return whether an error says that the store, once it was opened, is away for now."""
        if self._sqlite or self._requests is HASTY:
            return False
        return is_away(error) or is_silent(error)

    def finished(self) -> list[FinishedRun]:
        """Return every finished run in the store, the latest first."""
        return self._stored.finished()

    def crashed(self, study: str) -> list[FinishedRun]:
        """Return the runs of a study that raised an error, the latest first."""
        return self._stored.crashed(study)

    def finished_as(self, run_key: str, is_trial: bool) -> str | None:
        """Return the id of the finished run with this run key, the latest if there are more, or None."""
        return self._stored.finished_as(run_key, is_trial)

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        """Return the records of finished runs, in the order of their ids in this store.

        The record of an imported run names it by the id that it had where it was trained.
        """
        return self._stored.records(run_ids)

    def find_run(self, name: str) -> str:
        """Return the id of the finished run whose id, here or where it was trained, or run key begins with `name`.

        Raises:
            StoreError: if there is none, or more than one.
        """
        return self._stored.find_run(name)

    def file(self, run_id: str, path: str) -> Path:
        """Return a local path to an artifact of a run, under its id here or where it was trained.

        Raises:
            StoreError: if the run has no such artifact.
        """
        return self._stored.file(run_id, path)

    @patient
    def arm_pages(self, experiment: str) -> dict[tuple[str, str], ArmPage]:
        """Return the parent runs of a study's arms, by ablation and arm."""
        with self._reachable():
            found = self._search([experiment], {KIND: "arm"})
        pages = {}
        for run in found[::-1]:  # of two, the latest, which comes first
            tags = run.data.tags
            page = ArmPage(str(run.info.run_id), run.info.status == "FINISHED", run.data.metrics, tags)
            pages[tags.get("ablation", ""), tags.get("arm", "")] = page
        return pages

    @patient
    def tries(self) -> list[StoredRun]:
        """Return every run there is, however it ended: tries that were killed, arms, reports, and deleted ones."""
        with self._reachable():
            experiments = [one.experiment_id for one in self._client.search_experiments(view_type=ViewType.ALL)]
            models = self._models(experiments)
            runs = self._search(experiments, {}, view=ViewType.ALL)
        return [_stored_run(run, tuple(models.get(run.info.run_id, ()))) for run in runs]

    @patient
    def fetch(self, run_id: str, path: str, home: str = "") -> Path:
        """Return a local path to an artifact of a run, by its id here.

        Args:
            run_id: id of the run here.
            path: path of the artifact, below the run's or below one of its models'.
            home: where it is the run's own and their address is known, that address; asking the store for it, and
                whether a model has it, takes three questions more.

        Raises:
            StoreError: if the run has no such artifact.
        """
        try:
            if home:
                folder = str(Path(self._folder_for(run_id), path).parent)
                return Path(download_artifacts(f"{home}/{path}", dst_path=folder, tracking_uri=self.uri))
            home = "the store"
            home = self._client.get_run(run_id).info.artifact_uri
            if is_local_uri(home, is_tracking_or_registry_uri=False):
                local = Path(local_file_uri_to_path(home)) / path
                if local.is_file():  # read in place: MLflow would ask the store thrice, and make a folder for it
                    return local
            return Path(self._client.download_artifacts(run_id, path, self._folder_for(run_id)))
        except (MlflowException, OSError, SQLAlchemyError) as error:
            if self._is_away(error):
                raise StoreAwayError(f"tracking store {self.uri}: {refusal(error, self.uri)}") from None
            reason = IMPORTED if self._is_imported(run_id) else f"{first_line(str(error))}, in {home}"
            raise StoreError(f"run {run_id}: artifact `{path}` cannot be read ({reason})") from None

    @patient
    def deleted(self, name: str) -> str:
        """Return what to do about a deleted run whose id or run key begins with `name`; "" if there is none."""
        with self._reachable():
            experiments = {one.experiment_id: one for one in self._client.search_experiments(view_type=ViewType.ALL)}
            for run in self._search(list(experiments), {KIND: "run"}, view=ViewType.DELETED_ONLY):
                tags, run_id = run.data.tags, str(run.info.run_id)
                known = (run_id, tags.get(ORIGINAL, ""), tags.get("run_key", ""))
                if any(one.startswith(name) for one in known):
                    study = experiments[run.info.experiment_id]
                    if study.lifecycle_stage == LifecycleStage.DELETED:
                        return undeleted_study(study.name, study.experiment_id, self.uri)
                    what = f"run {run_id} of study `{study.name}` was deleted in MLflow"
                    return undeleted(what, "run", run_id, self.uri)
        return ""

    def _folder_for(self, run_id: str) -> str:
        """Return a folder for what a server sends of a run; all of them are gone when this process ends."""
        with self._one_folder:
            if self._downloads is None:
                self._downloads = tempfile.TemporaryDirectory(prefix="stn-bench-", ignore_cleanup_errors=True)
                atexit.register(self._downloads.cleanup)  # before Python warns of it
        folder = Path(self._downloads.name, run_id)
        folder.mkdir(exist_ok=True)
        return str(folder)

    def _is_imported(self, run_id: str) -> bool:
        try:
            return ORIGINAL in self._client.get_run(run_id).data.tags
        except MlflowException:
            return False

    @patient
    def ended(self, wanted: Wanted) -> list[EndedRun]:
        """Return runs that have ended, in no order: by the store's tables if it has any, else by MLflow's search."""
        with self._reachable():
            with self._tables() as ask:
                found = ended_runs(ask, wanted) if ask else None
            return self._searched(wanted) if found is None else found

    @contextlib.contextmanager
    def _tables(self) -> Iterator[Ask | None]:
        """Lend the store's tables, to be read; None where they cannot be asked so."""
        if self._sqlite:
            with reading(self._sqlite) as ask:
                yield ask
        elif self._engine is not None:
            with self._engine.connect() as connection:
                yield lambda query, values: connection.execute(sql(query), dict(values)).all()
        else:
            yield None

    def _searched(self, wanted: Wanted) -> list[EndedRun]:
        experiments = self._experiments()
        if wanted.study:
            experiment = self._experiment(wanted.study)
            experiments = [experiment] if experiment else []
        if not experiments:
            return []
        tags, status = {KIND: "run", **dict(wanted.tags)}, f"attributes.status = '{wanted.status}'"
        if self.uri.startswith("http"):
            return searched_runs(self._ask_server, experiments, _filter(tags, status))
        return [one for run in self._search(experiments, tags, status) for one in _ended_run(run)]

    def _ask_server(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a server answers about runs: MLflow's client would take as long to read it as it to write it."""
        credentials = get_default_host_creds(self.uri)
        answer = http_request(credentials, RUNS_SEARCH, "POST", json=dict(question))
        return dict(verify_rest_response(answer, RUNS_SEARCH).json())

    def _experiment(self, study: str) -> str | None:
        """Return the experiment of a study, or None if it has none.

        Raises:
            StoreError: if it was deleted: MLflow keeps it and its runs, hidden, and gives its name to no other.
        """
        found = self._client.get_experiment_by_name(study)
        if found is None:
            return None
        if found.lifecycle_stage == LifecycleStage.DELETED:
            raise StoreError(f"tracking store {self.uri}: {undeleted_study(study, found.experiment_id, self.uri)}")
        return str(found.experiment_id)

    def _experiments(self) -> list[str]:
        return [experiment.experiment_id for experiment in self._client.search_experiments()]

    def _models(self, experiments: list[str]) -> dict[str, list[str]]:
        """Return id of a run -> ids of the models that it logged, half-written ones too."""
        found: dict[str, list[str]] = {}
        token = None
        while True:
            page = self._client.search_logged_models(experiments, page_token=token)
            for model in page:
                found.setdefault(model.source_run_id, []).append(model.model_id)
            token = page.token
            if not token:
                return found

    def _search(
        self, experiments: list[str], tags: Mapping[str, str], also: str = "", view: int = ViewType.ACTIVE_ONLY
    ) -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(experiments, _filter(tags, also), view, PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return found


def _filter(tags: Mapping[str, str], also: str = "") -> str:
    return " and ".join([f"tags.`{name}` = '{value}'" for name, value in tags.items()] + ([also] if also else []))


def _ended_run(run: Run) -> list[EndedRun]:
    info = run.info
    return ended_run(str(info.run_id), info.start_time, info.end_time, info.artifact_uri or "", run.data.tags)


def _stored_run(run: Run, models: tuple[str, ...]) -> StoredRun:
    told = {name: run.data.tags.get(name, "") for name in ("run_key", "settings", "phase", "seed", "study")}
    return StoredRun(str(run.info.run_id), status=str(run.info.status), models=models, **told)
