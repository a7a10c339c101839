"""A job, settings and a seed, from its first epoch to its finished MLflow run: where training meets tracking."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stn_bench.isolation import isolated, watch_imports
from stn_bench.runner.epochs import EpochEnd, Epochs
from stn_bench.runner.returned import check_metric, read_outcome
from stn_bench.study.metrics import without_tests
from stn_bench.study.plan import RunSpec
from stn_bench.subject import CLASSES, EXAMPLES, Cost, Outcome, Subject, find_subject
from stn_bench.system.conditions import read_conditions
from stn_bench.system.errors import (
    NOBODYS_FAULT,
    CodeChangedError,
    ConfigError,
    DataError,
    LeaseLostError,
    StnBenchError,
    StoreAwayError,
)
from stn_bench.system.machine import PeakMemory, cpu_seconds, describe_machine, disk_full, machine_name, now
from stn_bench.system.own_code import as_exception, told
from stn_bench.tracking.identity import Identity
from stn_bench.tracking.record import RunOutcome, RunRecord, run_name, run_note, run_tags

if TYPE_CHECKING:
    from stn_bench.system.workspace import Workspace
    from stn_bench.tracking.store import RunWriter


@dataclass(frozen=True)
class Start:
    """The finished run that a training goes on from.

    Args:
        run_id: MLflow's id of it.
        run_key: its identity.
        note: Markdown that says so on the page of the new run.
    """

    run_id: str
    run_key: str
    note: str


@dataclass(frozen=True)
class Job:
    """All that it takes to train one run: plain data, known before anything heavy is loaded.

    Args:
        subject: name of the subject.
        spec: what to train.
        identity: its identity.
        experiment: MLflow's id of the study.
        parent: MLflow's id of the arm, or None outside a study.
        checkpoints: folder of the unfinished training, with one folder of each try.
        data: folder that the subject prepared its data in.
        threads: threads of the training process, for the record.
        start: the run that this one goes on from, or None to begin afresh.
        limit: seconds after which it is given up, or None.
        epochs: how many epochs it has, or None where the settings do not tell.
        former: run keys that older versions knew it by.
        metric: the metric that the study asks for, or "" outside a study.
        note: Markdown that says on the page of its run what it is.
    """

    subject: str
    spec: RunSpec
    identity: Identity
    experiment: str
    parent: str | None
    checkpoints: Path
    data: Path
    threads: int
    start: Start | None = None
    limit: float | None = None
    epochs: int | None = None
    former: tuple[str, ...] = ()
    metric: str = ""
    note: str = ""

    @classmethod
    def of(
        cls,
        subject: Subject,
        spec: RunSpec,
        identity: Identity,
        workspace: Workspace,
        *,
        experiment: str,
        parent: str | None,
        threads: int,
        start: Start | None = None,
        former: tuple[str, ...] = (),
        metric: str = "",
        question: str = "",
    ) -> Job:
        """Return the job of a planned run in a workspace; `question` is what its arm is to answer."""
        note = run_note(spec, identity.run_key, question, has_arm=parent is not None)
        return cls(
            subject=subject.name,
            spec=spec,
            identity=identity,
            experiment=experiment,
            parent=parent,
            checkpoints=workspace.checkpoints / identity.run_key,
            data=workspace.datasets,
            threads=threads,
            start=start,
            limit=spec.settings.get(subject.timeout),
            epochs=subject.num_epochs(spec.settings),
            former=former,
            metric=metric,
            note="\n\n".join([*([start.note] if start else []), note]),
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """Every run key that a finished run of the job may have, today's first."""
        return (self.identity.run_key, *self.former)

    @property
    def is_trial(self) -> bool:
        """Whether it is a tuning trial, which keeps only numbers."""
        return self.spec.phase == "tune"

    @property
    def name(self) -> str:
        """Name of the run, such as "transformer/none, seed 2"."""
        return run_name(self.spec) + (f", from {self.start.run_id[:8]}" if self.start else "")

    @property
    def slug(self) -> str:
        """The same name as a file may have it, such as "transformer_none_seed_2"."""
        return re.sub(r"[^a-z0-9]+", "_", self.name)

    @property
    def tags(self) -> dict[str, str]:
        """The flat tags by which its run is found."""
        tags = run_tags(self.spec, self.identity, find_subject(self.subject).settings)
        return tags | ({"started_from": self.start.run_id} if self.start else {})

    def record(self, run_id: str, started: str, outcome: RunOutcome, reason: str, split: str = "") -> RunRecord:
        """Return the record of the job's run, ended now, without what a training adds: metrics, history, layers."""
        spec = self.spec
        return RunRecord(
            run_id=run_id,
            run_key=self.identity.run_key,
            subject=self.subject,
            study=spec.study,
            ablation=spec.ablation,
            arm=spec.arm,
            phase=spec.phase,
            seed=spec.seed,
            trial=spec.trial,
            outcome=outcome,
            reason=reason,
            settings=dict(spec.settings),
            changes=dict(spec.changes),
            chosen=dict(spec.chosen),
            metrics={},
            history={},
            layers=(),
            uncounted=(),
            identity=self.identity,
            machine={**describe_machine(self.threads), "conditions": read_conditions(self.threads)},
            started=started,
            ended=now(),
            split=split,
        )


