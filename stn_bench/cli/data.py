"""Commands about pictures: data make, show, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_bench.cli.options import AsJson, Root, Settings, assignments, console, print_json
from stn_bench.subjects.stn.config import Config, override
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.subjects.stn.data.dataset import Dataset

app = typer.Typer(help="Make, show, export and import pictures.", no_args_is_help=True)

Processes = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Processes that draw [default: one a core].", show_default=False),
]
SHOWN = 40


@app.command()
def make(root: Root = None, settings: Settings = None, processes: Processes = None) -> None:
    """Make the pictures of a configuration, unless they are there and sound."""
    dataset = _dataset(root, settings, processes)
    console.print(f"{dataset.folder}\n{len(dataset.labels)} pictures, SHA-256 {dataset.fingerprint}", soft_wrap=True)


@app.command()
def show(
    root: Root = None,
    settings: Settings = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write.")] = Path("pictures.png"),
    as_json: AsJson = False,
) -> None:
    """Write a sheet with the first pictures of a configuration, and tell of the rest."""
    from stn_bench.subjects.stn.data.pictures import contact_sheet, write_picture

    dataset = _dataset(root, settings, None)
    write_picture(output, contact_sheet(list(dataset.images[:SHOWN]), columns=10))
    about = {
        "folder": str(dataset.folder),
        "pictures": len(dataset.labels),
        "fingerprint": dataset.fingerprint,
        "first": "".join(dataset.spec.alphabet[label] for label in dataset.labels[:SHOWN]),
        "sheet": str(output),
    }
    if as_json:
        print_json(about)
        return
    for name, value in about.items():
        console.print(f"{name}: {value}", soft_wrap=True)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the pictures.")],
    root: Root = None,
    settings: Settings = None,
) -> None:
    """Write the pictures of a configuration as files, `0001_K.png` and so on."""
    from stn_bench.subjects.stn.data.folder import export_folder

    count = export_folder(_dataset(root, settings, None), folder)
    console.print(f"{count} pictures in {folder}", soft_wrap=True)


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder with pictures named like `0001_K.png`.")],
    name: Annotated[str, typer.Option("--name", help="Name for `data.source`.")],
    root: Root = None,
    settings: Settings = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be used.")] = False,
) -> None:
    """Read a folder of pictures of any size; `--set data.source=NAME` then trains on them."""
    from stn_bench.subjects.stn.data.folder import import_folder
    from stn_bench.subjects.stn.data.spec import DatasetSpec

    config = override(Config(), assignments(settings), where="--set")
    spec = DatasetSpec.of(override(config, {"data.shapes": "varied"}))  # any shape may come: the pad byte is needed
    report = import_folder(
        folder,
        name,
        Workspace.at(root).datasets,
        size=spec.size,
        alphabet=spec.alphabet,
        pad_byte=spec.pad_byte or 0,
        skip_bad=skip_bad,
    )
    for path, reason in report.skipped:
        console.print(f"left out {path}: {reason}", soft_wrap=True, markup=False)
    console.print(f"{report.count} pictures; use them with --set data.source={name} --set data.count={report.count}")


def _dataset(root: Path | None, settings: list[str] | None, processes: int | None) -> Dataset:
    from stn_bench.subjects.stn.data.dataset import make_dataset
    from stn_bench.subjects.stn.data.spec import DatasetSpec
    from stn_bench.system.machine import cores

    config = override(Config(), assignments(settings), where="--set")
    return make_dataset(DatasetSpec.of(config), Workspace.at(root).datasets, processes=processes or cores())
