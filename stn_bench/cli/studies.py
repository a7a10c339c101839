"""Commands about studies: list, show, check, run, status, report, ui, why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
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
    print_json,
)
from stn_bench.cli.planning import plan
from stn_bench.study.catalogue import Catalogue
from stn_bench.study.load import load_plan
from stn_bench.study.plan import Plan
from stn_bench.study.preregistration import check_preregistration
from stn_bench.study.spec import Ablation, Study
from stn_bench.system.errors import CatalogueError, Interrupted
from stn_bench.system.machine import Resources
from stn_bench.system.text import without_secrets
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.analysis.analyse import Analysis
    from stn_bench.tracking.mlflow import Tracking


def list_all(root: Root = None, as_json: AsJson = False) -> None:
    """List the ablations and studies, with their questions."""
    catalogue = Catalogue(Workspace.at(root).root)
    ablations = [catalogue.ablation(name) for name in catalogue.names("ablations")]
    studies = [catalogue.study(name) for name in catalogue.names("studies")]
    if as_json:
        print_json({"ablations": [_about(a) for a in ablations], "studies": [_about_study(s) for s in studies]})
        return
    console.print("[dim]ablations[/]")
    for ablation in ablations:
        arms = ", ".join(arm.name for arm in ablation.arms)
        lines = (escape(ablation.question), f"[dim]{escape(ablation.source)}[/]", f"arms: {arms}")
        _print_entry(ablation.name, lines)
    console.print("\n[dim]studies[/]")
    for study in studies:
        asks = f"{len(study.seeds)} seeds, {', '.join(study.ablations)}"
        _print_entry(study.name, (escape(study.title), asks))


def _print_entry(name: str, lines: Iterable[str]) -> None:
    console.print(f"[bold]{name}[/]")
    for line in lines:
        console.print(f"  {line}", soft_wrap=True)


def show(
    name: Annotated[str, typer.Argument(help="Name of an ablation or of a study.")],
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Show one ablation or study: its question, its arms, its settings."""
    catalogue = Catalogue(Workspace.at(root).root)
    is_study = name in catalogue.names("studies") and name not in catalogue.names("ablations")
    found: Study | Ablation = catalogue.study(name) if is_study else catalogue.ablation(name)
    about = _about_study(found) if isinstance(found, Study) else _about(found)
    if as_json:
        print_json(about)
        return
    arms = about.pop("arms", [])
    for key, value in about.items():
        if value not in ("", {}, []):
            console.print(f"[bold]{key}[/]: {escape(_plain(value))}")
    for arm in arms:
        console.print(f"  [bold]{arm['name']}[/]: {escape(_plain(arm['set']))}", end="")
        console.print(f"  (published: {_plain(arm['published'])})" if arm["published"] else "")


def check(root: Root = None) -> None:
    """Check every ablation and study file, and that each study can be planned."""
    workspace = Workspace.at(root)
    catalogue = Catalogue(workspace.root)
    for name in catalogue.names("ablations"):
        catalogue.ablation(name)
    for name in catalogue.names("studies"):
        load_plan(name, workspace)
    console.print(
        f"{len(catalogue.names('ablations'))} ablations and {len(catalogue.names('studies'))} studies are sound"
    )


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
    check_preregistration(planned)
    if confirm:
        _check_confirm(planned)
    from stn_bench.cli.progress import Progress
    from stn_bench.runner.runner import Runner
    from stn_bench.runner.stores import open_stores

    stores = open_stores(workspace)
    with Progress(planned, console) as progress:
        runner = Runner(planned, stores, workspace, Resources.of(workers, threads), progress, accept_stale)
        analysis = runner.run(confirm=confirm)
    folder = _write_report(analysis, workspace, stores.tracking)
    _print_answers(analysis, confirm)
    if stops := _stops(analysis):
        console.print(f"\n{stops}", soft_wrap=True)
    at_root = f" --root {root}" if root else ""
    console.print(f"\nreport: {folder / 'report.md'}\nbrowse: stn-bench ui{at_root}", soft_wrap=True)
    if missing := analysis.missing_runs + (analysis.confirming_runs if confirm else 0):
        console.print(
            f"{missing} runs did not finish; the report and {workspace.logs} say why. "
            f"`stn-bench run {study}` tries them again.",
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
    if stops := _stops(analysis):
        console.print(stops, soft_wrap=True)


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
            help="Some of md,html,latex,csv, by commas [default: md, and those that lie there].",
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
        FORMATS,
        build_report,
        kept_formats,
        present_formats,
        read_formats,
        stale_files,
    )

    folder = workspace.report(study)
    asked = read_formats(formats) if formats else None
    analysis, tracking = _analyse(planned, workspace)
    if not check:
        wanted = asked or kept_formats(folder)
        _write_report(analysis, workspace, tracking, wanted)
        for name in wanted:
            console.print(f"report: {folder / FORMATS[name]}", soft_wrap=True)
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