@dataclass(frozen=True)
class LentRun:
    """What the harness lends to a training; `stn_bench.subject.Run` explains each part.

    Args:
        key: identity of the run.
        data: folder of the data.
        folder: folder for checkpoints.
        files: folder of what is kept with the run.
        tell: called with each finished epoch and its metrics.
        start: the file to go on from, or None.
        is_trial: whether this is a tuning trial.
    """

    key: str
    data: Path
    folder: Path
    files: Path
    tell: Callable[[int, Mapping[str, float]], None] = lambda epoch, metrics: None
    start: Path | None = None
    is_trial: bool = False

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell of a finished epoch."""
        self.tell(epoch, metrics)


def train_job(
    job: Job,
    tracking: RunWriter,
    *,
    on_epoch: Callable[[EpochEnd], None] = lambda epoch: None,
    should_stop: Callable[[], bool] = lambda: False,
    ending: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    on_residue: Callable[[Sequence[str]], None] = lambda residue: None,
    is_first: bool = False,
    check_code: Callable[[], None] = lambda: None,
) -> RunRecord:
    """Train a job, or go on from its checkpoint, and return the record that its MLflow run carries.

    A subject that is not shipped must be importable: `Workspace.find_code` makes it so.

    Args:
        job: the job.
        tracking: where its run goes.
        on_epoch: called with each finished epoch.
        should_stop: asked after each epoch; what it raises ends the training.
        ending: entered to close the run; what it raises, since another worker has the job, leaves the run KILLED.
        on_residue: called if the training left a global state that cannot be put back, with what that is: this
            process should train nothing more.
        is_first: whether no earlier try of the job is known, of which a run might be open.
        check_code: raises CodeChangedError if the user's own code is no more what the job was planned with; called
            before it is imported, afterwards, and once the training has ended.

    Raises:
        CodeChangedError: if the code changed until the training has ended; the run is closed as KILLED.
        ConfigError: if it cannot go on from the run that it should; nothing is recorded of it.
        Interrupted: if it was asked to stop; the MLflow run is closed as KILLED, the checkpoint stays.
        LeaseLostError: if another worker has the job by now; the MLflow run is closed as KILLED.
        DataError: if the data cannot be used, or changed while it trained; the run is closed as KILLED.
        MachineError: if the disk is full; the MLflow run is closed as KILLED, since that says nothing of the arm.
        StoreError: if the store cannot be written; the next try closes the run.
        SubjectError: if the training returned no numbers, or not the study's metric; the run is closed as KILLED.
        Exception: whatever the training raised; the MLflow run is closed as FAILED with a record that says so.
    """
    watch_imports()
    check_code()
    subject, started = find_subject(job.subject), now()
    settings = subject.read(job.spec.settings, where=job.name)
    start = tracking.file(job.start.run_id, subject.start) if job.start else None
    is_first = is_first and not job.checkpoints.exists()  # the queue may have been made anew
    start_run = tracking.start_first_run if is_first else tracking.start_run
    run_id = start_run(job.experiment, job.parent, job.name, job.tags)
    own = job.checkpoints / f"{machine_name()}-{os.getpid()}"
    epochs = Epochs(job, tracking, run_id, on_epoch, should_stop)
    try:
        if job.note:
            tracking.note_run(run_id, job.note)
        check_code()
        _check_data(job, subject, settings)
        note = subject.describe(job.spec.settings) if subject.describe else None
        tracking.log_settings(run_id, job.spec.settings, note, job.identity.dataset)
        _take_over(job.checkpoints, own)
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder)
            run = LentRun(job.identity.run_key, job.data, own, files, epochs.log, start, job.is_trial)
            split = subject.split(settings, job.data) if subject.split else ""
            with isolated(job.spec.seed, on_residue) as isolation:
                if subject.vet:
                    subject.vet(settings)
                outcome = _measured(subject, settings, job, run, epochs.history)
            check_code()
            check_metric(job.subject, job.spec.study, job.metric, outcome)
            _check_data(job, subject, settings)
            _keep(job, tracking, run_id, outcome, files)
        record = _record(job, run_id, started, outcome, isolation.facts, split)
        epochs.send_all()
        _finish(record, tracking, ending)
    except BaseException as error:
        raised = _blamed(as_exception(error), check_code)
        _close(job, tracking, run_id, raised, ending, started, own)
        if raised is error:
            raise
        raise raised from error
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    return record


# During the training -------------------------------------------------------------------------------------------------


def _take_over(folder: Path, own: Path) -> None:
    """Give this try a folder of its own for checkpoints, with what the latest try left in it.

    A worker that was given up and wakes again overwrites nobody's: the folder that it knows is not there any more.
    """
    left: dict[Path, float] = {}
    for path in folder.glob("*/**/*"):
        with contextlib.suppress(FileNotFoundError):  # a late worker may be at work there
            one_try = folder / path.relative_to(folder).parts[0]
            left[one_try] = max(left.get(one_try, 0.0), path.stat().st_mtime)
    latest = max(left, key=lambda one_try: left[one_try], default=own)
    if latest != own:
        shutil.rmtree(own, ignore_errors=True)
        latest.replace(own)
    own.mkdir(parents=True, exist_ok=True)


def _measured(subject: Subject, settings: Any, job: Job, run: LentRun, logged: Mapping[str, list[float]]) -> Outcome:
    """Train, and return the outcome with time and memory where the training does not tell them itself."""
    began, cpu_began, memory = time.perf_counter(), cpu_seconds(), PeakMemory()
    process = os.getpid()
    try:
        returned = subject.train(settings, job.spec.seed, run)
    finally:
        if os.getpid() != process:
            _end_fork()
    measured = {
        "cost.seconds": time.perf_counter() - began,
        "cost.cpu_seconds": cpu_seconds() - cpu_began,
        "cost.peak_memory_mb": memory.read(),
    }
    return read_outcome(subject, returned, measured, logged, job.metric)


def _end_fork() -> None:
    """End a process that training forked, and that comes back from there: all that follows is its parent's to do."""
    error = sys.exc_info()[1]
    code = error.code if isinstance(error, SystemExit) else int(error is not None)
    try:
        if error and not isinstance(error, SystemExit):
            traceback.print_exc()  # for the log
        sys.stdout.flush()
    finally:
        os._exit(code if isinstance(code, int) else int(code is not None))


