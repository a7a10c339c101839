from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.correction import correct_split
from stn_bench.subjects.stn.data.dataset import Pictures, Split
from stn_bench.subjects.stn.nn.train import (
    Job,
    Progress,
    Training,
    epoch_order,
    predict,
    prepare_model,
    score,
    shuffled_cut_validation,
    train,
    values,
)
from stn_bench.system.errors import Interrupted

TINY = {
    "data.count": 66,
    "data.validation": 13,
    "data.test": 11,
    "data.size": 16,
    "data.alphabet": "ABC",
    "model.width": 1 / 64,
    "optimizer.learning_rate": 0.01,
    "train.batch_size": 14,  # of 42 pictures: a smaller last batch would be traced on its own
    "train.epochs": 3,
}

PLAIN = {"model__transformer__kind": "none"}


def pictures(count: int, seed: int) -> Pictures:
    """Noise whose mean brightness tells the class: something that a tiny network can learn."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    noise = random.integers(0, 80, (count, 16, 16, 3))
    return Pictures((noise + 80 * labels[:, None, None, None]).astype(np.uint8), labels)


def job(folder: Path, seed: int = 1, **settings: object) -> Job:
    overrides = TINY | {path.replace("__", "."): value for path, value in settings.items()}
    split = Split(pictures(42, 0), pictures(13, 1), pictures(11, 2))
    return Job(override(Config(), overrides).resolved(), seed, split, "key", folder / "checkpoint.npz")


def weights(training: Training) -> np.ndarray:
    return np.concatenate([array.ravel() for array in values(training.model.weights)])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Training:
    return train(job(tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Return an undisturbed training without a transformer: it takes half the time."""
    return train(job(tmp_path_factory.mktemp("plain"), **PLAIN))


def test_a_training_has_a_value_for_each_epoch_and_every_final_metric(undisturbed: Training) -> None:
    assert {len(series) for series in undisturbed.history.values()} == {3}
    assert {"test.accuracy", "test.last_accuracy", "best.validation.loss", "best.train.loss"} <= set(
        undisturbed.metrics
    )
    assert undisturbed.outcome == "finished"
    assert undisturbed.step_ms > 0
    assert undisturbed.peak_memory_mb > 50


def test_the_same_seed_gives_the_same_weights_bit_for_bit(undisturbed: Training, tmp_path: Path) -> None:
    again = train(job(tmp_path))
    np.testing.assert_array_equal(weights(again), weights(undisturbed))
    assert again.history == undisturbed.history


def test_another_seed_gives_other_weights(undisturbed: Training, tmp_path: Path) -> None:
    assert not np.array_equal(weights(train(job(tmp_path, seed=2))), weights(undisturbed))


def stop_training_after(epoch: int, folder: Path) -> None:
    seen: list[int] = []
    with pytest.raises(Interrupted, match=f"after epoch {epoch}"):
        train(job(folder), on_epoch=lambda end: seen.append(end.epoch), should_stop=lambda: seen[-1] >= epoch)


