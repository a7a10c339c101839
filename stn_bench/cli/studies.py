"""Commands about one study or run: run, status, report, ui, why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from stn_bench.cli.options import (
    AsJson,
    Root,
    Settings,
    StudyName,
    Threads,
    TrackingUri,
    Workers,
    console,
    print_answer,
    print_json,
)
from stn_bench.cli.planning import plan
from stn_bench.study.load import check_runnable, load_plan
from stn_bench.study.plan import Plan
from stn_bench.system.errors import Interrupted
from stn_bench.system.format import counted
from stn_bench.system.machine import Resources
from stn_bench.system.text import shorten, without_secrets
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.analysis.analyse import Analysis
    from stn_bench.tracking.mlflow import Tracking


def run(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    workers: Workers = None,
    threads: Threads = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Then train the best arm of each question on the study's fresh seeds.")
    ] = False,
    accept_stale: Annotated[
        bool,
        typer.Option(
            "--accept-stale",
            help="Keep runs that other code or library versions trained; the report says where versions are mixed.",
        ),
    ] = False,
) -> None:
    """Train what is not trained yet, and write the report. Stopped, it goes on where it was."""
    if dry_run:
        plan(study, root, tracking_uri, settings, workers, threads)
        return
    workspace = Workspace.at(root, tracking_uri)
    planned = load_plan(study, workspace, settings or ())
    check_runnable(planned, study, confirm=confirm)
    from stn_bench.cli.progress import Progress
    from stn_bench.report.build import keep_report
    from stn_bench.runner.runner import train_study

    shared_out = Resources.of(workers, threads)
    with Progress(planned, console) as progress:
        analysis, tracking = train_study(
            planned, workspace, shared_out, progress, confirm=confirm, accept_stale=accept_stale
        )
    page, *_ = keep_report(analysis, workspace.report(study), tracking)
    _print_answers(analysis, confirm)
    if stops := _stops(analysis):
        console.print(f"\n{stops}", soft_wrap=True)
    at_root = f" --root {root}" if root else ""
    console.print(f"\nreport: {page}\nbrowse: stn-bench ui{at_root}", soft_wrap=True)
    if missing := analysis.missing_runs + (analysis.confirming_runs if confirm else 0):
        console.print(
            f"{missing} runs did not finish; the report and {workspace.logs} say why. "
            f"`stn-bench run {study}` tries them again.",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    if progress.crashed:
        console.print(
            f"{counted(progress.crashed, 'run')} crashed, and runs of other code or libraries stand in for them; "
            f"{workspace.logs} says why. `stn-bench run {study}` tries them again.",
            soft_wrap=True,
        )
        raise typer.Exit(1)


def status(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a study is: finished, failed and missing runs of each arm."""
    workspace = Workspace.at(root, tracking_uri)
    analysis, _ = _analyse(load_plan(study, workspace, settings or ()), workspace)
    rows, finished = _status_rows(analysis), analysis.results.finished
    if as_json:
        print_json({"study": study, "planned": analysis.planned_runs, "finished": finished, "arms": rows})
        return
    table = Table(*({"trials": "tuning trials"}.get(name, name) for name in rows[0]), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
    console.print(f"\n{finished} of {analysis.planned_runs} runs finished")
    for line in _crashes(analysis):
        console.print(line, soft_wrap=True, markup=False)
    if stops := _stops(analysis):
        console.print(stops, soft_wrap=True)


def _crashes(analysis: Analysis) -> Iterator[str]:
    """Yield why runs crashed, a line for each reason."""
    runs: dict[str, list[str]] = {}
    for run in analysis.results.crashed:
        runs.setdefault(shorten(run.reason.partition("\n")[0]), []).append(f"{run.label}, seed {run.seed}")
    for why, named in runs.items():
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        yield f"crashed: {named[0]}{more}: {why}"


def _status_rows(analysis: Analysis) -> list[dict[str, Any]]:
    planned, fresh = analysis.planned_seeds, analysis.confirming_seeds
    rows = []
    for arm in analysis.results.arms:
        label = arm.arm.label
        row = {
            "arm": label,
            "trials": f"{len(arm.trials)}/{arm.arm.trials}",
            "seeds": f"{len(arm.runs)}/{planned[label]}",
            "diverged": sum(run.outcome == "diverged" for run in arm.runs.values()),
            "crashed": len(arm.crashed),
        }
        confirmed = {"confirmed": f"{len(arm.confirmed)}/{len(fresh.get(label, ()))}"}
        rows.append(row | (confirmed if analysis.plan.study.confirm else {}))
    return rows


def report(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAMES",
            help="Some of md,html,latex,csv,pdf,svg, by commas [default: md, and those that lie there].",
            show_default=False,
        ),
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the report is stale.")] = False,
) -> None:
    """Write the report of a study again, from what the store holds."""
    workspace = Workspace.at(root, tracking_uri)
    planned = load_plan(study, workspace, settings or ())
    from stn_bench.report.build import (
        DEFAULT,
        build_report,
        keep_report,
        present_formats,
        read_formats,
        stale_files,
    )

    folder = workspace.report(study)
    asked = read_formats(formats) if formats else None
    analysis, tracking = _analyse(planned, workspace)
    if not check:
        for file in keep_report(analysis, folder, tracking, asked):
            console.print(f"report: {file}", soft_wrap=True)
        return
    stale = stale_files(folder, build_report(analysis, tracking.file, asked or present_formats(folder) or DEFAULT))
    if stale:
        console.print(f"{workspace.report(study)} is stale: {', '.join(stale)}", soft_wrap=True)
        raise typer.Exit(1)
    console.print(f"{workspace.report(study)} agrees with the store", soft_wrap=True)


