"""Commands about one study or run: run, status, report, ui, why."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from stn_bench.cli.options import (
    Address,
    AsJson,
    Cpus,
    EngineName,
    Gpus,
    Root,
    Settings,
    Storage,
    StudyName,
    Threads,
    TrackingUri,
    Workers,
    at_root,
    console,
    print_answer,
    print_json,
    print_table,
    tell_lost,
)
from stn_bench.cli.planning import plan
from stn_bench.study.calibration import calibrated
from stn_bench.study.load import check_runnable, load_plan
from stn_bench.study.spec import OUTSIDE, Share, Study
from stn_bench.system.errors import ConfigError, Interrupted, StoreError, SubjectError
from stn_bench.system.format import counted
from stn_bench.system.machine import Resources, cores
from stn_bench.system.signals import arrived
from stn_bench.system.text import first_line, shorten, without_secrets
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.results import as_read

if TYPE_CHECKING:
    from stn_bench.analysis.analyse import Analysis
    from stn_bench.runner.engine import Engine
    from stn_bench.tracking.record import RunRecord
    from stn_bench.tracking.why import Today


def run(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
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
    engine: EngineName = "processes",
    address: Address = "auto",
    cpus: Cpus = None,
    gpus: Gpus = None,
) -> None:
    """Train what is not trained yet, and write the report. Stopped, it goes on where it was."""
    if dry_run:
        plan(study, root, tracking_uri, storage, settings, workers, threads)
        return
    workspace = Workspace.at(root, tracking_uri, storage)
    planned = as_read(load_plan(study, workspace, settings or ()), workspace.datasets)
    check_runnable(planned, study, confirm=confirm)
    planned = calibrated(planned, workspace.root)
    from stn_bench.runner.settled import Settled
    from stn_bench.runner.shares import share_out

    share = _share(planned.study, engine, cpus, gpus, threads)
    on_nodes = engine == "ray"  # which Ray gives its workers' GPUs
    shared_out = Resources.of(workers, share.cpus) if on_nodes else share_out(planned, workers, threads)
    settled = Settled.of(planned, workspace, confirm=confirm)
    if found := None if accept_stale else settled.look():
        analysis, _ = found
        _print_result(analysis, confirm, workspace.page(study), root)
        _check_any_number(analysis)
        return
    from stn_bench.cli.progress import Progress
    from stn_bench.report.build import keep_report
    from stn_bench.runner.runner import train_study

    with (
        _engine(engine, address, share, workers, workspace) as started,
        Progress(planned.study.name, planned.subject, console) as progress,
    ):
        analysis, tracking = train_study(
            planned, workspace, shared_out, progress, confirm=confirm, accept_stale=accept_stale, engine=started
        )
    page, *_ = keep_report(analysis, workspace.report(study), tracking, logs=workspace.logs)
    settled.note(analysis)
    _print_result(analysis, confirm, page, root)
    _check_any_number(analysis)
    if missing := analysis.unfinished(confirm):
        console.print(
            f"{missing} runs did not finish; the report and {workspace.logs} say why. "
            f"`stn-bench run {study}` tries them again.",
            soft_wrap=True,
            markup=False,
        )
        raise typer.Exit(1)
    if progress.crashed:
        console.print(
            f"{counted(progress.crashed, 'run')} crashed, and runs of other code or libraries stand in for them; "
            f"{workspace.logs} says why. `stn-bench run {study}` tries them again.",
            soft_wrap=True,
            markup=False,
        )
        raise typer.Exit(1)


def _share(study: Study, engine: str, cpus: int | None, gpus: float | None, threads: int | None) -> Share:
    """Return what each worker has: what the command says, else what the study says.

    Raises:
        ConfigError: if it is said of a cluster and there is none, or said twice.
    """
    if engine != "ray" and (cpus is not None or gpus is not None):
        raise ConfigError(
            "--cpus and --gpus: are shares of a cluster; add --engine ray, or use --workers and --threads"
        )
    if engine == "ray" and threads is not None:
        raise ConfigError("--threads: in a cluster a worker trains with the cores it has; say --cpus")
    given = {"cpus": cpus, "gpus": gpus}
    return study.resources.model_copy(update={name: value for name, value in given.items() if value is not None})


def _engine(
    name: str, address: str, share: Share, workers: int | None, workspace: Workspace
) -> AbstractContextManager[Engine | None]:
    """Return what starts the workers; None stands for processes of this machine."""
    if name != "ray":
        return nullcontext(None)
    from stn_bench.runner.cluster import Cluster

    return Cluster(address, share, workspace, workers)


def _check_any_number(analysis: Analysis) -> None:
    """See that a run has a number: one that diverged says something of its arm, all together of what they return.

    Raises:
        SubjectError: if all runs diverged.
    """
    records, plan = analysis.results.records, analysis.plan
    if records and all(record.outcome == "diverged" for record in records):
        raise SubjectError(
            f"study `{plan.study.name}`: all {len(records)} runs diverged ({records[0].reason}): nothing is left to "
            f"compare; see what training returns as `{plan.metric.name}`, and the base's settings. The runs are kept"
        )


def _print_result(analysis: Analysis, confirm: bool, page: Path, root: Path | None) -> None:
    _print_answers(analysis, confirm)
    if stops := _stops(analysis):
        console.print(f"\n{stops}", soft_wrap=True)
    console.print(f"\nreport: {page}\nbrowse: stn-bench ui{at_root(root)}", soft_wrap=True, markup=False)


def status(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a study is: finished, failed and missing runs of each arm."""
    workspace = Workspace.at(root, tracking_uri, storage)
    planned = load_plan(study, workspace, settings or ())
    from stn_bench.runner.stores import analyse_stored

    analysis, _ = analyse_stored(planned, workspace)
    tell_lost(analysis.results)
    rows, finished = _status_rows(analysis), analysis.results.finished
    if as_json:
        print_json({"study": study, "planned": analysis.planned_runs, "finished": finished, "arms": rows})
        return
    table = Table(*({"trials": "tuning trials"}.get(name, name) for name in rows[0]), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(str, row.values()))
    print_table(table)
    console.print(f"\n{finished} of {analysis.planned_runs} runs finished")
    for line in _crashes(analysis):
        console.print(line, soft_wrap=True, markup=False)
    if stops := _stops(analysis):
        console.print(stops, soft_wrap=True)


