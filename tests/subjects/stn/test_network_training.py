"""The training of any Keras model with the network of `stn`, on pictures that no data set holds."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
from lent import PARTS, QUICK, SMALL, LentRun, pictures

from stn_bench.settings import override
from stn_bench.subject import Outcome
from stn_bench.subjects.keras_training.batches import epoch_order
from stn_bench.subjects.keras_training.progress import Progress, values
from stn_bench.subjects.keras_training.training import fitted
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.dataset import Pictures
from stn_bench.subjects.stn.nn.compiled import compiled_network
from stn_bench.subjects.stn.nn.scores import predict, score, shuffled_cut_validation
from stn_bench.subjects.stn.training import RECIPE, leave
from stn_bench.system.errors import Interrupted

TINY = {**SMALL, "train.epochs": 3}

PLAIN = {"model__transformer__kind": "none"}
PLAINEST = {**PLAIN, **QUICK}


def config(**settings: object) -> Config:
    return override(Config(), TINY | {path.replace("__", "."): value for path, value in settings.items()}).resolved()


def train(
    folder: Path,
    seed: int = 1,
    key: str = "key",
    then: Callable[[int], None] = lambda epoch: None,
    parts: Mapping[str, Pictures] = PARTS,
    **settings: object,
) -> Outcome:
    """Train on pictures that no data set holds, as `stn` is trained, or go on in the same folder."""
    arrays = {name: (part.images, part.labels) for name, part in parts.items()}
    recipe = dataclasses.replace(RECIPE, data=lambda config: arrays)
    with fitted(recipe, config(**settings), seed, LentRun(folder, folder, key=key, then=then)) as trained:
        return leave(trained)


def network(outcome: Outcome) -> keras.Model:
    assert outcome.model
    return outcome.model.value


def weights(outcome: Outcome) -> np.ndarray:
    return np.concatenate([array.ravel() for array in values(network(outcome).weights)])


def stop(epoch: int) -> None:
    raise Interrupted(f"stopped after epoch {epoch}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return an undisturbed training that takes half the time."""
    return train(tmp_path_factory.mktemp("quick"), **QUICK)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return an undisturbed training without a transformer: it takes half the time."""
    return train(tmp_path_factory.mktemp("plain"), **PLAIN)


def test_a_training_has_a_value_for_each_epoch_and_every_final_metric(quick: Outcome) -> None:
    assert {len(series) for series in quick.history.values()} == {3}
    assert {"test.accuracy", "test.last_accuracy", "best.validation.loss", "best.train.loss"} <= set(quick.metrics)
    assert quick.status == "finished"
    assert quick.metrics["cost.step_ms"] > 0
    assert quick.metrics["cost.peak_memory_mb"] > 50


@pytest.mark.slow  # as the contract suite does for the subject, from its settings to its state
def test_the_same_seed_gives_the_same_weights_bit_for_bit(quick: Outcome, tmp_path: Path) -> None:
    again = train(tmp_path, **QUICK)
    np.testing.assert_array_equal(weights(again), weights(quick))
    assert again.history == quick.history


@pytest.mark.slow  # the same
def test_another_seed_gives_other_weights(quick: Outcome, tmp_path: Path) -> None:
    assert not np.array_equal(weights(train(tmp_path, seed=2, **QUICK)), weights(quick))


def stop_training_after(last: int, folder: Path) -> None:
    with pytest.raises(Interrupted, match=f"after epoch {last}"):
        train(folder, then=lambda epoch: stop(epoch) if epoch >= last else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stops", [(1, 2), pytest.param((1,), marks=pytest.mark.slow), pytest.param((2,), marks=pytest.mark.slow)]
)
def test_an_interrupted_training_ends_with_the_same_weights(
    undisturbed: Outcome, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    for stop in stops:
        stop_training_after(stop, tmp_path)
    resumed = train(tmp_path)
    np.testing.assert_array_equal(weights(resumed), weights(undisturbed))
    assert resumed.history == undisturbed.history


ALTERED = {**PLAINEST, "train__augmentation__rotation": 30.0, "train__augmentation__noise": 0.1}


def test_augmented_pictures_are_those_of_the_epoch_after_an_interruption_too(tmp_path: Path) -> None:
    """Resumed in another process' place, bit for bit: the draws depend on seed, epoch and picture alone."""
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    undisturbed = train(whole, **ALTERED)
    with pytest.raises(Interrupted):
        train(parted, then=lambda epoch: stop(epoch) if epoch >= 1 else None, **ALTERED)
    resumed = train(parted, **ALTERED)
    np.testing.assert_array_equal(weights(resumed), weights(undisturbed))
    assert resumed.history == undisturbed.history


