"""What the stores hold that nobody needs any more: found first, shown, and only then removed.

A finished run's record, model and predictions are out of reach by two rules that do not rest on each other: MLflow
says that it is finished, and what lies beside a `record.json` is never a leftover, whatever MLflow says. What somebody
may be using is none either: its cell is claimed in Optuna's store, or somebody wrote to it during the last day.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from stn_bench.study.plan import Phase, Plan, RunSpec
from stn_bench.system.errors import MachineError
from stn_bench.system.workspace import Workspace, sqlite_file
from stn_bench.tracking.record import MODEL, PREDICTIONS, RECORD, settings_digest
from stn_bench.tracking.results import identity_of

if TYPE_CHECKING:
    from stn_bench.tracking.mlflow import StoredRun, Tracking

DAY = 24 * 3600.0  # how long what nobody is known to need stays, for whoever stopped it may mean to go on
RUN_KEY = re.compile(r"[0-9a-f]{64}")
RUN_ID = re.compile(r"[0-9a-f]{32}")
PROCESS = re.compile(r"[.-](\d{1,9})\.(?:partial|log)$")


@dataclass(frozen=True)
class Holdings:
    """What is known of the stores at the moment of looking.

    Args:
        workspace: where things are.
        plans: every study that can be planned here.
        tries: every run of the tracking store, deleted ones too.
        has_artifacts: whether the folder of artifacts is this store's; a server keeps its own.
        claimed: run keys of cells whose worker is not known to be dead.
    """

    workspace: Workspace
    plans: tuple[Plan, ...]
    tries: tuple[StoredRun, ...]
    has_artifacts: bool
    claimed: frozenset[str]

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
    """Look into the stores that are there; until the block ends, nobody claims or ends a cell.

    Raises:
        StoreError: if a store cannot be read: then nothing is known to be a leftover.
    """
    with ExitStack() as stack:
        claimed = _claimed(workspace, stack)
        tracking = _tracking(workspace)
        tries = tuple(tracking.tries()) if tracking else ()
        is_ours = tracking is not None and not workspace.tracking.startswith("http")
        yield Holdings(workspace, tuple(plans), tries, is_ours, claimed)


def _claimed(workspace: Workspace, stack: ExitStack) -> frozenset[str]:
    from stn_bench.runner.queue import Search  # late, like tracking below: both take seconds to load

    file = sqlite_file(workspace.search)
    if file and not file.exists():
        return frozenset()
    search = Search(workspace.search, workspace.heartbeat, workspace.lock("search"))
    stack.enter_context(search.planning())
    return search.claimed()


def _tracking(workspace: Workspace) -> Tracking | None:
    from stn_bench.tracking.mlflow import Tracking

    if not workspace.has_tracking:
        return None
    return Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))


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
    return [Leftover(kind, path, _size(path)) for path, kind in kind_of.items() if path.parent not in kind_of]


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
    """Return the checkpoints' folders, but for those of cells that somebody works on."""
    return [path for path in _folders(held.workspace.checkpoints, RUN_KEY) if path.name not in held.claimed]


def _finished_keys(held: Holdings) -> set[str]:
    return {one.run_key for one in held.tries if one.status == "FINISHED"}


def _finished_checkpoints(held: Holdings) -> list[Path]:
    finished = _finished_keys(held)
    return [path for path in _checkpoints(held) if path.name in finished]


def _unplanned_checkpoints(held: Holdings) -> list[Path]:
    """Return what no study plans today and nobody has trained on for a day: `run --set` and `train` are in no plan."""
    finished = _finished_keys(held)
    old = [path for path in _checkpoints(held) if path.name not in finished and _age(path) > DAY]
    planned = _planned_keys(held) if old else set()  # it takes seconds to tell
    return [path for path in old if path.name not in planned]


def _planned_keys(held: Holdings) -> set[str]:
    """Return the run keys of all cells that a study may come to.

    Where its pictures are not there, a run key cannot be told: every try of the same settings, phase and seed is kept.
    """
    keys, unknown = set[str](), set[tuple[str, Phase, str]]()
    for spec in (spec for plan in held.plans for spec in _specs(plan)):
        if identity := identity_of(spec, held.workspace.datasets):
            keys.add(identity.run_key)
        else:
            unknown.add((settings_digest(spec.config), spec.phase, str(spec.seed)))
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
        is_ours = one.run_key and one.run_key not in held.claimed  # an arm, a report or a stranger's run has no key
        if not is_ours or one.status == "FINISHED" or held.has_record(one.run_id):
            continue
        for folder in (artifacts / one.run_id, *(artifacts / "models" / model for model in one.models)):
            if folder.is_dir() and (one.status != "RUNNING" or _age(folder) > DAY):
                yield folder


def _unknown_artifacts(held: Holdings) -> Iterator[Path]:
    """Yield what cells wrote whose run is in no store any more, if it has no record and is a day old.

    Reports, and files of other programs, may be those of a second store that shares the folder: they stay.
    """
    known = {one.run_id for one in held.tries}
    for folder in _folders(held.workspace.artifacts, RUN_ID) if held.has_artifacts else ():
        is_cell = any((folder / "artifacts" / name).exists() for name in (MODEL, PREDICTIONS))
        if is_cell and folder.name not in known and not held.has_record(folder.name) and _age(folder) > DAY:
            yield folder


# Files of dead processes -----------------------------------------------------------------------------------------


def _partial_files(held: Holdings) -> Iterator[Path]:
    """Yield what was never put in its place: checkpoints of cells that nobody works on, data sets, reports."""
    workspace = held.workspace
    partial = [path for folder in _checkpoints(held) for path in folder.glob("*.partial")]
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
