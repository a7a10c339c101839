"""From results to the files of a report: all of them as bytes first, then written, or compared with those on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stn_bench.analysis.analyse import Analysis
from stn_bench.analysis.summarise import Artifact, summarise
from stn_bench.analysis.summary import Summary
from stn_bench.figure import Figure
from stn_bench.report.figures import forests, illustrations, path_of
from stn_bench.report.frames import runs_table, to_csv, verdicts_table
from stn_bench.report.html import render_html
from stn_bench.report.latex import render_latex, render_tables
from stn_bench.report.page import GUIDE, opening, render_page
from stn_bench.subject import is_shipped
from stn_bench.system.errors import MachineError, ReportError
from stn_bench.system.files import write_whole
from stn_bench.system.format import counted
from stn_bench.system.machine import NO_ROOM
from stn_bench.system.text import did_you_mean, first_line, shorten
from stn_bench.tracking.found import FoundResults

if TYPE_CHECKING:
    from stn_bench.tracking.mlflow import Tracking

Files = dict[str, bytes]
FORMATS = {
    "md": "report.md",
    "html": "report.html",
    "latex": "report.tex",
    "tables": "tables.tex",
    "csv": "verdicts.csv",
}
"""Format -> the file that it is; Markdown has `report.json`, `runs.csv` and the figures beside it."""

PRINTED = ("pdf", "svg")
"""Formats that are those of the figures alone, for a paper: `figures/NAME.pdf`."""

DEFAULT = ("md",)


def read_formats(text: str, option: str = "--format") -> tuple[str, ...]:
    """Return formats written as "md,html"; `option` is what messages call them.

    Raises:
        ReportError: if one of them is unknown.
    """
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    known = (*FORMATS, *PRINTED)
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None or not names:
        asked = f"got `{unknown or text}`.{did_you_mean(unknown or '', known)}"
        raise ReportError(f"{option}: expected some of {', '.join(known)}, {asked}")
    return names


def present_formats(folder: Path) -> tuple[str, ...]:
    """Return the formats that lie in a report's folder."""
    files = tuple(name for name, file in FORMATS.items() if (folder / file).is_file())
    return files + tuple(name for name in PRINTED if next(folder.glob(f"figures/*.{name}"), None))


def place_of(folder: Path, name: str) -> Path:
    """Return where a format is written in a report's folder."""
    return folder / FORMATS.get(name, "figures")


