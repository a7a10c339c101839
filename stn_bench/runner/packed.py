"""A packed study: the runs that it wants, with all that it takes to train them where no store is reached.

    manifest.json    what the file is, the versions that it was packed with, and the SHA-256 of every other member
    jobs.jsonl       one job a line: what to train, and all that its run key is taken from
    root/…           files as they lie under the root: the study, the code of the user's, data that cannot be made anew

The same jobs and files give the same bytes. A file may come from anywhere: all of it is checked before any of it is
written or run.
"""

from __future__ import annotations

import hashlib
import math
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stn_bench.settings import canonical, explain
from stn_bench.study.plan import RunSpec
from stn_bench.system.errors import ArchiveError, MachineError
from stn_bench.system.machine import package_version
from stn_bench.system.text import hidden_in, is_metric_name, is_name, shorten
from stn_bench.tracking.identity import Identity
from stn_bench.tracking.zipped import (
    MANIFEST,
    check_digests,
    digests_of,
    read_manifest,
    read_zip,
    stranger,
    unzip,
    without_clutter,
    zipped,
)

KIND = "stn-bench work"
FORMAT = 1
NOUN = "archive of work"
JOBS = "jobs.jsonl"
ROOT = "root/"
STORES, DATASETS = "mlruns/", "mlruns/datasets/"  # of what programs wrote under a root, data alone travel
PYTHON, OURS = "python", "stn-bench"
MISSING = "missing"
HARNESS = ("filelock", "numpy", "psutil", "pydantic", "typer")
"""What stn-bench itself takes to train a packed study, beside the libraries of its subject."""

SHOWN = 3  # versions that a refusal names before it counts the rest
DIGEST = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+!-]{0,99}")


class PackedJob(BaseModel):
    """A run that is wanted.

    Args:
        spec: what to train.
        identity: all that its run key is taken from, as it was where it was packed.
        metric: the metric that the study asks for.
        seconds: how long it takes, as far as it is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    spec: RunSpec
    identity: Identity
    metric: str
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)

    @property
    def run_key(self) -> str:
        """Its run key."""
        return self.identity.run_key


@dataclass(frozen=True)
class PackedStudy:
    """A study as it travels to a machine that reaches no store.

    Args:
        study: its name.
        subject: what it studies.
        jobs: the runs that it wants, by run key.
        versions: Python's, ours, and those of the libraries that are in the run keys.
        files: path under the root -> content.
        digest: SHA-256 of the file that it was read from, or "".
    """

    study: str
    subject: str
    jobs: tuple[PackedJob, ...]
    versions: Mapping[str, str]
    files: Mapping[str, bytes]
    digest: str = ""


class WorkManifest(BaseModel):
    """The first member of a packed study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    format: int
    study: str
    subject: str
    jobs: int
    versions: dict[str, str]
    members: dict[str, str]


def zip_study(packed: PackedStudy) -> bytes:
    """Return a packed study as the bytes of a zip file."""
    members = {f"{ROOT}{path}": content for path, content in packed.files.items()}
    members[JOBS] = "".join(f"{job.model_dump_json()}\n" for job in packed.jobs).encode()
    manifest = WorkManifest(
        kind=KIND,
        format=FORMAT,
        study=packed.study,
        subject=packed.subject,
        jobs=len(packed.jobs),
        versions=dict(sorted(packed.versions.items())),
        members=digests_of(members),
    )
    return zipped(members, manifest)


def read_packed(path: Path) -> PackedStudy:
    """Return the packed study in a file, all of it checked.

    Raises:
        ArchiveError: if the file cannot be read, is none, is damaged, or holds what none should.
    """
    try:
        return unzip_study(read_zip(path, "stn-bench pack STUDY FILE"))
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}; nothing of it was run") from None


def unzip_study(content: bytes) -> PackedStudy:
    """Return the packed study in the bytes of a zip file, all of it checked.

    Raises:
        ArchiveError: if the bytes are none, are damaged, or hold what none should.
    """
    members = without_clutter(unzip(content), NOUN)
    manifest = read_manifest(members.pop(MANIFEST, b""), WorkManifest, {KIND: FORMAT}, NOUN)
    for name in members:
        place = name.removeprefix(ROOT)
        if name != JOBS and (place == name or (place.startswith(STORES) and not place.startswith(DATASETS))):
            raise stranger(name, NOUN)
    check_digests(members, manifest.members, [JOBS])
    _check_words(manifest)
    jobs = tuple(_jobs(members.pop(JOBS), manifest.study))
    different = len({job.run_key for job in jobs})
    if not different == len(jobs) == manifest.jobs:
        raise ArchiveError(f"`{JOBS}` holds {different} different jobs, the manifest says {manifest.jobs}")
    files = {name.removeprefix(ROOT): held for name, held in members.items()}
    digest = hashlib.sha256(content).hexdigest()
    return PackedStudy(manifest.study, manifest.subject, jobs, manifest.versions, files, digest)


