"""The door to MLflow: every run is written here and read from here, and nowhere else.

Experiment = study, parent run = arm, child run = one seed or one trial. Each finished child carries `record.json`,
the whole of what a report sees; its parameters, metrics and tags say the same to the MLflow UI.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import functools
import importlib
import json
import logging
import os
import re
import shlex
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # DO_NOT_TRACK=1 is not honoured
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for every run on a server

import mlflow
import numpy as np
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow.artifacts import download_artifacts
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.db.utils import _get_alembic_config
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from mlflow.types.schema import Schema, TensorSpec
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME
from mlflow.utils.rest_utils import http_request, verify_rest_response
from mlflow.utils.uri import is_local_uri
from sqlalchemy import text as sql
from sqlalchemy.exc import SQLAlchemyError

from stn_bench.subject import DataNote, TrainedModel
from stn_bench.system.errors import StoreAwayError, StoreError
from stn_bench.system.global_state import environment
from stn_bench.system.lock import Lock
from stn_bench.system.machine import disk_full
from stn_bench.system.patience import Patience
from stn_bench.system.postgres import brief_engine, check_answers, is_away, making_tables
from stn_bench.system.text import did_you_mean, shorten, without_secrets
from stn_bench.system.workspace import make_whole, refuse_foreign, sqlite_file, tables_of
from stn_bench.tracking.ended import (
    KIND,
    ORIGINAL,
    PAGE,
    Ask,
    EndedRun,
    Wanted,
    ended_run,
    ended_runs,
    files_tag,
    reading,
    searched_runs,
)
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.moved import bring_home
from stn_bench.tracking.quick import note_opened
from stn_bench.tracking.record import RECORD, RunRecord
from stn_bench.tracking.store import ArmPage, FinishedRun, ImportedRun, StoredRun
from stn_bench.tracking.stored import IMPORTED, StoredRuns

BATCH = 100  # MLflow takes 100 params or tags at a time
METRICS_BATCH = 900  # and 1000 of all kinds
HASTY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
"""How a server is asked as it is opened: what is wrong is told in seconds."""

STEADY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""How it is asked from then on: MLflow's own tries stay few, since `Patience` knows when to stop."""

TAG_LENGTH = 5000
RUNS_SEARCH = "/api/2.0/mlflow/runs/search"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI's view for training, not for agents
REVISION = re.compile(  # of a damaged store it is something else, or None
    r"schema \(found version ([0-9a-f]{8,40}), but|Can't locate revision identified by '([0-9a-f]{8,40})'"
)
ANSWERED = re.compile(r"failed with error code (\d+)|too many (\d+) error responses")  # MLflow's words for a status
ASK_LATER = (429, 502, 503, 504)  # statuses of a server, or of what stands before it, that is away for now
REFUSALS = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}
AWAY = "TEMPORARILY_UNAVAILABLE"  # MLflow's code where its database does not answer
LOST = "failed with exception"  # MLflow's words where no answer came
AUTOFLUSH = "(raised as a result of Query-invoked autoflush"  # SQLAlchemy's first line, before the one that tells
OURS = {"experiments", "runs", "alembic_version"}  # tables by which a store of MLflow's is known

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a traceback of what it raises besides
logging.getLogger("alembic").setLevel(logging.ERROR)

