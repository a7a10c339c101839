"""The value of each metric for each test example, where a model has such values, and they average to the metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from stn_bench.subject import Numbers

MOST_VALUES = 2_000_000
"""Predictions that are larger than this are not asked for: they would fill memory and store."""

ALIKE = 1e-4
"""How far the mean of the examples may be from what Keras told of a metric, relative to it: sums of float32."""


def example_scores(model: keras.Model, predicted: Any, targets: Any, told: Mapping[str, float]) -> dict[str, Numbers]:
    """Return metric -> its value for each test example, `(examples,)`.

    Metrics that are no mean over examples, such as AUC, are left out, and so are those that sample weights weigh.

    Args:
        model: the model.
        predicted: what it said of the test examples.
        targets: y of them.
        told: what Keras told of each metric.
    """
    outputs = list(zip(_flat(targets), _flat(predicted), strict=False)) if _agree(targets, predicted) else []
    found = {}
    for index, name, function in _functions(model, len(outputs)):
        try:
            each = np.asarray(keras.ops.convert_to_numpy(function(*outputs[index])), np.float64)
            each = each.reshape(len(outputs[index][1]), -1).mean(axis=1)
        except Exception:  # a function of the user's may want what it had while training
            continue
        mean = float(each.mean())
        if name in told and np.isfinite(mean) and abs(mean - told[name]) <= ALIKE * max(1.0, abs(told[name])):
            found[name] = each
    return found


def _agree(targets: Any, predicted: Any) -> bool:
    """Return whether y has an array for each output, in the same order."""
    if isinstance(targets, Mapping) or isinstance(predicted, Mapping):
        return isinstance(targets, Mapping) and isinstance(predicted, Mapping) and targets.keys() == predicted.keys()
    return targets is not None and len(_flat(targets)) == len(_flat(predicted))


def _flat(tree: Any) -> list[Any]:
    if isinstance(tree, Mapping):
        return [tree[name] for name in sorted(tree)]
    return list(tree) if isinstance(tree, tuple | list) else [tree]


def _functions(model: keras.Model, outputs: int) -> Iterator[tuple[int, str, Any]]:
    """Yield output, name and function of targets and predictions of each metric that is a mean over examples."""
    compiled = getattr(model, "_compile_metrics", None)  # Keras has no public way to what it resolved names to
    names = sorted(getattr(model, "output_names", None) or ()) if outputs > 1 else []
    for metrics in getattr(compiled, "_flat_metrics", ()) if outputs else ():
        output = getattr(metrics, "output_name", None) if outputs > 1 else None
        if metrics is None or (output and output not in names):
            continue
        for metric in metrics.metrics:
            function, options = getattr(metric, "_fn", None), getattr(metric, "_fn_kwargs", {})
            if function is not None:
                name = f"{output}_{metric.name}" if output else metric.name
                yield names.index(output) if output else 0, name, _Compared(function, options)
    loss = getattr(model, "loss", None)
    if outputs == 1 and (isinstance(loss, str) or callable(loss)):
        function = keras.losses.get(loss)
        yield 0, "loss", _Compared(getattr(function, "call", function), {})


class _Compared:
    """A function of targets and predictions, of shapes that agree as Keras makes them agree."""

    def __init__(self, function: Any, options: Mapping[str, Any]) -> None:
        self._function, self._options = function, options

    def __call__(self, targets: Any, predicted: Any) -> Any:
        if targets.ndim == predicted.ndim - 1 and predicted.shape[-1] == 1:
            targets = targets[..., None]
        predictions = keras.ops.convert_to_tensor(predicted)
        return self._function(keras.ops.convert_to_tensor(targets), predictions, **self._options)
