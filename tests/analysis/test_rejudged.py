"""Words that were published under other rules: told where they are others now, with today's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from makers import FakeStore, ablation, arm, plan, record

from stn_bench.analysis.analyse import analyse
from stn_bench.analysis.summarise import summarise
from stn_bench.analysis.summary import Summary
from stn_bench.report.page import methods, render_page
from stn_bench.study.plan import Plan
from stn_bench.study.spec import Published
from stn_bench.tracking.results import gather

BASE = (0.90, 0.92, 0.94)
OPEN = (0.95, 0.93, 0.99)
CLEAR = (0.990, 0.991, 0.992)


def planned(ended: str, words: dict[str, str], **study: object) -> Plan:
    published = Published(until="2026-11-26", ended=ended, rule="another rule", words=words)
    arms = (arm("wide", {"model.width": 2.0}), arm("narrow", {"model.width": 0.5}))
    return plan(ablation(*arms), published=published, **study)  # type: ignore[arg-type]


def judged(study: Plan, base: tuple[float, ...] = BASE) -> Summary:
    values = {"base": base, "wide": OPEN, "narrow": tuple(value - 0.3 for value in base)}
    runs = [
        record(spec, f"{one.label}-{spec.seed}", test_accuracy=value)
        for one in study.arms
        for spec, value in zip(one.verdict_specs({}), values[one.name], strict=False)
    ]
    return summarise(analyse(gather(study, FakeStore(*runs), Path("nowhere"))))


WORDS = {"depth/wide": "better", "depth/narrow": "worse"}


def test_words_that_are_others_now_are_told_with_the_numbers_of_today() -> None:
    ended = judged(planned("never", WORDS)).provenance.ended
    found = judged(planned(ended, WORDS))
    assert found.rejudged is not None
    assert found.rejudged.count == 2
    (changed,) = found.rejudged.changed
    assert (changed.label, changed.was, changed.now) == ("depth/wide", "better", "undecided")
    wide = found.ablations[0].arm("wide")
    assert wide.p_adjusted is not None
    assert changed.why.endswith(f"adjusted {wide.p_adjusted:.3f}")
    page = render_page(found, {})
    assert "Until 2026-11-26 the words followed another rule. Judged anew from the same runs, 1 of 2 words" in page
    assert "- `depth/wide`: better → **undecided**; by its own scatter" in page


def test_of_other_runs_nothing_is_said() -> None:
    found = judged(planned("2020-01-01T00:00:00+00:00", WORDS))
    assert found.rejudged is None
    assert "Words that changed" not in render_page(found, {})


def test_published_words_are_no_part_of_the_plan() -> None:
    assert planned("never", WORDS).digest == planned("2026", {"depth/wide": "worse"}).digest


@pytest.mark.parametrize(("looks", "level"), [((), "5 % for 2 arms"), ((3, 5), "2.76 % for 2 arms")])
def test_the_sentence_to_paste_has_the_numbers_of_the_study(looks: tuple[int, ...], level: str) -> None:
    said = methods(judged(planned("never", WORDS, seeds=(1, 2, 3, 4, 5) if looks else (1, 2, 3), looks=looks)))
    assert level in said
    assert ("at looks planned after 3 and 5 of them" in said) == bool(looks)
    assert "Kropf and Läuter 2002" in said
    classic = methods(judged(planned("never", WORDS, correction="holm")))
    assert "Holm's method, for the arms" in classic
    assert "Kropf" not in classic
