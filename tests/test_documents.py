"""What the documents claim is what the files hold."""

from __future__ import annotations

import re
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
        "benchmarks/README.md",
    )
]


def test_the_readme_shows_the_rows_of_the_committed_report() -> None:
    report = (ROOT / "reports/quickstart/report.md").read_text(encoding="utf-8")
    rows = [line.rstrip("| ") for line in README.splitlines() if line.startswith(("| `base`", "| `none`"))]
    assert len(rows) == 2
    for row in rows:
        assert row in report


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


def test_no_file_that_installs_names_an_address() -> None:
    for name in ("pyproject.toml", "Makefile", "requirements/lowest.txt", ".ci/run"):
        assert "://" not in (ROOT / name).read_text(), name
