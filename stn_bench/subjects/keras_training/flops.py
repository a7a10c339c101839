"""The floating-point operations of layers that `stn` has none of: of sequences, of volumes, and recurrent ones.

`stn_bench.subjects.stn.nn.cost` counts the others. Its code is in the keys of finished runs, so nothing is added or
renamed there.
"""

from __future__ import annotations

import math

import keras

from stn_bench.subject import LayerCost
from stn_bench.subjects.stn.nn.cost import Call, _calls
from stn_bench.subjects.stn.nn.cost import _flops as _known_flops

L = keras.layers
CONVOLUTIONS = (L.Conv1D, L.Conv3D)
POOLING = (L.MaxPooling1D, L.AveragePooling1D, L.MaxPooling3D, L.AveragePooling3D)
GLOBAL_POOLING = (L.GlobalAveragePooling1D, L.GlobalMaxPooling1D, L.GlobalAveragePooling3D, L.GlobalMaxPooling3D)
SCALING = (L.Normalization, L.LayerNormalization, L.GroupNormalization, L.UnitNormalization)
MOVING = (
    *(L.Embedding, L.Permute, L.RepeatVector, L.UpSampling1D, L.UpSampling2D, L.UpSampling3D),
    *(L.ZeroPadding1D, L.ZeroPadding3D, L.Cropping1D, L.Cropping3D, L.Masking),
    *(L.GaussianNoise, L.GaussianDropout, L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D),
)
GATES = {L.SimpleRNN: (1, 0), L.GRU: (3, 5), L.LSTM: (4, 5)}
"""Recurrent layer -> its gates, and the operations by which they change one value of its state."""


def layer_costs(model: keras.Model) -> tuple[tuple[LayerCost, ...], tuple[str, ...]]:
    """Return the operations of one example through a model's layers, and the names of the layers not known.

    A layer that is used twice counts twice, a multiply-add counts as 2; copying, looking up and noise cost nothing.

    Raises:
        AttributeError, NotImplementedError: if the model is no graph of layers.
    """
    costs, unknown = [], []
    for call in _calls(model):
        flops = _flops(call)
        if flops is None:
            unknown.append(call.layer.name)
        else:
            costs.append(LayerCost(call.layer.name, type(call.layer).__name__, flops))
    return tuple(costs), tuple(dict.fromkeys(unknown))


def _flops(call: Call) -> int | None:
    """Return the operations of one call, or None where its layer or a length is not known."""
    known = _known_flops(call)
    layer = call.layer
    if known is not None or any(None in shape for shape in (*call.inputs, call.output)):
        return known
    if isinstance(layer, CONVOLUTIONS):
        taps = int(math.prod(layer.kernel_size)) * call.channels // int(layer.groups)
        ending = int(layer.use_bias) + int(layer.activation is not keras.activations.linear)
        return call.values * (2 * taps + ending)
    if isinstance(layer, POOLING):
        return call.values * int(math.prod(layer.pool_size))
    if isinstance(layer, GLOBAL_POOLING):
        return math.prod(call.inputs[0])
    if isinstance(layer, SCALING):
        return 2 * call.values
    if isinstance(layer, MOVING):
        return 0
    return _recurrent_flops(call)


def _recurrent_flops(call: Call) -> int | None:
    """Count a recurrent layer: in each step each gate's products, bias and activation, then the state."""
    layer = call.layer
    if type(layer) not in GATES:
        return None
    gates, update = GATES[type(layer)]
    (steps, width), units = call.inputs[0], int(layer.units)
    return steps * units * (gates * (2 * (width + units) + int(layer.use_bias) + 1) + update)
