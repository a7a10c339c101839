"""What `gc` finds and removes, and above all what it leaves: in real stores, and in worlds drawn by chance."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from commands import call
from filelock import FileLock, Timeout
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import FINGERPRINT, finish, open_store
from tiny import PLAIN, make_root, stn_bench

from stn_bench.runner.cleanup import DAY, Holdings, find_leftovers, looking, remove
from stn_bench.runner.queue.owner import owner
from stn_bench.runner.queue.rows import SEED, SEEDS, QueuedJob
from stn_bench.runner.stores import open_queue, open_tracking
from stn_bench.study.load import load_plan
from stn_bench.study.plan import Plan, RunSpec
from stn_bench.subject import Lent, find_subject
from stn_bench.system.errors import StoreError
from stn_bench.system.machine import machine_name
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.identity import identify
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import RECORD, RunRecord, run_tags
from stn_bench.tracking.results import Keys
from stn_bench.tracking.store import StoredRun

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as the queue does

STN = find_subject("stn")
NOBODY = 999_999_999  # no process has this number
FINISHED = "checkpoints of finished runs"
UNPLANNED = "checkpoints of runs that no study plans"
DEAD = "files of tries that came to nothing"
UNKNOWN = "files of runs that MLflow does not know"
PARTIAL = "half-written files of dead processes"
LOGS = "logs of dead workers"
TUNED = (
    '\n[tuning]\ntrials = 2\n[tuning.search]\n"optimizer.learning_rate" = { low = 1e-3, high = 1e-2, log = true }\n'
)


def fill(path: Path, size: int = 1000, *, days: float = 0) -> Path:
    """Write a file that was last touched so many days ago, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for one in (path, path.parent):
        os.utime(one, (time.time() - days * DAY,) * 2)
    return path


def age(path: Path, days: float = 2) -> None:
    """Make a folder and all in it, or a file, as old as that."""
    for one in (path, *path.rglob("*")):
        os.utime(one, (time.time() - days * DAY,) * 2)


def checkpoint(workspace: Workspace, run_key: str, days: float = 0) -> Path:
    """Write the checkpoint that one try left of a job, and return the job's folder."""
    folder = workspace.checkpoints / run_key
    fill(folder / f"{machine_name()}-{NOBODY}" / "checkpoint.npz", days=days)
    age(folder, days)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a root with a study and empty stores."""
    place = Workspace(make_root(tmp_path, PLAIN))
    open_store(place.stores)
    return place


def tracking(place: Workspace) -> Tracking:
    return open_tracking(place)


def planned(place: Workspace) -> Plan:
    return load_plan("tiny", place)


def specs(place: Workspace) -> list[RunSpec]:
    return [spec for arm in planned(place).arms for spec in arm.verdict_specs({})]


def key_of(spec: RunSpec) -> str:
    """Return the run key of a spec as `finish` writes it."""
    return identify(STN, spec.settings, spec.seed, FINGERPRINT).run_key


def start(place: Workspace, spec: RunSpec) -> str:
    """Leave a try of a job as a worker leaves it that is killed while it keeps its files, and return its run."""
    store = tracking(place)
    identity = identify(STN, spec.settings, spec.seed, FINGERPRINT)
    run_id = store.start_run(store.open_study(spec.study), None, "a try", run_tags(spec, identity, STN.settings))
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder, "predictions.npz"))
        store.log_files(run_id, Path(folder))
    return run_id


def lease(place: Workspace, run_key: str, by: str) -> None:
    """Leave a job leased in Optuna's store."""
    queue = open_queue(place)
    queue.enqueue("a study", "maximize", [QueuedJob(run_key, {SEED: 1}, {SEED: SEEDS})], {})
    study = optuna.load_study(study_name="a study", storage=queue._storage)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        study.ask().set_user_attr("owner", by)


def found(place: Workspace) -> dict[Path, str]:
    with looking(place, [planned(place)]) as held:
        return {one.path: one.kind for one in find_leftovers(held)}


# Checkpoints -----------------------------------------------------------------------------------------------------


