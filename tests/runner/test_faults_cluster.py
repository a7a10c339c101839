"""Nodes of a Ray cluster that are killed while they train. Part of `pytest -m faults`; it needs the extra [ray]."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra [ray] is not installed")

from processes import complete_trials, running, statuses, values, wait_for_checkpoint
from test_cluster import Cluster, cluster, on
from test_faults import times
from tiny import make_toy_root, slow_toys, stn_bench

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

__all__ = ["cluster"]  # a fixture, by its name


def test_nodes_are_killed_at_random_moments(cluster: Cluster, tmp_path: Path) -> None:
    """Each job is COMPLETE once, each finished run there once, and the numbers are those of an undisturbed study."""
    study = slow_toys(8)
    sound = make_toy_root(tmp_path / "sound", study)
    assert stn_bench("run", "tiny", root=sound).returncode == 0
    chance = random.Random(0)
    for turn in range(times(10)):
        root = make_toy_root(tmp_path / str(turn), study)
        node = cluster.add_node(num_cpus=1)
        with running(root, *on(cluster)) as process:
            wait_for_checkpoint(root, process)
            time.sleep(chance.uniform(0, 4))
            cluster.remove_node(node, allow_graceful=False)
            told, _ = process.communicate(timeout=300)
        assert process.returncode == 0, told
        assert values(root) == values(sound)
        finished = complete_trials(root)
        assert len(finished) == len(set(finished)) == 6
        assert statuses(root).count("FINISHED") == statuses(sound).count("FINISHED")
        assert "RUNNING" not in statuses(root)
