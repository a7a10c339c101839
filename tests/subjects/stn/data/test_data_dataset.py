from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from stn_bench.subjects.stn.config import Config, DataConfig
from stn_bench.subjects.stn.data import parallel, store
from stn_bench.subjects.stn.data.dataset import DatasetSpec, make_dataset, open_dataset, read_fingerprint
from stn_bench.system.errors import DataError, MachineError

SPEC = replace(DatasetSpec.of(Config()), count=20)
VARIED = replace(SPEC, shapes="varied", pad_byte=0)


class DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("spec", [SPEC, VARIED])
def test_bytes_do_not_depend_on_processes_or_count(
    spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_dataset(spec, tmp_path / "one")
    monkeypatch.setattr(parallel, "CHUNK_BYTES", 7 * 3 * 60**2)  # 7 pictures: an end that is no whole chunk
    longer = make_dataset(replace(spec, count=40), tmp_path / "two", processes=2)
    two = make_dataset(spec, tmp_path / "two", processes=2)
    np.testing.assert_array_equal(one.images, longer.images[:20])
    np.testing.assert_array_equal(one.labels, longer.labels[:20])
    assert one.fingerprint == two.fingerprint != longer.fingerprint


def test_dataset_is_a_read_only_memory_map(tmp_path: Path) -> None:
    dataset = make_dataset(SPEC, tmp_path)
    assert isinstance(dataset.images, np.memmap)
    assert (dataset.images.shape, dataset.images.dtype) == ((20, 60, 60, 3), np.uint8)
    assert (dataset.labels.shape, dataset.labels.dtype) == ((20,), np.int64)
    assert not dataset.images.flags.writeable
    assert not dataset.labels.flags.writeable


def test_second_make_draws_nothing(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = make_dataset(SPEC, tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (20, 20)
    seen.clear()
    assert make_dataset(SPEC, tmp_path, on_progress=lambda *step: seen.append(step)).fingerprint == first.fingerprint
    assert seen == []


def test_fingerprint_is_of_content_not_of_place(tmp_path: Path) -> None:
    here, there = make_dataset(SPEC, tmp_path / "here"), make_dataset(SPEC, tmp_path / "there")
    assert here.fingerprint == there.fingerprint == read_fingerprint(SPEC, tmp_path / "here")
    assert here.fingerprint != make_dataset(replace(SPEC, seed=1), tmp_path).fingerprint
    assert read_fingerprint(replace(SPEC, seed=2), tmp_path) is None


def test_split_takes_every_picture_once_in_order(tmp_path: Path) -> None:
    dataset = make_dataset(SPEC, tmp_path)
    split = dataset.split(DataConfig(count=20, validation=5, test=3))
    parts = (split.train, split.validation, split.test)
    assert [len(part) for part in parts] == [12, 5, 3]
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), dataset.images)
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), dataset.labels)


