"""Terminals that hold ASCII or Latin-1 alone: every command answers, and what it prints can be read."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from commands import call
from makers import make_root

STUDY = 'title = "A → B"\nsubject = "toy"\nablations = ["depth"]\nseeds = [1, 2, 3]\nmargin = 0.05\n'
DEPTH = 'title = "Tiefe"\nquestion = "Größer ± 2?"\n[arms.four]\nset = { "depth" = 4 }\n'


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: object) -> tuple[int, str]:
    """Run a command in a terminal that refuses what it cannot hold; return the exit code and what it shows."""
    contents = io.BytesIO(), io.BytesIO()
    with monkeypatch.context() as patch:
        for name, content in zip(("stdout", "stderr"), contents, strict=True):
            patch.setattr(sys, name, io.TextIOWrapper(content, encoding=encoding, errors="strict"))
        code = call(*arguments)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return code, "".join(content.getvalue().decode(encoding) for content in contents)


@pytest.mark.parametrize(
    ("encoding", "title", "question"),
    [
        ("ascii", "A -> B", r"Gr\xf6\xdfer +- 2?"),
        ("latin-1", "A -> B", "Größer ± 2?"),
        ("utf-8", "A → B", "Größer ± 2?"),
    ],
)
def test_plan_shows_what_the_terminal_can_hold(
    encoding: str, title: str, question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_root(tmp_path, study=STUDY, ablation=DEPTH)
    code, shown = printed(monkeypatch, encoding, "plan", "small", "--root", root)
    assert code == 0
    assert title in shown
    assert question in shown
    assert ("depth 2 → 4" if encoding == "utf-8" else "depth 2 -> 4") in shown


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("list",), ("check",), ("show", "depth")])
def test_every_command_answers_in_ascii(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_root(tmp_path, study=STUDY, ablation=DEPTH)
    more = () if "--help" in arguments else ("--root", root)
    code, shown = printed(monkeypatch, "ascii", *arguments, *more)
    assert (code, "Traceback" in shown) == (0, False)


def test_json_is_json_in_ascii_and_an_error_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path, study=STUDY, ablation=DEPTH)
    _, shown = printed(monkeypatch, "ascii", "list", "--root", root, "--json")
    assert "Größer ± 2?" in [one["question"] for one in json.loads(shown)["ablations"]]
    code, shown = printed(monkeypatch, "ascii", "show", "größe", "--root", root)
    assert (code, shown.count("\n")) == (2, 1)
    assert r"gr\xf6\xdfe" in shown
