"""The command `new`: a subject, an ablation and a study that run as they are, to be changed."""

from __future__ import annotations

import importlib.util
import keyword
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from stn_bench.cli.options import Root, at_root, console
from stn_bench.study.catalogue import Catalogue
from stn_bench.study.spec import BASE
from stn_bench.system.errors import ConfigError
from stn_bench.system.text import EXPECTED, is_name, shorten
from stn_bench.system.workspace import Workspace

TEMPLATES = Path(__file__).parent / "templates"

FILES = {"{name}.py": "py.txt", "ablations/{name}.toml": "ablation.toml", "studies/{name}.toml": "study.toml"}
"""File under the root -> ending of its template."""


def new(
    name: Annotated[str, typer.Argument(help="Name of the module, the ablation and the study.")],
    function: Annotated[
        bool, typer.Option("--function", help="Start from a function: any model, any library.")
    ] = False,
    keras: Annotated[bool, typer.Option("--keras", help="Start from a Keras model and its data.")] = False,
    folder: Annotated[
        bool, typer.Option("--folder", help="Start from a Keras model of files in folders, one folder a class.")
    ] = False,
    root: Root = None,
) -> None:
    """Write a subject with an ablation and a study that run as they are; comments say what to change."""
    kinds = [kind for kind, is_meant in (("function", function), ("keras", keras), ("folder", folder)) if is_meant]
    if len(kinds) != 1:
        raise ConfigError(f"new {shorten(name)}: expected one of --function, --keras and --folder")
    (kind,) = kinds
    home = Workspace.at(root).root
    _check_name(name, home)
    _write({home / file.format(name=name): _filled(f"{kind}.{end}", name) for file, end in FILES.items()})
    console.print(f"wrote {', '.join(file.format(name=name) for file in FILES)}", soft_wrap=True, markup=False)
    console.print(f"train and judge it: stn-bench run {name}{at_root(root)}", soft_wrap=True, markup=False)


def _check_name(name: str, root: Path) -> None:
    """Check that a module, an ablation and a study can have a name, and that none has it yet.

    Raises:
        ConfigError: if not.
    """
    if not is_name(name) or not name.isidentifier() or keyword.iskeyword(name) or name == BASE:
        raise ConfigError(f"new: expected {EXPECTED}, and that Python accepts as a module name; got `{shorten(name)}`")
    for file in FILES:
        if (path := root / file.format(name=name)).exists():
            raise ConfigError(f"{path}: is there already; nothing was written, choose another name")
    catalogue = Catalogue(root)
    if name in (*catalogue.names("ablations"), *catalogue.names("studies")):
        raise ConfigError(f"new: an ablation or a study `{name}` comes with stn-bench; choose another name")
    if importlib.util.find_spec(name):
        raise ConfigError(f"new: a module `{name}` is installed and would be found first; choose another name")


def _filled(template: str, name: str) -> str:
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(name=name)


def _write(files: dict[Path, str]) -> None:
    """Write all files, or none."""
    written = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink()
        raise ConfigError(f"{error.filename}: cannot be written ({error.strerror}); nothing was written") from None
