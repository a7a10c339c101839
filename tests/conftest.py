"""The test session is stricter than use: one thread, deterministic kernels, warnings are errors (pyproject.toml)."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from commands import forget_modules
from hypothesis import settings

from stn_bench.cli import SELDOM
from stn_bench.system.machine import training_environment

os.environ.update(training_environment(threads=1))
os.environ.pop("MLFLOW_TRACKING_URI", None)  # a developer's own store is never written by a test
settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

FAULT_SECONDS = float(os.environ.get("STN_BENCH_FAULT_SECONDS", "inf"))
BEGUN = time.monotonic()
TESTS: dict[str, ModuleType] = {}
"""The modules of tests, by name, as they were when all were collected."""


def pytest_collection_finish() -> None:
    folder = Path(__file__).parent
    for name, module in sys.modules.items():
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and Path(file).is_relative_to(folder):
            TESTS[name] = module
    look_no_more()
    gc.set_threshold(*SELDOM)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin no more faults where their time is up; CI, which has an hour for everything, says how long it is."""
    if item.get_closest_marker("faults") and time.monotonic() - BEGUN > FAULT_SECONDS:
        pytest.skip(f"the {FAULT_SECONDS:.0f} s for faults are over (2026-11-25)")


def look_no_more() -> None:
    """Look no more, when garbage is collected, at what there is: Keras collects it for every new model."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _keep_tests() -> Iterator[None]:
    """Keep the modules of tests: a command on this checkout, and then on another root, forgets its user's modules."""
    yield
    for name, module in TESTS.items():
        sys.modules[name] = module


@pytest.fixture(autouse=True, scope="module")
def _forget_roots() -> Iterator[None]:
    """Leave the next file of tests no module of a root: it may have another of that name, or want the name free."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    added = {Path(folder) for folder in sys.path if folder not in path}
    sys.path[:] = path
    forget_modules(added, kept=modules)
    look_no_more()
