"""The command `worker`: it trains what a `run` on another machine has begun."""

from __future__ import annotations

from typing import Annotated

import typer

from stn_bench.cli.options import Root, Storage, StudyName, Threads, TrackingUri, Workers, console
from stn_bench.system.errors import StoreError
from stn_bench.system.patience import Patience
from stn_bench.system.workspace import STORAGE_VARIABLE, TRACKING_VARIABLE, Workspace, sqlite_file

Wait = Annotated[
    float, typer.Option("--wait", min=0.0, metavar="SECONDS", help="Wait so long for a `run` to begin the study.")
]
Trusted = Annotated[
    bool, typer.Option("--trust", help="Run code that the store names, if no study under --root names it.")
]


def worker(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    workers: Workers = None,
    threads: Threads = None,
    wait: Wait = 0.0,
    trust: Trusted = False,
) -> None:
    """Train runs of a study that was begun elsewhere, until none is left; any number of machines may.

    The plan comes from the store. The data are made here and compared, and so are code and libraries. SIGTERM ends the
    epoch, keeps the checkpoint and gives the run back.
    """
    workspace = Workspace.at(root, tracking_uri, storage)
    for address, option, variable in (
        (workspace.queue, "--storage", STORAGE_VARIABLE),
        (workspace.tracking, "--tracking-uri", TRACKING_VARIABLE),
    ):
        if sqlite_file(address):
            raise StoreError(
                f"{option}: expected the address of a store that several machines reach, given so or in {variable}; "
                f"on one machine, `stn-bench run` is all it takes"
            )
    from stn_bench.cli.progress import Progress
    from stn_bench.runner.elsewhere import find_posted
    from stn_bench.runner.runner import train_study
    from stn_bench.runner.shares import share_out
    from stn_bench.tracking.posted import plan_of

    posted = find_posted(study, workspace, Patience(wait, tell=_say))
    if posted is None:
        raise StoreError(
            f"study `{study}` was not begun in this store; begin it with `stn-bench run {study}` and the same "
            f"addresses, or let this worker wait for that with `--wait SECONDS`"
        )
    plan = plan_of(posted, workspace, trust=trust)
    with Progress(plan.study.name, plan.subject, console) as progress:
        analysis, _ = train_study(
            plan,
            workspace,
            share_out(plan, workers, threads),
            progress,
            confirm=posted.confirm,
            accept_stale=posted.accept_stale,
            given=posted,
        )
    missing = analysis.unfinished(confirm=posted.confirm)
    console.print(
        f"{analysis.results.finished} runs of study {study} are finished, {missing} missing; "
        f"`stn-bench report {study}` writes the report",
        soft_wrap=True,
        markup=False,
    )
    if missing:
        raise typer.Exit(1)


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)


__all__ = ["worker"]
