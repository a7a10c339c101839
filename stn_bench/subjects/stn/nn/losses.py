"""The loss that training falls along."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops

from stn_bench.subjects.stn.nn.sampler import Tensor


def smoothed_cross_entropy(share: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the cross-entropy of labels of which a share is spread evenly over all classes, in nats.

    Szegedy et al. 2016 (https://arxiv.org/abs/1512.00567), section 7.

    Args:
        share: of the label, 0 to 1.
    """

    def smoothed(labels: Tensor, probabilities: Tensor) -> Tensor:
        log = ops.log(ops.clip(probabilities, keras.config.epsilon(), 1.0))
        own = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        return (1 - share) * own - share * ops.mean(log, axis=-1)

    return smoothed
