from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from stores import PICTURES, STN, finish, open_store, question

from stn_bench.study.plan import RunSpec
from stn_bench.subject import TrainedModel
from stn_bench.system.errors import MachineError, StoreAwayError, StoreError
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.mlflow.entities import loadable, spread
from stn_bench.tracking.mlflow.refusals import refusal
from stn_bench.tracking.record import RECORD, RunRecord, run_tags
from stn_bench.tracking.store import ImportedRun

SPEC = question(trials=0).arms[0].verdict_specs({})[0]
OTHER = question(trials=0).arms[0].verdict_specs({})[1]


@pytest.fixture
def store(tmp_path: Path) -> Tracking:
    return open_store(tmp_path)


def statuses(store: Tracking) -> list[str]:
    client = MlflowClient(tracking_uri=store.uri)
    (experiment,) = [one.experiment_id for one in client.search_experiments() if one.name == SPEC.study]
    return sorted(run.info.status for run in client.search_runs([experiment], "tags.kind = 'run'"))


def elsewhere(record: RunRecord, run_id: str) -> ImportedRun:
    """Return a run as another store trained it, under that id."""
    moved = record.model_copy(update={"run_id": run_id})
    files = {"predictions.npz": b"predictions"}
    return ImportedRun(moved, "base, seed 1", run_tags(moved, moved.identity, STN.settings), PICTURES, files)


def imported(store: Tracking, spec: RunSpec, run_id: str) -> RunRecord:
    """Import a run of a spec that had this id elsewhere, and return its record."""
    experiment = store.open_study(spec.study)
    tags = {"study": spec.study, "ablation": spec.ablation, "arm": spec.arm}
    run = elsewhere(finish(spec, open_store(Path(store.uri.removeprefix("sqlite:///")).parent / "other")), run_id)
    store.import_run(experiment, store.open_arm(experiment, spec.label, tags, ""), run)
    return run.record


def test_a_record_is_read_as_it_was_written(store: Tracking) -> None:
    record = finish(SPEC, store)
    assert store.records([store.finished()[0].run_id]) == [record]


def test_an_arms_tag_that_is_empty_goes(store: Tracking) -> None:
    arm = store.open_arm(store.open_study("small"), "base", {"ablation": "base", "arm": "base"}, "")
    for reason in ("2 of 3 seeds failed", "", ""):
        store.describe(
            arm, {"difference": 0.25, "difference.low": -0.5}, {"verdict": "better", "verdict.reason": reason}
        )
        data = MlflowClient(tracking_uri=store.uri).get_run(arm).data
        assert (data.tags["verdict"], data.tags.get("verdict.reason", "")) == ("better", reason)
    assert "verdict.reason" not in data.tags
    assert data.metrics == {"difference": 0.25, "difference.low": -0.5}


def test_numbers_that_are_none_survive(store: Tracking) -> None:
    finish(SPEC, store, outcome="diverged", accuracy=math.nan)
    (read,) = store.records([store.finished()[0].run_id])
    assert math.isnan(read.metrics["test.accuracy"])
    assert math.isnan(read.history["validation.accuracy"][2])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_file_of_a_record_is_json_whatever_the_numbers_are(store: Tracking, value: float) -> None:
    """Files of older versions name such numbers as JSON does not; they are read, too."""
    finish(SPEC, store, outcome="diverged", accuracy=value)
    (run,) = store.finished()
    text = store.file(run.run_id, RECORD).read_text()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    tree = json.loads(text, parse_constant=refuse)
    (read,) = store.records([run.run_id])
    old = RunRecord.model_validate_json(json.dumps({**tree, "metrics": read.metrics, "history": read.history}))
    for one in (read, old):
        assert one.metrics["test.accuracy"] == pytest.approx(value, nan_ok=True)
        assert one.history["validation.accuracy"][2] == pytest.approx(value, nan_ok=True)


