from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call
from mlflow.tracking import MlflowClient
from stores import FINGERPRINT, finish, open_store, question, train

from stn_bench.analysis.analyse import analyse
from stn_bench.report.build import build_report
from stn_bench.study.plan import Plan
from stn_bench.system.errors import ArchiveError, Interrupted
from stn_bench.tracking.archive import (
    FORMAT,
    KIND,
    RECORDS,
    TRAINED,
    Archive,
    Merged,
    collect,
    may_hold,
    merge,
    pack,
    read_archive,
    unpack,
    write_archive,
)
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import RECORD
from stn_bench.tracking.results import Results, gather
from stn_bench.tracking.zipped import MANIFEST, check_target

RUNS = 8  # two arms: one trial and three seeds each
NOWHERE = Path("no-pictures-here")


def results(store: Tracking, planned: Plan | None = None) -> Results:
    """Return what a store holds of the question, as a fresh clone sees it: without any picture."""
    return gather(planned or question(), store, NOWHERE)


def archive_of(store: Tracking, planned: Plan | None = None) -> Archive:
    analysis = analyse(results(store, planned))
    return collect(analysis.results, store.file, lambda artifact: build_report(analysis, artifact))


def quick_archive_of(store: Tracking, planned: Plan | None = None) -> Archive:
    """Return an archive for whose sake no report is drawn: it lacks what the figures read."""
    return collect(results(store, planned), store.file, lambda artifact: None)


def report_of(store: Tracking, planned: Plan | None = None) -> dict[str, bytes]:
    return build_report(analyse(results(store, planned)), store.file)


