"""An archive: the finished runs of a study in one zip file, which another store can take in.

    manifest.json            what the file is, and the SHA-256 of every other member
    records.jsonl            one record a line
    runs/RUN_KEY/NAME.npz    what a run keeps beside its record: its predictions, and what the report reads

What `stn-bench work` trained is such an archive too; it holds whatever its runs kept, the files of models among it.
The same runs give the same bytes, whichever store they lie in. An archive may come from anywhere: all of it is checked
before any of it is written to a store, and nothing in it is ever run.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from stn_bench.settings import explain
from stn_bench.subject import EXAMPLES, DataNote, Subject, find_subject, is_shipped
from stn_bench.system.errors import ArchiveError, ConfigError, StoreError
from stn_bench.system.files import is_clutter, table_text
from stn_bench.system.text import hidden_in, is_metric_name, is_name, printable
from stn_bench.tracking.record import RECORD, RunRecord, arm_note, arm_tags, run_name, run_note, run_tags
from stn_bench.tracking.results import Results
from stn_bench.tracking.sheet_text import no_text
from stn_bench.tracking.store import ImportedRun
from stn_bench.tracking.zipped import (
    MANIFEST,
    check_digests,
    digests_of,
    first_line,
    is_place,
    read_manifest,
    read_zip,
    stranger,
    unzip,
    without_clutter,
    write_zip,
    zipped,
)

if TYPE_CHECKING:
    from stn_bench.tracking.mlflow import Tracking

KIND = "stn-bench runs"
TRAINED = "stn-bench results"
FORMAT = 1
NOUN = "archive of runs"
RECORDS = "records.jsonl"
TABLES = (".csv", ".tsv")
NAME = re.compile(r"[A-Za-z0-9_]{1,100}\.npz")
FILE = re.compile(rf"runs/([0-9a-f]{{64}})/({NAME.pattern})")  # arrays alone: they can be checked
KEPT = re.compile(r"runs/[0-9a-f]{64}/(.+)", re.DOTALL)
TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")  # of what else MLflow is asked for: settings, ids
DIGEST = re.compile(r"[0-9a-f]{64}")
ARRAY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Archive:
    """The runs of a study that have ended, crashed ones too: whoever reads the report elsewhere must see them.

    Args:
        study: the study that uses them; some may have been trained for another.
        records: their records, by run key.
        files: run key -> name of an artifact -> its bytes.
        kind: KIND, of exported runs, or TRAINED, of those that `stn-bench work` trained.
    """

    study: str
    records: tuple[RunRecord, ...]
    files: Mapping[str, Mapping[str, bytes]]
    kind: str = KIND


class Manifest(BaseModel):
    """The first member of an archive: what the file is, and the digests of all that is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    format: int
    study: str
    runs: int
    members: dict[str, str]


@dataclass(frozen=True)
class Merged:
    """The result of an import: the number of written runs, and of runs that the store had already."""

    written: int
    present: int


# From a store to a file ------------------------------------------------------------------------------------------


Artifact = Callable[[str, str], Path]
"""(run id, path) -> local path of an artifact of a run."""


def collect(results: Results, artifact: Artifact, read: Callable[[Artifact], object]) -> Archive:
    """Return the runs of a study, with the artifacts that its report reads and the files of its subject that travel.

    Args:
        results: the study's results.
        artifact: where artifacts of runs are read.
        read: reads all that the study's report reads, by the function that it is given.

    Raises:
        ReportError: if nothing is finished yet.
        StoreError: if an artifact is missing.
    """
    ended = (*results.records, *results.crashed)
    records = {record.run_key: record for record in ended}
    keys = {record.run_id: record.run_key for record in ended}
    files: dict[str, dict[str, bytes]] = {}

    def keep(run_id: str, path: str) -> Path:
        if not NAME.fullmatch(path):
            raise ArchiveError(f"run {run_id}: its report reads `{path}`; an archive holds numpy's .npz files alone")
        local = artifact(run_id, path)
        files.setdefault(keys[run_id], {})[path] = local.read_bytes()
        return local

    read(keep)
    for record in records.values():
        if record.phase != "tune" and record.outcome == "finished":
            for name in results.plan.subject.travels:
                with contextlib.suppress(*(StoreError,) * (name == EXAMPLES)):  # a training need not tell of any
                    keep(record.run_id, name)
    return Archive(results.plan.study.name, tuple(records[key] for key in sorted(records)), files)


def write_archive(path: Path, archive: Archive) -> int:
    """Write an archive, whole or not at all, and return its size in bytes.

    Raises:
        ArchiveError: if the file cannot be written.
    """
    return write_zip(path, pack(archive))