def places_of(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Return where formats are written, each place once."""
    return tuple(dict.fromkeys(place_of(folder, one) for one in names))


def kept_formats(folder: Path) -> tuple[str, ...]:
    """Return the formats that a report is written in unless asked otherwise: Markdown, and those that lie there."""
    return tuple(dict.fromkeys((*DEFAULT, *present_formats(folder))))


def _nothing(analysis: Analysis, logs: Path | None) -> str:
    """Return why there is nothing to report, and what to do."""
    name, crashed = analysis.plan.study.name, analysis.results.crashed
    if not crashed:
        return f"no run is finished yet; start with `stn-bench run {name}`"
    why = shorten(first_line(crashed[-1].reason))
    where = f"; the whole tracebacks are in {logs}" if logs else ""
    return (
        f"no run is finished, {counted(len(crashed), 'run')} crashed (the last: {why}){where}. "
        f"Mend it; `stn-bench run {name}` tries them again"
    )


def build_report(
    analysis: Analysis, artifact: Artifact, formats: Sequence[str] = DEFAULT, *, logs: Path | None = None
) -> Files:
    """Return every file of the report by its path in the report's folder: the same bytes for the same store.

    Args:
        analysis: what the study's results say.
        artifact: (run id, path) -> local path of an artifact of a run.
        formats: names from `FORMATS` and `PRINTED`.
        logs: folder of what the workers printed, for the message where all have crashed.

    Raises:
        ReportError: if nothing is finished yet.
    """
    name = analysis.plan.study.name
    if not analysis.results.finished and not isinstance(analysis.results, FoundResults):
        raise ReportError(f"study `{name}`: {_nothing(analysis, logs)}")
    summary = summarise(analysis, artifact)
    files: Files = {}
    if {"md", "html", *PRINTED} & set(formats):
        figures = draw(analysis, summary, artifact)
        guide = GUIDE if is_shipped(analysis.plan.subject.name) else ""
        page = render_page(summary, figures, guide)
        drawn = {path_of(figure): figure.png for group in figures.values() for figure in group}
        files |= {
            path_of(figure, printed): figure.printed(printed)
            for printed in PRINTED
            if printed in formats
            for group in figures.values()
            for figure in group
        }
    if "md" in formats:
        files |= drawn
        files["report.md"] = page.encode()
        untold = set() if summary.source else {"source", "notes"}  # a study's file is what it always was
        untold |= set() if summary.doubts else {"doubts"}
        files["report.json"] = (summary.model_dump_json(indent=1, exclude=untold) + "\n").encode()
        files["runs.csv"] = to_csv(runs_table(analysis.results)).encode()
    if "html" in formats:
        files["report.html"] = render_html(summary.title, page, drawn).encode()
    if "latex" in formats:
        files[FORMATS["latex"]] = render_latex(summary).encode()
    if "tables" in formats:
        files[FORMATS["tables"]] = render_tables(summary).encode()
    if "csv" in formats:
        files[FORMATS["csv"]] = to_csv(verdicts_table(summary)).encode()
    return files


def draw(analysis: Analysis, summary: Summary, artifact: Artifact) -> dict[str, list[Figure]]:
    """Return the figures of the study, by "", and those of each question, by its name."""
    return {"": list(forests(summary))} | {
        ablation.name: list(illustrations(question, ablation, analysis, artifact))
        for question, ablation in zip(analysis.plan.questions, summary.ablations, strict=True)
    }


def write_report(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a report; each file appears whole, and figures of an earlier report that no longer exist go.

    Raises:
        MachineError: if the disk is full or the folder cannot be written.
    """
    try:
        for path, content in files.items():
            write_whole(folder / path, content)
        for old in _left_over(folder, files):
            (folder / old).unlink()
    except OSError as error:
        reason = error.strerror or error
        advice = "make room and try again" if error.errno in NO_ROOM else "see what is in its way, and try again"
        where = error.filename2 or error.filename or folder
        raise MachineError(f"{where}: the report cannot be written ({reason}); {advice}") from None


def keep_report(
    analysis: Analysis,
    folder: Path,
    tracking: Tracking,
    formats: Sequence[str] | None = None,
    *,
    artifact: Artifact | None = None,
    logs: Path | None = None,
) -> tuple[Path, ...]:
    """Write the report of a study to its folder and to the store, and return the file of each format.

    Args:
        analysis: what the study's results say.
        folder: the study's folder of the workspace.
        tracking: the store.
        formats: names from `FORMATS` and `PRINTED`; unset, Markdown and those that lie there: all stay current.
        artifact: where artifacts of runs are read; unset, in the store.
        logs: folder of what the workers printed, for the message where all have crashed.

    Raises:
        ReportError: if nothing is finished yet.
        MachineError: if it cannot be written.
    """
    name, wanted = analysis.plan.study.name, formats or kept_formats(folder)
    write_report(folder, build_report(analysis, artifact or tracking.file, wanted, logs=logs))
    tracking.log_report(tracking.open_study(name), name, folder, opening(summarise(analysis)))
    return places_of(folder, wanted)


def stale_files(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Return the names of the files that are missing, differ from the store, or should not be there."""
    differing = [
        path
        for path, content in files.items()
        if not (folder / path).is_file() or (folder / path).read_bytes() != content
    ]
    return differing + _left_over(folder, files)


def _left_over(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Return the figures of an earlier report, of the formats that are written anew; others belong to the old one."""
    endings = {ending for ending in ("png", *PRINTED) if any(path.endswith(f".{ending}") for path in files)}
    if FORMATS["md"] in files:
        endings.add("png")
    present = [path.name for path in sorted((folder / "figures").glob("*")) if path.suffix[1:] in endings]
    return [f"figures/{name}" for name in present if f"figures/{name}" not in files]


__all__ = [
    "DEFAULT",
    "FORMATS",
    "PRINTED",
    "Artifact",
    "Files",
    "build_report",
    "draw",
    "keep_report",
    "kept_formats",
    "place_of",
    "places_of",
    "present_formats",
    "read_formats",
    "stale_files",
    "write_report",
]
