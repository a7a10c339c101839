"""What the stores hold that nobody needs any more: found first, shown, and only then removed.

A finished run's record, model and predictions are out of reach by two rules that do not rest on each other: MLflow
says that it is finished, and what lies beside a `record.json` is never a leftover, whatever MLflow says. What a living
process may be using is none either: its cell is claimed in Optuna's store, its process lives, or its file is young.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psutil

from stn_bench.data.dataset import is_drawn_name
from stn_bench.data.spec import DatasetSpec
from stn_bench.data.store import MANIFEST
from stn_bench.errors import MachineError
from stn_bench.forecast import nothing_finished
from stn_bench.plan import Phase, Plan, RunSpec
from stn_bench.record import RECORD, settings_digest
from stn_bench.results import Results, gather, identity_of
from stn_bench.workspace import Workspace, sqlite_file

if TYPE_CHECKING:
    from stn_bench.tracking import Tracking

HOUR = 3600.0
DAY = 24 * HOUR  # how long an unfinished training that no study plans stays, for whoever stopped it means to go on
RUN_KEY = re.compile(r"[0-9a-f]{64}")
RUN_ID = re.compile(r"[0-9a-f]{32}")
MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
MODEL_OF = re.compile(r"^run_id: ([0-9a-f]{32})$", re.MULTILINE)
PROCESS = re.compile(r"[.-](\d+)\.(?:partial|log)$")
SWAPPED = ".old.partial"  # a data set on its way out when its maker died; the next maker sweeps it up too


class Try(Protocol):
    """A run of the tracking store, however it ended."""

    @property
    def run_id(self) -> str:
        """The store's name of the run."""

    @property
    def run_key(self) -> str:
        """Identity of the run, or "" for what is no cell."""

    @property
    def settings(self) -> str:
        """Digest of its resolved settings alone."""

    @property
    def phase(self) -> str:
        """Either "tune", "verdict" or "confirm"."""

    @property
    def seed(self) -> str:
        """The run's seed, as its tag has it."""

    @property
    def status(self) -> str:
        """MLflow's word: RUNNING, FINISHED, FAILED or KILLED."""


@dataclass(frozen=True)
class Holdings:
    """What is known of the stores at the moment of looking.

    Args:
        workspace: where things are.
        results: every study that can be planned here, with what tuning chose.
        tries: every run of the tracking store, deleted ones too.
        has_artifacts: whether the folder of artifacts is this store's; a server keeps its own.
        claimed: run keys of cells whose worker is not known to be dead.
    """

    workspace: Workspace
    results: tuple[Results, ...]
    tries: tuple[Try, ...]
    has_artifacts: bool
    claimed: frozenset[str]


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
        results = tuple(
            gather(plan, tracking, workspace.datasets) if tracking else nothing_finished(plan) for plan in plans
        )
        tries = tuple(tracking.tries()) if tracking else ()
        is_ours = tracking is not None and not workspace.tracking.startswith("http")
        yield Holdings(workspace, results, tries, is_ours, claimed)


def _claimed(workspace: Workspace, stack: ExitStack) -> frozenset[str]:
    from stn_bench.search import Search  # late, like tracking below: both take seconds to load

    file = sqlite_file(workspace.search)
    if file and not file.exists():
        return frozenset()
    search = Search(workspace.search, workspace.heartbeat, workspace.lock("search"))
    stack.enter_context(search.planning())
    return search.claimed()


def _tracking(workspace: Workspace) -> Tracking | None:
    from stn_bench.tracking import Tracking

    if not workspace.has_tracking:
        return None
    return Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))


def find_leftovers(held: Holdings, *, pictures: bool = False) -> list[Leftover]:
    """Return what may go, kind by kind.

    Args:
        held: what is known of the stores.
        pictures: whether drawn pictures that no study needs are among it; they would be drawn again.
    """
    workspace = held.workspace
    found: list[tuple[str, Iterable[Path]]] = [
        ("checkpoints of finished runs", _finished_checkpoints(held)),
        ("checkpoints of runs that no study plans", _unplanned_checkpoints(held)),
        ("files of killed and crashed tries", _dead_artifacts(held)),
        ("files of runs that MLflow does not know", _unknown_artifacts(held)),
        ("half-written files of dead processes", _partial_files(held)),
        ("logs of dead workers", (path for path in workspace.logs.glob("worker-*.log") if _is_abandoned(path))),
    ]
    if pictures:
        found.append(("pictures that no study needs", _unneeded_pictures(held)))
    return [Leftover(kind, path, _size(path)) for kind, paths in found for path in paths]


def remove(leftovers: Iterable[Leftover]) -> None:
    """Remove what was found.

    Raises:
        MachineError: if the system does not allow it; what was removed until then stays removed.
    """
    for leftover in leftovers:
        try:
            if leftover.path.is_dir() and not leftover.path.is_symlink():
                shutil.rmtree(leftover.path)
            else:
                leftover.path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue  # somebody else was faster
        except OSError as error:
            raise MachineError(f"{leftover.path}: cannot be removed ({error.strerror}); see who owns it") from None


# Checkpoints -----------------------------------------------------------------------------------------------------


def _checkpoints(held: Holdings) -> Iterator[Path]:
    """Yield the checkpoints' folders, but for those of cells that somebody works on."""
    for path in _folders(held.workspace.checkpoints, RUN_KEY):
        if path.name not in held.claimed:
            yield path


