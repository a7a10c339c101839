"""The page: a summary as Markdown that reads well on a code-hosting site and as plain text."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence

import jinja2

from stn_bench.analysis.digits import unit_of
from stn_bench.analysis.summary import AblationSummary, Summary
from stn_bench.figure import Figure
from stn_bench.report import side_tables
from stn_bench.report import tables as columns
from stn_bench.report.figures import path_of
from stn_bench.report.sentences import answer, confirmed, headline, seeds_in_words
from stn_bench.stats import ALPHA
from stn_bench.system.format import counted, level_in_words, listed, settings_in_words

GUIDE = "../../docs/statistics.md"
"""Where the committed reports of the shipped subjects find what explains their columns."""

CODE = r"(?<![\\`])(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
LIVE = re.compile(rf"{CODE}|(?P<slashes>\\*)(?P<mark>`|\](?=\((?!#))|<(?=[A-Za-z/!?])|^\[(?=.*\]:))")
"""Code, in which nothing lives; or a character that makes a link, an image, HTML or code of words, or names a link's
target, and the backslashes before it."""

Figures = Mapping[str, Sequence[Figure]]
"""Ablation -> its figures, in order; "" -> those of the study."""


def render_page(summary: Summary, figures: Figures, guide: str = GUIDE) -> str:
    """Return `report.md`.

    Args:
        summary: the study.
        figures: the figures of the study and of each of its questions.
        guide: path from the page to what explains its columns; "" where there is none, as beside a user's subject.
    """
    looks, example = len(summary.looks), summary.example
    unit = functools.partial(unit_of, summary)
    template = templates().get_template("report.md.j2")
    page = template.render(
        summary=summary,
        unit=summary.unit,
        figures=figures,
        path_of=path_of,
        opening=opening(summary),
        scope=[plain(part) for part in re.split(r"\n\s*\n", summary.scope.strip()) if part],
        guide="" if summary.source else guide,
        rules=rules(summary),
        methods=methods(summary),
        limits=limits(summary),
        answer=lambda ablation: answer(ablation, unit(ablation)),
        claims_in_short=columns.claims_in_short(summary),
        claim_table=lambda: markdown(columns.claim_table(summary)),
        arm_table=lambda ablation: markdown(columns.arm_table(ablation, unit(ablation), looks)),
        sure_table=lambda ablation: markdown(columns.sure_table(ablation, unit(ablation), example, summary.direction)),
        effect_table=lambda ablation: markdown(columns.effect_table(ablation, unit(ablation))),
        cost_table=lambda ablation: _costs(ablation, example),
        settings_table=_settings,
        class_table=lambda ablation: markdown(side_tables.class_table(ablation, unit(ablation), example)),
        class_note=lambda ablation: side_tables.class_note(ablation, unit(ablation)),
        metric_table=lambda ablation: markdown(side_tables.metric_table(ablation)),
        metric_note=side_tables.metric_note,
        timed_note=columns.timed_note,
        fairness=_fairness,
        confirmed=confirmed,
        unit_of=unit,
        notes=columns.notes,
        plain=plain,
        counted=counted,
        seeds_in_words=seeds_in_words,
        found=found(summary),
        run_table=lambda: _runs(summary),
        is_costlier=_is_costlier(summary),
        base_settings=settings_in_words(summary.base),
    )
    return re.sub(r"\n{3,}", "\n\n", page).rstrip("\n") + "\n"


def render_short(summary: Summary, figure: Figure | None = None) -> str:
    """Return what came of each question and its table, and a figure where there is one: what a notebook shows."""
    parts = [opening(summary), *([f"![{plain(figure.caption)}]({path_of(figure)})"] if figure else [])]
    for ablation in summary.ablations:
        parts += [
            f"## {plain(ablation.title)}",
            markdown(columns.arm_table(ablation, unit_of(summary, ablation), len(summary.looks))),
        ]
    told = [found(summary), *(f"{note[:1].upper()}{note[1:]}." for note in summary.notes), rules(summary)]
    return "\n\n".join([*parts, *map(plain, filter(None, told))]) + "\n"


def templates() -> jinja2.Environment:
    """Return the templates; what ends in `.html.j2` escapes all that it is given."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("stn_bench.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: bool(name) and str(name).endswith(".html.j2"),
    )


def opening(summary: Summary) -> str:
    """Return what a report begins with: its title, and what came of each question."""
    lines = [
        f"- [{plain(ablation.title)}](#{columns.anchor(ablation.title)}) {plain(headline(ablation, unit))}"
        for ablation in summary.ablations
        for unit in [unit_of(summary, ablation)]
    ]
    return "\n".join([f"# {plain(summary.title)}", "", *lines])


def plain(text: str) -> str:
    """Return a person's words in one line, in which Markdown finds no link, no image and no HTML.

    Code stays as it is: a backslash would show there. Links to headings of the page stay. A backslash of the person's
    own must not take ours away, so it is doubled; a backtick that no other closes would make code of what follows.
    """
    return LIVE.sub(_dead, " ".join(text.split()))


