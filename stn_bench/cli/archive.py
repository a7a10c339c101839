"""Commands about finished runs that travel: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stn_bench.cli.options import Root, Settings, StudyName, TrackingUri, console, tell_lost
from stn_bench.study.load import load_plan
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
    planned = load_plan(study, workspace, settings or ())
    from stn_bench.report.build import build_report
    from stn_bench.runner.stores import analyse_stored
    from stn_bench.tracking.archive import KIND, collect, write_archive
    from stn_bench.tracking.zipped import check_target

    check_target(file, KIND)
    analysis, runs = analyse_stored(planned, workspace)
    tell_lost(analysis.results)
    archive = collect(analysis.results, runs.file, lambda artifact: build_report(analysis, artifact))
    size = write_archive(file, archive)
    console.print(
        f"{file}: {len(archive.records)} runs of study {study}, {size / 1e6:.2f} MB", soft_wrap=True, markup=False
    )
    if missing := analysis.missing_runs:
        told = f"{missing} of its {analysis.planned_runs} runs are not finished; `stn-bench status {study}` says which"
        console.print(told, soft_wrap=True)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Zip file that `stn-bench export` or `work` wrote.")],
    root: Root = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Merge runs of elsewhere into this store, so that they are not trained again here; those it has are skipped."""
    from stn_bench.runner.stores import note_import, open_tracking
    from stn_bench.system.lock import Lock
    from stn_bench.tracking.archive import merge, read_archive

    archive = read_archive(file)
    workspace = Workspace.at(root, tracking_uri)
    tracking = open_tracking(workspace)
    with Lock(workspace.lock("import")), console.status("importing") as status:  # two would write the same runs twice
        merged = merge(archive, tracking, lambda done, count: status.update(f"importing: {done} of {count} runs"))
        note_import(workspace)
    console.print(
        f"{file}: {merged.written} runs of study {archive.study} merged, "
        f"{merged.present} skipped, since the store has them",
        soft_wrap=True,
        markup=False,
    )


__all__ = ["export", "import_"]