def test_a_finished_runs_checkpoint_is_a_leftover_and_an_unfinished_ones_is_not(workspace: Workspace) -> None:
    done, begun = specs(workspace)[:2]
    finish(done, tracking(workspace))
    start(workspace, begun)
    left = checkpoint(workspace, key_of(done))
    checkpoint(workspace, key_of(begun))
    assert found(workspace) == {left: FINISHED}


@pytest.mark.parametrize(
    ("by", "is_kept"),
    [
        (owner(), True),
        (owner().replace(f" {os.getpid()} ", f" {NOBODY} "), False),
        (f"another-machine {NOBODY} 1.00", True),
    ],
    ids=["a living worker", "a dead worker", "a worker on another machine"],
)
def test_a_leased_job_keeps_its_checkpoint_however_old(workspace: Workspace, by: str, is_kept: bool) -> None:
    folder = checkpoint(workspace, "a" * 64, days=30)
    partial = fill(folder / f"another-machine-{NOBODY}" / f"checkpoint.{NOBODY}.partial", days=30)
    age(folder, 30)
    lease(workspace, "a" * 64, by)
    assert found(workspace) == ({} if is_kept else {folder: UNPLANNED})
    assert partial.exists()


def test_what_no_study_plans_stays_for_a_day(workspace: Workspace) -> None:
    """Such as the jobs of `run --set` and of `train`, which no study file tells of."""
    old, young = checkpoint(workspace, "a" * 64, days=1.01), checkpoint(workspace, "b" * 64, days=0.99)
    assert found(workspace) == {old: UNPLANNED}
    fill(old / "second-try" / "checkpoint.npz")
    assert found(workspace) == {}
    assert young.exists()


def test_what_a_study_without_a_file_trained_stays(workspace: Workspace) -> None:
    """It may be written in code: nothing here tells what it plans. What was trained outside of studies goes."""
    for study, is_kept in (("in_code", True), ("train", False)):
        spec = dataclasses.replace(specs(workspace)[0], study=study, seed=90 + is_kept)
        start(workspace, spec)
        left = checkpoint(workspace, key_of(spec), days=300)
        assert (left not in found(workspace)) == is_kept, study


def test_a_planned_jobs_checkpoint_stays_for_ever(workspace: Workspace) -> None:
    place = Workspace(workspace.root)
    file = workspace.root / "studies" / "tiny.toml"
    file.write_text(PLAIN + TUNED)  # nothing is tuned yet: whatever tuning may choose is planned
    plan = planned(place)
    assert STN.prepare
    STN.prepare([plan.arms[0].config.resolved()], Lent(workspace.datasets))
    trial = plan.arms[1].tuning_specs()[1]
    for spec in (trial, plan.arms[1].verdict_specs(trial.chosen)[2]):
        checkpoint(workspace, Keys(STN, workspace.datasets)(spec)[0], days=300)
    assert found(workspace) == {}
    file.write_text(PLAIN)
    assert list(found(workspace).values()) == [UNPLANNED] * 2


def test_without_its_pictures_a_planned_job_is_known_by_its_settings(workspace: Workspace) -> None:
    spec = specs(workspace)[0]
    start(workspace, spec)
    checkpoint(workspace, key_of(spec), days=300)
    stranger = checkpoint(workspace, "a" * 64, days=300)
    assert found(workspace) == {stranger: UNPLANNED}


# Artifacts -------------------------------------------------------------------------------------------------------


def test_the_files_of_a_killed_try_go_and_those_of_its_successor_stay(workspace: Workspace) -> None:
    spec = specs(workspace)[0]
    killed = start(workspace, spec)
    assert found(workspace) == {}  # it may still be alive
    finished = finish(spec, tracking(workspace)).run_id  # which closes the killed one
    assert found(workspace) == {workspace.artifacts / killed: DEAD}
    remove_all(workspace)
    assert (workspace.artifacts / finished / "artifacts" / RECORD).exists()


