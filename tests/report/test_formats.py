"""The report as HTML, LaTeX and CSV: one page, whatever names it is made of, and files that are what they claim."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import string
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from commands import call
from hypothesis import given
from hypothesis import strategies as st
from makers import FakeStore, ablation, arm, make_root, plan, record
from stores import open_store, train

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.analysis.summarise import summarise
from stn_bench.analysis.summary import Summary
from stn_bench.report.build import (
    FORMATS,
    Artifact,
    build_report,
    kept_formats,
    present_formats,
    read_formats,
    stale_files,
    write_report,
)
from stn_bench.report.html import render_html
from stn_bench.report.latex import ESCAPED, inline, latex
from stn_bench.report.page import plain
from stn_bench.study.load import load_plan
from stn_bench.subjects.stn.files import PREDICTIONS
from stn_bench.system.errors import ReportError
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.results import gather

NASTY = (
    "Is <script>alert(1)</script> & \"x\" 'y' $z_1$ 100 % #1 {b} \\input{x} ~^ | `code` "
    "![p](http://evil.example/p.png) [l](http://evil.example) ünï 漢字 😀?"
)
Report = Callable[..., tuple[int, str, str]]
VALUES = {"base": (0.90, 0.92, 0.94), "wide": (0.95, 0.96, 0.97), "nasty": (0.1, 0.2, 0.4)}


def results() -> Analysis:
    arms = (
        arm("wide", {"model.width": 2.0}, published={"accuracy": 0.99}),
        arm("nasty", {"model.dropout": 0.1, "model.width": 0.5}, together=NASTY),
    )
    asked = ablation(*arms, source=NASTY).model_copy(update={"title": NASTY, "question": NASTY})
    planned = plan(asked, title=NASTY, scope=NASTY)
    runs = [
        record(spec, f"{one.name}-{spec.seed}", test_accuracy=value)
        for one in planned.arms
        for spec, value in zip(one.verdict_specs({}), VALUES[one.name], strict=True)
    ]
    return analyse(gather(planned, FakeStore(*runs), Path("nowhere")))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("artifacts")

    def fetch(run_id: str, path: str) -> Path:
        pictures = np.zeros((2, 8, 8, 3), np.uint8)
        kept = {"labels": np.arange(50), "predicted": np.arange(50)} if path == PREDICTIONS else {}
        np.savez(folder / path, originals=pictures, rectified=pictures, letters=np.array(["A", "B"]), **kept)
        return folder / path

    return fetch


@pytest.fixture(scope="module")
def files(artifact: Artifact) -> dict[str, bytes]:
    return build_report(results(), artifact, tuple(FORMATS))


class Page(HTMLParser):
    """What a page asks for, what it links to, what can be linked to, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.anchors: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what leads out of the page."""
        self.tags.append(tag)
        named = dict(attrs)
        self.sources += [value for name, value in attrs if name in ("src", "srcset", "data", "poster") and value]
        self.links += [named["href"] or ""] if "href" in named else []
        self.anchors += [named["id"] or ""] if "id" in named else []
        assert not any(name.startswith("on") for name in named)

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        self.words.append(data)


@pytest.fixture(scope="module")
def page(files: dict[str, bytes]) -> Page:
    return Page(files["report.html"].decode())


# HTML ------------------------------------------------------------------------------------------------------------


def test_html_asks_for_nothing_outside_itself(files: dict[str, bytes], page: Page) -> None:
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(link.startswith("#") for link in page.links)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    style = files["report.html"].decode().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_html_shows_names_as_they_are(page: Page) -> None:
    text = "".join(page.words)
    assert "Is <script>alert(1)</script> & \"x\" 'y' $z_1$ 100 % #1 {b} \\input{x} ~^ |" in text
    assert "![p](http://evil.example/p.png) [l](http://evil.example) ünï 漢字 😀?" in text


def test_html_has_every_figure_of_the_page_in_it(files: dict[str, bytes], page: Page) -> None:
    drawn = {path: content for path, content in files.items() if path.startswith("figures/")}
    inside = [base64.b64decode(source.partition(",")[2]) for source in page.sources]
    assert sorted(inside) == sorted(drawn.values())


def test_links_in_html_lead_to_headings(page: Page) -> None:
    assert page.links
    assert {unquote(link.removeprefix("#")) for link in page.links} <= set(page.anchors)


def test_html_is_for_light_and_dark_screens(files: dict[str, bytes]) -> None:
    assert "prefers-color-scheme: dark" in files["report.html"].decode()


def test_html_marks_the_verdicts(files: dict[str, bytes]) -> None:
    text = files["report.html"].decode()
    assert '<strong><span class="verdict better">Better</span></strong>' in text
    assert '<td><span class="verdict worse">worse</span>' in text


@pytest.mark.parametrize("harmful", ["<b>x</b>", "[x](javascript:alert(1))", "![x](http://evil.example/x.png)"])
def test_what_is_not_the_reports_own_is_not_obeyed(harmful: str) -> None:
    found = Page(render_html(harmful, f"# {harmful}\n\n{harmful}\n", {}))
    assert (found.sources, [link for link in found.links if not link.startswith("#")]) == ([], [])
    assert "b" not in found.tags


@given(st.text(alphabet=string.printable + "é漢", max_size=80))
def test_no_words_of_a_person_become_html(text: str) -> None:
    found = Page(render_html(text, f"# Report\n\nwords {plain(text)}\n", {}))
    assert (found.sources, found.links) == ([], [])
    assert set(found.tags) <= {"html", "head", "meta", "title", "style", "body", "h1", "p", "code", "em", "strong"}


# LaTeX -----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=60))
def test_no_letter_is_a_command_of_latex(text: str) -> None:
    written = latex(text)
    for replacement in sorted(ESCAPED.values(), key=len, reverse=True):
        written = written.replace(replacement, "")
    assert not set(written) & set('\\{}$&#%_^~<>|"')
    assert all(ord(letter) < 0x180 for letter in written)


def test_simple_markdown_becomes_latex() -> None:
    text = "**worse**: `model.a_b` loses 1 % [−2, ≥ 3], *not* `x`"
    assert inline(text) == (
        r"\textbf{worse}: \texttt{model.\allowbreak{}a\_\allowbreak{}b} loses 1 \% [$-$2, $\ge$ 3], "
        r"\emph{not} \texttt{x}"
    )


def test_latex_has_a_booktabs_table_for_each_question(files: dict[str, bytes]) -> None:
    text = files["report.tex"].decode()
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\[2pt]")]
    assert len(rows) == 4
    assert {row.replace(r"\&", "").count("&") for row in rows} == {7}
    assert r"\texttt{wide} & \texttt{model.\allowbreak{}width} = 2 & 3/3 & 96.00 $\pm$ 1.00 & +4.00" in text


def test_a_table_longer_than_a_page_breaks_over_pages() -> None:
    arms = [arm(f"a{index}", {"model.dropout": index / 200 + 0.001}) for index in range(30)]
    planned = plan(ablation(*arms))
    runs = [
        record(spec, f"{one.name}-{spec.seed}", test_accuracy=0.9)
        for one in planned.arms
        for spec in one.verdict_specs({})
    ]
    found = analyse(gather(planned, FakeStore(*runs), Path("nowhere")))
    text = build_report(found, lambda *_: Path("nowhere"), ("latex",))
    assert b"\\begin{longtable}" in text["report.tex"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed here; seen to compile 2026-11")
def test_latex_compiles(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "report.tex").write_bytes(files["report.tex"])
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 1000


# CSV -------------------------------------------------------------------------------------------------------------


def test_csv_has_a_line_for_each_question_and_arm_with_every_number(files: dict[str, bytes]) -> None:
    rows = list(csv.DictReader(io.StringIO(files["verdicts.csv"].decode())))
    assert [(row["study"], row["ablation"], row["name"]) for row in rows] == [
        ("small", "depth", name) for name in ("base", "wide", "nasty")
    ]
    (question,) = Summary.model_validate_json(files["report.json"]).ablations
    for row, one in zip(rows, question.arms, strict=True):
        tree = one.model_dump(mode="json", exclude={"layers"})
        for name, value in tree.items():
            ends = {f"{name}_low": 0, f"{name}_high": 1}
            for column, index in ends.items() if name.endswith("interval") else {name: None}.items():
                written, number = row[column], value if index is None or value is None else value[index]
                if isinstance(number, float):
                    assert float(written) == pytest.approx(number)
                elif number is None or number == [] or number == {}:
                    assert written == ""
                elif isinstance(number, dict):
                    assert json.loads(written) == number
                elif isinstance(number, str | int):
                    assert written == str(number)


# The files -------------------------------------------------------------------------------------------------------


def test_each_format_alone_is_one_file(artifact: Artifact, files: dict[str, bytes]) -> None:
    for name, file in FORMATS.items():
        alone = build_report(results(), artifact, (name,))
        assert {path: files[path] for path in alone} == alone  # the same bytes, alone or among others
        assert name == "md" or set(alone) == {file}


@pytest.mark.parametrize(
    ("text", "names"), [("md", ("md",)), ("html, md,html", ("html", "md")), ("csv,latex", ("csv", "latex"))]
)
def test_formats_are_read_by_commas(text: str, names: tuple[str, ...]) -> None:
    assert read_formats(text) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "md,htlm",
            "--format: expected some of md, html, latex, tables, csv, pdf, svg, got `htlm`. Did you mean `html`?",
        ),
        (",", "--format: expected some of md, html, latex, tables, csv, pdf, svg, got `,`."),
    ],
)
def test_an_unknown_format_is_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(ReportError, match=re.escape(message)):
        read_formats(text)


def test_a_format_alone_leaves_the_page_and_its_figures(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_report(tmp_path, files)
    write_report(tmp_path, {"report.html": b"new"})
    assert stale_files(tmp_path, files) == ["report.html"]
    assert stale_files(tmp_path, {"report.html": b"new"}) == []


def test_formats_that_lie_there_are_kept_up_to_date(tmp_path: Path, files: dict[str, bytes]) -> None:
    assert (present_formats(tmp_path), kept_formats(tmp_path)) == ((), ("md",))
    write_report(tmp_path, {"report.html": files["report.html"]})
    assert (present_formats(tmp_path), kept_formats(tmp_path)) == (("html",), ("md", "html"))


def test_figures_are_files_for_a_paper_and_the_same_each_time(
    tmp_path: Path, files: dict[str, bytes], artifact: Artifact
) -> None:
    printed = build_report(results(), artifact, ("pdf", "svg"))
    drawn = [path.removesuffix(".png") for path in files if path.endswith(".png")]
    assert set(printed) == {f"{path}.{ending}" for path in drawn for ending in ("pdf", "svg")}
    for path, content in printed.items():
        assert content.startswith(b"%PDF" if path.endswith("pdf") else b"<?xml"), path
    again = build_report(results(), artifact, ("svg", "md"))
    assert {path: again[path] for path in printed if path.endswith("svg")}.items() <= printed.items()
    assert {path: content for path, content in again.items() if path in files} == (
        {path: files[path] for path in again if path in files}
    )
    write_report(tmp_path, printed)
    assert present_formats(tmp_path) == ("pdf", "svg")
    write_report(tmp_path, {"figures/verdicts.pdf": b"new"})
    assert [path.name for path in tmp_path.rglob("*.pdf")] == ["verdicts.pdf"]
    assert len(list(tmp_path.rglob("*.svg"))) == len(drawn)


# The command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root whose study is finished, with hand-made runs."""
    folder = make_root(tmp_path_factory.mktemp("root"))
    workspace = Workspace.at(folder)
    train(load_plan("small", workspace), open_store(folder / "mlruns"))
    return folder


