"""What a training returned or told, checked: numbers by name, and the metric that its study asks for."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stn_bench.subject import Cost, Outcome, Subject
from stn_bench.system.errors import SubjectError
from stn_bench.system.own_code import reason
from stn_bench.system.text import as_metric_name, did_you_mean, is_metric_name, quote, shorten

HINT = '; end it with a line such as `return {"test.error": error}`'

MOST_EPOCHS = 1_000_000
"""Epochs that a record has room for: it holds a value for each, told or not."""

NO_NUMBERS = "bcOSUVmM"
"""numpy's kinds of what Python may turn into a number, and is none: truth values, complex numbers, text, times."""


def read_outcome(
    subject: Subject,
    returned: Any,
    measured: Mapping[str, float],
    logged: Mapping[str, Sequence[float]],
    metric: str = "",
) -> Outcome:
    """Return what a training ended with, where every metric is a number.

    Args:
        subject: what was trained.
        returned: what its `train` returned.
        measured: costs that the harness measured; those that the training tells itself count instead.
        logged: the metrics that it told of its epochs.
        metric: what decides whether it diverged: the study's metric, or tuning's; "" outside a study.

    Raises:
        SubjectError: if it returned no Outcome and no numbers by name.
    """
    told = returned if isinstance(returned, Outcome) else Outcome(returned)
    metrics = read_metrics(subject.name, told.metrics)
    cost = told.cost or Cost()
    on_paper = {"cost.parameters": cost.parameters, "cost.flops": cost.flops}
    known = {name: float(value) for name, value in {**measured, **on_paper}.items() if value is not None}
    status, why = _status(subject, told), told.reason
    vital = [metric] if metric else _vital(subject, metrics)
    broken = [name for name in vital if not math.isfinite(metrics.get(name, 0.0))]
    if broken and status == "finished":
        status, why = "diverged", f"{broken[0]} is not finite"
    history = _history(subject, told.history) or logged
    return replace(told, metrics=known | metrics, status=status, reason=why, history=history, cost=cost)


def read_metrics(subject: str, told: Any) -> dict[str, float]:
    """Return metrics as numbers by name.

    Raises:
        SubjectError: if they are none.
    """
    if not isinstance(told, Mapping):
        raise SubjectError(
            f"subject `{subject}`: training must return an Outcome, or metrics by name; got "
            f"{type(told).__name__}{HINT}"
        )
    return {_name(subject, name, value): _number(subject, name, value) for name, value in told.items()}


def read_epoch(subject: str, epoch: Any) -> int:
    """Return the number of an epoch.

    Raises:
        SubjectError: if it is none.
    """
    try:
        if 1 <= (number := operator.index(epoch)) <= MOST_EPOCHS:
            return number
    except TypeError:
        pass
    raise SubjectError(
        f"subject `{subject}`: `run.log` expects the number of an epoch, from 1 to {MOST_EPOCHS:,}; got {quote(epoch)}"
    )


def check_rises(subject: str, metric: str, epoch: int, last: int) -> None:
    """Check that a metric is told for a later epoch than its last, which is 0 before the first.

    Raises:
        SubjectError: if it is not: nobody could say which value is that of the epoch.
    """
    if epoch <= last:
        raise SubjectError(
            f"subject `{subject}`: `run.log` expects a metric once an epoch, and epochs that rise; got "
            f"{quote(metric)} for epoch {epoch} after epoch {last}. Count on where training has several parts"
        )


def check_metric(subject: str, study: str, metric: str, outcome: Outcome) -> None:
    """Check that a finished training returned the metric that its study asks for; "" asks for none.

    Raises:
        SubjectError: if it did not.
    """
    if metric and outcome.status == "finished" and metric not in outcome.metrics:
        returned = [name for name in outcome.metrics if not name.startswith("cost.")]
        raise SubjectError(
            f"subject `{subject}`: study `{study}` asks for metric `{metric}`, which training did "
            f"not return.{did_you_mean(metric, returned)} It returned: {shorten(', '.join(returned)) or 'nothing'}"
        )


def _name(subject: str, name: Any, value: Any) -> str:
    if not isinstance(name, str):
        raise _no_number(subject, name, value)
    if is_metric_name(name):
        return str(name)
    raise SubjectError(
        f"subject `{subject}`: a metric's name is made of a–z, A–Z, 0–9, `_.:/-` and spaces; got {quote(name)}"
    )


def _number(subject: str, name: Any, value: Any) -> float:
    """Return a metric as a number; what Python could turn into one by chance, such as text, is none."""
    dtype = getattr(value, "dtype", None)
    kind = getattr(dtype, "kind", "b" if str(dtype).endswith("bool") else "c" if "complex" in str(dtype) else "f")
    if isinstance(value, str | bytes | bool) or kind in NO_NUMBERS or getattr(value, "shape", ()) != ():
        raise _no_number(subject, name, value)
    try:
        return float(value)
    except Exception as error:  # whatever a library's number raises that is none
        raise _no_number(subject, name, value, error) from error


def _no_number(subject: str, name: Any, value: Any, error: Exception | None = None) -> SubjectError:
    why = f" ({reason(error)})" if error and not isinstance(error, TypeError | ValueError) else ""
    return SubjectError(
        f"subject `{subject}`: training must return numbers by name; "
        f"got {type(value).__name__} {quote(value)} for metric {quote(name)}{why}"
    )


def _vital(subject: Subject, metrics: Mapping[str, float]) -> list[str]:
    """Return the metrics that decide outside a study: the first that is declared, or else all but costs."""
    declared = [metric.name for metric in subject.metrics[:1]]
    return declared or [name for name in metrics if not name.startswith("cost.")]


def _status(subject: Subject, told: Outcome) -> Any:
    if told.status not in ("finished", "diverged"):
        raise SubjectError(
            f"subject `{subject.name}`: `status` of an Outcome is finished or diverged, got {quote(told.status)}"
        )
    return told.status


def _history(subject: Subject, told: Any) -> dict[str, tuple[float, ...]]:
    """Return metrics by name, one value an epoch; what no store takes in a name becomes `_`, such as that of `top@5`.

    A training that comes to its end is not lost for the name of a curve.
    """
    where = f"subject `{subject.name}`: `history` of an Outcome holds numbers by name, one an epoch"
    if not isinstance(told, Mapping):
        raise SubjectError(f"{where}; got {type(told).__name__}")
    history: dict[str, tuple[float, ...]] = {}
    for told_as, series in told.items():
        name = as_metric_name(str(told_as))
        if name in history or not name:
            raise SubjectError(f"{where}; no two alike, of a–z, A–Z, 0–9, `_.:/-` and spaces; got {quote(told_as)}")
        try:
            history[name] = tuple(map(float, series))
        except (TypeError, ValueError) as error:
            raise SubjectError(f"{where} ({reason(error)})") from error
    return history
