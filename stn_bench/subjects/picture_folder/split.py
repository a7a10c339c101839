"""Which pictures are for training, which for validation, and which for the test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from stn_bench.subjects.labelled import PARTS, Labelled
from stn_bench.subjects.picture_folder.reading import Shares
from stn_bench.system.errors import DataError
from stn_bench.system.format import counted
from stn_bench.system.text import shorten

Parts = dict[str, list[int]]
"""Part -> places of its pictures."""


def split(
    where: str, pictures: Sequence[Labelled], digests: Sequence[str], shares: Shares, seed: int | None = None
) -> Parts:
    """Return the parts: those that are given, and of each class a share for those that are not.

    Which pictures are drawn depends on their names and the seed alone, so that a picture that is added or changed
    moves few others or none. Copies, byte for byte, stay together.

    Args:
        where: the folder or table, for messages.
        pictures: the pictures.
        digests: the digest of each.
        shares: how much is drawn.
        seed: what drives it in place of the seed of `shares`.

    Raises:
        DataError: if there are fewer than two classes, or too few pictures of one, or training lacks one.
    """
    classes = sorted({one.label for one in pictures})
    if len(classes) < 2:
        raise DataError(f"{where}: expected two classes or more, got only `{shorten(classes[0])}`")
    found: Parts = {part: [] for part in PARTS}
    for place, one in enumerate(pictures):
        found[one.part or "train"].append(place)
    drawn = [part for part in _drawn(shares) if not found[part]]
    if drawn:
        found |= _draw(where, pictures, digests, found["train"], _wanted(shares, drawn), _seed(shares, seed))
    _check_classes(where, pictures, found)
    return {part: sorted(places) for part, places in found.items() if places}


def lacking(pictures: Sequence[Labelled], parts: Parts) -> Iterator[tuple[str, str]]:
    """Yield (part, class) of each class that a part shows no picture of."""
    classes = sorted({one.label for one in pictures})
    for part, places in parts.items():
        shown = {pictures[place].label for place in places}
        yield from ((part, one) for one in classes if one not in shown)


def _drawn(shares: Shares) -> list[str]:
    return ["test", *(["validation"] if shares.validation else [])]


def _wanted(shares: Shares, drawn: Sequence[str]) -> dict[str, float]:
    return {part: getattr(shares, part) for part in drawn}


def _seed(shares: Shares, seed: int | None) -> int:
    return int(shares.seed if seed is None else seed)


def _draw(
    where: str,
    pictures: Sequence[Labelled],
    digests: Sequence[str],
    pool: Sequence[int],
    wanted: Mapping[str, float],
    seed: int,
) -> Parts:
    """Return the training part, and those that are drawn from it, class by class."""
    drawn: Parts = {part: [] for part in ("train", *wanted)}
    for label in sorted({pictures[place].label for place in pool}):
        places = [place for place in pool if pictures[place].label == label]
        copies = _shuffled(pictures, digests, places, seed)
        needed = 1 + len(wanted)
        if len(copies) < needed:
            noun = "picture" if len(copies) == len(places) else "different picture"
            raise DataError(
                f"{where}: class `{shorten(label)}` has {counted(len(copies), noun)}; expected {needed} "
                f"or more, one for each of {', '.join(drawn)}"
            )
        for part, fraction in wanted.items():
            needed -= 1
            count = min(max(1, round(fraction * len(places))), len(copies) - needed)
            taken: list[int] = []
            while len(taken) < count and len(copies) > needed:
                taken += copies.pop(0)
            drawn[part] += taken
        drawn["train"] += [place for one in copies for place in one]
    return drawn


def _shuffled(
    pictures: Sequence[Labelled], digests: Sequence[str], places: Sequence[int], seed: int
) -> list[list[int]]:
    """Return some pictures in the order of a digest of seed and name, each with its copies."""
    together: dict[str, list[int]] = {}
    for place in sorted(places, key=lambda place: pictures[place].name):
        together.setdefault(digests[place], []).append(place)

    def order(copies: list[int]) -> str:
        name = f"{seed}/{pictures[copies[0]].name}"
        return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()

    return sorted(together.values(), key=order)


def _check_classes(where: str, pictures: Sequence[Labelled], parts: Parts) -> None:
    known = {pictures[place].label for place in parts["train"]}
    for part in ("validation", "test"):
        for place in parts.get(part, ()):
            if pictures[place].label not in known:
                raise DataError(
                    f"{where}: class `{shorten(pictures[place].label)}` is in {part}, but no training picture shows it"
                )
