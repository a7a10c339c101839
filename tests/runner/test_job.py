"""One job from its first epoch to the end of its run: what is kept, what is recorded, and what a failure leaves."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import ablation, arm, study

from stn_bench.runner import job as module
from stn_bench.runner.job import EpochEnd, Job, Start, train_job
from stn_bench.study.plan import RunSpec, make_plan
from stn_bench.study.spec import Range, Tuning
from stn_bench.subject import (
    EXAMPLES,
    DataNote,
    Lent,
    Outcome,
    Run,
    Subject,
    TrainedModel,
    find_subject,
    read_examples,
)
from stn_bench.system.errors import (
    CodeChangedError,
    ConfigError,
    DataError,
    Interrupted,
    LeaseLostError,
    MachineError,
    StoreAwayError,
    StoreError,
    SubjectError,
)
from stn_bench.system.machine import machine_name
from stn_bench.system.patience import Patience
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import Keys

TOY = find_subject("toy")


class Memory:
    """A tracking store in memory, as a job uses it."""

    def __init__(self) -> None:
        self.patience = Patience(0)
        self.status = ""
        self.searched = True
        self.tags: Mapping[str, str] = {}
        self.note = ""
        self.data: tuple[DataNote | None, str] = (None, "")
        self.epochs: list[int] = []
        self.curves: list[Mapping[str, float]] = []
        self.files: dict[str, bytes] = {}
        self.model: tuple[str, TrainedModel] | None = None
        self.record: RunRecord | None = None
        self.earlier = Path()

    def start_run(self, experiment: str, parent: str | None, name: str, tags: Mapping[str, str]) -> str:
        self.status, self.tags = "RUNNING", tags
        return "r1"

    def start_first_run(self, experiment: str, parent: str | None, name: str, tags: Mapping[str, str]) -> str:
        self.searched = False
        return self.start_run(experiment, parent, name, tags)

    def note_run(self, run_id: str, note: str) -> None:
        self.note = note

    def log_settings(self, run_id: str, settings: Any, data: DataNote | None, fingerprint: str) -> None:
        self.data = (data, fingerprint)

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float], now: int) -> None:
        self.epochs.append(epoch)
        self.curves.append(metrics)

    def log_files(self, run_id: str, folder: Path) -> None:
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def log_model(self, run_id: str, name: str, model: TrainedModel) -> None:
        self.model = (name, model)

    def finish_run(self, record: RunRecord, metrics: Mapping[str, float]) -> None:
        self.status = "FAILED" if record.outcome == "crashed" else "FINISHED"
        self.record = record

    def kill_run(self, run_id: str) -> None:
        self.status = "KILLED"

    def file(self, run_id: str, path: str) -> Path:
        return self.earlier / path


@pytest.fixture
def store() -> Memory:
    return Memory()


Fit = Callable[..., RunRecord]
"""Trains a job; what is named overrides the job, the training or the settings."""


@pytest.fixture
def fit(tmp_path: Path, store: Memory, monkeypatch: pytest.MonkeyPatch) -> Fit:
    def run(
        train: Callable[[Any, int, Run], Any] | None = None,
        *,
        phase: str = "verdict",
        start: Start | None = None,
        settings: Mapping[str, Any] = {},
        **rest: Any,
    ) -> RunRecord:
        subject = dataclasses.replace(TOY, train=train) if train else TOY
        monkeypatch.setattr(module, "find_subject", lambda name: subject)
        return train_job(job_of(tmp_path, subject, phase, start, settings), store, **rest)  # type: ignore[arg-type]

    return run


def job_of(
    root: Path,
    subject: Subject = TOY,
    phase: str = "verdict",
    start: Start | None = None,
    settings: Mapping[str, Any] = {},
) -> Job:
    workspace, spec = Workspace.at(root), spec_of(phase, settings)
    assert TOY.prepare
    TOY.prepare([TOY.read(spec.settings)], Lent(workspace.datasets))
    identity = Keys(TOY, workspace.datasets).identity(spec)
    assert identity
    return Job.of(subject, spec, identity, workspace, experiment="e", parent="p", threads=1, start=start)


def spec_of(phase: str, settings: Mapping[str, Any]) -> RunSpec:
    search = Tuning(trials=1, seed=1000, search={"rate": Range(low=0.01, high=0.1)})
    base = {"timeout": 60.0, **settings}
    asked = study(subject="toy", base=base, tuning=search if phase == "tune" else Tuning())
    (first, *_) = make_plan(asked, (ablation(arm("deep", {"depth": 4})),), TOY).arms
    return first.tuning_specs()[0] if phase == "tune" else first.verdict_specs({})[0]


def own_folder(root: Path) -> Path:
    """Return the folder of this process's try."""
    return job_of(root).checkpoints / f"{machine_name()}-{os.getpid()}"


