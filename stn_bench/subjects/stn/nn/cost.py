"""The cost of a model: its floating point operations, counted layer by layer, and its parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from stn_bench.subjects.stn.nn.layout import BILINEAR_FLOPS, GRID_FLOPS
from stn_bench.subjects.stn.nn.transformer import SpatialTransformer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerFlops:
    """The operations of one call of one layer."""

    name: str
    kind: str
    flops: int


@dataclass(frozen=True)
class FlopCount:
    """The operations of one picture through a model, in inference; a multiply-add counts as 2.

    It counts convolutions and dense layers with their bias, normalisation (one multiply-add per value), activations
    (one operation per value, whichever the function), pooling (one per value read), rescaling and the sampler; copying
    and reshaping cost nothing. It does not guess the cost of other layers: their names are in `uncounted`.
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
    inputs: tuple[Shape, ...]
    output: Shape

    @property
    def channels(self) -> int:
        """Length of the first input's last axis."""
        return self.inputs[0][-1]

    @property
    def values(self) -> int:
        """Number of values in the output."""
        return math.prod(self.output)


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
    if isinstance(call.layer, SpatialTransformer) and call.layer.localisation is not None:
        yield from _descend(Call(call.layer.localisation, call.inputs, (6,)))
    yield call


def _picture_shape(tensor: Any) -> Shape:
    return tuple(tensor.shape[1:])


def _flops(call: Call) -> int | None:
    """Return the operations of one call, or None where the layer is not known."""
    if any(None in shape for shape in (*call.inputs, call.output)):
        return None
    for count in (_product_flops, _pooling_flops, _pointwise_flops):
        flops = count(call)
        if flops is not None:
            return flops
    return None


def _product_flops(call: Call) -> int | None:
    """Count the layers that multiply by a kernel: for each value of the output its taps, its bias, its activation."""
    layer = call.layer
    match layer:
        case keras.layers.Conv2D():
            taps = _window(layer.kernel_size) * call.channels // int(layer.groups)
        case keras.layers.DepthwiseConv2D():
            taps = _window(layer.kernel_size)
        case keras.layers.SeparableConv2D():
            taps = call.channels * int(layer.depth_multiplier)
        case keras.layers.Dense():
            taps = call.channels
        case _:
            return None
    ending = int(layer.use_bias) + _activation_flops(layer.activation)
    return call.values * (2 * taps + ending) + _depthwise_half(call)


def _depthwise_half(call: Call) -> int:
    """Count what a separable convolution does before its 1x1 convolution."""
    if not isinstance(call.layer, keras.layers.SeparableConv2D):
        return 0
    channels = call.channels * int(call.layer.depth_multiplier)
    return 2 * _window(call.layer.kernel_size) * math.prod(call.output[:-1]) * channels


def _pooling_flops(call: Call) -> int | None:
    """Count the layers that read several values for each one they write."""
    match call.layer:
        case keras.layers.MaxPooling2D() | keras.layers.AveragePooling2D():
            return call.values * _window(call.layer.pool_size)
        case keras.layers.GlobalAveragePooling2D() | keras.layers.GlobalMaxPooling2D():
            return math.prod(call.inputs[0])
        case SpatialTransformer():
            return math.prod(call.output[:2]) * GRID_FLOPS + call.values * BILINEAR_FLOPS
    return None


def _pointwise_flops(call: Call) -> int | None:
    """Count the layers that work on each value alone, or only move values."""
    match call.layer:
        case keras.layers.BatchNormalization() | keras.layers.Rescaling():
            return 2 * call.values
        case keras.layers.Activation():
            return call.values * _activation_flops(call.layer.activation)
        case keras.layers.ReLU() | keras.layers.LeakyReLU() | keras.layers.PReLU() | keras.layers.Softmax():
            return call.values
        case keras.layers.Add() | keras.layers.Multiply():
            return call.values * (len(call.inputs) - 1)
        case keras.layers.Dropout() | keras.layers.Flatten() | keras.layers.Reshape() | keras.layers.Concatenate():
            return 0
        case keras.layers.ZeroPadding2D() | keras.layers.Cropping2D() | keras.layers.Identity():
            return 0
    return None


def _window(size: Shape) -> int:
    return math.prod(size)


def _activation_flops(activation: Any) -> int:
    return int(activation is not None and activation is not keras.activations.linear)
