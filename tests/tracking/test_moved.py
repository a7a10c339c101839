"""A store that was moved or copied with its root: every address is brought home, and nothing is written elsewhere."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sqlite3
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from makers import ablation, arm, plan
from mlflow.tracking import MlflowClient
from stores import finish, open_store
from test_upgrades import restore, restore_record

from stn_bench.system.errors import ConfigError, StoreError
from stn_bench.system.workspace import Workspace, sqlite_address, sqlite_file
from stn_bench.tracking import moved
from stn_bench.tracking.ended import reading
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.moved import bring_home

PLAN = plan(ablation(arm("none", {"model.transformer.kind": "none"}), name="transformer"))
SPECS = PLAN.arms[0].verdict_specs({})


def open_root(root: Path) -> Tracking:
    workspace = Workspace.at(root)
    return Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root whose store has two finished runs and a logged model."""
    folder = tmp_path / "old"
    open_store(folder / "mlruns")
    store = open_root(folder)
    for spec in SPECS[:2]:
        finish(spec, store)
    run = store.finished()[0].run_id
    client = MlflowClient(store.uri)
    model = client.create_logged_model(client.get_run(run).info.experiment_id, source_run_id=run)
    local = Path(moved._local(model.artifact_location) or "")
    local.mkdir(parents=True)
    (local / "MLmodel").write_text("flavors: {}")
    return folder


def page(folder: Path) -> Path:
    """Return a folder with a file, to be kept with a run."""
    (folder / "page").mkdir(exist_ok=True)
    (folder / "page/report.md").write_text("# A report")
    return folder / "page"


