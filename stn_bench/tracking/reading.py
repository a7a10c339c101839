"""Reads the runs in a table: which rows are runs, of which arm and seed, with which numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from typing import Any

import numpy as np

from stn_bench.stats.values import is_number
from stn_bench.system.errors import DataError
from stn_bench.system.format import counted, listed
from stn_bench.system.text import shorten
from stn_bench.tracking.columns import Columns, find_base, find_columns, is_ours
from stn_bench.tracking.found import Source
from stn_bench.tracking.groups import FoundRun
from stn_bench.tracking.table import Sheet

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
LARGEST_SEED = str(2**31 - 1)
MOST_NAMED = 8


@dataclass
class _Rows:
    """The runs in a table, one an arm and a seed, whatever its shape was.

    Args:
        places: for each run, its place in the table.
        arms: for each run, its arm.
        metrics: metric -> for each run its number.
        broken: metric -> run -> what stands in place of a number.
    """

    places: Any
    arms: Sequence[str]
    metrics: dict[str, list[float]] = field(default_factory=dict)
    broken: dict[str, dict[int, str]] = field(default_factory=dict)


def read_runs(table: Sheet, asked: Columns) -> tuple[list[FoundRun], Source, Columns]:
    """Return the runs in a table, where they were found, and which column told what.

    Raises:
        DataError: if something in it cannot be read, or an arm has a seed twice.
    """
    columns = find_columns(table, asked)
    table = _of_mlflow(_ours(table), columns)
    if table.frame.empty:
        raise DataError(f"{table.name}: no run is left; {'; '.join(table.notes)}")
    rows = _wide(table, columns) if columns.wide else _long(table, columns)
    base = table.clean(columns.base, table.spelling.name("base")) or find_base(table, list(dict.fromkeys(rows.arms)))
    columns = replace(columns, base=base)

    def told(column: str, what: str = "") -> Sequence[str]:
        return table.labels(column, what)[rows.places].tolist() if column else [""] * len(rows.arms)

    names, questions = told(columns.seed, "seed"), told(columns.question)
    seeds = _same(names)
    if is_ours(table):
        questions = ["" if name == "base" else name for name in questions]  # the base that our questions share
    keys = list(zip(questions, told(columns.dataset, "data set"), rows.arms, seeds, strict=True))
    _check_once(table, keys, rows, columns)
    numbers, note = _numbered(seeds)
    arm = "arm" if columns.wide else columns.arm
    notes = (*table.notes, *note, *_unpaired(keys, columns))
    source = Source(table.name, table.digest, arm, columns.base, notes, table.spelling)
    return list(_found(table, columns, rows, keys, names, numbers)), source, columns


def _found(
    table: Sheet,
    columns: Columns,
    rows: _Rows,
    keys: Sequence[tuple[str, str, str, str]],
    names: Sequence[str],
    numbers: dict[str, int],
) -> Iterator[FoundRun]:
    """Yield the runs, row by row, with their seeds' names as they were written."""
    sources = [f"{table.row}{name}".removeprefix("run ") for name in table.frame.index[rows.places]]
    for place, (question, dataset, arm, seed) in enumerate(keys):
        broken = {name: texts[place] for name, texts in rows.broken.items() if place in texts}
        whole = {name: values[place] for name, values in rows.metrics.items() if is_number(values[place])}
        given = {"given.question": question, "given.dataset": dataset, "given.arm": arm, "given.seed": names[place]}
        source = f"{sources[place]}, {arm}" if columns.wide else sources[place]
        kept = {name: value for name, value in given.items() if value}
        yield FoundRun(question, dataset, arm, numbers[seed], whole, broken, source, kept)


def _long(table: Sheet, columns: Columns) -> _Rows:
    """Return the runs of a table that has a row for each; a row without a number is a run that failed."""
    rows = _Rows(np.arange(len(table.frame)), table.labels(columns.arm, "arm").tolist())
    failed = _failed(table) if table.is_store else np.zeros(len(table.frame), bool)
    for column in columns.metrics:
        values, odd = table.numbers(column)
        if table.is_store:  # an empty cell is a metric that a run has not
            odd = {place: text for place, text in odd.items() if text}
        odd |= dict.fromkeys(np.flatnonzero(failed).tolist(), "no value, FAILED")
        name = column.removeprefix("metrics.")
        rows.metrics[name] = np.where(failed, np.nan, values).tolist()
        rows.broken[name] = {place: text or "no value" for place, text in odd.items()}
    return rows


def _wide(table: Sheet, columns: Columns) -> _Rows:
    """Return the runs of a table that has a column for each arm; an empty cell is a run that nobody made."""
    (metric,) = columns.metrics
    rows = _Rows([], [], {metric: []}, {metric: {}})
    for name in table.names:
        if name in (columns.seed, columns.question, columns.dataset):
            continue
        values, odd = table.numbers(name)
        for place, value in enumerate(values.tolist()):
            if odd.get(place, "there") == "":
                continue
            if place in odd:
                rows.broken[metric][len(rows.places)] = odd[place]
            rows.places.append(place)
            rows.metrics[metric].append(value)
        arm = table.clean(name, "header")
        rows.arms = [*rows.arms, *[arm] * (len(rows.places) - len(rows.arms))]
    return rows