def _check_data(job: Job, subject: Subject, settings: Any) -> None:
    """Check, before and after it, that a training sees the data that its run key names: they may change meanwhile."""
    if subject.fingerprint and subject.fingerprint(settings, job.data) != job.identity.dataset:
        raise DataError(f"subject `{job.subject}`: its data changed after it was planned; run again to train on them")


# At its end ----------------------------------------------------------------------------------------------------------


def _keep(job: Job, tracking: RunWriter, run_id: str, outcome: Outcome, files: Path) -> None:
    """Keep beside the numbers what a finished training left: its model and its files. Trials keep none."""
    if job.is_trial or outcome.status != "finished":
        return
    if not files.is_dir():
        raise RuntimeError("training removed `run.files`, the folder of what is kept with a run; leave it in place")
    if outcome.model is not None:
        tracking.log_model(run_id, job.slug, outcome.model)
    if outcome.examples:
        import numpy as np

        arrays: dict[str, Any] = {name: np.asarray(one) for name, one in outcome.examples.items()}
        arrays |= {} if outcome.classes is None else {CLASSES: np.asarray(outcome.classes).astype(str)}
        np.savez_compressed(files / EXAMPLES, **arrays)
    if any(files.iterdir()):
        tracking.log_files(run_id, files)


def _finish(record: RunRecord, tracking: RunWriter, ending: Callable[[], AbstractContextManager[None]]) -> None:
    """Close a run, and wait where a store is away: each time anew it is asked whether the job is this worker's."""

    def close() -> None:
        with ending():
            tracking.finish_run(record, {} if record.outcome == "crashed" else record.metrics)

    tracking.patience.insist(close)


