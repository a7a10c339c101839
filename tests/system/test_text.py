"""Text that others wrote, as Markdown, and on streams that cannot hold it."""

from __future__ import annotations

import html
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stn_bench.system.text import first_line, in_code, in_markdown, spell_out

WORDS = st.text(st.sampled_from("ab `*_[](){}<>#+-.!|~&\\=:;1\n$'\"/"), max_size=30)


def shown(markdown: str) -> str:
    """Return the text that a reader sees of a paragraph; anything but a paragraph fails."""
    page = MarkdownIt("gfm-like", {"linkify": False}).render(f"x {markdown} x")
    found = re.fullmatch(r"<p>x (.*) x</p>\n", page, re.DOTALL)
    assert found, page
    return found[1]


@given(WORDS)
def test_text_in_markdown_is_shown_as_it_is(text: str) -> None:
    line = " ".join(text.split())
    if line:
        assert html.unescape(shown(in_markdown(text))) == line


@given(WORDS)
def test_code_in_markdown_is_shown_as_it_is(text: str) -> None:
    line = " ".join(text.split())
    if line:
        assert html.unescape(shown(in_code(text))) == f"<code>{line}</code>"


def test_a_question_brings_no_heading_link_picture_or_tag() -> None:
    page = MarkdownIt("gfm-like", {"linkify": False}).render(
        in_markdown("# Is [this](https://x.example) ![p](y) <script>alert(1)</script> a\n\n- list?")
    )
    assert not re.search(r"<(?!/?p>)", page)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", rb"a -> b: -1 +- 2, 3 x 4 ... \xe9"),
        ("latin-1", b"a -> b: -1 \xb1 2, 3 \xd7 4 ... \xe9"),
        ("cp1252", b"a -> b: -1 \xb1 2, 3 \xd7 4 \x85 \xe9"),
        ("utf-8", "a → b: −1 ± 2, 3 × 4 … é".encode()),
    ],
)
def test_a_stream_spells_what_it_cannot_hold(encoding: str, expected: bytes) -> None:
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding=encoding, errors="strict")
    spell_out(stream, None)
    stream.write("a → b: −1 ± 2, 3 × 4 … é")
    stream.flush()
    assert content.getvalue() == expected


def test_the_name_of_a_file_that_is_no_text_can_be_told() -> None:
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding="utf-8")
    spell_out(stream)
    stream.write(b"caf\xe9".decode("utf-8", "surrogateescape"))
    stream.flush()
    assert content.getvalue() == rb"caf\udce9"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("ValueError: no room", "ValueError: no room"),
        ("ValueError: no room\n  in here", "ValueError: no room"),
        ("ValueError: \n\n  no room \nin here", "ValueError: no room"),
        ("jax.errors.Shape:\nno room", "jax.errors.Shape: no room"),
        ("ValueError: \n", "ValueError"),
        ("ValueError", "ValueError"),
        ("\n\nits process died: exit code 1", "its process died: exit code 1"),
        ("file:///a: is away", "file:///a: is away"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_the_first_line_of_an_error_is_one_that_says_something(error: str, line: str) -> None:
    assert first_line(error) == line
