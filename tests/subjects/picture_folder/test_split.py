"""The split: by class, by seed, never by order, and without a picture in two parts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stn_bench.subjects.labelled import Labelled
from stn_bench.subjects.picture_folder.reading import Shares
from stn_bench.subjects.picture_folder.split import lacking, split
from stn_bench.system.errors import DataError


def made(counts: dict[str, int], part: str = "") -> list[Labelled]:
    return [
        Labelled(Path(f"{label}/{index}"), f"{part}{label}/{index:04}.png", label, part)
        for label, count in counts.items()
        for index in range(count)
    ]


def own(pictures: list[Labelled]) -> list[str]:
    """Return digests as of pictures that all differ."""
    return [one.name for one in pictures]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(3, 60), min_size=2),
    st.sampled_from([(0.15, 0.15), (0.4, 0.5), (0.01, 0.01), (0.0, 0.3)]),
    st.integers(0, 5),
)
def test_every_picture_is_in_one_part_and_every_class_in_every_part(
    counts: dict[str, int], fractions: tuple[float, float], seed: int
) -> None:
    pictures = made(counts)
    shares = Shares(validation=fractions[0], test=fractions[1], seed=seed)
    parts = split("pets", pictures, own(pictures), shares)
    assert sorted(place for places in parts.values() for place in places) == list(range(len(pictures)))
    assert set(parts) == ({"train", "validation", "test"} if fractions[0] else {"train", "test"})
    assert list(lacking(pictures, parts)) == []
    for part, fraction in (("validation", fractions[0]), ("test", fractions[1])):
        found = Counter(pictures[place].label for place in parts.get(part, ()))
        for label, count in counts.items():
            assert (fraction > 0) <= found[label] <= max(fraction > 0, fraction * count + 0.5)


def test_fractions_are_those_of_each_class() -> None:
    pictures = made({"cat": 100, "dog": 40})
    parts = split("pets", pictures, own(pictures), Shares(validation=0.1, test=0.2))
    assert {part: Counter(pictures[place].label for place in places) for part, places in parts.items()} == {
        "train": {"cat": 70, "dog": 28},
        "validation": {"cat": 10, "dog": 4},
        "test": {"cat": 20, "dog": 8},
    }


def test_the_split_does_not_follow_the_order_of_names() -> None:
    """Kolmogorov and Smirnov find the places of the test part uniform."""
    pictures = made({"cat": 2000, "dog": 2000})
    parts = split("pets", pictures, own(pictures), Shares())
    places = np.array(parts["test"]) % 2000 / 2000
    assert stats.kstest(places, "uniform").pvalue > 0.01


def test_another_seed_gives_another_split_and_the_same_seed_the_same() -> None:
    pictures = made({"cat": 50, "dog": 50})
    splits = [split("pets", pictures, own(pictures), Shares(seed=seed)) for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]
    assert split("pets", pictures, own(pictures), Shares(seed="run"), 1) == splits[2]


def test_a_new_picture_moves_few_others() -> None:
    pictures = made({"cat": 100, "dog": 100})
    more = [*pictures, *made({"cat": 101})[100:]]
    before, after = (
        {one[place].name: part for part, places in split("pets", one, own(one), Shares()).items() for place in places}
        for one in (pictures, more)
    )
    assert sum(before[name] != after[name] for name in before) <= 2


def test_copies_of_a_picture_stay_in_one_part() -> None:
    pictures = made({"cat": 40, "dog": 40})
    digests = [str(place // 4) for place in range(80)]
    parts = split("pets", pictures, digests, Shares())
    seen = [{digests[place] for place in places} for places in parts.values()]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 20


def test_parts_that_are_given_are_kept_and_the_others_drawn_from_training() -> None:
    pictures = [*made({"cat": 20, "dog": 20}, "train"), *made({"cat": 5, "dog": 5}, "test")]
    parts = split("pets", pictures, own(pictures), Shares())
    assert parts["test"] == list(range(40, 50))
    assert len(parts["validation"]) == 6
    all_given = [*pictures, *made({"cat": 3}, "validation")]
    parts = split("pets", all_given, own(all_given), Shares())
    assert parts == {"train": list(range(40)), "validation": [50, 51, 52], "test": list(range(40, 50))}
    assert list(lacking(all_given, parts)) == [("validation", "dog")]


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (made({"cat": 9}), "pets: expected two classes or more, got only `cat`"),
        (made({"cat": 9, "dog": 2}), "class `dog` has 2 pictures; expected 3 or more, one for each of train, test"),
        ([*made({"cat": 9, "dog": 9}, "train"), *made({"emu": 1}, "test")], "class `emu` is in test, but no training"),
    ],
)
def test_what_cannot_be_split_is_refused(pictures: list[Labelled], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split("pets", pictures, own(pictures), Shares())


def test_copies_do_not_count_as_pictures() -> None:
    pictures = made({"cat": 9, "dog": 9})
    with pytest.raises(DataError, match="class `dog` has 2 different pictures"):
        split("pets", pictures, [*map(str, range(9)), *"ababababa"], Shares())
