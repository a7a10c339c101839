"""How the jobs of a plan are shared out among workers of this machine."""

from __future__ import annotations

import contextlib

from stn_bench.study.plan import Plan
from stn_bench.system.errors import ConfigError
from stn_bench.system.gpus import gpus
from stn_bench.system.machine import Resources
from stn_bench.tracking.identity import libraries_named


def share_out(plan: Plan, workers: int | None = None, threads: int | None = None) -> Resources:
    """Return how many workers train a plan here: as many as are asked for, else one a GPU that it can use, or a core.

    Args:
        plan: the plan.
        workers: processes.
        threads: threads of each.

    Raises:
        ConfigError: if there are to be none.
    """
    if not gpus():  # then no code has to be followed to see what it imports
        return Resources.of(workers, threads)
    libraries = set[str]()
    for arm in plan.arms:
        with contextlib.suppress(ConfigError):  # code that cannot be found is told of with the arm that names it
            libraries |= set(libraries_named(arm.subject, arm.config.resolved().flat()))
    return Resources.of(workers, threads, gpus(libraries))


__all__ = ["share_out"]
