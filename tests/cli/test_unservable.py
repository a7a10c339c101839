"""Settings that no data can satisfy: told by `check` and `plan`, in a line, before anything is trained or fixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import call
from makers import make_root
from PIL import Image

ARGUMENTS = {"check": (), "plan": ("small",)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with eight imported pictures of two letters."""
    (tmp_path / "letters").mkdir()
    for number in range(8):
        picture = np.full((20, 20, 3), 20 * number, np.uint8)
        Image.fromarray(picture).save(tmp_path / "letters" / f"{number}_{'AB'[number // 4]}.png")
    given = ("--set", "data.size=20", "--set", "data.alphabet=AB", "--root", tmp_path)
    assert call("data", "import", tmp_path / "letters", "--name", "mine", *given) == 0
    return tmp_path


def study(root: Path, **data: object) -> None:
    settings = {"source": '"mine"', "count": 8, "validation": 2, "test": 2, "size": 20, "alphabet": '"AB"', **data}
    lines = "\n".join(f'"data.{name}" = {value}' for name, value in settings.items())
    make_root(root, study=f'title = "A"\nablations = ["depth"]\nseeds = [1, 2, 3]\n[base]\n{lines}\n')


@pytest.mark.parametrize("command", ARGUMENTS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"count": 10_000},
            "studies/small.toml: base: {root}/mlruns/datasets/mine: `data.count` is 10,000, but it has 8",
        ),
        ({"size": 24}, "`data.size` is 24, but it was imported at 20"),
        ({"alphabet": '"AC"'}, "labels 'B' are not in `data.alphabet` 'AC'"),
        ({"source": '"yours"'}, "no data set `yours`"),
        ({"source": '"captcha"', "fonts": '["/no/such.ttf"]'}, "`data.fonts`: /no/such.ttf does not exist"),
    ],
)
def test_they_are_refused_in_a_line(
    command: str, wrong: dict[str, object], message: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(root, **wrong)
    capsys.readouterr()
    assert call(command, *ARGUMENTS[command], "--root", root) == 2
    told = capsys.readouterr().err
    assert message.format(root=root) in told
    assert "Traceback" not in told


@pytest.mark.parametrize("command", ARGUMENTS)
def test_those_that_can_be_served_are_sound(command: str, root: Path) -> None:
    study(root)
    assert call(command, *ARGUMENTS[command], "--root", root) == 0


def test_a_plan_that_cannot_be_served_is_not_fixed(root: Path) -> None:
    study(root, count=10_000)
    assert call("plan", "small", "--freeze", "--root", root) == 2
    assert not (root / "studies/small.plan.json").exists()
