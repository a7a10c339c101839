"""The test session is stricter than use: one thread, deterministic kernels, warnings are errors (pyproject.toml)."""

from __future__ import annotations

import os

from hypothesis import settings

from stn_bench.machine import training_environment

os.environ.update(training_environment(threads=1))
os.environ.pop("MLFLOW_TRACKING_URI", None)  # a developer's own store is never written by a test
settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")
