"""The floating-point operations of a model, counted layer by layer, and its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras

from stn_bench.subject import LayerCost

Shape = tuple[int, ...]

L = keras.layers
CONVOLUTIONS = (L.Conv1D, L.Conv2D, L.Conv3D)
POOLING = (
    *(L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D),
    *(L.AveragePooling1D, L.AveragePooling2D, L.AveragePooling3D),
)
GLOBAL_POOLING = (
    *(L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.GlobalAveragePooling3D),
    *(L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D),
)
SCALING = (
    *(L.BatchNormalization, L.LayerNormalization, L.GroupNormalization, L.UnitNormalization),
    *(L.Normalization, L.Rescaling),
)
ACTIVATING = (L.ReLU, L.LeakyReLU, L.PReLU, L.Softmax)
JOINING = (L.Add, L.Multiply)
MOVING = (
    *(L.Flatten, L.Reshape, L.Concatenate, L.Permute, L.RepeatVector, L.Identity, L.Embedding, L.Masking),
    *(L.UpSampling1D, L.UpSampling2D, L.UpSampling3D, L.ZeroPadding1D, L.ZeroPadding2D, L.ZeroPadding3D),
    *(L.Cropping1D, L.Cropping2D, L.Cropping3D),
    *(L.Dropout, L.GaussianNoise, L.GaussianDropout),
    *(L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D),
)
GATES = {L.SimpleRNN: (1, 0), L.GRU: (3, 5), L.LSTM: (4, 5)}
"""Recurrent layer -> its gates, and the operations by which they change one value of its state."""


class Call(NamedTuple):
    """One use of a layer in a model's graph; shapes are those of one example, without the batch."""

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


Counted = tuple[int, Sequence[Call]]
"""The operations of a layer itself, and the calls inside of it, which are counted before it."""

Counter = Callable[[Call], Counted | None]
"""Counts a layer of a subject's own, as soon as it is one."""


def count_parameters(model: keras.Model) -> int:
    """Return the number of weights, trained and moving, without the state of random seeds and of the optimizer."""
    return int(model.count_params())


def layer_costs(model: keras.Model, own: Counter | None = None) -> tuple[tuple[LayerCost, ...], tuple[str, ...]]:
    """Return the operations of one example through a model's layers in inference, and the names of layers not known.

    It counts convolutions, dense and recurrent layers with their bias, normalisation (one multiply-add per value),
    activations (one operation per value, whichever the function), pooling (one per value read) and rescaling; copying,
    looking up and noise cost nothing. A multiply-add counts as 2, a layer that is used twice counts twice. The cost of
    other layers is not guessed.

    Args:
        model: a graph of layers.
        own: counts layers that Keras does not have.

    Raises:
        AttributeError, NotImplementedError: if the model is no graph of layers.
    """
    costs, unknown = [], []
    for call, flops in _count(_calls(model), own):
        if flops is None:
            unknown.append(call.layer.name)
        else:
            costs.append(LayerCost(call.layer.name, type(call.layer).__name__, flops))
    return tuple(costs), tuple(dict.fromkeys(unknown))


def _count(calls: Iterator[Call], own: Counter | None) -> Iterator[tuple[Call, int | None]]:
    """Yield the operations of each call, None where they are not known; models inside take the place of their call."""
    for call in calls:
        if isinstance(call.layer, keras.Model):
            yield from _count(_calls(call.layer), own)
            continue
        counted = own(call) if own else None
        if counted is None:
            yield call, _flops(call)
            continue
        yield from _count(iter(counted[1]), own)
        yield call, None if _is_open(call) else counted[0]


def _calls(model: keras.Model) -> Iterator[Call]:
    """Yield every call of the model's graph in order."""
    # Keras has no public way to the calls of a graph, only to its layers, where a shared layer appears once.
    graph = getattr(model, "_functional", None) or model
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input:
                inputs = tuple(tuple(tensor.shape[1:]) for tensor in node.input_tensors)
                yield Call(node.operation, inputs, tuple(node.outputs[0].shape[1:]))


def _is_open(call: Call) -> bool:
    """Return whether a length is not known."""
    return any(None in shape for shape in (*call.inputs, call.output))


def _flops(call: Call) -> int | None:
    """Return the operations of one call, or None where its layer or a length is not known."""
    if _is_open(call):
        return None
    for count in (_product_flops, _pooling_flops, _pointwise_flops, _recurrent_flops):
        flops = count(call)
        if flops is not None:
            return flops
    return None


def _product_flops(call: Call) -> int | None:
    """Count the layers that multiply by a kernel: for each value of the output its taps, its bias, its activation."""
    layer = call.layer
    if isinstance(layer, L.SeparableConv2D):  # one channel after the other, then a 1x1 convolution
        channels = call.channels * int(layer.depth_multiplier)
        first = 2 * _size(layer.kernel_size) * math.prod(call.output[:-1]) * channels
        return first + call.values * (2 * channels + _ending(layer))
    if isinstance(layer, L.DepthwiseConv2D):
        taps = _size(layer.kernel_size)
    elif isinstance(layer, CONVOLUTIONS):
        taps = _size(layer.kernel_size) * call.channels // int(layer.groups)
    elif isinstance(layer, L.Dense):
        taps = call.channels
    else:
        return None
    return call.values * (2 * taps + _ending(layer))


def _size(window: Shape) -> int:
    return math.prod(window)


def _ending(layer: Any) -> int:
    return int(layer.use_bias) + _activation_flops(layer.activation)


def _activation_flops(activation: Any) -> int:
    return int(activation is not None and activation is not keras.activations.linear)


def _pooling_flops(call: Call) -> int | None:
    """Count the layers that read several values for each one they write."""
    if isinstance(call.layer, POOLING):
        return call.values * _size(call.layer.pool_size)
    return math.prod(call.inputs[0]) if isinstance(call.layer, GLOBAL_POOLING) else None


def _pointwise_flops(call: Call) -> int | None:
    """Count the layers that work on each value alone, or only move values."""
    layer = call.layer
    if isinstance(layer, SCALING):
        return 2 * call.values
    if isinstance(layer, L.Activation):
        return call.values * _activation_flops(layer.activation)
    if isinstance(layer, ACTIVATING):
        return call.values
    if isinstance(layer, JOINING):
        return call.values * (len(call.inputs) - 1)
    return 0 if isinstance(layer, MOVING) else None


def _recurrent_flops(call: Call) -> int | None:
    """Count a recurrent layer: in each step each gate's products, bias and activation, then the state."""
    layer = call.layer
    if type(layer) not in GATES:
        return None
    gates, update = GATES[type(layer)]
    (steps, width), units = call.inputs[0], int(layer.units)
    return steps * units * (gates * (2 * (width + units) + int(layer.use_bias) + 1) + update)
