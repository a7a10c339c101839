"""The test session is stricter than use: one thread, deterministic kernels, warnings are errors (pyproject.toml)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from stn_bench.system.machine import training_environment

os.environ.update(training_environment(threads=1))
os.environ.pop("MLFLOW_TRACKING_URI", None)  # a developer's own store is never written by a test
settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

FAULT_SECONDS = float(os.environ.get("STN_BENCH_FAULT_SECONDS", "inf"))
BEGUN = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin no more faults where their time is up; CI, which has an hour for everything, says how long it is."""
    if item.get_closest_marker("faults") and time.monotonic() - BEGUN > FAULT_SECONDS:
        pytest.skip(f"the {FAULT_SECONDS:.0f} s for faults are over (2026-11-25)")


@pytest.fixture(autouse=True, scope="module")
def _forget_roots() -> Iterator[None]:
    """Leave the next file of tests no module of a root: it may have another of that name, or want the name free."""
    known = list(sys.path)
    yield
    added = {Path(folder) for folder in sys.path if folder not in known}
    sys.path[:] = known
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and (added & {*Path(file).parents} or "pytest-of-" in file):  # of tests' own temporary folders
            del sys.modules[name]