# What is kept ----------------------------------------------------------------------------------------------------


def test_a_job_is_plain_data_with_what_a_worker_must_know(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    assert (job.subject, job.epochs, job.limit, job.is_trial) == ("toy", 3, 60.0, False)
    assert (job.name, job.slug) == ("base, seed 1", "base_seed_1")
    assert job.checkpoints == tmp_path / "mlruns/checkpoints" / job.identity.run_key
    assert job.keys == (job.identity.run_key,)


def test_a_finished_run_has_a_record_of_all_that_the_training_told(fit: Fit, store: Memory, tmp_path: Path) -> None:
    told: list[EpochEnd] = []
    record = fit(on_epoch=told.append)
    assert store.status == "FINISHED"
    assert store.record == record
    assert (record.subject, record.outcome, record.seed) == ("toy", "finished", 1)
    assert store.epochs == [1, 2, 3]
    assert [(one.epoch, one.epochs) for one in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[0].seconds <= told[2].seconds
    assert [one.metrics["validation.score"] for one in told] == list(record.history["validation.score"])
    assert record.metrics["test.score"] in {count / 40 for count in range(41)}
    assert [layer.flops for layer in record.layers] == [4, 4]
    assert (record.metrics["cost.parameters"], record.metrics["cost.flops"]) == (2.0, 8.0)
    assert {"cost.seconds", "cost.cpu_seconds", "cost.peak_memory_mb"} <= record.metrics.keys()
    assert store.data[0] == DataNote("toy-40", "40 difficulties from 0 to 1", (40,), "float64", source="stn-bench run")
    assert store.data[1] == record.identity.dataset
    assert store.tags["run_key"] == record.run_key
    assert not (tmp_path / "mlruns/checkpoints" / record.run_key).exists()


def test_a_finished_run_keeps_its_files_and_its_examples(fit: Fit, store: Memory, tmp_path: Path) -> None:
    record = fit()
    assert set(store.files) == {"model.json", "skill.npz", EXAMPLES}
    (tmp_path / EXAMPLES).write_bytes(store.files[EXAMPLES])
    found = read_examples("test.loss", lambda name: tmp_path / name)
    assert found is not None
    assert float(np.mean(found)) == pytest.approx(record.metrics["test.loss"])


def test_of_a_trial_numbers_alone_are_kept(fit: Fit, store: Memory) -> None:
    model = TrainedModel("sklearn", object(), (), ())

    def train(settings: Any, seed: int, run: Run) -> Outcome:
        assert run.is_trial
        return dataclasses.replace(TOY.train(settings, seed, run), model=model)  # type: ignore[type-var]

    record = fit(train, phase="tune")
    assert (record.trial, store.status) == (0, "FINISHED")
    assert (store.files, store.model) == ({}, None)
    of_test = {name for name in fit().metrics if name.startswith("test.")}
    assert of_test
    assert record.metrics.keys() == fit().metrics.keys() - of_test


def test_a_trial_tells_no_test_metric_of_its_epochs(fit: Fit, store: Memory) -> None:
    def train(settings: Any, seed: int, run: Run) -> Outcome:
        run.log(1, {"test.error": 0.5, "validation.error": 0.25})
        return Outcome({"validation.error": 0.25}, history={"test.error": (0.5,), "validation.error": (0.25,)})

    told: list[Mapping[str, float]] = []
    record = fit(train, phase="tune", on_epoch=lambda epoch: told.append(epoch.metrics))
    assert told == store.curves == [{"validation.error": 0.25}]
    assert record.history == {"validation.error": (0.25,)}
    assert "test.error" in fit(train).history


def test_of_a_diverged_run_numbers_alone_are_kept(fit: Fit, store: Memory) -> None:
    record = fit(settings={"fate": "diverge"})
    assert (store.status, record.outcome) == ("FINISHED", "diverged")
    assert record.reason == "validation.score is not finite after epoch 1"
    assert math.isnan(record.history["validation.score"][0])
    assert store.files == {}


def test_a_model_is_logged_under_the_runs_name(fit: Fit, store: Memory) -> None:
    model = TrainedModel("sklearn", object(), (), ())
    fit(lambda settings, seed, run: Outcome({"test.loss": 1.0}, model=model))
    assert store.model == ("base_seed_1", model)


def test_a_mapping_is_the_metrics_of_a_finished_run(fit: Fit) -> None:
    def train(settings: Any, seed: int, run: Run) -> Mapping[str, float]:
        for epoch in (1, 2):
            run.log(epoch, {"train.loss": 1 / epoch})
        return {"test.loss": np.float32(0.5)}  # type: ignore[dict-item]

    record = fit(train)
    assert record.outcome == "finished"
    assert record.metrics["test.loss"] == 0.5
    assert record.history == {"train.loss": (1.0, 0.5)}


@pytest.mark.parametrize("kind", [dict, Outcome])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("metric", "outcome"), [("test.loss", "finished"), ("test.score", "diverged")])
def test_the_primary_metric_alone_must_be_finite(fit: Fit, kind: Any, value: float, metric: str, outcome: str) -> None:
    """Others may be undefined: such as the size of a thing that is not there any more."""
    told = kind({"test.score": 0.5, "test.loss": 0.5} | {metric: value})
    record = fit(lambda settings, seed, run: told)
    assert (record.outcome, record.reason) == (outcome, f"{metric} is not finite" if outcome == "diverged" else "")


def test_an_epoch_that_is_not_told_is_a_gap_in_the_history(fit: Fit) -> None:
    def train(settings: Any, seed: int, run: Run) -> Mapping[str, float]:
        for epoch in (2, 4):
            run.log(epoch, {"train.loss": 1 / epoch})
        return {"test.loss": 0.5}

    assert fit(train).history["train.loss"] == pytest.approx((math.nan, 0.5, math.nan, 0.25), nan_ok=True)


def test_costs_that_the_training_tells_are_not_measured_again(fit: Fit) -> None:
    record = fit(lambda settings, seed, run: {"test.loss": 1.0, "cost.seconds": 7.0})
    assert record.metrics["cost.seconds"] == 7.0
    assert "cost.flops" not in record.metrics


def test_what_another_program_computes_is_its_cost_too(fit: Fit) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"

    def train(settings: Any, seed: int, run: Run) -> dict[str, float]:
        subprocess.run([sys.executable, "-c", busy], check=True)
        return {"test.loss": 1.0}

    assert fit(train).metrics["cost.cpu_seconds"] >= 0.25


# Starting from another run ---------------------------------------------------------------------------------------


def test_a_run_goes_on_from_another(fit: Fit, store: Memory, tmp_path: Path) -> None:
    store.earlier = tmp_path
    (tmp_path / "model.json").write_text('{"skill": 0.125, "depth": 2}')
    record = fit(start=Start("abcdefghij", "k", "Trained on from another."))
    assert store.note.startswith("Trained on from another.\n\n**base, seed 1** of study **small**")
    assert store.tags["started_from"] == "abcdefghij"
    fresh = fit()
    assert record.history["train.loss"][0] != fresh.history["train.loss"][0]


def test_a_start_that_does_not_fit_says_nothing_of_the_arm(fit: Fit, store: Memory, tmp_path: Path) -> None:
    store.earlier = tmp_path
    (tmp_path / "model.json").write_text('{"skill": 0.125, "depth": 7}')
    with pytest.raises(ConfigError, match="`depth`: expected 7"):
        fit(start=Start("abcdefghij", "k", ""))
    assert (store.status, store.record) == ("KILLED", None)


def test_a_run_says_on_its_page_what_it_is(fit: Fit, store: Memory) -> None:
    record = fit()
    for part in (
        f"**base, seed {record.seed}** of study **small**",
        "seed 1",
        f"`stn-bench why {record.run_key[:12]}`",
    ):
        assert part in store.note


# Stopping --------------------------------------------------------------------------------------------------------


def test_a_stopped_training_keeps_its_checkpoint_and_goes_on_to_the_same_numbers(
    fit: Fit, store: Memory, tmp_path: Path
) -> None:
    whole = fit()
    with pytest.raises(Interrupted, match="stopped after epoch 1"):
        fit(should_stop=lambda: True)
    assert store.status == "KILLED"
    assert [path.name for path in own_folder(tmp_path).iterdir()] == ["state.json"]
    store.epochs.clear()
    rest = fit()
    assert store.epochs == [1, 2, 3]  # those behind it are told again
    assert rest.history == whole.history
    same = [name for name in whole.metrics if not name.startswith("cost.")]
    assert [rest.metrics[name] for name in same] == [whole.metrics[name] for name in same]
    assert not own_folder(tmp_path).exists()


def test_whoever_is_stopped_while_the_store_is_away_is_stopped_all_the_same(
    fit: Fit, store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told as anything else, it would count as the death of a worker."""

    def away(run_id: str) -> None:
        raise StoreAwayError("away")

    monkeypatch.setattr(store, "kill_run", away)
    with pytest.raises(Interrupted, match="stopped after epoch 1"):
        fit(should_stop=lambda: True)


def test_nothing_stops_a_training_behind_its_last_epoch(fit: Fit) -> None:
    assert fit(settings={"epochs": 1}, should_stop=lambda: True).outcome == "finished"


def test_a_training_that_stops_before_its_first_checkpoint_leaves_no_folder(fit: Fit, tmp_path: Path) -> None:
    def train(settings: Any, seed: int, run: Run) -> Any:
        run.log(1, {})

    with pytest.raises(Interrupted):
        fit(train, should_stop=lambda: True)
    assert not own_folder(tmp_path).parent.exists()


def try_folder(root: Path, name: str, content: str, seconds_ago: float) -> Path:
    """Leave a file as an earlier try leaves it, in the try's own folder."""
    path = job_of(root).checkpoints / name / "note.txt"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    then = path.stat().st_mtime - seconds_ago
    os.utime(path, (then, then))
    return path.parent


def test_the_latest_tries_checkpoint_is_taken_over_by_renaming_its_folder(fit: Fit, tmp_path: Path) -> None:
    older, latest = try_folder(tmp_path, "vm-1", "older", 100), try_folder(tmp_path, "vm-2", "latest", 10)
    (job_of(tmp_path).checkpoints / "vm-3").mkdir()  # was stopped before it wrote anything
    seen: list[str] = []

    def train(settings: Any, seed: int, run: Run) -> Any:
        assert run.folder == own_folder(tmp_path)
        seen.append((run.folder / "note.txt").read_text())
        assert not latest.exists()
        assert older.exists()
        return {"test.loss": 1.0}

    fit(train)
    assert seen == ["latest"]
    assert not older.parent.exists()


def test_a_try_of_the_same_process_goes_on_with_its_own(fit: Fit, tmp_path: Path) -> None:
    try_folder(tmp_path, "vm-1", "older", 100)
    try_folder(tmp_path, own_folder(tmp_path).name, "own", 10)
    seen: list[str] = []

    def train(settings: Any, seed: int, run: Run) -> Any:
        seen.append((run.folder / "note.txt").read_text())
        return {"test.loss": 1.0}

    fit(train)
    assert seen == ["own"]


# Failing ---------------------------------------------------------------------------------------------------------


def test_what_the_training_raises_is_recorded_as_a_crash(fit: Fit, store: Memory, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="cannot be trained"):
        fit(settings={"fate": "raise"})
    assert store.status == "FAILED"
    assert store.record is not None
    assert store.record.reason == "RuntimeError: this toy cannot be trained"
    assert not job_of(tmp_path).checkpoints.exists()


def test_a_crash_leaves_the_checkpoint(fit: Fit, tmp_path: Path) -> None:
    def train(settings: Any, seed: int, run: Run) -> Any:
        (run.folder / "note.txt").write_text("half-way")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        fit(train)
    assert (own_folder(tmp_path) / "note.txt").exists()


def test_a_training_that_returns_nothing_ends_the_study_and_says_what_is_wanted(fit: Fit, store: Memory) -> None:
    with pytest.raises(SubjectError, match="must return an Outcome, or metrics by name; got NoneType"):
        fit(lambda settings, seed, run: None)
    assert (store.status, store.record) == ("KILLED", None)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("high", "str 'high'"),
        (None, "NoneType None"),
        (True, "bool True"),
        (np.bool_(True), "bool"),
        (np.ones(2), "ndarray array"),
        (np.ones(1), "ndarray array"),
        ([0.5], r"list \[0.5\]"),
    ],
)
def test_a_metric_that_is_no_number_ends_the_study_and_is_told(
    fit: Fit, store: Memory, value: object, told: str
) -> None:
    with pytest.raises(SubjectError, match=f"must return numbers by name; got {told}.* for metric 'test.loss'"):
        fit(lambda settings, seed, run: {"test.loss": value})
    assert (store.status, store.record) == ("KILLED", None)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int64(1), np.array(1.0)])
