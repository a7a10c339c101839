"""Packed studies: there and back through the command line, and what is compared of them."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commands import call

from stn_bench.tracking.archive import read_archive
from stn_bench.tracking.code import forget

WITHOUT = ("mlflow", "optuna", "sqlalchemy", "alembic", "scipy", "pandas", "matplotlib", "jinja2", "markdown_it")
"""Libraries that a machine which reaches no store need not have."""

BLOCKER = f"""
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {WITHOUT}:
            raise ModuleNotFoundError(f"{{name}} is not installed here", name=name)

sys.meta_path.insert(0, Without())
"""


def pack(root: Path, name: str = "work.zip", *options: object) -> Path:
    """Return the file of a packed study, which lies beside its root."""
    file = root.with_name(name)
    forget()  # as in a process of its own: another root's code was read in this one
    assert call("pack", "tiny", file, "--root", root, *options) == 0
    return file


def work(file: Path, name: str = "results.zip", *options: object, code: int = 0) -> Path:
    """Train a packed study in the folder of its file, with one worker, and return the results."""
    results = file.with_name(name)
    assert call("work", file, "-o", results, "--workers", 1, *options) == code
    return results


def report(root: Path) -> dict[str, Any]:
    """Return what a report says, but for what differs from day to day: times, memory, and ids of runs."""
    assert call("report", "tiny", "--root", root) == 0
    tree: dict[str, Any] = json.loads((root / "reports/tiny/report.json").read_text())
    return timeless(tree)


def timeless(tree: Any) -> Any:
    """Return a tree without what passes."""
    if isinstance(tree, list):
        return [timeless(one) for one in tree]
    if isinstance(tree, dict):
        passing = ("seconds", "cpu_seconds", "peak_memory_mb", "cpu_step_ms", "started", "ended", "run_ids")
        return {name: timeless(one) for name, one in tree.items() if name not in passing}
    return "ID" if isinstance(tree, str) and re.fullmatch("[0-9a-f]{32}", tree) else tree


def table(root: Path) -> list[dict[str, str]]:
    """Return the runs of a report, without times and ids."""
    with (root / "reports/tiny/runs.csv").open(newline="") as file:
        return [
            {
                name: value
                for name, value in row.items()
                if name != "run_id" and not re.search("second|memory|step_ms", name)
            }
            for row in csv.DictReader(file)
        ]


def check_alike(root: Path, embedded: Path) -> None:
    """Check that two roots report the same, but for times, memory and ids."""
    assert report(root) == report(embedded)
    assert table(root) == table(embedded)
    shown = [sorted(path.name for path in (one / "reports/tiny/figures").iterdir()) for one in (root, embedded)]
    assert shown[0] == shown[1]


def home_of(root: Path, run: Any) -> Path:
    """Return the folder of a run in a root."""
    return root / "mlruns/artifacts" / str(run.info.run_id) / "artifacts"


def numbers(results: Path) -> dict[str, Any]:
    """Return run key -> what a run came to, but for what it cost."""
    return {
        one.run_key: (
            {name: value for name, value in one.metrics.items() if not name.startswith("cost.")},
            one.history,
            one.outcome,
        )
        for one in read_archive(results).records
    }


@contextmanager
def working(file: Path, folder: Path, *options: str, name: str = "results.zip") -> Iterator[subprocess.Popen[str]]:
    """Start `work` in a process group of its own, which has no library of the stores, nor its workers."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(BLOCKER)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "stn_bench", "work", str(file), "-o", str(folder / name), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(met: Any, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Return when something is so."""
    deadline = time.monotonic() + seconds
    while not met():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
