"""The command line, as a test of it calls it."""

from __future__ import annotations

import pytest
from commands import Cli, call, widen


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line, so wide that no table is broken, and return exit code, output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = call(*arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    widen(monkeypatch, 300)
    monkeypatch.setenv("COLUMNS", "300")  # --help asks the environment
    return run