def test_every_kind_of_number_is_a_metric(fit: Fit, value: object) -> None:
    assert fit(lambda settings, seed, run: {"test.loss": value}).metrics["test.loss"] == 1.0


@pytest.mark.parametrize("error", [MachineError("no such library"), StoreError("the store is gone")])
def test_what_no_arm_can_help_kills_the_run_and_records_nothing(fit: Fit, store: Memory, error: Exception) -> None:
    def train(settings: Any, seed: int, run: Run) -> Any:
        raise error

    with pytest.raises(type(error)):
        fit(train)
    assert (store.status, store.record) == ("KILLED", None)


def test_a_full_disk_is_told_as_one_line_and_records_nothing(fit: Fit, store: Memory) -> None:
    def train(settings: Any, seed: int, run: Run) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device", "state.json")

    with pytest.raises(MachineError, match=r"the disk is full \(state\.json\)"):
        fit(train)
    assert (store.status, store.record) == ("KILLED", None)


# A lease that is lost --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lost() -> Iterator[None]:
    raise LeaseLostError
    yield


def stop_lost() -> bool:
    raise LeaseLostError


def test_a_lease_lost_while_training_leaves_nothing_of_this_try(fit: Fit, store: Memory, tmp_path: Path) -> None:
    with pytest.raises(LeaseLostError):
        fit(should_stop=stop_lost)
    assert (store.status, store.record) == ("KILLED", None)
    assert not own_folder(tmp_path).exists()


