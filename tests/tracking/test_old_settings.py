"""Records of another day's settings: what is gone, and what is younger, keeps no run, archive or page from being read.

The runs are hand-made. An older version is played by adding to each record a setting that does not exist, or by
leaving one out that does; its run key is then another one, as that version took it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import call
from makers import FakeStore, ablation, arm, plan, record, write
from mlflow.tracking import MlflowClient
from stores import STN, artifact_file, open_store, question, train

from stn_bench.analysis.analyse import analyse
from stn_bench.report.build import build_report
from stn_bench.study.plan import Plan
from stn_bench.tracking.archive import Archive, collect, merge, pack, unpack
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import RECORD, RunRecord, run_tags, schema_digest
from stn_bench.tracking.results import ArmResults, gather

NOWHERE = Path("no-pictures-here")
YOUNGER = "train.validation"
STUDY = 'title = "A study"\nablations = ["transformer"]\narms = { transformer = ["none"] }\nseeds = [1, 2, 3]\n'
Change = Callable[[RunRecord], RunRecord]


def planned(**rest: Any) -> Plan:
    return question(trials=0, **rest)


def then(made: RunRecord, settings: Mapping[str, Any], **changes: Any) -> RunRecord:
    """Return a record as a version with these settings would have written it."""
    identity = dataclasses.replace(made.identity, settings=dict(settings))
    changed = {"settings": dict(settings), "identity": identity, "run_key": identity.run_key}
    return RunRecord.model_validate_json(made.model_copy(update=changed | changes).model_dump_json())


def with_gone(made: RunRecord) -> RunRecord:
    """Return a record of a version that had one setting more, at the same value in every arm."""
    return then(made, {**made.settings, "model.gone": 0.5})


def without_younger(made: RunRecord) -> RunRecord:
    """Return a record of a version that did not have a setting yet."""
    return then(made, {path: value for path, value in made.settings.items() if path != YOUNGER})


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Return the runs of a finished study, as today's version exports them."""
    store = open_store(tmp_path_factory.mktemp("source"))
    train(planned(), store)
    analysis = analyse(gather(planned(), store, NOWHERE))
    return collect(analysis.results, store.file, lambda artifact: build_report(analysis, artifact))


def older(archive: Archive, change: Change) -> Archive:
    """Return an archive of an older version: each record changed, and known by the key that it had then."""
    changed = {one.run_key: change(one) for one in archive.records}
    records = tuple(sorted(changed.values(), key=lambda one: one.run_key))
    return Archive(archive.study, records, {changed[key].run_key: files for key, files in archive.files.items()})


def report_of(store: Tracking) -> dict[str, bytes]:
    return build_report(analyse(gather(planned(), store, NOWHERE)), store.file)


def arms_of(store: Any, asked: Plan | None = None) -> list[ArmResults]:
    return list(gather(asked or planned(), store, NOWHERE).arms)


# An archive, and all that is made of it ------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [with_gone, without_younger])
def test_an_old_archive_is_imported_and_its_page_made(archive: Archive, change: Change, tmp_path: Path) -> None:
    today, old = open_store(tmp_path / "today"), open_store(tmp_path / "old")
    merge(archive, today)
    assert merge(unpack(pack(older(archive, change))), old).written == 6
    ours, theirs = report_of(today), report_of(old)
    assert theirs.keys() == ours.keys()
    assert theirs["report.md"].decode() == ours["report.md"].decode()
    assert [sorted(one.runs) for one in arms_of(old)] == [[1, 2, 3]] * 2