def _dead(found: re.Match[str]) -> str:
    return f"{2 * found['slashes']}\\{found['mark']}" if found["mark"] else found[0]


def rules(summary: Summary) -> str:
    """Return how the differences were compared, in sentences."""
    level = level_in_words(1 - summary.levels[1])
    family = "the arms of a question" if summary.family == "question" else "all arms of the study"
    looks = ""
    if len(summary.looks) > 1:
        counts = listed([str(count) for count in summary.looks])
        looks = (
            f" The {len(summary.looks)} looks, at {counts} seeds, share the 5 %. A decided arm stops at its look: its "
            "mean stands on fewer seeds than the base's, its difference on the pairs alone."
        )
    paired = f"Differences are paired by seed, with Student's {level} interval in brackets"
    how = "by Holm's method" if summary.correction == "holm" else "testing those first that moved most,"
    return f"{paired}; p is adjusted for {family}, {how.removesuffix(',')}.{looks}"


def methods(summary: Summary) -> str:
    """Return a sentence or two for the methods section of a paper, with the numbers of this study."""
    counts = listed([str(count) for count in summary.looks])
    seeds = f"{counts} seeds" if len(summary.looks) == 1 else f"seeds, at looks planned after {counts} of them"
    levels = summary.levels
    even = ALPHA / len(summary.looks)
    share = {even: " (an even share of the looks)"} if len(summary.looks) > 1 else {}
    families = [
        f"{100 * level:.3g} % for {counted(arms, 'arm')}{share.get(level, '')}" for arms, level in levels.items()
    ]
    is_calibrated = any(level > even for level in levels.values())
    at_look = f"Each look tests at a level of {listed(families)} without an effect" + (
        ", calibrated by simulation so that all looks together give 5 %. " if is_calibrated else ". "
    )
    order = (
        "p-values were adjusted for the looks and, by Holm's method, for the arms"
        if summary.correction == "holm"
        else "the arms were tested step down in the order of their mean squared differences, with weights that halve "
        "from rank to rank (Kropf and Läuter 2002; Westfall, Kropf and Finos 2004)"
    )
    family = "of a question" if summary.family == "question" else "of the study"
    margin = (
        f" Arms whose interval lay within ±{summary.unit.given(summary.margin)}{summary.unit.points} were called "
        f"equivalent, by two one-sided tests with Bonferroni's correction for the looks and Holm's for the arms."
        if summary.margin
        else ""
    )
    return (
        f"Each arm was compared with its base by a paired t-test over {seeds}; within the family of the arms "
        f"{family} {order}, which keeps the family-wise error at 5 %. {at_look}Intervals are Student's at "
        f"{level_in_words(1 - levels[1])}, not widened for the number of arms.{margin}"
    )


def limits(summary: Summary) -> list[str]:
    """Return what the verdicts do not say, each in a sentence."""
    told = [
        "A verdict holds for this base and its settings, and for nothing else.",
        "Seeds measure the spread between trainings on the same data. Other data would move the numbers too.",
    ]
    if summary.claims:
        told.append(
            "Claims on another metric or another pair of arms than the tables' are not corrected for their number."
        )
    if _is_costlier(summary):
        told.append("What is marked † costs over 5 % more than its base: the arithmetic alone may be what helps it.")
    return told


def _is_costlier(summary: Summary) -> bool:
    return any(arm.costlier for ablation in summary.ablations for arm in ablation.arms)


def found(summary: Summary) -> str:
    """Return what must be known of runs that others made, in sentences; "" for those of a study of ours."""
    if not summary.source:
        return ""
    return (
        f"Judged from {plain(summary.source)}. Nothing shows how these runs were made: "
        "whether the arms differ by one thing alone, had the same data and the same budget, whether runs were left "
        "out, and whether metric, margin and seeds were chosen before the first run."
    )


def _runs(summary: Summary) -> str:
    table = columns.run_table(summary)
    return "" if table is None else markdown(table)


def _fairness(ablation: AblationSummary) -> str:
    table = columns.fairness_table(ablation)
    return columns.fairness_line(ablation) if table is None else markdown(table)


def _settings(ablation: AblationSummary) -> str:
    """Return the table of what arms of many settings set, or "" where there is none."""
    table = side_tables.settings_table(ablation)
    return markdown(table) if table else ""


def _costs(ablation: AblationSummary, example: str) -> str:
    """Return the table of costs, or "" where none is known."""
    table = columns.cost_table(ablation, example)
    return markdown(table) if len(table.header) > 1 else ""


def markdown(table: columns.Table) -> str:
    """Return a table whose columns line up in plain text too."""
    return markdown_table(table.header, table.rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up in plain text too."""
    head, *body = [tuple(re.sub(r"(\\*)\|", r"\1\1\\|", plain(cell)) for cell in row) for row in (header, *rows)]
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    lines = [_line(head, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    return "\n".join([*lines, *(_line(row, widths) for row in body)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
