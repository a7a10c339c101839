"""Workers on other machines: what a study leaves for them in the queue, and what they find there."""

from __future__ import annotations

from stn_bench.runner.queue import Queue
from stn_bench.runner.stores import open_queue
from stn_bench.study.plan import Plan
from stn_bench.system.errors import StoreAwayError, StoreError
from stn_bench.system.patience import Patience
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.posted import Posted, as_text, check_same, post, read_posted
from stn_bench.tracking.results import Keys


def find_posted(study: str, workspace: Workspace, patience: Patience) -> Posted | None:
    """Return what `run` posted of a study for workers elsewhere; None if nobody did while there was patience.

    Raises:
        StoreError: if the queue cannot be opened, or what was posted not be read.
    """
    queue = open_queue(workspace)

    def look() -> str:
        if text := queue.posted(study):
            return text
        raise StoreAwayError(f"study `{study}` was not begun yet, in {workspace.queue}")

    try:
        return read_posted(patience.insist(look), study)
    except StoreAwayError:
        return None


def agree_with_others(plan: Plan, queue: Queue, workspace: Workspace, given: Posted | None) -> None:
    """Leave workers elsewhere what they need, and see that they train the same as is trained here.

    Args:
        plan: the plan, whose data are made.
        queue: the job queue.
        workspace: where the data are.
        given: what was posted of the plan, where it was taken from the queue.

    Raises:
        StoreError: if others train it otherwise, or something is another here than where the plan is from.
    """
    if not queue.is_shared:
        return
    here, study = post(plan, Keys(plan.subject, workspace.datasets)), plan.study.name
    if given:
        check_same(given, here)
        return

    def agree(there: str) -> None:
        check_same(read_posted(there, study), here)

    queue.patience.insist(lambda: queue.post(study, as_text(here), agree))


def check_still_posted(plan: Plan, queue: Queue) -> None:
    """See that nobody has begun to train the study otherwise since: two plans would take back each other's jobs.

    Raises:
        StoreError: if somebody has.
    """
    study = plan.study.name
    there = queue.posted(study) if queue.is_shared else ""
    if there and plan.digest != read_posted(there, study).digest:
        raise StoreError(f"study `{study}`: another plan of it was begun meanwhile, and is trained from now on")