def test_a_lease_lost_at_the_very_end_writes_no_result(fit: Fit, store: Memory, tmp_path: Path) -> None:
    with pytest.raises(LeaseLostError):
        fit(ending=lost)
    assert (store.status, store.record) == ("KILLED", None)
    assert not own_folder(tmp_path).exists()


def test_an_error_after_the_lease_was_lost_is_no_crash_of_the_arm(fit: Fit, store: Memory, tmp_path: Path) -> None:
    """Such as a checkpoint that cannot be written, since another try has taken the folder over."""
    other = job_of(tmp_path).checkpoints / "vm-2"

    def train(settings: Any, seed: int, run: Run) -> Any:
        (run.folder / "note.txt").write_text("half-way")
        run.folder.rename(other)
        (run.folder / "note.txt").write_text("too late")

    with pytest.raises(LeaseLostError) as raised:
        fit(train, ending=lost)
    assert isinstance(raised.value.__cause__, FileNotFoundError)
    assert (store.status, store.record) == ("KILLED", None)
    assert (other / "note.txt").read_text() == "half-way"


def test_data_that_change_while_it_trains_are_no_run_of_its_key(fit: Fit, store: Memory, tmp_path: Path) -> None:
    def train(settings: Any, seed: int, run: Run) -> Mapping[str, float]:
        for file in run.data.rglob("*"):
            if file.is_file():
                file.write_bytes(b"others")
        return {"test.loss": 1.0}

    with pytest.raises(DataError, match="its data changed after it was planned; run again"):
        fit(train)
    assert (store.status, store.record) == ("KILLED", None)