def test_the_files_of_a_try_that_was_never_closed_go_after_a_day(workspace: Workspace) -> None:
    folder = workspace.artifacts / start(workspace, specs(workspace)[0])
    age(folder, 0.9)
    assert found(workspace) == {}
    age(folder, 1.1)
    assert found(workspace) == {folder: DEAD}


def test_a_crashed_run_keeps_its_record(workspace: Workspace) -> None:
    finish(specs(workspace)[0], tracking(workspace), outcome="crashed")
    age(workspace.artifacts, 30)
    assert found(workspace) == {}


def test_reports_arms_and_a_strangers_runs_stay(workspace: Workspace) -> None:
    store = tracking(workspace)
    experiment = store.open_study("tiny")
    report = fill(workspace.root / "reports" / "tiny" / "report.md").parent
    store.log_report(experiment, "tiny", report, "")
    strangers = store._client.create_run(experiment)
    store._client.log_artifacts(strangers.info.run_id, str(report))
    store._client.set_terminated(strangers.info.run_id, "FAILED")
    age(workspace.artifacts, 30)
    assert found(workspace) == {}


def test_of_runs_that_mlflow_does_not_know_only_a_jobs_files_without_a_record_go(workspace: Workspace) -> None:
    """A second store may share the folder: its finished runs and its reports are unknown here."""
    folders = [workspace.artifacts / (letter * 32) for letter in "abcd"]
    for folder, names in zip(
        folders,
        [("predictions.npz",), ("predictions.npz", RECORD), ("report/report.md",), ("predictions.npz",)],
        strict=True,
    ):
        for name in names:
            fill(folder / "artifacts" / name)
    for folder in folders[:3]:
        age(folder)
    assert found(workspace) == {folders[0]: UNKNOWN}


def test_a_deleted_runs_files_are_mlflows_own_business(workspace: Workspace) -> None:
    store = tracking(workspace)
    store._client.delete_run(finish(specs(workspace)[0], store).run_id)
    age(workspace.artifacts, 30)
    assert found(workspace) == {}


def test_a_store_that_is_not_there_makes_nothing_an_orphan(tmp_path: Path) -> None:
    place = Workspace(make_root(tmp_path, PLAIN))
    fill(place.artifacts / ("a" * 32) / "artifacts" / "predictions.npz")
    age(place.artifacts, 30)
    assert found(place) == {}
    assert not list(place.stores.glob("*.db"))


def test_a_damaged_store_stops_everything(workspace: Workspace) -> None:
    folder = checkpoint(workspace, "a" * 64, days=30)
    (workspace.stores / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError):
        found(workspace)
    assert folder.exists()


# Files of dead processes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [0.5, 2])
@pytest.mark.parametrize("pid", [NOBODY, os.getpid()], ids=["dead", "living"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mlruns/datasets/captcha-9.{pid}.partial/images.npy", PARTIAL),
        ("mlruns/checkpoints/" + "a" * 64 + "/vm-1/checkpoint.{pid}.partial", PARTIAL),
        ("reports/tiny/figures/.forest.svg.{pid}.partial", PARTIAL),
        ("mlruns/logs/worker-{pid}.log", LOGS),
    ],
)
def test_a_half_written_file_goes_when_its_process_is_gone_for_a_day(
    tmp_path: Path, name: str, kind: str, pid: int, days: float
) -> None:
    place = Workspace(tmp_path)
    file = fill(tmp_path / name.format(pid=pid), days=days)
    fill(tmp_path / "mlruns/checkpoints" / ("a" * 64) / "a-try" / "checkpoint.npz")  # its job goes on
    held = Holdings(place, (), (), True, frozenset())
    expected = file if file.suffix in (".partial", ".log") else file.parent
    gone = {expected: kind} if pid == NOBODY and days > 1 else {}
    assert {one.path: one.kind for one in find_leftovers(held)} == gone


def test_a_data_set_on_its_way_out_goes_after_a_day_and_a_whole_one_stays(tmp_path: Path) -> None:
    fill(tmp_path / "mlruns/datasets/captcha-9/manifest.json", days=30)
    swapped = fill(tmp_path / "mlruns/datasets/captcha-9.old.partial/manifest.json", days=2).parent
    held = Holdings(Workspace(tmp_path), (), (), True, frozenset())
    assert [one.path for one in find_leftovers(held)] == [swapped]


