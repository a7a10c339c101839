"""The probe: how long a run would take here, from a short training of each arm, as many at once as in a study."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from stn_bench.isolation import isolated, watch_imports
from stn_bench.study.plan import PlannedArm
from stn_bench.subject import Lent, find_subject, is_shipped
from stn_bench.system.errors import ConfigError, MachineError, StnBenchError
from stn_bench.system.global_state import environment
from stn_bench.system.machine import Resources, training_environment
from stn_bench.system.own_code import as_exception, told
from stn_bench.system.signals import children_ignore_interrupts, end_with_parent, leave_to_parent
from stn_bench.system.workspace import Workspace


@dataclass(frozen=True)
class _Sample:
    """A sample to probe: the label of an arm, the name of its subject, and its settings by dotted path."""

    label: str
    subject: str
    settings: Mapping[str, Any]


def probe(arms: Sequence[PlannedArm], workspace: Workspace, resources: Resources) -> dict[str, float]:
    """Return the label of each arm -> seconds of one of its runs.

    Every worker trains for as long as any arm is measured, so that they slow each other as in a study.

    Raises:
        ConfigError: if the subject has no probe.
        MachineError: if a short training fails.
        StnBenchError: whatever the subject's probe says of the data or the settings.
    """
    for arm in arms:
        if arm.subject.probe is None:
            raise ConfigError(
                f"--probe: subject `{arm.subject.name}` has no probe; without it, time is estimated from finished runs"
            )
    found: dict[str, list[float]] = {}
    turns = itertools.cycle([_Sample(arm.label, arm.subject.name, arm.settings) for arm in arms])
    with tempfile.TemporaryDirectory() as folder, _helpers(resources, workspace, Path(folder)) as helpers:
        for helper in helpers:
            helper.send(next(turns))
        while len(found) < len(arms):
            ready = wait(helpers)
            for helper in (one for one in helpers if one in ready):
                label, seconds = _answer(helper)
                found.setdefault(label, []).append(seconds)
                helper.send(next(turns))
    return {label: statistics.fmean(seconds) for label, seconds in found.items()}


@contextmanager
def _helpers(resources: Resources, workspace: Workspace, folder: Path) -> Iterator[list[Connection]]:
    """Start processes that measure the samples they are sent, and end them afterwards, whatever they are at."""
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive fork
    processes, helpers = [], []
    try:
        for number in range(resources.workers):
            ours, theirs = context.Pipe()
            arguments = (resources.threads, workspace, folder, folder / f"helper-{number}.log", theirs)
            process = context.Process(target=_help, args=arguments, daemon=True)
            with children_ignore_interrupts(), environment(training_environment(resources.threads)):
                process.start()
            theirs.close()
            processes.append(process)
            helpers.append(ours)
        yield helpers
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _answer(helper: Connection) -> tuple[str, float]:
    try:
        label, answer = helper.recv()
    except (EOFError, OSError):
        raise MachineError("the probe died; see what training needs with `stn-bench doctor`") from None
    if isinstance(answer, StnBenchError):
        raise answer
    if isinstance(answer, str):
        raise MachineError(f"{label}: cannot be probed: {answer}")
    return label, answer


def _help(threads: int, workspace: Workspace, scratch: Path, log: Path, connection: Connection) -> None:
    """Measure one sample after the other until the other end of the connection is gone."""
    leave_to_parent()
    end_with_parent()
    os.environ.update(training_environment(threads))  # before the subject's libraries are loaded
    watch_imports()
    with log.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    while True:
        try:
            sample = connection.recv()
        except (EOFError, OSError):
            return
        connection.send((sample.label, _measure(sample, workspace, scratch)))


def _measure(sample: _Sample, workspace: Workspace, scratch: Path) -> float | str | StnBenchError:
    """Return the seconds of a run, or why they cannot be told."""
    try:
        if not is_shipped(sample.subject):
            workspace.find_code()
        subject = find_subject(sample.subject)
        settings = subject.read(sample.settings)
        if subject.foreign_code(settings):
            workspace.find_code()
        assert subject.probe is not None
        with isolated():
            return subject.probe(settings, Lent(workspace.datasets), scratch)
    except ConfigError as error:  # of the arm's own settings: its label says which
        return told(error)
    except StnBenchError as error:
        return error
    except BaseException as error:  # a probe of the user's may raise anything
        return told(as_exception(error))
