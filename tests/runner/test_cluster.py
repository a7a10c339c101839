"""A study on a real Ray cluster of two nodes of this machine; it needs the extra [ray]."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ |= {"RAY_agent_register_timeout_ms": "120000"}  # beside other work a node takes long to start
pytest.importorskip("ray", reason="the extra [ray] is not installed")

from machines import machines, report
from processes import checkpoints, complete_trials, running, statuses, values, wait_for_checkpoint
from ray.cluster_utils import Cluster
from servers import INITDB, NEEDS_POSTGRES
from tiny import PLAIN, TOYS, make_root, make_toy_root, slow_toys, stn_bench

from stn_bench.system.machine import machine_name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("ray")]

TIMES = re.compile(r"/cpu_step_ms$|/caveats/")
"""Places of a report that tell of times, or may: a caveat tells of steps that take longer than the base's."""

OWN = """
from helper import best


def train(*, seed: int, depth: int = 2) -> dict[str, float]:
    print("trained on seed", seed)
    return {"score": best - abs(depth - 4) + 0.1 * (seed % 3)}
"""
OWN_STUDY = """
title = "Own"
subject = "own:train"
metric = "score"
direction = "maximize"
ablations = ["depth"]
seeds = [1, 2, 3]

[resources]
cpus = 1
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield a cluster whose head gives no room, and of one node that does."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def on(cluster: Cluster, *more: str) -> tuple[str, ...]:
    return ("--engine", "ray", "--address", cluster.address, *more)


def test_two_nodes_give_what_processes_give(cluster: Cluster, tmp_path: Path) -> None:
    here, there = make_toy_root(tmp_path / "here", TOYS), make_toy_root(tmp_path / "there", TOYS)
    assert stn_bench("run", "tiny", root=here).returncode == 0
    ran = stn_bench("run", "tiny", *on(cluster), root=there)
    assert ran.returncode == 0, ran.stderr
    assert values(there) == values(here)
    assert sorted(complete_trials(there)) == sorted(complete_trials(here))


def test_a_study_of_somebodys_own_code(cluster: Cluster, tmp_path: Path) -> None:
    root = make_root(tmp_path, OWN_STUDY)
    (root / "own.py").write_text(OWN)
    (root / "helper.py").write_text("best = 1.0\n")
    (root / "ablations").mkdir()
    (root / "ablations/depth.toml").write_text(
        'title = "Depth"\nquestion = "Deeper?"\n[arms.four]\nset = { "depth" = 4 }\n'
    )
    ran = stn_bench("run", "tiny", *on(cluster, "--workers", "1"), root=root)
    assert ran.returncode == 0, ran.stderr
    base, four = values(root)
    assert (base, four) == (pytest.approx([-0.9, -0.8, -1.0]), pytest.approx([1.1, 1.2, 1.0]))
    told = "".join(path.read_text() for path in root.glob(f"mlruns/logs/worker-{machine_name()}-*.log"))
    assert sorted(re.findall("trained on seed ([123])", told)) == ["1", "1", "2", "2", "3", "3"]  # sent to the parent


def test_the_workers_of_a_lost_node_start_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    """The heartbeat tells that the node's job is free; what was finished stays, and each job is COMPLETE once."""
    sound = make_toy_root(tmp_path / "sound", slow_toys(6))
    assert stn_bench("run", "tiny", root=sound).returncode == 0
    root = make_toy_root(tmp_path / "lost", slow_toys(6))
    node = cluster.add_node(num_cpus=1)
    with running(root, *on(cluster)) as process:
        wait_for_checkpoint(root, process)
        time.sleep(1)
        cluster.remove_node(node, allow_graceful=False)
        told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert values(root) == values(sound)
    finished = complete_trials(root)
    assert len(finished) == len(set(finished)) == 6
    assert statuses(root).count("FINISHED") == statuses(sound).count("FINISHED")
    assert not checkpoints(root)


@pytest.mark.skipif(INITDB is None, reason=NEEDS_POSTGRES)
def test_letters_on_shared_stores_with_a_node_lost_on_the_way(cluster: Cluster, tmp_path: Path) -> None:
    """PostgreSQL, MLflow's server and two nodes say what one process and two files of SQLite say."""
    alone, root = make_root(tmp_path / "alone", PLAIN), make_root(tmp_path / "root", PLAIN)
    assert stn_bench("run", "tiny", "--workers", 1, "--threads", 1, root=alone).returncode == 0
    node = cluster.add_node(num_cpus=1)
    with machines(tmp_path / "stores") as shared:
        run = shared.start("run", root, *on(cluster, "--workers", "2"))
        wait_for_checkpoint(root, run)
        cluster.remove_node(node, allow_graceful=False)
        shared.finish(run)
        shared.assert_each_job_once(6)
    ours, theirs = report(root), report(alone)
    other = {place for place in ours | theirs if ours.get(place) != theirs.get(place)}
    assert {place for place in other if not TIMES.search(place)} == set()


def test_an_interrupt_gives_the_jobs_back(cluster: Cluster, tmp_path: Path) -> None:
    root = make_toy_root(tmp_path, slow_toys(40))
    with running(root, *on(cluster)) as process:
        wait_for_checkpoint(root, process)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "goes on from here" in told
    assert "RUNNING" not in statuses(root)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--engine", "ray", "--address", "127.0.0.1:1"), "no Ray cluster answers"),
        (("--engine", "ray", "--threads", "2"), "say --cpus"),
        (("--cpus", "2"), "add --engine ray"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    told = stn_bench("run", "tiny", *options, root=make_toy_root(tmp_path))
    assert told.returncode == 2
    assert words in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


def test_a_share_that_no_node_has_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    told: Any = stn_bench("run", "tiny", *on(cluster, "--gpus", "0.5"), root=make_toy_root(tmp_path))
    assert told.returncode == 2
    assert "no node has 1 CPUs and 0.5 GPUs" in told.stderr
