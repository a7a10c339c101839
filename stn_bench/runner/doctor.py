"""The doctor: what this machine has, and what it lacks to train."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stn_bench.system.errors import StnBenchError, without_secrets
from stn_bench.system.machine import cores, package_version, processor
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.identity import BACKENDS, backend

GIGABYTE = 1024**3
NEEDED_GIGABYTES = 2
PACKAGES = (
    "keras",
    "mlflow",
    "optuna",
    "captcha",
    "numpy",
    "pandas",
    "opencv-python",
    "pillow",
    "matplotlib",
    "scipy",
)
ALTERNATIVES = {"opencv-python": ("opencv-python-headless", "opencv-contrib-python")}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        check: what was looked at.
        sound: whether training can go on with it.
        found: what was found.
        advice: what to do where it is not sound, or "".
        fault: what is wrong with it then, in a word.
    """

    check: str
    sound: bool
    found: str
    advice: str = ""
    fault: str = "missing"


def examine(workspace: Workspace) -> list[Finding]:
    """Return all findings; nothing is installed or changed."""
    checks: tuple[Callable[[Workspace], Finding], ...] = (_python, _cores, _disk, _opencv, _backend)
    return [check(workspace) for check in checks] + list(_packages()) + [_tracking(workspace), _search(workspace)]


def examine_determinism() -> Finding:
    """Train one small cell twice, each time in a fresh process, and return whether both end with the same bits."""
    from stn_bench.runner.determinism import examine_twice

    cell, difference = examine_twice()
    if difference is None:
        state = sum(array.size for array in cell.weights.values())
        found = f"bit-equal: {len(cell.metrics)} metrics and {state:,} numbers of model and optimizer"
        return Finding("determinism", True, f"{found}, of one cell trained twice in fresh processes")
    found = f"{difference.place} is {difference.first} in one training and {difference.second} in the other"
    advice = "runs cannot be repeated bit by bit here; on a CPU, with one thread a worker, they should be"
    return Finding("determinism", False, found, advice, fault="differs")


def _python(workspace: Workspace) -> Finding:
    version = tuple(map(int, platform.python_version_tuple()[:2]))
    sound = (3, 11) <= version <= (3, 13)
    return Finding("Python", sound, platform.python_version(), "" if sound else "use Python 3.11, 3.12 or 3.13")


def _cores(workspace: Workspace) -> Finding:
    count = cores()
    return Finding("processor", True, f"{processor()}, {count} cores: {count} workers of one thread by default")


def _disk(workspace: Workspace) -> Finding:
    folder = next(path for path in (workspace.stores, *workspace.stores.parents) if path.exists())
    free = shutil.disk_usage(folder).free / GIGABYTE
    sound = free >= NEEDED_GIGABYTES
    advice = "" if sound else f"make room for at least {NEEDED_GIGABYTES} GB: pictures, checkpoints and models"
    return Finding("disk", sound, f"{free:.1f} GB free at {folder}", advice)


def _opencv(workspace: Workspace) -> Finding:
    from stn_bench.subjects.stn.data.opencv import load_opencv

    try:
        return Finding("OpenCV", True, f"{load_opencv().__version__} loads")
    except StnBenchError as error:
        return Finding("OpenCV", False, "cannot be loaded", str(error))


def _backend(workspace: Workspace) -> Finding:
    name = backend()
    missing = [package for package in BACKENDS.get(name, (name,)) if package_version(package) is None]
    if name not in BACKENDS:
        return Finding("Keras backend", False, name, f"set KERAS_BACKEND to one of {', '.join(BACKENDS)}")
    versions = ", ".join(
        f"{package} {package_version(package)}" for package in BACKENDS[name] if package not in missing
    )
    advice = f"pip install {' '.join(missing)}" if missing else ""
    return Finding("Keras backend", not missing, f"{name} ({versions or 'not installed'})", advice)


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        installed = next((one for one in (name, *ALTERNATIVES.get(name, ())) if package_version(one)), None)
        found = f"{package_version(installed)}" if installed else "not installed"
        yield Finding(name, installed is not None, found, "" if installed else f"pip install {name}")


def _tracking(workspace: Workspace) -> Finding:
    from stn_bench.tracking.mlflow import Tracking

    try:
        Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))
    except StnBenchError as error:
        return Finding("tracking store", False, without_secrets(workspace.tracking), str(error))
    return Finding("tracking store", True, without_secrets(workspace.tracking))


def _search(workspace: Workspace) -> Finding:
    from stn_bench.runner.queue import Search

    try:
        Search(workspace.search, workspace.heartbeat, workspace.lock("search"))
    except StnBenchError as error:
        return Finding("search store", False, without_secrets(workspace.search), str(error))
    return Finding("search store", True, without_secrets(workspace.search))
