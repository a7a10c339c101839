"""Which pictures a folder or a table holds, and what each fault of it is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from albums import album, noise, save
from makers import write

from stn_bench.subjects.labelled import list_pictures
from stn_bench.system.errors import DataError


def names(source: Path) -> list[tuple[str, str, str]]:
    return [(one.name, one.label, one.part) for one in list_pictures(source).pictures]


def refused(source: Path) -> str:
    with pytest.raises(DataError) as told:
        list_pictures(source)
    assert "\n" not in str(told.value)
    return str(told.value)


# Folders ------------------------------------------------------------------------------------------------------------


def test_class_names_may_be_of_any_length_and_alphabet(tmp_path: Path) -> None:
    classes = ("Straße", "z", "ネコ", "a rather long name of a class, with spaces", "Δ" * 80)
    listing = list_pictures(album(tmp_path, classes, 1))
    assert listing.classes == tuple(sorted(classes))


@pytest.mark.parametrize("added", ["__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"])
def test_folders_that_file_managers_add_are_no_classes(tmp_path: Path, added: str) -> None:
    for place in ("cat", "dog", added, f"cat/{added}"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "1.png").touch()
    assert [one.name for one in list_pictures(tmp_path).pictures] == ["cat/1.png", "dog/1.png"]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    album(tmp_path, count=1)
    for hidden in ("cat/._0.png", ".git/a.png", "dog/.thumbnails/0.png", "cat/.DS_Store"):
        write(tmp_path / hidden, "no picture")
    assert names(tmp_path) == [("cat/0.png", "cat", ""), ("dog/0.png", "dog", "")]


def test_a_class_folder_may_be_a_link_but_links_below_are_not_followed(tmp_path: Path) -> None:
    album(tmp_path / "elsewhere", ("cat",), 1)
    album(tmp_path / "pets", ("dog",), 1)
    (tmp_path / "pets" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "pets" / "dog" / "again").symlink_to(tmp_path / "pets")  # a circle
    (tmp_path / "pets" / "dog" / "1.png").symlink_to(tmp_path / "elsewhere" / "cat" / "0.png")
    assert names(tmp_path / "pets") == [("cat/0.png", "cat", ""), ("dog/0.png", "dog", ""), ("dog/1.png", "dog", "")]


def test_pictures_of_other_kinds_are_told_of(tmp_path: Path) -> None:
    album(tmp_path, count=1)
    write(tmp_path / "cat/1.webp", "")
    write(tmp_path / "cat/notes.txt", "")
    assert list_pictures(tmp_path).left_out == ("cat/1.webp",)


def test_a_folder_may_be_split_already(tmp_path: Path) -> None:
    for part in ("train", "Val", "test"):
        album(tmp_path / part, count=1)
    assert {(label, part) for _, label, part in names(tmp_path)} == {
        (label, part) for label in ("cat", "dog") for part in ("train", "validation", "test")
    }


@pytest.mark.parametrize("classes", [("train", "bus"), ("train", "test")])
def test_folders_of_pictures_are_classes_whatever_they_are_called(tmp_path: Path, classes: tuple[str, str]) -> None:
    assert list_pictures(album(tmp_path, classes, 1)).classes == tuple(sorted(classes))


def test_a_folder_without_pictures_is_refused_in_a_line(tmp_path: Path) -> None:
    assert "no such folder; expected one folder a class" in refused(tmp_path / "none")
    assert "found no folder" in refused(tmp_path)
    save(noise(), tmp_path / "1.png")
    assert "expected one folder a class, as in cat/1.png and dog/1.png; found 1 picture and no folder" in refused(
        tmp_path
    )
    assert "1.png: expected a folder" in refused(tmp_path / "1.png")


def test_an_empty_class_folder_is_refused_by_name(tmp_path: Path) -> None:
    album(tmp_path)
    write(tmp_path / "emu" / "1.webp", "")
    assert "class folder `emu` holds no pictures" in refused(tmp_path)
    assert "but 1 other file such as emu/1.webp; put some in, or remove it" in refused(tmp_path)


def test_a_part_without_pictures_is_refused(tmp_path: Path) -> None:
    album(tmp_path / "train")
    (tmp_path / "test" / "cat").mkdir(parents=True)
    assert "test: holds no pictures" in refused(tmp_path)
    album(tmp_path / "test")
    album(tmp_path / "testing")
    assert "two folders stand for the part `test`; leave one" in refused(tmp_path)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything (2026-11-26)")
def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    album(tmp_path)
    (tmp_path / "cat").chmod(0)
    try:
        assert "cat: cannot be read: Permission denied" in refused(tmp_path)
    finally:
        (tmp_path / "cat").chmod(0o755)


# Tables -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("a.png", "deep/b.png", "c.png"):
        save(noise(), tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,a cat\ndeep/b.png,a dog\n",
        "\ufefffile,label\r\na.png,a cat\r\ndeep/b.png,a dog\r\n",
        "\ufefffile,label\ra.png,a cat\rdeep/b.png,a dog\r",
        'Filename;Class;width\n"a.png";"a cat";3\n./deep/../deep/b.png;a dog;3\n\n',
        "label\tpath\na cat\ta.png\na dog\tdeep\\b.png",
    ],
)
def test_a_table_names_file_and_label(pictures: Path, text: str) -> None:
    table = pictures / "labels.csv"
    table.write_text(text, encoding="utf-8", newline="")
    assert names(table) == [("a.png", "a cat", ""), ("deep/b.png", "a dog", "")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_table_may_be_saved_as_unicode_text(pictures: Path, encoding: str) -> None:
    text = "\ufeff" * (encoding == "utf-16-be") + "file\tlabel\r\na.png\tKöter\r\ndeep/b.png\tein Hund\r\n"
    (pictures / "labels.txt").write_bytes(text.encode(encoding))
    assert names(pictures / "labels.txt") == [("a.png", "Köter", ""), ("deep/b.png", "ein Hund", "")]


def test_a_table_may_name_the_part(pictures: Path) -> None:
    table = write(pictures / "labels.csv", "file,label,split\na.png,x,train\ndeep/b.png,x,val\nc.png,y,Testing\n")
    assert [part for _, _, part in names(table)] == ["train", "validation", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected columns file and label, and perhaps part; got none"),
        ("file,kind\na.png,x\n", "expected columns file and label, and perhaps part; got file, kind"),
        ("file,path,label\na.png,a.png,x\n", "more than one column may be the file: file, path, label; leave one"),
        ("file,label,label\na.png,x,x\n", "more than one column may be the label"),
        ("file,label\n", "holds no rows"),
        ("file,label\na.png\n", "row 2: has no label"),
        ("file,label\na.png,x\n,y\n", "row 3: has no file"),
        ("file,label\na.png,x\n./a.png,y\n", "row 3: `a.png` is in row 2 already; leave one of them"),
        ("file,label\nz.png,x\ny.png,x\n", "z.png, and 1 more; files are named from the table's folder"),
        ("file,label\n../a.png,x\n", "row 2: `../a.png` does not lie in the table's folder"),
        ("file,label\n/etc/passwd,x\n", "row 2: `/etc/passwd` does not lie in the table's folder"),
        ("file,label\nlabels.csv,x\n", "row 2: `labels.csv`: expected a picture"),
        ("file,label,part\na.png,x,tset\n", "row 2: part `tset`: expected train, validation, test"),
        ("file,label,part\na.png,x,\n", "row 2: has no part"),
    ],
)
def test_a_wrong_table_is_refused_in_a_line(pictures: Path, text: str, message: str) -> None:
    assert message in refused(write(pictures / "labels.csv", text))


def test_a_table_that_is_no_text_is_refused(pictures: Path) -> None:
    (pictures / "labels.csv").write_bytes("file,label\na.png,Köter\n".encode("latin-1"))
    assert "is no text in UTF-8; save it as CSV in UTF-8" in refused(pictures / "labels.csv")
