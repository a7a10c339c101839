from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.dataset import Pictures, Split
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.checkpoint import Weights
from stn_bench.subjects.stn.nn.model_file import save_model
from stn_bench.subjects.stn.nn.start import starting_weights
from stn_bench.subjects.stn.nn.train import Job, Training, predict, prepare_model, train, values
from stn_bench.system.errors import ConfigError, Interrupted, ModelFileError

TINY = override(
    Config(),
    {
        "data.size": 16,
        "data.alphabet": "ABC",
        "model.width": 1 / 64,
        "model.transformer.kind": "none",
        "optimizer.learning_rate": 0.01,
        "train.batch_size": 14,
        "train.epochs": 2,
    },
)


def pictures(count: int, seed: int) -> Pictures:
    """Noise whose mean brightness tells the class: something that a tiny network can learn."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    noise = random.integers(0, 80, (count, 16, 16, 3))
    return Pictures((noise + 80 * labels[:, None, None, None]).astype(np.uint8), labels)


SPLIT = Split(pictures(42, 0), pictures(13, 1), pictures(11, 2))


def run(folder: Path, config: Config, weights: Weights | None = None, seed: int = 1) -> Training:
    return train(Job(config.resolved(), seed, SPLIT, "key", folder / "checkpoint.npz", weights))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Path]:
    """Return a training of some epochs, and the file of its model."""
    folder = tmp_path_factory.mktemp("start")
    training = run(folder, override(TINY, {"train.epochs": 8}))
    save_model(training.model, folder / "model.keras", TINY)
    return training, folder / "model.keras"


def same(first: Training, second: Training) -> bool:
    pairs = zip(values(first.model.weights), values(second.model.weights), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def test_a_training_begins_with_the_weights_of_the_file(finished: tuple[Training, Path], tmp_path: Path) -> None:
    start, path = finished
    weights = starting_weights(path, TINY, seed=3)
    model = prepare_model(Job(TINY.resolved(), 3, SPLIT, "key", tmp_path / "c.npz", weights))
    for new, old in zip(values(model.weights), values(start.model.weights), strict=True):
        np.testing.assert_array_equal(new, old)
    np.testing.assert_allclose(predict(model, SPLIT.test.images), predict(start.model, SPLIT.test.images), atol=1e-6)


def test_a_step_of_no_size_leaves_the_predictions_as_they_are(finished: tuple[Training, Path], tmp_path: Path) -> None:
    frozen = override(TINY, {"optimizer.name": "sgd", "optimizer.learning_rate": 1e-12, "train.epochs": 1})
    model = build_model(override(TINY, {"model.norm.kind": "none"}))  # moving averages would move all the same
    save_model(model, tmp_path / "model.keras", override(TINY, {"model.norm.kind": "none"}))
    frozen = override(frozen, {"model.norm.kind": "none"})
    after = run(tmp_path, frozen, starting_weights(tmp_path / "model.keras", frozen, 1))
    np.testing.assert_allclose(
        predict(after.model, SPLIT.test.images), predict(model, SPLIT.test.images), atol=1e-6, rtol=0
    )


def test_the_first_epoch_goes_on_where_the_start_ended(finished: tuple[Training, Path], tmp_path: Path) -> None:
    start, path = finished
    fresh = start.history["train.loss"]
    on = run(tmp_path, TINY, starting_weights(path, TINY, seed=1)).history["train.loss"]
    assert on[0] < min(fresh[:3])


@pytest.fixture(scope="module")
def whole(finished: tuple[Training, Path], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Return a training from the start that nothing disturbed."""
    return run(tmp_path_factory.mktemp("whole"), TINY, starting_weights(finished[1], TINY, seed=5), seed=5)


def test_the_same_start_settings_and_seed_train_the_same_weights(
    finished: tuple[Training, Path], whole: Training, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(99)  # whatever was drawn before
    assert same(whole, run(tmp_path, TINY, starting_weights(finished[1], TINY, seed=5), seed=5))


def test_another_seed_trains_other_weights(finished: tuple[Training, Path], whole: Training, tmp_path: Path) -> None:
    assert not same(whole, run(tmp_path, TINY, starting_weights(finished[1], TINY, seed=6), seed=6))


def test_an_interrupted_training_ends_with_the_same_weights(
    finished: tuple[Training, Path], whole: Training, tmp_path: Path
) -> None:
    job = Job(TINY.resolved(), 5, SPLIT, "key", tmp_path / "c.npz", starting_weights(finished[1], TINY, seed=5))
    with pytest.raises(Interrupted):
        train(job, should_stop=lambda: True)
    assert same(whole, train(job))


def test_states_of_random_generators_are_those_of_a_fresh_model(
    finished: tuple[Training, Path], tmp_path: Path
) -> None:
    fresh = prepare_model(Job(TINY.resolved(), 7, SPLIT, "key", tmp_path / "c.npz"))
    weights = starting_weights(finished[1], TINY, seed=7)
    learned = {id(variable) for variable in fresh.weights}
    states = [
        (variable, array)
        for variable, array in zip(fresh.variables, weights, strict=True)
        if id(variable) not in learned
    ]
    assert len(states) == 3  # a dropout behind each block
    for variable, array in states:
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), array)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer.name": "amsgrad"},
        {"model.dropout": 0.5},
        {"data.size": 24},
        {"model.downsampling": "max_pool"},
        {"train.precision": "mixed_bfloat16"},
    ],
    ids=str,
)
def test_settings_that_keep_the_shapes_may_change(
    finished: tuple[Training, Path], settings: dict[str, object]
) -> None:
    config = override(TINY, settings)
    shapes = [tuple(variable.shape) for variable in build_model(config).variables]
    assert [array.shape for array in starting_weights(finished[1], config, 1)] == shapes


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model.width": 1 / 32}, r"`model\.width` \(was 0\.015625, is 0\.03125\);"),
        ({"data.alphabet": "ABCD"}, r"`data\.alphabet` \(was ABC, is ABCD\);"),
        ({"model.transformer.kind": "affine"}, r"`model\.transformer\.kind` \(was none, is affine\);"),
        ({"model.norm.affine": False, "optimizer.name": "sgd"}, r"which differ in `model\.norm\.affine` [^`]*;"),
    ],
    ids=["width", "alphabet", "transformer", "norm"],
)
def test_other_shapes_are_refused_with_the_settings_that_differ(
    finished: tuple[Training, Path], settings: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        starting_weights(finished[1], override(TINY, settings), 1)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_text("nothing")
    with pytest.raises(ModelFileError, match="expected a model file written by stn-bench"):
        starting_weights(tmp_path / "model.keras", TINY, 1)
