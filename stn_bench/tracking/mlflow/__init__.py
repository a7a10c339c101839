"""The door to MLflow: every run is written here and read from here, and nowhere else.

Experiment = study, parent run = arm, child run = one seed or one trial. Each finished child carries `record.json`,
the whole of what a report sees; its parameters, metrics and tags say the same to the MLflow UI.
"""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # DO_NOT_TRACK=1 is not honoured
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for every run on a server

from mlflow.entities import (
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME

from stn_bench.subject import DataNote, TrainedModel
from stn_bench.system.errors import StoreAwayError
from stn_bench.tracking.ended import (
    KIND,
    ORIGINAL,
    files_tag,
)
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.mlflow.entities import (
    dataset_input,
    metrics_of,
    milliseconds,
    parameter,
    signature_of,
    spread,
)
from stn_bench.tracking.mlflow.fluent import active
from stn_bench.tracking.mlflow.runs import TrackedRuns, patient
from stn_bench.tracking.record import RECORD, RunRecord
from stn_bench.tracking.store import ImportedRun

BATCH = 100  # MLflow takes 100 params or tags at a time
METRICS_BATCH = 900  # and 1000 of all kinds
TAG_LENGTH = 5000
EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI's view for training, not for agents

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a traceback of what it raises besides
logging.getLogger("alembic").setLevel(logging.ERROR)


class Tracking(TrackedRuns):
    """MLflow's store, and the runs in it, to be written too; it is opened, and waits, as `TrackedRuns` does."""

    def __init__(self, uri: str, artifacts: Path, lock: Path, kept: KeptRecords | None = None) -> None:
        super().__init__(uri, artifacts, lock, kept)
        self._files: dict[str, set[str]] = {}  # of runs that this process trains: what they have kept
        self._homes: dict[str, str] = {}  # of runs that this process has begun: where their artifacts lie

    @patient
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

    @patient
    def open_arm(self, experiment: str, name: str, tags: Mapping[str, str], note: str) -> str:
        """Return the parent run of an arm, made if it is missing."""
        with self._lock, self._reachable():
            found = self._search([experiment], {KIND: "arm", "ablation": tags["ablation"], "arm": tags["arm"]})
            if found:
                if found[0].info.status == "KILLED":  # whoever stopped goes on
                    self._client.update_run(found[0].info.run_id, status="RUNNING")
                return str(found[0].info.run_id)
            return self._create(experiment, name, {**tags, KIND: "arm", MLFLOW_RUN_NOTE: note})

    @patient
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

    @patient
    def note_run(self, run_id: str, note: str) -> None:
        """Write Markdown to the page of a run."""
        with self._reachable():
            self._client.set_tag(run_id, MLFLOW_RUN_NOTE, note[:TAG_LENGTH])

    @patient
    def log_settings(
        self, run_id: str, settings: Mapping[str, Any], data: DataNote | None = None, fingerprint: str = ""
    ) -> None:
        """Write a run's parameters and, where they are known, the data that it reads."""
        params = [Param(path, parameter(value)) for path, value in settings.items()]
        with self._reachable():
            for start in range(0, len(params), BATCH):
                self._client.log_batch(run_id, params=params[start : start + BATCH])
        if data is None:
            return
        given = [dataset_input(data, fingerprint)]
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
            self._client.log_batch(run_id, metrics_of(metrics, epoch, now))

    @patient
    def log_files(self, run_id: str, folder: Path, path: str | None = None) -> None:
        """Keep a folder's files as artifacts of a run, under `path`."""
        with self._reachable():
            self._client.log_artifacts(run_id, str(folder), path)
        below = Path(path or "")
        files = {(below / file.relative_to(folder)).as_posix() for file in folder.rglob("*") if file.is_file()}
        self._files.setdefault(run_id, set()).update(files)

    @patient
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
        with self._reachable(), active(run_id):
            flavour.log_model(
                model.value,
                name=name,
                signature=signature_of(model),
                pip_requirements=list(model.requirements) or None,
                **model.options,
            )

    def finish_run(self, record: RunRecord, metrics: Mapping[str, float]) -> None:
        """Write final metrics and tags, and close the run: the moment from which it counts as done.

        It waits for no store that is away: whoever closes a run must know that it still is his, each time.
        """
        with self._reachable():
            self._finish(record.run_id, record, metrics_of(metrics, now=milliseconds(record.ended)))
        self._stored.keep(record, self._homes.pop(record.run_id, ""))

    def _finish(self, run_id: str, record: RunRecord, metrics: list[Metric], ended: int | None = None) -> None:
        tags = [RunTag("outcome", record.outcome)]
        tags += [RunTag("reason", record.reason[:TAG_LENGTH])] if record.reason else []
        if record.outcome != "crashed":  # who writes that one has not seen what the training kept
            files = files_tag(self._files.get(run_id, set()) | {RECORD}, TAG_LENGTH)
            tags += [RunTag(name, told) for name, told in files.items()]
        self._client.log_batch(run_id, metrics, tags=tags)
        self._client.log_dict(run_id, record.tree, RECORD)
        status = "FAILED" if record.outcome == "crashed" else "FINISHED"
        self._client.set_terminated(run_id, status=status, end_time=ended)
        self._files.pop(run_id, None)

    def import_run(self, experiment: str, parent: str, run: ImportedRun) -> None:
        """Write a run that another store trained, under an id of this one; the id that it had there finds it too."""
        started, ended = milliseconds(run.record.started), milliseconds(run.record.ended)
        with self._reachable():
            tags = {**run.tags, ORIGINAL: run.record.run_id, MLFLOW_RUN_NOTE: run.note[:TAG_LENGTH]}
            run_id = self.start_run(experiment, parent, run.name, tags, started)
            try:
                self.log_settings(run_id, run.record.settings, run.data, run.record.identity.dataset)
                self._log_contents(run_id, run.files)
                metrics = spread(run.record.history, started, ended) + metrics_of(run.record.metrics, now=ended)
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

    @patient
    def kill_run(self, run_id: str) -> None:
        """Close a run that was stopped before its end; one that has ended by itself after all stays as it is."""
        with self._reachable():
            if self._client.get_run(run_id).info.status == "RUNNING":
                self._client.set_terminated(run_id, status="KILLED")

    @patient
    def kill_open(self, experiment: str, /, **tags: str) -> None:
        """Close as KILLED the open runs of a study that have these tags: a job's, or with `kind="arm"` its arms."""
        with self._reachable():
            for dead in self._search([experiment], tags, "attributes.status = 'RUNNING'"):
                self._client.set_terminated(dead.info.run_id, status="KILLED")

    @patient
    def describe(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Write an arm's or a study's aggregates and close its run; a tag that is "" is taken away."""
        with self._reachable():
            for name in self._client.get_run(run_id).data.tags.keys() & {name for name in tags if not tags[name]}:
                self._client.delete_tag(run_id, name)
            aggregates = [RunTag(name, value[:TAG_LENGTH]) for name, value in tags.items() if value]
            self._client.log_batch(run_id, metrics_of(metrics), tags=aggregates)
            self._client.set_terminated(run_id, status="FINISHED")

    @patient
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