# Any world -------------------------------------------------------------------------------------------------------

IDS = st.sampled_from([digit * 32 for digit in "01234567"])
KEYS = st.sampled_from([letter * 64 for letter in "abcd"])
RUNS = st.builds(
    StoredRun,
    run_id=IDS,
    run_key=KEYS | st.just(""),
    settings=st.just(""),
    phase=st.just("verdict"),
    seed=st.just("1"),
    status=st.sampled_from(["RUNNING", "FINISHED", "FAILED", "KILLED"]),
    models=st.lists(st.sampled_from(["m-1", "m-2", "m-3"]), max_size=1).map(tuple),
)
FOLDERS = st.dictionaries(IDS, st.sets(st.sampled_from([RECORD, "model.keras", "report/report.md"]), min_size=1))


@settings(max_examples=40)
@given(
    runs=st.lists(RUNS, unique_by=(lambda run: run.run_id, lambda run: run.models or run.run_id)),
    folders=FOLDERS,
    checkpoints=st.sets(KEYS),
    leased=st.sets(KEYS),
    days=st.sampled_from([0, 2]),
)
def test_no_world_makes_a_record_or_what_lies_beside_it_a_leftover(
    runs: list[StoredRun], folders: dict[str, set[str]], checkpoints: set[str], leased: set[str], days: float
) -> None:
    root = Path(tempfile.mkdtemp())
    place = Workspace(root)
    for run_id, names in folders.items():
        for name in names:
            fill(place.artifacts / run_id / "artifacts" / name)
    for model in (model for run in runs for model in run.models):
        fill(place.artifacts / "models" / model / "artifacts" / "MLmodel")
    for run_key in checkpoints:
        checkpoint(place, run_key)
    age(root, days)
    before = contents(root)
    ends = {run.run_id for run in runs if run.status == "FINISHED"}
    recorded = {run_id for run_id, names in folders.items() if RECORD in names}
    kept_models = {model for run in runs if run.run_id in ends | recorded for model in run.models}

    found = find_leftovers(Holdings(place, (), tuple(runs), True, frozenset(leased)))
    remove(found)

    after = contents(root)
    for path, content in before.items():
        owner_of = path.relative_to(place.stores).parts
        of_a_run = owner_of[0] == "artifacts" and owner_of[1] in ends | recorded
        of_its_model = owner_of[:2] == ("artifacts", "models") and owner_of[2] in kept_models
        of_a_living_job = owner_of[0] == "checkpoints" and owner_of[1] in leased
        if of_a_run or of_its_model or of_a_living_job:
            assert after.get(path) == content
    freed = sum(map(len, before.values())) - sum(map(len, after.values()))
    assert sum(one.size for one in found) == freed
    shutil.rmtree(root)


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_record_that_came_after_the_look_is_kept(tmp_path: Path) -> None:
    """The second rule, for the run that ends between the look and the removal: `train` leases no job."""
    folder = tmp_path / "mlruns/artifacts" / ("a" * 32)
    fill(folder / "artifacts" / "model.keras", days=2)
    age(folder)
    found = find_leftovers(Holdings(Workspace(tmp_path), (), (), True, frozenset()))
    assert [one.path for one in found] == [folder]
    fill(folder / "artifacts" / RECORD)
    remove(found)
    assert len(list((folder / "artifacts").iterdir())) == 2


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    precious = fill(tmp_path / "elsewhere" / "thesis.txt", days=30)
    checkpoints = tmp_path / "mlruns" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / ("a" * 64)).symlink_to(precious.parent)
    remove(find_leftovers(Holdings(Workspace(tmp_path), (), (), True, frozenset())))
    assert precious.exists()


# The command -----------------------------------------------------------------------------------------------------

Cli = Callable[..., str]


