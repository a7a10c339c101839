"""What it costs to lease a job and to tell of its end, by the number of arms and of finished cells.

    python benchmarks/claims.py [--jobs 50]

A worker leases jobs that end at once, in a new store of SQLite: of 10 arms and of 1,000, beside 100 finished cells and
beside 100,000, in turns. Processor time of this process, medians. Then what entering 100,000 jobs takes, and how often
eight workers together ask the store while the ninth has the only job.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import sqlalchemy

from stn_bench.runner.leases import Finished, Lease
from stn_bench.runner.queue import Queue
from stn_bench.runner.queue.rows import SEED, SEEDS, QueuedJob

ROUNDS = 5
SIZES = ((10, 100), (1_000, 100), (10, 100_000), (1_000, 100_000))  # arms, and finished cells
TARGET = 20  # ms
WAITING_WORKERS = 8
WAIT = 10.0  # seconds


def job(arm: str, seed: int) -> QueuedJob:
    return QueuedJob(f"{arm}, seed {seed}", {SEED: seed}, {SEED: SEEDS})


def open_queue(folder: Path) -> Queue:
    return Queue(f"sqlite:///{folder / 'optuna.db'}", heartbeat=15, lock=folder / "search.lock")


def arms_of(count: int) -> list[str]:
    return [f"arm {number}" for number in range(count)]


@contextmanager
def filled(arms: int, finished: int, waiting: int) -> Iterator[Queue]:
    """Make a queue of arms that have so many finished and so many waiting cells, all arms together."""
    with tempfile.TemporaryDirectory() as folder:
        queue = open_queue(Path(folder))
        with queue.planning():
            for number, arm in enumerate(arms_of(arms)):
                done = [job(arm, seed) for seed in range(number, finished, arms)]
                new = [job(arm, seed) for seed in range(finished + number, finished + waiting, arms)]
                queue.enqueue(arm, "maximize", done + new, {one.run_key: Finished(0.5, "run", "") for one in done})
        yield queue


def lease(queue: Queue, arms: list[str], jobs: int) -> list[float]:
    """Return the processor time of each job in ms, but for the first, before which a worker reads what waits."""
    moments: list[float] = []

    def end(lease: Lease) -> Finished:
        moments.append(time.process_time())
        return Finished(0.5, "run", "finished")

    queue.work(arms, end, lambda: len(moments) > jobs)
    return [1000 * float(seconds) for seconds in np.diff(moments)]


def claims(jobs: int) -> None:
    spent: dict[tuple[int, int], list[float]] = {size: [] for size in SIZES}
    with ExitStack() as stack:
        queues = {
            (arms, finished): stack.enter_context(filled(arms, finished, waiting=max(1_000, 2 * ROUNDS * jobs)))
            for arms, finished in SIZES
        }
        for _ in range(ROUNDS):
            for size, queue in queues.items():
                spent[size] += lease(queue, arms_of(size[0]), jobs)
    base = float(np.median(spent[SIZES[0]]))
    for (arms, finished), those in spent.items():
        low, median, high = np.percentile(those, [25, 50, 75])
        print(
            f"{arms:,} arms, {finished:,} finished cells: {median:.1f} ms a job ({low:.1f} to {high:.1f}), "
            f"ratio to the first {median / base:.2f}, target {TARGET} ms",
            flush=True,
        )


def entering() -> None:
    began, cpu = time.perf_counter(), time.process_time()
    with filled(1_000, 0, waiting=100_000):
        spent = time.process_time() - cpu
    print(
        f"a plan of 1,000 arms and 100 seeds is entered in {spent:.1f} s ({time.perf_counter() - began:.1f} of wall)"
    )


def waiting() -> None:
    """Count what the workers that wait ask the store, each time one of them looks."""
    looks: list[float] = []
    with filled(1, 0, waiting=1) as queue:
        folder = Path(queue._url.removeprefix("sqlite:///")).parent
        others = [open_queue(folder) for _ in range(WAITING_WORKERS)]
        for other in others:
            sqlalchemy.event.listen(
                other._storage.engine, "before_cursor_execute", lambda *_: looks.append(time.monotonic())
            )
        threads = [threading.Thread(target=other.work, args=(arms_of(1), _never)) for other in others]

        def hold(lease: Lease) -> Finished:
            for thread in threads:
                thread.start()
            time.sleep(1)  # each looks once as it starts
            looks.clear()
            time.sleep(WAIT)
            rate = len({round(moment, 1) for moment in looks}) / WAIT
            print(f"{WAITING_WORKERS} waiting workers look {rate:.1f} times a second together, target 1")
            return Finished(0.5, "run", "finished")

        queue.work(arms_of(1), hold)
        for thread in threads:
            thread.join()


def _never(lease: Lease) -> Finished:
    raise SystemExit(f"{lease.run_key} was leased twice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=50)
    claims(parser.parse_args().jobs)
    entering()
    waiting()


if __name__ == "__main__":
    main()
