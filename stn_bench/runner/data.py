"""The data of a round, made before its first job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stn_bench.subject import Lent, Subject
from stn_bench.system.errors import MachineError
from stn_bench.system.machine import Resources, children_without_main
from stn_bench.system.workspace import Workspace

Tell = Callable[[str, int, int], None]
"""(name of the data, examples that are made, examples in all) -> nothing."""


def prepare_data(
    subject: Subject, settings: Sequence[Any], workspace: Workspace, resources: Resources, tell: Tell
) -> None:
    """Make the data of some settings, where a subject has any.

    Raises:
        MachineError: if a library is missing that makes them.
    """
    if subject.prepare is None:
        return
    try:
        with children_without_main():  # it may share out the work
            subject.prepare(settings, Lent(workspace.datasets, resources.workers, tell))
    except ModuleNotFoundError as error:
        raise MachineError(f"subject `{subject.name}`: making its data takes `{error.name}`; install it") from error
