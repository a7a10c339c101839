"""A run from its pictures to what it leaves, with a harness that only writes down what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lent import QUICK, SMALL, LentRun
from PIL import Image

from stn_bench.settings import override
from stn_bench.subject import Lent, Outcome
from stn_bench.subjects.stn import subject, training
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.correction import correct
from stn_bench.subjects.stn.nn.model_file import load_model
from stn_bench.subjects.stn.nn.scores import predict
from stn_bench.subjects.stn.nn.start import starting_weights
from stn_bench.system.errors import ConfigError, DataError, Interrupted


def settings(**changes: object) -> Config:
    return override(Config(), SMALL | {path.replace("__", "."): value for path, value in changes.items()})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    assert subject.prepare
    subject.prepare([settings()], Lent(folder))
    return folder


@pytest.fixture
def lend(data: Path, tmp_path: Path) -> Callable[..., LentRun]:
    return lambda name="run", **rest: LentRun(tmp_path / name, data, **rest)


def train(run: LentRun, seed: int = 1, **changes: object) -> Outcome:
    outcome = subject.train(settings(**changes), seed, run)
    assert isinstance(outcome, Outcome)
    return outcome


def state(outcome: Outcome) -> Mapping[str, np.ndarray]:
    assert outcome.state
    return dict(outcome.state())


def same(one: Outcome, other: Outcome) -> bool:
    ours, theirs = state(one), state(other)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> LentRun:
    return LentRun(tmp_path_factory.mktemp("undisturbed"), data)


@pytest.fixture(scope="module")
def outcome(run: LentRun) -> Outcome:
    return train(run)


@pytest.fixture(scope="module")
def quick(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LentRun, Outcome]:
    """Return another training that nothing disturbed, in half the time."""
    run = LentRun(tmp_path_factory.mktemp("quick"), data)
    return run, train(run, **QUICK)


def test_every_final_metric_has_a_meaning_and_every_meaning_a_metric(outcome: Outcome) -> None:
    assert outcome.cost
    measured = {*outcome.metrics, "cost.parameters", "cost.flops"}
    assert measured == {metric.name for metric in subject.metrics}
    assert all(metric.meaning for metric in subject.metrics)


def test_each_epoch_is_told_as_the_history_has_it(run: LentRun, outcome: Outcome) -> None:
    assert [epoch for epoch, _ in run.told] == [1, 2]
    for epoch, metrics in run.told:
        assert metrics == {name: series[epoch - 1] for name, series in outcome.history.items()}


def test_an_accuracy_moves_in_steps_of_its_resolution(outcome: Outcome) -> None:
    config = settings()
    fractions = {metric.name: metric for metric in subject.metrics if metric.scale == "fraction"}
    assert {name.rpartition(".")[2] for name in fractions} == {"accuracy", "last_accuracy"}
    for name, metric in fractions.items():
        assert metric.resolution
        steps = outcome.metrics[name] / metric.resolution(config)
        assert steps == pytest.approx(round(steps), abs=1e-4)
    assert fractions["test.accuracy"].examples(config) == 11


def test_files_hold_predictions_model_and_gallery(run: LentRun, outcome: Outcome) -> None:
    assert {path.name for path in run.files.iterdir()} == {
        "predictions.npz",
        "model.keras",
        "rectified.npz",
        "rectified",
    }
    correct = subject.read_examples("test.accuracy", lambda name: run.files / name)
    assert correct is not None
    assert correct.mean() == pytest.approx(outcome.metrics["test.accuracy"])
    assert subject.read_examples("test.loss", lambda name: run.files / name) is None
    pairs = sorted((run.files / "rectified").iterdir())
    assert [path.name[:3] for path in pairs] == [f"{number:02d}_" for number in range(1, 9)]
    with Image.open(pairs[0]) as picture:
        assert picture.height >= 240


def test_the_kept_model_is_the_one_that_was_tested(run: LentRun, outcome: Outcome) -> None:
    loaded, config = load_model(run.files / "model.keras")
    assert config == settings().resolved()
    assert outcome.model
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(predict(loaded, pictures), predict(outcome.model.value, pictures), atol=1e-6)


def test_the_model_is_described_for_serving(outcome: Outcome) -> None:
    assert outcome.model
    assert outcome.model.flavour == "tensorflow"
    assert outcome.model.inputs == (("picture", "uint8", (-1, 16, 16, 3)),)
    assert outcome.model.outputs == (("", "float32", (-1, 3)),)
    assert [line.partition("==")[0] for line in outcome.model.requirements] == [
        "keras",
        "tensorflow",
        "numpy",
        "mlflow",
    ]


def test_the_costs_are_those_on_paper(outcome: Outcome) -> None:
    assert subject.cost
    paper = subject.cost(settings())
    assert paper
    assert outcome.cost
    assert (outcome.cost.parameters, outcome.cost.flops) == (paper.parameters, paper.flops)
    assert sum(layer.flops for layer in outcome.cost.layers) == outcome.cost.flops
    assert outcome.cost.uncounted == ()


def test_the_state_is_all_numbers_of_model_and_optimizer(outcome: Outcome) -> None:
    numbers = state(outcome)
    assert any("localisation" in name for name in numbers)
    assert any("momentum" in name for name in numbers)
    assert outcome.model
    variables = [*outcome.model.value.variables, *outcome.model.value.optimizer.variables]
    assert len(numbers) == len(variables)
    for variable, array in zip(variables, numbers.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(variable), array)


def test_stopped_behind_its_last_epoch_it_comes_to_its_end(
    quick: tuple[LentRun, Outcome], lend: Callable[..., LentRun]
) -> None:
    def stop(epoch: int) -> None:
        if epoch == 2:
            raise Interrupted("stopped")

    assert same(train(lend(then=stop), **QUICK), quick[1])


def test_what_else_telling_raises_ends_the_training(lend: Callable[..., LentRun]) -> None:
    def fail(epoch: int) -> None:
        raise DataError("the store is gone")

    with pytest.raises(DataError, match="the store is gone"):
        train(lend(then=fail), train__epochs=1, **QUICK)


def test_an_empty_checkpoint_as_a_power_cut_leaves_it_is_no_checkpoint(lend: Callable[..., LentRun]) -> None:
    run = lend()
    (run.folder / "checkpoint.npz").touch()
    assert train(run, train__epochs=1, **QUICK).status == "finished"


def test_a_trial_keeps_numbers_alone(lend: Callable[..., LentRun]) -> None:
    trial = lend(is_trial=True)
    outcome = train(trial, train__epochs=1, **QUICK)
    assert list(trial.files.iterdir()) == []
    assert outcome.model is None
    assert "letter.magnification" in outcome.metrics


def test_without_a_transformer_there_is_no_gallery_and_no_measure_of_letters(lend: Callable[..., LentRun]) -> None:
    plain = lend()
    outcome = train(plain, train__epochs=1, model__transformer__kind="none", **QUICK)
    assert {path.name for path in plain.files.iterdir()} == {"predictions.npz", "model.keras"}
    assert not any(name.startswith("letter.") for name in outcome.metrics)


def test_a_diverged_training_says_why_and_keeps_nothing(
    quick: tuple[LentRun, Outcome], lend: Callable[..., LentRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(*arguments: object) -> list[np.ndarray]:
        arrays = starting_weights(*arguments)  # type: ignore[arg-type]
        return [np.full_like(array, 3e38) if array.dtype == np.float32 else array for array in arrays]

    monkeypatch.setattr(training, "RECIPE", replace(training.RECIPE, start=huge))
    run, outcome = quick
    diverged = lend(start=run.files / "model.keras")
    found = train(diverged, **QUICK)
    assert (found.status, found.model) == ("diverged", None)
    assert found.reason == "train.loss is not finite after epoch 1"
    assert found.metrics["epochs"] == 1
    assert "test.accuracy" not in found.metrics
    assert list(diverged.files.iterdir()) == []
    assert found.cost
    assert outcome.cost
    assert found.cost.flops == outcome.cost.flops


def test_it_goes_on_from_the_model_of_another_run(
    quick: tuple[LentRun, Outcome], lend: Callable[..., LentRun]
) -> None:
    run, outcome = quick
    assert subject.start == "model.keras"
    onwards = {**QUICK, "optimizer__learning_rate": 1e-9, "train__epochs": 1}
    trained_on = train(lend(start=run.files / "model.keras"), **onwards)
    assert trained_on.metrics["test.accuracy"] == outcome.metrics["test.accuracy"]
    with pytest.raises(ConfigError, match="do not fit the network"):
        train(lend(start=run.files / "model.keras"), model__width=1 / 16, **QUICK)


def test_pictures_that_are_not_made_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="were not made yet"):
        train(LentRun(tmp_path / "run", tmp_path / "nothing"))


def test_pictures_are_corrected_before_the_network_sees_them(data: Path) -> None:
    config = settings(data__correction__kind="opencv", data__correction__threshold=200).resolved()
    drawn = training.corrected_pictures(settings().resolved(), folder=data)
    parts = training.corrected_pictures(config, folder=data)
    for name, (images, labels) in parts.items():
        np.testing.assert_array_equal(images, correct(drawn[name][0], config))
        np.testing.assert_array_equal(labels, drawn[name][1])
    assert any(not np.array_equal(images, drawn[name][0]) for name, (images, _) in parts.items())