def _crashes(analysis: Analysis) -> Iterator[str]:
    """Yield why runs crashed, a line for each reason."""
    from stn_bench.tracking.record import run_name

    runs: dict[str, list[str]] = {}
    for run in analysis.results.crashed:
        runs.setdefault(shorten(first_line(run.reason)), []).append(run_name(run))
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
            "crashed": len(arm.crashed) + len(arm.crashed_trials),
        }
        confirmed = {"confirmed": f"{len(arm.confirmed)}/{len(fresh.get(label, ()))}"}
        rows.append(row | (confirmed if analysis.plan.study.confirm else {}))
    return rows


def report(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    settings: Settings = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAMES",
            help="Some of md,html,latex,tables,csv,pdf,svg, by commas (default: md, and those that lie there).",
            show_default=False,
        ),
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the report is stale.")] = False,
) -> None:
    """Write the report of a study again, from what the store holds."""
    workspace = Workspace.at(root, tracking_uri, storage)
    planned = calibrated(load_plan(study, workspace, settings or ()), workspace.root)
    from stn_bench.report.build import (
        DEFAULT,
        build_report,
        keep_report,
        kept_formats,
        places_of,
        present_formats,
        read_formats,
        stale_files,
    )
    from stn_bench.runner.settled import Settled
    from stn_bench.runner.stores import analyse_stored, open_tracking

    folder, settled = workspace.report(study), Settled.of(planned, workspace, command="report")
    if not check and not formats and settled.look():
        for file in places_of(folder, kept_formats(folder)):
            console.print(f"report: {file}", soft_wrap=True, markup=False)
        return
    asked = read_formats(formats) if formats else None
    analysis, runs = analyse_stored(planned, workspace)
    tell_lost(analysis.results)
    if not check:
        kept = keep_report(analysis, folder, open_tracking(workspace), asked, artifact=runs.file, logs=workspace.logs)
        for file in kept:
            console.print(f"report: {file}", soft_wrap=True, markup=False)
        settled.note(analysis)
        return
    stale = stale_files(folder, build_report(analysis, runs.file, asked or present_formats(folder) or DEFAULT))
    if stale:
        console.print(f"{folder} is stale: {', '.join(stale)}", soft_wrap=True, markup=False)
        raise typer.Exit(1)
    console.print(f"{folder} agrees with the store", soft_wrap=True, markup=False)


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
        console.print(f"the store has its own UI: {without_secrets(workspace.tracking)}", soft_wrap=True, markup=False)
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
        code = server.wait()
    except Interrupted as stop:
        server.terminate()
        server.wait()
        if stop.signum != signal.SIGINT:
            raise
        arrived(stop)  # Ctrl-C is how the UI is left
        return
    raise StoreError(f"the MLflow UI ended by itself, with exit code {code}; what it printed above says why")