@pytest.mark.parametrize("raises", [False, True])
def test_code_that_changes_while_it_trains_makes_no_run_of_its_key(fit: Fit, store: Memory, raises: bool) -> None:
    """Nor a crash: training may import late what does not fit any more."""
    changed = list[str]()

    def train(settings: Any, seed: int, run: Run) -> Mapping[str, float]:
        changed.append("m.py")
        if raises:
            raise ImportError("cannot import name")
        return {"test.loss": 1.0}

    def check() -> None:
        if changed:
            raise CodeChangedError("`m.py` changed")

    with pytest.raises(CodeChangedError, match="changed"):
        fit(train, check_code=check)
    assert (store.status, store.record) == ("KILLED", None)


def test_code_that_has_changed_is_not_even_imported(fit: Fit, store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        raise CodeChangedError("`m.py` changed")

    with pytest.raises(CodeChangedError):
        fit(check_code=check)
    assert store.status == ""


@pytest.mark.parametrize("code", [0, 1, None, "usage: …"])
def test_a_training_that_ends_the_process_is_a_crash_like_any_other(fit: Fit, store: Memory, code: Any) -> None:
    def train(settings: Any, seed: int, run: Run) -> Mapping[str, float]:
        raise SystemExit(code)

    with pytest.raises(RuntimeError, match="called sys"):
        fit(train)
    assert store.record is not None
    assert store.record.reason == f"RuntimeError: training called sys.exit({code!r})"
    assert store.status == "FAILED"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (asyncio.CancelledError("deadline of the simulator"), "CancelledError: deadline of the simulator"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (BaseException("panicked at lib.rs"), "BaseException: panicked at lib.rs"),
    ],
)
def test_what_is_no_exception_is_a_crash_that_names_it(
    fit: Fit, store: Memory, monkeypatch: pytest.MonkeyPatch, error: BaseException, told: str
) -> None:
    def train(settings: Any, seed: int, run: Run) -> Any:
        raise error

    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a worker
    try:
        with pytest.raises(RuntimeError, match="training raised") as raised:
            fit(train)
    finally:
        signal.signal(signal.SIGINT, heard)
    assert raised.value.__cause__ is error
    assert store.record is not None
    assert (store.status, store.record.reason) == ("FAILED", f"RuntimeError: training raised {told}")


