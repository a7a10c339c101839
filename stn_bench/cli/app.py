"""The commands, gathered."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated

import typer

from stn_bench import __version__
from stn_bench.cli import archive, catalogue, house, judge, new, planning, studies, training
from stn_bench.subject import find_subject, shipped_subjects

app = typer.Typer(
    name="stn-bench",
    help="Ask one question about a model, train every arm on the same seeds, get an honest verdict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


COMMANDS: tuple[Callable[..., None], ...] = (
    catalogue.show,
    catalogue.check,
    planning.plan,
    studies.run,
    studies.status,
    studies.report,
    judge.judge,
    studies.ui,
    studies.why,
    new.new,
    archive.export,
    training.train,
    house.schema,
    house.doctor,
    house.gc,
)

app.command("list")(catalogue.list_all)
for command in COMMANDS:
    app.command()(command)
app.command("import")(archive.import_)
for name in shipped_subjects():  # each brings the commands that only it needs
    if commands := find_subject(name).commands:
        importlib.import_module(commands).mount(app)