@pytest.fixture(scope="module")
def root(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root whose store holds the runs of an older version alone."""
    folder = tmp_path_factory.mktemp("root")
    write(folder / "studies/small.toml", STUDY)
    open_store(folder / "mlruns")
    (folder / "runs.zip").write_bytes(pack(older(archive, with_gone)))
    assert call("import", folder / "runs.zip", "--root", folder) == 0
    return folder


def test_the_study_is_complete(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("status", "small", "--json", "--root", root) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["finished"] == told["planned"] == 6
    assert {(one["seeds"], one["crashed"]) for one in told["arms"]} == {("3/3", 0)}


def test_its_page_is_made_and_its_runs_keep_what_they_were_trained_with(root: Path) -> None:
    assert call("report", "small", "--root", root) == 0
    assert call("report", "small", "--check", "--root", root) == 0
    rows = (root / "reports/small/runs.csv").read_text().splitlines()
    assert len(rows) == 7


def test_its_runs_are_exported_as_they_came(root: Path, archive: Archive, tmp_path: Path) -> None:
    assert call("export", "small", tmp_path / "again.zip", "--root", root) == 0
    assert (tmp_path / "again.zip").read_bytes() == pack(older(archive, with_gone))


def test_why_names_the_setting_that_is_gone(root: Path, archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    record = older(archive, with_gone).records[0]
    assert call("why", record.run_key[:12], "--root", root) == 0
    out = capsys.readouterr().out
    assert "would be trained again, since:" in out
    assert "settings model.gone: was 0.5, is not there" in out


def test_why_names_the_setting_that_is_younger(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, old = open_store(tmp_path / "mlruns"), older(archive, without_younger)
    merge(old, store)
    assert call("why", old.records[0].run_key[:12], "--root", tmp_path) == 0
    assert f"settings {YOUNGER}: was not there, is 'whole'" in capsys.readouterr().out


# What stands in, and what does not -----------------------------------------------------------------------------------


def of_arm(change: Mapping[str, Any]) -> Change:
    """Return what makes a removed setting part of what the runs of `transformer/none` change."""

    def changed(made: RunRecord) -> RunRecord:
        if made.arm == "base":
            return with_gone(made)
        return then(made, {**made.settings, **change}, changes={**made.changes, **change})

    return changed


def test_a_run_whose_arm_was_set_apart_by_what_is_gone_stands_in_for_no_other(
    archive: Archive, tmp_path: Path
) -> None:
    """Without it, the arm would be another question."""
    store = open_store(tmp_path)
    merge(older(archive, of_arm({"model.gone": 2})), store)
    base, none = arms_of(store)
    assert (sorted(base.runs), dict(none.runs)) == ([1, 2, 3], {})


def test_a_trial_of_what_is_gone_stands_in_for_no_other() -> None:
    (spec, *_) = planned().arms[0].verdict_specs({})
    made = record(spec, "r", test_accuracy=0.5)
    tried = then(made, {**made.settings, "model.gone": 2}, chosen={"model.gone": 2})
    assert arms_of(FakeStore(with_gone(made)))[0].runs
    assert not arms_of(FakeStore(tried))[0].runs


@pytest.mark.parametrize(("value", "stands_in"), [("whole", True), ("shuffled_cut", False)])
def test_a_younger_setting_had_its_default_then(value: str, stands_in: bool) -> None:
    asked = planned(overrides={YOUNGER: value})
    made = [without_younger(record(spec, f"r{spec.seed}")) for spec in asked.arms[0].verdict_specs({})]
    assert bool(arms_of(FakeStore(*made), asked)[0].runs) == stands_in


# A store that an older version wrote, with its own tags ------------------------------------------------------------


def backdate(store: Tracking, change: Change) -> None:
    """Make of a store's runs those of an older version: its records, its digest of settings, and no `schema`."""
    client = MlflowClient(tracking_uri=store.uri)
    for run in store.finished():
        (made,) = store.records([run.run_id])
        old = change(made)
        tags = run_tags(old, old.identity)  # without today's schema, the digest is that of its own settings
        assert tags["settings"] != run.settings
        for name in ("settings", "run_key"):
            client.set_tag(run.run_id, name, tags[name])
        client.delete_tag(run.run_id, "schema")
        artifact_file(store, run.run_id, RECORD).write_text(old.model_dump_json())


@pytest.mark.parametrize("change", [with_gone, without_younger])
def test_an_old_stores_runs_are_found_by_their_names(change: Change, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    train(planned(), store)
    page = report_of(store)["report.md"]
    backdate(store, change)
    assert {run.schema for run in store.finished()} == {""}
    assert [sorted(one.runs) for one in arms_of(store)] == [[1, 2, 3]] * 2
    assert report_of(store)["report.md"] == page


def test_names_alone_are_not_enough(tmp_path: Path) -> None:
    """An old run of that name which was trained with another value is another run."""
    store = open_store(tmp_path)
    train(planned(), store)
    backdate(store, lambda made: with_gone(then(made, {**made.settings, "train.epochs": 7})))
    assert [dict(one.runs) for one in arms_of(store)] == [{}, {}]


def test_what_is_gone_sets_runs_of_an_old_store_apart_too(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    train(planned(), store)
    backdate(store, of_arm({"model.gone": 2}))
    base, none = arms_of(store)
    assert (sorted(base.runs), dict(none.runs)) == ([1, 2, 3], {})


def test_a_runs_tags_tell_the_settings_of_its_day(archive: Archive, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    merge(archive, store)
    assert {run.schema for run in store.finished()} == {schema_digest(STN.settings)}


def test_two_questions_with_one_name_for_their_arms_are_not_mixed_up() -> None:
    """A run is known by study, ablation and arm together."""
    one, other = (
        plan(ablation(arm("wide", {"model.width": width}), name=name)) for name, width in (("a", 2.0), ("b", 3.0))
    )
    made = [with_gone(record(spec, f"r{spec.seed}")) for spec in one.arms[1].verdict_specs({})]
    assert arms_of(FakeStore(*made), one)[1].runs
    assert not arms_of(FakeStore(*made), other)[1].runs