def test_only_crashed_runs_are_not_finished(store: Tracking) -> None:
    finish(SPEC, store, outcome="crashed")
    finish(OTHER, store, outcome="diverged")
    assert [run.seed for run in store.finished()] == [OTHER.seed]
    assert [run.seed for run in store.crashed(SPEC.study)] == [SPEC.seed]
    assert store.crashed("another") == []


def test_the_latest_run_comes_first(store: Tracking) -> None:
    ids = [finish(spec, store).run_id for spec in (SPEC, OTHER, SPEC)]
    assert [run.run_id for run in store.finished()] == ids[::-1]


def test_what_a_dead_try_left_open_is_closed(store: Tracking) -> None:
    record = finish(SPEC, store)
    experiment = store.open_study(SPEC.study)
    for _ in range(2):
        store.start_run(experiment, None, "again", {"run_key": record.run_key})
    assert statuses(store) == ["FINISHED", "KILLED", "RUNNING"]
    store.start_first_run(experiment, None, "by somebody who knows of none", {"run_key": record.run_key})
    assert statuses(store) == ["FINISHED", "KILLED", "RUNNING", "RUNNING"]


def test_a_run_is_found_by_the_first_letters_of_its_id_or_key(store: Tracking) -> None:
    record = finish(SPEC, store)
    assert store.find_run(record.run_id[:9]) == store.find_run(record.run_key[:9]) == record.run_id


@pytest.mark.parametrize("name", ["no-such-run", ""])
def test_a_name_of_none_or_of_two_runs_is_refused(store: Tracking, name: str) -> None:
    finish(SPEC, store)
    finish(OTHER, store)
    with pytest.raises(StoreError, match=f"(0|2) finished runs begin with `{name}`"):
        store.find_run(name)


def test_an_imported_run_is_found_by_the_id_that_it_had(store: Tracking) -> None:
    record = imported(store, SPEC, "once-and-elsewhere")
    here = store.find_run("once-and")
    assert here == store.find_run(here[:9]) == store.finished()[0].run_id != record.run_id
    assert store.records([here]) == [record]


@pytest.mark.parametrize("known_as", ["there", "here"])
def test_its_files_are_found_by_both_ids(store: Tracking, known_as: str) -> None:
    record = imported(store, SPEC, "once-and-elsewhere")
    run_id = {"there": record.run_id, "here": store.find_run(record.run_id)}[known_as]
    assert store.file(run_id, "predictions.npz").read_bytes() == b"predictions"
    with pytest.raises(StoreError, match="was imported, and models stay where they were trained"):
        store.file(run_id, "model.keras")


def test_a_file_that_a_run_lacks_is_named(store: Tracking) -> None:
    record = finish(SPEC, store)
    with pytest.raises(StoreError, match=f"run {record.run_id}: artifact `notes.txt` cannot be read"):
        store.file(record.run_id, "notes.txt")


