"""An arm's label: what the page, the tables and the figures call it, and what decides nothing."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from makers import FakeStore, ablation, arm, make_root, plan, record

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.analysis.summarise import summarise
from stn_bench.analysis.summary import Summary
from stn_bench.report import drawings
from stn_bench.report.build import build_report
from stn_bench.report.frames import verdicts_table
from stn_bench.study.catalogue import Catalogue
from stn_bench.study.plan import Plan
from stn_bench.study.preregistration import terms_of
from stn_bench.study.spec import Ablation, Arm
from stn_bench.system.errors import CatalogueError, ConfigError
from stn_bench.tracking.results import gather

LABEL = "Twice as wide, 100 %"
VALUES = {"base": (0.90, 0.92, 0.94), "wide": (0.95, 0.96, 0.97), "dropped": (0.80, 0.82, 0.81)}


def planned(label: str = LABEL) -> Plan:
    claim = {"says": "Wider is better", "asked": "wide", "arm": "wide"}
    wide = arm("wide", {"model.width": 2.0}, **({"label": label} if label else {}))
    asked = ablation(wide, arm("dropped", {"model.dropout": 0.1}))
    return plan(
        Ablation(**{**asked.tree(), "name": asked.name, "arms": asked.arms, "claims": [claim]}), confirm=(9, 10)
    )


def found(label: str = LABEL) -> Analysis:
    study = planned(label)
    runs = [
        record(spec, f"{one.name}-{spec.phase}-{spec.seed}", test_accuracy=value)
        for one in study.arms
        for specs in (one.verdict_specs({}), one.confirm_specs({}))
        for spec, value in zip(specs, itertools.cycle(VALUES[one.name]), strict=False)
    ]
    return analyse(gather(study, FakeStore(*runs), Path("nowhere")))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the figures write, as it is written."""
    seen: list[str] = []
    for name in ("draw_forest", "draw_curves", "draw_costs"):
        draw = getattr(drawings, name)

        def watch(things: object, *rest: object, draw: object = draw) -> bytes:
            seen.extend(re.findall(r"name='([^']*)'", repr(things)))
            return draw(things, *rest)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(f"stn_bench.report.figures.{name}", watch)
    return seen


def test_it_stands_wherever_the_name_stood(drawn: list[str]) -> None:
    files = build_report(found(), lambda *_: Path("nowhere"), ("md", "latex", "tables"))
    for page in (files["report.md"].decode(), files["report.tex"].decode().replace(r"\%", "%")):
        named = page.replace("`depth/wide`", "").replace(r"asked = \"wide\"", "")
        assert LABEL in page
        assert "`wide`" not in named
        assert r"\texttt{wide}" not in named
    assert f"| `depth/wide` {LABEL} " in files["report.md"].decode()  # which says what files call it
    assert f"{LABEL} was chosen at" in files["report.md"].decode()
    assert "`dropped`" in files["report.md"].decode()
    assert drawn.count(LABEL) == 4
    assert "wide" not in drawn


def test_it_decides_nothing() -> None:
    with_label, without = planned(), planned("")
    assert with_label.digest == without.digest
    assert [one.key for one in with_label.arms] == [one.key for one in without.arms]
    assert terms_of(with_label) == terms_of(without)
    ours, theirs = (
        [(one.verdict, one.interval, one.name) for one in summarise(found(label)).ablations[0].arms]
        for label in (LABEL, "")
    )
    assert ours == theirs


def test_a_summary_without_labels_is_what_it_was() -> None:
    assert '"words"' not in summarise(found("")).model_dump_json()
    assert "words" not in verdicts_table(summarise(found("")))
    labelled = summarise(found())
    assert Summary.model_validate_json(labelled.model_dump_json()) == labelled
    assert list(verdicts_table(labelled)["words"].fillna("")) == ["", LABEL, ""]


@pytest.mark.parametrize("label", ["two\nlines", "a `code`", "*bold*", " spaced ", "x" * 61, 3])
def test_one_that_fits_no_table_is_refused(label: object) -> None:
    with pytest.raises(ConfigError, match="label"):
        Arm("wide", {"model.width": 2.0}, label=label)


@pytest.mark.parametrize("other", [LABEL, "base"])
def test_two_arms_of_a_label_are_refused(other: str) -> None:
    arms = [Arm("wide", {"model.width": 2.0}, label=LABEL), Arm("narrow", {"model.width": 0.5}, label=other)]
    with pytest.raises(ConfigError, match=f"two arms labelled `{other}`; give each its own `label`"):
        Ablation("depth", title="Depth", question="Does depth matter?", arms=arms)


def test_a_file_may_have_it(tmp_path: Path) -> None:
    text = 'title = "A"\nquestion = "B?"\n[arms.wide]\nset = {{ "model.width" = 2.0 }}\nlabel = {}\n'
    root = make_root(tmp_path, ablation=text.format(f'"{LABEL}"'))
    assert Catalogue(root).ablation("depth").arms[0].label == LABEL
    make_root(tmp_path, ablation=text.format("3"))
    with pytest.raises(CatalogueError, match=r"depth\.toml: `arms.wide.label`|depth\.toml: .*label"):
        Catalogue(root).ablation("depth")


def test_tables_alone_are_as_wide_as_what_is_in_them() -> None:
    text = build_report(found(), lambda *_: Path("nowhere"), ("tables",))["tables.tex"].decode()
    assert r"\documentclass" not in text
    assert text.count(r"\begin{table}") == text.count(r"\end{tabular}") == 1
    assert r"\begin{tabular}{@{}llrrrrl@{}}" in text
    assert r"\label{tab:depth}" in text
    assert r"Twice as wide, 100 \% & \texttt{model.\allowbreak{}width} = 2 & 3/3 & 96.00 $\pm$ 1.00 & +4.00" in text


def test_tables_alone_say_by_labels_what_arms_change() -> None:
    asked = ablation(arm("wide", {"model.width": 2.0}, label=LABEL))
    study = plan(asked)
    runs = [
        record(spec, f"{one.name}-{spec.seed}", test_accuracy=value)
        for one in study.arms
        for spec, value in zip(one.verdict_specs({}), VALUES[one.name], strict=True)
    ]
    seen = analyse(gather(study, FakeStore(*runs), Path("nowhere")))
    text = build_report(seen, lambda *_: Path("nowhere"), ("tables",))["tables.tex"].decode()
    assert r"\begin{tabular}{@{}lrrrrl@{}}" in text
    assert "what it changes" not in text
