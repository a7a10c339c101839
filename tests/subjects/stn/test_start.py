from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from lent import PARTS, LentRun

from stn_bench.settings import override
from stn_bench.subject import Outcome
from stn_bench.subjects.keras_training.progress import values
from stn_bench.subjects.keras_training.training import fitted
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.compiled import compiled_network
from stn_bench.subjects.stn.nn.model_file import save_model
from stn_bench.subjects.stn.nn.scores import predict
from stn_bench.subjects.stn.nn.start import starting_weights
from stn_bench.subjects.stn.training import RECIPE, leave
from stn_bench.system.errors import ConfigError, Interrupted, ModelFileError

TINY = override(
    Config(),
    {
        "data.size": 16,
        "data.alphabet": "ABC",
        "model.width": 1 / 64,
        "model.transformer.kind": "none",
        "model.norm.kind": "none",
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "train.batch_size": 14,
        "train.epochs": 2,
    },
)


TEST = PARTS["test"].images


def run(
    folder: Path,
    config: Config,
    start: Path | None = None,
    seed: int = 1,
    then: Callable[[int], None] = lambda epoch: None,
) -> Outcome:
    arrays = {name: (part.images, part.labels) for name, part in PARTS.items()}
    recipe = dataclasses.replace(RECIPE, data=lambda config: arrays)
    with fitted(recipe, config.resolved(), seed, LentRun(folder, folder, start=start, then=then)) as trained:
        return leave(trained)


def network(outcome: Outcome) -> keras.Model:
    assert outcome.model
    return outcome.model.value


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """Return a training of some epochs, and the file of its model."""
    folder = tmp_path_factory.mktemp("start")
    training = run(folder, override(TINY, {"train.epochs": 8}))
    return training, folder / "files" / "model.keras"


def same(first: Outcome, second: Outcome) -> bool:
    pairs = zip(values(network(first).weights), values(network(second).weights), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def test_the_weights_of_the_file_are_those_that_it_was_left_with(finished: tuple[Outcome, Path]) -> None:
    start, path = finished
    model = compiled_network(TINY)
    for variable, array in zip(model.variables, starting_weights(path, TINY, seed=3), strict=True):
        variable.assign(array)
    for new, old in zip(values(model.weights), values(network(start).weights), strict=True):
        np.testing.assert_array_equal(new, old)
    np.testing.assert_allclose(predict(model, TEST), predict(network(start), TEST), atol=1e-6)


def test_a_step_of_no_size_leaves_the_predictions_as_they_are(tmp_path: Path) -> None:
    # Without a norm: moving averages would move all the same.
    frozen = override(TINY, {"optimizer.learning_rate": 1e-12, "train.epochs": 1})
    model = build_model(TINY)
    save_model(model, tmp_path / "model.keras", TINY)
    after = run(tmp_path, frozen, tmp_path / "model.keras")
    np.testing.assert_allclose(predict(network(after), TEST), predict(model, TEST), atol=1e-6, rtol=0)


def test_the_first_epoch_goes_on_where_the_start_ended(finished: tuple[Outcome, Path], tmp_path: Path) -> None:
    start, path = finished
    fresh = start.history["train.loss"]
    on = run(tmp_path, TINY, path).history["train.loss"]
    assert on[0] < min(fresh[:3])


@pytest.fixture(scope="module")
def whole(finished: tuple[Outcome, Path], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return a training from the start that nothing disturbed."""
    return run(tmp_path_factory.mktemp("whole"), TINY, finished[1], seed=5)


def test_the_same_start_settings_and_seed_train_the_same_weights(
    finished: tuple[Outcome, Path], whole: Outcome, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(99)  # whatever was drawn before
    assert same(whole, run(tmp_path, TINY, finished[1], seed=5))


@pytest.mark.slow
def test_another_seed_trains_other_weights(finished: tuple[Outcome, Path], whole: Outcome, tmp_path: Path) -> None:
    assert not same(whole, run(tmp_path, TINY, finished[1], seed=6))


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(
    finished: tuple[Outcome, Path], whole: Outcome, tmp_path: Path
) -> None:
    def stop(epoch: int) -> None:
        raise Interrupted(f"stopped after epoch {epoch}")

    with pytest.raises(Interrupted):
        run(tmp_path, TINY, finished[1], seed=5, then=stop)
    assert same(whole, run(tmp_path, TINY, finished[1], seed=5))


def test_states_of_random_generators_are_those_of_a_fresh_model(
    finished: tuple[Outcome, Path],
) -> None:
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    fresh = compiled_network(TINY)
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
        {"optimizer.name": "amsgrad", "optimizer.momentum": 0.0},
        {"model.dropout": 0.5},
        {"data.size": 24},
        {"model.downsampling": "max_pool"},
        {"train.precision": "mixed_bfloat16"},
    ],
    ids=str,
)
def test_settings_that_keep_the_shapes_may_change(finished: tuple[Outcome, Path], settings: dict[str, object]) -> None:
    config = override(TINY, settings)
    shapes = [tuple(variable.shape) for variable in build_model(config).variables]
    assert [array.shape for array in starting_weights(finished[1], config, 1)] == shapes


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model.width": 1 / 32}, r"`model\.width` \(was 0\.015625, is 0\.03125\);"),
        ({"data.alphabet": "ABCD"}, r"`data\.alphabet` \(was ABC, is ABCD\);"),
        ({"model.transformer.kind": "affine"}, r"`model\.transformer\.kind` \(was none, is affine\);"),
        ({"model.norm.kind": "batch", "optimizer.momentum": 0.0}, r"which differ in `model\.norm\.kind` [^`]*;"),
    ],
    ids=["width", "alphabet", "transformer", "norm"],
)
def test_other_shapes_are_refused_with_the_settings_that_differ(
    finished: tuple[Outcome, Path], settings: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        starting_weights(finished[1], override(TINY, settings), 1)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_text("nothing")
    with pytest.raises(ModelFileError, match="expected a model file written by stn-bench"):
        starting_weights(tmp_path / "model.keras", TINY, 1)