def ui(
    root: Root = None,
    tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets the whole network read and change the store.")
    ] = "127.0.0.1",
) -> None:
    """Open the MLflow UI on this store, on this machine alone unless --host says otherwise, until Ctrl-C."""
    workspace = Workspace.at(root, tracking_uri)
    if workspace.tracking.startswith("http"):
        console.print(f"the store has its own UI: {without_secrets(workspace.tracking)}", soft_wrap=True)
        return
    from stn_bench.runner.stores import open_tracking
    from stn_bench.tracking.server import LOCAL, serve

    server = serve(open_tracking(workspace).uri, port, host)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    console.print(f"MLflow UI: http://{address} (ready in some seconds; Ctrl-C ends it)", soft_wrap=True, markup=False)
    if host not in LOCAL:
        warning = f"it asks for no password: whoever reaches {address} can read and change the store"
        console.print(warning, soft_wrap=True, markup=False)
    try:
        raise typer.Exit(server.wait())
    except Interrupted:  # Ctrl-C is how the UI is left
        server.terminate()
        server.wait()


def why(
    name: Annotated[str, typer.Argument(metavar="RUN", help="First letters of a run's MLflow id or of its run key.")],
    root: Root = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a run would be reused today, or what has changed so that it would be trained again."""
    workspace = Workspace.at(root, tracking_uri)
    from stn_bench.runner.stores import open_tracking
    from stn_bench.tracking.why import compare_with_today

    tracking = open_tracking(workspace)
    (record,) = tracking.records([tracking.find_run(name)])
    today = compare_with_today(record, workspace)
    if as_json:
        told = {"run_id": record.run_id, "run_key": record.run_key, "reused": not today.changed}
        print_json({**told, "changed": today.changed})
        return
    console.print(f"run {record.run_id}: {record.study}, {record.label}, seed {record.seed}", soft_wrap=True)
    console.print(f"run key {record.run_key}", soft_wrap=True)
    if record.identity.start:
        console.print(f"continues the run with key {record.identity.start}", soft_wrap=True)
    for note in today.notes:
        console.print(note, soft_wrap=True, markup=False)
    again = "would be trained again, since:" if today.changed else "is reused: nothing that it depends on has changed"
    console.print(again)
    for line in today.changed:
        console.print(f"  {line}", soft_wrap=True, markup=False)


def _analyse(planned: Plan, workspace: Workspace) -> tuple[Analysis, Tracking]:
    from stn_bench.analysis.analyse import analyse
    from stn_bench.runner.stores import open_tracking
    from stn_bench.tracking.results import gather

    tracking = open_tracking(workspace)
    return analyse(gather(planned, tracking, workspace.datasets)), tracking


def _print_answers(analysis: Analysis, confirm: bool) -> None:
    from stn_bench.analysis.caveats import suspicions
    from stn_bench.analysis.summarise import summarise
    from stn_bench.report.sentences import told

    summary = summarise(analysis)
    for question, ablation in zip(analysis.plan.questions, summary.ablations, strict=True):
        print_answer(told(ablation, summary.unit))
        for name in question.arms:
            for doubt in suspicions(question, name, analysis):
                console.print(f"  ! {name} {doubt}", markup=False, soft_wrap=True)
        if confirm and not ablation.confirmation:
            console.print("  no arm was confirmed: the verdicts are invalid, or runs are missing", soft_wrap=True)


def _stops(analysis: Analysis) -> str:
    """Return which arms an early look decided, so that nobody wonders where their other seeds are; a line for each."""
    looks = len(analysis.plan.study.all_looks)
    return "\n".join(
        f"stopped at look {look} of {looks}: {', '.join(names)}" for look, names in analysis.stops.items()
    )


__all__ = ["report", "run", "status", "ui", "why"]
