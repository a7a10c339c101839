"""`new`: what it writes runs as it is, and it overwrites nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Cli, call
from makers import write

from stn_bench.study.catalogue import bundled_root

FILES = ("{}.py", "ablations/{}.toml", "studies/{}.toml")


def stn_bench(root: Path, *arguments: str) -> str:
    """Run the command line in a process of its own, and return what it prints; it complains of nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "stn_bench", *arguments, "--root", str(root)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_the_keras_model_that_it_writes_trains_and_gets_its_verdict(tmp_path: Path) -> None:
    for arguments in (["new", "glyphs", "--keras"], ["check"], ["run", "glyphs"]):
        told = stn_bench(tmp_path, *arguments)
    assert "better: with width = 64 (wide) the model gains" in told


@pytest.mark.slow
def test_the_pictures_that_it_draws_are_told_apart(tmp_path: Path) -> None:
    for arguments in (["new", "shapes", "--folder"], ["check"], ["run", "shapes"]):
        told = stn_bench(tmp_path, *arguments)
    assert "better: with filters = 16 (wide) the model gains" in told
    page = (tmp_path / "reports/shapes/report.md").read_text(encoding="utf-8")
    assert "Data: pictures in shapes_pictures, grey, stretched to 24 × 32; of each class 20 % for validation" in page


@pytest.mark.slow
def test_the_readme_s_keras_model_runs_as_it_is_printed(tmp_path: Path) -> None:
    readme = (bundled_root() / "README.md").read_text(encoding="utf-8")
    part = readme.partition("### Ask about my own Keras model\n")[2].partition("\n### ")[0]
    files = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", part, re.DOTALL)
    assert [name for name, _ in files] == ["digits.py", "studies/digits.toml", "ablations/width.toml"]
    for name, text in files:
        write(tmp_path / name, text)
    (command,) = re.findall(r"```\nstn-bench (.*)\n```", part)
    assert "better: with width = 64 (wide) the model gains" in stn_bench(tmp_path, *command.split())


@pytest.mark.parametrize("kind", ["--keras", "--folder"])
def test_the_files_of_a_keras_model_are_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert call("new", "glyphs", kind, "--root", tmp_path) == 0
    assert call("check", "--root", tmp_path) == 0
    assert "studies are sound" in capsys.readouterr().out


def test_what_it_writes_trains_and_gets_its_verdict(tmp_path: Path, cli: Cli) -> None:
    for arguments in (["new", "waves", "--function"], ["check"], ["run", "waves", "--workers", "1"]):
        code, told, complaints = cli(*arguments, "--root", tmp_path)
        assert (code, complaints) == (0, "")
    assert "better: with degree = 3 (cubic) test error falls by 0.1" in told
    assert "on 4 of 4 seeds, stopped at look 1" in told
    assert (tmp_path / "reports/waves/report.md").exists()
    assert (tmp_path / "reports/waves/figures/waves_curves.png").exists()


def test_it_says_what_it_wrote_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("new", "waves", "--function", "--root", tmp_path) == 0
    assert capsys.readouterr().out == (
        "wrote waves.py, ablations/waves.toml, studies/waves.toml\n"
        f"train and judge it: stn-bench run waves --root {tmp_path}\n"
    )
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        file.format("waves") for file in FILES
    }


@pytest.mark.parametrize("file", FILES)
def test_it_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    path = write(tmp_path / file.format("waves"), "mine")
    assert call("new", "waves", "--function", "--root", tmp_path) == 2
    assert capsys.readouterr().err == (
        f"stn-bench: {path}: is there already; nothing was written, choose another name\n"
    )
    assert path.read_text() == "mine"
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Model", "expected a name of small letters"),
        ("../up", "expected a name of small letters"),
        ("3d", "Python accepts as a module name; got `3d`"),
        ("class", "Python accepts as a module name; got `class`"),
        ("base", "got `base`"),
        ("numpy", "a module `numpy` is installed and would be found first"),
        ("slim", "an ablation or a study `slim` comes with stn-bench"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    assert call("new", name, "--function", "--root", tmp_path) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_it_must_be_told_what_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("new", "waves", "--root", tmp_path) == 2
    assert "new waves: expected one of --function, --keras and --folder" in capsys.readouterr().err


def test_what_cannot_be_written_whole_is_not_written_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "studies", "a file where a folder would be")
    assert call("new", "waves", "--function", "--root", tmp_path) == 2
    assert "studies: cannot be written (" in capsys.readouterr().err
    assert [one.name for one in tmp_path.rglob("*") if one.is_file()] == ["studies"]
