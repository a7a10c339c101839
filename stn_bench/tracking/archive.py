"""An archive: the finished runs of a study in one zip file, which another store can take in.

    manifest.json            what the file is, and the SHA-256 of every other member
    records.jsonl            one record a line
    runs/RUN_KEY/NAME.npz    what a run keeps beside its record: its predictions, and what the report reads

The same runs give the same bytes, whichever store they lie in. An archive may come from anywhere: all of it is checked
before any of it is written to a store, and nothing in it is ever run.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from stn_bench.settings import explain
from stn_bench.subject import EXAMPLES, DataNote, Subject, find_subject, is_shipped
from stn_bench.system.errors import ArchiveError, ConfigError, StnBenchError, StoreError
from stn_bench.system.files import is_clutter, write_whole
from stn_bench.system.text import hidden_in, is_metric_name, is_name, quote
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import RunRecord, arm_note, arm_tags, run_name, run_note, run_tags
from stn_bench.tracking.results import Results
from stn_bench.tracking.store import ImportedRun

KIND = "stn-bench runs"
FORMAT = 1
MANIFEST = "manifest.json"
RECORDS = "records.jsonl"
NAME = re.compile(r"[A-Za-z0-9_]{1,100}\.npz")
FILE = re.compile(rf"runs/([0-9a-f]{{64}})/({NAME.pattern})")  # arrays alone: they can be checked
TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")  # of what else MLflow is asked for: settings, ids
DIGEST = re.compile(r"[0-9a-f]{64}")
CUT = "is damaged: it was cut short; copy or download it again"
MOST_BYTES = 1 << 30  # of a zip file, packed and unpacked
DAWN = (1980, 1, 1, 0, 0, 0)  # the time of every member; a zip file knows no earlier one
UNIX, RIGHTS = 3, 0o644 << 16
ARRAY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Archive:
    """The runs of a study that have ended, crashed ones too: whoever reads the report elsewhere must see them.

    Args:
        study: the study that uses them; some may have been trained for another.
        records: their records, by run key.
        files: run key -> name of an artifact -> its bytes.
    """

    study: str
    records: tuple[RunRecord, ...]
    files: Mapping[str, Mapping[str, bytes]]


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
    check_home(path)
    content = pack(archive)
    try:
        write_whole(path, content)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be written ({error.strerror or error})") from None
    return len(content)


def check_home(path: Path) -> None:
    """Check that the folder of a file is there: one that is made for a misspelt path is not found again.

    Raises:
        ArchiveError: if it is not.
    """
    if not path.expanduser().absolute().parent.is_dir():
        raise ArchiveError(f"{path.parent}: no such folder; make it first, or name another")


def pack(archive: Archive) -> bytes:
    """Return an archive as the bytes of a zip file: the same bytes for the same runs."""
    members = {RECORDS: "".join(f"{record.model_dump_json()}\n" for record in archive.records).encode()}
    for key, files in archive.files.items():
        members |= {f"runs/{key}/{name}": content for name, content in files.items()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(members.items())}
    manifest = Manifest(kind=KIND, format=FORMAT, study=archive.study, runs=len(archive.records), members=digests)
    members[MANIFEST] = f"{manifest.model_dump_json(indent=1)}\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in (MANIFEST, *digests):
            file.writestr(_member(name), members[name], compresslevel=9)
    return buffer.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, DAWN)
    info.compress_type = zipfile.ZIP_STORED if name.endswith(".npz") else zipfile.ZIP_DEFLATED
    info.create_system, info.external_attr = UNIX, RIGHTS
    return info


# From a file -----------------------------------------------------------------------------------------------------


def read_archive(path: Path) -> Archive:
    """Return the archive in a file, all of it checked.

    Raises:
        ArchiveError: if the file cannot be read, is not an archive, is damaged, or holds what no archive should.
    """
    try:
        return unpack(_read(path))
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}; nothing was imported") from None


def unpack(content: bytes) -> Archive:
    """Return the archive in the bytes of a zip file, all of it checked.

    Raises:
        ArchiveError: if the bytes are not an archive, are damaged, or hold what no archive should.
    """
    members = _without_clutter(_unzip(content))
    for name in members:
        if name not in (MANIFEST, RECORDS) and not FILE.fullmatch(name):
            raise _stranger(name)
    manifest = _manifest(members.pop(MANIFEST, b""))
    _check_digests(members, manifest.members)
    records = tuple(_records(members.pop(RECORDS)))
    keys = {record.run_key for record in records}
    if not len(keys) == len(records) == manifest.runs:
        raise ArchiveError(f"`{RECORDS}` holds {len(keys)} different runs, the manifest says {manifest.runs}")
    return Archive(manifest.study, records, _files(members, keys))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ArchiveError(f"is larger than {MOST_BYTES >> 20} MiB")
        return path.read_bytes()
    except FileNotFoundError:
        raise ArchiveError("no such file (`stn-bench export STUDY FILE` writes one)") from None
    except OSError as error:
        raise ArchiveError(f"cannot be read ({error.strerror or error})") from None


def _unzip(content: bytes) -> dict[str, bytes]:
    """Return the members of a zip file by name; their checksums are compared on the way."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = file.infolist()
            if min((member.header_offset for member in members), default=0):
                raise ArchiveError(CUT)  # what was found is the end of a file inside this one
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise ArchiveError(f"would unpack to more than {MOST_BYTES >> 20} MiB")
            found = {_slashed(member.filename): file.read(member) for member in members}
            if len(found) < len(members):
                raise ArchiveError("has two members of one name")
            return found
    except StnBenchError:
        raise
    except Exception as error:  # a damaged zip file makes Python raise almost anything
        raise ArchiveError(f"is damaged, or not a zip file ({_first_line(error)})") from None