def _finished_keys(held: Holdings) -> frozenset[str]:
    return frozenset(one.run_key for one in held.tries if one.status == "FINISHED")


def _finished_checkpoints(held: Holdings) -> Iterator[Path]:
    finished = _finished_keys(held)
    return (path for path in _checkpoints(held) if path.name in finished)


def _unplanned_checkpoints(held: Holdings) -> Iterator[Path]:
    """Yield what no study plans today and nobody has trained on for a day: `run --set` and `train` are in no plan."""
    kept = _planned_keys(held) | _finished_keys(held)
    return (path for path in _checkpoints(held) if path.name not in kept and _age(path) > DAY)


def _planned_keys(held: Holdings) -> frozenset[str]:
    """Return the run keys of all cells that a study may come to.

    Where its pictures are not there, a run key cannot be told: every try of the same settings, phase and seed is kept.
    """
    keys, unknown = set(), set[tuple[str, Phase, str]]()
    for spec in _specs(held.results):
        identity = identity_of(spec, held.workspace.datasets)
        if identity:
            keys.add(identity.run_key)
        else:
            unknown.add((settings_digest(spec.config), spec.phase, str(spec.seed)))
    alike = {one.run_key for one in held.tries if (one.settings, one.phase, one.seed) in unknown}
    return frozenset(keys | alike)


def _specs(results: Iterable[Results]) -> Iterator[RunSpec]:
    for arm in (arm for one in results for arm in one.arms):
        yield from arm.arm.tuning_specs()
        if arm.chosen is not None:
            yield from arm.arm.verdict_specs(arm.chosen)
            yield from arm.arm.confirm_specs(arm.chosen)


# Artifacts -------------------------------------------------------------------------------------------------------


def _dead_artifacts(held: Holdings) -> Iterator[Path]:
    """Yield the files that killed tries, and crashed ones without a record, had written until then."""
    dead = {one.run_id for one in held.tries if one.status in ("KILLED", "FAILED") and one.run_key not in held.claimed}
    return (path for path, run_id in _recordless(held) if run_id in dead)


def _unknown_artifacts(held: Holdings) -> Iterator[Path]:
    """Yield the files of runs that are in no store: nobody wrote to them for a day, and they have no record."""
    known = {one.run_id for one in held.tries}
    return (path for path, run_id in _recordless(held) if run_id not in known and _age(path) > DAY)


def _recordless(held: Holdings) -> Iterator[tuple[Path, str]]:
    """Yield the folders of artifacts and of logged models whose run has no record, with the id of the run."""
    if not held.has_artifacts:
        return
    artifacts = held.workspace.artifacts
    folders = [(path, path.name) for path in _folders(artifacts, RUN_ID)]
    folders += [(path, _run_of_model(path)) for path in _folders(artifacts / "models", MODEL_ID)]
    for path, run_id in folders:
        if run_id and not (artifacts / run_id / "artifacts" / RECORD).exists():
            yield path, run_id


def _run_of_model(folder: Path) -> str:
    """Return the id of the run that a logged model belongs to, or "" for one that was not written to its end."""
    try:
        found = MODEL_OF.search((folder / "artifacts" / "MLmodel").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return found[1] if found else ""


# Files of dead processes -----------------------------------------------------------------------------------------


def _partial_files(held: Holdings) -> Iterator[Path]:
    workspace = held.workspace
    for path in workspace.checkpoints.glob("*/*.partial"):
        if path.parent.name not in held.claimed and _is_abandoned(path):
            yield path
    for path in (*workspace.datasets.glob("*.partial"), *(workspace.root / "reports").glob("**/.*.partial")):
        if _is_abandoned(path):
            yield path


def _is_abandoned(path: Path) -> bool:
    """Whether the process that a file is named after is gone, here, and has not written to it for an hour anywhere."""
    process = PROCESS.search(path.name)
    if process is None:
        return path.name.endswith(SWAPPED) and _age(path) > HOUR
    return not psutil.pid_exists(int(process[1])) and _age(path) > HOUR


# Pictures --------------------------------------------------------------------------------------------------------


def _unneeded_pictures(held: Holdings) -> Iterator[Path]:
    """Yield drawn pictures that no study trains on; none while somebody trains, maybe with settings of their own."""
    needed = {DatasetSpec.of(arm.arm.config).folder_name for one in held.results for arm in one.arms}
    for manifest in held.workspace.datasets.glob(f"*/{MANIFEST}"):
        name = manifest.parent.name
        if is_drawn_name(name) and "." not in name and name not in needed and not held.claimed:
            yield manifest.parent


# Sizes and ages --------------------------------------------------------------------------------------------------


def _folders(parent: Path, name: re.Pattern[str]) -> list[Path]:
    return [path for path in sorted(parent.glob("*")) if name.fullmatch(path.name) and path.is_dir()]


def _files(path: Path) -> list[Path]:
    return [path, *path.rglob("*")]


def _age(path: Path) -> float:
    """Return for how many seconds nothing in a folder, or in a file, was written."""
    return time.time() - max(_stat(one)[0] for one in _files(path))


def _size(path: Path) -> int:
    return sum(_stat(one)[1] for one in _files(path) if not one.is_dir())


def _stat(path: Path) -> tuple[float, int]:
    """Return when a file was last written, and its bytes; one that is gone by now is as young as can be."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return time.time(), 0
    return found.st_mtime, found.st_size
