"""Committed runs: whoever clones the repository rebuilds the committed pages from them, and trains nothing again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import call

ROOT = Path(__file__).parent.parent
RECORDED = sorted(path.parent for home in ("reports", "docs") for path in (ROOT / home).glob("*/runs.zip"))


@pytest.fixture(scope="module", params=RECORDED, ids=lambda folder: folder.name)
def rebuilt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the committed report's folder, and that of the one made anew from the committed runs."""
    folder, root = request.param, tmp_path_factory.mktemp("clone")
    for plan in (ROOT / "studies").glob(f"{folder.name}.plan.json"):  # what was frozen before the first run
        (root / "studies").mkdir()
        shutil.copy(plan, root / "studies")
    for command in (("import", folder / "runs.zip"), ("report", folder.name)):
        assert call(*command, "--root", root) == 0
    return folder, root / "reports" / folder.name


def test_the_page_is_the_committed_one(rebuilt: tuple[Path, Path]) -> None:
    committed, made = rebuilt
    for file in ("report.md", "runs.csv"):
        assert (made / file).read_text(encoding="utf-8") == (committed / file).read_text(encoding="utf-8"), file


def test_every_number_is_the_committed_one(rebuilt: tuple[Path, Path]) -> None:
    """But for the last digits, in which versions of numpy and scipy may differ."""
    committed, made = (flat(json.loads((folder / "report.json").read_text())) for folder in rebuilt)
    assert made.keys() == committed.keys()
    assert made == {
        path: pytest.approx(value, rel=1e-9) if is_number(value) else value for path, value in committed.items()
    }


def test_every_figure_is_drawn(rebuilt: tuple[Path, Path]) -> None:
    """Which pixels, depends on the version of matplotlib."""
    committed, made = ({path.name for path in (folder / "figures").glob("*.png")} for folder in rebuilt)
    assert made == committed


def test_nothing_is_left_to_train_but_further_looks_at_what_is_undecided(
    rebuilt: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, made = rebuilt
    assert call("status", made.name, "--json", "--root", made.parent.parent) == 0
    rows = json.loads(capsys.readouterr().out)["arms"]
    seeds = {row["arm"]: [int(part) for part in row["seeds"].split("/")] for row in rows}
    summary = json.loads((made / "report.json").read_text())
    words = {
        f"{ablation['name']}/{arm['name']}": arm["verdict"]
        for ablation in summary["ablations"]
        for arm in ablation["arms"]
    }
    undecided = {label for label, word in words.items() if word == "undecided"}
    bases = {"base", *(f"{label.partition('/')[0]}/base" for label in undecided)}
    left = {label: there for label, (there, wanted) in seeds.items() if there < wanted}
    assert left.keys() <= undecided | bases
    assert {*left.values()} <= {*summary["looks"]}
    assert sum(wanted - there for there, wanted in seeds.values()) == summary["missing_runs"]
    assert seeds


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return every leaf by its path."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    if not isinstance(tree, dict | list):
        return {prefix: tree}
    return {path: leaf for key, child in pairs for path, leaf in flat(child, f"{prefix}/{key}").items()}


def is_number(value: Any) -> bool:
    """Whether a leaf is a number that rounding may touch."""
    return isinstance(value, float)