def _slashed(name: str) -> str:
    """Return the name of a member as zip files should have it: some programs write backslashes, or `./` before it."""
    return name.replace("\\", "/").removeprefix("./")


def _without_clutter(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the members of an archive that a file manager may have zipped again: in a folder, with files of its own.

    What is left is checked as strictly as if no file manager had touched it.
    """
    paths = {name: name.split("/") for name in members}
    ours = [name for name, parts in paths.items() if parts[-1] and not any(map(is_clutter, parts))]
    manifest = min((name for name in ours if paths[name][-1] == MANIFEST), key=len, default=MANIFEST)
    outer = manifest.removesuffix(MANIFEST)
    if {"", ".", ".."} & set(outer.split("/")[:-1]):
        outer = ""
    for name in ours:
        if len(ours) == 1 and name.casefold().endswith(".zip"):
            raise ArchiveError(f"holds another zip file, {name!a}; unpack it first, and import that one")
        if not name.startswith(outer):
            raise _stranger(name)
    return {name.removeprefix(outer): members[name] for name in ours}


def _stranger(name: str) -> ArchiveError:
    return ArchiveError(f"has a member {name!a}, which no archive of runs has")


def _manifest(content: bytes) -> Manifest:
    tree = _tree(content)
    if tree.get("kind") != KIND:
        raise ArchiveError("is a zip file, but not an archive of runs")
    if tree.get("format") != FORMAT:
        received = quote(tree.get("format"))
        raise ArchiveError(f"has format {received}, and this stn-bench reads {FORMAT}; try a newer one")
    try:
        manifest = Manifest.model_validate(tree)
    except ValidationError as error:
        raise ArchiveError(f"`{MANIFEST}` is not ours ({explain(error)})") from None
    if not is_name(manifest.study):
        raise ArchiveError(f"`{MANIFEST}` is not ours ({manifest.study!a} is no name)")
    return manifest


def _tree(content: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _check_digests(members: Mapping[str, bytes], digests: Mapping[str, str]) -> None:
    for name in sorted({RECORDS, *members, *digests}):
        if name not in members or name not in digests:
            raise ArchiveError(f"{name!a} must be both in the file and in its manifest")
        if hashlib.sha256(members[name]).hexdigest() != digests[name]:
            raise ArchiveError(f"`{name}` is damaged: its SHA-256 is not the one in the manifest")


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
        _, key, name = member.split("/")
        if key not in keys:
            raise ArchiveError(f"`{member}` belongs to no run")
        _check_arrays(member, content)
        files.setdefault(key, {})[name] = content
    return files


def _check_arrays(member: str, content: bytes) -> None:
    """Check that a file holds plain arrays: whoever opens it later, in whatever way, must run no pickle."""
    try:
        for array in _unzip(content).values():
            _check_array(array)
    except ArchiveError as error:
        raise ArchiveError(f"`{member}` {error}") from None


def _check_array(content: bytes) -> None:
    file = io.BytesIO(content)
    try:
        shape, _, dtype = ARRAY_HEADERS[np.lib.format.read_magic(file)](file)
        size = math.prod(shape) * dtype.itemsize
    except Exception as error:  # here too
        raise ArchiveError(f"does not hold arrays ({_first_line(error)})") from None
    if dtype.hasobject or size != len(content) - file.tell():
        raise ArchiveError("does not hold plain arrays")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


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
    for done, record in enumerate(missing, start=1):
        arm = (record.study, record.label)
        if arm not in arms:
            arms[arm] = _open_arm(record, tracking)
        tracking.import_run(*arms[arm], _imported(record, archive.files.get(record.run_key, {})))
        on_run(done, len(missing))
    return Merged(len(missing), len(archive.records) - len(missing))


def _missing(archive: Archive, tracking: Tracking) -> list[RunRecord]:
    """Return the records that the store lacks, the oldest first.

    A run that crashed there does not keep out one that finished elsewhere.
    """
    finished = {run.run_key for run in tracking.finished()}
    studies = {record.study for record in archive.records}
    crashed = {run.run_key for study in studies for run in tracking.crashed(study)}
    return [
        record
        for record in sorted(archive.records, key=lambda record: (record.started, record.run_key))
        if record.run_key not in (finished | crashed if record.outcome == "crashed" else finished)
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
