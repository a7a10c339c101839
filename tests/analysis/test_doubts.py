"""What of a study makes all verdicts doubtful: a margin that is too wide, a direction that its name denies."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from commands import call
from makers import FakeStore, ablation, arm, record, study

from stn_bench.analysis.analyse import analyse, nothing_finished
from stn_bench.analysis.caveats import suspicions
from stn_bench.analysis.doubts import doubts
from stn_bench.analysis.power import powers
from stn_bench.analysis.summarise import summarise
from stn_bench.report.page import render_page
from stn_bench.study.plan import Plan, make_plan
from stn_bench.study.spec import BASE, Range, Tuning
from stn_bench.subject import Metric, find_subject
from stn_bench.system.errors import CatalogueError
from stn_bench.system.sounds import sounds
from stn_bench.tracking.results import Results, gather

TOY = find_subject("toy")
FREE = dataclasses.replace(TOY, metrics=(), tune_on=())


def toy(subject: Any = TOY, **rest: Any) -> Plan:
    return make_plan(study(subject=subject.name, **rest), (ablation(arm("none", {"gate": "none"})),), subject)


def finished(plan: Plan, base: tuple[float, ...], ours: tuple[float, ...]) -> Results:
    """Return results with these values of the plan's metric, by seed."""
    made = [
        record(spec, f"{one.name}{spec.seed}").model_copy(
            update={"subject": "toy", "metrics": {plan.metric.name: value}}
        )
        for one, values in zip(plan.arms, (base, ours), strict=True)
        for spec, value in zip(one.verdict_specs({}), values, strict=True)
    ]
    return gather(plan, FakeStore(*made), Path("nowhere"))


# The margin ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.5, 1.0, 5.0, 50.0])
def test_a_margin_as_wide_as_a_fraction_is_refused(margin: float) -> None:
    with pytest.raises(CatalogueError, match=r"small.toml: `margin`: expected less than 0.5 for `test.score`, .* got"):
        toy(margin=margin)


@pytest.mark.parametrize(("margin", "is_wide"), [(0.005, False), (0.05, False), (0.06, True), (0.3, True)])
def test_a_wide_margin_of_a_fraction_is_flagged(margin: float, is_wide: bool) -> None:
    told = doubts(nothing_finished(toy(margin=margin)))
    assert bool(told) == is_wide
    assert all(line.startswith(f"the margin of {100 * margin:.2f} points is wide") for line in told)


def test_a_margin_beside_the_errors_of_the_base() -> None:
    planned = toy(margin=0.02)
    assert doubts(finished(planned, (0.9, 0.91, 0.92), (0.9, 0.9, 0.9))) == ()
    (told,) = doubts(finished(planned, (0.99, 0.985, 0.98), (0.99, 0.98, 0.98)))
    assert told.startswith("the margin of 2.00 points is wider than all errors of the base, 1.50 points")


def test_a_margin_of_a_fraction_is_held_against_the_value_of_the_base_too() -> None:
    planned = toy(margin=0.02)
    (told,) = doubts(finished(planned, (0.03, 0.031, 0.029), (0.04, 0.041, 0.042)))
    assert told == "the margin of 2.00 points is wide beside the base, whose mean is 3.00 %"
    assert doubts(finished(planned, (0.05, 0.051, 0.049), (0.05, 0.05, 0.05))) == ()
    assert doubts(finished(planned, (0.01, 0.05, 0.03), (0.05, 0.05, 0.05))) == ()  # such a spread hides the mean
    assert doubts(finished(planned, (0.0, 0.0, 0.0), (0.05, 0.05, 0.05))) == ()
    fewer = Metric("error", direction="minimize", scale="fraction", resolution=lambda _: 1 / 100)
    rare = toy(dataclasses.replace(TOY, metrics=(fewer,), tune_on=()), metric="error", margin=0.02)
    (told,) = doubts(finished(rare, (0.03, 0.031, 0.029), (0.04, 0.041, 0.042)))
    assert told.endswith("is wide beside the base, whose mean is 3.00 %")


def test_a_doubt_names_the_base_as_its_maker_does() -> None:
    import pandas as pd

    import stn_bench

    rows = [
        {"dataset": data, "arm": arm, "seed": seed, "map": 0.001 + seed / 1e5}
        for data in ("A", "B")
        for arm in ("control", "new")
        for seed in (1, 2, 3)
    ]
    told = stn_bench.judge(pd.DataFrame(rows), metric="map").notes
    assert "the margin of 0.50 points is wide beside the base `control` of B, whose mean is 0.10 %" in told


