"""Writes the committed page of `quickstart` anew, from what is committed of its runs; nothing is trained.

    python benchmarks/quickstart.py [FOLDER]

`docs/quickstart/runs.csv` has the runs, of which the verdict is judged by today's rule; `report.json` has what their
files told besides (costs, layers, claims, provenance). The pictures of curves, costs and letters stay as they are.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Canvas

import stn_bench
from stn_bench.analysis.summary import ArmSummary, Summary
from stn_bench.figure import Figure
from stn_bench.report.figures import differences, forests, path_of
from stn_bench.report.frames import to_csv, verdicts_table
from stn_bench.report.html import render_html
from stn_bench.report.page import render_page
from stn_bench.system.files import write_whole

FOLDER = Path(__file__).parents[1] / "docs/quickstart"
PICTURE = re.compile(r"!\[(.*)\]\(figures/(.*)\.png\)")
VERDICT = (
    *("difference", "interval", "level", "p", "p_adjusted", "holm_p", "equivalence_p", "sign_flip_p", "correlation"),
    *("pairs", "wins", "losses", "superiority", "effect_size", "error_ratio", "error_ratio_interval", "seed_se"),
    *("values", "mean", "sd", "verdict", "look", "lacks", "stopped", "more_seeds"),
)
"""What a verdict is made of: all that follows from the runs' metric and the rule alone."""


def judged_anew(known: Summary, folder: Path = FOLDER) -> Summary:
    """Return the summary with each arm's verdict as the runs in `runs.csv` have it by today's rule."""
    runs = pd.read_csv(folder / "runs.csv")
    found = stn_bench.judge(
        runs[["arm", "seed", known.metric]],
        arm="arm",
        seed="seed",
        metric=known.metric,
        base="base",
        direction=known.direction,
        margin=known.margin,
        looks=known.looks,
        resolution=1 / runs["data.test"].max(),
    ).summary
    arms = {arm.name: arm for arm in found.ablations[0].arms}
    (question,) = known.ablations
    anew = question.model_copy(update={"arms": tuple(_with_verdict(arm, arms[arm.name]) for arm in question.arms)})
    return known.model_copy(update={"ablations": (anew,), "levels": found.levels})


def _with_verdict(known: ArmSummary, found: ArmSummary) -> ArmSummary:
    return known.model_copy(update={name: getattr(found, name) for name in VERDICT})


def files(folder: Path = FOLDER) -> dict[str, bytes]:
    """Return the files of the page by name."""
    summary = judged_anew(Summary.model_validate_json((folder / "report.json").read_text(encoding="utf-8")), folder)
    captions = [
        Figure(name, caption, Canvas())
        for caption, name in PICTURE.findall((folder / "report.md").read_text(encoding="utf-8"))
    ]
    (question,) = summary.ablations
    (own,) = differences(question, summary.unit, summary.margin)
    anew = {one.name: one for one in (*forests(summary), dataclasses.replace(own, name=f"{question.name}_{own.name}"))}
    first, *others = (anew.get(one.name, one) for one in captions)
    page = render_page(summary, {"": [first], question.name: others})
    kept = {path_of(one): (folder / path_of(one)).read_bytes() for one in captions if one.name not in anew}
    drawn = {path_of(one): one.png for one in anew.values()}
    shown: Mapping[str, bytes] = {**kept, **drawn}
    text = summary.model_dump_json(indent=1, exclude={"source", "notes", "doubts"})
    return {
        "report.md": page.encode(),
        "report.json": f"{text}\n".encode(),
        "report.html": render_html(summary.title, page, shown).encode(),
        "verdicts.csv": to_csv(verdicts_table(summary)).encode(),
        **drawn,
    }


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, content in files().items():
        write_whole(folder / name, content)


if __name__ == "__main__":
    main()
