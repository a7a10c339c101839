"""How imported pictures are split: by an order that is shuffled and stratified, whatever the names are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from commands import call
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stn_bench.subject import find_subject
from stn_bench.subjects.labelled import Labelled
from stn_bench.subjects.stn.data.folder import import_folder
from stn_bench.subjects.stn.data.parts import in_order, split_in_words
from stn_bench.system.errors import DataError

STN = find_subject("stn")


def settings(**data: object):  # type: ignore[no-untyped-def]
    small = {"size": 20, "alphabet": "ABCD", "source": "mine", "count": 120, "validation": 30, "test": 30}
    return STN.read({f"data.{name}": value for name, value in {**small, **data}.items()})


def save(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((20, 20, 3), 200, np.uint8)
    pixels[0, 0] = shade // 256, shade % 256, 0
    Image.fromarray(pixels).save(path)


@pytest.fixture
def sorted_by_class(tmp_path: Path) -> Path:
    for number, label in enumerate("ABCD" * 30):
        save(tmp_path / "sorted" / f"{label.lower()}{number:03d}_{label}.png", number)
    return tmp_path / "sorted"


def labelled(counts: dict[str, int], part: str = "") -> list[Labelled]:
    names = [(label, f"{label}{number}.png") for label, count in counts.items() for number in range(count)]
    return [Labelled(Path(name), name, label, part) for label, name in names]


@given(st.dictionaries(st.sampled_from("ABCDEFGH"), st.integers(1, 40), min_size=2), st.integers(0, 2**32 - 1))
def test_every_stretch_of_the_order_holds_each_class_in_proportion(counts: dict[str, int], seed: int) -> None:
    order = "".join(one.label for one in in_order(labelled(counts), seed))
    assert Counter(order) == counts
    assert set(order[: len(counts)]) == set(counts)  # a picture of each leads, however few there are
    total = len(order)
    for stop in range(total + 1):
        for label, count in counts.items():
            expected = count * stop / total
            assert abs(order[:stop].count(label) - expected) <= len(counts)


@given(st.dictionaries(st.sampled_from("ABCDEFGH"), st.integers(1, 9), min_size=2), st.integers(0, 9))
def test_names_and_seed_alone_decide_the_order(counts: dict[str, int], seed: int) -> None:
    pictures = labelled(counts)
    assert in_order(pictures[::-1], seed) == in_order(pictures, seed)


def test_another_seed_is_another_order() -> None:
    pictures = labelled({"A": 20, "B": 20})
    assert in_order(pictures, 1) != in_order(pictures, 2)


def test_parts_that_are_given_stay_apart() -> None:
    pictures = [*labelled({"A": 5, "B": 5}, "test"), *labelled({"C": 9, "D": 3}, "train")]
    assert [one.part for one in in_order(pictures, 0)] == ["train"] * 12 + ["test"] * 10


def test_pictures_that_lie_sorted_by_class_are_tested_on_classes_that_training_knows(
    sorted_by_class: Path, tmp_path: Path
) -> None:
    dataset = import_folder(sorted_by_class, "mine", tmp_path, size=20, alphabet="ABCD", seed=0).dataset
    parts = dataset.split(settings().data)
    for part, each in ((parts.train, 15), (parts.validation, 7.5), (parts.test, 7.5)):
        assert all(abs(count - each) <= 1 for count in np.bincount(part.labels))
    assert split_in_words(settings(), tmp_path) == (
        "shuffled by seed 0 and stratified: 60 for training, 30 for validation and 30 for test"
    )


def test_an_import_by_the_order_of_names_that_hides_classes_from_training_is_refused(
    sorted_by_class: Path, tmp_path: Path
) -> None:
    import_folder(sorted_by_class, "mine", tmp_path, size=20, alphabet="ABCD")
    with pytest.raises(DataError, match=r"`mine`: no training picture shows class C, D, which .* import it again"):
        split_in_words(settings(), tmp_path)


def test_an_import_of_older_versions_may_be_imported_again_in_another_order(
    sorted_by_class: Path, tmp_path: Path
) -> None:
    from stn_bench.subjects.stn.data import store

    first = import_folder(sorted_by_class, "mine", tmp_path, size=20, alphabet="ABCD").dataset
    (first.folder / store.MANIFEST).unlink()
    store.write_manifest(first.folder, first.spec)  # as they were written
    again = import_folder(sorted_by_class, "mine", tmp_path, size=20, alphabet="ABCD", seed=3)
    assert again.dataset.fingerprint != first.fingerprint
    with pytest.raises(DataError, match="in the order of another seed"):
        import_folder(sorted_by_class, "mine", tmp_path, size=20, alphabet="ABCD", seed=4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 10_000}, r"`data.count` is 10,000, but it has 120 pictures. Set data.count=120"),
        ({"size": 24}, r"`data.size` is 24, but it was imported at 20"),
        ({"alphabet": "ABC"}, r"labels 'D' are not in `data.alphabet`"),
        ({"source": "yours"}, "no data set `yours`"),
    ],
)
def test_settings_that_the_data_cannot_satisfy_are_refused(
    wrong: dict[str, object], message: str, sorted_by_class: Path, tmp_path: Path
) -> None:
    import_folder(sorted_by_class, "mine", tmp_path, size=20, alphabet="ABCD", seed=0)
    with pytest.raises(DataError, match=message):
        split_in_words(settings(**wrong), tmp_path)


def test_parts_that_a_folder_gives_may_not_be_mixed(tmp_path: Path) -> None:
    for part, count in (("train", 8), ("val", 3), ("test", 2)):
        for index in range(2 * count):
            save(tmp_path / "letters" / part / "AB"[index % 2] / f"{index}.png", index)
    import_folder(tmp_path / "letters", "mine", tmp_path, size=20, alphabet="ABCD", seed=0)
    told = split_in_words(settings(count=26, validation=6, test=4), tmp_path)
    assert told.startswith("validation and test as given, the rest shuffled by seed 0 and stratified: 16 for training")
    for wrong in ({"count": 26, "validation": 6, "test": 5}, {"count": 25, "validation": 6, "test": 4}):
        with pytest.raises(DataError, match=r"would mix\. Set data.count=26 data.validation=6 data.test=4"):
            split_in_words(settings(**wrong), tmp_path)


def test_a_class_with_one_picture_is_for_training(tmp_path: Path) -> None:
    for label, count in {"A": 30, "B": 1, "C": 1}.items():
        for index in range(count):
            save(tmp_path / "letters" / label / f"{index}.png", index)
    import_folder(tmp_path / "letters", "mine", tmp_path, size=20, alphabet="ABCD", seed=0)
    assert "stratified" in split_in_words(settings(count=32, validation=5, test=5), tmp_path)


def test_missing_fonts_are_told_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`data.fonts`: /no/such.ttf does not exist"):
        split_in_words(settings(source="captcha", fonts=["/no/such.ttf"]), tmp_path)
    assert split_in_words(settings(source="captcha"), tmp_path) == ""


def test_the_command_shuffles(sorted_by_class: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--set", "data.size=20", "--set", "data.alphabet=ABCD", "--root", tmp_path)
    assert call("data", "import", sorted_by_class, "--name", "mine", *given, "--set", "data.seed=5") == 0
    assert "shuffled by seed 5 and stratified; transparent pixels lie on white" in capsys.readouterr().out
    assert call("data", "import", sorted_by_class, "--name", "named", *given, "--keep-order") == 0
    assert "in the order of names" in capsys.readouterr().out
    assert call("data", "import", sorted_by_class, "--name", "red", *given, "--ground", "redd") == 2
    assert "--ground: expected white, black, or a colour as in #ffcc00, got `redd`" in capsys.readouterr().err