def may_hold(run_key: str, name: str, content: bytes) -> bool:
    """Return whether an archive of results may hold a file that a run kept; for another, `unpack` refuses it whole."""
    member = f"runs/{run_key}/{name}"
    if not is_place(member) or any(map(is_clutter, name.split("/"))) or not _is_file(member, TRAINED):
        return False
    try:
        if name.endswith(".npz"):
            _check_arrays(member, content)
    except ArchiveError:
        return False
    return True


def pack(archive: Archive) -> bytes:
    """Return an archive as the bytes of a zip file: the same bytes for the same runs."""
    members = {RECORDS: "".join(f"{record.model_dump_json()}\n" for record in archive.records).encode()}
    for key, files in archive.files.items():
        members |= {f"runs/{key}/{name}": content for name, content in files.items()}
    count = len(archive.records)
    manifest = Manifest(kind=archive.kind, format=FORMAT, study=archive.study, runs=count, members=digests_of(members))
    return zipped(members, manifest)


# From a file -----------------------------------------------------------------------------------------------------


def read_archive(path: Path) -> Archive:
    """Return the archive in a file, all of it checked.

    Raises:
        ArchiveError: if the file cannot be read, is not an archive, is damaged, or holds what no archive should.
    """
    try:
        content = read_zip(path, "stn-bench export STUDY FILE")
        if told := _no_archive(content):
            raise ArchiveError(told)
        return unpack(content)
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}; nothing was imported") from None


def _no_archive(content: bytes) -> str:
    """Return what a file is that is no archive, by how it begins, and what to do; "" for one that may be."""
    told = no_text(content)
    if told.startswith("is a zip file") or not content:
        return ""
    if told:
        return told
    try:
        table_text(content)
    except UnicodeDecodeError:
        return ""
    return "is text, and no archive of runs; judge a table by `stn-bench judge FILE`"


def unpack(content: bytes) -> Archive:
    """Return the archive in the bytes of a zip file, all of it checked.

    Raises:
        ArchiveError: if the bytes are not an archive, are damaged, or hold what no archive should.
    """
    members = without_clutter(unzip(content), NOUN)
    if MANIFEST not in members and any(name.casefold().endswith(TABLES) for name in members):
        raise ArchiveError(
            f"is a zip file, but not an {NOUN}; unpack it, and judge a table in it by `stn-bench judge`"
        )
    manifest = _manifest(members.pop(MANIFEST, b""))
    for name in members:
        if name != RECORDS and not _is_file(name, manifest.kind):
            raise stranger(name, NOUN)
    check_digests(members, manifest.members, [RECORDS])
    records = tuple(_records(members.pop(RECORDS)))
    keys = {record.run_key for record in records}
    if not len(keys) == len(records) == manifest.runs:
        raise ArchiveError(f"`{RECORDS}` holds {len(keys)} different runs, the manifest says {manifest.runs}")
    return Archive(manifest.study, records, _files(members, keys), manifest.kind)


def _is_file(name: str, kind: str) -> bool:
    """Return whether a member may be a file of a run: arrays alone, but for what was trained from a packed study."""
    if kind == KIND:
        return FILE.fullmatch(name) is not None
    found = KEPT.fullmatch(name)
    return found is not None and found[1] != RECORD


def _manifest(content: bytes) -> Manifest:
    manifest = read_manifest(content, Manifest, dict.fromkeys((KIND, TRAINED), FORMAT), NOUN)
    if not is_name(manifest.study):
        raise ArchiveError(f"`{MANIFEST}` is not ours ({manifest.study!a} is no name)")
    return manifest


def _records(content: bytes) -> Iterator[RunRecord]:
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"`{RECORDS}`, line {number}"
        try:
            record = RunRecord.model_validate_json(line)
        except ValidationError as error:
            raise ArchiveError(f"{where}: not a record ({explain(error)})") from None
        for complaint in _complaints(record):
            raise ArchiveError(f"{where}: not a record ({complaint})")
        yield record


def _complaints(record: RunRecord) -> Iterator[str]:
    """Yield the faults that MLflow would refuse, after half of the archive is written."""
    for digest in (record.run_key, *filter(None, [record.identity.dataset])):
        if not DIGEST.fullmatch(digest):
            yield f"{digest!a} is no SHA-256"
    for name in (record.study, record.ablation, record.arm):
        if not is_name(name):
            yield f"{name!a} is no name"
    for name in (record.run_id, *record.settings):
        if not TERM.fullmatch(name) and not all(map(str.isidentifier, name.split("."))):
            yield f"{name!a} is no name"
    for name in (*record.metrics, *record.history):
        if not is_metric_name(name):
            yield f"{name!a} is no name of a metric"
    for moment in (record.started, record.ended):
        try:
            datetime.datetime.fromisoformat(moment).timestamp()
        except (ValueError, OverflowError):
            yield f"{moment!a} is no time"
    if character := hidden_in(record.model_dump(mode="json")):
        yield f"holds the character U+{ord(character):04X}, which no text of a record needs"