def _record(job: Job, run_id: str, started: str, outcome: Outcome, facts: Mapping[str, str], split: str) -> RunRecord:
    cost = outcome.cost or Cost()
    record = job.record(run_id, started, outcome.status, outcome.reason, split)
    seen = without_tests if job.is_trial else dict
    trained = {
        "machine": {**record.machine, "libraries": dict(facts)} if facts else record.machine,
        "metrics": seen(outcome.metrics),
        "history": {name: tuple(map(float, series)) for name, series in seen(outcome.history).items()},
        "layers": cost.layers,
        "uncounted": cost.uncounted,
    }
    return record.model_copy(update=trained)


def _blamed(error: BaseException, check_code: Callable[[], None]) -> BaseException:
    """Return what is wrong: a crash says nothing where code has changed, such as a module that is imported late."""
    if isinstance(error, Exception) and not isinstance(error, StnBenchError):
        try:
            check_code()
        except CodeChangedError as changed:
            return changed
    return error


def _close(
    job: Job,
    tracking: RunWriter,
    run_id: str,
    error: BaseException,
    ending: Callable[[], AbstractContextManager[None]],
    started: str,
    own: Path,
) -> None:
    """Close the run of a job that raised: as crashed if that is the job's own doing, else as killed.

    Raises:
        LeaseLostError: if another worker has the job, which is then what the error comes from.
        MachineError: if the error means that the disk is full.
    """
    full = disk_full(error)
    if full or isinstance(error, NOBODYS_FAULT):
        with contextlib.suppress(Exception):  # the store may be what is broken; the next try closes the run
            if not isinstance(error, StoreAwayError):
                tracking.kill_run(run_id)
        if full:
            raise full from error
        return
    is_misfit = job.start is not None and isinstance(error, ConfigError)
    lost = isinstance(error, LeaseLostError)
    try:
        if is_misfit or lost or not isinstance(error, Exception):  # somebody wants to stop
            with contextlib.suppress(StoreAwayError):  # the next try closes it
                tracking.kill_run(run_id)
            return
        crashed = job.record(run_id, started, "crashed", told(error))
        _finish(crashed, tracking, ending)
    except LeaseLostError as late:
        lost = True
        tracking.kill_run(run_id)
        raise late from error
    finally:
        if lost:
            shutil.rmtree(own, ignore_errors=True)  # another worker has taken over what was in it
        for folder in (own, job.checkpoints):
            with contextlib.suppress(OSError):  # it holds a checkpoint
                folder.rmdir()
