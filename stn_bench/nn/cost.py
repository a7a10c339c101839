"""What a model costs: its floating point operations, counted layer by layer, and its parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from stn_bench.nn.transformer import SpatialTransformer

GRID_FLOPS = 12
"""The sampling grid, for each output pixel: a 2x3 matrix times (x, y, 1), six multiply-adds."""

BILINEAR_FLOPS = 8
"""The bilinear sampler, for each output pixel and channel: four neighbours, each weighted and added."""


@dataclass(frozen=True)
class LayerFlops:
    """The operations of one call of one layer."""

    name: str
    kind: str
    flops: int


@dataclass(frozen=True)
class FlopCount:
    """The operations of one picture through a model, in inference; a multiply-add counts as 2.

    Counted are convolutions and dense layers with their bias, normalisation (one multiply-add per value), activations
    (one operation per value, whichever the function), pooling (one per value read), rescaling and the sampler; copying
    and reshaping cost nothing. What a layer outside this list costs is not guessed: its name is in `uncounted`.
    """

    layers: tuple[LayerFlops, ...]
    uncounted: tuple[str, ...]

    @property
    def total(self) -> int:
        """Number of operations of all counted layers."""
        return sum(layer.flops for layer in self.layers)


def count_parameters(model: keras.Model) -> int:
    """Return the number of weights, trained and moving, without the state of random seeds and of the optimizer."""
    return int(model.count_params())


def count_flops(model: keras.Model) -> FlopCount:
    """Return the operations of one picture through the model; a layer that is used twice counts twice."""
    counted, uncounted = [], []
    for call in _calls(model):
        flops = _flops(call)
        if flops is None:
            uncounted.append(call.layer.name)
        else:
            counted.append(LayerFlops(call.layer.name, type(call.layer).__name__, flops))
    return FlopCount(tuple(counted), tuple(dict.fromkeys(uncounted)))


class Call(NamedTuple):
    """One use of a layer in a model's graph; shapes are those of one picture, without the batch."""

    layer: Any
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]


def _calls(model: keras.Model) -> Iterator[Call]:
    """Yield every call of the model's graph in order; models inside the model take the place of their own call."""
    # Keras has no public way to the calls of a graph, only to its layers, where a shared layer appears once.
    graph = getattr(model, "_functional", None) or model
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input:
                inputs = tuple(_picture_shape(tensor) for tensor in node.input_tensors)
                yield from _descend(Call(node.operation, inputs, _picture_shape(node.outputs[0])))


def _descend(call: Call) -> Iterator[Call]:
    if isinstance(call.layer, keras.Model):
        yield from _calls(call.layer)
        return
    if isinstance(call.layer, SpatialTransformer):
        yield from _descend(Call(call.layer.localisation, call.inputs, (6,)))
    yield call


def _picture_shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape[1:])


def _flops(call: Call) -> int | None:
    """Return the operations of one call, or None where the layer is not known."""
    layer, values_in, values_out = call.layer, math.prod(call.inputs[0]), math.prod(call.output)
    flops: int | None = None
    match layer:
        case keras.layers.Conv2D():
            taps = math.prod(layer.kernel_size) * call.inputs[0][-1] // layer.groups
            return values_out * (2 * taps + _ending(layer))
        case keras.layers.DepthwiseConv2D():
            return values_out * (2 * math.prod(layer.kernel_size) + _ending(layer))
        case keras.layers.SeparableConv2D():
            channels = call.inputs[0][-1] * layer.depth_multiplier
            depthwise = math.prod(call.output[:-1]) * channels * 2 * math.prod(layer.kernel_size)
            return depthwise + values_out * (2 * channels + _ending(layer))
        case keras.layers.Dense():
            return values_out * (2 * call.inputs[0][-1] + _ending(layer))
        case keras.layers.MaxPooling2D() | keras.layers.AveragePooling2D():
            return values_out * math.prod(layer.pool_size)
        case keras.layers.GlobalAveragePooling2D() | keras.layers.GlobalMaxPooling2D():
            return values_in
        case keras.layers.BatchNormalization() | keras.layers.Rescaling():
            return 2 * values_out
        case SpatialTransformer():
            return math.prod(call.output[:2]) * GRID_FLOPS + values_out * BILINEAR_FLOPS
        case keras.layers.Activation():
            return values_out * _per_value(layer.activation)
        case keras.layers.ReLU() | keras.layers.LeakyReLU() | keras.layers.PReLU() | keras.layers.Softmax():
            return values_out
        case keras.layers.Add() | keras.layers.Multiply():
            return values_out * (len(call.inputs) - 1)
        case keras.layers.Dropout() | keras.layers.Flatten() | keras.layers.Reshape() | keras.layers.Concatenate():
            return 0
        case keras.layers.ZeroPadding2D() | keras.layers.Cropping2D() | keras.layers.Identity():
            return 0
    return None


def _ending(layer: Any) -> int:
    """Return the operations per value that end a layer: its bias and its activation."""
    return int(layer.use_bias) + _per_value(layer.activation)


def _per_value(activation: Any) -> int:
    return int(activation is not None and activation is not keras.activations.linear)
