"""The report of another subject: nothing in it is of letters, pictures or networks that read them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import FakeStore, ablation, arm, plan, record, study

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.analysis.summarise import summarise
from stn_bench.report import figures
from stn_bench.report.build import FORMATS, build_report
from stn_bench.report.frames import COLUMNS, runs_table
from stn_bench.study.plan import Plan, make_plan
from stn_bench.study.spec import Range
from stn_bench.subject import Subject, find_subject
from stn_bench.tracking.results import gather

NOWHERE = Path("nowhere")
DEEP, BARE = arm("deep", {"depth": 4}), arm("bare", {"gate": "none"}, match="flops")
VALUES = {"base": (0.50, 0.55, 0.60), "deep": (0.80, 0.825, 0.85), "bare": (0.50, 0.5525, 0.6025)}


def toy(**rest: Any) -> Plan:
    return plan(ablation(DEEP, BARE), subject="toy", **rest)


def analysed(planned: Plan) -> Analysis:
    runs = [
        record(spec, f"{one.name}-{spec.seed}", test_score=value, test_loss=1 - value).model_copy(
            update={"history": {"validation.score": (value / 2, value)}, "subject": planned.subject.name}
        )
        for one in planned.arms
        for spec, value in zip(one.verdict_specs({}), VALUES[one.name], strict=True)
    ]
    return analyse(gather(planned, FakeStore(*runs), NOWHERE))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    np.savez(tmp_path / "skill.npz", skill=np.array(0.7))
    return build_report(analysed(toy()), lambda run_id, path: tmp_path / path, tuple(FORMATS))


def test_the_page_speaks_of_what_the_subject_is_tested_on(files: dict[str, bytes]) -> None:
    page = files["report.md"].decode()
    assert "FLOPs an example" in page
    assert "Metric: `test.score`, fraction of test examples that the skill exceeds (maximize)." in page
    assert "Every arm alike: no tuning, 3 epochs, 40 examples." in page
    assert "with `depth` = 4 (`deep`) the model gains 27.50 points" in page
    for name, text in files.items():
        if not name.endswith(".png"):
            words = text.decode().replace("published_pictures", "")  # what study files call it
            assert not re.search(r"picture|letter|transformer", words, re.IGNORECASE), name


def test_a_user_s_page_links_to_no_guide_that_its_root_has_not(files: dict[str, bytes]) -> None:
    assert "[docs/statistics.md](../../docs/statistics.md) of" in files["report.md"].decode()
    own = dataclasses.replace(find_subject("toy"), name="mine:subject", figures=None)
    planned = make_plan(study(subject="mine:subject"), (ablation(DEEP, BARE),), own)
    page = build_report(analysed(planned), lambda *_: NOWHERE)["report.md"].decode()
    assert "](../" not in page
    assert "docs/statistics.md of stn-bench explains every column" in page


def test_what_somebody_s_own_subject_returned_besides_is_on_its_page(files: dict[str, bytes]) -> None:
    assert b"Other metrics" not in files["report.md"], "a shipped subject's page keeps to its question"
    own = dataclasses.replace(find_subject("toy"), name="mine:subject", figures=None)
    planned = make_plan(study(subject="mine:subject"), (ablation(DEEP, BARE),), own)
    made = build_report(analysed(planned), lambda *_: NOWHERE)
    (loss,) = json.loads(made["report.json"])["ablations"][0]["others"]
    assert loss["name"] == "test.loss"
    assert loss["means"] == pytest.approx({name: 1 - np.mean(values) for name, values in VALUES.items()})
    assert loss["sds"] == pytest.approx({name: np.std(values, ddof=1) for name, values in VALUES.items()})
    page = made["report.md"].decode()
    assert re.search(r"\| `test.loss` \| 0.4500 ± 0.0500 \| 0.1750 ± 0.0250 +\| 0.4483 ± 0.0513 +\|", page)
    assert "<summary>Other metrics</summary>" in page
    assert "no verdict is about it." in page


def test_of_one_definition_there_is_one(files: dict[str, bytes]) -> None:
    page = files["report.md"].decode()
    assert "- Code that the runs used: 1 definition, SHA-256" in page
    assert "2 cores (1 thread a run)" in page


def test_a_part_that_is_taken_away_has_the_subjects_name_for_it(files: dict[str, bytes]) -> None:
    arms = json.loads(files["report.json"])["ablations"][0]["arms"]
    assert arms[2]["without"] == {"gate": "the gate"}
    assert arms[2]["matched"] == {"depth": 4}


def test_the_subjects_own_figures_stand_behind_the_others(files: dict[str, bytes]) -> None:
    drawn = [path for path in files if path.startswith("figures/")]
    assert drawn == [f"figures/{name}.png" for name in ("verdicts", *(f"depth_{name}" for name in OWN))]


OWN = ("differences", "curves", "cost", "skill")


def test_a_curve_has_the_name_of_what_is_drawn(files: dict[str, bytes]) -> None:
    page = files["report.md"].decode()
    assert "*Validation score by epoch: the mean over the seeds, and the band from the lowest to the highest*" in page


def test_a_curve_stands_at_the_epochs_that_every_seed_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("stn_bench.report.figures.draw_curves", lambda curves, label: drawn.extend(curves) or b"")
    analysis, gap = analysed(toy()), np.nan
    told = {1: (gap, 0.2, gap, 0.4, 0.5), 2: (0.1, 0.3, gap, 0.5), 3: (gap, 0.4, gap, 0.6)}
    arms = {"base": analysis.results.of(analysis.plan.questions[0].base)}
    runs = {
        seed: run.model_copy(update={"history": {"validation.score": told[seed]}})
        for seed, run in arms["base"].runs.items()
    }
    arms["base"] = dataclasses.replace(arms["base"], runs=runs)
    (_,) = figures._curves(arms, analysis.plan.subject.curve)
    (curve,) = drawn
    assert list(curve.epochs) == [2, 4]
    assert list(curve.mean) == pytest.approx([30.0, 50.0])
    assert list(curve.low) == pytest.approx([20.0, 40.0])


def test_of_a_loss_less_is_better(tmp_path: Path) -> None:
    summary = summarise(analysed(toy(metric="test.loss")))
    deep = summary.ablations[0].arms[1]
    assert (summary.direction, summary.scale, deep.verdict, deep.wins) == ("minimize", "number", "better", 3)
    assert deep.error_ratio is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_another_metric_that_is_no_finite_number_is_a_dash(value: float) -> None:
    own = dataclasses.replace(find_subject("toy"), name="mine:subject", figures=None)
    planned = make_plan(study(subject="mine:subject"), (ablation(DEEP, BARE),), own)
    analysis = analysed(planned)
    run = analysis.results.of(planned.questions[0].base).runs[1]
    run.metrics.update({"test.loss": value, "cost.flops": value, "cost.seconds": value})
    made = build_report(analysis, lambda *_: NOWHERE)
    (loss,) = json.loads(made["report.json"], parse_constant=pytest.fail)["ablations"][0]["others"]
    assert loss["means"]["base"] is loss["sds"]["base"] is None
    assert loss["means"]["deep"] == pytest.approx(1 - np.mean(VALUES["deep"]))
    (line,) = (line for line in made["report.md"].decode().splitlines() if line.startswith("| `test.loss`"))
    assert line.split("|")[2].strip() == "–"
    assert not re.search(r"\b(nan|inf)\b", made["report.md"].decode())


# Tuning ------------------------------------------------------------------------------------------------------------


def tuned(subject: Subject, *outcomes: float | None) -> tuple[float | None, ...]:
    """Return the expected best of the base's trials; None diverged."""
    asked = study(ablations=("depth",), subject="toy")
    tuning = asked.tuning.model_copy(update={"trials": len(outcomes), "search": {"rate": Range(low=0.01, high=1)}})
    planned = make_plan(asked.model_copy(update={"tuning": tuning}), (ablation(DEEP),), subject)
    metric, base = subject.tuning[0].name, planned.questions[0].base
    trials = [
        record(spec, f"t{spec.trial}", outcome="finished" if value is not None else "diverged").model_copy(
            update={"subject": "toy", "metrics": {} if value is None else {metric: value}}
        )
        for spec, value in zip(base.tuning_specs(), outcomes, strict=True)
    ]
    found = analyse(gather(planned, FakeStore(*trials), NOWHERE))
    return summarise(found).ablations[0].expected_best.get("base", ())


