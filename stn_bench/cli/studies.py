"""Commands about studies: list, show, check, plan, run, status, report, ui, why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from stn_bench.catalogue import Ablation, Catalogue, Study
from stn_bench.cli.options import (
    AsJson,
    Root,
    Settings,
    StudyName,
    TrackingUri,
    console,
    find_code,
    load_plan,
    print_json,
)
from stn_bench.config import Config
from stn_bench.errors import Interrupted
from stn_bench.nn.layout import flops
from stn_bench.plan import COSTLIER, COSTLIER_SIGN, Plan, PlannedArm
from stn_bench.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.results import Results
    from stn_bench.tracking import Tracking

Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes that train [default: one a core].", show_default=False),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="Threads in each worker [default: the cores, shared out].", show_default=False
    ),
]


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
        load_plan(name, workspace, None)
    console.print(
        f"{len(catalogue.names('ablations'))} ablations and {len(catalogue.names('studies'))} studies are sound"
    )


def plan(
    study: StudyName,
    root: Root = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show what a study would train, and train nothing."""
    workspace = Workspace.at(root)
    planned = load_plan(study, workspace, settings)
    if as_json:
        print_json(_plan_tree(planned, workspace))
    else:
        _print_plan(planned)


def run(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    workers: Workers = None,
    threads: Threads = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
) -> None:
    """Train what is not trained yet, and write the report. Stopped, it goes on where it was."""
    if dry_run:
        plan(study, root, settings)
        return
    workspace = Workspace.at(root, tracking_uri)
    planned = load_plan(study, workspace, settings)
    from stn_bench.cli.progress import Progress
    from stn_bench.machine import cores
    from stn_bench.runner import Crew, Runner

    count = workers or (max(1, cores() // threads) if threads else cores())
    crew = Crew(count, threads or max(1, cores() // count))
    with Progress(planned, console) as progress:
        runner = Runner(planned, workspace, crew, progress)
        results = runner.run()
    folder = _write_report(results, workspace, runner.tracking)
    _print_answers(results)
    console.print(f"\nreport: {folder / 'report.md'}\nbrowse: stn-bench ui{_root_option(root)}", soft_wrap=True)
    missing = results.plan.cells() - results.finished
    if missing:
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
    results, _ = _gather(load_plan(study, workspace, settings), workspace)
    rows = [
        {
            "arm": arm.arm.label,
            "trials": f"{len(arm.trials)}/{arm.arm.trials}",
            "seeds": f"{len(arm.runs)}/{len(arm.arm.seeds)}",
            "diverged": sum(run.outcome == "diverged" for run in arm.runs.values()),
            "crashed": len(arm.crashed),
        }
        for arm in results.arms
    ]
    if as_json:
        print_json({"study": study, "planned": results.plan.cells(), "finished": results.finished, "arms": rows})
        return
    table = Table("arm", "tuning trials", "seeds", "diverged", "crashed", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
    console.print(f"\n{results.finished} of {results.plan.cells()} runs finished")


def report(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the report is stale.")] = False,
) -> None:
    """Write the report of a study again, from what the store holds."""
    workspace = Workspace.at(root, tracking_uri)
    results, tracking = _gather(load_plan(study, workspace, settings), workspace)
    if not check:
        console.print(f"report: {_write_report(results, workspace, tracking) / 'report.md'}", soft_wrap=True)
        return
    from stn_bench.report.build import build_report, stale_files

    stale = stale_files(workspace.report(study), build_report(results, tracking.file))
    if stale:
        console.print(f"{workspace.report(study)} is stale: {', '.join(stale)}", soft_wrap=True)
        raise typer.Exit(1)
    console.print(f"{workspace.report(study)} agrees with the store", soft_wrap=True)


def ui(
    root: Root = None,
    tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow UI on this store, on this machine alone, until Ctrl-C."""
    workspace = Workspace.at(root, tracking_uri)
    if workspace.tracking.startswith("http"):
        console.print(f"the store has its own UI: {workspace.tracking}", soft_wrap=True)
        return
    tracking = _tracking(workspace)
    from stn_bench.tracking import serve

    console.print(f"MLflow UI: http://127.0.0.1:{port} (ready in some seconds; Ctrl-C ends it)", soft_wrap=True)
    server = serve(tracking.uri, port)
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
    tracking = _tracking(workspace)
    (record,) = tracking.records([tracking.find_run(name)])
    from stn_bench.config import Config, override
    from stn_bench.data.dataset import read_fingerprint
    from stn_bench.data.spec import DatasetSpec
    from stn_bench.identity import differences, identify

    find_code(workspace)
    config = override(Config(), record.settings, where=f"run {record.run_id}")
    fingerprint = read_fingerprint(DatasetSpec.of(config), workspace.datasets)
    old = record.identity
    changed = differences(old, identify(config, record.seed, fingerprint or old.dataset, old.start))
    if as_json:
        print_json({"run_id": record.run_id, "run_key": record.run_key, "reused": not changed, "changed": changed})
        return
    console.print(f"run {record.run_id}: {record.study}, {record.label}, seed {record.seed}", soft_wrap=True)
    console.print(f"run key {record.run_key}", soft_wrap=True)
    if old.start:
        console.print(f"trained on from the run with key {old.start}", soft_wrap=True)
    if fingerprint is None:
        console.print("its pictures are not made here; taken to be the same", soft_wrap=True)
    console.print("would be trained again, since:" if changed else "is reused: nothing that it depends on has changed")
    for line in changed:
        console.print(f"  {line}", soft_wrap=True, markup=False)


def _about(ablation: Ablation) -> dict[str, Any]:
    return ablation.model_dump(mode="json", exclude={"factors"} if not ablation.factors else set())


def _about_study(study: Study) -> dict[str, Any]:
    return study.model_dump(mode="json")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_plain(item)}" for key, item in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _plan_tree(planned: Plan, workspace: Workspace) -> dict[str, Any]:
    study = planned.study
    return {
        "study": study.name,
        "digest": planned.digest,
        "metric": study.metric,
        "direction": study.direction,
        "margin": study.margin,
        "runs": planned.cells(),
        "arms": [_arm_tree(arm, workspace) for arm in planned.arms],
        "ablations": [
            {
                "name": one.ablation.name,
                "question": one.ablation.question,
                "base": one.base.label,
                "arms": {written.name: arm.label for written, arm in one.arms},
            }
            for one in planned.ablations
        ],
    }


def _arm_tree(arm: PlannedArm, workspace: Workspace) -> dict[str, Any]:
    from stn_bench.results import run_key

    specs = [*arm.tuning_specs(), *(arm.verdict_specs({}) if not arm.trials else ())]
    return {
        "label": arm.label,
        "ablation": arm.ablation,
        "name": arm.name,
        "set": dict(arm.changes),
        "seeds": arm.seeds,
        "trials": arm.trials,
        "epochs": arm.config.train.epochs,
        "runs": [
            {
                "phase": s.phase,
                "seed": s.seed,
                "trial": s.trial,
                "chosen": s.chosen,
                "run_key": run_key(s, workspace.datasets),
            }
            for s in specs
        ],
        "settings": arm.config.resolved().flat(),
    }


def _print_plan(planned: Plan) -> None:
    study = planned.study
    console.print(f"[bold]{escape(study.title)}[/]")
    console.print(f"metric {study.metric} ({study.direction}), margin {study.margin:g}, plan {planned.digest[:12]}\n")
    table = Table("arm", "what it changes", "tuning trials", "seeds", "epochs", "FLOPs", box=None, pad_edge=False)
    beside = _flops_beside_base(planned)
    for arm in planned.arms:
        changes = escape(_plain(dict(arm.changes))) or "[dim]nothing: the base[/]"
        counts = (str(arm.trials), _plain(list(arm.seeds)), str(arm.config.train.epochs))
        table.add_row(arm.label, changes, *counts, beside[arm.label])
    console.print(table)
    if any("†" in text for text in beside.values()):
        console.print("† costs over 5 % more FLOPs than its base")
    shared = sum(1 + len(one.arms) for one in planned.ablations) - len(planned.arms)
    saved = f"; {shared} arms are shared between questions and trained once" if shared else ""
    console.print(f"\n{planned.cells()} runs{saved}")


def _flops_beside_base(planned: Plan) -> dict[str, str]:
    """Return each arm's FLOPs beside its base's, by its label, with the sign of what costs over 5 % more."""
    found: dict[str, str] = {}
    for ablation in planned.ablations:
        for arm in (ablation.base, *(trained for _, trained in ablation.arms)):
            found.setdefault(arm.label, _flops_text(arm.config, ablation.base.config))
    return found


def _flops_text(config: Config, base: Config) -> str:
    if config.model.factory or base.model.factory:
        return "–"
    ours, theirs = flops(config), flops(base)
    over = ours / theirs - 1
    sign = COSTLIER_SIGN if over > COSTLIER else ""
    relative = f"{100 * over:+.0f}" if abs(over) >= 0.005 else "±0"
    return f"{ours / 1e6:.2f} M" + (f" ({relative} %){sign}" if ours != theirs else "")


def _tracking(workspace: Workspace) -> Tracking:
    from stn_bench.tracking import Tracking

    return Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))


def _gather(planned: Plan, workspace: Workspace) -> tuple[Results, Tracking]:
    tracking = _tracking(workspace)
    from stn_bench.results import gather

    return gather(planned, tracking, workspace.datasets), tracking


def _write_report(results: Results, workspace: Workspace, tracking: Tracking) -> Path:
    from stn_bench.report.build import build_report, write_report

    name = results.plan.study.name
    folder = workspace.report(name)
    files = build_report(results, tracking.file)
    write_report(folder, files)
    answers = files["report.md"].decode().partition("\nDifferences are paired")[0]
    tracking.log_report(tracking.open_study(name), name, folder, answers)
    return folder


def _print_answers(results: Results) -> None:
    from stn_bench.report.page import Unit, answer
    from stn_bench.report.summary import summarise

    summary = summarise(results)
    unit = Unit.of(summary.metric)
    for ablation in summary.ablations:
        console.print(f"\n[bold]{escape(ablation.question)}[/]", soft_wrap=True)
        for arm in ablation.arms[1:]:
            console.print(
                f"  {answer(arm, ablation, unit)}".replace("**", "").replace("`", ""), markup=False, soft_wrap=True
            )


def _root_option(root: Path | None) -> str:
    return f" --root {root}" if root else ""


__all__ = ["check", "list_all", "plan", "report", "run", "show", "status", "ui", "why"]
