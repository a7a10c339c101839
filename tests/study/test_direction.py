"""Which way a metric is better: the metric says so, wherever a study, tuning or a plan asks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from makers import FakeStore, ablation, arm, record, study

from stn_bench.study.plan import Plan, RunSpec, make_plan
from stn_bench.study.spec import Range, Tuning
from stn_bench.subject import Metric, find_subject
from stn_bench.system.errors import CatalogueError, ConfigError
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import choose, gather

TOY = find_subject("toy")
SCORE, LOSS = TOY.tuning
FREE = dataclasses.replace(TOY, metrics=(), tune_on=())
"""A subject that declares no metric, as any function does."""


def toy(subject: Any = TOY, **rest: Any) -> Plan:
    """Return the plan of a study of the toy: does its gate matter?"""
    return make_plan(study(subject=subject.name, **rest), (ablation(arm("none", {"gate": "none"})),), subject)


# The study's metric --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("", "maximize"),  # the first that the subject declares
        ("test.score", "maximize"),
        ("test.loss", "minimize"),
        ("cost.seconds", "minimize"),
        ("last.train.loss", "minimize"),
    ],
)
def test_unset_the_direction_is_the_metrics(metric: str, direction: str) -> None:
    planned = toy(metric=metric)
    assert (planned.metric.name, planned.metric.direction) == (metric or "test.score", direction)


@pytest.mark.parametrize(("metric", "direction"), [("test.loss", "minimize"), ("test.score", "maximize")])
def test_a_study_may_say_what_the_metric_says(metric: str, direction: str) -> None:
    said, unsaid = toy(metric=metric, direction=direction), toy(metric=metric)
    assert said.metric == unsaid.metric


@pytest.mark.parametrize(
    ("metric", "direction"), [("test.loss", "maximize"), ("test.score", "minimize"), ("cost.flops", "maximize")]
)
def test_a_study_that_contradicts_the_metric_is_refused(metric: str, direction: str) -> None:
    with pytest.raises(CatalogueError, match=rf"small.toml: `direction`: expected .* for `{metric}`, got {direction}"):
        toy(metric=metric, direction=direction)


def test_a_metric_of_stn_has_its_direction_too() -> None:
    from makers import plan

    asked = ablation(arm("wide", {"model.width": 2.0}))
    assert plan(asked, metric="test.loss").metric.direction == "minimize"
    with pytest.raises(CatalogueError, match=r"expected minimize for `test.loss`, got maximize; leave it out"):
        plan(asked, metric="test.loss", direction="maximize")


def test_of_a_subject_without_metrics_the_study_names_one() -> None:
    assert toy(FREE, metric="f1", direction="maximize").metric == Metric("f1", direction="maximize")
    assert toy(FREE, metric="error", direction="minimize").metric == Metric("error", direction="minimize")
    with pytest.raises(CatalogueError, match=r"small.toml: expected `metric`: subject `toy` declares none"):
        toy(FREE)


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        *((name, "maximize") for name in ("test.loss", "valLoss", "testloss", "val/mse", "false_positive_rate")),
        *((name, "minimize") for name in ("accuracy", "val_f1", "test.auc", "neg_mean_squared_error", "1-error")),
    ],
)
def test_a_direction_that_the_name_denies_is_refused_unless_the_subject_says_it(metric: str, direction: str) -> None:
    with pytest.raises(
        CatalogueError, match=rf"small.toml: `direction`: expected m.*, as the name .* got {direction}"
    ):
        toy(FREE, metric=metric, direction=direction)
    search = {"rate": Range(low=0.01, high=0.5)}
    tuning = Tuning(trials=2, metric=metric.removeprefix("test."), direction=direction, search=search)  # type: ignore[arg-type]
    with pytest.raises(CatalogueError, match=r"\[tuning\]: `direction`: expected m"):
        toy(FREE, metric="skill", direction="maximize", tuning=tuning)
    meant = dataclasses.replace(FREE, metrics=(Metric(metric, direction=direction),))  # type: ignore[arg-type]
    assert toy(meant).metric.direction == direction


@pytest.mark.parametrize("metric", ["recall@10", "huber[1]", "a,b", "../x"])
def test_a_name_that_no_metric_can_have_is_refused_before_anything_is_trained(metric: str) -> None:
    with pytest.raises(CatalogueError, match="`metric`: expected a name of a–z"):
        toy(FREE, metric=metric, direction="maximize")


def test_a_metric_that_sounds_like_a_loss_has_no_usual_direction() -> None:
    with pytest.raises(ConfigError, match=r'Metric\("test.loss"\): which way is it better\?'):
        Metric("test.loss", "mean loss")
    assert Metric("gain").direction == Metric("test.accuracy").direction == "maximize"


def test_which_way_a_metric_is_better_that_nobody_declares_must_be_said() -> None:
    with pytest.raises(CatalogueError, match="expected `direction`, since subject `toy` does not declare `f1`"):
        toy(FREE, metric="f1")


def test_a_plan_in_the_other_direction_is_another_plan() -> None:
    one, other = (toy(FREE, metric="skill", direction=direction) for direction in ("minimize", "maximize"))
    assert one.digest != other.digest


def test_a_metric_that_the_subject_lacks_is_refused_with_the_nearest() -> None:
    with pytest.raises(CatalogueError, match=r"`metric`: no metric `test.scor`. Did you mean `test.score`\?"):
        toy(metric="test.scor")


# Tuning --------------------------------------------------------------------------------------------------------------

TUNING = Tuning(trials=3, search={"rate": Range(low=0.01, high=0.5, log=True)})


def trials(values: list[dict[str, float]]) -> list[RunRecord]:
    specs = toy(tuning=TUNING).arms[0].tuning_specs()
    return [tried(spec, metrics) for spec, metrics in zip(specs, values, strict=True)]


def tried(spec: RunSpec, metrics: dict[str, float]) -> RunRecord:
    return record(spec, f"t{spec.trial}").model_copy(update={"subject": "toy", "metrics": metrics})


def scored(*pairs: tuple[float, float]) -> list[RunRecord]:
    return trials([{SCORE.name: score, LOSS.name: loss} for score, loss in pairs])


def test_the_toy_is_tuned_on_a_score_and_then_on_a_loss() -> None:
    assert [(one.name, one.direction) for one in TOY.tuning] == [
        ("last.validation.score", "maximize"),
        ("last.train.loss", "minimize"),
    ]


def test_the_highest_score_is_chosen_and_of_equal_ones_the_lowest_loss() -> None:
    made = scored((0.5, 0.1), (0.7, 0.3), (0.7, 0.2))
    assert choose(made, TOY.tuning) == made[2].chosen


def test_a_first_metric_that_is_better_low_is_chosen_low() -> None:
    made = scored((0.5, 0.3), (0.7, 0.1), (0.6, 0.2))
    assert choose(made, (LOSS, SCORE)) == made[1].chosen
    flat = scored((0.5, 0.2), (0.7, 0.2), (0.6, 0.2))
    assert choose(flat, (LOSS, SCORE)) == flat[1].chosen


def test_a_trial_without_its_metric_comes_last() -> None:
    made = trials([{}, {SCORE.name: -5.0, LOSS.name: 9.0}, {LOSS.name: 0.0}])
    assert choose(made, TOY.tuning) == made[1].chosen


def test_gathered_tuning_looks_at_the_subjects_metrics_whatever_the_study_compares(tmp_path: Any) -> None:
    """The study's metric is of the test examples, which tuning must not see."""
    planned = toy(tuning=TUNING, metric="test.loss")
    specs = planned.arms[0].tuning_specs()
    values = [
        {SCORE.name: 0.9, "test.loss": 5.0},
        {SCORE.name: 0.1, "test.loss": 0.0},
        {SCORE.name: 0.5, "test.loss": 1.0},
    ]
    made = [tried(spec, metrics) for spec, metrics in zip(specs, values, strict=True)]
    assert gather(planned, FakeStore(*made), tmp_path).arms[0].chosen == made[0].chosen


@pytest.mark.parametrize("name", ["stn", "toy"])
def test_no_subject_is_tuned_on_what_it_is_tested_on(name: str) -> None:
    subject = find_subject(name)
    assert subject.tuning
    assert not [one.name for one in subject.tuning if one.name.startswith("test.")]


@pytest.mark.parametrize("direction", ["maximise", None, 3])
def test_what_is_no_direction_is_refused(direction: Any) -> None:
    with pytest.raises(ConfigError, match=r'Metric\("acc"\): direction: expected maximize or minimize, got '):
        Metric("acc", "share", direction)
