"""The command that judges results which exist: a CSV of anybody's runs, or a foreign MLflow store."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table as Grid
from rich.text import Text

from stn_bench.cli.options import AsJson, console, is_too_wide, messages, print_answer, print_json, print_table
from stn_bench.system.errors import ConfigError
from stn_bench.system.text import shorten, without_secrets

if TYPE_CHECKING:
    from stn_bench.analysis.summary import Summary
    from stn_bench.report.judging import JudgedTable
    from stn_bench.report.tables import Table
    from stn_bench.tracking.table import Sheet


Value = TypeVar("Value")


def judge(
    file: Annotated[
        Path | None, typer.Argument(metavar="RESULTS.CSV", help="A table with a row for each run.")
    ] = None,
    arm: Annotated[str, typer.Option(metavar="COLUMN", help="What is compared: method, model, variant.")] = "",
    seed: Annotated[str, typer.Option(metavar="COLUMN", help="What pairs the arms: seed, fold, run.")] = "",
    metric: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="What is measured; may be given several times.")
    ] = None,
    base: Annotated[str, typer.Option(metavar="NAME", help="The arm that the others are compared with.")] = "",
    question: Annotated[str, typer.Option(metavar="COLUMN", help="Tells several questions apart.")] = "",
    dataset: Annotated[
        str, typer.Option(metavar="COLUMN", help="Tells data sets apart: a verdict for each, and one over all.")
    ] = "",
    wide: Annotated[bool, typer.Option("--wide", help="Each arm is a column, each seed a row.")] = False,
    direction: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[METRIC=]WAY", help="maximize or minimize, such as acc=maximize where there are several."
        ),
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[METRIC=]NUMBER",
            help="Differences that count as equivalent; for fractions 0.005 unless given, for others none.",
        ),
    ] = None,
    looks: Annotated[
        str, typer.Option(metavar="COUNTS", help="After how many seeds the results were looked at, such as 3,5,8.")
    ] = "",
    resolution: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="The smallest step of the metric, such as 1 / test examples."),
    ] = None,
    max_failed: Annotated[int, typer.Option(min=0, help="Seeds of an arm that may have failed.")] = 0,
    family: Annotated[
        str, typer.Option(help="What p is corrected over: the arms of a question, or study.")
    ] = "question",
    mlflow: Annotated[str, typer.Option(metavar="URI", help="Read a foreign MLflow store instead of a file.")] = "",
    experiment: Annotated[str, typer.Option(metavar="NAME", help="The experiment in that store.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Also write the whole report here.")
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAMES",
            help="With -o: some of md,html,latex,tables,csv,pdf,svg, by commas (default: md).",
            show_default=False,
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Judge results that exist: nothing is trained, and columns that are not named are guessed where that is plain."""
    if formats and not output:
        raise ConfigError(f"--format {shorten(formats)}: says what is written to a folder; name that with -o FOLDER")
    counts = _counts(looks)
    ways, margins = _stated(direction, "direction", str), _stated(margin, "margin", _number)
    table = _read(file, mlflow, experiment)
    from stn_bench.report.judging import Request, judge
    from stn_bench.tracking.columns import Columns

    columns = Columns(arm, seed, tuple(metric or ()), base, question, dataset, wide)
    asked = Request(ways, margins, counts, resolution, max_failed, family)
    judged = judge(table, columns, asked)
    messages.print(f"{judged.columns.in_words()}; {_terms(judged)}", markup=False)
    for note in judged.notes:
        messages.print(f"{note[:1].upper()}{note[1:]}.".replace("`", ""), markup=False)
    written: list[Path] = []
    if output:
        from stn_bench.report.build import place_of, read_formats

        wanted = read_formats(formats or "md")
        written = list(dict.fromkeys(place_of(to, name) for to in judged.write(output, wanted) for name in wanted))
    if as_json:
        told = {"columns": vars(judged.columns), "notes": judged.notes}
        print_json(told | {"summaries": [one.model_dump(mode="json") for one in judged.summaries]})
        return
    for summary in judged.summaries:
        _print(summary)
    if written:
        console.print()
    for path in written:
        console.print(f"report: {path}", soft_wrap=True, markup=False)


