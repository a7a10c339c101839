"""Output whose reader leaves: a command goes on to its end, and exits as it would have."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import call
from tiny import TOYS, make_toy_root

from stn_bench.cli.output import Unbroken

SOME = TOYS.replace("seeds = [1, 2, 3]", "seeds = [1, 2]")


class Pipe(io.TextIOWrapper):
    """A pipe whose reader has left; each line is written at once."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        super().__init__(os.fdopen(writer, "wb"), encoding="utf-8", write_through=True)


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    ("command", "code"), [(("list",), 0), (("list", "--json"), 0), (("show", "transformer"), 0), (("show", "no"), 2)]
)
def test_a_command_whose_reader_left_ends_as_it_would_have(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, stream: str, command: tuple[str, ...], code: int
) -> None:
    monkeypatch.setattr(sys, stream, pipe)
    assert call(*command) == code
    assert getattr(sys, stream) is pipe
    pipe.close()


@pytest.mark.slow
def test_a_run_whose_reader_left_trains_on(pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_toy_root(tmp_path, SOME)
    monkeypatch.setattr(sys, "stdout", pipe)
    assert call("run", "tiny", "--root", root, "--workers", 1) == 0
    assert (root / "reports/tiny/report.md").is_file()
    pipe.close()


def test_other_faults_of_a_stream_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        Unbroken(Full()).write("text")


def test_a_process_whose_reader_left_is_quiet() -> None:
    """What Python holds back until its end is dropped as well, without a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stn_bench", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0