@pytest.mark.parametrize(
    "stops", [(1, 2), pytest.param((1,), marks=pytest.mark.slow), pytest.param((2,), marks=pytest.mark.slow)]
)
def test_an_interrupted_training_ends_with_the_same_weights(
    undisturbed: Training, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    for stop in stops:
        stop_training_after(stop, tmp_path)
    resumed = train(job(tmp_path))
    np.testing.assert_array_equal(weights(resumed), weights(undisturbed))
    assert resumed.history == undisturbed.history


def test_a_resumed_training_tells_again_of_the_epochs_behind_it(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(job(tmp_path, **PLAIN), should_stop=lambda: True)
    epochs: list[int] = []
    train(job(tmp_path, **PLAIN), on_epoch=lambda epoch: epochs.append(epoch.epoch))
    assert epochs == [1, 2, 3]


def test_a_damaged_checkpoint_is_noticed_and_training_starts_over(
    plain: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Interrupted):
        train(job(tmp_path, **PLAIN), should_stop=lambda: True)
    path = tmp_path / "checkpoint.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        resumed = train(job(tmp_path, **PLAIN))
    assert "damaged checkpoint" in caplog.text
    np.testing.assert_array_equal(weights(resumed), weights(plain))


def test_a_checkpoint_of_another_run_is_not_read(plain: Training, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(dataclasses.replace(job(tmp_path, seed=9, **PLAIN), run_key="another"), should_stop=lambda: True)
    np.testing.assert_array_equal(weights(train(job(tmp_path, **PLAIN))), weights(plain))


def test_every_epoch_sees_every_picture_once_in_its_own_order() -> None:
    orders = [epoch_order(1, epoch, 100) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(100))
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[2], epoch_order(1, 2, 100))
    assert not np.array_equal(orders[0], epoch_order(2, 0, 100))


def test_the_last_smaller_batch_is_trained_on_too(tmp_path: Path) -> None:
    training = train(job(tmp_path, train__batch_size=16, **PLAIN))
    assert int(training.model.optimizer.iterations) == 3 * math.ceil(42 / 16)


def test_every_test_picture_is_predicted(undisturbed: Training) -> None:
    assert undisturbed.predictions is not None
    np.testing.assert_array_equal(undisturbed.predictions.labels, pictures(11, 2).labels)
    right = undisturbed.predictions.predicted == undisturbed.predictions.labels
    assert undisturbed.metrics["test.accuracy"] == pytest.approx(right.mean())


def test_the_model_that_comes_back_has_the_weights_of_the_best_epoch(undisturbed: Training) -> None:
    validation = pictures(13, 1)
    scores = score(predict(undisturbed.model, validation.images), validation.labels)
    best = int(undisturbed.metrics["best.epoch"]) - 1
    assert scores["loss"] == pytest.approx(undisturbed.history["validation.loss"][best], abs=1e-6)


def test_predictions_do_not_depend_on_the_batches(undisturbed: Training) -> None:
    images = pictures(300, 5).images
    np.testing.assert_allclose(
        predict(undisturbed.model, images)[-7:], predict(undisturbed.model, images[-7:]), atol=1e-5
    )


def test_a_training_that_is_not_finite_stops_as_diverged(tmp_path: Path) -> None:
    start = values(prepare_model(job(tmp_path, **PLAIN)).variables)
    huge = [np.full_like(array, 3e38) if array.dtype == np.float32 else array for array in start]
    training = train(dataclasses.replace(job(tmp_path, **PLAIN), weights=huge))
    assert training.outcome == "diverged"
    assert "is not finite after epoch 1" in training.reason
    assert training.metrics["epochs"] == 1
    assert "test.accuracy" not in training.metrics


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
        best.append(progress.is_best())
    assert best == [True, True, True, False, False]


def learning_rates(folder: Path, steps: int, **settings: object) -> list[float]:
    model = prepare_model(job(folder, **settings))
    rates = []
    for step in range(steps):
        model.optimizer.iterations.assign(step)
        rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
    return rates


def test_the_cosine_falls_from_the_learning_rate_to_zero(tmp_path: Path) -> None:
    rates = learning_rates(tmp_path, 9, optimizer__schedule="cosine")
    np.testing.assert_allclose(rates, 0.01 * 0.5 * (1 + np.cos(np.pi * np.arange(9) / 9)), rtol=1e-5)


def test_warm_up_rises_in_a_line_and_the_cosine_follows(tmp_path: Path) -> None:
    rates = learning_rates(tmp_path, 9, optimizer__schedule="cosine", optimizer__warmup_epochs=1.0)
    np.testing.assert_allclose(rates[:3], 0.01 * np.arange(3) / 3, atol=1e-8)
    np.testing.assert_allclose(rates[3:], 0.01 * 0.5 * (1 + np.cos(np.pi * np.arange(6) / 6)), rtol=1e-5)


def test_warm_up_of_a_constant_rate_stays_at_the_rate(tmp_path: Path) -> None:
    rates = learning_rates(tmp_path, 9, optimizer__warmup_epochs=1.0)
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
    tmp_path: Path, settings: dict[str, object], kind: str, expected: dict[str, object]
) -> None:
    optimizer = prepare_model(job(tmp_path, **settings)).optimizer
    assert type(optimizer).__name__ == kind
    assert {name: optimizer.get_config()[name] for name in expected} == expected


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(tmp_path: Path, precision: str) -> None:
    training = train(job(tmp_path, train__precision=precision, train__epochs=1))
    assert training.outcome == "finished"
    assert {weight.dtype for weight in training.model.trainable_weights} == {"float32"}


def test_shuffled_cut_validation_leaves_other_pictures_out_each_epoch(tmp_path: Path) -> None:
    cut = job(tmp_path, train__validation="shuffled_cut", train__batch_size=5)
    seen = [shuffled_cut_validation(cut, epoch) for epoch in (1, 2, 3)]
    assert [len(part) for part in seen] == [10, 10, 10]  # of 13
    rows = [{image.tobytes() for image in part.images} for part in seen]
    assert all(len(row) == 10 for row in rows)
    assert rows[0] != rows[1]
    assert rows[0] == {image.tobytes() for image in shuffled_cut_validation(cut, 1).images}


def test_cutting_the_validation_leaves_the_training_alone(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = train(job(tmp_path / "whole", train__batch_size=10, **PLAIN))
    cut = train(job(tmp_path, train__batch_size=10, train__validation="shuffled_cut", **PLAIN))
    assert cut.history["train.loss"] == whole.history["train.loss"]
    assert cut.metrics["test.last_loss"] == whole.metrics["test.last_loss"]
    assert cut.history["validation.loss"] != whole.history["validation.loss"]


def test_start_and_end_of_the_curves_are_metrics(undisturbed: Training) -> None:
    assert undisturbed.metrics["early.train.loss"] == undisturbed.history["train.loss"][0]  # a tenth of 3, at least 1
    assert undisturbed.metrics["last.validation.loss"] == undisturbed.history["validation.loss"][-1]
    assert undisturbed.metrics["last.validation.accuracy"] == undisturbed.history["validation.accuracy"][-1]


def test_pictures_are_corrected_before_the_network_sees_them(tmp_path: Path) -> None:
    corrected = job(tmp_path, data__correction__kind="opencv", data__correction__threshold=100, **PLAIN)
    by_hand = dataclasses.replace(
        job(tmp_path, **PLAIN),
        split=correct_split(corrected.split, corrected.config),
        checkpoint=tmp_path / "other.npz",
    )
    assert train(corrected).history == train(by_hand).history