def _counts(looks: str) -> tuple[int, ...]:
    try:
        return tuple(int(count) for count in looks.split(",")) if looks else ()
    except ValueError:
        raise ConfigError(
            f"--looks: expected numbers of seeds by commas, such as 3,5,8, got `{shorten(looks)}`"
        ) from None


def _stated(
    given: list[str] | None, option: str, read: Callable[[str], Value]
) -> tuple[Value, ...] | dict[str, Value]:
    """Return what was said of metrics, by name where it was said so."""
    parts = [text.rpartition("=") for text in given or ()]
    named = {name: read(text) for name, sign, text in parts if sign}
    if not named:
        return tuple(read(text) for _, _, text in parts)
    if len(named) < len(parts):
        raise ConfigError(f"--{option}: expected METRIC=VALUE of each, once, got {shorten(', '.join(given or ()))}")
    return named


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--margin: expected a number such as 0.005, got `{shorten(text)}`") from None


def _read(file: Path | None, mlflow: str, experiment: str) -> Sheet:
    """Return the table in the file or in the store, whichever was named."""
    if (file is None) == (not mlflow):
        raise ConfigError("expected a CSV file, or --mlflow URI --experiment NAME" + (", not both" if file else ""))
    if bool(mlflow) != bool(experiment):
        raise ConfigError("--mlflow and --experiment belong together")
    from stn_bench.tracking.table import read_file, read_mlflow

    if file is None:
        messages.print(f"reading {without_secrets(mlflow)}", markup=False)
        return read_mlflow(mlflow, experiment)
    return read_file(file)


def _terms(judged: JudgedTable) -> str:
    """Return by what each metric is judged, in words."""
    parts = []
    for summary in judged.summaries:
        unit = summary.unit
        margin = f"margin {unit.given(summary.margin)}{unit.points}" if summary.margin else "no margin"
        name = f"{summary.metric} " if len(judged.summaries) > 1 else ""
        parts.append(f"{name}{summary.direction}, {margin}")
    return "; ".join(parts)


def _print(summary: Summary) -> None:
    """Print what came of each question, and its table."""
    from stn_bench.analysis.digits import unit_of
    from stn_bench.report.sentences import suspected, told
    from stn_bench.report.tables import arm_table

    for ablation in summary.ablations:
        unit = unit_of(summary, ablation)
        print_answer(told(ablation, unit))
        for line in suspected(ablation):
            console.print(line, markup=False, soft_wrap=True)
        console.print()
        print_table(_grid(arm_table(ablation, unit, len(summary.looks))))


def _grid(table: Table) -> Grid:
    """Return a table for the terminal; in a narrow one a verdict is its word, and lines break between values alone.

    What else belongs to a verdict stands in the sentences above it.
    """
    rows = [[cell.replace("`", "") for cell in row] for row in table.rows]
    grid = _grid_of(table.header, rows)
    if is_too_wide(grid):
        head = [re.sub(r"(?<=base)(,?) ", r"\1\n", name) for name in table.header]
        rows = [[*row[:-1], re.split(r", | \(", row[-1])[0]] for row in rows]
        grid = _grid_of(head, rows)
    if is_too_wide(grid):
        head = [name.replace("difference ", "difference\n").replace("adjusted ", "adjusted\n") for name in head]
        rows = [[arm, *(re.sub(r" (?=[±\[])", "\n", cell) for cell in cells)] for arm, *cells in rows]
        grid = _grid_of(head, rows)
    return grid


def _grid_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    for name in head:
        grid.add_column(Text(name))
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid


__all__ = ["judge"]