def _same(seeds: Sequence[str]) -> list[str]:
    """Return seeds such that those of one number are the same: 1, 01 and 1.0. Those that are no numbers stay."""
    plain = {name: _plain(name) for name in dict.fromkeys(seeds)}
    return [plain[name] for name in seeds]


def _plain(seed: str) -> str:
    if not NUMBER.fullmatch(seed):
        return seed
    return f"{Decimal(seed).normalize(Context(prec=len(seed))):f}"  # exact: seeds may have more digits than floats


def _numbered(seeds: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Return what seeds are called -> their numbers; those that are none are numbered as they come."""
    names = list(dict.fromkeys(seeds))
    if all(name.isdecimal() and (len(name), name) <= (len(LARGEST_SEED), LARGEST_SEED) for name in names):
        return {name: int(name) for name in names}, []
    told = [f"{number} = {shorten(name)}" for number, name in enumerate(names[:MOST_NAMED], start=1)]
    more = len(names) - len(told)
    note = f"seeds are numbered: {listed([*told, f'{more} more'] if more else told)}"
    return {name: number for number, name in enumerate(names, start=1)}, [note]


def _unpaired(keys: Sequence[tuple[str, str, str, str]], columns: Columns) -> Iterator[str]:
    """Yield which arms share no seed with the base, so that nothing can be said of them."""
    seeds: dict[str, set[str]] = {}
    for _, _, arm, seed in keys:
        seeds.setdefault(arm, set()).add(seed)
    for arm, own in seeds.items():
        if arm != columns.base and columns.base in seeds and not own & seeds[columns.base]:
            name = f"{shorten(arm)} and {shorten(columns.base)}"
            yield f"{name} have no {shorten(columns.seed)} in common, and arms are compared on the same one alone"


def _check_once(table: Sheet, keys: Sequence[tuple[str, ...]], rows: _Rows, columns: Columns) -> None:
    """See that an arm has each seed once.

    Raises:
        DataError: if it has one twice.
    """
    if len(set(keys)) == len(keys):
        return
    seen: dict[tuple[str, ...], int] = {}
    for place, key in enumerate(keys):
        if key in seen:
            break
        seen[key] = place
    both = f"{table.at(int(rows.places[seen[key]]))} and {table.at(int(rows.places[place]))}"
    raise DataError(
        f"{table.name}: `{key[2]}` has {columns.seed} {key[3]} in {keys.count(key)} rows ({both}), expected one; "
        f"where a column tells such rows apart, name it with {table.spelling.name('dataset')} or "
        f"{table.spelling.name('question')}"
    )


# Rows that no verdict stands on --------------------------------------------------------------------------------------


def _ours(table: Sheet) -> Sheet:
    """Return a `runs.csv` of ours without tuning and confirmation."""
    if not is_ours(table):
        return table
    others = table.frame["phase"] != "verdict"
    count = int(others.sum())
    return table.without(others, f"{counted(count, 'run')} of tuning and confirmation left out") if count else table


def _of_mlflow(table: Sheet, columns: Columns) -> Sheet:
    """Return the runs of an MLflow store without those that tell nothing of arm, seed and metric; and say which.

    A run that failed is a seed that failed, unless another run finished it.
    """
    if not table.is_store:
        return table

    def nameless(one: Sheet) -> Any:
        return (one.frame[columns.seed] == "") | (one.frame[columns.arm] == "")

    def silent(one: Sheet) -> Any:
        return (one.frame[list(columns.metrics)] == "").all(axis=1) & ~_failed(one)

    def parents(one: Sheet) -> Any:
        return one.frame.index.isin(one.frame["parent"]) & (nameless(one) | silent(one))

    def unfinished(one: Sheet) -> Any:
        return ~one.frame["status"].isin(("FINISHED", "FAILED"))

    def repeated(one: Sheet) -> Any:
        keys = [name for name in (columns.question, columns.dataset, columns.arm, columns.seed) if name]
        texts = one.frame[keys].astype(str)
        texts[columns.seed] = _same(texts[columns.seed].tolist())
        names, failed = texts.agg("\0".join, axis=1), _failed(one)
        return failed & (names.isin(names[~failed]) | names.duplicated())

    table = _without(table, parents, "a parent of others")
    table = _without(table, unfinished, "neither finished nor failed")
    table = _without(table, nameless, f"without {columns.arm} or {columns.seed}")
    table = _without(table, silent, f"without {listed(list(columns.metrics))}")
    return _without(table, repeated, "failed, and made again")


def _failed(table: Sheet) -> Any:
    return table.frame["status"] == "FAILED"


def _without(table: Sheet, which: Any, why: str) -> Sheet:
    if table.frame.empty:
        return table
    dropped = which(table)
    names = [str(name)[:8] for name in table.frame.index[dropped]]
    if not names:
        return table
    shown = ", ".join(names[:MOST_NAMED]) + ("…" if len(names) > MOST_NAMED else "")
    return table.without(dropped, f"{counted(len(names), 'run')} left out, {why}: {shown}")


__all__ = ["read_runs"]
