"""Batches of arrays: in an order that depends on the seed and the epoch alone, or in their own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from stn_bench.subject import Numbers
from stn_bench.subjects.keras_training.data import Alter, Part, map_tree


def epoch_order(seed: int, epoch: int, count: int) -> Numbers:
    """Return the order of the examples in an epoch, counted from 0: it depends on seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(count)


class Shuffled:
    """Batches of a part, in a new order each epoch: `batches` reads it whenever it is iterated anew.

    Args:
        part: the examples.
        batch_size: how many a batch has; the last may have fewer.
        seed: drives the order.
        sized: whether batches that are all of one size say so, as those of `model.fit` on arrays do: TensorFlow then
            traces for that size, and may round otherwise in the last bit.
        alter: what alters the examples of a batch, anew in each epoch; None where they stay as they are.
    """

    def __init__(
        self, part: Part, batch_size: int, seed: int, *, sized: bool = False, alter: Alter | None = None
    ) -> None:
        self._seed, self._count, self._epoch = seed, part.count(), 0
        is_sized = sized and self._count % batch_size == 0
        with tf.device("CPU:0"):  # arrays larger than an accelerator's memory stay outside of it
            tensors = map_tree(tf.convert_to_tensor, part.arrays)
            self._order = tf.Variable(np.arange(self._count, dtype=np.int64), trainable=False)

            def pick(step: Any) -> Any:
                chosen = self._order[step * batch_size : (step + 1) * batch_size]
                if is_sized:
                    chosen.set_shape((batch_size,))
                batch = map_tree(lambda one: tf.gather(one, chosen), tensors)
                return batch if alter is None else (altered(batch[0], chosen, alter), *batch[1:])

            def altered(x: Any, chosen: Any, alter: Alter) -> Any:
                changed = tf.numpy_function(
                    lambda *given: alter(given[0], given[1], self._epoch), [x, chosen], x.dtype
                )
                changed.set_shape(x.shape)
                return changed

            steps = math.ceil(self._count / batch_size)
            self.batches = tf.data.Dataset.range(steps).map(pick).prefetch(2)

    def begin(self, epoch: int) -> None:
        """Put the examples in the order of an epoch, counted from 0."""
        self._epoch = epoch
        self._order.assign(epoch_order(self._seed, epoch, self._count))


def in_order(part: Part, batch_size: int) -> Any:
    """Return batches of a part in its own order, or the user's dataset."""
    if part.dataset is not None:
        return part.dataset
    with tf.device("CPU:0"):
        return tf.data.Dataset.from_tensor_slices(map_tree(tf.convert_to_tensor, part.arrays)).batch(batch_size)


def first_batch(part: Part) -> tuple[Any, ...]:
    """Return (x, …) of one batch, as numpy's arrays."""
    if part.dataset is None:
        return map_tree(lambda one: one[:1], part.arrays)  # type: ignore[no-any-return]
    batch = next(iter(part.dataset))
    return map_tree(np.asarray, batch if isinstance(batch, tuple | list) else (batch,))  # type: ignore[no-any-return]


def targets(part: Part) -> Any:
    """Return y of every example of a part, those of a dataset put together; None where it has none."""
    if part.dataset is None:
        return part.arrays[1] if len(part.arrays) > 1 else None
    batches = [one[1] for one in part.dataset if isinstance(one, tuple | list) and len(one) > 1]
    if not batches or any(not hasattr(one, "shape") for one in batches):
        return None  # of several outputs
    return np.concatenate([np.asarray(one) for one in batches])


def inputs(part: Part, batch_size: int) -> Any:
    """Return batches of x alone, for predictions."""
    batches = in_order(part, batch_size)
    if not hasattr(batches, "map"):
        return batches
    is_tuple = isinstance(batches.element_spec, tuple)
    return batches.map(lambda *batch: (batch[0],)) if is_tuple else batches  # a bare tuple would be taken for (x, y)
