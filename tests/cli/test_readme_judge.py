"""The README's results that exist: judged as printed, with the verdict that is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import call, widen

from stn_bench.study.catalogue import bundled_root

README = (bundled_root() / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the README's CSV, which is the current one."""
    (table,) = re.findall(r"```csv\n(.*?)```", README, re.DOTALL)
    (tmp_path / "results.csv").write_text(table, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    widen(monkeypatch, 120)
    return tmp_path


def test_the_first_screen_prints_its_verdict(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = README.partition("## Results that exist already")[2].partition("\n## ")[0]
    command, printed = re.findall(r"```\n(.*?)```", part, re.DOTALL)
    assert call(*command.split()[1:]) == 0
    told = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert all(line.rstrip() in told for line in printed.splitlines()), "\n".join(told)
    assert not any(line.startswith("base ") for line in told)  # it has a name of its own


def test_the_commands_of_the_how_to_run(here: Path) -> None:
    part = README.partition("### Judge results that exist\n")[2].partition("\n### ")[0]
    commands = [line for line in part.splitlines() if line.startswith("stn-bench judge results.csv ")]
    assert len(commands) == 2
    for command in commands:
        assert call(*command.split()[1:]) == 0
    assert {path.name for path in (here / "judged").iterdir()} >= {"report.md", "report.html", "report.tex"}


def test_the_python_of_the_how_to_runs(here: Path) -> None:
    part = README.partition("### Judge results that exist\n")[2].partition("\n### ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)  # the README's own words
    assert list(names["judged"].verdicts["verdict"])[1:] == ["better", "equivalent"]  # type: ignore[attr-defined]