def test_an_import_that_fails_is_closed_as_killed(store: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(store, "log_files", fill)
    with pytest.raises(MachineError, match="the disk is full: make room, then run again"):
        imported(store, SPEC, "once-and-elsewhere")
    assert (statuses(store), store.finished()) == (["KILLED"], [])


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow, about a class of its own
def test_a_run_whose_model_is_kept_is_not_finished_yet(store: Tracking) -> None:
    model = keras.Sequential([keras.Input((4, 4, 3), dtype="uint8"), keras.layers.Flatten(), keras.layers.Dense(2)])
    experiment = store.open_study(SPEC.study)
    run_id = store.start_run(experiment, None, "base, seed 1", {"run_key": "k", "phase": "verdict", "seed": "1"})
    inputs, outputs = (("pictures", "uint8", (-1, 4, 4, 3)),), (("", "float32", (-1, 2)),)
    store.log_model(run_id, "base", TrainedModel("tensorflow", model, inputs, outputs, ("keras",)))
    assert statuses(store) == ["RUNNING"]  # its worker may die before the record is written
    assert store.finished() == []


def test_a_run_that_was_closed_without_an_outcome_is_not_finished(store: Tracking) -> None:
    record = finish(SPEC, store)
    MlflowClient(tracking_uri=store.uri).delete_tag(store.finished()[0].run_id, "outcome")
    assert store.finished() == []
    assert store.finished_as(record.run_key, is_trial=False) is None


def test_a_finished_trial_is_no_run_of_a_verdict_nor_the_other_way_round(store: Tracking) -> None:
    trial, run = finish(question().arms[0].tuning_specs()[0], store), finish(SPEC, store)
    assert store.finished_as(trial.run_key, is_trial=True) == trial.run_id
    assert store.finished_as(trial.run_key, is_trial=False) is None
    assert store.finished_as(run.run_key, is_trial=True) is None
    assert store.finished_as(run.run_key, is_trial=False) == run.run_id


def test_what_a_store_refuses_is_told_once_and_without_a_traceback(
    store: Tracking, capfd: pytest.CaptureFixture[str]
) -> None:
    """MLflow writes the traceback of a disk that is full, or of a table that is gone, before it raises."""
    experiment = store.open_study("small")
    with closing(sqlite3.connect(store.uri.removeprefix("sqlite:///"))) as database:
        database.execute("DROP TABLE tags")
    with pytest.raises(StoreError, match="no such table: tags"):
        store.start_run(experiment, None, "base, seed 1", {"run_key": "k"})
    assert capfd.readouterr() == ("", "")


def test_a_refusal_tells_the_reason_and_not_sqlalchemys_advice() -> None:
    advice = "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block)"
    error = MlflowException(f"{advice}\n(sqlite3.OperationalError) database is locked\n[SQL: SELECT 1]")
    told = refusal(error, "sqlite:///mlflow.db")
    assert told == "cannot be used ((sqlite3.OperationalError) database is locked); is it there, and MLflow's?"
    read_only = OSError(30, "Read-only file system", "/x/record.json")
    assert refusal(read_only, "") == "cannot be used ([Errno 30] Read-only file system: '/x/record.json')"


@pytest.mark.filterwarnings("ignore:The structure of `inputs`")  # a name where the model takes one alone
@pytest.mark.parametrize(
    ("names", "said", "kept"),
    [
        ([None], ["picture"], [""]),
        (["image"], ["picture"], [""]),
        (["picture"], ["picture"], ["picture"]),
        (["a", "b"], ["a", "b"], ["a", "b"]),
        ([None, None], [None, None], ["input_layer", "input_layer_1"]),
    ],
    ids=str,
)
def test_a_model_that_is_loaded_takes_what_its_signature_says(
    tmp_path: Path, names: list[str | None], said: list[str | None], kept: list[str]
) -> None:
    """Whether or not its inputs have names; said is what the subject calls them, None: as Keras does."""
    import keras

    keras.utils.clear_session()
    inputs = [keras.Input((3,), name=name) for name in names]
    x = keras.layers.concatenate(inputs) if len(inputs) > 1 else inputs[0]
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    signature = tuple((name or one.name, "float32", (-1, 3)) for name, one in zip(said, inputs, strict=True))
    found = [name for name, *_ in loadable(TrainedModel("tensorflow", model, signature, (("", "float32", (-1, 1)),)))]
    assert found == kept
    model.save(tmp_path / "model.keras")
    given = {name: np.zeros((2, 3), np.float32) for name in found}
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.predict(given if found[0] else given[""], verbose=0).shape == (2, 1)


def test_the_run_of_an_arm_is_open_while_it_is_trained_and_closed_where_it_is_stopped(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    experiment, tags = store.open_study("small"), {"ablation": "base", "arm": "base"}
    client = MlflowClient(tracking_uri=store.uri)
    arm = store.open_arm(experiment, "base", tags, "")
    for end, expected in (
        (lambda: None, "RUNNING"),
        (lambda: store.kill_open(experiment, kind="arm"), "KILLED"),
        (lambda: store.open_arm(experiment, "base", tags, ""), "RUNNING"),
        (lambda: store.describe(arm, {}, {}), "FINISHED"),
        (lambda: store.kill_open(experiment, kind="arm"), "FINISHED"),
        (lambda: store.open_arm(experiment, "base", tags, ""), "FINISHED"),
    ):
        end()
        assert client.get_run(arm).info.status == expected


def test_a_run_that_has_finished_after_all_is_not_killed(tmp_path: Path) -> None:
    """The answer of its end was lost, and its worker gave it up; another has found it finished."""
    store = open_store(tmp_path)
    spec = question(trials=0).arms[0].verdict_specs({})[0]
    run_id = finish(spec, store).run_id
    store.kill_run(run_id)
    assert [one.run_id for one in store.finished()] == [run_id]


# Servers ---------------------------------------------------------------------------------------------------------


class Refusing(BaseHTTPRequestHandler):
    """A server that answers each request alike, as one does that stands before MLflow's, or is another."""

    status, answer = 200, b""

    def _refuse(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.answer)

    do_GET = do_POST = do_PATCH = _refuse

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def answering(status: int, answer: bytes) -> Iterator[str]:
    """Yield the address of such a server, with a token in it."""
    handler = type("Answering", (Refusing,), {"status": status, "answer": answer})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://s3cr3t-token@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (401, b"You are not authenticated.", "refuses the password or token (401); set MLFLOW_TRACKING_USERNAME"),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', "refuses the password or token (403)"),
        (404, b"<html>\n<p>a page</p></html>", "answers with 404; is it MLflow's?"),
        (503, b"starting", "does not answer for now"),
        (200, b"hello", "is it there, and MLflow's?"),
    ],
)
def test_a_server_that_does_not_do_what_it_is_asked_is_told_in_a_line(
    status: int, answer: bytes, told: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    with answering(status, answer) as address, pytest.raises(StoreError) as raised:
        Tracking(address, tmp_path / "artifacts", tmp_path / "tracking.lock")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "s3cr3t" not in str(raised.value)
    assert time.monotonic() - began < 5


def test_a_server_that_goes_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it was open: until then nobody knows whether it ever was there."""
    store = open_store(tmp_path)
    monkeypatch.setattr(store, "_sqlite", None)
    asked: list[int] = []

    def search(*arguments: object) -> list[Any]:
        asked.append(1)
        if len(asked) < 3:
            raise MlflowException("API request to http://x failed with exception Connection refused")
        return []

    monkeypatch.setattr(store, "_search", search)
    monkeypatch.setattr("stn_bench.system.patience.PAUSES", (0.01,))
    store.kill_open("1", kind="arm")
    assert len(asked) == 3


def test_a_run_whose_beginning_was_not_answered_leaves_no_other_open(
    store: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, tags = store.open_study(SPEC.study), {"run_key": "a" * 64}
    create, lost = store._create, list[str]()

    def lose_the_first_answer(*arguments: Any) -> str:
        run_id = create(*arguments)
        if not lost:
            lost.append(run_id)
            raise StoreAwayError("the answer was lost")
        return run_id

    monkeypatch.setattr(store, "_create", lose_the_first_answer)
    began = store.start_first_run(experiment, None, "base, seed 1", tags)
    assert began != lost[0]
    assert statuses(store) == ["KILLED", "RUNNING"]


def test_an_imported_curve_has_the_epochs_that_were_told_of() -> None:
    points = spread({"loss": (math.nan, 0.5, math.nan, 0.4), "late": (0.1, math.nan)}, 0, 8)
    assert [(one.key, one.step) for one in points] == [("loss", 2), ("loss", 4), ("late", 1), ("late", 2)]
    assert [one.timestamp for one in points] == [4, 8, 4, 8]
