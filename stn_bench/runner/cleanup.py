"""Cleanup: leftovers in the stores are found first, then shown, and only then removed.

Two independent rules protect a finished run's record, model and files: MLflow says that it is finished, and a folder
with a `record.json` is never a leftover, whatever MLflow says. Files in use are no leftovers either: their job is
leased in Optuna's store, or somebody wrote to them during the last day.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from stn_bench.runner.stores import open_queue, open_tracking
from stn_bench.study.plan import Phase, Plan, RunSpec
from stn_bench.study.spec import OUTSIDE
from stn_bench.subject import Subject, find_subject, shipped_subjects
from stn_bench.system.errors import MachineError
from stn_bench.system.workspace import Workspace, sqlite_file
from stn_bench.tracking.record import RECORD
from stn_bench.tracking.results import Keys
from stn_bench.tracking.store import StoredRun

DAY = 24 * 3600.0  # how long what nobody is known to need stays, for whoever stopped it may mean to go on
RUN_KEY = re.compile(r"[0-9a-f]{64}")
RUN_ID = re.compile(r"[0-9a-f]{32}")
PROCESS = re.compile(r"[.-](\d{1,9})\.(?:partial|log)$")


@dataclass(frozen=True)
class Holdings:
    """The state of the stores at the moment of looking.

    Args:
        workspace: where things are.
        plans: every study that can be planned here.
        tries: every run of the tracking store, deleted ones too.
        has_artifacts: whether the folder of artifacts is this store's; a server keeps its own.
        leased: run keys of jobs whose worker is not known to be dead.
    """

    workspace: Workspace
    plans: tuple[Plan, ...]
    tries: tuple[StoredRun, ...]
    has_artifacts: bool
    leased: frozenset[str]

    def has_record(self, run_id: str) -> bool:
        """Return whether a run has come to its end here, whatever MLflow says of it."""
        return (self.workspace.artifacts / run_id / "artifacts" / RECORD).exists()


@dataclass(frozen=True)
class Leftover:
    """A file or folder that may go.

    Args:
        kind: what it is, in words.
        path: where it lies.
        size: its bytes, all files of a folder together.
    """

    kind: str
    path: Path
    size: int


@contextmanager
def looking(workspace: Workspace, plans: Iterable[Plan]) -> Iterator[Holdings]:
    """Look into the stores that are there; until the block ends, nobody leases or ends a job.

    Raises:
        StoreError: if a store cannot be read: then nothing is known to be a leftover.
    """
    with ExitStack() as stack:
        leased: frozenset[str] = frozenset()
        file = sqlite_file(workspace.queue)
        if not file or file.exists():
            queue = open_queue(workspace)
            stack.enter_context(queue.planning())
            leased = queue.leased()
        tries = tuple(open_tracking(workspace).tries()) if workspace.has_tracking else ()
        is_ours = workspace.has_tracking and not workspace.tracking.startswith("http")
        yield Holdings(workspace, tuple(plans), tries, is_ours, leased)


def find_leftovers(held: Holdings) -> list[Leftover]:
    """Return what may go, kind by kind; nothing twice."""
    found: list[tuple[str, Iterable[Path]]] = [
        ("checkpoints of finished runs", _finished_checkpoints(held)),
        ("checkpoints of runs that no study plans", _unplanned_checkpoints(held)),
        ("files of tries that came to nothing", _dead_artifacts(held)),
        ("files of runs that MLflow does not know", _unknown_artifacts(held)),
        ("half-written files of dead processes", _partial_files(held)),
        ("logs of dead workers", (path for path in held.workspace.logs.glob("worker-*.log") if _is_abandoned(path))),
    ]
    kind_of = {path: kind for kind, paths in found for path in paths}
    return [
        Leftover(kind, path, _size(path)) for path, kind in kind_of.items() if not kind_of.keys() & {*path.parents}
    ]


def remove(leftovers: Iterable[Leftover]) -> None:
    """Remove what was found; a folder that has a record in it by now stays.

    Raises:
        MachineError: if the system does not allow it; what was removed until then stays removed.
    """
    for leftover in leftovers:
        try:
            if leftover.path.is_symlink() or not leftover.path.is_dir():
                leftover.path.unlink(missing_ok=True)
            elif not any(leftover.path.rglob(RECORD)):
                shutil.rmtree(leftover.path)
        except FileNotFoundError:
            continue  # somebody else was faster
        except OSError as error:
            raise MachineError(f"{leftover.path}: cannot be removed ({error.strerror}); see who owns it") from None


# Checkpoints -----------------------------------------------------------------------------------------------------


def _checkpoints(held: Holdings) -> list[Path]:
    """Return the checkpoints' folders, but for those of jobs that somebody works on."""
    return [path for path in _folders(held.workspace.checkpoints, RUN_KEY) if path.name not in held.leased]


def _finished_keys(held: Holdings) -> set[str]:
    return {one.run_key for one in held.tries if one.status == "FINISHED"}


