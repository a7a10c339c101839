"""Many pictures, drawn in order by several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from stn_bench.subjects.stn.data.render import render_range
from stn_bench.subjects.stn.data.spec import Chunk, DatasetSpec
from stn_bench.system.errors import MachineError
from stn_bench.system.signals import children_ignore_interrupts, follow_parent

CHUNK_BYTES = 2**20
"""How much a process draws before it hands it over: about 0.1 s of work, so that progress is steady."""


def render_chunks(spec: DatasetSpec, processes: int) -> Generator[Chunk, None, None]:
    """Yield all pictures of `spec` in the order of their indices, some at a time.

    Args:
        spec: the data set.
        processes: how many processes draw; with 1, this one does.

    Raises:
        MachineError: if a drawing process is killed.
    """
    ranges = _chunk_ranges(spec)
    if min(processes, len(ranges)) <= 1:
        return (render_range(spec, indices) for indices in ranges)
    return _render_in_processes(spec, ranges, min(processes, len(ranges)))


def _chunk_ranges(spec: DatasetSpec) -> list[range]:
    step = max(1, CHUNK_BYTES // (3 * spec.size**2))
    return [range(start, min(start + step, spec.count)) for start in range(0, spec.count, step)]


def _render_in_processes(spec: DatasetSpec, ranges: list[range], processes: int) -> Generator[Chunk, None, None]:
    # Spawned, not forked: a fork of a process in which TensorFlow runs threads can hang.
    spawn = multiprocessing.get_context("spawn")
    with children_ignore_interrupts():  # its locks start a helper of Python's
        pool = ProcessPoolExecutor(processes - 1, mp_context=spawn, initializer=follow_parent)
    try:
        with children_ignore_interrupts():
            futures = [pool.submit(render_range, spec, indices) for indices in ranges]
        yield from _draw_along(spec, ranges, futures)
    except BrokenProcessPool as error:
        raise MachineError(
            f"a process that draws pictures was killed ({error}). If memory ran out, use fewer processes."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _draw_along(spec: DatasetSpec, ranges: list[range], futures: list[Future[Chunk]]) -> Generator[Chunk, None, None]:
    """Yield the futures' chunks in order; while the next is not drawn yet, draw one here that nobody has begun.

    This process would only wait otherwise, and it draws from the first moment while the others still start.
    """
    ours: dict[int, Chunk] = {}
    untouched = 0
    for number, future in enumerate(futures):
        untouched = max(untouched, number)
        while number not in ours and not future.done() and untouched < len(futures):
            if futures[untouched].cancel():
                ours[untouched] = render_range(spec, ranges[untouched])
            untouched += 1
        yield ours.pop(number) if number in ours else future.result()
