"""The doctor: what this machine has, and what it lacks to train."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator

from stn_bench.isolation import unheeded
from stn_bench.runner.stores import open_queue, open_tracking
from stn_bench.subject import Finding, Subject
from stn_bench.system.errors import StnBenchError
from stn_bench.system.machine import cores, package_version, processor
from stn_bench.system.text import without_secrets
from stn_bench.system.workspace import Workspace

GIGABYTE = 1024**3
NEEDED_GIGABYTES = 2
PACKAGES = ("mlflow", "optuna", "numpy", "pandas", "matplotlib", "scipy")


def examine(workspace: Workspace, subject: Subject) -> list[Finding]:
    """Return all findings, the subject's own among them; nothing is installed or changed."""
    return [
        _python(),
        _cores(),
        _disk(workspace),
        *(subject.check() if subject.check else ()),
        *_unheeded(),
        *_packages(),
        _store("tracking store", workspace.tracking, lambda: open_tracking(workspace)),
        _store("job queue", workspace.queue, lambda: open_queue(workspace)),
    ]


def examine_determinism(subject: Subject) -> Finding:
    """Train a small job of a subject twice, each time in a fresh process; return whether both end with equal bits."""
    from stn_bench.runner.determinism import examine_twice

    trained, difference = examine_twice(subject)
    if difference is None:
        state = sum(array.size for array in trained.state.values())
        found = f"bit-equal: {len(trained.metrics)} metrics and {state:,} numbers of model and optimizer"
        return Finding("determinism", True, f"{found}, of one job trained twice in fresh processes")
    found = f"{difference.place} is {difference.first} in one training and {difference.second} in the other"
    advice = "runs cannot be repeated bit by bit here; on a CPU, with one thread a worker, they should be"
    return Finding("determinism", False, found, advice, fault="differs")


def _python() -> Finding:
    version = tuple(map(int, platform.python_version_tuple()[:2]))
    sound = (3, 11) <= version <= (3, 13)
    return Finding("Python", sound, platform.python_version(), "" if sound else "use Python 3.11, 3.12 or 3.13")


def _cores() -> Finding:
    count = cores()
    return Finding("processor", True, f"{processor()}, {count} cores: {count} workers of one thread by default")


def _disk(workspace: Workspace) -> Finding:
    folder = next(path for path in (workspace.stores, *workspace.stores.parents) if path.exists())
    free = shutil.disk_usage(folder).free / GIGABYTE
    sound = free >= NEEDED_GIGABYTES
    advice = "" if sound else f"make room for at least {NEEDED_GIGABYTES} GB: data, checkpoints and models"
    return Finding("disk", sound, f"{free:.1f} GB free at {folder}", advice)


def _unheeded() -> Iterator[Finding]:
    """Yield what would change a training unseen, since it is in no run key, and is therefore not heeded."""
    if lines := unheeded():
        yield Finding("settings outside of code", True, f"{'; '.join(lines)}: no training heeds them")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        version = package_version(name)
        yield Finding(name, version is not None, version or "not installed", "" if version else f"pip install {name}")


def _store(check: str, address: str, open_it: Callable[[], object]) -> Finding:
    try:
        open_it()
    except StnBenchError as error:
        return Finding(check, False, without_secrets(address), str(error))
    return Finding(check, True, without_secrets(address))
