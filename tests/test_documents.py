"""What the documents claim is what the files hold."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from stn_bench.study.catalogue import bundled_root

ROOT = bundled_root()
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/statistics.md",
        "docs/security.md",
        "docs/reliability.md",
        "docs/scale-out.md",
        "benchmarks/README.md",
    )
]


def test_the_readme_shows_the_rows_and_the_answer_of_the_committed_report() -> None:
    report = (ROOT / "reports/slim/report.md").read_text(encoding="utf-8")
    shown = README.partition("## What comes out of a study")[2].partition("\n## ")[0]
    rows = [line for line in shown.splitlines() if line.startswith("| `")]
    (answer,) = (line.removeprefix("> ") for line in shown.splitlines() if line.startswith("> "))
    assert len(rows) == 3
    for line in (*rows, answer):
        assert line in report


def test_the_readme_names_the_number_of_the_committed_quickstart() -> None:
    report = (ROOT / "docs/quickstart/report.md").read_text(encoding="utf-8")
    (lost,) = re.findall(r"loses (\d\.\d\d points \[[\d., ]+\]); your own", " ".join(README.split()))
    assert f"the model loses {lost}" in report


def test_the_quickstart_changes_no_committed_file() -> None:
    """A fresh clone stays clean: its report is written where git tracks nothing and looks at nothing."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "reports/quickstart/" in ignored
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "reports/quickstart", "mlruns"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert listed.stdout.split() == ["mlruns/.gitignore"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_between_files_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_the_lowest_versions_are_those_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floors = dict(re.findall(r"^([a-z0-9-]+)>=([0-9.]+)", "\n".join(project["dependencies"]), re.MULTILINE))
    pinned = dict(
        re.findall(r"^([a-z0-9-]+)==([0-9.]+)$", (ROOT / "requirements/lowest.txt").read_text(), re.MULTILINE)
    )
    assert set(pinned) == set(floors)
    for name, floor in floors.items():
        assert (pinned[name] + ".").startswith(floor + "."), name


def test_the_project_file_names_the_door_of_each_library() -> None:
    """A comment behind a requirement says which code needs it; code moves, and the comment with it."""
    comments = re.findall(r"^ *\".*#(.*)", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    named = [path for comment in comments for path in re.findall(r"stn_bench/[\w/.]*\w", comment)]
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_no_file_that_installs_names_an_address() -> None:
    for name in ("pyproject.toml", "Makefile", "requirements/lowest.txt", ".ci/run"):
        assert "://" not in (ROOT / name).read_text(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_into_a_page_leads_to_a_head_of_its_own(document: Path) -> None:
    """GitHub's anchors: a head in small letters, without punctuation, with a dash for each blank."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    heads = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.M)]
    links = re.findall(r"\]\(#([^)]+)\)", text)
    assert [link for link in links if heads.count(link) != 1] == []