def why(
    name: Annotated[str, typer.Argument(metavar="RUN", help="First letters of a run's MLflow id or of its run key.")],
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="Another run to compare it with, and not with today.")
    ] = None,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a run would be reused today, or what has changed so that it would be trained again.

    What may change the last digits of its numbers and is in no run key, such as threads, is told too.
    """
    workspace = Workspace.at(root, tracking_uri)
    from stn_bench.runner.stores import open_runs
    from stn_bench.tracking.why import compare_runs, compare_with_today

    runs = open_runs(workspace)
    (record,) = runs.records([runs.find_run(name)])
    if other:
        (second,) = runs.records([runs.find_run(other)])
        _print_comparison(record, second, compare_runs(record, second), as_json)
        return
    today = compare_with_today(record, workspace, cores() if record.study == OUTSIDE else None)
    if as_json:
        told = {"run_id": record.run_id, "run_key": record.run_key, "reused": not today.changed}
        print_json({**told, "changed": today.changed} | ({"conditions": today.conditions} if today.conditions else {}))
        return
    console.print(f"run {record.run_id}: {record.study}, {record.label}, seed {record.seed}", soft_wrap=True)
    console.print(f"run key {record.run_key}", soft_wrap=True)
    if record.identity.start:
        console.print(f"continues the run with key {record.identity.start}", soft_wrap=True)
    for note in today.notes:
        console.print(note, soft_wrap=True, markup=False)
    where = "is in its run key" if today.conditions else "it depends on"
    again = "would be trained again, since:" if today.changed else f"is reused: nothing that {where} has changed"
    console.print(again)
    _print_lines(today.changed)
    if today.conditions:
        console.print("its last digits may be others than today's: what follows is in no run key")
        _print_lines(today.conditions)


def _print_comparison(record: RunRecord, other: RunRecord, found: Today, as_json: bool) -> None:
    if as_json:
        told = {"run_id": record.run_id, "other": other.run_id, "changed": found.changed}
        print_json({**told, "conditions": found.conditions})
        return
    one, two = (f"{run.label}, seed {run.seed} ({run.run_id})" for run in (record, other))
    console.print(f"{two} beside {one}:", soft_wrap=True, markup=False)
    console.print("another run key, since:" if found.changed else "the same run key")
    _print_lines(found.changed)
    if found.conditions:
        console.print("other conditions, which are in no run key and may change last digits:")
        _print_lines(found.conditions)


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        console.print(f"  {line}", soft_wrap=True, markup=False)


def _print_answers(analysis: Analysis, confirm: bool) -> None:
    from stn_bench.analysis.caveats import suspicions
    from stn_bench.analysis.digits import unit_of
    from stn_bench.analysis.summarise import summarise
    from stn_bench.report.sentences import told

    summary = summarise(analysis)
    for question, ablation in zip(analysis.plan.questions, summary.ablations, strict=True):
        print_answer(told(ablation, unit_of(summary, ablation)))
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
