"""What a run keeps, as MLflow's own entities: metrics, parameters, its data, the signature of its model."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME

from stn_bench.subject import DataNote, TrainedModel
from stn_bench.tracking.record import told_epochs

Tensors: TypeAlias = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, dtype and shape of each input or output of a model."""


def spread(history: Mapping[str, tuple[float, ...]], started: int, ended: int) -> list[Metric]:
    """Return the metrics of all epochs that were told; no record tells when each ended, so they are spread evenly."""
    return [
        Metric(name, value, started + (ended - started) * epoch // len(series), epoch)
        for name, series in history.items()
        for epoch, value in told_epochs(series).items()
    ]


def metrics_of(values: Mapping[str, float], step: int = 0, now: int | None = None) -> list[Metric]:
    """Return the metrics of one step, all of one moment: milliseconds since 1970; now, unset."""
    moment = int(time.time() * 1000) if now is None else now
    return [Metric(name, value, moment, step) for name, value in values.items()]


def parameter(value: Any) -> str:
    """Return the value of a setting as a run's parameter."""
    return str(tuple(value) if isinstance(value, list) else value)  # in a record read from JSON, tuples are lists


def milliseconds(moment: str) -> int:
    """Return a moment of ISO 8601 as MLflow counts it, in milliseconds since 1970."""
    return int(datetime.datetime.fromisoformat(moment).timestamp() * 1000)


def loadable(model: TrainedModel) -> Tensors:
    """Return the inputs of a model by the names that it will have once it is loaded again.

    A graph of layers names an input anew as it is loaded, by its layer, and refuses data under any other name. One
    input alone needs none.
    """
    layers = [one for one in getattr(model.value, "layers", ()) if hasattr(one, "batch_shape")]
    if len(layers) != len(model.inputs):
        return model.inputs
    loaded = {layer.output.name: layer.name for layer in layers}
    named = tuple((loaded.get(name, name), dtype, shape) for name, dtype, shape in model.inputs)
    if len(named) == 1 and named[0][0] not in loaded.values():
        return (("", *named[0][1:]),)
    return named


def signature_of(model: TrainedModel) -> ModelSignature:
    """Return the inputs and outputs of a model, as whoever loads it will have to name them."""
    return ModelSignature(inputs=_schema(loadable(model)), outputs=_schema(model.outputs))


def _schema(tensors: Tensors) -> Schema:
    return Schema([TensorSpec(np.dtype(dtype), shape, name or None) for name, dtype, shape in tensors])


def dataset_input(data: DataNote, fingerprint: str) -> DatasetInput:
    """Return the data that a run learns from, known by the first digits of their fingerprint."""
    features = _schema(((data.example, data.dtype, (-1, *data.shape[1:])),)).to_json()
    schema = json.dumps({"mlflow_tensorspec": {"features": features, "targets": None}})
    profile = {f"{data.example}s": data.shape[0] if data.shape else 0} | (
        {"classes": data.classes} if data.classes else {}
    )
    dataset = Dataset(
        name=data.name,
        digest=fingerprint[:12] or "unknown",
        source_type="code",
        source=json.dumps({"tags": {MLFLOW_SOURCE_NAME: data.source or "stn-bench"}}),
        schema=schema,
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "training")])
