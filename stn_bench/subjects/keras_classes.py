"""The targets in the parts of a Keras model's data: whether validation and test show what training shows.

The user split the data: a class which training lacks is refused, unless the subject says why it is meant, and told
then. Where training shows none of a part's classes, as in data that lay sorted, nothing can be learned, whatever is
meant. In no run key: it changes no result.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stn_bench.subject import Metric
from stn_bench.subjects.keras_training.data import Part, read_parts
from stn_bench.subjects.keras_training.metrics import name_of
from stn_bench.subjects.keras_training.recipe import Recipe
from stn_bench.system.errors import DataError, StnBenchError

MOST = 5
"""Classes that are named before the rest is counted."""

MEND = "shuffle and stratify before the split, or let `unseen_classes` of KerasModel say why it is meant"

Seen = tuple[dict[str, int], tuple[str, ...], float | None, str]
"""Examples of each part, what is told of them, how often the most frequent class is right, why they cannot serve."""


def learnable(data: Callable[..., Any], loss: Any, metrics: Sequence[Any], meant: str = "") -> Callable[..., Any]:
    """Return `data` such that it raises DataError where training lacks a class; where that is meant, all of a part.

    Data that know their parts without being read, as a `PictureFolder`, see to that themselves.
    """
    if hasattr(data, "count"):
        return data

    @functools.wraps(data)
    def read(*given: Any, **named: Any) -> Any:
        returned = data(*given, **named)
        parts = read_parts(returned)
        if fault := unlearnable(parts, loss, metrics) or ("" if meant else unseen(parts, loss, metrics)):
            raise DataError(fault)
        return returned

    return read


class Look:
    """A look at the data of a recipe, once for each of some settings: how many examples, and which classes lack.

    Args:
        recipe: the model and its data.
        meant: why training may lack classes, or "".
    """

    def __init__(self, recipe: Recipe, meant: str = "") -> None:
        self._recipe = recipe
        self._meant = meant
        self._seen: dict[str, Seen] = {}

    def count(self, settings: Any, part: str) -> int:
        """Return how many examples a part has; data that can tell are not read for that.

        Raises:
            DataError: if they cannot serve.
        """
        if hasattr(self._recipe.data, "count"):
            return self._recipe.count(settings, part)
        counts, _, _, fault = self._at(settings)
        if fault:
            raise DataError(fault)
        return counts.get(part, 1)

    def caveats(self, settings: Any, base: Any) -> Iterator[str]:
        """Yield which classes training lacks, once: with the base."""
        if base is None:
            with contextlib.suppress(StnBenchError):  # a report tells of runs that were trained before
                yield from self._at(settings)[1]

    def chance(self, settings: Any) -> float | None:
        """Return how often always saying the most frequent class of the test is right; None where nothing tells."""
        with contextlib.suppress(StnBenchError):
            return self._at(settings)[2]
        return None

    def _at(self, settings: Any) -> Seen:
        key, recipe = settings.canonical(), self._recipe
        if key not in self._seen:
            parts = recipe.read(settings, 0)
            counts = {name: one.count() for name, one in parts.items() if name != "train"}
            asked = parts, recipe.loss, (recipe.metrics, recipe.weighted_metrics)
            lacking = (f"{one}{self._why}" for one in lacking_classes(*asked))
            told = (*lacking, *of_one_class(*asked), *beyond_training(*asked))
            self._seen[key] = counts, told, largest_share(targets_of(parts["test"])), unlearnable(*asked)
        return self._seen[key]

    @property
    def _why(self) -> str:
        return f": {self._meant}" if self._meant else f"; `run` refuses that: {MEND}"


def lacking_classes(parts: Mapping[str, Part], loss: Any, metrics: Sequence[Any]) -> Iterator[str]:
    """Yield for each output of classes which of them training lacks, in a sentence without its full stop.

    Args:
        parts: part -> its examples; those in a dataset of batches are not looked at.
        loss: as it was given, for several outputs by their names.
        metrics: metrics as they were given, the same.
    """
    for output, known, found in _classes(parts, loss, metrics):
        for part, classes in found.items():
            if missing := sorted(classes - known):
                shown = ", ".join(map(str, missing[:MOST])) + ", …" * (len(missing) > MOST)
                yield f"no training example{_of(output)} shows {shown}, which the {part} examples show"


def of_one_class(parts: Mapping[str, Part], loss: Any, metrics: Sequence[Any]) -> Iterator[str]:
    """Yield each output of which all examples show one class."""
    for output, known, found in _classes(parts, loss, metrics):
        if len(known.union(*found.values())) == 1:
            yield f"all examples{_of(output)} show class {next(iter(known))}: there is nothing to tell apart"


def unlearnable(parts: Mapping[str, Part], loss: Any, metrics: Sequence[Any]) -> str:
    """Return why nothing that training shows can help with a part, or "": it shows none of its classes."""
    for output, known, found in _classes(parts, loss, metrics):
        for part, classes in found.items():
            if not classes & known:
                return (
                    f"`data`: training shows none of the classes{_of(output)} that the {part} examples show, such as "
                    f"{min(classes)}; if they lie sorted, shuffle them before they are split"
                )
    return ""


def unseen(parts: Mapping[str, Part], loss: Any, metrics: Sequence[Any]) -> str:
    """Return which class of a part training lacks, with what to do, or ""."""
    lacking = next(lacking_classes(parts, loss, metrics), "")
    return f"`data`: {lacking}; {MEND}" if lacking else ""


def beyond_training(parts: Mapping[str, Part], loss: Any, metrics: Sequence[Any]) -> Iterator[str]:
    """Yield in which parts most numbers to predict lie outside of those in training, as where they lay sorted."""
    targets = {name: targets_of(part) for name, part in parts.items()}
    for output, train in targets["train"].items():
        if train.dtype.kind not in "iuf" or _is_of_classes(output, loss, metrics):
            continue
        for part in ("validation", "test"):
            asked = targets.get(part, {}).get(output)
            if asked is None or asked.dtype.kind not in "iuf" or asked.shape[1:] != train.shape[1:]:
                continue
            outside = float(((asked < train.min(axis=0)) | (asked > train.max(axis=0))).mean())
            if outside > 0.5:
                share = f"{100 * outside:.0f} % of the {part} targets{_of(output)}"
                yield f"{share} lie outside of those of training, as where examples were sorted before they were split"


def _classes(
    parts: Mapping[str, Part], loss: Any, metrics: Sequence[Any]
) -> Iterator[tuple[str, set[Any], dict[str, set[Any]]]]:
    """Yield each output of classes, those that training shows, and those that the other parts show."""
    targets = {name: targets_of(part) for name, part in parts.items()}
    for output, train in targets["train"].items():
        if _is_of_classes(output, loss, metrics) and (known := classes_of(train)) is not None:
            others = {name: classes_of(targets.get(name, {}).get(output)) for name in ("validation", "test")}
            yield output, known, {name: found for name, found in others.items() if found}


def _of(output: str) -> str:
    return f" of output `{output}`" if output else ""


def largest_share(targets: Mapping[str, Any]) -> float | None:
    """Return the share of the most frequent class among the targets of the only output; None where there is none."""
    if len(targets) != 1 or not classes_of(only := next(iter(targets.values()))):
        return None
    flat = only.argmax(axis=1) if only.ndim == 2 and only.shape[1] > 1 else only.reshape(-1)
    counts = np.unique(flat, return_counts=True)[1]
    return float(counts.max() / counts.sum()) if len(counts) > 1 else None


def targets_of(part: Part) -> dict[str, Any]:
    """Return output -> its targets; "" for the only one."""
    if len(part.arrays) < 2:
        return {}
    y = part.arrays[1]
    return dict(y) if isinstance(y, Mapping) else {"": y} if hasattr(y, "dtype") else {}


def _is_of_classes(output: str, loss: Any, metrics: Sequence[Any]) -> bool:
    """Return whether loss or metrics of an output say that it tells classes apart."""
    asked = [one.get(output) if isinstance(one, Mapping) else one for one in (loss, *metrics)]
    flat = [one for some in asked for one in (some if isinstance(some, list | tuple) else [some]) if one is not None]
    names = [(one.name if isinstance(one, Metric) else name_of(one)).lower() for one in flat]
    return any("crossentropy" in name or name in ("acc", "accuracy") or name.endswith("_accuracy") for name in names)


def classes_of(targets: Any) -> set[Any] | None:
    """Return the classes among targets: whole numbers, texts, truths, or rows with a single one; None for others."""
    if targets is None:
        return None
    flat = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
    if flat.ndim == 1 and flat.dtype.kind in "iubUS":
        return set(np.unique(flat).tolist())
    if flat.ndim == 1 and flat.dtype.kind == "f" and bool((flat == np.round(flat)).all()):
        return {int(one) for one in np.unique(flat)}
    if flat.ndim == 2 and set(np.unique(flat).tolist()) <= {0, 1} and bool((flat.sum(axis=1) == 1).all()):
        return set(np.unique(flat.argmax(axis=1)).tolist())
    return None


__all__ = [
    "Look",
    "beyond_training",
    "classes_of",
    "lacking_classes",
    "learnable",
    "of_one_class",
    "targets_of",
    "unlearnable",
    "unseen",
]
