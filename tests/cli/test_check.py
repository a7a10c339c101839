"""`check` names the fault, and not what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Cli
from makers import write

CODE = "def train(*, seed, depth=1):\n    return {'test.score': depth}\n"
STUDY = """title = "Depth"
subject = "deepest:train"
ablations = ["deep"]
seeds = [1, 2, 3]
metric = "test.score"
direction = "maximize"
"""
ABLATION = 'title = "Depth"\nquestion = "Deep?"\n[arms.two]\nset = { depth = 2 }\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("studies", "ablations"):
        (tmp_path / folder).mkdir()
    (tmp_path / "deepest.py").write_text(CODE)
    (tmp_path / "studies/deep.toml").write_text(STUDY)
    (tmp_path / "ablations/deep.toml").write_text(ABLATION)
    return tmp_path


def test_what_is_sound_is_counted_apart_from_what_comes_along(cli: Cli, root: Path) -> None:
    code, out, _ = cli("check", "--root", root)
    assert (code, out.startswith("1 ablation and 1 study of its own; with those that come with")) == (0, True)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ('subject = "deepest:train"\n', "", "no study names a subject for it"),
        ('subject = "deepest:train"', 'subject = "deepset:train"', "named 'deepset') Did you mean `deepest`?"),
        ('title = "Depth"', 'title = "Depth', "not valid TOML"),
        ("seeds = [1, 2, 3]", "sedes = [1, 2, 3]", "unknown key `sedes`. Did you mean `seeds`?"),
        ('direction = "maximize"', "", 'write direction = "maximize", or "minimize"'),
        ('direction = "maximize"', "depth = 3", "unknown key `depth`. Settings stand in the table `[base]`"),
    ],
)
def test_one_broken_study_is_one_line(cli: Cli, root: Path, was: str, now: str, said: str) -> None:
    (root / "studies/deep.toml").write_text(STUDY.replace(was, now))
    code, out, err = cli("check", "--root", root)
    assert (code, out, said in err) == (2, "", True), err
    assert len(err.splitlines()) == 1


def test_a_setting_of_an_arm_that_is_not_in_set(cli: Cli, root: Path) -> None:
    (root / "ablations/deep.toml").write_text(f"{ABLATION}[arms.three]\ndepth = 3\n")
    err = cli("check", "--root", root)[2]
    assert "[arms.three]: unknown key `depth`. Settings stand in `set`, as in `set = { … }`" in err


def test_effects_of_factors_that_can_never_be_told_are_flagged_and_accepted(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "studies/small.toml", 'title = "A"\nsubject = "toy"\nablations = ["deep"]\nseeds = [1, 2, 3]\n')
    text = 'title = "Depth"\nquestion = "Deep?"\n[factors]\ndepth = [3, 4]\ngate = ["open", "none"]\n'
    write(tmp_path / "ablations/deep.toml", text)
    why = "its factors' effects cannot be told: the base has `depth` = 2, which [factors] does not name"
    code, out, _ = cli("check", "--root", tmp_path)
    assert code == 0
    assert out.splitlines()[0] == f"! studies/small.toml: deep: {why}"
    code, out, _ = cli("plan", "small", "--root", tmp_path)
    assert (code, why in " ".join(out.split())) == (0, True)
    write(tmp_path / "ablations/deep.toml", text.replace("[3, 4]", "[2, 4]"))
    assert "!" not in cli("check", "--root", tmp_path)[1]
