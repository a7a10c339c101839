"""A root with a study of a few seconds: two arms, two seeds, two tuning trials each, on real captcha pictures."""

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
"train.epochs" = 2

[tuning]
trials = 2
[tuning.search]
"optimizer.learning_rate" = { low = 1e-3, high = 1e-2, log = true }
"""

PLAIN = STUDY.partition("[tuning]")[0]


def make_root(folder: Path, study: str = STUDY, name: str = "tiny") -> Path:
    """Write the study under a root; the ablation comes with stn-bench."""
    (folder / "studies").mkdir(parents=True)
    (folder / "studies" / f"{name}.toml").write_text(study)
    return folder


def stn_bench(
    *arguments: object, root: Path, more: Mapping[str, str] = {}, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with `more` in its environment."""
    command = [sys.executable, "-m", "stn_bench", *map(str, arguments), "--root", str(root)]
    environment = {**os.environ, "STN_BENCH_HEARTBEAT": "1", "COLUMNS": "200", **more}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, **options)
