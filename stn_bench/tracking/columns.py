"""Which column of a table tells what, where that was not said; and what its numbers measure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stn_bench.subject import Metric
from stn_bench.system.errors import DataError
from stn_bench.system.sounds import Direction, is_no_fraction, sounds
from stn_bench.system.text import as_label, did_you_mean, shorten
from stn_bench.tracking.groups import FoundRun
from stn_bench.tracking.spelling import COMMAND, Spelling

if TYPE_CHECKING:
    from stn_bench.tracking.table import Sheet

SEEDS = (("seed", "randomseed"), ("run", "fold", "trial", "repeat", "rep", "replicate", "repetition", "split"))
ARMS = (
    ("arm",),
    ("method", "model", "variant", "config", "configuration", "algorithm", "algo", "approach", "system", "condition"),
    ("name",),
)
BASES = ("base", "baseline", "control", "reference")
DATASETS = (("dataset",),)
"""Names by which a column, or the base, is guessed; those of an earlier tuple go first."""

OURS = frozenset({"study", "ablation", "phase", "status", "run_key"})
"""Columns by which a `runs.csv` of ours is known."""

WHAT_IT_WAS = OURS | {"arm", "seed", "trial", "run_id"}
"""Its columns that say what a run was."""

MOST_NAMED = 8


@dataclass(frozen=True)
class Columns:
    """Which column tells what; "" or () where nobody said.

    Args:
        arm: the arm. In a wide table it has no column.
        seed: what pairs the arms: seed, fold, run.
        metrics: what is compared; of a wide table, a name for its numbers.
        base: the arm that the others are compared with.
        question: tells questions apart; rows with nothing there belong to all of them.
        dataset: tells data sets apart.
        wide: whether each arm is a column of its own.
    """

    arm: str = ""
    seed: str = ""
    metrics: tuple[str, ...] = ()
    base: str = ""
    question: str = ""
    dataset: str = ""
    wide: bool = False

    def in_words(self) -> str:
        """Return the columns in one line."""
        arm = "a column each" if self.wide else self.arm
        told = {"arm": arm, "seed": self.seed, "metric": ", ".join(self.metrics)}
        told |= {"data set": self.dataset, "question": self.question, "base": self.base}
        return ", ".join(f"{name}: {value}" for name, value in told.items() if value)


# Which column is which -----------------------------------------------------------------------------------------------


def find_columns(table: Sheet, asked: Columns) -> Columns:
    """Return which column tells what: those that were named, and the others where they are plain.

    Raises:
        DataError: if a column is not there, or is not plain.
    """
    asked = _said(table, asked)
    for option in ("arm", "seed", "question", "dataset"):
        if name := getattr(asked, option):
            _check_column(table, name, option)
    _check_metrics(table, asked.metrics)
    named = {asked.arm, asked.seed, asked.question, asked.dataset, *asked.metrics}
    free = [name for name in (_measured(table) if is_ours(table) else table.names) if name not in named]
    dataset = asked.dataset or _several(table, _by_name(free, DATASETS))
    free = [name for name in free if name != dataset]
    seed = asked.seed or _by_name(free, SEEDS)
    if not seed:
        raise _no_seed(table, free)
    free = [name for name in free if name != seed]
    arm = "" if asked.wide else asked.arm or _by_name(free, ARMS)
    texts = [name for name in free if not table.has_numbers(name)]
    if not arm and not asked.wide and len(texts) == 1:
        arm = texts[0]
    found = replace(asked, arm=arm, seed=seed, dataset=dataset)
    if not arm:
        if not asked.wide and (texts or len(free) < 2 or any(name in table.names for name in asked.metrics)):
            raise _not_plain(table, "arm", texts or free)
        label = asked.metrics or ("value",)
        if len(label) > 1:
            raise DataError(f"{table.name}: a wide table has one metric, got {len(label)}")
        return replace(found, wide=True, metrics=label)
    for name in asked.metrics:
        _check_column(table, name, "metric")
    others = [name for name in free if name != arm]
    numbers = [name for name in others if name not in texts]
    if not numbers and len(others) == 1:
        numbers = others  # whoever reads it says which row is none
    if not asked.metrics and len(numbers) != 1:
        raise _not_plain(table, "metric", numbers)
    return replace(found, metrics=asked.metrics or tuple(numbers))


def _check_metrics(table: Sheet, metrics: Sequence[str]) -> None:
    """See that no metric is named twice: MLflow's `metrics.acc` is `acc` too."""
    names = [name.removeprefix("metrics.") for name in metrics]
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), ""):
        raise DataError(
            f"{table.name}: {table.spelling.name('metric')}: expected each metric once, got `{shorten(twice)}` "
            f"{names.count(twice)} times"
        )


