"""The commands, gathered."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_group

from stn_bench import __version__
from stn_bench.cli.usage import Commands
from stn_bench.subject import find_subject, shipped_subjects

HOME = "stn_bench.cli"
COMMANDS = {
    "list": "catalogue:list_all",
    "show": "catalogue:show",
    "check": "catalogue:check",
    "plan": "planning:plan",
    "run": "studies:run",
    "worker": "machines:worker",
    "status": "studies:status",
    "report": "studies:report",
    "judge": "judge:judge",
    "ui": "studies:ui",
    "why": "studies:why",
    "new": "new:new",
    "export": "archive:export",
    "train": "training:train",
    "schema": "house:schema",
    "doctor": "house:doctor",
    "gc": "house:gc",
    "import": "archive:import_",
}
"""The harness's own commands -> module of `stn_bench.cli` and function; loaded where the command is asked for."""


class _AllCommands(Commands):
    """The commands: the harness's own, and those that subjects bring, loaded where another name is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        self._load_brought()
        return [*COMMANDS, *(name for name in self.commands if name not in COMMANDS)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self._add(cmd_name)
        elif cmd_name not in self.commands:
            self._load_brought()
        if cmd_name not in self.commands:  # of all that there are the nearest is suggested
            self.commands.update({name: _listed(name) for name in COMMANDS})
        return super().get_command(ctx, cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the help: a line a command, read from its docstring, so that no command is loaded for it."""
        unread = [name for name in COMMANDS if name not in self.commands]
        self.commands.update({name: _listed(name) for name in unread})
        super().format_help(ctx, formatter)
        for name in unread:
            del self.commands[name]

    def _add(self, name: str) -> None:
        module, _, function = COMMANDS[name].partition(":")
        loaded = typer.Typer(rich_markup_mode=self.rich_markup_mode)
        loaded.command(name)(getattr(importlib.import_module(f"{HOME}.{module}"), function))
        self.commands[name] = get_group(loaded).commands[name]

    def _load_brought(self) -> None:
        brought = typer.Typer(rich_markup_mode=self.rich_markup_mode)
        for name in shipped_subjects():
            if commands := find_subject(name).commands:
                importlib.import_module(commands).mount(brought)
        for name, command in get_group(brought).commands.items():
            if name not in COMMANDS:
                self.commands.setdefault(name, command)


def _listed(name: str) -> TyperCommand:
    """Return what a list shows of a command of the harness: its name and its docstring, without loading its module."""
    module, _, function = COMMANDS[name].partition(":")
    source = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    defined = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    return TyperCommand(name, help=next(ast.get_docstring(node) for node in defined if node.name == function))


app = typer.Typer(
    name="stn-bench",
    cls=_AllCommands,
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
