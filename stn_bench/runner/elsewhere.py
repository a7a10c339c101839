"""Workers on other machines: what a study leaves for them in the queue, and what they find there."""

from __future__ import annotations

import time

from stn_bench.runner.queue import Queue
from stn_bench.runner.stores import open_queue
from stn_bench.study.plan import Plan
from stn_bench.system.errors import StoreAwayError, StoreError
from stn_bench.system.patience import Patience
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.posted import Posted, as_text, check_same, differences, post, read_posted, shown
from stn_bench.tracking.results import Keys

LULL_SECONDS = 120.0
"""For how long a worker that may wait takes a study without open jobs for one that is about to be begun anew.

It may have been started beside a `run`, which first makes the data; or late, when all is trained: then it should not
hold its machine for an hour.
"""


def find_posted(study: str, workspace: Workspace, patience: Patience) -> Posted | None:
    """Return what `run` posted of a study for workers elsewhere; None if nobody did while there was patience.

    What an earlier `run` posted counts once there are jobs, or none have come for a while.

    Raises:
        StoreError: if the queue cannot be opened, or what was posted not be read.
    """
    queue = open_queue(workspace)
    lull = time.monotonic() + min(patience.seconds, LULL_SECONDS)

    def look() -> str:
        text = queue.posted(study)
        if not text:
            raise StoreAwayError(f"study `{study}` was not begun yet, in {workspace.queue}")
        if time.monotonic() < lull and not queue.any_open(study):
            raise StoreAwayError(f"study `{study}` has nothing to train now, in {workspace.queue}")
        return text

    try:
        return read_posted(patience.insist(look), study)
    except StoreAwayError:
        return None


def agree_with_others(
    plan: Plan,
    queue: Queue,
    workspace: Workspace,
    given: Posted | None,
    *,
    confirm: bool = False,
    accept_stale: bool = False,
) -> Posted | None:
    """Leave workers elsewhere what they need, and see that they train the same as is trained here.

    Args:
        plan: the plan, whose data are made.
        queue: the job queue.
        workspace: where the data are.
        given: what was posted of the plan, where it was taken from the queue.
        confirm: whether confirming runs are asked for here, which others then train too.
        accept_stale: whether runs of other code or libraries are kept here, and then by others too.

    Returns:
        What they train, as it is here; None where no other machine can take part.

    Raises:
        StoreError: if others train it otherwise, or something is another here than where the plan is from.
    """
    if not queue.is_shared:
        return None
    keys, study = Keys(plan.subject, workspace.datasets), plan.study.name
    here = post(plan, keys, confirm=confirm, accept_stale=accept_stale)
    if given:
        check_same(given, here)
        return here

    def agree(there: str) -> None:
        check_same(read_posted(there, study), here)

    queue.patience.insist(lambda: queue.post(study, as_text(here), agree))
    return here


def check_still_posted(here: Posted, queue: Queue) -> None:
    """See that nobody has begun to train the study otherwise since: two would take back each other's jobs.

    Raises:
        StoreError: if somebody has, with another plan, other code, libraries or data.
    """
    there = queue.posted(here.name)
    if there and (lines := differences(read_posted(there, here.name), here)):
        raise StoreError(
            f"study `{here.name}`: was begun otherwise meanwhile, and is trained so from now on: {shown(lines)}"
        )