def _check_words(manifest: WorkManifest) -> None:
    if not is_name(manifest.study):
        raise ArchiveError(f"`{MANIFEST}` is not ours ({manifest.study!a} is no name)")
    parts = manifest.subject.replace(":", ".").split(".")
    if manifest.subject.count(":") > 1 or not all(map(str.isidentifier, parts)):
        raise ArchiveError(f"`{MANIFEST}` is not ours ({manifest.subject!a} is no subject)")
    for name, version in manifest.versions.items():
        if not VERSION.fullmatch(name) or not VERSION.fullmatch(version):
            raise ArchiveError(f"`{MANIFEST}` is not ours ({name!a} {version!a} is no version of a library)")


def _jobs(content: bytes, study: str) -> Iterator[PackedJob]:
    shared: dict[str, Mapping[str, object]] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"`{JOBS}`, line {number}"
        try:
            job = PackedJob.model_validate_json(line)
        except ValidationError as error:
            raise ArchiveError(f"{where}: not a job ({explain(error)})") from None
        for complaint in _complaints(job, study):
            raise ArchiveError(f"{where}: not a job ({complaint})")
        settings = shared.setdefault(canonical(job.spec.settings), job.spec.settings)  # what seeds share is one value
        yield job.model_copy(update={"spec": _with_settings(job.spec, settings)})


def _with_settings(spec: RunSpec, settings: Mapping[str, object]) -> RunSpec:
    return RunSpec(**{**vars(spec), "settings": settings})


def _complaints(job: PackedJob, study: str) -> Iterator[str]:
    spec = job.spec
    for name in (spec.study, spec.ablation, spec.arm):
        if not is_name(name):
            yield f"{name!a} is no name"
    if job.identity.dataset and not DIGEST.fullmatch(job.identity.dataset):
        yield f"{job.identity.dataset!a} is no SHA-256"
    if job.metric and not is_metric_name(job.metric):
        yield f"{job.metric!a} is no name of a metric"
    if spec.study != study:
        yield f"it is one of study {spec.study!a}"
    if spec.seed != job.identity.seed or job.identity.start:
        yield "its run key is another run's"
    if character := hidden_in(job.model_dump(mode="json")):
        yield f"holds the character U+{ord(character):04X}, which no text of a job needs"


# Versions --------------------------------------------------------------------------------------------------------


def versions_of(jobs: Iterable[PackedJob]) -> dict[str, str]:
    """Return the versions of Python, of ours and of all libraries that are in the run keys of jobs."""
    libraries = {name: version for job in jobs for name, version in job.identity.libraries.items()}
    return libraries | {PYTHON: _python(), OURS: package_version(OURS) or MISSING}


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def check_versions(versions: Mapping[str, str]) -> None:
    """Check that this machine has the versions that a study was packed with. Nothing of the study is run for it.

    Raises:
        MachineError: if it has others.
    """
    here = {name: _python() if name == PYTHON else package_version(name) or MISSING for name in versions}
    others = [f"{name} {here[name]} instead of {versions[name]}" for name in versions if here[name] != versions[name]]
    if others:
        told = ", ".join(others[:SHOWN]) + (f" and {len(others) - SHOWN} more" if len(others) > SHOWN else "")
        raise MachineError(
            f"other versions than the study was packed with: {shorten(told)}; another version is another run. Install "
            f"those, or pack the study with these"
        )


def installed_by(versions: Mapping[str, str]) -> str:
    """Return what has to be there to train a packed study, as commands for a person."""
    libraries = [f"{name}=={version}" for name, version in sorted(versions.items()) if name not in (PYTHON, OURS)]
    own = [name for name in HARNESS if name not in versions]
    ours = f"{OURS} {versions[OURS]}, in its checkout: pip install --no-deps ."
    return f"Python {versions[PYTHON]}; {ours}; pip install {' '.join([*own, *libraries])}"


# Shards ----------------------------------------------------------------------------------------------------------


def shard(jobs: Sequence[PackedJob], number: int, count: int) -> tuple[PackedJob, ...]:
    """Return one of `count` parts of jobs, from 1: the same on every machine, with about the same work in each.

    Each job goes to the part with the least work so far, the longest first; where nothing tells how long one takes, it
    counts as long as the mean of the others.
    """
    known = [job.seconds for job in jobs if job.seconds is not None]
    usual = math.fsum(known) / len(known) if known else 1.0
    took = {job.run_key: usual if job.seconds is None else job.seconds for job in jobs}
    work, own = [0.0] * count, []
    for job in sorted(jobs, key=lambda job: (-took[job.run_key], job.run_key)):
        least = min(range(count), key=lambda part: work[part])
        work[least] += took[job.run_key]
        if least == number - 1:
            own.append(job)
    return tuple(sorted(own, key=lambda job: job.run_key))
