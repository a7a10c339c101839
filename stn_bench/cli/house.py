"""Commands about the house itself: schema, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stn_bench.cli.options import AsJson, Root, TrackingUri, console, print_json
from stn_bench.workspace import Workspace


def schema(
    folder: Annotated[Path, typer.Argument(help="Folder for the schemas.")] = Path("docs/schema"),
) -> None:
    """Write the JSON schemas of ablation and study files, so that editors complete them."""
    from stn_bench.schema import write_schemas

    for path in write_schemas(folder):
        console.print(str(path), soft_wrap=True)


def doctor(
    root: Root = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
    determinism: Annotated[
        bool, typer.Option("--determinism", help="Train a small cell twice instead, and compare them bit by bit.")
    ] = False,
) -> None:
    """Check what the machine has, and say what to install; exit 1 if something is missing or differs."""
    from stn_bench.doctor import examine, examine_determinism

    findings = [examine_determinism()] if determinism else examine(Workspace.at(root, tracking_uri))
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
