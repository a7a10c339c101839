"""The class of each test example is kept with a run, by its name, and the report tells of each class."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn_bench.analysis.by_class import by_class
from stn_bench.settings import Settings
from stn_bench.subject import CLASSES, Outcome
from stn_bench.subjects.keras_by_class import Noting, with_classes
from stn_bench.subjects.keras_training.data import Part
from stn_bench.subjects.keras_training.recipe import Recipe

RIGHT = np.array([1.0, 0.0, 1.0, 1.0])


@dataclasses.dataclass
class Lent:
    files: Path = Path()
    is_trial: bool = False


class Few(Settings):
    pass


def kept(y: Any, *, names: tuple[str, ...] = (), is_trial: bool = False, told: str = "test.accuracy") -> Any:
    """Return the classes that are kept with a run on these targets."""

    def data(settings: Any) -> Any:
        raise NotImplementedError

    if names:
        data.class_names = names  # type: ignore[attr-defined]
    recipe = Noting.of(Recipe(data, data, "epochs", "batch_size", ()))
    recipe.seen["test"] = Part((np.zeros((len(RIGHT), 2)), y))
    outcome = Outcome({told: 0.75}, examples={told: RIGHT})
    found = with_classes(outcome, recipe, ["test.accuracy"], Lent(is_trial=is_trial))  # type: ignore[arg-type]
    return None if found.classes is None else found.classes.tolist()


@pytest.mark.parametrize(
    ("y", "names", "classes"),
    [
        (np.array([0, 1, 1, 2]), (), ["0", "1", "1", "2"]),
        (
            np.array([[0], [1], [1], [2]]),
            ("cat", "dog", "long name"),
            ["cat", "dog", "dog", "long name"],
        ),
        (np.eye(3)[[0, 1, 1, 2]], ("cat",), ["0", "1", "1", "2"]),  # names of others
        (np.array([0.0, 1.0, 1.0, 0.0]), (), ["0", "1", "1", "0"]),
        (np.array(["no", "yes", "no", "no"]), (), ["no", "yes", "no", "no"]),
        (np.array([0.5, 1.0, 1.0, 0.0]), (), None),  # a regression
        (np.array([[1, 1], [0, 1], [1, 0], [0, 0]]), (), None),  # several labels each
        ({"a": np.array([0, 1, 1, 2]), "b": np.array([0, 1, 1, 2])}, (), None),  # several outputs
    ],
)
def test_the_class_of_each_test_example_is_kept_by_its_name(y: Any, names: tuple[str, ...], classes: Any) -> None:
    assert kept(y, names=names) == classes


def test_a_trial_and_a_model_without_accuracy_keep_none() -> None:
    y = np.array([0, 1, 1, 2])
    assert kept(y, is_trial=True) is None
    assert kept(y, told="test.loss") is None


def test_each_class_has_its_mean_over_its_examples_and_the_seeds() -> None:
    """Worked by hand: class 2 is right on 1 of 2 and 2 of 2, class 10 on 0 of 1 and 1 of 1."""
    classes = np.array(["10", "2", "2"])
    values = {1: np.array([0.0, 1.0, 0.0]), 2: np.array([1.0, 1.0, 1.0])}

    class Arm:
        runs = {1: 1, 2: 2}  # noqa: RUF012

        def values(self, metric: str) -> dict[int, float]:
            return {1: 1 / 3, 2: 1.0}

    def read(run: Any, name: str) -> Any:
        return classes if name == CLASSES else values[run]

    found = by_class({"base": Arm()}, "test.accuracy", read)  # type: ignore[dict-item]
    assert [(one.name, one.examples, one.values) for one in found] == [
        ("2", 2, {"base": 0.75}),
        ("10", 1, {"base": 0.5}),
    ]
    assert by_class({"base": Arm()}, "test.accuracy", lambda run, name: None) == ()  # type: ignore[dict-item]
