"""What every subject, arm and study must keep, by being there: a new file is tested without a new test."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from commands import call
from tiny import make_root

from stn_bench.runner.job import LentRun
from stn_bench.settings import Settings, override
from stn_bench.study.catalogue import Catalogue, bundled_root, load
from stn_bench.study.plan import make_plan
from stn_bench.study.spec import BASE
from stn_bench.subject import Cost, Lent, Metric, Outcome, Run, Subject, find_subject, shipped_subjects
from stn_bench.subjects.keras_training.kept import cost_of
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.dataset import open_dataset
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.compiled import transformer_flops
from stn_bench.subjects.stn.nn.model_file import load_model
from stn_bench.subjects.stn.nn.scores import predict
from stn_bench.testing import SubjectContract
from stn_bench.tracking.identity import identify

# Subjects --------------------------------------------------------------------------------------------------------

CONTRACTS = {
    f"Test{name.capitalize()}": type(f"Test{name.capitalize()}", (SubjectContract,), {"subject": find_subject(name)})
    for name in shipped_subjects()
}
globals().update(CONTRACTS)  # as if each were written here


def test_every_shipped_subject_keeps_the_contract() -> None:
    collected = {one.subject.name for one in globals().values() if one in CONTRACTS.values()}
    assert {"stn", "toy"} <= collected == set(shipped_subjects())


class Least(Settings):
    sides: int = 6


def throw(settings: Least, seed: int, run: Run) -> dict[str, float]:
    return {"eyes": settings.sides + seed / 10}


class TestFourFields(SubjectContract):
    subject = Subject("dice", Least, throw)


# A breach is noticed ---------------------------------------------------------------------------------------------

TOY = find_subject("toy")


def changed(change: Callable[[Outcome], Outcome]) -> Callable[[Any, int, Run], Outcome]:
    """Return the toy's training with another outcome."""

    def train(settings: Any, seed: int, run: Run) -> Outcome:
        outcome = TOY.train(settings, seed, run)
        assert isinstance(outcome, Outcome)
        return change(outcome)

    return train


def by_chance(settings: Any, seed: int, run: Run) -> Any:
    return TOY.train(settings, int.from_bytes(os.urandom(4)), run)


def without_seed(settings: Any, seed: int, run: Run) -> Any:
    return TOY.train(settings, 0, run)


def silent_about_the_past(settings: Any, seed: int, run: Run) -> Any:
    has_past = (run.folder / "state.json").exists()
    told = itertools.count()

    def tell(epoch: int, metrics: Mapping[str, float]) -> None:
        if not has_past or next(told):
            run.log(epoch, metrics)

    return TOY.train(settings, seed, LentRun(run.key, run.data, run.folder, run.files, tell))


def metrics(**more: float) -> Callable[[Outcome], Outcome]:
    named = {name.replace("_", "."): value for name, value in more.items()}
    return lambda outcome: replace(outcome, metrics={**outcome.metrics, **named})


def less_history(outcome: Outcome) -> Outcome:
    return replace(outcome, history={name: series[1:] for name, series in outcome.history.items()})


BREACHES: dict[str, tuple[str, Subject]] = {
    "chance": ("the_same_seed_gives_the_same_bits", replace(TOY, train=by_chance)),
    "no seed": ("another_seed_gives_other_numbers", replace(TOY, train=without_seed)),
    "silent": ("an_interrupted_training_goes_on_to_the_same_bits", replace(TOY, train=silent_about_the_past)),
    "undeclared": ("training_gives_the_declared_metrics", replace(TOY, train=changed(metrics(test_luck=1.0)))),
    "not there": (
        "training_gives_the_declared_metrics",
        replace(TOY, metrics=(*TOY.metrics, Metric("test.luck", "luck"))),
    ),
    "not finite": ("training_gives_the_declared_metrics", replace(TOY, train=changed(metrics(test_loss=math.inf)))),
    "history": ("the_history_has_one_value_an_epoch", replace(TOY, train=changed(less_history))),
    "examples": ("examples_average_to_their_metric", replace(TOY, train=changed(metrics(test_loss=9.0)))),
    "cost": ("the_cost_on_paper_is_that_of_the_training", replace(TOY, cost=lambda settings: Cost(parameters=9.0))),
    "match": ("a_matched_arm_costs_what_the_base_costs", replace(TOY, match=lambda settings, base: {"depth": 8})),
    "meaning": ("every_metric_has_a_meaning", replace(TOY, metrics=(Metric("test.loss", direction="minimize"),))),
    "test metric": ("tuning_sees_no_test_metric", replace(TOY, tune_on=("test.loss",))),
    "budget": ("it_names_settings_that_there_are", replace(TOY, budget=("epoch",))),
    "timeout": ("it_names_settings_that_there_are", replace(TOY, timeout="seconds")),
    "travels": ("only_harmless_files_travel", replace(TOY, travels=("model.pkl",))),
    "caveat": ("it_tells_what_a_reader_should_know", replace(TOY, caveats=lambda settings, base: ["no sentence"])),
    "fingerprint": ("data_have_a_fingerprint_once_they_are_there", replace(TOY, fingerprint=lambda *given: "f" * 64)),
}


@pytest.mark.parametrize(("test", "subject"), BREACHES.values(), ids=BREACHES)
def test_a_breach_of_the_contract_is_noticed(test: str, subject: Subject, tmp_path: Path) -> None:
    suite = type("Suite", (SubjectContract,), {"subject": subject})()
    check = getattr(suite, f"test_{test}")
    with pytest.raises(AssertionError):
        check(tmp_path) if "fingerprint" in test else check()


