from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data import folder as folder_module
from stn_bench.subjects.stn.data import store
from stn_bench.subjects.stn.data.dataset import Dataset, DatasetSpec, imported_names, make_dataset, open_dataset
from stn_bench.subjects.stn.data.folder import export_folder, find_letters, import_folder, label_of
from stn_bench.subjects.stn.data.letterbox import letterbox
from stn_bench.subjects.stn.data.spec import Picture
from stn_bench.system.errors import DataError

SPEC = replace(DatasetSpec.of(Config()), count=12)
ALPHABET = SPEC.alphabet


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(SPEC, tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def exported(dataset: Dataset, tmp_path: Path) -> Path:
    export_folder(dataset, tmp_path / "letters")
    return tmp_path / "letters"


def test_export_writes_the_articles_layout(dataset: Dataset, exported: Path) -> None:
    names = sorted(path.name for path in exported.iterdir())
    assert names == [f"{index + 1:04d}_{ALPHABET[label]}.png" for index, label in enumerate(dataset.labels)]
    with Image.open(exported / names[3]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), dataset.images[3])


def test_import_returns_what_was_exported(dataset: Dataset, exported: Path, tmp_path: Path) -> None:
    report = import_folder(exported, "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)
    assert (report.count, report.skipped) == (12, ())
    np.testing.assert_array_equal(report.dataset.images, dataset.images)
    np.testing.assert_array_equal(report.dataset.labels, dataset.labels)
    assert report.dataset.fingerprint == dataset.fingerprint
    assert imported_names(tmp_path / "sets") == ["mine"]


def test_export_refuses_a_folder_that_holds_anything(dataset: Dataset, exported: Path) -> None:
    with pytest.raises(DataError, match="letters: expected an empty folder"):
        export_folder(dataset, exported)


def test_export_that_fails_leaves_no_pictures(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = folder_module.write_picture

    def fail_at_third(path: Path, picture: Picture) -> None:
        if path.name.startswith("0003"):
            raise KeyboardInterrupt
        write(path, picture)

    monkeypatch.setattr(folder_module, "write_picture", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        export_folder(dataset, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_import_letterboxes_other_shapes(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (50, 100, 3), np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(wide).save(tmp_path / "in" / "holiday_1_K.bmp")
    report = import_folder(tmp_path / "in", "wide", tmp_path, size=60, alphabet=ALPHABET, pad_byte=128)
    np.testing.assert_array_equal(report.dataset.images[0], letterbox(wide, 60, 128))
    assert report.dataset.labels.tolist() == [10]


def spoil(folder: Path) -> None:
    (folder / "0013_A.png").write_bytes(b"broken")
    (folder / "0014_a.png").write_bytes(b"")
    (folder / "nolabel.png").write_bytes(b"")
    (folder / ".hidden").touch()


def test_every_bad_file_is_named_and_nothing_is_written(exported: Path, tmp_path: Path) -> None:
    spoil(exported)
    with pytest.raises(DataError, match="3 files cannot be used") as error:
        import_folder(exported, "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)
    assert "0013_A.png: not a picture" in str(error.value)
    assert "0014_a.png: label 'a' is not in the alphabet" in str(error.value)
    assert "nolabel.png: no label" in str(error.value)
    assert not (tmp_path / "sets").exists()


def test_skip_bad_imports_the_rest(dataset: Dataset, exported: Path, tmp_path: Path) -> None:
    spoil(exported)
    report = import_folder(exported, "mine", tmp_path / "sets", size=60, alphabet=ALPHABET, skip_bad=True)
    assert [path.name for path, _ in report.skipped] == ["0013_A.png", "0014_a.png", "nolabel.png"]
    assert report.dataset.fingerprint == dataset.fingerprint


def test_long_list_of_bad_files_is_cut(tmp_path: Path) -> None:
    for number in range(15):
        (tmp_path / f"{number:02d}.png").touch()
    with pytest.raises(DataError, match=r"15 files cannot be used[\s\S]*09\.png[\s\S]*and 5 more$"):
        import_folder(tmp_path, "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My Letters", "expected small letters"),
        ("../x", "expected small letters"),
        ("captcha", "that stn-bench draws"),
        ("captcha-2", "that stn-bench draws"),
    ],
)
def test_unusable_name_is_refused(name: str, message: str, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_folder(exported, name, tmp_path / "sets", size=60, alphabet=ALPHABET)


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such folder"):
        import_folder(tmp_path / "gone", "mine", tmp_path, size=60, alphabet=ALPHABET)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no pictures to import"):
        import_folder(tmp_path / "empty", "mine", tmp_path, size=60, alphabet=ALPHABET)


def test_name_of_other_pictures_is_refused_and_kept(exported: Path, tmp_path: Path) -> None:
    root = tmp_path / "sets"
    first = import_folder(exported, "mine", root, size=60, alphabet=ALPHABET).dataset
    again = import_folder(exported, "mine", root, size=60, alphabet=ALPHABET).dataset
    assert again.fingerprint == first.fingerprint
    next(iter(exported.iterdir())).unlink()
    with pytest.raises(DataError, match=r"--name mine: .* holds other pictures"):
        import_folder(exported, "mine", root, size=60, alphabet=ALPHABET)
    assert open_dataset(replace(SPEC, source="mine"), root).fingerprint == first.fingerprint


def test_damaged_import_is_refused_until_imported_again(exported: Path, tmp_path: Path) -> None:
    spec, root = replace(SPEC, source="mine"), tmp_path / "sets"
    folder = import_folder(exported, "mine", root, size=60, alphabet=ALPHABET).dataset.folder
    with (folder / store.IMAGES).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(DataError, match=r"its checksum is not.*stn-bench data import FOLDER --name mine"):
        make_dataset(spec, root)
    import_folder(exported, "mine", root, size=60, alphabet=ALPHABET)
    assert len(make_dataset(spec, root).labels) == 12


def test_unknown_import_suggests_the_nearest_name(exported: Path, tmp_path: Path) -> None:
    import_folder(exported, "letters", tmp_path / "sets", size=60, alphabet=ALPHABET)
    with pytest.raises(
        DataError, match=r"no data set `leters`.*Did you mean `letters`\?.*import FOLDER --name leters"
    ):
        make_dataset(replace(SPEC, source="leters"), tmp_path / "sets")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 13}, r"it has 12 pictures\. Set data\.count=12"),
        ({"size": 32}, r"imported at 60\. Set data\.size=60"),
        ({"shapes": "varied", "pad_byte": 128}, r"asks for byte 128, but it was imported with 0"),
        ({"alphabet": "ABC"}, r"are not in `data\.alphabet` 'ABC'\. Set data\.alphabet="),
    ],
)
def test_import_that_does_not_fit_says_which_setting(
    change: dict[str, object], message: str, exported: Path, tmp_path: Path
) -> None:
    import_folder(exported, "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)
    with pytest.raises(DataError, match=message):
        make_dataset(replace(SPEC, source="mine", **change), tmp_path / "sets")  # type: ignore[arg-type]


def test_first_pictures_of_a_larger_import_are_used(dataset: Dataset, exported: Path, tmp_path: Path) -> None:
    import_folder(exported, "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)
    opened = make_dataset(replace(SPEC, source="mine", count=7), tmp_path / "sets")
    np.testing.assert_array_equal(opened.images, dataset.images[:7])


def test_labels_follow_the_order_of_the_alphabet_asked_for(dataset: Dataset, exported: Path, tmp_path: Path) -> None:
    import_folder(exported, "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)
    opened = make_dataset(replace(SPEC, source="mine", alphabet=ALPHABET[::-1] + "0"), tmp_path / "sets")
    np.testing.assert_array_equal(opened.labels, 25 - dataset.labels)


def test_drawn_folder_is_no_import(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="was drawn from other settings"):
        open_dataset(replace(SPEC, source=SPEC.folder_name), dataset.folder.parent)
    with pytest.raises(DataError, match="no data set `mine`"):
        open_dataset(replace(SPEC, source="mine"), dataset.folder.parent)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("0001_K.png", "K"),
        ("a_b_7.jpeg", "7"),
        ("0001_字.png", "字"),
        ("photo.png", ""),
        ("my_photo.png", ""),
        ("0001_.png", ""),
        ("_K", "K"),
    ],
)
def test_a_label_is_the_one_character_behind_the_last_underscore(name: str, label: str) -> None:
    assert label_of(Path("some_X") / name) == label


# One folder a class, or a table ------------------------------------------------------------------------------------


def sort_into_folders(exported: Path, home: Path) -> Path:
    """Move pictures into one folder a class, below `home`."""
    for path in sorted(exported.iterdir()):
        target = home / label_of(path) / f"{path.stem[:4]}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return home


def as_set(dataset: Dataset) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(dataset.images, dataset.labels, strict=True)}


def test_one_folder_a_class_is_imported_too(dataset: Dataset, exported: Path, tmp_path: Path) -> None:
    folder = sort_into_folders(exported, tmp_path / "sorted")
    report = import_folder(folder, "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)
    assert (report.count, report.skipped, report.parts) == (12, (), {})
    assert as_set(report.dataset) == as_set(dataset)
    again = import_folder(folder, "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)
    assert again.dataset.fingerprint == report.dataset.fingerprint


def test_classes_do_not_follow_one_another(tmp_path: Path) -> None:
    """The article's split goes by order: the last pictures are the test."""
    for label in "ABC":
        for index in range(20):
            save_noise(tmp_path / "letters" / label / f"{index}.png")
    report = import_folder(tmp_path / "letters", "mine", tmp_path / "sets", size=16, alphabet=ALPHABET)
    for part in np.split(report.dataset.labels, 4):
        assert set(part) == {ALPHABET.index(label) for label in "ABC"}


def test_a_table_is_imported_too(dataset: Dataset, exported: Path, tmp_path: Path) -> None:
    rows = [f"{path.name},{label_of(path)}" for path in sorted(exported.iterdir())]
    (exported / "labels.csv").write_text("\n".join(["file,label", *rows]))
    report = import_folder(exported / "labels.csv", "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)
    assert as_set(report.dataset) == as_set(dataset)


def test_parts_that_are_given_come_in_their_order(tmp_path: Path) -> None:
    for part, label, count in (("test", "A", 2), ("train", "B", 6), ("val", "C", 3)):
        for index in range(count):
            save_noise(tmp_path / "letters" / part / label / f"{index}.png")
    report = import_folder(tmp_path / "letters", "mine", tmp_path / "sets", size=16, alphabet=ALPHABET)
    assert "".join(ALPHABET[label] for label in report.dataset.labels) == "BBBBBBCCCAA"
    assert report.parts == {"validation": 3, "test": 2}


def test_longer_class_names_lead_to_subjects_of_pictures_in_folders(tmp_path: Path) -> None:
    for label in ("cat", "K", "dog", "owl", "yak"):
        save_noise(tmp_path / "pets" / label / "1.png")
    with pytest.raises(DataError) as told:
        import_folder(tmp_path / "pets", "mine", tmp_path / "sets", size=60, alphabet=ALPHABET)
    assert str(told.value) == (
        f"{tmp_path / 'pets'}: class `cat`, `dog`, `owl`, …: expected single characters of the alphabet {ALPHABET}, "
        "which `stn` reads; for other classes: stn-bench new NAME --folder"
    )
    report = import_folder(tmp_path / "pets", "mine", tmp_path / "sets", size=60, alphabet=ALPHABET, skip_bad=True)
    assert (report.count, len(report.skipped)) == (1, 4)


def test_letters_are_found_with_the_labels_of_their_folders(tmp_path: Path) -> None:
    save_noise(tmp_path / "letters" / "K" / "img_2.png")
    save_noise(tmp_path / "letters" / "cat" / "1.png")
    save_noise(tmp_path / "1_X.png")
    found = find_letters([tmp_path / "letters", tmp_path / "1_X.png"])
    assert [(one.file.name, one.label) for one in found] == [("img_2.png", "K"), ("1.png", ""), ("1_X.png", "X")]


def save_noise(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(str(path))).integers(0, 256, (16, 16, 3), np.uint8)).save(path)
