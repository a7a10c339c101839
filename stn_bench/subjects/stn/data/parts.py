"""In which order imported pictures are stored, and so how they are split: which train, which choose, which test.

The article splits by index: training, validation, test. So the order of an import decides the split. It is shuffled by
a seed and spreads each class evenly, so that every stretch of it holds each class in proportion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stn_bench.subjects.labelled import PARTS, Labelled
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data import store
from stn_bench.subjects.stn.data.dataset import Dataset, Split, open_dataset
from stn_bench.subjects.stn.data.spec import DRAWN, DatasetSpec
from stn_bench.system.errors import DataError
from stn_bench.system.format import listed

WORDS = 2.0**64


def in_order(pictures: Sequence[Labelled], seed: int | None) -> list[Labelled]:
    """Return pictures in the order in which they are stored: part after part, each shuffled and stratified.

    The n pictures of a class lie a fraction 1/n of the part apart, but for the first, which leads: so every class has
    a picture for training, however few it has. Names and the seed alone decide.

    Args:
        pictures: the pictures; those that are given no part are for training, which the others are cut from.
        seed: drives the order; None keeps that of the names.
    """
    if seed is None:
        return sorted(pictures, key=lambda one: (list(PARTS).index(one.part or "train"), one.name))
    places: dict[str, tuple[float, float]] = {}
    for part in PARTS:
        classes: dict[str, list[Labelled]] = {}
        for one in pictures:
            if (one.part or "train") == part:
                classes.setdefault(one.label, []).append(one)
        for label, those in classes.items():
            shift = _chance(f"{seed}/class/{label}")
            those.sort(key=lambda one: (_chance(f"{seed}/{one.name}"), one.name))
            for rank, one in enumerate(those):
                places[one.name] = (rank + shift) / len(those) if rank else -1.0, _chance(f"{seed}/{one.name}")

    def place(one: Labelled) -> tuple[int, float, float, str]:
        return (list(PARTS).index(one.part or "train"), *places[one.name], one.name)

    return sorted(pictures, key=place)


def _chance(text: str) -> float:
    """Return a number from 0 up to 1 that a text decides, the same on every machine."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / WORDS


def split_in_words(settings: Config, root: Path) -> str:
    """Return how a data set is split, and see that it can serve the settings; drawn pictures may still be missing.

    Raises:
        DataError: if there are fewer pictures than the settings count, or others, a font to draw with is missing, or
            validation or test show a class that training lacks.
    """
    config = settings.resolved()
    spec = DatasetSpec.of(config)
    if spec.source == DRAWN:
        return _drawn(spec, config, root)
    dataset = open_dataset(spec, root)
    note = store.read_note(dataset.folder)
    parts = dataset.split(config.data)
    _check_given(dataset, config, note.get("parts", {}))
    if lacking := _lacking(parts, spec.alphabet):
        again = "import it again, which shuffles it" if note.get("seed") is None else "give training more pictures"
        raise DataError(
            f"data set `{spec.source}`: no training picture shows {_listed(lacking)}, which validation or test "
            f"show; {again}"
        )
    sizes = zip(("training", "validation", "test"), (parts.train, parts.validation, parts.test), strict=True)
    counts = listed([f"{len(part):,} for {name}" for name, part in sizes])
    seed, given = note.get("seed"), note.get("parts", {})
    how = "in the order of their names" if seed is None else f"shuffled by seed {seed} and stratified"
    return f"{' and '.join(given)} as given, the rest {how}: {counts}" if given else f"{how}: {counts}"


def _drawn(spec: DatasetSpec, config: Config, root: Path) -> str:
    """Return what a reader should know of the split by index of drawn pictures, whose letters are drawn by chance."""
    if missing := next((font for font in spec.fonts if not Path(font).is_file()), None):
        raise DataError(f"`data.fonts`: {missing} does not exist. Name a font file that can be read.")
    if not (root / spec.folder_name).is_dir():
        return ""
    lacking = _lacking(open_dataset(spec, root).split(config.data), spec.alphabet)
    return f"no training picture shows {_listed(lacking)}, which validation or test show" if lacking else ""


def _lacking(parts: Split, alphabet: str) -> str:
    known = set(np.unique(parts.train.labels))
    asked = set(np.unique(np.concatenate([parts.validation.labels, parts.test.labels])))
    return "".join(alphabet[label] for label in sorted(asked - known))


def _listed(classes: str) -> str:
    return f"class {', '.join(classes[:5])}{', …' * (len(classes) > 5)}"


def _check_given(dataset: Dataset, config: Config, given: Mapping[str, int]) -> None:
    """Check that parts which a folder or a table gave are left as they are.

    Raises:
        DataError: if the settings cut them elsewhere: test pictures would be trained on.
    """
    stored = store.read_manifest(dataset.folder).spec.count
    wanted = {"count": stored, **given} if given else {}
    for name, count in wanted.items():
        if getattr(config.data, name) != count:
            told = " ".join(f"data.{one}={number}" for one, number in wanted.items())
            raise DataError(
                f"data set `{dataset.spec.source}`: its folders or its table give the parts, which `data.{name}` = "
                f"{getattr(config.data, name):,} would mix. Set {told}"
            )
