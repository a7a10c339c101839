"""The file of records, and the quick way to a store: their answers are MLflow's own, whatever happened to either."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from stores import PICTURES, STN, artifact_file, finish, open_store, question

from stn_bench.system.errors import StoreError
from stn_bench.tracking.ended import EndedRun, Wanted, local_folder
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.quick import Door, quick_runs
from stn_bench.tracking.record import RECORD, RunRecord, run_tags
from stn_bench.tracking.store import ImportedRun
from stn_bench.tracking.stored import StoredRuns

SPECS = question(trials=0).arms[0].verdict_specs({}) + question(trials=0).arms[1].verdict_specs({})
SPEC = SPECS[0]


def opened(folder: Path) -> Tracking:
    """Return the store in a folder with a file of records beside it."""
    plain = open_store(folder)
    return Tracking(plain.uri, folder / "artifacts", folder / "tracking.lock", KeptRecords(folder / "records.db"))


def no_door() -> Door:
    raise AssertionError("MLflow was asked")


def quick(folder: Path, door: Callable[[], Door] = no_door) -> StoredRuns:
    found = quick_runs(open_store(folder).uri, KeptRecords(folder / "records.db"), door)
    assert found
    return found


class Oracle:
    """The same answers by MLflow's own client and the files of the runs."""

    def __init__(self, store: Tracking) -> None:
        self.client = MlflowClient(tracking_uri=store.uri)

    def runs(self, status: str) -> list[str]:
        """Return the ids of the runs that ended so, the latest first."""
        studies = [one.experiment_id for one in self.client.search_experiments()]
        found = [
            run
            for run in self.client.search_runs(studies, f"tags.kind = 'run' and attributes.status = '{status}'")
            if {"run_key", "phase", "seed", "outcome"} <= run.data.tags.keys()
        ]
        ages = {
            run.info.run_id: (run.info.end_time, run.data.tags.get("original_run_id", run.info.run_id))
            for run in found
        }
        return sorted(ages, key=lambda run_id: ages[run_id], reverse=True)

    def record(self, run_id: str) -> RunRecord:
        """Return the record of a run as its file has it."""
        file = Path(self.client.get_run(run_id).info.artifact_uri.removeprefix("file://"), RECORD)
        return RunRecord.model_validate_json(file.read_bytes())


def agree(store: StoredRuns | Tracking, oracle: Oracle) -> bool:
    finished, crashed = oracle.runs("FINISHED"), oracle.runs("FAILED")
    assert [run.run_id for run in store.finished()] == finished
    assert [run.run_id for run in store.crashed(SPEC.study)] == crashed
    assert store.records(finished + crashed) == [oracle.record(run_id) for run_id in finished + crashed]
    return True


def test_answers_are_mlflows_whatever_is_done_to_the_runs(tmp_path: Path) -> None:
    store, chance = opened(tmp_path / "here"), random.Random(7)
    oracle, long_lived = Oracle(store), quick(tmp_path / "here")
    elsewhere = open_store(tmp_path / "there")
    ended: list[str] = []

    def finishing() -> None:
        ended.append(finish(chance.choice(SPECS), store).run_id)

    def crashing() -> None:
        ended.append(finish(chance.choice(SPECS), store, outcome="crashed").run_id)

    def importing() -> None:
        made = finish(chance.choice(SPECS), elsewhere)
        run = ImportedRun(made, "imported", run_tags(made, made.identity, STN.settings), PICTURES, {})
        experiment = store.open_study(SPEC.study)
        store.import_run(experiment, store.open_arm(experiment, "base", {"ablation": "base", "arm": "base"}, ""), run)

    def deleting() -> None:
        oracle.client.delete_run(chance.choice(ended))

    def restoring() -> None:
        oracle.client.restore_run(chance.choice(ended))

    def untagging() -> None:
        oracle.client.delete_tag(finish(chance.choice(SPECS), store).run_id, "outcome")

    finishing()
    deeds = [finishing, crashing, importing, deleting, deleting, restoring, untagging]
    for deed in [*deeds, *chance.choices(deeds, k=2)]:
        deed()
        assert agree(long_lived, oracle)
    assert agree(store, oracle)
    assert agree(quick(tmp_path / "here"), oracle)