@pytest.fixture
def gc(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `stn-bench gc` on the root and return what it prints."""

    def run(*arguments: str) -> str:
        assert call("gc", "--root", workspace.root, *arguments) == 0
        return capsys.readouterr().out

    return run


def remove_all(place: Workspace) -> None:
    with looking(place, [planned(place)]) as held:
        remove(find_leftovers(held))


def test_gc_shows_first_and_removes_only_when_asked(workspace: Workspace, gc: Cli) -> None:
    spec = specs(workspace)[0]
    record = finish(spec, tracking(workspace))
    left = checkpoint(workspace, key_of(spec))
    fill(left / "second-try" / "checkpoint.npz", 500_000)
    old = checkpoint(workspace, "a" * 64, days=30)
    shown = gc()
    assert FINISHED in shown
    assert "0.5" in shown
    assert shown.rstrip().endswith("nothing was removed; add --yes to remove it")
    told = json.loads(gc("--json"))
    assert told == {
        "removed": False,
        "leftovers": [
            {"kind": FINISHED, "count": 1, "bytes": 501_000, "paths": [str(left)]},
            {"kind": UNPLANNED, "count": 1, "bytes": 1000, "paths": [str(old)]},
        ],
    }
    assert sorted(workspace.checkpoints.iterdir()) == sorted([old, left])
    assert json.loads(gc("--json", "--yes")) == {**told, "removed": True}
    assert not list(workspace.checkpoints.iterdir())
    assert tracking(workspace).records([record.run_id]) == [record]
    assert gc("--yes").strip() == "nothing to remove"


def test_the_lock_is_held_from_the_look_to_the_end(workspace: Workspace) -> None:
    lease(workspace, "a" * 64, owner())
    with looking(workspace, []), pytest.raises(Timeout):
        FileLock(workspace.lock("search"), timeout=0).acquire()


@pytest.mark.slow
def test_a_study_is_reported_byte_for_byte_and_trains_nothing_after_gc(tmp_path: Path) -> None:
    root = make_root(tmp_path, PLAIN)
    place = Workspace(root)
    assert stn_bench("run", "tiny", "--workers", 2, root=root).returncode == 0
    runs = [one for one in tracking(place).tries() if one.status == "FINISHED" and one.run_key]
    before = contents(root / "reports") | contents(place.artifacts)
    for one in runs:
        checkpoint(place, one.run_key, days=30)
    fill(place.datasets / f"captcha-1.{NOBODY}.partial" / "images.npy", days=30)
    age(place.artifacts, 30)
    age(place.logs, 30)
    told = json.loads(stn_bench("gc", "--yes", "--json", root=root).stdout)
    assert {row["kind"]: row["count"] for row in told["leftovers"]} == {FINISHED: len(runs), PARTIAL: 1, LOGS: 2}
    assert contents(root / "reports") | contents(place.artifacts) == before

    shutil.rmtree(root / "reports")
    assert stn_bench("report", "tiny", root=root).returncode == 0
    assert contents(root / "reports").items() <= before.items()
    again = stn_bench("run", "tiny", root=root)
    assert again.returncode == 0, again.stderr
    jobs = [one for one in tracking(place).tries() if one.run_key]
    assert sorted(one.run_id for one in jobs) == sorted(one.run_id for one in runs)


def test_a_models_folder_is_known_by_its_run(workspace: Workspace) -> None:
    """Of a killed try the model goes too, written to its end or not; that of a finished run stays."""
    spec = specs(workspace)[0]
    killed = start(workspace, spec)
    record: RunRecord = finish(spec, tracking(workspace))
    client = tracking(workspace)._client
    folders = {}
    for run_id in (killed, record.run_id):
        experiment = client.get_run(run_id).info.experiment_id
        model = client.create_logged_model(experiment, name="base", source_run_id=run_id)
        folders[run_id] = workspace.artifacts / "models" / model.model_id
        fill(folders[run_id] / "artifacts" / "data" / "model.keras")
    assert model.artifact_location.endswith(f"/models/{model.model_id}/artifacts")
    assert found(workspace) == {workspace.artifacts / killed: DEAD, folders[killed]: DEAD}