def runs_of(store: Tracking, kind: str = "run") -> list[Any]:
    client = MlflowClient(tracking_uri=store.uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.kind = '{kind}'"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """Return a store whose study is finished."""
    store = open_store(tmp_path_factory.mktemp("source"))
    train(question(), store)
    return store


@pytest.fixture(scope="module")
def archive(source: Tracking) -> Archive:
    return archive_of(source)


@pytest.fixture(scope="module")
def page(source: Tracking) -> dict[str, bytes]:
    """Return the report of the finished study."""
    return report_of(source)


@pytest.fixture(scope="module")
def imported(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """Return a store that has the archive's runs and no others."""
    store = open_store(tmp_path_factory.mktemp("imported"))
    assert merge(unpack(pack(archive)), store) == Merged(written=RUNS, present=0)
    return store


# What it promises ------------------------------------------------------------------------------------------------


def test_the_report_elsewhere_is_the_same_byte_for_byte(page: dict[str, bytes], imported: Tracking) -> None:
    assert any("gallery" in name for name in page)
    assert report_of(imported) == page


def test_a_record_arrives_as_it_was(source: Tracking, imported: Tracking) -> None:
    assert results(imported).records == results(source).records


def test_an_imported_store_exports_the_same_bytes(archive: Archive, imported: Tracking) -> None:
    assert pack(archive_of(imported)) == pack(archive)


def test_exporting_twice_gives_the_same_bytes(archive: Archive, source: Tracking) -> None:
    assert pack(archive_of(source)) == pack(archive)


def test_importing_twice_changes_nothing(archive: Archive, imported: Tracking) -> None:
    before = [(run.info.run_id, run.info.status) for kind in ("run", "arm") for run in runs_of(imported, kind)]
    assert merge(archive, imported) == Merged(written=0, present=RUNS)
    assert [(run.info.run_id, run.info.status) for k in ("run", "arm") for run in runs_of(imported, k)] == before


def test_where_it_was_trained_an_import_changes_nothing(archive: Archive, source: Tracking) -> None:
    assert merge(archive, source) == Merged(written=0, present=RUNS)


def test_two_imports_at_once_write_each_run_once(archive: Archive, tmp_path: Path) -> None:
    store, others = open_store(tmp_path), list[Merged]()

    def other(done: int, count: int) -> None:
        if not others:
            others.append(merge(archive, store))

    assert merge(archive, store, other) == Merged(written=1, present=RUNS - 1)
    assert others == [Merged(written=RUNS - 1, present=1)]
    assert len(store.finished()) == RUNS


def test_the_seeds_of_two_machines_unite(source: Tracking, tmp_path: Path) -> None:
    union = open_store(tmp_path / "union")
    for seeds in ((1,), (2, 3)):
        machine = open_store(tmp_path / f"machine{seeds}")
        train(question(), machine, seeds)
        merge(quick_archive_of(machine), union)
    assert [sorted(arm.runs) for arm in results(union).arms] == [[1, 2, 3]] * 2
    assert len(runs_of(union)) == RUNS  # the trials that both machines ran are there once


def test_an_archive_is_read_as_it_was_packed(archive: Archive) -> None:
    assert unpack(pack(archive)) == archive


def test_fresh_seeds_travel_with_their_predictions(tmp_path: Path) -> None:
    planned = question(trials=0, confirm=(101,))
    store = open_store(tmp_path / "source")
    train(planned, store)
    for one in planned.arms:
        finish(one.confirm_specs({})[0], store, accuracy=0.5 + 0.1 * (one.name == "base"))
    other = open_store(tmp_path / "other")
    merge(unpack(pack(archive_of(store, planned))), other)
    ours, theirs = (report_of(one, planned) for one in (store, other))
    assert theirs == ours
    assert [list(arm.confirmed) for arm in results(other, planned).arms] == [[101], [101]]
    for arm in results(other, planned).arms:
        assert other.file(arm.confirmed[101].run_id, "predictions.npz").is_file()


def test_no_model_travels(archive: Archive) -> None:
    names = {name for files in archive.files.values() for name in files}
    assert names == {"predictions.npz", "rectified.npz"}


def test_only_what_the_report_reads_travels_beside_predictions(archive: Archive) -> None:
    kept = sorted(sorted(files) for files in archive.files.values())
    assert kept == [["predictions.npz"]] * 5 + [["predictions.npz", "rectified.npz"]]


# How a run arrives -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrived(imported: Tracking) -> Any:
    """Return an imported run of the base, as MLflow has it."""
    return next(
        run for run in runs_of(imported) if run.data.tags["phase"] == "verdict" and run.data.tags["arm"] == "base"
    )


def test_learning_curves_have_every_epoch(imported: Tracking, arrived: Any) -> None:
    client = MlflowClient(tracking_uri=imported.uri)
    curve = client.get_metric_history(arrived.info.run_id, "validation.accuracy")
    assert [point.step for point in curve] == [1, 2, 3]
    assert curve[-1].value == arrived.data.metrics["test.accuracy"]
    times = [arrived.info.start_time, *(point.timestamp for point in curve)]
    assert times == sorted(set(times))


def test_it_keeps_its_own_times(arrived: Any) -> None:
    assert (arrived.info.start_time, arrived.info.end_time) == (1767225600000, 1767225660000)


def test_settings_tags_and_pictures_are_those_of_a_trained_run(source: Tracking, imported: Tracking) -> None:
    ours = {run.data.tags["run_key"]: run for run in runs_of(source)}
    local = {"mlflow.parentRunId", "mlflow.user", "files"}
    for run in runs_of(imported):
        trained = ours[run.data.tags["run_key"]]
        assert run.data.params == trained.data.params
        assert run.data.metrics == trained.data.metrics
        assert run.info.run_name == trained.info.run_name
        tags = {name: value for name, value in run.data.tags.items() if name not in local}
        assert tags.pop("original_run_id") == trained.info.run_id
        kept, came = (set(one.data.tags["files"].split(", ")) for one in (trained, run))
        assert kept & {"record.json", "predictions.npz"} <= came <= kept - {"model.keras"}  # which stays where it was
        assert tags == {name: value for name, value in trained.data.tags.items() if name not in local}
        assert run.inputs.dataset_inputs[0].dataset.digest == FINGERPRINT[:12]


def test_it_hangs_below_its_arm_which_is_closed(imported: Tracking) -> None:
    arms = {run.info.run_id: run for run in runs_of(imported, "arm")}
    assert {run.info.status for run in arms.values()} == {"FINISHED"}
    for run in runs_of(imported):
        assert arms[run.data.tags["mlflow.parentRunId"]].data.tags["arm"] == run.data.tags["arm"]


@pytest.mark.parametrize("outcome", ["diverged", "crashed"])
def test_what_failed_is_not_lost_on_the_way(tmp_path: Path, outcome: str) -> None:
    machine, here = open_store(tmp_path / "machine"), open_store(tmp_path / "here")
    planned = question(trials=0)
    train(planned, machine, seeds=(1, 2))
    finish(planned.arms[1].verdict_specs({})[2], machine, outcome=outcome)
    merge(unpack(pack(archive_of(machine, planned))), here)
    arm = results(here, planned).arms[1]
    failed = {**arm.runs, **arm.crashed}[3]
    assert (failed.outcome, failed.reason) == (outcome, "loss is nan at epoch 2")
    assert report_of(here, planned) == report_of(machine, planned)


def test_a_run_that_crashed_here_and_finished_elsewhere_is_imported(tmp_path: Path) -> None:
    machine, here = open_store(tmp_path / "machine"), open_store(tmp_path / "here")
    planned = question(trials=0)
    train(planned, machine)
    finish(planned.arms[0].verdict_specs({})[0], here, outcome="crashed")
    assert merge(quick_archive_of(machine, planned), here).written == 6
    assert results(here, planned).arms[0].crashed == {}


# Stopped in the middle -------------------------------------------------------------------------------------------


def test_a_stopped_import_goes_on(archive: Archive, page: dict[str, bytes], tmp_path: Path) -> None:
    here = open_store(tmp_path)

    def stop(done: int, count: int) -> None:
        if done == 3:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        merge(archive, here, stop)
    assert merge(archive, here) == Merged(written=RUNS - 3, present=3)
    assert report_of(here) == page


def test_a_run_that_is_half_written_does_not_count(
    archive: Archive, page: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_store(tmp_path)

    def stop(*arguments: object) -> None:
        raise Interrupted("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(here, "_finish", stop)
        with pytest.raises(Interrupted):
            merge(archive, here)
    assert here.finished() == []
    assert [run.info.status for run in runs_of(here)] == ["KILLED"]
    assert merge(archive, here) == Merged(written=RUNS, present=0)
    assert report_of(here) == page


def test_a_study_that_is_not_finished_can_be_exported(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    train(question(), store, seeds=(2,))
    assert {record.seed for record in quick_archive_of(store).records if record.phase == "verdict"} == {2}


# What it refuses -------------------------------------------------------------------------------------------------


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(members: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def forged(archive: Archive, changes: dict[str, bytes], **manifest: Any) -> bytes:
    """Return an archive with other members and other words in its manifest, whose checksums agree."""
    members = {**members_of(pack(archive)), **changes}
    tree = json.loads(members.pop(MANIFEST))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    members[MANIFEST] = json.dumps({**tree, "members": digests, **manifest}).encode()
    return zipped(members.items())


def with_record(archive: Archive, **changes: Any) -> bytes:
    first, *rest = pack_lines(archive)
    line = json.dumps({**json.loads(first), **changes}).encode()
    return forged(archive, {RECORDS: b"\n".join([line, *rest])})


def pack_lines(archive: Archive) -> list[bytes]:
    return members_of(pack(archive))[RECORDS].splitlines()


def npz(*arrays: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, *arrays, **options)
    return buffer.getvalue()


def refused(content: bytes) -> str:
    with pytest.raises(ArchiveError) as caught:
        unpack(content)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut short", b"PK\x05\x06" + bytes(18) + b"tail"])
def test_what_is_no_zip_file_is_refused(content: bytes) -> None:
    assert "zip file" in refused(content)


@pytest.mark.parametrize(
    "members",
    [[], [(MANIFEST, b"[]")], [(MANIFEST, b"{")], [(MANIFEST, b'{"kind": "book"}')], [(MANIFEST, b"[" * 9**6)]],
)
def test_a_zip_file_of_something_else_is_refused(members: list[tuple[str, bytes]]) -> None:
    assert "not an archive of runs" in refused(zipped(members))


def test_a_newer_format_is_refused(archive: Archive) -> None:
    assert f"has format {FORMAT + 1}" in refused(forged(archive, {}, format=FORMAT + 1))


@pytest.mark.parametrize("manifest", [{"runs": "many"}, {"members": []}, {"study": "a/../b"}, {"more": 1}])
def test_a_manifest_that_is_not_ours_is_refused(archive: Archive, manifest: dict[str, Any]) -> None:
    assert f"`{MANIFEST}` is not ours" in refused(forged(archive, {}, **manifest))


@pytest.mark.parametrize(
    "name",
    [
        "../outside.npz",
        "/etc/passwd",
        f"runs/{'a' * 64}/../../outside.npz",
        f"runs/{'a' * 64}/deep/er.npz",
        f"runs/{'a' * 64}/model.keras",
        f"runs/{'a' * 64}/.npz",
        f"runs\\{'a' * 64}\\..\\..\\outside.npz",
        f"runs/{'a' * 64}/a.npz\n",
        "notes.txt",
    ],
)
def test_a_member_that_should_not_be_there_is_refused(archive: Archive, name: str) -> None:
    assert "which no archive of runs has" in refused(forged(archive, {name: b""}))


def test_an_archive_cut_short_at_any_place_is_damaged(archive: Archive) -> None:
    content = pack(archive)
    inner_ends = [found.end() + 18 for found in re.finditer(b"PK\x05\x06", content)]
    assert len(inner_ends) > 3, "no array file inside whose end could be taken for the archive's"
    for end in {*range(200, len(content), 997), *inner_ends[:-1], *(one + 40 for one in inner_ends[:-1])}:
        assert "is damaged" in refused(content[:end]), end


CLUTTER = {
    "__MACOSX/._manifest.json": b"\0",
    "__MACOSX/runs/._a.npz": b"\0",
    ".DS_Store": b"\0",
    "runs/.DS_Store": b"\0",
    "runs/Thumbs.db": b"\0",
    "desktop.ini": b"[.ShellClassInfo]",
    "Desktop.ini": b"",
    ".Spotlight-V100/Store/x": b"",
    "#recycle/old.npz": b"",
    "runs/": b"",
}


@pytest.mark.parametrize("outer", ["", "runs of slim/", "a/b/"])
def test_what_a_file_manager_adds_is_skipped(archive: Archive, outer: str) -> None:
    members = dict(reversed(members_of(pack(archive)).items()))
    folders = {outer: b""} if outer else {}
    content = {f"{outer}{name}": content for name, content in {**members, **CLUTTER}.items()}
    assert unpack(zipped((folders | content | {"__MACOSX/._x": b""}).items())) == archive


@pytest.mark.parametrize("rename", [lambda name: f"./{name}", lambda name: "runs\\" + name.replace("/", "\\")])
def test_names_as_other_programs_write_them_are_those_of_zip_files(
    archive: Archive, rename: Callable[[str], str]
) -> None:
    assert unpack(zipped({rename(name): one for name, one in members_of(pack(archive)).items()}.items())) == archive


def test_whatever_name_a_metric_or_a_setting_may_have_travels(archive: Archive) -> None:
    first, *others = archive.records
    names = {"val/accuracy": 0.5, "top 5: recall": 0.25, "genauigkeit_für_ä": 1.0}
    told = first.model_copy(
        update={"metrics": first.metrics | names, "settings": {**first.settings, "größe": 3}, "history": {}}
    )
    again = unpack(pack(dataclasses.replace(archive, records=(told, *others))))
    assert told in again.records


def test_an_archive_in_a_zip_file_is_told(archive: Archive) -> None:
    assert "holds another zip file, 'runs.zip'; unpack it first" in refused(
        zipped({"runs.zip": pack(archive)}.items())
    )


@pytest.mark.parametrize("stray", ["notes.txt", f"runs/{'a' * 64}/a.npz", "b/manifest.json"])
def test_what_lies_beside_the_folder_of_an_archive_is_refused(archive: Archive, stray: str) -> None:
    members = {f"a/{name}": content for name, content in members_of(pack(archive)).items()}
    assert f"has a member {stray!a}, which" in refused(zipped({**members, stray: b""}.items()))


@pytest.mark.parametrize("outer", ["../", "/", "a/../", "a//"])
def test_a_folder_that_leads_out_is_none_of_an_archive(archive: Archive, outer: str) -> None:
    members = {f"{outer}{name}": content for name, content in members_of(pack(archive)).items()}
    assert "which no archive of runs has" in refused(zipped(members.items()))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_given_twice_is_refused(archive: Archive) -> None:
    members = members_of(pack(archive))
    assert "two members" in refused(zipped([*members.items(), (RECORDS, b"")]))


@pytest.mark.parametrize("kind", [RECORDS, "predictions.npz"])
def test_a_corrupted_member_is_refused(archive: Archive, kind: str) -> None:
    members = members_of(pack(archive))
    name = next(name for name in members if name.endswith(kind))
    members[name] = members[name][:-3] + b"bad"
    assert f"`{name}` is damaged" in refused(zipped(members.items()))


@pytest.mark.parametrize("missing", [RECORDS, "predictions.npz"])
def test_a_missing_member_is_refused(archive: Archive, missing: str) -> None:
    members = members_of(pack(archive))
    name = next(name for name in members if name.endswith(missing))
    assert "both in the file and in its manifest" in refused(zipped((n, c) for n, c in members.items() if n != name))


def test_every_flipped_byte_is_refused_or_changes_nothing(archive: Archive) -> None:
    small = Archive(archive.study, archive.records[:1], {})
    content = bytearray(pack(small))
    for position in range(len(content)):
        content[position] ^= 0x41
        with contextlib.suppress(ArchiveError):
            assert unpack(bytes(content)) == small, position
        content[position] ^= 0x41


def test_every_cut_is_refused(archive: Archive) -> None:
    content = pack(archive)
    for end in range(0, len(content), 997):
        refused(content[:end])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"seed": "three"}, "`seed`"),
        ({"phase": "rest"}, "`phase`"),
        ({"metrics": {"test.accuracy": "high"}}, "`metrics.test.accuracy`"),
        ({"identity": {}}, "`identity.settings`"),
        ({"run_key": "../../" + "a" * 58}, "no SHA-256"),
        ({"run_id": "a' OR tags.x != '"}, "no name"),
        ({"study": "../x"}, "no name"),
        ({"arm": "a`b"}, "no name"),
        ({"metrics": {"a\nb": 1.0}}, "no name"),
        ({"ended": "yesterday"}, "no time"),
        ({"settings": {"a b": 1}}, "no name"),
        ({"settings": 1}, "`settings`"),
    ],
)
def test_a_record_that_is_none_is_refused(archive: Archive, changes: dict[str, Any], complaint: str) -> None:
    told = refused(with_record(archive, **changes))
    assert told.startswith(f"`{RECORDS}`, line 1: not ")
    assert complaint in told


def test_a_line_that_is_no_json_is_refused(archive: Archive) -> None:
    assert "line 2: not a record" in refused(forged(archive, {RECORDS: pack_lines(archive)[0] + b"\n{\n"}))


@pytest.mark.parametrize("lines", [[0], [*range(RUNS), 0]])
def test_records_that_do_not_add_up_are_refused(archive: Archive, lines: list[int]) -> None:
    written = pack_lines(archive)
    assert "different runs" in refused(forged(archive, {RECORDS: b"\n".join(written[at] for at in lines)}))


def test_files_of_no_run_are_refused(archive: Archive) -> None:
    assert "belongs to no run" in refused(forged(archive, {f"runs/{'a' * 64}/predictions.npz": npz()}))


class Trap:
    """What unpickles with an effect."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path("sprung").mkdir, ()  # type: ignore[return-value]


@pytest.mark.parametrize(
    "content",
    [
        npz(np.array([Trap()], dtype=object)),
        npz(np.zeros(3, dtype=[("a", object)])),
        npz(np.zeros(9))[:-9],
        zipped([("a.npy", b"\x80\x04.")]),
        zipped(
            [("a.npy", b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (10**15,), }")]
        ),
        zipped([("a.npy", b"\x93NUMPY\x09\x00")]),
        b"text",
    ],
    ids=["object", "fields", "cut", "pickle", "header", "version", "text"],
)
def test_anything_but_plain_arrays_is_refused(
    archive: Archive, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"runs/{archive.records[0].run_key}/predictions.npz"
    assert refused(forged(archive, {name: content})).startswith(f"`{name}` ")
    assert list(tmp_path.iterdir()) == []


def test_an_array_larger_than_its_file_is_refused(archive: Archive) -> None:
    huge = npz(np.zeros(8)).replace(b"'shape': (8,), }      ", b"'shape': (8000000,), }")
    name = f"runs/{archive.records[0].run_key}/predictions.npz"
    assert name in refused(forged(archive, {name: huge}))


def test_a_bomb_is_refused(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_bench.tracking.zipped.MOST_BYTES", 1 << 20)
    assert "unpack to more than" in refused(zipped([(RECORDS, bytes(2 << 20))]))


# The command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "corrupted"])
def test_a_bad_file_is_two_and_leaves_no_store(
    archive: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    file = tmp_path / "runs.zip"
    if kind == "folder":
        file.mkdir()
    if kind in ("text", "corrupted"):
        file.write_bytes(b"text" if kind == "text" else with_record(archive, seed="three"))
    code = call("import", file, "--root", tmp_path / "root")
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith(f"stn-bench: {file}: ")
    assert err.endswith("; nothing was imported\n")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "root").exists()


def test_an_archive_is_written_whole_or_not_at_all(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "runs.zip").mkdir()
    with pytest.raises(ArchiveError, match=r"runs\.zip: cannot be written"):
        write_archive(tmp_path / "runs.zip", archive)
    assert [path.name for path in tmp_path.iterdir()] == ["runs.zip"]
    shutil.rmtree(tmp_path / "runs.zip")
    size = write_archive(tmp_path / "runs.zip", archive)
    assert (tmp_path / "runs.zip").stat().st_size == size


def arrays(**those: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **those)
    return file.getvalue()


PLACES = [
    "a.txt",
    "._a.txt",
    "figures/.DS_Store",
    "figures/a.png",
    "../a",
    "con.txt",
    RECORD,
    "a" * 300,
    "a/b",
    "a\nb",
]
KEPT = [
    *((place, b"text") for place in PLACES),
    ("plain.npz", arrays(x=np.ones(3))),
    ("ragged.npz", arrays(x=np.array([[1], [1, 2]], dtype=object))),
    ("no.npz", b"text"),
]


@pytest.mark.parametrize(("name", "content"), KEPT)
def test_an_archive_may_hold_what_import_takes(name: str, content: bytes, archive: Archive) -> None:
    """The oracle is `unpack` itself: one file that it refuses would keep all runs of the archive out."""
    record = archive.records[0]
    some = Archive(archive.study, (record,), {record.run_key: {name: content}}, TRAINED)
    try:
        is_taken = unpack(pack(some)) == some
    except ArchiveError:
        is_taken = False
    assert may_hold(record.run_key, name, content) == is_taken


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"method,seed,acc\nbase,1,0.5\n", "is text, and no archive of runs; judge a table by `stn-bench judge FILE`"),
        ("method,seed,acc\n".encode("utf-16"), "is text, and no archive of runs; judge a table by"),
        (zipped([("a/results.csv", b"method,seed,acc\n")]), "unpack it, and judge a table in it by `stn-bench judge`"),
        (gzip.compress(b"method,seed,acc\n", mtime=0), "is compressed by gzip; unpack it first"),
        (zipped([("[Content_Types].xml", b"")]), "is a workbook of a spreadsheet; save its sheet as CSV"),
        (b"SQLite format 3\0", "is a database of SQLite; read one of MLflow's by `stn-bench judge --mlflow"),
        (b"", "is damaged, or not a zip file"),
        (b"\x89PNG\r\n", "is damaged, or not a zip file"),
    ],
)
def test_what_is_no_archive_is_told_with_what_to_do(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "runs.zip").write_bytes(content)
    with pytest.raises(ArchiveError) as caught:
        read_archive(tmp_path / "runs.zip")
    assert said in str(caught.value)
    assert str(caught.value).endswith("; nothing was imported")


def test_a_target_is_new_empty_or_of_its_kind(archive: Archive, tmp_path: Path) -> None:
    path = tmp_path / "runs.zip"
    check_target(path, KIND)
    path.touch()
    check_target(path, KIND)
    write_archive(path, archive)
    check_target(path, KIND)
    with pytest.raises(ArchiveError, match="is there already"):
        check_target(path, TRAINED)
