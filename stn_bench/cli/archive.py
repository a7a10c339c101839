"""Commands about finished runs that travel: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stn_bench.cli.options import Root, Settings, StudyName, TrackingUri, console, load_plan
from stn_bench.system.workspace import Workspace


def export(
    study: StudyName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Zip file to write.")],
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
) -> None:
    """Write the finished runs of a study to a file, without their models; `stn-bench import` reads it elsewhere."""
    workspace = Workspace.at(root, tracking_uri)
    planned = load_plan(study, workspace, settings)
    from stn_bench.analysis.looks import planned_runs
    from stn_bench.tracking.archive import collect, write_archive
    from stn_bench.tracking.mlflow import Tracking
    from stn_bench.tracking.results import gather

    tracking = Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))
    results = gather(planned, tracking, workspace.datasets)
    archive = collect(results, tracking.file)
    size = write_archive(file, archive)
    console.print(f"{file}: {len(archive.records)} runs of study {study}, {size / 1e6:.2f} MB", soft_wrap=True)
    wanted = planned_runs(results)
    missing = wanted - results.finished
    if missing:
        told = f"{missing} of its {wanted} runs are not finished; `stn-bench status {study}` says which"
        console.print(told, soft_wrap=True)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Zip file that `stn-bench export` wrote.")],
    root: Root = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Merge exported runs into this store, so that they are not trained again here; those it has are skipped."""
    from stn_bench.tracking.archive import merge, read_archive
    from stn_bench.tracking.mlflow import Tracking

    archive = read_archive(file)
    workspace = Workspace.at(root, tracking_uri)
    tracking = Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))
    with console.status("importing") as status:
        merged = merge(archive, tracking, lambda done, count: status.update(f"importing: {done} of {count} runs"))
    console.print(
        f"{file}: {merged.written} runs of study {archive.study} merged, "
        f"{merged.present} skipped, since the store has them",
        soft_wrap=True,
    )


__all__ = ["export", "import_"]
