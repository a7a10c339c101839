"""A worker on another machine: where it works there, with which code, and whether that gives the planned runs."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stn_bench.subject import Lent, find_subject
from stn_bench.system.errors import MachineError, SubjectError
from stn_bench.system.format import counted
from stn_bench.tracking.identity import differences, identify

if TYPE_CHECKING:
    from stn_bench.runner.job import Job
    from stn_bench.runner.worker import Assignment
    from stn_bench.system.workspace import Workspace

Code = Mapping[str, bytes]
"""File of Python under a root -> its bytes."""

NO_CODE = ("mlruns", "reports", "node_modules", "__pycache__")
MOST_CODE = 20 * 1024 * 1024


def code_under(root: Path) -> Code:
    """Return the Python files under a root, but for hidden folders, environments, and what programs wrote.

    Raises:
        SubjectError: if they are too many to be sent along.
    """
    found: dict[str, bytes] = {}
    for folder, inner, files in os.walk(root):
        here = Path(folder)
        inner[:] = [one for one in inner if not _is_left_out(here / one)]
        found |= {
            (here / file).relative_to(root).as_posix(): (here / file).read_bytes()
            for file in files
            if file.endswith(".py")
        }
        if sum(map(len, found.values())) > MOST_CODE:
            raise SubjectError(
                f"{root}: holds over {MOST_CODE // 1024**2} MiB of Python files, too much to send to other machines; "
                f"give the study a root with its own code alone, or install that code on each node"
            )
    return found


def _is_left_out(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in NO_CODE or (folder / "pyvenv.cfg").exists()


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
    if folder.stat().st_uid != os.getuid():
        raise MachineError(f"{folder}: is another user's; set TMPDIR on this node to a folder of your own")
    for file, content in code.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.replace(path)
    return folder


def _moved(job: Job, workspace: Workspace) -> Job:
    return replace(
        job, checkpoints=workspace.checkpoints / job.identity.run_key, data=workspace.datasets, threads=job.threads
    )


def settle_in(assignment: Assignment, tell: Callable[[str, int, int], None] = lambda name, done, count: None) -> None:
    """Prepare the data of the jobs on this machine, and check that it would train the very runs that were planned.

    Raises:
        DataError: if the data cannot be had here.
        MachineError: if code, libraries or data of this machine are others.
    """
    arms = {job.spec.label: job for job in assignment.jobs.values()}
    for job in arms.values():
        subject = find_subject(job.subject)
        if subject.prepare:
            lent = Lent(assignment.workspace.datasets, assignment.threads, tell)
            subject.prepare([subject.read(one.spec.settings) for one in arms.values()], lent)
        break  # the jobs of a study have one subject
    for job in arms.values():
        _check(job, assignment.workspace)


def _check(job: Job, workspace: Workspace) -> None:
    subject, planned = find_subject(job.subject), job.identity
    settings = subject.read(job.spec.settings)
    dataset = subject.fingerprint(settings, workspace.datasets) if subject.fingerprint else planned.dataset
    here = identify(subject, job.spec.settings, job.spec.seed, dataset or "", planned.start)
    if here.run_key == planned.run_key:
        return
    first, *others = differences(planned, here)
    more = f" and {counted(len(others), 'other part')}" if others else ""
    raise MachineError(
        f"{socket.gethostname()}: would train another run than {job.name}: {first}{more}; give this machine the code "
        f"and library versions of the one that planned"
    )
