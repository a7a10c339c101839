"""What every arm and every study must keep, by being there: a new file is tested without a new test."""

from __future__ import annotations

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny import make_root, stn_bench

from stn_bench.study.catalogue import BASE, Catalogue, bundled_root, load
from stn_bench.study.plan import make_plan
from stn_bench.subjects.stn.config import Config, override
from stn_bench.subjects.stn.data.dataset import make_dataset
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.cost import count_flops, count_parameters
from stn_bench.subjects.stn.nn.model_file import load_model, save_model
from stn_bench.subjects.stn.nn.train import Job, predict, train
from stn_bench.tracking.identity import code_digests

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

OUTSIDE_REGISTRIES = {"model.input_range"}  # a value that code reads, and not the name of a builder


def configs() -> dict[str, Config]:
    """Return the small configuration of each arm by its name; arms that are the same are one."""
    found: dict[str, tuple[str, Config]] = {}
    for name in CATALOGUE.names("ablations"):
        ablation = CATALOGUE.ablation(name)
        for arm, changes in ((BASE, {}), *((arm.name, arm.set) for arm in ablation.arms)):
            config = override(override(Config(), SMALL), {**ablation.base, **changes}).resolved()
            found.setdefault(config.canonical(), (f"{name}-{arm}", config))
    return dict(found.values())


ARMS = configs()


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets")


@pytest.mark.parametrize("config", ARMS.values(), ids=ARMS)
def test_every_arm_trains_saves_and_counts(config: Config, datasets: Path, tmp_path: Path) -> None:
    split = make_dataset(DatasetSpec.of(config), datasets).split(config.data)
    training = train(Job(config, 1, split, "key", tmp_path / "checkpoint.npz"))
    assert training.outcome == "finished"
    assert all(math.isfinite(value) for value in training.metrics.values())
    save_model(training.model, tmp_path / "model.keras", config)
    loaded, _ = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        predict(loaded, split.test.images), predict(training.model, split.test.images), atol=1e-6
    )
    flops = count_flops(training.model)
    assert flops.total > 0
    assert flops.uncounted == ()
    assert count_parameters(training.model) == sum(
        int(np.prod(weight.shape)) for weight in training.model.weights if "seed_generator" not in weight.path
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
    base = code_digests(override(Config(), found.base))
    for arm in found.arms:
        named = any(isinstance(value, str) for path, value in arm.set.items() if path not in OUTSIDE_REGISTRIES)
        assert (code_digests(override(Config(), {**found.base, **arm.set})) != base) == named, arm.name


@pytest.mark.parametrize("name", CATALOGUE.names("studies"))
def test_every_study_can_be_planned(name: str) -> None:
    study, ablations = load(bundled_root(), name)
    plan = make_plan(study, ablations)
    assert plan.cells() == sum(arm.trials + len(study.seeds) for arm in plan.arms)
    settings = {(arm.config.canonical(), arm.trials, *arm.space) for arm in plan.arms}
    assert len(settings) == len(plan.arms), "an arm is trained twice"


@pytest.mark.parametrize("name", CATALOGUE.names("ablations"))
def test_matched_arms_cost_what_the_base_costs(name: str) -> None:
    found = CATALOGUE.ablation(name)
    study = CATALOGUE.study("article").model_copy(update={"ablations": (name,)})
    for width in (1.0, 0.25):
        planned = make_plan(study, (found,), {"model.width": width, "data.size": 32}).ablations[0]
        for written, arm in planned.arms:
            if written.match == "flops":
                built = [count_flops(build_model(one.config)).total for one in (arm, planned.base)]
                assert built[0] == pytest.approx(built[1], rel=0.03)
                assert written.set["model.width"] == arm.config.model.width


def test_the_quickstart_runs_from_its_file_to_its_report(tmp_path: Path) -> None:
    study = (bundled_root() / "studies/quickstart.toml").read_text()
    root = make_root(tmp_path, study, "quickstart")
    small = [part for path, value in {**SMALL, "data.size": 16}.items() for part in ("--set", f"{path}={value}")]
    run = stn_bench("run", "quickstart", *small, root=root)
    assert run.returncode == 0, run.stderr
    report = json.loads((root / "reports/quickstart/report.json").read_text())
    assert report["finished_runs"] == report["planned_runs"] == 6
