"""Runs that MLflow's server keeps, and their files: many are asked for at a time, each once; what lacks is known."""

from __future__ import annotations

import itertools
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from servers import mlflow_server
from stores import finish, question

import stn_bench.tracking.mlflow.runs as door
from stn_bench.subject import EXAMPLES
from stn_bench.system.errors import StoreAwayError, StoreError
from stn_bench.tracking import ended
from stn_bench.tracking.ended import SIDE_BY_SIDE, Wanted, files_tag
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import RECORD, RunRecord
from stn_bench.tracking.stored import StoredRuns

SPECS = [spec for arm in question(trials=0).arms for spec in arm.verdict_specs({})]
GALLERY = "rectified.npz"
"""A file that each of these runs kept; none kept the values of its test examples."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[RunRecord]]]:
    """Lend the address of a server and the records of the runs on it."""
    folder = tmp_path_factory.mktemp("served")
    with mlflow_server(folder / "server") as server:
        store = Tracking(server.address, folder / "none", folder / "tracking.lock")
        yield server.address, [finish(spec, store) for spec in SPECS]


def opened(address: str, folder: Path) -> Tracking:
    return Tracking(address, folder / "none", folder / "tracking.lock", KeptRecords(folder / "records.db"))


class Watched:
    """MLflow's way to get a file of a known address, counted."""

    def __init__(self, way: Callable[..., str]) -> None:
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self._way, self._lock = way, threading.Lock()

    def __call__(self, address: str, **rest: Any) -> str:
        with self._lock:
            self.asked.append(address.rpartition("/")[2])
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.2)  # so that several are on their way together where they can be
        try:
            return self._way(address, **rest)
        finally:
            with self._lock:
                self.at_once -= 1


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    one = Watched(door.download_artifacts)
    monkeypatch.setattr(door, "download_artifacts", one)
    return one


def test_records_come_several_at_a_time_in_their_order_and_once(
    served: tuple[str, list[RunRecord]], watched: Watched, tmp_path: Path
) -> None:
    address, made = served
    store = opened(address, tmp_path)
    store.finished()
    wanted = [one.run_id for one in reversed(made)]
    assert store.records(wanted) == list(reversed(made))
    assert watched.asked == [RECORD] * len(made)
    assert 1 < watched.most_at_once <= SIDE_BY_SIDE
    again = opened(address, tmp_path)
    again.finished()
    assert again.records(wanted) == list(reversed(made))
    assert len(watched.asked) == len(made)


def test_what_this_root_has_written_it_does_not_ask_back(
    served: tuple[str, list[RunRecord]], watched: Watched, tmp_path: Path
) -> None:
    address, _ = served
    writer = opened(address, tmp_path)
    made = finish(SPECS[0], writer, outcome="crashed")
    reader = opened(address, tmp_path)
    reader.crashed(SPECS[0].study)
    assert reader.records([made.run_id]) == [made]
    assert watched.asked == []
    elsewhere = opened(address, tmp_path / "elsewhere")
    elsewhere.crashed(SPECS[0].study)
    assert elsewhere.records([made.run_id]) == [made]
    assert watched.asked == [RECORD]


def test_a_file_is_sent_once_and_one_that_lacks_is_asked_for_once(
    served: tuple[str, list[RunRecord]], watched: Watched, tmp_path: Path
) -> None:
    address, made = served
    store = opened(address, tmp_path)
    store.finished()
    run_id = made[0].run_id
    first = store.file(run_id, GALLERY)
    assert store.file(run_id, GALLERY) == first
    runs = StoredRuns(
        address, lambda wanted: [replace(one, files=None) for one in store.ended(wanted)], store.fetch, store.deleted
    )
    runs.finished()
    for _ in range(2):
        with pytest.raises(StoreError, match=f"run {run_id}: artifact `{EXAMPLES}` cannot be read"):
            runs.file(run_id, EXAMPLES)
    assert watched.asked == [GALLERY, EXAMPLES]
    assert [path.name for path in first.parent.iterdir()] == [GALLERY]