def _files(members: Mapping[str, bytes], keys: set[str]) -> dict[str, dict[str, bytes]]:
    files: dict[str, dict[str, bytes]] = {}
    for member, content in members.items():
        _, key, name = member.split("/", 2)
        if key not in keys:
            raise ArchiveError(f"`{printable(member)}` belongs to no run")
        if name.endswith(".npz"):
            _check_arrays(member, content)
        files.setdefault(key, {})[name] = content
    return files


def _check_arrays(member: str, content: bytes) -> None:
    """Check that a file holds plain arrays: whoever opens it later, in whatever way, must run no pickle."""
    try:
        for array in unzip(content).values():
            _check_array(array)
    except ArchiveError as error:
        raise ArchiveError(f"`{member}` {error}") from None


def _check_array(content: bytes) -> None:
    file = io.BytesIO(content)
    try:
        shape, _, dtype = ARRAY_HEADERS[np.lib.format.read_magic(file)](file)
        size = math.prod(shape) * dtype.itemsize
    except Exception as error:  # here too
        raise ArchiveError(f"does not hold arrays ({first_line(error)})") from None
    if dtype.hasobject or size != len(content) - file.tell():
        raise ArchiveError("does not hold plain arrays")


# To a store ------------------------------------------------------------------------------------------------------


def merge(
    archive: Archive, tracking: Tracking, on_run: Callable[[int, int], None] = lambda done, count: None
) -> Merged:
    """Write the runs of an archive that a store does not have yet. Stopped, it goes on when it is called again.

    Args:
        archive: the archive.
        tracking: the store.
        on_run: called with the number of runs written so far, and of those to write.

    Raises:
        StoreError: if the store cannot be reached.
    """
    missing = _missing(archive, tracking)
    arms: dict[tuple[str, str], tuple[str, str]] = {}
    late = 0
    for done, record in enumerate(missing, start=1):
        if tracking.finished_as(record.run_key, record.phase == "tune"):  # somebody has finished it since
            late += 1
            continue
        arm = (record.study, record.label)
        if arm not in arms:
            arms[arm] = _open_arm(record, tracking)
        tracking.import_run(*arms[arm], _imported(record, archive.files.get(record.run_key, {})))
        on_run(done, len(missing))
    written = len(missing) - late
    return Merged(written, len(archive.records) - written)


def _missing(archive: Archive, tracking: Tracking) -> list[RunRecord]:
    """Return the records that the store lacks, the oldest first.

    A run that crashed there does not keep out one that finished elsewhere, nor a tuning trial the run of a verdict.
    """
    finished = {(run.run_key, run.is_trial) for run in tracking.finished()}
    studies = {record.study for record in archive.records}
    crashed = {run.run_key for study in studies for run in tracking.crashed(study)}
    return [
        record
        for record in sorted(archive.records, key=lambda record: (record.started, record.run_key))
        if (record.run_key, record.phase == "tune") not in finished
        and not (record.outcome == "crashed" and record.run_key in crashed)
    ]


def _open_arm(record: RunRecord, tracking: Tracking) -> tuple[str, str]:
    """Return MLflow's ids of a run's study and of its arm; the arm is closed, since nothing is training it."""
    experiment = tracking.open_study(record.study)
    tags = arm_tags(record.study, record.ablation, record.arm)
    arm = tracking.open_arm(experiment, record.label, tags, arm_note(record))
    tracking.describe(arm, {}, {})
    return experiment, arm


def _imported(record: RunRecord, files: Mapping[str, bytes]) -> ImportedRun:
    subject = _shipped(record.subject)
    tags = run_tags(record, record.identity, subject.settings if subject else None)
    data: DataNote | None = None
    if subject and subject.describe:
        data = subject.describe(record.settings)
    return ImportedRun(record, run_name(record), tags, data, files, run_note(record, record.run_key))


def _shipped(name: str) -> Subject | None:
    """Return a subject that comes with stn-bench; None for any other: nothing that an archive names is ever run."""
    try:
        return find_subject(name) if is_shipped(name) else None
    except ConfigError:
        return None
