"""Code that is edited while a study runs: what stops it, and what does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from makers import write

from stn_bench.subject import Subject, find_subject
from stn_bench.system.errors import CodeChangedError
from stn_bench.tracking.code import forget
from stn_bench.tracking.identity import identify
from stn_bench.tracking.planned_code import PlannedCode

TOY = find_subject("toy")
MINE = """
from planned_part import double


def train(settings, seed, run):
    return {"test.score": double(seed)}


def unused():
    return 1
"""
PART = "import math\n\n\ndef double(x):\n    return 2 * x\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    """Return a subject whose training lies in two modules of a root."""
    write(tmp_path / "planned_mine.py", MINE)
    write(tmp_path / "planned_part.py", PART)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()

    def train(settings: Any, seed: int, run: Any) -> Any: ...

    train.__module__, train.__qualname__ = "planned_mine", "train"
    yield replace(TOY, name="planned_mine:train", train=train)
    forget()


def rewrite(file: Path, text: str) -> None:
    """Write a file so that its time differs, whatever the clock of the file system."""
    was = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(was + 10**9, was + 10**9))


EDITS: dict[str, tuple[str, Callable[[str], str]]] = {
    "nothing": ("planned_mine", lambda text: text),
    "a comment": ("planned_mine", lambda text: f"# note\n{text}"),
    "what no training reaches": ("planned_mine", lambda text: text.replace("return 1", "return 2")),
    "a new function": ("planned_part", lambda text: f"{text}\n\ndef more():\n    return 1\n"),
}
CHANGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "the training": ("planned_mine", lambda text: text.replace("double(seed)", "3 * seed")),
    "what it calls": ("planned_part", lambda text: text.replace("2 * x", "3 * x")),
    "where that is from": ("planned_mine", lambda text: text.replace("from planned_part", "from other_part")),
    "a statement that runs": ("planned_part", lambda text: f"{text}\n\nprint(double(1))\n"),
    "half of it": ("planned_mine", lambda text: text[:-9]),
    "all of it": ("planned_mine", lambda text: ""),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_changes_no_training_stops_nothing(mine: Subject, tmp_path: Path, edit: str) -> None:
    code = PlannedCode.of(mine, [TOY.settings().flat()], tmp_path)
    assert {one.file.name for one in code.files} == {"planned_mine.py", "planned_part.py"}
    name, change = EDITS[edit]
    file = tmp_path / f"{name}.py"
    rewrite(file, change(file.read_text()))
    code.check()


@pytest.mark.parametrize("edit", CHANGES)
def test_an_edit_that_changes_a_training_names_the_file(mine: Subject, tmp_path: Path, edit: str) -> None:
    code = PlannedCode.of(mine, [TOY.settings().flat()], tmp_path)
    code.check()
    name, change = CHANGES[edit]
    file = tmp_path / f"{name}.py"
    rewrite(file, change(file.read_text()))
    told = f"`{name}.py` changed after the study was planned; run again"
    with pytest.raises(CodeChangedError, match=f"^{told}$"):
        code.check()


def test_a_file_that_is_gone_has_changed(mine: Subject, tmp_path: Path) -> None:
    code = PlannedCode.of(mine, [TOY.settings().flat()], tmp_path)
    (tmp_path / "planned_part.py").unlink()
    with pytest.raises(CodeChangedError, match=r"planned_part\.py"):
        code.check()


def test_code_is_what_run_keys_were_taken_from(mine: Subject, tmp_path: Path) -> None:
    """A file that was written after its run key was taken has changed, though nobody had looked at it otherwise."""
    settings = TOY.settings().flat()
    identify(mine, settings, 1, "")
    rewrite(tmp_path / "planned_part.py", PART.replace("2", "3"))
    with pytest.raises(CodeChangedError):
        PlannedCode.of(mine, [settings], tmp_path).check()


def test_a_shipped_subject_has_no_code_of_the_user_s(tmp_path: Path) -> None:
    assert PlannedCode.of(TOY, [TOY.settings().flat()], tmp_path).files == ()


def test_a_file_is_read_again_only_if_it_was_written(
    mine: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = PlannedCode.of(mine, [TOY.settings().flat()], tmp_path)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    code.check()
