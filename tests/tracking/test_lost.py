"""Runs whose files are gone from the artifacts are lost, and all others are read; a disk that is away loses none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from stores import FINGERPRINT, artifact_file, finish, open_store, question

from stn_bench.study.plan import Plan
from stn_bench.system.errors import StoreError
from stn_bench.tracking import results
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.quick import quick_runs
from stn_bench.tracking.record import RECORD
from stn_bench.tracking.results import gather
from stn_bench.tracking.store import LostRunsError, finished_record, lost_line
from stn_bench.tracking.stored import StoredRuns

PLAN = question(trials=0)
SPECS = PLAN.arms[0].verdict_specs({})


def opened(folder: Path) -> Tracking:
    """Return the store in a folder as another process would: with what was read of it before in a file beside it."""
    plain = open_store(folder)
    return Tracking(plain.uri, folder / "artifacts", folder / "tracking.lock", KeptRecords(folder / "records.db"))


@pytest.fixture
def ids(tmp_path: Path) -> list[str]:
    """Return the ids of three finished runs of a store, whose records were all read."""
    store = opened(tmp_path)
    found = [finish(spec, store).run_id for spec in SPECS[:3]]
    assert len(store.records([one.run_id for one in store.finished()])) == 3
    return found


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(results, "fingerprint_of", lambda *_: FINGERPRINT)
    return PLAN


def lose(folder: Path, run_id: str) -> None:
    shutil.rmtree(folder / "artifacts" / run_id)


def test_a_lost_run_is_named_and_left_out_from_then_on(tmp_path: Path, ids: list[str]) -> None:
    lose(tmp_path, ids[1])
    store = opened(tmp_path)
    assert {one.run_id for one in store.finished()} == set(ids)
    with pytest.raises(LostRunsError) as raised:
        store.records(ids)
    assert [one.run_id for one in raised.value.runs] == [ids[1]]
    assert {one.run_id for one in store.finished()} == {ids[0], ids[2]}
    assert len(store.records([ids[0], ids[2]])) == 2


def test_a_record_alone_that_is_gone_is_lost_too(tmp_path: Path, ids: list[str]) -> None:
    artifact_file(open_store(tmp_path), ids[0], RECORD).unlink()
    store = opened(tmp_path)
    store.finished()
    with pytest.raises(LostRunsError):
        store.records(ids)


def test_results_are_those_of_the_others_and_name_the_lost(tmp_path: Path, ids: list[str], planned: Plan) -> None:
    lose(tmp_path, ids[1])
    for store in (opened(tmp_path), quick(tmp_path)):
        found = gather(planned, store, tmp_path)
        assert [one.run_id for one in found.records] == [ids[0], ids[2]]
        assert [one.run_id for one in found.lost] == [ids[1]]
        assert gather(planned, store, tmp_path).lost == ()


def quick(folder: Path) -> StoredRuns:
    def door() -> Tracking:
        raise AssertionError("MLflow was asked")

    found = quick_runs(open_store(folder).uri, KeptRecords(folder / "records.db"), door)
    assert found
    return found


def test_an_earlier_run_of_the_key_counts_where_the_latest_is_lost(tmp_path: Path, ids: list[str]) -> None:
    again = finish(SPECS[0], opened(tmp_path))
    store = opened(tmp_path)
    found = finished_record(store, again.run_key, is_trial=False)
    assert found is not None
    assert found.run_id == again.run_id
    lose(tmp_path, again.run_id)
    found = finished_record(opened(tmp_path), again.run_key, is_trial=False)
    assert found is not None
    assert found.run_id == ids[0]
    lose(tmp_path, ids[0])
    assert finished_record(opened(tmp_path), again.run_key, is_trial=False) is None


@pytest.mark.parametrize("is_mounted", [False, True])
def test_a_folder_that_is_away_loses_no_run(tmp_path: Path, ids: list[str], planned: Plan, is_mounted: bool) -> None:
    (tmp_path / "artifacts").rename(tmp_path / "away")
    if is_mounted:
        (tmp_path / "artifacts").mkdir()
    store = opened(tmp_path)
    with pytest.raises(StoreError, match=r"record\.json is not there, nor is any other run's") as raised:
        gather(planned, store, tmp_path)
    assert not isinstance(raised.value, LostRunsError)
    assert "mlflow runs delete --run-id" in str(raised.value)
    shutil.rmtree(tmp_path / "artifacts", ignore_errors=True)
    (tmp_path / "away").rename(tmp_path / "artifacts")
    assert gather(planned, store, tmp_path).lost == ()


def test_a_record_that_cannot_be_read_is_not_lost(tmp_path: Path, ids: list[str]) -> None:
    artifact_file(open_store(tmp_path), ids[0], RECORD).write_text("{")
    store = opened(tmp_path)
    store.finished()
    with pytest.raises(StoreError, match="not a record") as raised:
        store.records(ids)
    assert not isinstance(raised.value, LostRunsError)


def test_a_line_names_three_runs_and_counts_the_rest(tmp_path: Path, ids: list[str]) -> None:
    runs = opened(tmp_path).finished()
    assert lost_line(runs[:1]).startswith(f"lost: the files of run {runs[0].run_id} (base, seed 3) were removed")
    assert lost_line([*runs, *runs]).count(" and 3 more were removed") == 1