def test_a_deleted_study_is_mlflows_to_refuse(tmp_path: Path) -> None:
    store = opened(tmp_path)
    finish(SPEC, store)
    MlflowClient(tracking_uri=store.uri).delete_experiment(store.open_study(SPEC.study))
    for runs in (store, quick(tmp_path, lambda: store)):
        assert list(runs.finished()) == []
        with pytest.raises(StoreError, match="was deleted in MLflow"):
            runs.crashed(SPEC.study)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def blow(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in random.Random(1).sample(range(100, len(content)), k=len(content) // 20):
        content[place] ^= 0xFF
    file.write_bytes(bytes(content))


def lie(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE records SET content = replace(content, '0.5', '0.9')")
    connection.close()


def age(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("DROP TABLE code")
    connection.close()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "noise": lambda file: file.write_bytes(b"noise" * 1000),
    "cut": truncate,
    "flipped": blow,
    "changed": lie,
    "of another version": age,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cannot_be_trusted_is_made_again(damage: str, tmp_path: Path) -> None:
    store = opened(tmp_path)
    made = [finish(spec, store) for spec in SPECS[:1]]
    ids = [one.run_id for one in made]
    store.finished()
    assert store.records(ids) == made
    DAMAGES[damage](tmp_path / "records.db")
    for _ in range(2):
        again = opened(tmp_path)
        again.finished()
        assert again.records(ids) == made
    sources = {run_id: source for run_id, (source, _) in again._stored._read.items()}
    assert KeptRecords(tmp_path / "records.db").read(sources) == dict(zip(ids, made, strict=True))


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "records.db") as connection:
        connection.execute("CREATE TABLE theirs (name TEXT)")
    connection.close()
    before = (tmp_path / "records.db").read_bytes()
    store = opened(tmp_path)
    made = finish(SPEC, store)
    store.finished()
    assert store.records([made.run_id]) == [made]
    assert (tmp_path / "records.db").read_bytes() == before


def test_a_record_is_read_once_and_never_after_its_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    made = finish(SPEC, store)
    store.finished()
    store.records([made.run_id])
    file, read = artifact_file(store, made.run_id, RECORD), Path.read_bytes

    def no_record(path: Path) -> bytes:
        assert path.name != RECORD, "read again"
        return read(path)

    runs = quick(tmp_path)
    assert [run.run_id for run in runs.finished()] == [made.run_id]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", no_record)
        assert runs.records([made.run_id]) == [made]
    other = made.model_copy(update={"metrics": {**made.metrics, "test.accuracy": 0.75}})
    file.write_text(other.model_dump_json())
    assert runs.records([made.run_id]) == quick(tmp_path, lambda: store).records([made.run_id]) == [other]
    file.write_text("{}")
    with pytest.raises(StoreError, match="not a record"):
        runs.records([made.run_id])
    file.unlink()
    with pytest.raises(StoreError, match=f"{made.run_id}: artifact `{RECORD}` cannot be read"):
        runs.records([made.run_id])


def test_numbers_that_are_none_are_kept_as_they_are(tmp_path: Path) -> None:
    store = opened(tmp_path)
    made = finish(SPEC, store)
    text = artifact_file(store, made.run_id, RECORD)
    text.write_text(
        text.read_text().replace('"test.accuracy": 0.5', '"test.accuracy": NaN').replace("30.0", "Infinity")
    )
    store.finished()
    (fresh,) = store.records([made.run_id])
    runs = quick(tmp_path)
    runs.finished()
    assert repr(runs.records([made.run_id])) == repr([fresh])
    assert "inf" in repr(fresh)


def test_a_store_of_another_place_or_version_is_opened_by_mlflow_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "one")
    finish(SPEC, store)
    quick(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    kept = KeptRecords(tmp_path / "two/records.db")
    uri = open_store(tmp_path / "two").uri
    assert quick_runs(uri, kept, no_door) is None
    opened(tmp_path / "two")
    assert quick_runs(uri, kept, no_door)
    monkeypatch.setattr("stn_bench.tracking.quick.package_version", lambda name: "99.0")
    assert quick_runs(uri, kept, no_door) is None
    for other in ("postgresql://host/name", f"sqlite:///{tmp_path / 'none.db'}"):
        assert quick_runs(other, kept, no_door) is None


def test_a_server_is_asked_by_mlflows_search_with_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    for spec in SPECS[:2]:
        finish(spec, store)
    finish(SPECS[2], store, outcome="crashed")
    key = store.finished()[0].run_key
    asked: tuple[Wanted, ...] = (
        Wanted("FINISHED"), Wanted("FAILED", SPEC.study), Wanted("FAILED", "none"),
        Wanted("FINISHED", tags=(("run_key", key),)),
    )  # fmt: skip

    def answers() -> list[list[EndedRun]]:
        return [sorted(store.ended(one), key=lambda one: one.age) for one in asked]

    by_tables = answers()
    monkeypatch.setattr(store, "_sqlite", None)
    assert answers() == by_tables
    assert [len(one) for one in by_tables] == [2, 1, 0, 1]


def test_what_a_server_sends_goes_with_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    made = finish(SPEC, store)
    monkeypatch.setattr("stn_bench.tracking.mlflow.runs.is_local_uri", lambda *_, **__: False)
    folders = []

    def send(run_id: str, path: str, folder: str) -> str:
        folders.append(Path(folder))
        return str(shutil.copy(artifact_file(store, run_id, path), folder))

    monkeypatch.setattr(store._client, "download_artifacts", send)
    assert RunRecord.model_validate_json(store.fetch(made.run_id, RECORD).read_bytes()) == made
    assert store._downloads
    store._downloads.cleanup()
    assert [folder.exists() for folder in folders] == [False]


WRITER = """
import sys
from pathlib import Path
from stn_bench.tracking.kept import KeptRecords
file, source, text = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes()
for turn in range(30):
    kept = KeptRecords(file)
    kept.keep([(f"{source}{number}", source, text) for number in range(10)])
    assert len(kept.read({f"{source}{number}": source for number in range(10)})) == 10, turn
"""


def test_processes_share_the_file(tmp_path: Path) -> None:
    store = opened(tmp_path)
    record = artifact_file(store, finish(SPEC, store).run_id, RECORD)
    file = tmp_path / "shared.db"
    command = [sys.executable, "-c", WRITER, str(file)]
    both = [subprocess.Popen([*command, name, str(record)], stderr=subprocess.PIPE, text=True) for name in "ab"]
    assert [(one.communicate(timeout=120)[1], one.returncode) for one in both] == [("", 0), ("", 0)]
    assert all(len(KeptRecords(file).read({f"{name}{one}": name for one in range(10)})) == 10 for name in "ab")


@pytest.mark.parametrize(
    ("home", "folder"),
    [
        ("file:///a/b%20c/artifacts", Path("/a/b c/artifacts")),
        ("file:/a/b", Path("/a/b")),
        ("/a/b%20c", Path("/a/b%20c")),
        ("mlflow-artifacts:/1/2/artifacts", None),
        ("s3://bucket/a", None),
        ("", None),
    ],
)
def test_a_folder_here_is_told_from_a_servers(home: str, folder: Path | None) -> None:
    assert local_folder(home) == folder
