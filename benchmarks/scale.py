"""Many jobs on stores that many machines share: jobs a second, processor time a job, and whether both stay so.

    python benchmarks/scale.py [--jobs 100 1000 10000] [--workers 16] [--sqlite]

A function that returns at once is trained by `run`, with PostgreSQL and MLflow's server on this machine, which the
benchmark starts; with --sqlite in two files, by two workers. Rates are those between a tenth of the jobs and nineteen
twentieths, so that starting the workers is left out. Processor time is told of the workers and of either server.
Behind it stand the seconds of `status` and `report` where the study was run, and of `status` on a machine that has
seen none of its runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import sqlalchemy
from records import ARMS, make_root

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from servers import mlflow_server, postgres

SEEDS = 20  # of an arm, where there are jobs enough
FIRST, LAST = 0.10, 0.95
COMPLETE = sqlalchemy.text("SELECT count(*) FROM trials WHERE state = 'COMPLETE'")


@dataclass(frozen=True)
class Moment:
    """A moment of a run: when, how many jobs are complete, and the processor seconds of each part so far."""

    at: float
    done: int
    cpu: Mapping[str, float]


@dataclass(frozen=True)
class Stores:
    """Where a run keeps its jobs and runs, and the processes that serve them."""

    environment: Mapping[str, str]
    queue: str
    servers: Mapping[str, Callable[[], psutil.Process]]
    workers: int


@contextmanager
def servers(workers: int) -> Iterator[Stores]:
    """Start PostgreSQL and MLflow's server, both empty."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres("jobs"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mlflow = stack.enter_context(mlflow_server(folder / "server", "--workers", "4"))
        queue = f"{database.address}/jobs"
        postmaster = int((database.folder / "data/postmaster.pid").read_text().split()[0])
        serving = {
            "postgres": lambda: psutil.Process(postmaster),
            "mlflow": lambda: psutil.Process(mlflow.process.pid),
        }
        yield Stores({"STN_BENCH_OPTUNA_URL": queue, "MLFLOW_TRACKING_URI": mlflow.address}, queue, serving, workers)


def measure(root: Path, stores: Stores, jobs: int) -> tuple[Moment, Moment, float]:
    """Run a study and return two moments of it, and the seconds of the whole."""
    command = [sys.executable, "-m", "stn_bench", "run", "many", "--root", str(root)]
    command += ["--workers", str(stores.workers), "--threads", "1"]
    engine = sqlalchemy.create_engine(stores.queue, poolclass=sqlalchemy.NullPool)
    moments: list[Moment] = []
    began = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **stores.environment}, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(moments) < 2:
        time.sleep(0.5)
        done = complete(engine)
        if done >= jobs * (FIRST, LAST)[len(moments)]:
            parts = {"workers": lambda: psutil.Process(process.pid), **stores.servers}
            moments.append(Moment(time.monotonic(), done, {name: cpu_of(part()) for name, part in parts.items()}))
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return moments[0], moments[1], time.monotonic() - began


def seconds_of(root: Path, *arguments: str) -> float:
    """Return the seconds that a command takes."""
    began = time.monotonic()
    command = [sys.executable, "-m", "stn_bench", *arguments, "--root", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def complete(engine: sqlalchemy.Engine) -> int:
    """Return how many jobs are complete."""
    try:
        with engine.connect() as connection:
            return int(
                connection.execute(sqlalchemy.text("SELECT count(*) FROM trials WHERE state = 'COMPLETE'")).scalar()
            )
    except sqlalchemy.exc.SQLAlchemyError:
        return 0  # there are no tables yet


def cpu_of(process: psutil.Process) -> float:
    """Return the processor seconds of a process and all below it."""
    seconds = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--sqlite", action="store_true")
    asked = parser.parse_args()
    first = 0.0
    for jobs in asked.jobs:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            arms = max(1, jobs // SEEDS // ARMS) * ARMS
            root, elsewhere = (make_root(folder / name, arms, jobs // arms) for name in ("many", "elsewhere"))
            jobs = (arms + 1) * (jobs // arms)  # the base beside them
            queue = f"sqlite:///{root}/mlruns/optuna.db"
            stores = Stores({}, queue, {}, 2) if asked.sqlite else stack.enter_context(servers(asked.workers))
            begin, end, seconds = measure(root, stores, jobs)
            os.environ |= stores.environment
            reading = {"status": seconds_of(root, "status", "many"), "report": seconds_of(root, "report", "many")}
            if not asked.sqlite:
                reading["status elsewhere"] = seconds_of(elsewhere, "status", "many")
        count = end.done - begin.done
        cost = {name: (end.cpu[name] - begin.cpu[name]) / count * 1e3 for name in end.cpu}
        first = first or sum(cost.values())
        parts = ", ".join(f"{name} {value:.0f} ms" for name, value in cost.items())
        print(
            f"{jobs:>6,} jobs, {stores.workers} workers: {count / (end.at - begin.at):5.1f} jobs a second; processor "
            f"a job: {parts}; ratio to the first {sum(cost.values()) / first:.2f}; {seconds:.0f} s in all; "
            + ", ".join(f"{name} {value:.1f} s" for name, value in reading.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
