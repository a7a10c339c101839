"""A Keras subject's names and weights are looked at before a training, and chance is told of a plain one."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from stn_bench.settings import Settings
from stn_bench.subjects.keras_model import KerasModel
from stn_bench.subjects.keras_training.vetted import names_in
from stn_bench.subjects.picture_folder import PictureFolder
from stn_bench.system.errors import ConfigError, DataError


class Few(Settings):
    epochs: int = 1


def data(settings: Any) -> dict[str, Any]:
    x, y = np.zeros((10, 2), np.float32), np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    return {name: (x, y) for name in ("train", "validation", "test")}


def weighted(settings: Any) -> dict[str, Any]:
    return {name: (*part, np.ones(10)) for name, part in data(settings).items()}


def build(settings: Any) -> Any:
    raise NotImplementedError


def few(**more: Any) -> Any:
    asked = {"data": data, "build": build, "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    return KerasModel(Few, **(asked | more))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"loss": "sparse_categorical_crossentropi"},
            "Did you mean `sparse_categorical_cr",
        ),
        ({"optimizer": "adan"}, r"`optimizer`: Keras knows no `adan`\. Did you mean `adam`\?"),
        ({"metrics": ["root_mean_squared_errors_error"]}, r"`metrics`: Keras knows no "),
        ({"loss": {"a": "mse", "b": "maee"}}, r"`loss`: Keras knows no `maee`\. Did you mean `mae`\?"),
        ({"class_weight": lambda settings: [1.0, 2.0]}, "`class_weight`: expected class -> weight"),
        ({"class_weight": {0: 1.0, 1: 2.0}}, "`class_weight`: ends at class 1, and training shows 2 too"),
        ({"class_weight": {2: 3.0}, "data": weighted}, "`class_weight`: the training examples have sample weights"),
    ],
)
def test_what_keras_does_not_know_is_named_before_training(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        few(**more).vet(Few())


@pytest.mark.parametrize(
    "more",
    [
        {"loss": "sparse_categorical_crossentropi"},
        {"loss": "Mse"},
        {"loss": {"a": "mse", "b": "maee"}},
        {"optimizer": "adan"},
        {"metrics": ["root_mean_squared_errors_error"]},
        {"weighted_metrics": ["binary_acuracy_accuracy"]},
    ],
)
def test_a_name_that_keras_does_not_have_is_refused_before_there_is_a_subject(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"`\w+`: Keras knows no "):
        few(**more)


@pytest.mark.parametrize("module", ["losses", "metrics", "optimizers"])
def test_the_names_that_are_read_are_those_that_keras_takes(module: str) -> None:
    """Keras' own table is the oracle."""
    taken = set(importlib.import_module(f"keras.src.{module}").ALL_OBJECTS_DICT)
    special = {"accuracy", "acc", "crossentropy", "ce"} if module == "metrics" else set()
    assert names_in(module) == taken | special


def test_an_optimizer_that_was_registered_is_known() -> None:
    keras.saving.register_keras_serializable("mine", "sloth")(type("Sloth", (keras.optimizers.SGD,), {}))
    few(optimizer="mine>sloth")


@pytest.mark.parametrize("weights", [{"cat": 1.0}, {0: "heavy"}, {0: -1.0}, {}, [1.0, 2.0], {0: True}])
def test_weights_of_classes_are_numbers_by_class(weights: Any) -> None:
    with pytest.raises(ConfigError, match="`class_weight`: expected class -> weight"):
        few(class_weight=weights)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"metrics": ["acc", "sparse_categorical_accuracy"], "optimizer": "SGD"},
        {"loss": "MeanSquaredError", "metrics": ["mae"]},
        {"class_weight": {0: 1.0, 2: 2.0}},
        {"class_weight": lambda settings: None},
    ],
)
def test_what_keras_knows_passes(more: dict[str, Any]) -> None:
    few(**more).vet(Few())


def test_chance_is_the_share_of_the_largest_class_of_the_test() -> None:
    known = few().known_metrics
    assert known["test.accuracy"].chance is not None
    assert known["test.accuracy"].chance(Few()) == 0.6
    assert known["test.loss"].chance is None


def one_hot(settings: Any) -> dict[str, Any]:
    return {name: (x, np.eye(3)[y]) for name, (x, y) in data(settings).items()}


def test_chance_of_one_hot_targets_is_the_same() -> None:
    metric = few(data=one_hot, loss="categorical_crossentropy").known_metrics["test.accuracy"]
    assert metric.chance is not None
    assert metric.chance(Few()) == 0.6


class Sized(Settings):
    epochs: int = 1
    batch_size: int = 32


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_steps_and_epochs_of_nothing_are_refused_before_any_training(name: str, value: int) -> None:
    subject = KerasModel(Sized, data=data, build=build, loss="mse")
    assert subject.split(Sized(), Path()) == ""
    with pytest.raises(ConfigError, match=f"`{name}`: expected 1 or more, got {value}"):
        subject.split(Sized(**{name: value}), Path())


def test_a_folder_of_which_nothing_is_for_validation_cannot_choose_the_best_epoch(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("L", (4, 4), number).save(tmp_path / name / f"{number}.png")
    folder = PictureFolder(tmp_path, image_size=4, validation=0, test=0.25)
    asked = {"data": folder, "build": build, "loss": "sparse_categorical_crossentropy"}
    assert KerasModel(Sized, **asked, best="last").split(Sized(), tmp_path) == ""
    with pytest.raises(DataError, match="there are no validation examples; set some apart"):
        KerasModel(Sized, **asked).split(Sized(), tmp_path)