@pytest.fixture
def report(root: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    """Return what runs `stn-bench report small` and returns its exit code, its output and its error."""

    def run(*options: str) -> tuple[int, str, str]:
        code = call("report", "small", "--root", root, *options)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_command_writes_what_is_asked_and_keeps_it(report: Report, root: Path) -> None:
    folder = root / "reports/small"
    assert report("--format", "html,latex,csv")[0] == 0
    assert {path.name for path in folder.iterdir()} == {"report.html", "report.tex", "verdicts.csv"}
    assert report("--check")[0] == 0  # of what lies there, nothing is stale
    assert report()[0] == 0
    assert {"report.md", "report.json", "runs.csv", "figures"} <= {path.name for path in folder.iterdir()}
    (folder / "verdicts.csv").write_text("edited")
    code, said, _ = report("--check")
    assert (code, said.strip().endswith("is stale: verdicts.csv")) == (1, True)
    assert report("--check", "--format", "md")[0] == 0


def test_the_command_refuses_an_unknown_format(report: Report) -> None:
    code, said, error = report("--format", "docx")
    assert (code, said, len(error.splitlines())) == (2, "", 1)
    assert "--format: expected some of md, html, latex, tables, csv, pdf, svg, got `docx`." in error


def test_the_summary_of_nasty_names_can_be_read_back() -> None:
    summary = summarise(results())
    assert Summary.model_validate_json(summary.model_dump_json()) == summary