def test_a_margin_of_a_number_is_held_against_value_and_spread_of_the_base() -> None:
    planned = toy(metric="test.loss", margin=1.0)
    assert doubts(nothing_finished(planned)) == ()
    (told,) = doubts(finished(planned, (0.8, 0.81, 0.79), (0.5, 0.5, 0.6)))
    assert told == "the margin of 1.0000 is wide beside the base, whose mean is 0.8000"
    assert doubts(finished(planned, (8.0, 8.1, 7.9), (7.9, 8.0, 8.0))) == ()
    assert doubts(finished(planned, (-0.6, 0.1, 0.6), (0.1, 0.2, 0.3))) == ()  # a mean near 0 says nothing


def test_a_margin_of_a_metric_that_only_its_name_calls_a_fraction_is_flagged() -> None:
    planned = toy(FREE, metric="test.accuracy", direction="maximize", margin=1.0)
    assert doubts(nothing_finished(planned)) == (
        "the margin of 1.0000 is as wide as `test.accuracy` can be, if that lies between 0 and 1",
    )


def test_page_and_preview_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = summarise(analyse(finished(toy(margin=0.3), (0.9, 0.91, 0.92), (0.9, 0.9, 0.9))))
    assert "> **Doubtful.** The margin of 30.00 points is wide" in render_page(summary, {}, "")
    (tmp_path / "studies").mkdir()
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations/gate.toml").write_text(
        'title = "Gate"\nquestion = "Does it matter?"\n[arms.none]\nset = { gate = "none" }\n'
    )
    text = 'title = "A"\nsubject = "toy"\nablations = ["gate"]\nseeds = [1, 2, 3]\nmargin = '
    (tmp_path / "studies/wide.toml").write_text(f"{text}0.3\n")
    assert call("plan", "wide", "--root", tmp_path) == 0
    assert "! the margin of 30.00 points is wide" in capsys.readouterr().out
    (tmp_path / "studies/wide.toml").write_text(f"{text}1\n")
    assert call("plan", "wide", "--root", tmp_path) == 2
    assert "studies/wide.toml: `margin`: expected less than 0.5" in capsys.readouterr().err


def test_a_table_is_refused_and_flagged_too() -> None:
    import pandas as pd

    import stn_bench
    from stn_bench.system.errors import DataError

    rows = [{"arm": arm, "seed": seed, "accuracy": 0.9 + seed / 100} for arm in ("base", "new") for seed in (1, 2, 3)]
    with pytest.raises(DataError, match=r"`margin`: expected less than 0.5 for `accuracy`"):
        stn_bench.judge(pd.DataFrame(rows), margin=1.0)
    assert "the margin of 30.00 points is wide" in " ".join(stn_bench.judge(pd.DataFrame(rows), margin=0.3).notes)
    percent = pd.DataFrame([{**row, "accuracy": 100 * row["accuracy"]} for row in rows])  # type: ignore[operator]
    seconds = percent.rename(columns={"accuracy": "seconds"})
    told = stn_bench.judge(seconds, margin=100.0, direction="minimize").notes
    assert "is wide beside the base" in " ".join(told)
    assert "is wide, if `accuracy` is in per cent" in " ".join(stn_bench.judge(percent, margin=20.0).notes)
    assert stn_bench.judge(percent, margin=0.5).notes == ()


# The direction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *(
            (name, "minimize")
            for name in ("loss", "test.loss", "valLoss", "loss_2", "cross_entropy", "logloss", "mae")
        ),
        *((name, "minimize") for name in ("rmse", "seconds", "cost.step_ms", "test.error", "word_error_rate", "WER")),
        *((name, "maximize") for name in ("test.accuracy", "acc", "f1", "top1_accuracy", "AUC")),
        *(
            (name, "minimize")
            for name in ("testloss", "1-accuracy", "one_minus_auc", "fpr", "false_negatives", "L1Loss")
        ),
        *((name, "minimize") for name in ("negative_log_likelihood", "accuracy_loss", "latency_ms", "bits_per_byte")),
        *((name, "minimize") for name in ("inaccuracy", "test.inaccuracy", "errorrate")),
        *(
            (name, "maximize")
            for name in ("neg_mean_squared_error", "neg_log_loss", "time_accuracy", "mAP@0.5", "mcc")
        ),
        *((name, None) for name in ("score", "glossy", "terror", "timely", "heads", "gloss", "negative_f1")),
        *((name, None) for name in ("loss_reduction", "time_to_failure", "tokens_per_ms", "seconds_saved")),
    ],
)
def test_what_a_name_sounds_like(name: str, way: str | None) -> None:
    assert sounds(name) == way


