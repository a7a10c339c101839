"""Python's door to results that exist: a DataFrame in, verdicts out, the same that the command line gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from makers import FakeStore, ablation, arm, plan, record
from scipy import stats

import stn_bench
from stn_bench.analysis.analyse import analyse
from stn_bench.analysis.summarise import summarise
from stn_bench.report.frames import runs_table, to_csv
from stn_bench.report.judging import Judged, Request, judge
from stn_bench.study.metrics import step_of
from stn_bench.study.plan import Plan
from stn_bench.system.errors import DataError, ReportError
from stn_bench.tracking.columns import Columns
from stn_bench.tracking.results import gather
from stn_bench.tracking.table import read_file

VALUES = {
    "baseline": (0.912, 0.905, 0.918, 0.909, 0.914, 0.911, 0.907),
    "mixup": (0.926, 0.921, 0.929, 0.924, 0.931, 0.922, 0.925),
    "ResNet-50 (ours)": (0.913, 0.906, 0.917, 0.910, 0.913, 0.912, 0.905),
}


def frame(values: dict[str, tuple[float, ...]] = VALUES, metric: str = "acc") -> pd.DataFrame:
    rows = [(name, seed, value) for name, series in values.items() for seed, value in enumerate(series)]
    return pd.DataFrame(rows, columns=["method", "seed", metric])


def row(found: Judged, name: str) -> Any:
    return found.verdicts.set_index("name").loc[name]


# Oracles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixup", "ResNet-50 (ours)"])
def test_difference_interval_and_p_are_those_of_the_paired_t_test(name: str) -> None:
    expected = stats.ttest_rel(VALUES[name], VALUES["baseline"])
    found, interval = row(stn_bench.judge(frame()), name), expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.interval_low, found.interval_high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(np.mean(VALUES[name]) - np.mean(VALUES["baseline"]))


def test_holm_doubles_the_smaller_of_two_ps_and_leaves_the_larger() -> None:
    smaller, larger = (
        stats.ttest_rel(VALUES[name], VALUES["baseline"]).pvalue for name in ("mixup", "ResNet-50 (ours)")
    )
    assert smaller < larger
    found = stn_bench.judge(frame())
    assert row(found, "mixup").holm_p == pytest.approx(2 * smaller)
    assert row(found, "ResNet-50 (ours)").holm_p == pytest.approx(larger)


def test_the_words_follow_from_these_numbers() -> None:
    found = stn_bench.judge(frame())
    assert row(found, "mixup").verdict == "better"
    assert row(found, "ResNet-50 (ours)").verdict == "equivalent"
    less = stn_bench.judge(frame(metric="loss"), direction="minimize")
    assert row(less, "mixup").verdict == "worse"
    assert row(stn_bench.judge(frame(), margin=0.0001), "ResNet-50 (ours)").verdict == "undecided"


@pytest.mark.parametrize("resolution", [None, 0.01])
def test_one_error_more_on_each_of_three_seeds_is_no_certainty(resolution: float | None) -> None:
    rows = [(name, seed, value) for name, value in (("baseline", 1.0), ("ours", 0.99)) for seed in (1, 2, 3)]
    table = pd.DataFrame(rows, columns=["method", "seed", "acc"])
    ours = row(stn_bench.judge(table, resolution=resolution), "ours")
    assert ours.verdict == "undecided"
    assert ours.p != 0


# The same as of a study ----------------------------------------------------------------------------------------------


def studied(seeds: int, looks: tuple[int, ...], shift: float) -> Plan:
    return plan(
        ablation(arm("deep", {"depth": 4}), arm("bare", {"gate": "none"}), arm("fast", {"rate": 0.1})),
        subject="toy",
        seeds=tuple(range(1, seeds + 1)),
        looks=looks,
        margin=0.02,
    )


@pytest.mark.parametrize(("seeds", "looks"), [(3, ()), (5, ()), (8, (3, 5, 8)), (6, (4, 6))])
@pytest.mark.parametrize("shift", [0.0, 0.01, 0.1])
def test_the_runs_of_a_study_have_the_verdicts_that_the_study_has(
    seeds: int, looks: tuple[int, ...], shift: float, tmp_path: Path
) -> None:
    planned, generator = studied(seeds, looks, shift), np.random.default_rng([seeds, int(100 * shift)])
    shifts = dict(zip((one.name for one in planned.arms), (0, shift, -shift, 0.0), strict=True))
    runs = [
        record(spec, f"{one.name}-{spec.seed}", test_score=0.6 + shifts[one.name] + 0.02 * generator.normal())
        for one in planned.arms
        for spec in one.verdict_specs({})
    ]
    results = gather(planned, FakeStore(*(one.model_copy(update={"subject": "toy"}) for one in runs)), tmp_path)
    ours = summarise(analyse(results)).ablations[0].arms
    (tmp_path / "runs.csv").write_text(to_csv(runs_table(results)))
    step = step_of(planned.metric, planned.arms[0].config)
    asked = Request(margin=(0.02,), looks=looks, resolution=step)
    again = judge(read_file(tmp_path / "runs.csv"), Columns("arm", "seed", ("test.score",), "base"), asked)
    for one, other in zip(ours, again.summary.ablations[0].arms, strict=True):
        assert (one.name, one.verdict, one.look, one.stopped) == (
            other.name,
            other.verdict,
            other.look,
            other.stopped,
        )
        told, read = (
            [value if value is not None else -1.0 for value in (x.mean, x.sd, x.difference, x.p, x.p_adjusted)]
            for x in (one, other)
        )
        assert read == pytest.approx(told, rel=1e-6, abs=1e-9)  # runs.csv has ten digits


# What comes back -----------------------------------------------------------------------------------------------------


def test_what_comes_back_has_all_that_a_notebook_asks_for() -> None:
    found = stn_bench.judge(frame(), arm="method", seed="seed", metric="acc", base="baseline")
    assert list(found.runs["given.arm"].unique()) == list(VALUES)
    assert found.runs["acc"].tolist() == [value for series in VALUES.values() for value in series]
    assert found.summary.metric == "acc"
    assert list(found.figures()) == ["verdicts", "method_differences"]
    markdown, html = found._repr_markdown_(), found._repr_html_()
    assert "| `ResNet-50 (ours)` |" in markdown
    assert "Nothing shows how these runs were made" in markdown
    assert '<span class="verdict better">better</span>' in html
    assert "<html" not in html


def test_a_wide_frame_and_one_from_groupby_are_understood() -> None:
    long = frame()
    expected = row(stn_bench.judge(long), "mixup").p
    wide = long.pivot_table(index="seed", columns="method", values="acc")
    assert row(stn_bench.judge(wide, base="baseline"), "mixup").p == expected
    grouped = long.groupby(["method", "seed"]).mean()
    assert row(stn_bench.judge(grouped), "mixup").p == expected


def test_a_csv_says_what_its_frame_says(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "results.csv", index=False)
    expected = stn_bench.judge(frame()).verdicts
    found = stn_bench.judge(tmp_path / "results.csv").verdicts
    same = [name for name in expected.columns if name not in ("study", "run_ids")]
    pd.testing.assert_frame_equal(found[same], expected[same])


def test_several_metrics_are_judged_one_by_one(tmp_path: Path) -> None:
    both = frame().assign(loss=lambda one: 1 - one.acc)
    found = stn_bench.judge(both, metric=["acc", "loss"], direction=["maximize", "minimize"], margin=[0.005, 0.01])
    assert found.verdicts.metric.tolist() == ["acc"] * 3 + ["loss"] * 3
    assert [summary.margin for summary in found.summaries] == [0.005, 0.01]
    assert found.verdicts.verdict.tolist() == [None, "better", "equivalent"] * 2
    named = stn_bench.judge(both, metric=["acc", "loss"], direction={"loss": "minimize"}, margin={"loss": 0.01})
    assert named.verdicts.drop(columns="study").equals(found.verdicts.drop(columns="study"))
    with pytest.raises(DataError, match=r'say it of each: direction=\{"acc": "maximize", "loss"'):
        stn_bench.judge(both, metric=["acc", "loss"], direction="minimize")
    assert [one.name for one in found.write(tmp_path)] == ["acc", "loss"]
    assert (tmp_path / "loss/report.md").is_file()


def test_a_report_never_takes_the_place_of_somebodys_figures(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/mine.png").write_bytes(b"mine")
    with pytest.raises(ReportError, match="figures that are no report's"):
        stn_bench.judge(frame()).write(tmp_path)
    assert (tmp_path / "figures/mine.png").read_bytes() == b"mine"


def test_an_index_that_is_called_as_a_column_is_refused() -> None:
    frame = pd.DataFrame({"method": ["base", "new"] * 3, "seed": [1, 1, 2, 2, 3, 3], "acc": [0.5, 0.6] * 3})
    for given in (frame.set_index("seed").assign(seed=1), frame.set_index(["seed", frame["seed"]])):
        with pytest.raises(DataError, match=r"the DataFrame: `seed` is a level of its index, and a column or another"):
            stn_bench.judge(given)
    by_arm = frame.astype({"method": "category"}).pivot(index="seed", columns="method", values="acc")
    assert stn_bench.judge(by_arm).columns.wide


def test_a_frame_that_cannot_be_read_is_told_by_its_row() -> None:
    with pytest.raises(DataError, match="row 7: `acc`: expected a number, got `high`"):
        stn_bench.judge(frame().astype({"acc": object}).replace({"acc": {0.926: "high"}}))
    with pytest.raises(DataError, match="is empty"):
        stn_bench.judge(frame().iloc[:0])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"metric": "acuracy"}, "the DataFrame: `metric`: no column `acuracy`. Did you mean `accuracy`?"),
        (
            {},
            'the DataFrame: which column is the metric is not plain; say it with metric="COLUMN"; one of accuracy, ',
        ),
        (
            {"metric": "accuracy"},
            'the DataFrame: which arm is the base is not plain; say it with base="NAME"; one of mixup, mine?',
        ),
        ({"metric": "loss", "base": "mixup"}, 'is less of `loss` better? Say it: direction="minimize", or maximize'),
        (
            {"metric": ["accuracy", "loss"], "base": "mixup"},
            'is less of `loss` better? Say it: direction={"loss": "minimize"}, or maximize',
        ),
        (
            {"metric": ["accuracy", "loss"], "base": "mixup", "direction": "maximize"},
            "`direction`: maximize is said of 2 metrics, and `loss` sounds as if less were better; say it of each: "
            'direction={"accuracy": "maximize", "loss": "minimize"}',
        ),
        ({"metric": "accuracy", "base": "mixup", "margin": -1.0}, "`margin`: expected 0 or more"),
        ({"metric": "accuracy", "base": "mixup", "max_failed": -1}, "`max_failed`: expected 0 or more, got -1"),
        ({"metric": "accuracy", "base": "mixup", "looks": [9]}, "the DataFrame: `looks`: "),
    ],
)
def test_an_error_of_a_call_names_the_arguments_of_the_call(asked: dict[str, Any], told: str) -> None:
    table = frame({"mixup": VALUES["mixup"], "mine": VALUES["baseline"]}, "accuracy").assign(loss=0.5)
    with pytest.raises(DataError) as error:
        stn_bench.judge(table, **asked)
    assert str(error.value).startswith(told)
    assert "--" not in str(error.value)
