"""Which way a Keras metric is better, and the metrics that a run ends with. Keras is not loaded for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stn_bench.subject import Metric, Scale
from stn_bench.system.errors import ConfigError
from stn_bench.system.text import did_you_mean, shorten

ACCURACY = ("accuracy", "acc")
FRACTIONS = (
    *("precision", "recall", "f1_score", "fbeta_score", "precision_at_recall", "recall_at_precision"),
    *("sensitivity_at_specificity", "specificity_at_sensitivity"),
    *("io_u", "iou", "mean_io_u", "mean_iou", "binary_io_u", "binary_iou", "one_hot_io_u", "one_hot_iou"),
    *("one_hot_mean_io_u", "one_hot_mean_iou"),
)
HIGHER = ("auc", "r2_score", "cosine_similarity", "pearson_correlation", "concordance_correlation")
LOWER = (
    *("loss", "mse", "mae", "mape", "msle", "rmse", "bce", "kld", "log_cosh", "logcosh", "huber", "poisson"),
    *("hinge", "squared_hinge", "categorical_hinge", "kl_divergence", "dice", "tversky", "ctc", "circle"),
)
PARTS = ("train.", "validation.", "test.")


def one_example(settings: Any) -> float:
    """Stand for a step of one example, as long as nothing tells of which part a metric is."""
    raise NotImplementedError


def declare(groups: Sequence[Any], *, has_loss: bool) -> tuple[Metric, ...]:
    """Return the metrics of a model by their bare names, those that were named first, then the loss.

    Args:
        groups: metrics as they were given, each by output or in a row.
        has_loss: whether there is a loss besides.

    Raises:
        ConfigError: for one of which nothing tells which way it is better.
    """
    given = [one for group in groups for one in _flat(group)]
    told = {}
    for _, metric in given:
        if isinstance(metric, Metric):
            told[_bare(metric.name)] = replace(metric, name=_bare(metric.name))
    found: dict[str, Metric] = {}
    for prefix, metric in given:
        name = _bare(metric.name) if isinstance(metric, Metric) else prefix + name_of(metric)
        found[name] = told.get(name) or _known(name, metric)
    if has_loss:
        found.setdefault("loss", Metric("loss", "mean loss", "minimize"))
    return tuple(replace(one, meaning=(one.meaning or one.name).removesuffix(".")) for one in found.values())


def _bare(name: str) -> str:
    for part in PARTS:
        name = name.removeprefix(part)
    return name


def _flat(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield each metric behind what its output puts before its name, which Keras does where there are several."""
    if isinstance(group, Mapping):
        for output, metrics in group.items():
            prefix = f"{output}_" if len(group) > 1 else ""
            yield from ((prefix, one) for one in (metrics if isinstance(metrics, list | tuple) else [metrics]))
    elif isinstance(group, list | tuple):
        if any(isinstance(one, list | tuple) for one in group):
            raise ConfigError("KerasModel: `metrics`: name the outputs, as in {'price': ['mae'], 'kind': ['acc']}")
        yield from (("", one) for one in group)
    else:
        yield "", group


def name_of(metric: Any) -> str:
    """Return what Keras calls a metric in its logs."""
    if isinstance(metric, str):
        return metric
    if isinstance(metric, type):
        return _snake(metric.__name__)
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", _snake(type(metric).__name__)))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _known(name: str, metric: Any) -> Metric:
    """Return a metric with the direction that Keras' own have.

    Raises:
        ConfigError: if it is none of these.
    """
    if isinstance(metric, str):
        kinds = [_snake(metric)]
    elif isinstance(metric, type):
        kinds = [_snake(one.__name__) for one in metric.__mro__]
    else:
        kinds = [_snake(getattr(metric, "__name__", "")), *(_snake(one.__name__) for one in type(metric).__mro__)]
    for kind in kinds:
        if kind in ACCURACY or kind.endswith("_accuracy"):
            return Metric(name, f"fraction that is right ({name})", "maximize", "fraction", one_example)
        if kind in (*FRACTIONS, *HIGHER):
            scale: Scale = "fraction" if kind in FRACTIONS else "number"
            return Metric(name, kind.replace("_", " "), "maximize", scale)
        if kind in LOWER or re.search(r"_(error|crossentropy|hinge|loss)$", kind):
            return Metric(name, kind.replace("_", " "), "minimize")
    if not isinstance(metric, str | type) and not callable(metric):
        raise ConfigError(f"KerasModel: `metrics`: expected a metric, got {type(metric).__name__}")
    advice = did_you_mean(name, [*ACCURACY, *FRACTIONS, *HIGHER, *LOWER]) if isinstance(metric, str) else ""
    raise ConfigError(
        f"KerasModel: `metrics`: nothing tells which way `{shorten(name)}` is better.{advice} Add "
        f'Metric("{shorten(name)}", "what it is", "maximize") or "minimize" to the list'
    )


def final_metrics(
    declared: Sequence[Metric], best: str, count: Callable[[Any, str], int], example: str
) -> tuple[Metric, ...]:
    """Return the metrics that a run ends with, the first of the model's on the test examples first.

    Args:
        declared: the metrics of a model by their bare names.
        best: the metric of an epoch by which the best is chosen; or "last".
        count: settings, part -> how many examples it has.
        example: the noun for one of them.
    """

    def step(metric: Metric, part: str) -> Callable[[Any], float] | None:
        if metric.resolution is not one_example:
            return metric.resolution
        return lambda settings: 1 / count(settings, part)

    def on(metric: Metric, part: str, name: str) -> Metric:
        meaning = f"{metric.meaning}, {part} {example}s, {'last' if best == 'last' else 'best'} epoch"
        return replace(metric, name=name, meaning=meaning, resolution=step(metric, part))

    found = [on(one, "test", f"test.{one.name}") for one in declared]
    if best.startswith("validation."):
        found += [on(one, "validation", f"best.validation.{one.name}") for one in declared]
    return (
        *found,
        Metric("best.epoch", "the epoch, from 1, whose weights were tested", "minimize", "count"),
        Metric("epochs", "epochs trained", "minimize", "count"),
    )


def part_of(best: str, declared: Sequence[Metric]) -> Metric | None:
    """Return the metric of an epoch by which the best is chosen, or None for the last.

    Raises:
        ConfigError: if it is none.
    """
    if best == "last":
        return None
    part, _, name = best.partition(".")
    known = {one.name: one for one in declared}
    if part not in ("train", "validation") or not name:
        raise ConfigError(
            f"KerasModel: `best`: expected `validation.METRIC`, `train.METRIC` or `last`, got {shorten(best)}"
        )
    metric = known.get(name) or _known(name, name)
    meaning = f"{metric.meaning}, {'while training' if part == 'train' else 'validation examples'}"
    return replace(metric, name=best, meaning=meaning, resolution=None)
