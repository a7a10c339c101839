"""The report as LaTeX: one booktabs table a question, in an article that compiles, or alone for a paper."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from stn_bench.analysis.digits import unit_of
from stn_bench.analysis.summary import AblationSummary, Summary
from stn_bench.report.page import found, rules
from stn_bench.report.sentences import answer
from stn_bench.report.tables import WHAT, Row, Table, arm_table, notes
from stn_bench.system.format import Unit

PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage{array}
\usepackage{booktabs}
\usepackage[a4paper,margin=1.5cm]{geometry}
\usepackage{longtable}
\newcolumntype{L}[1]{>{\raggedright\arraybackslash\hspace{0pt}}p{#1}}
\setlength{\belowcaptionskip}{4pt}
\begin{document}
"""
ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "÷": r"$\div$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
    "†": r"$\dagger$",
    "·": r"$\cdot$",
    "°": r"$^\circ$",
    "…": r"\dots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
}
CHARACTERS = re.compile(r"[ -~À-ÖØ-öø-ÿĀ-ćĎ-ďĘ-ěĞ-ğİĹ-ĺĽ-ľŁ-ńŇ-ňŐ-őŒ-œŔ-ŕŘ-śŞ-šŢ-ťŮ-űŸ-ž]")
"""What T1 fonts hold; anything else is written as its code point, so that the file compiles."""

WIDTHS = (2.3, 3.5, 0.9, 1.7, 3.2, 0.95, 2.1, 1.7)
"""Of the columns, in cm: all eight fit an A4 page."""

MOST_ROWS = 24
"""Rows that fit a page; a longer table breaks over pages, which a two-column paper does not allow."""


def render_latex(summary: Summary) -> str:
    """Return `report.tex`: an article that compiles with booktabs alone."""
    title = rf"\section*{{{latex(summary.title)}}}"
    lead = [inline(text.strip()) for text in (summary.scope, found(summary), rules(summary)) if text]
    tables = [_table(ablation, unit_of(summary, ablation), len(summary.looks)) for ablation in summary.ablations]
    return PREAMBLE + "\n\n".join([title, *lead, *tables]) + "\n\\end{document}\n"


def render_tables(summary: Summary) -> str:
    """Return `tables.tex`: the tables alone, as wide as what is in them, to be put into a paper."""
    tables = [_for_a_paper(ablation, unit_of(summary, ablation), len(summary.looks)) for ablation in summary.ablations]
    return "\n\n".join([r"% Needs \usepackage[T1]{fontenc} and \usepackage{booktabs}.", *tables]) + "\n"


def _for_a_paper(ablation: AblationSummary, unit: Unit, looks: int) -> str:
    """Return a question's table; where each arm has a label, that says what it changes."""
    table = arm_table(ablation, unit, looks)
    if all(arm.words for arm in ablation.arms[1:]):
        table = table.without(WHAT)
    columns = "".join("l" if name in ("arm", WHAT, "verdict", "published") else "r" for name in table.header)
    caption = rf"\caption{{{latex(ablation.title)}}}"
    said = [rf"\par\smallskip\raggedright {inline(note)}" for note in notes(ablation)]
    return _on_one_page(table, caption, rf"\label{{tab:{ablation.name}}}", said, f"@{{}}{columns}@{{}}")


def _table(ablation: AblationSummary, unit: Unit, looks: int) -> str:
    table = arm_table(ablation, unit, looks)
    caption = rf"\caption{{\textbf{{{latex(ablation.title)}}} {inline(answer(ablation, unit))}}}"
    label = rf"\label{{tab:{ablation.name}}}"
    said = [rf"\par\smallskip\raggedright {inline(note)}" for note in notes(ablation)]
    if len(table.rows) > MOST_ROWS:
        return "\n".join([_over_pages(table, caption, label), r"{\footnotesize", *said, r"\par}"])
    return _on_one_page(table, caption, label, said, _columns(table))


def _on_one_page(table: Table, caption: str, label: str, said: Sequence[str], columns: str) -> str:
    lines = [r"\begin{table}[!htbp]", r"\centering\footnotesize\setlength{\tabcolsep}{3pt}", caption, label]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row(table.header), r"\midrule"]
    return "\n".join([*lines, *map(_row, table.rows), r"\bottomrule", r"\end{tabular}", *said, r"\end{table}"])


def _over_pages(table: Table, caption: str, label: str) -> str:
    lines = [r"{\footnotesize\setlength{\tabcolsep}{3pt}", rf"\begin{{longtable}}{{{_columns(table)}}}"]
    lines += [f"{caption}{label}" + r" \\", r"\toprule", _row(table.header), r"\midrule", r"\endhead"]
    return "\n".join([*lines, *map(_row, table.rows), r"\bottomrule", r"\end{longtable}}"])


def _columns(table: Table) -> str:
    tells_changes = len(table.header) > 1 and table.header[1] == WHAT
    chosen = WIDTHS if tells_changes else (WIDTHS[0] + WIDTHS[1], *WIDTHS[2:])
    widths = "".join(f"L{{{width}cm}}" for width in chosen[: len(table.header)])
    return f"@{{}}{widths}@{{}}"


def _row(cells: Row) -> str:
    return " & ".join(map(inline, cells)) + r" \\[2pt]"


def inline(text: str) -> str:
    """Return a cell's or a sentence's simple Markdown as LaTeX: `code`, **bold** and *slanted*."""
    parts = re.split(r"(`[^`]*`|\*\*[^*]+\*\*|\*[^*]+\*)", text)
    return "".join(map(_marked, parts))


def _marked(part: str) -> str:
    if len(part) > 1 and part.startswith("`"):
        return rf"\texttt{{{_breakable(latex(part[1:-1]))}}}"
    if len(part) > 4 and part.startswith("**"):
        return rf"\textbf{{{latex(part[2:-2])}}}"
    if len(part) > 2 and part.startswith("*"):
        return rf"\emph{{{latex(part[1:-1])}}}"
    return latex(part)


def _breakable(code: str) -> str:
    """Let a line break behind the dots and the bars of a path."""
    return code.replace(".", r".\allowbreak{}").replace(r"\_", r"\_\allowbreak{}").replace("/", r"/\allowbreak{}")


def latex(text: str) -> str:
    """Return any text so that LaTeX sets it as it is, and so that none of it is a command."""
    composed = unicodedata.normalize("NFC", re.sub(r"\s+", " ", text))
    return "".join(ESCAPED.get(character) or _typeset(character) for character in composed)


def _typeset(character: str) -> str:
    return character if CHARACTERS.fullmatch(character) else f"[U+{ord(character):04X}]"