def test_split_of_more_pictures_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`data\.count` is 21, but there are 20"):
        make_dataset(SPEC, tmp_path).split(DataConfig(count=21, validation=5, test=3))


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def change_manifest(path: Path) -> None:
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(tree | {"fingerprint": "0" * 64}))


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        (store.IMAGES, flip_byte, "its checksum is not the one"),
        (store.LABELS, flip_byte, "its checksum is not the one"),
        (store.IMAGES, lambda path: os.truncate(path, 500), "bytes, found 500"),
        (store.LABELS, Path.unlink, "bytes, found 0"),
        (store.MANIFEST, Path.unlink, "cannot be read"),
        (store.MANIFEST, lambda path: os.truncate(path, 100), "is no manifest"),
        (store.MANIFEST, lambda path: path.write_text("[]"), "is no manifest"),
        (store.MANIFEST, change_manifest, "does not agree with its own fingerprint"),
    ],
)
def test_damage_is_noticed_and_mended(
    name: str, damage: Callable[[Path], Any], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = make_dataset(SPEC, tmp_path)
    damage(sound.folder / name)
    with caplog.at_level(logging.WARNING):
        mended = make_dataset(SPEC, tmp_path)
    assert said in caplog.text
    assert mended.fingerprint == sound.fingerprint
    np.testing.assert_array_equal(mended.labels, sound.labels)
    assert visible(tmp_path) == [SPEC.folder_name]


def test_changed_font_is_drawn_again(tmp_path: Path) -> None:
    import captcha.image

    font = tmp_path / "letters.ttf"
    shutil.copy(captcha.image.DEFAULT_FONTS[0], font)
    spec = replace(SPEC, fonts=(str(font),))
    make_dataset(spec, tmp_path / "sets")
    font.write_bytes(font.read_bytes() + b"\0")
    drawn: list[int] = []
    make_dataset(spec, tmp_path / "sets", on_progress=lambda done, _: drawn.append(done))
    assert drawn == [20]


def test_missing_font_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lost\.ttf does not exist"):
        make_dataset(replace(SPEC, fonts=("lost.ttf",)), tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


def test_open_draws_nothing_and_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"were not made yet\. Run: stn-bench data make"):
        open_dataset(SPEC, tmp_path)
    folder = make_dataset(SPEC, tmp_path).folder
    os.truncate(folder / store.IMAGES, 500)
    with pytest.raises(DataError, match=r"images\.npy: expected 216,128 bytes, found 500.*data make"):
        open_dataset(SPEC, tmp_path)


def test_two_makers_draw_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from stn_bench.subjects.stn.config import Config\n"
        "from stn_bench.subjects.stn.data.dataset import DatasetSpec, make_dataset\n"
        "seen = []\n"
        "spec = replace(DatasetSpec.of(Config()), count=200)\n"
        "make_dataset(spec, Path(sys.argv[1]), on_progress=lambda *step: seen.append(step))\n"
        "print(bool(seen))"
    )

    def make(_: int) -> str:
        command = [sys.executable, "-c", script, str(tmp_path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    with ThreadPoolExecutor(2) as threads:
        drew = list(threads.map(make, range(2)))
    assert sorted(drew) == ["False", "True"]
    assert visible(tmp_path) == [replace(SPEC, count=200).folder_name]


def test_what_a_dead_maker_left_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / f"{SPEC.folder_name}.999999.partial"
    stale.mkdir()
    (stale / store.IMAGES).write_bytes(b"half")
    make_dataset(SPEC, tmp_path)
    assert visible(tmp_path) == [SPEC.folder_name]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("stop")])
@pytest.mark.parametrize("processes", [1, 2])
def test_interrupted_maker_leaves_nothing(
    error: BaseException, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "CHUNK_BYTES", 5 * 3 * 60**2)

    def interrupt(done: int, _: int) -> None:
        raise error

    with pytest.raises(type(error)):
        make_dataset(SPEC, tmp_path, processes=processes, on_progress=interrupt)
    assert visible(tmp_path) == []


def test_full_disk_is_seen_before_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(MachineError, match=r"the disk is full: 1\.3 MB needed, 1\.0 MB free"):
        make_dataset(SPEC, tmp_path)
    assert visible(tmp_path) == []


def test_disk_that_fills_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineError, match=r"the disk is full: 1\.3 MB needed"):
        make_dataset(SPEC, tmp_path)
    assert visible(tmp_path) == []


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file/sets: cannot write here: .*--root"):
        make_dataset(SPEC, tmp_path / "file" / "sets")


def test_opening_imports_no_drawing_library(tmp_path: Path) -> None:
    make_dataset(SPEC, tmp_path)
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from stn_bench.subjects.stn.config import Config\n"
        "from stn_bench.subjects.stn.data.dataset import DatasetSpec, open_dataset\n"
        "open_dataset(replace(DatasetSpec.of(Config()), count=20), Path(sys.argv[1]))\n"
        "assert not {'captcha', 'cv2', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def test_a_drawing_process_starts_without_the_settings() -> None:
    script = (
        "import sys; import stn_bench.subjects.stn.data.parallel\n"
        "assert not {'pydantic', 'keras', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