def test_a_direction_that_the_name_denies_is_flagged_whoever_declared_it() -> None:
    meant = dataclasses.replace(FREE, metrics=(Metric("test.loss", direction="maximize"),))
    (told,) = doubts(nothing_finished(toy(meant)))
    assert told == "`test.loss` is maximized, though its name sounds as if less were better"
    declared = dataclasses.replace(TOY, metrics=(Metric("val.accuracy", direction="minimize"),), tune_on=())
    assert "sounds as if more were better" in doubts(nothing_finished(toy(declared)))[0]


def test_tuning_on_what_nobody_declares_needs_a_direction_too() -> None:
    asked = {"trials": 2, "metric": "validation.loss", "search": {"rate": Range(low=0.01, high=0.5)}}
    said = {"metric": "error", "direction": "minimize"}
    with pytest.raises(
        CatalogueError, match=r"\[tuning\]: expected `direction`, since .* not declare `validation.loss`"
    ):
        toy(FREE, tuning=Tuning(**asked), **said)
    assert toy(FREE, tuning=Tuning(**asked, direction="minimize"), **said).tuning[0].direction == "minimize"


def test_tuning_that_contradicts_its_metric_is_refused() -> None:
    asked = {"trials": 2, "metric": "last.train.loss", "search": {"rate": Range(low=0.01, high=0.5)}}
    with pytest.raises(
        CatalogueError, match=r"\[tuning\]: `direction`: expected minimize for `last.train.loss`, got max"
    ):
        toy(tuning=Tuning(**asked, direction="maximize"))
    assert toy(tuning=Tuning(**asked)).tuning[0].direction == "minimize"


# No spread -----------------------------------------------------------------------------------------------------------


def told(results: Results, name: str = "none") -> str:
    (question,) = results.plan.questions
    return " ".join(suspicions(question, name, analyse(results)))


def test_an_arm_and_a_base_at_one_value_are_named() -> None:
    results = finished(toy(), (0.8, 0.8, 0.8), (0.85, 0.85, 0.85))
    assert "has one value on all 3 seeds, 80.00 %" in told(results, BASE)
    assert "has one value on all 3 seeds, 85.00 %" in told(results)


@pytest.mark.parametrize(("chance", "is_told"), [(0.8, True), (0.75, True), (0.5, False), (None, False)])
def test_arms_that_are_no_better_than_the_most_frequent_class_are_named(chance: float | None, is_told: bool) -> None:
    metric = Metric("test.accuracy", scale="fraction", resolution=lambda _: 1 / 100, chance=lambda _: chance)
    subject = dataclasses.replace(TOY, metrics=(metric,), tune_on=())
    values = ((0.79, 0.8, 0.81), (0.81, 0.8, 0.805))
    results = finished(toy(subject), *values)
    renamed = [
        {
            seed: run.model_copy(update={"metrics": {"test.accuracy": value}})
            for (seed, run), value in zip(arm.runs.items(), some, strict=True)
        }
        for arm, some in zip(results.arms, values, strict=True)
    ]
    arms = tuple(dataclasses.replace(arm, runs=runs) for arm, runs in zip(results.arms, renamed, strict=True))
    found = dataclasses.replace(results, arms=arms)
    for name in (BASE, "none"):
        assert ("is hardly better than always saying the most frequent class" in told(found, name)) == is_told


@pytest.mark.parametrize("shift", [0.025, -0.025])
def test_an_arm_that_differs_by_the_same_on_each_seed_is_named(shift: float) -> None:
    base = (0.8, 0.825, 0.85)
    results = finished(toy(), base, tuple(value + shift for value in base))
    sign = "+" if shift > 0 else "−"
    assert f"differs by {sign}2.50 points on each seed alike, so that no spread tells how sure this is" in told(
        results
    )


def test_a_collapsed_base_shows_no_difference_of_nothing() -> None:
    (power,) = powers(finished(toy(), (0.5, 0.5, 0.5), (0.5, 0.6, 0.7)))
    assert (power.sd, power.smallest) == (None, None)
    assert power.collapsed is not None
    assert (power.collapsed.value, power.collapsed.source) == (0.5, "3 runs of base")


def test_the_preview_says_that_the_base_collapsed() -> None:
    from stn_bench.cli.planning import _power_lines

    results = finished(toy(), (0.5, 0.5, 0.5), (0.5, 0.6, 0.7))
    (power,) = powers(results)
    lines = " ".join(_power_lines(power, results.plan.metric.unit, "example"))
    assert "its power is unknown: 3 runs of base have one value, 50.00 %, and no spread over seeds" in lines
    assert "0.00" not in lines.replace("50.00", "")
