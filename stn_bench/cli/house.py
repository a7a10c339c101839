"""Commands about the house itself: schema, doctor, gc."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from stn_bench.cli.options import AsJson, Root, Storage, SubjectName, TrackingUri, console, print_json
from stn_bench.study.load import load_plan
from stn_bench.study.soundness import sound_subject
from stn_bench.subject import DEFAULT, is_shipped
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.runner.cleanup import Leftover


def schema(
    folder: Annotated[Path, typer.Argument(help="Folder for the schemas.")] = Path("docs/schema"),
    subject: SubjectName = DEFAULT,
    root: Root = None,
) -> None:
    """Write the JSON schemas of ablation and study files, so that editors complete them."""
    from stn_bench.study.schema import write_schemas

    if not is_shipped(subject):
        Workspace.at(root).find_code()
    for path in write_schemas(folder, sound_subject(subject)):
        console.print(str(path), soft_wrap=True, markup=False)


def doctor(
    root: Root = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    as_json: AsJson = False,
    subject: SubjectName = DEFAULT,
    determinism: Annotated[
        bool, typer.Option("--determinism", help="Train a small job twice instead, and compare the two bit by bit.")
    ] = False,
) -> None:
    """Check what the machine has, and say what to install; exit 1 if something is missing or differs."""
    from stn_bench.runner.doctor import examine, examine_determinism

    workspace = Workspace.at(root, tracking_uri, storage)
    if not is_shipped(subject):
        workspace.find_code()
    found = sound_subject(subject)
    findings = [examine_determinism(found)] if determinism else examine(workspace, found)
    if as_json:
        print_json(
            [{"check": one.check, "sound": one.sound, "found": one.found, "advice": one.advice} for one in findings]
        )
    else:
        for one in findings:
            mark = "[green]ok[/]     " if one.sound else f"[red]{one.fault}[/]"
            console.print(f"{mark} {one.check}: ", end="")
            console.print(one.found + (f"\n        {one.advice}" if one.advice else ""), markup=False, soft_wrap=True)
    if not all(one.sound for one in findings):
        raise typer.Exit(1)


def gc(
    root: Root = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Remove the leftovers instead of only showing them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show leftovers, such as old checkpoints, and remove them with --yes; finished runs are kept."""
    from stn_bench.runner.cleanup import find_leftovers, looking, remove
    from stn_bench.study.catalogue import Catalogue

    workspace = Workspace.at(root, tracking_uri, storage)
    plans = [load_plan(name, workspace) for name in Catalogue(workspace.root).names("studies")]
    with looking(workspace, plans) as held:
        found = find_leftovers(held)
        if not as_json:
            _show_leftovers(found)
        if yes:
            remove(found)
    if as_json:
        print_json({"removed": yes, "leftovers": _leftover_rows(found)})
    elif found and not yes:
        console.print("\nnothing was removed; add --yes to remove it")
    elif found:
        console.print("\nremoved")


def _leftover_rows(found: list[Leftover]) -> list[dict[str, Any]]:
    rows = []
    for kind in dict.fromkeys(one.kind for one in found):
        these = [one for one in found if one.kind == kind]
        size, paths = sum(one.size for one in these), [str(one.path) for one in these]
        rows.append({"kind": kind, "count": len(these), "bytes": size, "paths": paths})
    return rows


def _show_leftovers(found: list[Leftover]) -> None:
    if not found:
        console.print("nothing to remove")
        return
    table = Table("what", "number", "MB", box=None, pad_edge=False)
    for row in _leftover_rows(found):
        table.add_row(row["kind"], str(row["count"]), _megabytes(row["bytes"]))
    table.add_row("in all", str(len(found)), _megabytes(sum(one.size for one in found)))
    console.print(table)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