# Arms and studies ------------------------------------------------------------------------------------------------

STN = find_subject("stn")
CATALOGUE = Catalogue(bundled_root())
SMALL = {
    "data.count": 70,
    "data.validation": 20,
    "data.test": 10,
    "data.size": 20,
    "model.width": 1 / 64,
    "train.epochs": 1,
    "train.batch_size": 16,
}


def configs() -> dict[str, Config]:
    """Return the small configuration of each arm by its name; arms that are the same are one."""
    found: dict[str, tuple[str, Config]] = {}
    for name in CATALOGUE.names("ablations"):
        ablation = CATALOGUE.ablation(name)
        for arm, changes in ((BASE, {}), *((arm.name, arm.set) for arm in ablation.arms)):
            settings = {**ablation.base, **changes}
            epochs = max(1, math.ceil(settings.get("optimizer.warmup_epochs", 0)))  # as few as the study may choose
            config = override(override(Config(), SMALL), {"train.epochs": epochs, **settings}).resolved()
            found.setdefault(config.canonical(), (f"{name}-{arm}", config))
    return dict(found.values())


ARMS = configs()


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets")


@pytest.mark.slow  # `test_nn_build.py` trains a step with every choice that an arm can make
@pytest.mark.parametrize("config", ARMS.values(), ids=ARMS)
def test_every_arm_trains_saves_and_counts(config: Config, datasets: Path, tmp_path: Path) -> None:
    assert STN.prepare
    STN.prepare([config], Lent(datasets))
    outcome = STN.train(config, 1, LentRun("key", datasets, tmp_path, tmp_path))
    assert not isinstance(outcome, Mapping)
    assert outcome.status == "finished"
    assert all(math.isfinite(value) for value in outcome.metrics.values())
    assert outcome.model is not None
    model, (loaded, _) = outcome.model.value, load_model(tmp_path / str(STN.start))
    images = open_dataset(DatasetSpec.of(config), datasets).split(config.data).test.images
    np.testing.assert_allclose(predict(loaded, images), predict(model, images), atol=1e-6)
    assert outcome.cost is not None
    assert (outcome.cost.flops or 0) > 0
    assert outcome.cost.uncounted == ()
    assert outcome.cost.parameters == model.count_params()
    assert outcome.cost.parameters == sum(
        int(np.prod(weight.shape)) for weight in model.weights if "seed_generator" not in weight.path
    )
    keras.utils.clear_session()


@pytest.mark.parametrize("name", CATALOGUE.names("ablations"))
def test_every_ablation_says_where_its_question_comes_from(name: str) -> None:
    ablation = CATALOGUE.ablation(name)
    assert ablation.question.endswith("?")
    assert ablation.title
    assert ablation.source


@pytest.mark.parametrize("name", CATALOGUE.names("ablations"))
def test_arms_that_run_other_code_have_another_code_digest(name: str) -> None:
    found = CATALOGUE.ablation(name)
    base = code_of(override(Config(), found.base))
    for arm in found.arms:
        named = any(isinstance(value, str) for value in arm.set.values())  # an entry of a registry
        assert (code_of(override(Config(), {**found.base, **arm.set})) != base) == named, arm.name


def code_of(config: Config) -> dict[str, str]:
    return identify(STN, config.resolved().flat(), 1, "").code


@pytest.mark.parametrize("name", CATALOGUE.names("studies"))
def test_every_study_can_be_planned(name: str) -> None:
    study, ablations, subject = load(bundled_root(), name)
    plan = make_plan(study, ablations, subject)
    assert plan.jobs() == sum(arm.trials + len(study.seeds) for arm in plan.arms)
    settings = {(arm.config.canonical(), arm.trials, *arm.space) for arm in plan.arms}
    assert len(settings) == len(plan.arms), "an arm is trained twice"


@pytest.mark.parametrize("name", CATALOGUE.names("ablations"))
def test_matched_arms_cost_what_the_base_costs(name: str) -> None:
    found = CATALOGUE.ablation(name)
    study = CATALOGUE.study("article").model_copy(update={"ablations": (name,)})
    for width in (1.0, 0.25):
        (planned,) = make_plan(study, (found,), STN, {"model.width": width, "data.size": 32}).questions
        for arm_name, arm in planned.tested.items():
            if planned.written(arm_name).match == "flops":
                built = [cost_of(build_model(one.config), transformer_flops).flops for one in (arm, planned.base)]  # type: ignore[arg-type]
                assert built[0] == pytest.approx(built[1], rel=0.03)
                assert planned.matched(arm_name) == {"model.width": arm.settings["model.width"]}


@pytest.mark.slow  # a minute; `cli/test_study.py` takes a smaller study of the letters the same way
def test_the_quickstart_runs_from_its_file_to_its_report(tmp_path: Path) -> None:
    study = (bundled_root() / "studies/quickstart.toml").read_text()
    root = make_root(tmp_path, study, "quickstart")
    small = [part for path, value in {**SMALL, "data.size": 16}.items() for part in ("--set", f"{path}={value}")]
    assert call("run", "quickstart", *small, "--root", root) == 0
    report = json.loads((root / "reports/quickstart/report.json").read_text())
    assert report["finished_runs"] == report["planned_runs"] == 6
