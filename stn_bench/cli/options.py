"""Options that several commands share, and the terminal that they print to."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from stn_bench.cli.output import Unbroken
from stn_bench.settings import Settings as Schema
from stn_bench.study.toml import parse_assignment
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.tracking.results import Results

Root = Annotated[
    Path | None,
    typer.Option("--root", help="Folder with ablations/, studies/, mlruns/ and reports/ (default: the current one)."),
]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow's store (default: MLFLOW_TRACKING_URI, else mlruns/mlflow.db)."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage", help="Optuna's store, the queue (default: STN_BENCH_OPTUNA_URL, else mlruns/optuna.db)."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a setting in every arm, PATH= unsets one that may be unset; may be given several times.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes that train (default: one a GPU or core).", show_default=False),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="Threads in each worker (default: the cores, shared out).", show_default=False
    ),
]
EngineName = Annotated[
    Literal["processes", "ray"],
    typer.Option("--engine", help="What starts the workers: processes of this machine, or a Ray cluster."),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="The Ray cluster's head; `auto` is the one that this machine is part of, `local` a new one here.",
    ),
]
Cpus = Annotated[
    int | None,
    typer.Option(
        "--cpus", min=1, help="Cores of each worker in a cluster (default: the study's `resources`, else 1)."
    ),
]
Gpus = Annotated[
    float | None,
    typer.Option("--gpus", min=0, help="GPUs of each worker in a cluster, 0.5 for half of one."),
]
SubjectName = Annotated[
    str,
    typer.Option("--subject", metavar="NAME", help="A shipped subject, or `module:attribute` of one of your own."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study, see `stn-bench list`.")]

WIDEST = 10_000
"""Columns of a table in a file."""

console = Console(highlight=False, soft_wrap=False, emoji=False)
"""For results, as they are: `digits:train:` is the name of a definition and no picture of a train."""

messages = Console(highlight=False, soft_wrap=True, emoji=False, stderr=True)
"""For what is no result: it would spoil --json."""


def assignments(settings: list[str] | None, schema: type[Schema]) -> dict[str, Any]:
    """Return `--set PATH=VALUE …` as overrides of a subject's settings."""
    return dict(parse_assignment(text, schema) for text in settings or ())


def is_trusted(code: str, workspace: Workspace) -> bool:
    """Return whether a study of the root's own names some code, which `run` calls without a further word."""
    from stn_bench.study.load import named_code

    return code in named_code(workspace)


def at_root(root: Path | None) -> str:
    """Return the option that a command needs to work on the same root, as a shell reads it; "" for the current one."""
    return f" --root {shlex.quote(str(root))}" if root else ""


def tell_lost(results: Results) -> None:
    """Say which runs were left out, since their records are gone from the store."""
    if results.lost:
        from stn_bench.tracking.store import lost_line

        messages.print(lost_line(results.lost), markup=False)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=1, default=str))


def print_table(table: Table, indent: int = 0) -> None:
    """Print a table whose first and last columns alone are folded, where it is too wide for the terminal.

    In a file or a pipe it is as wide as it needs to be, and no line ends with blanks.
    """
    for column in table.columns:
        is_outer = column in (table.columns[0], table.columns[-1])
        column.overflow, column.no_wrap = "fold", not is_outer
    table.width = (
        None if console.is_terminal else _natural_width(table)
    )  # rich prints no wider than its own width else
    with console.capture() as captured:
        console.print(table, width=console.width - indent, soft_wrap=False, crop=False)
    for line in captured.get().splitlines():
        console.out(f"{' ' * indent}{line.rstrip()}", highlight=False)


def is_too_wide(table: Table) -> bool:
    """Return whether a table does not fit the terminal; a file holds any."""
    return console.is_terminal and _natural_width(table) > console.width


def _natural_width(table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum


def print_answer(lines: Iterable[str]) -> None:
    """Print a question, and what came of it in lines."""
    question, *answers = lines
    console.print(f"\n[bold]{escape(question)}[/]", soft_wrap=True)
    for line in answers:
        console.print(line, markup=False, soft_wrap=True)


@contextmanager
def quietly() -> Iterator[None]:
    """Discard what C++ libraries write to standard error; Python's own output there still shows."""
    sys.stderr.flush()
    python, terminal, nowhere = sys.stderr, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    if python is not None and getattr(python, "stream", python) is sys.__stderr__:
        own = os.fdopen(os.dup(2), "w", buffering=1, encoding=python.encoding, errors=python.errors)
        sys.stderr = Unbroken(own)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        sys.stderr = python
        os.close(terminal)
        os.close(nowhere)
