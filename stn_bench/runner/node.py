"""A worker on another machine: where it works there, with which code, and whether that gives the planned runs."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stn_bench.runner.data import prepare_data
from stn_bench.settings import canonical
from stn_bench.subject import Subject, find_subject
from stn_bench.system.errors import MachineError
from stn_bench.system.format import counted
from stn_bench.system.machine import Resources
from stn_bench.tracking.code import files_of, own_modules
from stn_bench.tracking.identity import differences, identify
from stn_bench.tracking.planned_code import PlannedCode
from stn_bench.tracking.results import fingerprint_of

if TYPE_CHECKING:
    from stn_bench.runner.job import Job
    from stn_bench.runner.worker import Assignment
    from stn_bench.system.workspace import Workspace

Code = Mapping[str, bytes]
"""File of the user's own code, as it lies under the root -> its bytes."""


def code_of(jobs: Iterable[Job], root: Path) -> Code:
    """Return the files under a root that jobs need: the user's own modules, and all that these import there."""
    settings: dict[str, dict[str, Mapping[str, Any]]] = {}
    for job in jobs:
        settings.setdefault(job.subject, {})[canonical(job.spec.settings)] = job.spec.settings
    modules = [one for name, some in settings.items() for one in own_modules(find_subject(name), some.values())]
    files = files_of(modules).values()
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files if file.is_relative_to(root)}


def at_home_here(assignment: Assignment, code: Code) -> Assignment:
    """Return an assignment as this machine can work on it: in its root, or in a folder of its own if that is not here.

    Raises:
        MachineError: if MLflow's artifacts would lie under a root that is not here.
    """
    workspace = assignment.workspace
    if workspace.root.is_dir():
        return assignment
    if not workspace.tracking.startswith("http"):
        raise MachineError(
            f"{socket.gethostname()}: has no folder {workspace.root}, where MLflow keeps artifacts; share it, or give "
            f"--tracking-uri the address of an MLflow server"
        )
    moved = replace(workspace, root=_own_root(workspace.root, code))
    jobs = {key: _moved(job, moved) for key, job in assignment.jobs.items()}
    return replace(assignment, workspace=moved, jobs=jobs)


def _own_root(root: Path, code: Code) -> Path:
    """Return a folder of this user on this machine for a root that lies elsewhere, with that root's code in it."""
    name = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"stn-bench-{getpass.getuser()}" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise MachineError(f"{folder}: is another user's; set TMPDIR on this node to a folder of your own")
    for file, content in code.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.replace(path)
    return folder


def _moved(job: Job, workspace: Workspace) -> Job:
    return replace(job, checkpoints=workspace.checkpoints / job.identity.run_key, data=workspace.datasets)


def settle_in(assignment: Assignment) -> None:
    """Make the data of the jobs on this machine, and check that it would train the very runs that were planned.

    Raises:
        DataError: if the data cannot be had here.
        MachineError: if code, libraries or data of this machine are others.
    """
    arms = {job.spec.label: job for job in assignment.jobs.values()}
    subject = find_subject(next(iter(arms.values())).subject)  # the jobs of a study have one
    settings = [subject.read(job.spec.settings) for job in arms.values()]
    resources = Resources(workers=assignment.threads, threads=1)
    prepare_data(subject, settings, assignment.workspace, resources, lambda name, done, count: None)
    for job in arms.values():
        _check(subject, job, assignment.workspace)


def code_here(assignment: Assignment) -> PlannedCode:
    """Return the user's own code as this machine has it, once it was found to be that of the planned runs."""
    settings = (job.spec.settings for job in assignment.jobs.values())
    subject = find_subject(next(iter(assignment.jobs.values())).subject)
    return PlannedCode.of(subject, settings, assignment.workspace.root)


def _check(subject: Subject, job: Job, workspace: Workspace) -> None:
    planned = job.identity
    dataset = fingerprint_of(job.spec.settings, subject, workspace.datasets)
    here = identify(subject, job.spec.settings, job.spec.seed, dataset or "", planned.start)
    if here.run_key == planned.run_key:
        return
    first, *others = differences(planned, here)
    more = f" and {counted(len(others), 'other part')}" if others else ""
    raise MachineError(
        f"{socket.gethostname()}: would train another run than {job.name}: {first}{more}; give this machine the code "
        f"and library versions of the one that planned"
    )
