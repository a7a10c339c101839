"""Roots with a study of seconds: of toys, where the letters are not the point, or on real captcha pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

STUDY = """
title = "Tiny: does the transformer help?"
ablations = ["transformer"]
arms = { transformer = ["none"] }
seeds = [1, 2, 3]
margin = 0.05

[base]
"data.count" = 90
"data.validation" = 26
"data.test" = 26
"data.size" = 20
"data.alphabet" = "AB"
"model.width" = 0.03125
"model.norm.kind" = "none"      # with SGD it is traced in half the time; the article's own network
"optimizer.name" = "sgd"        # runs from its file to its report in `test_contract.py`, which is slow
"train.batch_size" = 19
"train.epochs" = 2

[tuning]
trials = 2
[tuning.search]
"optimizer.learning_rate" = { low = 1e-3, high = 1e-2, log = true }
"""
"""A study of the letters; its ablation comes with stn-bench."""

PLAIN = STUDY.partition("[tuning]")[0]
"""The same without tuning."""

TOYS = """
title = "Tiny: how deep?"
subject = "toy"
ablations = ["depth"]
seeds = [1, 2, 3]
margin = 0.05

[base]
"epochs" = 3
"""
"""The same of toys: two arms, three seeds."""

TUNED_TOYS = f"""{TOYS}
[tuning]
trials = 2
[tuning.search]
"rate" = {{ low = 1e-3, high = 1.0, log = true }}
"""
"""The same with tuning."""

DEPTH = """
title = "Depth"
question = "Do four layers reach more than two?"

[arms.four]
set = { "depth" = 4 }
"""


def make_root(folder: Path, study: str = STUDY, name: str = "tiny") -> Path:
    """Write a study under a root."""
    (folder / "studies").mkdir(parents=True)
    (folder / "studies" / f"{name}.toml").write_text(study)
    return folder


def make_toy_root(folder: Path, study: str = TOYS, ablation: str = DEPTH) -> Path:
    """Write a study of toys under a root, and its question."""
    make_root(folder, study)
    (folder / "ablations").mkdir()
    (folder / "ablations/depth.toml").write_text(ablation)
    return folder


def slow_toys(epochs: int, seconds: float = 0.2, seeds: int = 3) -> str:
    """Return the study with so many epochs of so many seconds, and so many seeds: twice as many jobs."""
    slower = TOYS.replace('"epochs" = 3', f'"epochs" = {epochs}\n"seconds" = {seconds}')
    return slower.replace("[1, 2, 3]", str(list(range(1, seeds + 1))))


def stn_bench(
    *arguments: object, root: Path, more: Mapping[str, str] = {}, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with `more` in its environment."""
    command = [sys.executable, "-m", "stn_bench", *map(str, arguments), "--root", str(root)]
    environment = {**os.environ, "STN_BENCH_HEARTBEAT": "1", "COLUMNS": "200", **more}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, **options)