def test_a_ctrl_c_that_python_raises_stops_and_records_nothing(fit: Fit, store: Memory) -> None:
    def train(settings: Any, seed: int, run: Run) -> Any:
        raise KeyboardInterrupt

    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(train)
    finally:
        signal.signal(signal.SIGINT, heard)
    assert (store.status, store.record) == ("KILLED", None)


class Mute(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise TypeError("no text")


@pytest.mark.parametrize(("error", "told"), [(ValueError("\n"), "ValueError"), (Mute(), "Mute")])
def test_a_crash_without_text_is_told_by_its_type(fit: Fit, store: Memory, error: Exception, told: str) -> None:
    def train(settings: Any, seed: int, run: Run) -> Any:
        raise error

    with pytest.raises(type(error)):
        fit(train)
    assert store.record is not None
    assert store.record.reason == told


def test_a_training_that_removes_the_folder_of_its_files_is_told_so(fit: Fit, store: Memory) -> None:
    def train(settings: Any, seed: int, run: Run) -> Any:
        shutil.rmtree(run.files)
        return {"test.loss": 1.0}

    with pytest.raises(RuntimeError, match=r"training removed `run\.files`"):
        fit(train)
    assert store.status == "FAILED"


@pytest.mark.parametrize("told", [("first", {"a": 1.0}), (1, {"a": "high"}), (1, {"a=b": 1.0}), (1, 3)])
def test_an_epoch_is_told_in_numbers_by_name(fit: Fit, store: Memory, told: Any) -> None:
    with pytest.raises(SubjectError):
        fit(lambda settings, seed, run: run.log(*told))
    assert store.status == "KILLED"
    assert store.epochs == []


@pytest.mark.parametrize(
    ("is_first", "has_folder", "searched"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_a_first_try_searches_for_no_earlier_one(
    fit: Fit, store: Memory, tmp_path: Path, is_first: bool, has_folder: bool, searched: bool
) -> None:
    """Where a folder of an earlier try is left, the queue was made anew and does not know."""
    if has_folder:
        own_folder(tmp_path).mkdir(parents=True)
    fit(is_first=is_first)
    assert (store.status, store.searched) == ("FINISHED", searched)