def _about(ablation: Ablation) -> dict[str, Any]:
    return ablation.model_dump(mode="json", exclude={"factors"} if not ablation.factors else set())


def _about_study(study: Study) -> dict[str, Any]:
    return study.model_dump(mode="json")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_plain(item)}" for key, item in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _analyse(planned: Plan, workspace: Workspace) -> tuple[Analysis, Tracking]:
    from stn_bench.analysis.analyse import analyse
    from stn_bench.runner.stores import open_tracking
    from stn_bench.tracking.results import gather

    tracking = open_tracking(workspace)
    return analyse(gather(planned, tracking, workspace.datasets)), tracking


def _write_report(
    analysis: Analysis, workspace: Workspace, tracking: Tracking, formats: tuple[str, ...] | None = None
) -> Path:
    """Write the report in these formats, else in Markdown and the formats that exist, so that all stay current."""
    from stn_bench.analysis.summarise import summarise
    from stn_bench.report.build import build_report, kept_formats, write_report
    from stn_bench.report.page import opening

    name = analysis.plan.study.name
    folder = workspace.report(name)
    write_report(folder, build_report(analysis, tracking.file, formats or kept_formats(folder)))
    tracking.log_report(tracking.open_study(name), name, folder, opening(summarise(analysis)))
    return folder


def _print_answers(analysis: Analysis, confirm: bool) -> None:
    from stn_bench.analysis.summarise import summarise
    from stn_bench.report.sentences import confirmed, ranked, sentence

    summary = summarise(analysis)
    for ablation in summary.ablations:
        console.print(f"\n[bold]{escape(ablation.question)}[/]", soft_wrap=True)
        for arm in ranked(ablation):
            line = f"  {arm.verdict}: {sentence(arm, ablation, summary.unit)}".replace("`", "")
            console.print(line, markup=False, soft_wrap=True)
        if ablation.confirmation:
            line = f"  {confirmed(ablation.confirmation, summary.unit)}".replace("`", "")
            console.print(line, markup=False, soft_wrap=True)
        elif confirm:
            console.print("  no arm was confirmed: the verdicts are invalid, or runs are missing", soft_wrap=True)


def _stops(analysis: Analysis) -> str:
    """Return which arms an early look decided, so that nobody wonders where their other seeds are; a line for each."""
    looks = len(analysis.plan.study.all_looks)
    return "\n".join(
        f"stopped at look {look} of {looks}: {', '.join(names)}" for look, names in analysis.stops.items()
    )


def _check_confirm(planned: Plan) -> None:
    if not planned.study.confirm:
        raise CatalogueError(
            f"studies/{planned.study.name}.toml: `run --confirm` needs fresh seeds; add `confirm = [..]` with some "
            f"that are neither in `seeds` nor `tuning.seed`"
        )


__all__ = ["check", "list_all", "report", "run", "show", "status", "ui", "why"]