def _finished_checkpoints(held: Holdings) -> list[Path]:
    finished = _finished_keys(held)
    return [path for path in _checkpoints(held) if path.name in finished]


def _unplanned_checkpoints(held: Holdings) -> list[Path]:
    """Return what no study plans today and nobody has trained on for a day: `run --set` and `train` are in no plan.

    What a study that has no file trained stays: it may be written in code, and nothing here tells what it plans.
    """
    known = {"", OUTSIDE, *(plan.study.name for plan in held.plans)}
    spared = _finished_keys(held) | {one.run_key for one in held.tries if one.study not in known}
    old = [path for path in _checkpoints(held) if path.name not in spared and _age(path) > DAY]
    planned = _planned_keys(held) if old else set()  # it takes seconds to tell
    return [path for path in old if path.name not in planned]


def _planned_keys(held: Holdings) -> set[str]:
    """Return the run keys of all jobs that a study may come to.

    Where its data are not there, a run key cannot be told: every try of the same settings, phase and seed is kept.
    """
    keys, unknown = set[str](), set[tuple[str, Phase, str]]()
    for plan in held.plans:
        known = Keys(plan.subject, held.workspace.datasets)
        for spec in _specs(plan):
            if found := known(spec):
                keys.update(found)
            else:
                unknown.add((known.settings(spec), spec.phase, str(spec.seed)))
    return keys | {one.run_key for one in held.tries if (one.settings, one.phase, one.seed) in unknown}


def _specs(plan: Plan) -> Iterator[RunSpec]:
    """Yield every run that a study may come to, whichever trial its tuning chooses."""
    for arm in plan.arms:
        tuning = arm.tuning_specs()
        yield from tuning
        for chosen in [trial.chosen for trial in tuning] or [{}]:
            yield from arm.verdict_specs(chosen)
            yield from arm.confirm_specs(chosen)


# Artifacts -------------------------------------------------------------------------------------------------------


def _dead_artifacts(held: Holdings) -> Iterator[Path]:
    """Yield what tries without a record had written: killed ones, and ones never closed that are silent for a day."""
    artifacts = held.workspace.artifacts
    for one in held.tries if held.has_artifacts else ():
        is_ours = one.run_key and one.run_key not in held.leased  # an arm, a report or a stranger's run has no key
        if not is_ours or one.status == "FINISHED" or held.has_record(one.run_id):
            continue
        for folder in (artifacts / one.run_id, *(artifacts / "models" / model for model in one.models)):
            if folder.is_dir() and (one.status != "RUNNING" or _age(folder) > DAY):
                yield folder


def _unknown_artifacts(held: Holdings) -> Iterator[Path]:
    """Yield what jobs wrote whose run is in no store any more, if it has no record and is a day old.

    Reports, and files of other programs, may be those of a second store that shares the folder: they stay.
    """
    known, ours = {one.run_id for one in held.tries}, _kept_names(held.plans)
    for folder in _folders(held.workspace.artifacts, RUN_ID) if held.has_artifacts else ():
        is_job = any((folder / "artifacts" / name).exists() for name in ours)
        if is_job and folder.name not in known and not held.has_record(folder.name) and _age(folder) > DAY:
            yield folder


def _kept_names(plans: Iterable[Plan]) -> frozenset[str]:
    """Return the names of files by which what a job wrote is known: those that a subject says its runs keep."""
    subjects: list[Subject] = [find_subject(name) for name in shipped_subjects()]
    subjects += [plan.subject for plan in plans]
    return frozenset(name for one in subjects for name in (*one.travels, one.start) if name)


# Files of dead processes -----------------------------------------------------------------------------------------


def _partial_files(held: Holdings) -> Iterator[Path]:
    """Yield what was never put in its place: checkpoints of jobs that nobody works on, data sets, reports."""
    workspace = held.workspace
    partial = [path for folder in _checkpoints(held) for path in folder.rglob("*.partial")]
    partial += [*workspace.datasets.glob("*.partial"), *(workspace.root / "reports").glob("**/.*.partial")]
    return (path for path in partial if _is_abandoned(path))


def _is_abandoned(path: Path) -> bool:
    """Whether no process here has the number in a file's name, and no process anywhere has written to it for a day."""
    process = PROCESS.search(path.name)
    return not (process and psutil.pid_exists(int(process[1]))) and _age(path) > DAY


# Sizes and ages --------------------------------------------------------------------------------------------------


def _folders(parent: Path, name: re.Pattern[str]) -> list[Path]:
    found = sorted(path for path in parent.glob("*") if name.fullmatch(path.name))
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _age(path: Path) -> float:
    """Return for how many seconds nothing in a folder, or in a file, was written."""
    return time.time() - max(_stat(one)[0] for one in (path, *path.rglob("*")))


def _size(path: Path) -> int:
    return sum(_stat(one)[1] for one in (path, *path.rglob("*")) if not one.is_dir())


def _stat(path: Path) -> tuple[float, int]:
    """Return when a file was last written, and its bytes; one that is gone by now is as young as can be."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return time.time(), 0
    return found.st_mtime, found.st_size