def looking_at(metric: str, **change: Any) -> Subject:
    subject = find_subject("toy")
    metrics = tuple(dataclasses.replace(one, **change) if one.name == metric else one for one in subject.metrics)
    return dataclasses.replace(subject, metrics=metrics, tune_on=(metric,))


def test_the_expected_best_is_the_largest_of_what_is_maximised() -> None:
    assert tuned(looking_at("last.validation.score"), 0.2, 0.6) == pytest.approx((0.4, 0.6))


def test_the_expected_best_is_the_smallest_of_what_is_minimised() -> None:
    assert tuned(looking_at("last.train.loss"), 2.0, 6.0) == pytest.approx((4.0, 2.0))


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (looking_at("last.validation.score"), (0.3, 0.6)),  # a diverged trial got nothing right
        (looking_at("last.validation.score", direction="minimize"), (0.8, 0.6)),  # or everything wrong
        (looking_at("last.train.loss"), (0.6, 0.6)),  # or is as bad as the worst of the others
    ],
)
def test_a_trial_that_diverged_is_the_worst(subject: Subject, expected: tuple[float, ...]) -> None:
    assert tuned(subject, 0.6, None) == pytest.approx(expected)


def test_where_every_trial_diverged_nothing_is_expected_of_a_loss() -> None:
    assert tuned(looking_at("last.train.loss"), None, None) == ()


# The table of runs -------------------------------------------------------------------------------------------------


def columns(analysis: Analysis) -> list[str]:
    return [str(name) for name in runs_table(analysis.results).columns][len(COLUMNS) :]


def test_the_table_of_runs_has_the_subjects_settings_and_metrics_and_the_costs() -> None:
    found, subject = columns(analysed(toy())), find_subject("toy")
    declared = [metric.name for metric in subject.metrics]
    paths = [f"settings.{path}" if path in declared else path for path in subject.paths]
    assert "settings.epochs" in paths  # beside the metric `epochs`
    assert found[: len(paths)] == paths
    assert found[len(subject.paths) :][: len(declared)] == declared
    assert found[-1] == "cost.peak_memory_mb"


def test_settings_that_only_old_records_have_stand_behind_the_others() -> None:
    analysis = analysed(toy())
    first = analysis.results.arms[0].runs[1]
    first.settings["momentum"] = 0.9
    paths = find_subject("toy").paths
    assert columns(analysis)[len(paths) - 1 : len(paths) + 1] == [paths[-1], "momentum"]


def test_of_a_subject_that_declares_no_metric_all_that_were_seen_are_listed() -> None:
    subject = dataclasses.replace(find_subject("toy"), metrics=(), tune_on=())
    planned = make_plan(
        study(subject="toy", metric="test.score", direction="maximize"), (ablation(DEEP, BARE),), subject
    )
    analysis = analysed(planned)
    found = columns(analysis)[len(subject.paths) :]
    assert found == sorted(found)
    assert {"test.loss", "test.score"} <= set(found)
    assert "test.score" in build_report(analysis, lambda *_: NOWHERE, ("latex", "csv"))["verdicts.csv"].decode()