def digest(folder: Path) -> dict[str, str]:
    """Return the checksum of every file of a root, and of its store as the text that makes it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found


def addresses(root: Path) -> list[str]:
    with closing(sqlite3.connect(root / "mlruns/mlflow.db")) as store:
        return [
            address
            for table, column in (*moved.OWN_FOLDERS, ("experiments", "artifact_location"))
            for (address,) in store.execute(f"SELECT {column} FROM {table}")
            if not address.endswith("/mlruns/0")  # of MLflow's own experiment, where the store was made
        ]


def is_home(root: Path) -> bool:
    return all(address.startswith(f"{(root / 'mlruns/artifacts').as_uri()}") for address in addresses(root))


def records_of(store: Tracking) -> list[int]:
    return sorted(record.seed for record in store.records(run.run_id for run in store.finished()))


def test_a_moved_root_finds_all_its_files(root: Path, tmp_path: Path) -> None:
    new = root.rename(tmp_path / "new")
    store = open_root(new)
    assert records_of(store) == [1, 2]
    assert len(addresses(new)) == 5
    assert is_home(new)
    assert store.file(store.finished()[0].run_id, "predictions.npz").is_relative_to(new)
    assert not root.exists()


@pytest.mark.parametrize("original", ["there", "changed", "gone"])
def test_a_copied_root_is_its_own(root: Path, tmp_path: Path, original: str) -> None:
    new = shutil.copytree(root, tmp_path / "new")
    if original == "gone":
        shutil.rmtree(root)
    elif original == "changed":
        finish(SPECS[2], open_root(root))
    before = digest(root)
    store = open_root(new)
    finish(SPECS[2], store, accuracy=0.75)
    store.log_report(store.open_study(PLAN.study.name), PLAN.study.name, page(tmp_path), "a report")
    assert records_of(store) == [1, 2, 3]
    assert is_home(new)
    assert digest(root) == before


def test_copies_that_are_used_in_turn_in_one_process_keep_their_files_apart(root: Path, tmp_path: Path) -> None:
    store = open_root(root)
    store.log_files(store.finished()[0].run_id, page(tmp_path), "before")
    new = shutil.copytree(root, tmp_path / "new")
    for place, other in ((new, root), (root, new), (new, root)):
        before = digest(other)
        store = open_root(place)
        store.log_files(store.finished()[0].run_id, page(tmp_path), f"of {place.name}")
        assert digest(other) == before


def test_a_root_through_a_link_was_not_moved(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    known = addresses(root)
    store = Tracking(f"sqlite:///{tmp_path}/link/mlruns/mlflow.db", tmp_path / "link/mlruns/artifacts", tmp_path / "l")
    assert records_of(store) == [1, 2]
    assert addresses(root) == known
    new = root.rename(tmp_path / "new")
    root.symlink_to(new)  # the addresses still lead there
    assert records_of(open_root(root)) == [1, 2]
    root.unlink()
    assert records_of(open_root(new)) == [1, 2]


def test_a_folder_of_artifacts_behind_a_link_moves_too(root: Path, tmp_path: Path) -> None:
    disk, other, link = tmp_path / "disk", tmp_path / "other", root / "mlruns/artifacts"
    link.rename(disk)
    link.symlink_to(disk)
    with closing(sqlite3.connect(root / "mlruns/mlflow.db")) as store, store:  # as a store knows it that began there
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            store.execute(f"UPDATE {table} SET {column} = replace({column}, '{link}', '{disk}')")
    disk.rename(other)
    link.unlink()
    link.symlink_to(other)
    assert records_of(open_root(root)) == [1, 2]
    finish(SPECS[2], open_root(root))
    assert not disk.exists()


def test_a_store_that_nobody_may_write_is_read_and_left_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # permissions do not bind root
    with closing(sqlite3.connect(root / "mlruns/mlflow.db")) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (tmp_path / "shared").mkdir()
    file = Path(shutil.copy(root / "mlruns/mlflow.db", tmp_path / "shared"))
    with reading(file) as ask:
        assert ask("SELECT count(*) FROM runs WHERE status = 'FINISHED'", {})[0][0] == 2
        assert list(file.parent.iterdir()) == [file]  # no `-shm`, no `-wal`


def test_a_root_whose_name_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\\xff': expected a folder whose name is UTF-8"):
        Workspace.at(os.fsdecode(os.fsencode(tmp_path / "x") + b"\xff"))


def test_an_experiment_elsewhere_on_purpose_stays_there(root: Path, tmp_path: Path) -> None:
    client = MlflowClient(sqlite_address(root / "mlruns/mlflow.db"))
    elsewhere = [(tmp_path / "disk" / name).as_uri() for name in ("artifacts", "mlruns/artifacts")]
    for number, place in enumerate([*elsewhere, "s3://bucket/mlruns/artifacts", "mlflow-artifacts:/7"]):
        run = client.create_run(client.create_experiment(f"one {number}", place))
        if place.startswith("file"):
            client.log_text(run.info.run_id, "kept", "file.txt")
    kept = [address for address in addresses(root) if not address.startswith(root.as_uri())]
    assert len(kept) == 8
    new = root.rename(tmp_path / "new")
    store = open_root(new)
    assert [address for address in addresses(new) if not address.startswith(new.as_uri())] == kept
    assert records_of(store) == [1, 2]


def test_a_store_elsewhere_is_left_alone(root: Path, tmp_path: Path) -> None:
    known = addresses(root)
    Tracking(f"sqlite:///{root}/mlruns/mlflow.db", tmp_path / "other/mlruns/artifacts", tmp_path / "lock")
    bring_home("postgresql://bench@host/name", root / "mlruns/artifacts")
    bring_home("http://127.0.0.1:5000", root / "mlruns/artifacts")
    assert addresses(root) == known


def test_a_kill_halfway_changes_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = root.rename(tmp_path / "new")
    known, rewrite, calls = addresses(new), moved._rewrite, list[str]()

    def dying(store: sqlite3.Connection, table: str, *rest: object) -> None:
        rewrite(store, table, *rest)  # type: ignore[arg-type]
        calls.append(table)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(moved, "_rewrite", dying)
        with pytest.raises(KeyboardInterrupt):
            open_root(new)
    assert addresses(new) == known
    assert records_of(open_root(new)) == [1, 2]


def _bring_home(root: Path) -> None:
    bring_home(f"sqlite:///{root}/mlruns/mlflow.db", root / "mlruns/artifacts")


def test_two_commands_at_once_bring_a_store_home(root: Path, tmp_path: Path) -> None:
    new = root.rename(tmp_path / "new")
    with ThreadPoolExecutor(4) as pool:  # each has its own connection, as a process has
        list(pool.map(_bring_home, [new] * 8))
    assert is_home(new)
    assert records_of(open_root(new)) == [1, 2]


def test_a_copy_that_wrote_into_its_original_gets_its_files_back(root: Path, tmp_path: Path) -> None:
    """As copies did before addresses were brought home."""
    new = shutil.copytree(root, tmp_path / "new")
    client = MlflowClient(f"sqlite:///{new}/mlruns/mlflow.db")
    run = client.create_run(client.get_experiment_by_name(PLAN.study.name).experiment_id)
    client.log_text(run.info.run_id, "mine", "file.txt")
    assert (root / "mlruns/artifacts" / run.info.run_id).is_dir()
    before = digest(root)
    assert open_root(new).file(run.info.run_id, "file.txt").is_relative_to(new)
    assert digest(root) == before
    shutil.rmtree(root)
    assert open_root(new).file(run.info.run_id, "file.txt").read_text() == "mine"


def test_a_moved_store_of_the_lowest_version_comes_home(tmp_path: Path) -> None:
    (tmp_path / "old/mlruns").mkdir(parents=True)
    restore("mlflow-3.17.1", tmp_path / "old/mlruns/mlflow.db")
    restore_record("3.17.1", tmp_path / "old/mlruns")
    (tmp_path / "old").rename(tmp_path / "new")
    assert records_of(open_root(tmp_path / "new")) == [1]
    assert is_home(tmp_path / "new")


def test_an_experiment_without_runs_comes_home(tmp_path: Path) -> None:
    open_store(tmp_path / "old/mlruns")
    open_root(tmp_path / "old").open_study("empty")
    for copied in (False, True):
        new = tmp_path / f"new {copied}"
        shutil.copytree(tmp_path / "old", new) if copied else (tmp_path / "old").rename(new)
        open_root(new)
        assert is_home(new)
        new.rename(tmp_path / "old") if not copied else None


def test_a_file_that_is_missing_is_told_with_its_place(root: Path) -> None:
    store = open_root(root)
    run = store.finished()[0].run_id
    with pytest.raises(StoreError, match=rf"`gone\.npz` cannot be read \(.*, in file://{root}/mlruns/artifacts/{run}"):
        store.file(run, "gone.npz")


# Names -----------------------------------------------------------------------------------------------------------

NAMES = ["what?x", "a%20b", "50%41 off", "h#sh", "{0}", "[a-b]", "ü 'n' \"q\" & + ; = ,", "new\nline", "a:b@c", "~"]


@pytest.mark.parametrize("name", NAMES)
def test_the_address_of_a_store_leads_into_its_root_whatever_its_name(tmp_path: Path, name: str) -> None:
    from optuna.storages import RDBStorage
    from sqlalchemy import make_url

    (tmp_path / name).mkdir()
    workspace = Workspace.at(tmp_path / name)
    for address, file in ((workspace.tracking, "mlflow.db"), (workspace.queue, "optuna.db")):
        assert make_url(address).database == str(tmp_path / name / "mlruns" / file)
        assert sqlite_file(address) == tmp_path / name / "mlruns" / file
        assert make_url(RDBStorage._fill_storage_url_template(address)).database == make_url(address).database


def test_plain_addresses_stay_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "my studies").mkdir()
    assert Workspace.at(tmp_path / "my studies").tracking == f"sqlite:///{tmp_path}/my studies/mlruns/mlflow.db"


def test_an_escaped_address_of_the_users_own_is_read_as_sqlalchemy_reads_it() -> None:
    assert sqlite_file("sqlite:////a%20b/x.db?timeout=5") == Path("/a b/x.db")
    assert sqlite_file("sqlite:///file:/a%253Fb/x.db?uri=true") == Path("/a?b/x.db")
    assert sqlite_file("postgresql://host/x") is None


@pytest.mark.parametrize("name", ["what?x 50%41 a%20b{0}#[x]ü\n"])
def test_a_root_of_any_name_holds_all_that_it_writes(tmp_path: Path, name: str) -> None:
    open_store(tmp_path / name / "mlruns")
    store = open_root(tmp_path / name)
    finish(SPECS[0], store)
    assert records_of(store) == [1]
    assert store.file(store.finished()[0].run_id, "predictions.npz").is_relative_to(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


# Deleted experiments ---------------------------------------------------------------------------------------------


def run_told(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of MLflow's as a message has it, in this process."""
    words = shlex.split(command)
    if words[0].startswith("MLFLOW_TRACKING_URI="):
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    assert words.pop(0) == "mlflow"
    before = mlflow.get_tracking_uri()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from click.testing import CliRunner
        from mlflow.cli import cli

        result = CliRunner().invoke(cli, words)
    mlflow.set_tracking_uri(before)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert result.exit_code == 0, (result.output, result.exception)


