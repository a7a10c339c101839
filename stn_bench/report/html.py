"""The report as one HTML file that asks nothing of any other: the door to markdown-it, which reads the page."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from stn_bench.analysis.summary import Summary
from stn_bench.figure import Figure
from stn_bench.report.figures import path_of
from stn_bench.report.page import render_short, templates
from stn_bench.report.sentences import WORDS
from stn_bench.report.tables import anchor

FOLD = re.compile(r"<details>\n<summary>[^<>&]*</summary>\n*|</details>\n*")
"""What the page folds a part with."""

NUMBER = re.compile(r"<td>(?=[+−≥≤&\d–][^<]{0,30}</td>)")
VERDICT = re.compile(rf"(<td[^>]*>|<strong>)({'|'.join(WORDS)})\b", re.IGNORECASE)


def render_html(title: str, page: str, figures: Mapping[str, bytes]) -> str:
    """Return `report.html`: the page with its figures in it, for light and dark screens.

    Of raw HTML in the page only what folds a part is obeyed, the rest is shown. An image that is not one of `figures`
    is left out, and of a link that leads out of the page the words alone are kept.

    Args:
        title: title of the window.
        page: the page as Markdown.
        figures: path as the page names it -> PNG bytes.
    """
    return templates().get_template("report.html.j2").render(title=title, body=render_body(page, figures))


def render_short_html(summary: Summary, figure: Figure | None = None) -> str:
    """Return what a notebook shows of a summary: what came of each question and its table, and a figure above."""
    shown = {path_of(figure): figure.png} if figure else {}
    return render_body(render_short(summary, figure), shown)


def render_body(page: str, figures: Mapping[str, bytes] = MappingProxyType({})) -> str:
    """Return a page as HTML without a frame, such as a notebook shows; arguments as for `render_html`."""
    markdown = MarkdownIt("commonmark", renderer_cls=_Renderer).enable("table")
    body = markdown.render(page, {"figures": figures})
    body = VERDICT.sub(lambda found: f'{found[1]}<span class="verdict {found[2].lower()}">{found[2]}</span>', body)
    return NUMBER.sub('<td class="number">', body)


class _Renderer(RendererHTML):
    """Markdown-it's renderer, with figures inside, anchors at the headings, and nothing that leads elsewhere."""

    def heading_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        tokens[index].attrSet("id", anchor(_text(tokens[index + 1])))
        return self.renderToken(tokens, index, options, env)

    def html_block(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        content = tokens[index].content
        return content if FOLD.fullmatch(content) else f"<p>{escapeHtml(content)}</p>\n"

    def html_inline(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return escapeHtml(tokens[index].content)

    def table_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return '<div class="wide"><table>\n'

    def table_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return "</table></div>\n"

    def link_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        target = str(tokens[index].attrGet("href") or "")
        return self.renderToken(tokens, index, options, env) if target.startswith("#") else "<span>"

    def link_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        opened = next(token for token in reversed(tokens[:index]) if token.type == "link_open")
        return "</a>" if str(opened.attrGet("href") or "").startswith("#") else "</span>"

    def image(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        png = env["figures"].get(str(token.attrGet("src")))
        if png is None:
            return ""
        token.attrSet("src", f"data:image/png;base64,{base64.b64encode(png).decode()}")
        token.attrSet("alt", _text(token))  # markdown-it before 4 leaves out what is set as code
        return self.renderToken(tokens, index, options, env)


def _text(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [])