def test_a_server_that_is_away_is_asked_again_for_a_file(tmp_path: Path, served: tuple[str, list[RunRecord]]) -> None:
    """That it was away says nothing of the file."""
    address, made = served
    store = opened(address, tmp_path)
    turns = itertools.count()

    def fetch(run_id: str, path: str, home: str = "") -> Path:
        if not next(turns):
            raise StoreAwayError("away")
        return store.fetch(run_id, path, home)

    runs = StoredRuns(address, store.ended, fetch, store.deleted)
    runs.finished()
    with pytest.raises(StoreAwayError):
        runs.file(made[0].run_id, GALLERY)
    assert runs.file(made[0].run_id, GALLERY).is_file()


def test_a_run_says_which_files_it_kept_and_is_asked_for_no_other(
    served: tuple[str, list[RunRecord]], watched: Watched, tmp_path: Path
) -> None:
    address, made = served
    store = opened(address, tmp_path)
    known = {one.run.run_id: one.files for one in store.ended(Wanted("FINISHED"))}
    assert known[made[0].run_id] == {RECORD, GALLERY, "predictions.npz", "model.keras"}
    store.finished()
    with pytest.raises(StoreError, match=f"{made[0].run_id}: artifact `{EXAMPLES}` cannot be read .no such file"):
        store.file(made[0].run_id, EXAMPLES)
    assert watched.asked == []


def test_names_that_a_tag_cannot_hold_are_not_told() -> None:
    assert files_tag({"b.npz", "a.npz"}, 100) == {"files": "a.npz, b.npz"}
    assert files_tag({"a,b.npz"}, 100) == {}
    assert files_tag({"x" * 60, "y" * 60}, 100) == {}


@pytest.mark.parametrize("few", [2, 1000], ids=["in parts", "at once"])
def test_a_server_tells_each_run_once_whether_it_is_asked_in_parts_or_at_once(
    served: tuple[str, list[RunRecord]], few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, made = served
    monkeypatch.setattr(ended, "FEW", few)
    monkeypatch.setattr(ended, "PAGE", 2)
    store = opened(address, tmp_path)
    told = store.ended(Wanted("FINISHED"))
    assert sorted(one.run.run_id for one in told) == sorted(one.run_id for one in made)
    by_client = {run.info.run_id: run for run in MlflowClient(address).search_runs(["0", "1", "2"])}
    for one in told:
        known = by_client[one.run.run_id]
        assert (one.started, one.ended) == (known.info.start_time, known.info.end_time)
        assert one.home == known.info.artifact_uri
        assert (one.run.run_key, one.run.arm) == (known.data.tags["run_key"], known.data.tags["arm"])


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 5000])
def test_parts_and_pages_hold_every_run_once(count: int) -> None:
    """Each page is one of a server's that sorts its runs and tells where the next page begins."""
    tags = {"kind": "run", "run_key": "k", "phase": "seeds", "outcome": "finished", "seed": "1"}
    runs = [
        {"info": {"run_id": uuid.uuid4().hex}, "data": {"tags": [{"key": key, "value": tags[key]} for key in tags]}}
        for _ in range(count)
    ]
    asked: list[int] = []

    def search(question: Mapping[str, Any]) -> dict[str, Any]:
        part = re.fullmatch(r"status(?: and attributes\.run_id LIKE '(.)%')?", question["filter"])
        assert part
        wanted = [run for run in runs if run["info"]["run_id"].startswith(part[1] or "")]
        begin, most = int(question.get("page_token", 0)), question["max_results"]
        asked.append(most)
        more = {"next_page_token": str(begin + most)} if begin + most < len(wanted) else {}
        return {"runs": wanted[begin : begin + most], **more}

    found = [one.run.run_id for one in ended.searched_runs(search, ["1"], "status")]
    assert sorted(found) == sorted(run["info"]["run_id"] for run in runs)
    assert len(asked) == (1 if count <= ended.FEW else 1 + len(ended.PARTS))
