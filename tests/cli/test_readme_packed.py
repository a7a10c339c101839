"""The README's machines that reach no store: the commands as printed, with the README's own function."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import call

from stn_bench.study.catalogue import bundled_root

README = (bundled_root() / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_commands_of_the_how_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    function = README.partition("### Ask about any function\n")[2].partition("\n### ")[0]
    for place, text in re.findall(r"```\w+\n# (\S+)\n(.*?)```", function, re.DOTALL):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    part = README.partition("### Train on machines that reach no store\n")[2].partition("\n### ")[0]
    commands = [line.partition("#")[0].split()[1:] for line in part.splitlines() if line.startswith("stn-bench ")]
    assert [command[0] for command in commands] == ["pack", "work", "import", "report"]
    for command in commands:
        assert call(*command) == 0
    assert "Does a cubic err less than a line?" in (tmp_path / "reports/waves/report.md").read_text()
    assert "in its checkout: pip install --no-deps .;" in capsys.readouterr().out