@pytest.mark.slow
def test_a_resumed_training_tells_again_of_the_epochs_behind_it(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, then=stop, **PLAIN)
    epochs: list[int] = []
    train(tmp_path, then=epochs.append, **PLAIN)
    assert epochs == [1, 2, 3]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_noticed_and_training_starts_over(
    plain: Outcome, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, then=stop, **PLAIN)
    path = tmp_path / "folder" / "checkpoint.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        resumed = train(tmp_path, **PLAIN)
    assert "damaged checkpoint" in caplog.text
    np.testing.assert_array_equal(weights(resumed), weights(plain))


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_not_read(plain: Outcome, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, seed=9, key="another", then=stop, **PLAIN)
    np.testing.assert_array_equal(weights(train(tmp_path, **PLAIN)), weights(plain))


def test_every_epoch_sees_every_picture_once_in_its_own_order() -> None:
    orders = [epoch_order(1, epoch, 100) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(100))
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[2], epoch_order(1, 2, 100))
    assert not np.array_equal(orders[0], epoch_order(2, 0, 100))


def test_the_last_smaller_batch_is_trained_on_too(tmp_path: Path) -> None:
    training = train(tmp_path, train__batch_size=16, **PLAINEST)
    assert int(network(training).optimizer.iterations) == 3 * math.ceil(42 / 16)


def test_every_test_picture_is_predicted(tmp_path: Path) -> None:
    outcome = train(tmp_path, **PLAINEST, train__epochs=1)
    with np.load(tmp_path / "files" / "predictions.npz") as kept:
        np.testing.assert_array_equal(kept["labels"], PARTS["test"].labels)
        right = kept["predicted"] == kept["labels"]
    assert outcome.metrics["test.accuracy"] == pytest.approx(right.mean())


def test_the_model_that_comes_back_has_the_weights_of_the_best_epoch(quick: Outcome) -> None:
    validation = pictures(13, 1)
    scores = score(predict(network(quick), validation.images), validation.labels)
    best = int(quick.metrics["best.epoch"]) - 1
    assert scores["loss"] == pytest.approx(quick.history["validation.loss"][best], abs=1e-6)


def test_predictions_do_not_depend_on_the_batches(quick: Outcome) -> None:
    images = pictures(300, 5).images
    np.testing.assert_allclose(predict(network(quick), images)[-7:], predict(network(quick), images[-7:]), atol=1e-5)


def test_score_agrees_with_numbers_worked_by_hand() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.0, 1.0, 0.0]])
    scores = score(probabilities, np.array([0, 1, 0, 0]))
    assert scores["accuracy"] == 0.5
    by_hand = -(math.log(0.5) + math.log(0.8) + math.log(0.2) + math.log(1e-7)) / 4
    assert scores["loss"] == pytest.approx(by_hand)


def test_the_best_epoch_is_the_most_accurate_then_the_lowest_loss_then_the_earliest() -> None:
    progress = Progress()
    best = []
    for accuracy, loss in [(0.5, 1.0), (0.6, 1.1), (0.6, 0.9), (0.6, 0.9), (0.5, 0.1)]:
        progress.append({"validation.accuracy": accuracy, "validation.loss": loss})
        best.append(progress.is_best(RECIPE.best))
    assert best == [True, True, True, False, False]


