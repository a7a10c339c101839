"""The data of a Keras model: what `data` returned, as three parts whose shapes fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stn_bench.subject import Numbers
from stn_bench.system.errors import DataError
from stn_bench.system.text import did_you_mean

PARTS = ("train", "validation", "test")
EXPECTED = "expected (train, validation, test), or a mapping with these keys"
Tree = Any
"""An array, or a tuple or a dict of trees."""


Alter = Callable[[Numbers, Numbers, int], Numbers]
"""x of a batch, indices of its examples, epoch from 0 -> x as the model is shown it, of the same shape and type."""


@dataclass(frozen=True)
class Part:
    """The examples of one part.

    Args:
        arrays: (x,), (x, y) or (x, y, sample weights), each a tree of arrays; () where a dataset holds them.
        dataset: batches, where the user made them.
    """

    arrays: tuple[Tree, ...] = ()
    dataset: Any = None

    def count(self) -> int:
        """Return the number of examples; those of a dataset are counted by reading it once."""
        if self.dataset is None:
            return len(next(leaves(self.arrays)))
        return sum(int(next(leaves(batch)).shape[0]) for batch in self.dataset)


def leaves(tree: Tree) -> Iterator[Any]:
    """Yield the arrays of a tree, in the order in which Keras flattens it."""
    if isinstance(tree, Mapping):
        for name in sorted(tree):
            yield from leaves(tree[name])
    elif isinstance(tree, tuple | list):
        for one in tree:
            yield from leaves(one)
    else:
        yield tree


def map_tree(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """Return the same tree of what a function makes of each array."""
    if isinstance(tree, Mapping):
        return {name: map_tree(function, one) for name, one in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(map_tree(function, one) for one in tree)
    return function(tree)


def read_parts(returned: Any) -> dict[str, Part]:
    """Return the parts of what `data` returned.

    Raises:
        DataError: if it is no data.
    """
    if isinstance(returned, Mapping):
        unknown = [name for name in returned if name not in PARTS]
        if unknown:
            raise DataError(f"`data`: {EXPECTED}; got `{unknown[0]}`.{did_you_mean(str(unknown[0]), PARTS)}")
        named = dict(returned)
    elif isinstance(returned, tuple | list) and len(returned) == len(PARTS):
        named = dict(zip(PARTS, returned, strict=True))
    else:
        length = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise DataError(f"`data`: {EXPECTED}; got {type(returned).__name__}{length}")
    found = {name: _read_part(name, named[name]) for name in PARTS if named.get(name) is not None}
    for name in ("train", "test"):
        if name not in found:
            raise DataError(f"`data`: {EXPECTED}; there are no {name} examples")
    return found


def _read_part(name: str, part: Any) -> Part:
    if hasattr(part, "element_spec") or hasattr(part, "num_batches"):
        return Part(dataset=part)
    if hasattr(part, "__next__"):
        raise DataError(f"`data`: {name}: a generator can be read once only; return arrays or a tf.data.Dataset")
    if not isinstance(part, tuple | list):
        part = (part,)
    if not 1 <= len(part) <= 3:
        raise DataError(f"`data`: {name}: expected (x, y) or (x, y, sample weights), got {len(part)} values")
    given = tuple(part) if len(part) < 3 or part[2] is not None else tuple(part[:2])
    arrays = tuple(_arrays(f"`data`: {name}: {what}", one) for what, one in zip("xyw", given, strict=False))
    lengths = {what: [len(leaf) for leaf in leaves(one)] for what, one in zip("xyw", arrays, strict=False)}
    if len({length for one in lengths.values() for length in one}) > 1:
        told = ", ".join(f"{what} {'/'.join(map(str, one))}" for what, one in lengths.items())
        raise DataError(f"`data`: {name}: expected as many examples everywhere, got {told}")
    if not all(length for one in lengths.values() for length in one):
        raise DataError(f"`data`: {name}: there are no examples")
    return Part(arrays)


def _arrays(where: str, tree: Any) -> Tree:
    """Return a tree with numpy's arrays; a list of numbers is an array, a list of arrays is several."""
    if isinstance(tree, Mapping):
        return {str(name): _arrays(f"{where}[{name!r}]", one) for name, one in tree.items()}
    if isinstance(tree, tuple | list) and tree and all(hasattr(one, "shape") and one.shape for one in tree):
        return tuple(_arrays(f"{where}[{index}]", one) for index, one in enumerate(tree))
    return _array(where, tree)


def _array(where: str, value: Any) -> Numbers:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{where}: expected an array, got rows of unequal length") from error
    if array.dtype == object:
        if not all(isinstance(one, str | bytes) for one in array.flat):
            raise DataError(f"{where}: expected numbers or text, got {type(array.flat[0]).__name__} among others")
        array = array.astype(str)
    if array.ndim == 0:
        raise DataError(f"{where}: expected an array with an axis of examples, got {type(value).__name__}")
    return array