Tensors: TypeAlias = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, dtype and shape of each input or output of a model."""

Given = ParamSpec("Given")
Returned = TypeVar("Returned")


def _patient(
    method: Callable[Concatenate[Tracking, Given], Returned],
) -> Callable[Concatenate[Tracking, Given], Returned]:
    """Let a method be called again while the store is away; it must come to the same if it is done twice."""

    @functools.wraps(method)
    def insisting(tracking: Tracking, /, *args: Given.args, **kwargs: Given.kwargs) -> Returned:
        return tracking.patience.insist(lambda: method(tracking, *args, **kwargs))

    return insisting


class Tracking:
    """MLflow's store, and the runs in it.

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
        self._files: dict[str, set[str]] = {}  # of runs that this process trains: what they have kept
        self._homes: dict[str, str] = {}  # of runs that this process has begun: where their artifacts lie
        self._stored = StoredRuns(uri, self.ended, self.fetch, self.deleted, kept)
        check_answers("tracking store", uri, "--tracking-uri")
        with self._lock, self._reachable():  # several processes opening a new store at once break it for good
            self._engine = brief_engine(uri)
            _make_tables(uri)
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
            told = f"tracking store {self.uri}: {_refusal(error, self.uri)}"
            refused = StoreAwayError(told) if self._is_away(error) else StoreError(told)
            raise disk_full(error) or refused from None

    def _is_away(self, error: Exception) -> bool:
        """Return whether an error says that the store, once it was opened, is away for now."""
        if self._sqlite or self._requests is HASTY:
            return False
        return is_away(error) or _is_silent(error)

    # Writing ---------------------------------------------------------------------------------------------------

    @_patient
    def open_study(self, name: str, note: str = "") -> str:
        """Return the experiment of a study, made if it is missing; `note` is Markdown for its page."""
        with self._lock, self._reachable():
            experiment = self._experiment(name) or self._make_experiment(name)
            if note:
                self._client.set_experiment_tag(experiment, MLFLOW_RUN_NOTE, note)
            return str(experiment)

    def _make_experiment(self, name: str) -> str:
        try:
            return str(self._client.create_experiment(name, self._location(), EXPERIMENT_KIND))
        except MlflowException:
            if found := self._experiment(name):  # another machine was faster
                return found
            raise

    @_patient
    def open_arm(self, experiment: str, name: str, tags: Mapping[str, str], note: str) -> str:
        """Return the parent run of an arm, made if it is missing."""
        with self._lock, self._reachable():
            found = self._search([experiment], {KIND: "arm", "ablation": tags["ablation"], "arm": tags["arm"]})
            if found:
                if found[0].info.status == "KILLED":  # whoever stopped goes on
                    self._client.update_run(found[0].info.run_id, status="RUNNING")
                return str(found[0].info.run_id)
            return self._create(experiment, name, {**tags, KIND: "arm", MLFLOW_RUN_NOTE: note})

    @_patient
    def start_run(
        self, experiment: str, parent: str | None, name: str, tags: Mapping[str, str], started: int | None = None
    ) -> str:
        """Start the run of a cell and return its id; what earlier, dead tries left open is closed as KILLED.

        Args:
            experiment: id of the study.
            parent: id of the arm, or None outside a study.
            name: name of the run.
            tags: its flat tags.
            started: when it began, in milliseconds since 1970; now, unset.
        """
        self.kill_open(experiment, run_key=tags["run_key"])
        return self._start(experiment, parent, name, tags, started)

    def start_first_run(
        self, experiment: str, parent: str | None, name: str, tags: Mapping[str, str], started: int | None = None
    ) -> str:
        """Do as `start_run`, where no earlier try can be open: looking for one reads the run keys of all runs."""
        try:
            return self._start(experiment, parent, name, tags, started)
        except StoreAwayError:  # the run may have begun, and the answer been lost
            return self.start_run(experiment, parent, name, tags, started)

    def _start(
        self, experiment: str, parent: str | None, name: str, tags: Mapping[str, str], started: int | None
    ) -> str:
        lineage = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        with self._reachable():
            return self._create(experiment, name, {**tags, **lineage, KIND: "run"}, started)

    @_patient
    def note_run(self, run_id: str, note: str) -> None:
        """Write Markdown to the page of a run."""
        with self._reachable():
            self._client.set_tag(run_id, MLFLOW_RUN_NOTE, note[:TAG_LENGTH])

    @_patient
    def log_settings(
        self, run_id: str, settings: Mapping[str, Any], data: DataNote | None = None, fingerprint: str = ""
    ) -> None:
        """Write a run's parameters and, where they are known, the data that it reads."""
        params = [Param(path, _parameter(value)) for path, value in settings.items()]
        with self._reachable():
            for start in range(0, len(params), BATCH):
                self._client.log_batch(run_id, params=params[start : start + BATCH])
        if data is None:
            return
        given = [_dataset_input(data, fingerprint)]
        # MLflow looks for the data and then adds them: two runs at once would add them twice.
        with self._lock, self._reachable():
            try:
                self._client.log_inputs(run_id, given)
            except MlflowException:  # a worker on another machine was faster, and now they are there
                self._client.log_inputs(run_id, given)

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float], now: int | None = None) -> None:
        """Write one epoch's metrics in one call, which waits for no store that is away.

        Args:
            run_id: the run.
            epoch: number of the epoch.
            metrics: its metrics.
            now: when it ended, in milliseconds since 1970: written twice at one moment, a value counts once.
        """
        with self._reachable():
            self._client.log_batch(run_id, _metrics(metrics, epoch, now))

    @_patient
    def log_files(self, run_id: str, folder: Path, path: str | None = None) -> None:
        """Keep a folder's files as artifacts of a run, under `path`."""
        with self._reachable():
            self._client.log_artifacts(run_id, str(folder), path)
        below = Path(path or "")
        files = {(below / file.relative_to(folder)).as_posix() for file in folder.rglob("*") if file.is_file()}
        self._files.setdefault(run_id, set()).update(files)

    @_patient
    def log_model(self, run_id: str, name: str, model: TrainedModel) -> None:
        """Keep a model with its signature, by MLflow's module for its kind.

        Args:
            run_id: the run that trained it.
            name: name of the model among those of the study.
            model: the model.

        Raises:
            StoreError: if MLflow has no such module, or cannot keep the model.
        """
        flavour = importlib.import_module(f"mlflow.{model.flavour}")
        signature = ModelSignature(inputs=_schema(_loadable(model)), outputs=_schema(model.outputs))
        with self._reachable(), _active(run_id):
            flavour.log_model(
                model.value,
                name=name,
                signature=signature,
                pip_requirements=list(model.requirements) or None,
                **model.options,
            )

    def finish_run(self, record: RunRecord, metrics: Mapping[str, float]) -> None:
        """Write final metrics and tags, and close the run: the moment from which it counts as done.

        It waits for no store that is away: whoever closes a run must know that it still is his, each time.
        """
        with self._reachable():
            self._finish(record.run_id, record, _metrics(metrics, now=_milliseconds(record.ended)))
        self._stored.keep(record, self._homes.pop(record.run_id, ""))

    def _finish(self, run_id: str, record: RunRecord, metrics: list[Metric], ended: int | None = None) -> None:
        tags = [RunTag("outcome", record.outcome)]
        tags += [RunTag("reason", record.reason[:TAG_LENGTH])] if record.reason else []
        if record.outcome != "crashed":  # who writes that one has not seen what the training kept
            files = files_tag(self._files.get(run_id, set()) | {RECORD}, TAG_LENGTH)
            tags += [RunTag(name, told) for name, told in files.items()]
        self._client.log_batch(run_id, metrics, tags=tags)
        self._client.log_dict(run_id, record.model_dump(mode="json"), RECORD)
        status = "FAILED" if record.outcome == "crashed" else "FINISHED"
        self._client.set_terminated(run_id, status=status, end_time=ended)
        self._files.pop(run_id, None)

    def import_run(self, experiment: str, parent: str, run: ImportedRun) -> None:
        """Write a run that another store trained, under an id of this one; the id that it had there finds it too."""
        started, ended = _milliseconds(run.record.started), _milliseconds(run.record.ended)
        with self._reachable():
            tags = {**run.tags, ORIGINAL: run.record.run_id, MLFLOW_RUN_NOTE: run.note[:TAG_LENGTH]}
            run_id = self.start_run(experiment, parent, run.name, tags, started)
            try:
                self.log_settings(run_id, run.record.settings, run.data, run.record.identity.dataset)
                self._log_contents(run_id, run.files)
                metrics = _spread(run.record.history, started, ended) + _metrics(run.record.metrics, now=ended)
                while len(metrics) > METRICS_BATCH:
                    self._client.log_batch(run_id, metrics[:METRICS_BATCH])
                    metrics = metrics[METRICS_BATCH:]
                self._finish(run_id, run.record, metrics, ended)
            except BaseException:  # Ctrl-C too: only a whole run may count as done
                self.kill_run(run_id)
                raise

    def _log_contents(self, run_id: str, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for path, content in files.items():
                Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
                Path(folder, path).write_bytes(content)
            self.log_files(run_id, Path(folder))

    @_patient
    def kill_run(self, run_id: str) -> None:
        """Close a run that was stopped before its end; one that has ended by itself after all stays as it is."""
        with self._reachable():
            if self._client.get_run(run_id).info.status == "RUNNING":
                self._client.set_terminated(run_id, status="KILLED")

    @_patient
    def kill_open(self, experiment: str, /, **tags: str) -> None:
        """Close as KILLED the open runs of a study that have these tags: a job's, or with `kind="arm"` its arms."""
        with self._reachable():
            for dead in self._search([experiment], tags, "attributes.status = 'RUNNING'"):
                self._client.set_terminated(dead.info.run_id, status="KILLED")

    @_patient
    def describe(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Write an arm's or a study's aggregates and close its run; a tag that is "" is taken away."""
        with self._reachable():
            for name in self._client.get_run(run_id).data.tags.keys() & {name for name in tags if not tags[name]}:
                self._client.delete_tag(run_id, name)
            aggregates = [RunTag(name, value[:TAG_LENGTH]) for name, value in tags.items() if value]
            self._client.log_batch(run_id, _metrics(metrics), tags=aggregates)
            self._client.set_terminated(run_id, status="FINISHED")

    @_patient
    def log_report(self, experiment: str, study: str, folder: Path, note: str) -> None:
        """Keep a study's report as the artifact of one run named `report`; `note` is Markdown for that run's page."""
        with self._lock, self._reachable():
            found = self._search([experiment], {KIND: "report"})
            run_id = (
                str(found[0].info.run_id)
                if found
                else self._create(experiment, "report", {KIND: "report", "study": study})
            )
            self._client.log_artifacts(run_id, str(folder), "report")
            self._client.set_tag(run_id, MLFLOW_RUN_NOTE, note[:TAG_LENGTH])
            self._client.set_terminated(run_id, status="FINISHED")

    def _create(self, experiment: str, name: str, tags: Mapping[str, str], started: int | None = None) -> str:
        tags = {**tags, MLFLOW_SOURCE_NAME: "stn-bench"}
        run = self._client.create_run(experiment, start_time=started, tags=tags, run_name=name)
        self._homes[run.info.run_id] = run.info.artifact_uri
        return str(run.info.run_id)

    def _location(self) -> str | None:
        return None if self.uri.startswith("http") else self._artifacts.resolve().as_uri()

    # Reading ---------------------------------------------------------------------------------------------------

    def finished(self) -> list[FinishedRun]:
        """Return every finished run in the store, the latest first."""
        return self._stored.finished()

    def crashed(self, study: str) -> list[FinishedRun]:
        """Return the runs of a study that raised an error, the latest first."""
        return self._stored.crashed(study)

    def finished_as(self, run_key: str) -> str | None:
        """Return the id of the finished run with this run key, the latest if there are more, or None."""
        return self._stored.finished_as(run_key)

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

    @_patient
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

    @_patient
    def tries(self) -> list[StoredRun]:
        """Return every run there is, however it ended: tries that were killed, arms, reports, and deleted ones."""
        with self._reachable():
            experiments = [one.experiment_id for one in self._client.search_experiments(view_type=ViewType.ALL)]
            models = self._models(experiments)
            runs = self._search(experiments, {}, view=ViewType.ALL)
        return [_stored_run(run, tuple(models.get(run.info.run_id, ()))) for run in runs]

    @_patient
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
                raise StoreAwayError(f"tracking store {self.uri}: {_refusal(error, self.uri)}") from None
            reason = IMPORTED if self._is_imported(run_id) else f"{str(error).splitlines()[0]}, in {home}"
            raise StoreError(f"run {run_id}: artifact `{path}` cannot be read ({reason})") from None

    @_patient
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
                        return _undeleted_study(study.name, study.experiment_id, self.uri)
                    what = f"run {run_id} of study `{study.name}` was deleted in MLflow"
                    return _undeleted(what, "run", run_id, self.uri)
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

    @_patient
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
            raise StoreError(f"tracking store {self.uri}: {_undeleted_study(study, found.experiment_id, self.uri)}")
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


def foreign_runs(uri: str, experiment: str) -> list[dict[str, str]]:
    """Return the runs of somebody else's experiment, the latest first, as text by column; the store is only read.

    Columns are named as `mlflow.search_runs` names them, `metrics.*` (the last value of one that was logged by step),
    `params.*` and `tags.*`; beside them stand `run_id`, `status` and `parent`.

    Raises:
        StoreError: if the store cannot be read, or has no such experiment.
    """
    check_answers("tracking store", uri, "--tracking-uri")
    try:
        _check_foreign(uri)
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            known = [one.name for one in client.search_experiments()]
            raise StoreError(
                f"tracking store {uri}: no experiment `{shorten(experiment)}`.{did_you_mean(experiment, known)} "
                f"Known: {shorten(', '.join(known))}"
            )
        runs: list[Run] = []
        token = None
        while page := client.search_runs([found.experiment_id], max_results=PAGE, page_token=token):
            runs += page
            token = page.token
            if not token:
                break
    except (MlflowException, OSError, ImportError, sqlite3.DatabaseError, SQLAlchemyError, CommandError) as error:
        raise StoreError(f"tracking store {uri}: {_refusal(error, uri)}") from None
    return list(map(_as_text, runs))


def _check_foreign(uri: str) -> None:
    """See that a store is there and MLflow's: left to itself, MLflow would make one. Its old folders are read too.

    Raises:
        StoreError: if it is not.
    """
    file = sqlite_file(uri)
    folder = Path(uri.removeprefix("file://").removeprefix("file:"))
    if file is not None:
        if not file.is_file():
            raise StoreError(f"tracking store {uri}: no such file")
        refuse_foreign(f"tracking store {uri}", file, OURS, "--mlflow")
    elif uri.startswith("file:") or "://" not in uri:
        if not folder.is_dir():
            hint = f"; a file of SQLite is meant by sqlite:///{uri}" if folder.is_file() else ""
            raise StoreError(f"tracking store {uri}: no such folder, and no address{hint}")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")


def _as_text(run: Run) -> dict[str, str]:
    told = {"run_id": str(run.info.run_id), "status": str(run.info.status)}
    told["parent"] = str(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""))
    told |= {f"metrics.{name}": repr(float(value)) for name, value in run.data.metrics.items()}
    told |= {f"params.{name}": str(value) for name, value in run.data.params.items()}
    return told | {f"tags.{name}": str(value) for name, value in run.data.tags.items()}


@contextlib.contextmanager
def _active(run_id: str) -> Iterator[None]:
    """Make a run MLflow's active one, and leave it running.

    As a context of its own, MLflow would close it as FINISHED: a worker that is killed then, or a disk that is full,
    would leave a finished run without its record.
    """
    mlflow.start_run(run_id=run_id)
    try:
        yield
    finally:
        mlflow.end_run("RUNNING")


def _spread(history: Mapping[str, tuple[float, ...]], started: int, ended: int) -> list[Metric]:
    """Return the metrics of all epochs; a record does not tell when each ended, so they are spread evenly."""
    return [
        Metric(name, value, started + (ended - started) * epoch // len(series), epoch)
        for name, series in history.items()
        for epoch, value in enumerate(series, start=1)
    ]


def _metrics(values: Mapping[str, float], step: int = 0, now: int | None = None) -> list[Metric]:
    moment = int(time.time() * 1000) if now is None else now
    return [Metric(name, value, moment, step) for name, value in values.items()]


def _parameter(value: Any) -> str:
    return str(tuple(value) if isinstance(value, list) else value)  # in a record read from JSON, tuples are lists


def _milliseconds(moment: str) -> int:
    return int(datetime.datetime.fromisoformat(moment).timestamp() * 1000)


def _ended_run(run: Run) -> list[EndedRun]:
    info = run.info
    return ended_run(str(info.run_id), info.start_time, info.end_time, info.artifact_uri or "", run.data.tags)


def _stored_run(run: Run, models: tuple[str, ...]) -> StoredRun:
    told = {name: run.data.tags.get(name, "") for name in ("run_key", "settings", "phase", "seed", "study")}
    return StoredRun(str(run.info.run_id), status=str(run.info.status), models=models, **told)


def fluent_address() -> str | None:
    """Return MLflow's global address, or None where nobody set one."""
    return str(mlflow.get_tracking_uri()) if mlflow.is_tracking_uri_set() else None


def point_fluent_calls_at(uri: str | None) -> None:
    """Set MLflow's global address, which logging a model needs, and no more than that; None: nobody's.

    MLflow also puts it into the environment, where the next workspace of this process, or a child, would take it for
    the user's own choice.
    """
    before = os.environ.get(URI_VARIABLE)
    mlflow.set_tracking_uri(uri)
    if before is None:
        os.environ.pop(URI_VARIABLE, None)
    else:
        os.environ[URI_VARIABLE] = before


def _is_silent(error: Exception) -> bool:
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


def _refusal(error: Exception, uri: str) -> str:
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
    migrations = Path(str(resources.files("mlflow.store.db_migrations.versions")))
    if any(migrations.glob(f"{found[1] or found[2]}*.py")):
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


def _undeleted_study(study: str, experiment: str, uri: str) -> str:
    """Return what to do about a study whose experiment was deleted."""
    what = f"the experiment of study `{study}` was deleted in MLflow, with its runs"
    return _undeleted(what, "experiment", experiment, uri)


def _undeleted(what: str, kind: str, known: str, uri: str) -> str:
    """Return what to do about an experiment or a run that was deleted; a server's own store is known to it alone."""
    address = shlex.quote(without_secrets(uri))
    store = "STORE_OF_THE_SERVER" if uri.startswith("http") else address
    return (
        f"{what}. To restore it, run: {URI_VARIABLE}={address} mlflow {kind}s restore --{kind}-id {known}\n"
        f"To delete it for good, run: mlflow gc --backend-store-uri {store} --tracking-uri {address} "
        f"--{kind}-ids {known}"
    )


def _make_tables(uri: str) -> None:
    """Make the tables of a store in a SQLite file that has none; readers and writers work side by side in it."""
    path = sqlite_file(uri)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not _is_half_made(path):
        refuse_foreign(f"tracking store {uri}", path, OURS, "--tracking-uri")
        _write_ahead(path)
        return

    def make(address: str) -> None:
        client = MlflowClient(tracking_uri=address)
        client.search_experiments(max_results=1)
        client._tracking_client.store.engine.dispose()
        _write_ahead(sqlite_file(address) or path)

    make_whole(path, make)


def _is_half_made(path: Path) -> bool:
    """Return whether MLflow began to make its tables in a file, and never came to its end.

    It has not even the experiment then that MLflow makes in each store.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = tables_of(connection)
        if not tables:
            return path.stat().st_size == 0
        if "experiments" not in tables or not tables & {"runs", "alembic_version"}:
            return False
        if any(
            connection.execute(f"SELECT 1 FROM {table}").fetchone()
            for table in ("experiments", "runs")
            if table in tables
        ):
            return False
        made = connection.execute("SELECT version_num FROM alembic_version").fetchall() if tables >= OURS else []
    return {version for (version,) in made} <= _steps()


def _steps() -> set[str]:
    """Return the versions of tables that this MLflow goes through before it comes to its own."""
    script = ScriptDirectory.from_config(_get_alembic_config("sqlite://"))
    return {one.revision for one in script.walk_revisions()} - {script.get_current_head()}


def _write_ahead(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _loadable(model: TrainedModel) -> Tensors:
    """Return the inputs of a model by the names that it will have once it is loaded again.

    A graph of layers names an input anew as it is loaded, by its layer, and refuses data under any other name. One
    input alone needs none.
    """
    layers = [one for one in getattr(model.value, "layers", ()) if hasattr(one, "batch_shape")]
    if len(layers) != len(model.inputs):
        return model.inputs
    loaded = {layer.output.name: layer.name for layer in layers}
    named = tuple((loaded.get(name, name), dtype, shape) for name, dtype, shape in model.inputs)
    if len(named) == 1 and named[0][0] not in loaded.values():
        return (("", *named[0][1:]),)
    return named


def _schema(tensors: Tensors) -> Schema:
    return Schema([TensorSpec(np.dtype(dtype), shape, name or None) for name, dtype, shape in tensors])


def _dataset_input(data: DataNote, fingerprint: str) -> DatasetInput:
    features = _schema(((data.example, data.dtype, (-1, *data.shape[1:])),)).to_json()
    schema = json.dumps({"mlflow_tensorspec": {"features": features, "targets": None}})
    profile = {f"{data.example}s": data.shape[0] if data.shape else 0} | (
        {"classes": data.classes} if data.classes else {}
    )
    dataset = Dataset(
        name=data.name,
        digest=fingerprint[:12] or "unknown",
        source_type="code",
        source=json.dumps({"tags": {MLFLOW_SOURCE_NAME: data.source or "stn-bench"}}),
        schema=schema,
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "training")])