def _said(table: Sheet, asked: Columns) -> Columns:
    """Return which columns were named, as the table has their names; of a `runs.csv` of ours arm and seed are known.

    Raises:
        DataError: if a column is named of which a wide table has none.
    """
    if asked.wide and asked.arm:
        say = f"{table.spelling.name('wide')} and {table.spelling.name('arm')}"
        raise DataError(f"{table.name}: {say}: in a wide table each arm is a column of its own; give one of the two")
    arm, seed, question, dataset = map(as_label, (asked.arm, asked.seed, asked.question, asked.dataset))
    metrics = tuple(map(as_label, asked.metrics))
    asked = replace(asked, arm=arm, seed=seed, question=question, dataset=dataset, metrics=metrics)
    if not is_ours(table) or asked.wide:
        return asked
    has_several = not dataset and len(set(table.column("ablation")) - {"base"}) > 1
    known = {name: name for name in ("arm", "seed") if name in table.names}
    return replace(
        asked,
        arm=arm or known.get("arm", ""),
        seed=seed or known.get("seed", ""),
        question=question or ("ablation" if has_several else ""),
    )


def is_ours(table: Sheet) -> bool:
    """Return whether a table is a `runs.csv` of ours."""
    return set(table.names) >= OURS


def _measured(table: Sheet) -> list[str]:
    """Return the columns of a `runs.csv` of ours that may be metrics: settings are alike for all seeds of an arm."""
    known = [name for name in table.names if name in WHAT_IT_WAS or name.startswith("given.")]
    own = [name for name in table.names if name not in known]
    arms = [name for name in ("ablation", "arm") if name in known]
    verdicts = table.frame[table.frame["phase"] == "verdict"].astype(str)
    differs = verdicts.groupby(arms)[own].nunique().max() > 1
    return [name for name in own if differs[name]] or own


def _check_column(table: Sheet, name: str, option: str) -> None:
    if name not in table.names:
        told = did_you_mean(name, table.names) or f" Columns: {_some(table.names)}"
        raise DataError(f"{table.name}: {table.spelling.name(option)}: no column `{shorten(name)}`.{told}")


def _not_plain(table: Sheet, what: str, among: Sequence[str]) -> DataError:
    few = f"; one of {_some(among)}?" if among else f"; its columns: {_some(table.names)}"
    say = table.spelling.value(what, "COLUMN")
    return DataError(f"{table.name}: which column is the {what} is not plain; say it with {say}{few}")


def _no_seed(table: Sheet, free: Sequence[str]) -> DataError:
    """Return what to say of a table of which no column is plainly the seed: several may be, or none is."""
    if several := [name for name in free if _plain(name) in {one for tier in SEEDS for one in tier}]:
        return _not_plain(table, "seed", several)
    return DataError(
        f"{table.name}: no column tells which runs of two arms are a pair, such as seed, fold or run; name it with "
        f"{table.spelling.value('seed', 'COLUMN')}, or add one. Columns: {_some(free)}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shorten, names[:MOST_NAMED])) + ("…" if len(names) > MOST_NAMED else "")


def _by_name(names: Iterable[str], known: Sequence[Sequence[str]]) -> str:
    """Return the one name that is among those known, the earlier ones first; "" where none or several are."""
    plain = {name: _plain(name) for name in names}
    for tier in known:
        found = [name for name, one in plain.items() if one in tier]
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


def _plain(name: str) -> str:
    """Return a column's name as those that are known are written: without a prefix, in small letters alone."""
    return re.sub(r"[\W_]", "", name.rpartition(".")[2].lower())


def _several(table: Sheet, name: str) -> str:
    """Return a column's name if it holds more than one value."""
    return name if name and len(set(table.column(name))) > 1 else ""


def find_base(table: Sheet, arms: Sequence[str]) -> str:
    """Return the arm that is called as a base is.

    Raises:
        DataError: if none is, or several are.
    """
    plain = {arm: re.sub(r"[\W_]", "", arm.lower()) for arm in arms}
    found = [arm for arm, one in plain.items() if one in BASES]
    if len(found) == 1:
        return found[0]
    say = table.spelling.value("base", "NAME")
    raise DataError(
        f"{table.name}: which arm is the base is not plain; say it with {say}; one of {_some(found or arms)}?"
    )


def metric_of(
    name: str,
    runs: Iterable[FoundRun],
    direction: str = "",
    resolution: float | None = None,
    *,
    is_one_of_several: bool = False,
    spelling: Spelling = COMMAND,
) -> Metric:
    """Return what is known of a metric: its name, its values, and what was said of it.

    Raises:
        DataError: if nobody said which way it is better, and its name sounds as though less were.
    """
    if direction not in ("", "maximize", "minimize"):
        raise DataError(f"{spelling.name('direction')}: expected maximize or minimize, got `{shorten(direction)}`")
    if not direction and sounds(name) == "minimize":
        say = spelling.value("direction", "minimize")
        if is_one_of_several:
            say = spelling.of_metrics("direction", {name: "minimize"})
        raise DataError(f"is less of `{shorten(name)}` better? Say it: {say}, or maximize")
    values = [run.metrics[name] for run in runs if name in run.metrics]
    is_fraction = bool(values) and min(values) >= 0 and max(values) <= 1 and not is_no_fraction(name)
    way: Direction = "minimize" if direction == "minimize" else "maximize"
    step = None if resolution is None else lambda _: resolution
    return Metric(name, direction=way, scale="fraction" if is_fraction else "number", resolution=step)


__all__ = ["Columns", "find_base", "find_columns", "is_ours", "metric_of"]