def learning_rates(steps: int, **settings: object) -> list[float]:
    model = compiled_network(config(**settings))
    rates = []
    for step in range(steps):
        model.optimizer.iterations.assign(step)
        rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
    return rates


def test_the_cosine_falls_from_the_learning_rate_to_zero() -> None:
    rates = learning_rates(9, optimizer__schedule="cosine")
    np.testing.assert_allclose(rates, 0.01 * 0.5 * (1 + np.cos(np.pi * np.arange(9) / 9)), rtol=1e-5)


def test_warm_up_rises_in_a_line_and_the_cosine_follows() -> None:
    rates = learning_rates(9, optimizer__schedule="cosine", optimizer__warmup_epochs=1.0)
    np.testing.assert_allclose(rates[:3], 0.01 * np.arange(3) / 3, atol=1e-8)
    np.testing.assert_allclose(rates[3:], 0.01 * 0.5 * (1 + np.cos(np.pi * np.arange(6) / 6)), rtol=1e-5)


def test_warm_up_of_a_constant_rate_stays_at_the_rate() -> None:
    rates = learning_rates(9, optimizer__warmup_epochs=1.0)
    np.testing.assert_allclose(rates, 0.01 * np.minimum(1, np.arange(9) / 3), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        ({"optimizer__name": "adam"}, "Adam", {"amsgrad": False}),
        ({"optimizer__name": "amsgrad"}, "Adam", {"amsgrad": True}),
        ({"optimizer__name": "sgd"}, "SGD", {"momentum": 0.0, "nesterov": False}),
        (
            {"optimizer__name": "sgd", "optimizer__momentum": 0.9, "optimizer__nesterov": True},
            "SGD",
            {"momentum": 0.9, "nesterov": True},
        ),
    ],
)
def test_each_optimizer_is_what_the_configuration_says(
    settings: dict[str, object], kind: str, expected: dict[str, object]
) -> None:
    optimizer = compiled_network(config(**settings)).optimizer
    assert type(optimizer).__name__ == kind
    assert {name: optimizer.get_config()[name] for name in expected} == expected


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])  # with all else: `nn/test_nn_build.py`
def test_mixed_precision_trains(tmp_path: Path, precision: str) -> None:
    training = train(tmp_path, train__precision=precision, train__epochs=1, **QUICK)
    assert training.status == "finished"
    assert {weight.dtype for weight in network(training).trainable_weights} == {"float32"}


def test_shuffled_cut_validation_leaves_other_pictures_out_each_epoch() -> None:
    seen = [shuffled_cut_validation(PARTS["validation"], 5, 1, epoch) for epoch in (1, 2, 3)]
    assert [len(part) for part in seen] == [10, 10, 10]  # of 13
    rows = [{image.tobytes() for image in part.images} for part in seen]
    assert all(len(row) == 10 for row in rows)
    assert rows[0] != rows[1]
    again = shuffled_cut_validation(PARTS["validation"], 5, 1, 1)
    assert rows[0] == {image.tobytes() for image in again.images}


def test_cutting_the_validation_leaves_the_training_alone(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", train__batch_size=10, **PLAINEST)
    cut = train(tmp_path / "cut", train__batch_size=10, train__validation="shuffled_cut", **PLAINEST)
    assert cut.history["train.loss"] == whole.history["train.loss"]
    assert cut.metrics["test.last_loss"] == whole.metrics["test.last_loss"]
    assert cut.history["validation.loss"] != whole.history["validation.loss"]


def test_start_and_end_of_the_curves_are_metrics(quick: Outcome) -> None:
    assert quick.metrics["early.train.loss"] == quick.history["train.loss"][0]  # a tenth of 3, at least 1
    assert quick.metrics["last.validation.loss"] == quick.history["validation.loss"][-1]
    assert quick.metrics["last.validation.accuracy"] == quick.history["validation.accuracy"][-1]
