"""What a cell costs beside its training: processor time of a worker for a function that returns at once.

    python benchmarks/cell.py [--cells 60] [--profile]

Two studies of a base and one arm, whose function returns a number, or a scikit-learn model with it. One worker trains
all of it in this process: claim, MLflow run, record, trial. Its start, and the first cells, in which libraries load
what they load late, are told apart. `--profile` prints where the time of the others goes.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import os
import pstats
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from stn_bench.runner.job import Job
from stn_bench.runner.runner import Runner, _Round
from stn_bench.runner.stores import open_stores
from stn_bench.runner.worker import Assignment, JobEnded, _Worker
from stn_bench.study.load import load_plan
from stn_bench.study.plan import Phase
from stn_bench.system.machine import Resources
from stn_bench.system.workspace import Workspace

WARM = 5  # cells in which libraries still load
TARGETS = {"number": 0.1, "model": 0.4}
FUNCTIONS = """
import numpy as np
from sklearn.linear_model import LinearRegression

from stn_bench.subject import Outcome, TrainedModel


def number(*, seed, width: int = 1):
    return {"score": seed / (seed + width)}


def model(*, seed, width: int = 1):
    fitted = LinearRegression().fit(np.arange(4.0)[:, None], np.arange(4.0) * width)
    tensors = (("", "float64", (-1, 1)),)
    kept = TrainedModel("sklearn", fitted, tensors, (("", "float64", (-1,)),), ("scikit-learn",))
    return Outcome({"score": seed / (seed + width)}, model=kept)


"""
ABLATION = 'title = "Width"\nquestion = "Is wider better?"\n[arms.wide]\nset = { width = 2 }\n'


@dataclass(frozen=True)
class InProcess(Runner):
    """A runner whose one worker is this process."""

    ended: list[float] = field(default_factory=list)
    profile: cProfile.Profile | None = None

    def _train(self, phase: Phase, found: _Round) -> None:
        metric = self._told(phase)
        assignment = Assignment(self.workspace, 1, found.names, found.known, metric.name, metric.direction)
        worker = _Worker(assignment, cast("Any", self), threading.Event())
        worker.work()

    def send(self, event: object) -> None:
        """Take note of the moment at which a cell ends, as the parent of a worker."""
        if isinstance(event, JobEnded):
            if event.outcome != "finished":
                raise SystemExit(f"a cell ended as {event.outcome}: {event.detail}")
            self.ended.append(time.process_time())
            if self.profile and len(self.ended) == WARM:
                self.profile.enable()


class Silent:
    """Watches, and says nothing."""

    def preparing(self, data: str, done: int, count: int) -> None: ...
    def phase(self, phase: Phase, jobs: dict[str, Job], reused: int) -> None: ...
    def event(self, event: object) -> None: ...
    def say(self, line: str) -> None: ...


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def train(root: Path, function: str, cells: int, profile: cProfile.Profile | None) -> list[float]:
    """Return the processor seconds of each cell, the first one with what the worker loads."""
    workspace = Workspace.at(root)
    plan = load_plan(function, workspace)
    runner = InProcess(
        plan, open_stores(workspace), workspace, Resources(1, 1), cast("Any", Silent()), profile=profile
    )
    began = time.process_time()
    with quiet():
        runner.run()
    if profile:
        profile.disable()
    return [float(one) for one in np.diff([began, *runner.ended])]


def make_root(folder: Path, cells: int) -> Path:
    """Write the functions, and a study of each."""
    for place in ("studies", "ablations"):
        (folder / place).mkdir()
    (folder / "quick.py").write_text(FUNCTIONS)
    (folder / "ablations" / "width.toml").write_text(ABLATION)
    seeds = list(range(1, cells // 2 + 1))
    for function in TARGETS:
        study = f'title = "{function}"\nsubject = "quick:{function}"\nablations = ["width"]\nseeds = {seeds}\n'
        (folder / "studies" / f"{function}.toml").write_text(f'{study}metric = "score"\ndirection = "maximize"\n')
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder), arguments.cells)
        for function, target in TARGETS.items():
            profile = cProfile.Profile() if arguments.profile else None
            spent = train(root, function, arguments.cells, profile)
            low, median, high = np.percentile(spent[WARM:], [25, 50, 75])
            print(
                f"{function}: {median * 1000:.0f} ms a cell ({low * 1000:.0f} to {high * 1000:.0f}), "
                f"target {target * 1000:.0f} ms; the first {WARM}, loading late: {sum(spent[:WARM]):.1f} s",
                flush=True,
            )
            if profile:
                pstats.Stats(profile, stream=sys.stdout).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    main()
