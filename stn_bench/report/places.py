"""Where a report may be written: into a folder of its own name, and in place of nothing but an earlier report."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from stn_bench.system.errors import ReportError
from stn_bench.system.text import is_portable, unused

MARKS = {
    "report.html": b"content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"",
    "report.tex": rb"\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}",
    "tables.tex": rb"% Needs \usepackage[T1]{fontenc} and \usepackage{booktabs}.",
    "verdicts.csv": b"study,ablation,metric,margin,name",
}
"""What tells a file of ours that may lie there without `report.json`, in its first bytes."""

HEAD = 2_000
FIELDS = {"study", "digest", "ablations", "provenance"}
"""Of every `report.json` of ours."""

LONGEST = 60
ANOTHER = "choose another folder"


def folder_names(metrics: Sequence[str]) -> list[str]:
    """Return the name of each metric's folder, no two alike on a disk that ignores case."""
    found: list[str] = []
    for metric in metrics:
        found.append(unused(_file_name(metric), found, "{}__{}"))
    return found


def _file_name(metric: str) -> str:
    kept = "".join(one if one.isalnum() and one.isascii() else "_" for one in metric)[:LONGEST].strip("_")
    return kept if kept and is_portable(kept) else f"of_{kept}" if kept else "metric"


def check_places(folder: Path, paths: Collection[str], inputs: Iterable[Path]) -> None:
    """See that a report takes the place of an earlier one alone.

    Args:
        folder: where it is to be written.
        paths: its files, by their paths in the folder.
        inputs: the files that it was made from.

    Raises:
        ReportError: if it would take the place of something else.
    """
    for place in (folder / path for path in paths):
        if any(_is_same(place, one) for one in inputs):
            raise ReportError(f"{place}: is the table that is judged, and the report would replace it; {ANOTHER}")
    if folder.exists() and not folder.is_dir():
        raise ReportError(f"{folder}: expected a folder, or nothing yet, got a file; {ANOTHER}")
    if _is_report(folder / "report.json"):
        return
    if (folder / "figures").exists() and any(path.startswith("figures/") for path in paths):
        raise ReportError(f"{folder}: holds figures that are no report's; {ANOTHER}")
    if foreign := next((path for path in paths if _is_foreign(folder / path)), None):
        raise ReportError(f"{folder / foreign}: is there, and is no report's; move it, or {ANOTHER}")


def _is_same(place: Path, other: Path) -> bool:
    """Return whether two paths are one file: by a link, or on a disk that ignores case."""
    return place.exists() and other.exists() and place.samefile(other)


def _is_report(file: Path) -> bool:
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.keys() >= FIELDS


def _is_foreign(file: Path) -> bool:
    """Return whether a file is there that no report left."""
    if not file.is_file():
        return file.exists() or file.is_symlink()
    mark = MARKS.get(file.name)
    return mark is None or mark not in file.read_bytes()[:HEAD]


__all__ = ["MARKS", "check_places", "folder_names"]