def root_with_a_run(folder: Path) -> tuple[Path, Tracking]:
    """Return a root whose name wants quotes in a command, and its store with one finished run."""
    root = folder / "what? my"
    open_store(root / "mlruns")
    store = open_root(root)
    finish(SPECS[0], store)
    return root, store


@pytest.mark.parametrize("restored", [True, False])
def test_a_deleted_experiment_is_told_with_the_commands_that_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    root, store = root_with_a_run(tmp_path)
    client, name = MlflowClient(store.uri), PLAN.study.name
    client.delete_experiment(client.get_experiment_by_name(name).experiment_id)
    with pytest.raises(StoreError, match="was deleted in MLflow") as told:
        open_root(root).open_study(name)
    with pytest.raises(StoreError, match="was deleted in MLflow"):
        open_root(root).crashed(name)
    restore_it, delete_it = (line.rpartition("run: ")[2] for line in str(told.value).splitlines())
    run_told(restore_it if restored else delete_it, monkeypatch)
    store = open_root(root)
    assert store.open_study(name)
    assert records_of(store) == ([1] if restored else [])


@pytest.mark.parametrize("whole", [True, False])
def test_a_run_that_was_deleted_is_told_with_the_commands_that_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Whether it was deleted alone or with its study, and however it is named."""
    root, store = root_with_a_run(tmp_path)
    (run,) = store.finished()
    client = MlflowClient(store.uri)
    if whole:
        client.delete_experiment(client.get_experiment_by_name(PLAN.study.name).experiment_id)
    else:
        client.delete_run(run.run_id)
    for name in (run.run_id[:8], run.run_key[:12]):
        with pytest.raises(StoreError, match="was deleted in MLflow") as told:
            open_root(root).find_run(name)
    with pytest.raises(StoreError, match="0 finished runs begin with"):
        open_root(root).find_run("nothing")
    run_told(str(told.value).splitlines()[0].rpartition("run: ")[2], monkeypatch)
    assert open_root(root).find_run(run.run_key) == run.run_id
