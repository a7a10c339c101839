"""What may be said of results, for programs and notebooks: tables, figures, the summary, the report."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stn_bench.analysis.analyse import Analysis
from stn_bench.analysis.digits import unit_of
from stn_bench.analysis.summarise import Artifact, summarise
from stn_bench.analysis.summary import Summary
from stn_bench.report.places import check_places, folder_names
from stn_bench.report.sentences import suspected, told
from stn_bench.study.arguments import checked
from stn_bench.system.errors import StoreError

if TYPE_CHECKING:  # drawing takes as long to load as judging does
    import pandas as pd
    from matplotlib.figure import Figure as Canvas

    from stn_bench.figure import Figure


def no_file(run_id: str, path: str) -> Path:
    """Say that a run keeps no files: nobody knows those of runs that others made."""
    raise StoreError(f"run {run_id}: keeps no file")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Judged:
    """What may be said of results, whether runs of a study or a table of anybody's. A notebook shows it as a page.

    Args:
        analyses: the analysis of each metric; of a study there is one.
        artifact: (run id, path) -> local path of what a run kept.
        report: the page that was written, or None.
        inputs: the files that the results were read from, which no report replaces.
    """

    analyses: tuple[Analysis, ...]
    artifact: Artifact = no_file
    report: Path | None = None
    inputs: tuple[Path, ...] = ()

    @functools.cached_property
    def summaries(self) -> tuple[Summary, ...]:
        """The summary of each metric."""
        return tuple(summarise(analysis, self.artifact) for analysis in self.analyses)

    @property
    def summary(self) -> Summary:
        """The summary of the first metric, the object behind `report.json`."""
        return self.summaries[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found while a table was read, and what is doubtful, in sentences without their full stop."""
        found = (note for summary in self.summaries for note in (*summary.notes, *summary.doubts))
        return tuple(dict.fromkeys(found))

    @property
    def missing(self) -> int:
        """The number of planned runs that are not finished."""
        return max(analysis.missing_runs for analysis in self.analyses)

    @property
    def verdicts(self) -> pd.DataFrame:
        """One line for each metric, question and arm, the base first, with every number of the summary."""
        from stn_bench.report.frames import stacked, verdicts_table

        return stacked(map(verdicts_table, self.summaries))

    @property
    def runs(self) -> pd.DataFrame:
        """One line a run: what it was, its settings, its final metrics and its costs, as in `runs.csv`."""
        from stn_bench.report.frames import runs_table

        return runs_table(self.analyses[0].results)

    @property
    def curves(self) -> pd.DataFrame:
        """One line for each epoch of each run: what it was, and the metrics that its training told of."""
        from stn_bench.report.frames import curves_table

        return curves_table(self.analyses[0].results)

    def figures(self) -> dict[str, Canvas]:
        """Return the figures of the first metric's report by name, each as a matplotlib figure.

        They are drawn anew, and pyplot knows nothing of them: `figures()["verdicts"].savefig("verdicts.pdf")`.
        """
        return {figure.name: figure.canvas for figure in self._drawn()}

    @checked
    def write(self, folder: Path | str, formats: str | Sequence[str] = ("md",)) -> tuple[Path, ...]:
        """Write the report to a folder, or that of each metric to a folder in it, and return those.

        Args:
            folder: the folder.
            formats: some of "md", "html", "latex", "csv", and of "pdf" and "svg", which are the figures alone.

        Raises:
            ReportError: if nothing is finished, or a report would replace what is none; nothing is written then.
            MachineError: if it cannot be written.
        """
        from stn_bench.report.build import build_report, read_formats, write_report

        wanted = read_formats(formats if isinstance(formats, str) else ",".join(formats), "formats")
        folder, names = Path(folder).expanduser(), folder_names([one.plan.metric.name for one in self.analyses])
        folders = [folder] if len(names) == 1 else [folder / name for name in names]
        reports = [build_report(analysis, self.artifact, wanted) for analysis in self.analyses]
        for one, files in zip(folders, reports, strict=True):
            check_places(one, files, self.inputs)
        for one, files in zip(folders, reports, strict=True):
            write_report(one, files)
        return tuple(folders)

    def __repr__(self) -> str:
        """Return what came of each question, as the command line says it."""
        lines = []
        for one in self.summaries:
            for question in one.ablations:
                lines += told(question, unit_of(one, question)) + (suspected(question) if one.source else [])
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        from stn_bench.report.page import render_short

        return "\n\n".join(map(render_short, self.summaries))

    def _repr_html_(self) -> str:
        from stn_bench.report.figures import forests
        from stn_bench.report.html import render_short_html

        lead = next(forests(self.summary), None)
        shown = [lead, *([None] * (len(self.summaries) - 1))]
        pages = (render_short_html(summary, figure) for summary, figure in zip(self.summaries, shown, strict=True))
        return "\n\n".join(pages)

    def _drawn(self) -> list[Figure]:
        from stn_bench.report.build import draw

        drawn = draw(self.analyses[0], self.summary, self.artifact)
        return [figure for group in drawn.values() for figure in group]


__all__ = ["Judged", "no_file"]
