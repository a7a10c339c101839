"""Which classes validation and test show and training does not, of a Keras model whose user split the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stn_bench.subject import Metric
from stn_bench.subjects.keras_classes import MEND, beyond_training, lacking_classes, learnable, of_one_class
from stn_bench.subjects.keras_training.data import read_parts
from stn_bench.system.errors import DataError

SPARSE, ONE_HOT = "sparse_categorical_crossentropy", "categorical_crossentropy"
X = np.zeros((6, 2))


def told(train: Any, test: Any, loss: Any = SPARSE, metrics: Any = ()) -> list[str]:
    parts = read_parts({"train": (X, train), "test": (X, test)})
    return list(lacking_classes(parts, loss, (metrics, ())))


SORTED = ["no training example shows 2, which the test examples show"]


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32])
def test_labels_that_lie_sorted(kind: type) -> None:
    train, test = np.array([0, 0, 0, 1, 1, 1], kind), np.array([1, 1, 1, 2, 2, 2], kind)
    assert told(train, test) == SORTED
    assert told(train[:, None], test[:, None]) == SORTED
    assert told(train, train) == told(test, test) == []


def test_rows_with_a_single_one() -> None:
    rows = np.eye(3)
    assert told(rows[[0, 0, 0, 1, 1, 1]], rows[[1, 1, 1, 2, 2, 2]], ONE_HOT) == SORTED


def test_labels_by_name() -> None:
    train, test = np.array(["a", "b"] * 3), np.array(["a", "c"] * 3)
    assert told(train, test) == ["no training example shows c, which the test examples show"]


@pytest.mark.parametrize("metrics", [["accuracy"], [Metric("accuracy")], ["mae", "sparse_categorical_accuracy"]])
def test_a_metric_says_too_that_there_are_classes(metrics: Any) -> None:
    assert told(np.array([0, 1] * 3), np.array([1, 2] * 3), None, metrics) == SORTED


def test_of_whole_numbers_that_are_no_classes_nothing_is_told() -> None:
    assert told(np.array([3, 5] * 3), np.array([4, 9] * 3), "mse", ["mae"]) == []


def test_outputs_are_told_apart() -> None:
    train, test = ({"kind": np.array(one), "price": np.array(one)} for one in ([0, 1] * 3, [1, 2] * 3))
    assert told(train, test, {"kind": SPARSE, "price": "mse"}) == [
        "no training example of output `kind` shows 2, which the test examples show"
    ]


def test_many_are_cut_short() -> None:
    assert told(np.zeros(6, int), np.arange(1, 7)) == [
        "no training example shows 1, 2, 3, 4, 5, …, which the test examples show"
    ]


@pytest.mark.parametrize("meant", ["", "new kinds come in later"])
def test_a_model_tells_it_once_and_reads_its_data_once(meant: str) -> None:
    import keras
    from keras_subjects import Small

    from stn_bench.subjects.keras_model import KerasModel

    calls = []

    def data(settings: Small) -> Any:
        calls.append(settings)
        x, y = np.zeros((30, 2)), np.repeat([0, 1, 2], 10)
        y[10], y[20] = 0, 0  # so that training shows some class of each
        return (x[:10], y[:10]), (x[10:20], y[10:20]), (x[20:], y[20:])

    def build(settings: Small) -> keras.Model:
        raise NotImplementedError

    given = {"data": data, "build": build, "loss": SPARSE, "metrics": ["accuracy"]}
    subject = KerasModel(Small, **given, unseen_classes=meant)
    settings = Small()
    assert subject.metrics[0].examples(settings) == 10
    assert subject.caveats is not None
    why = ": new kinds come in later" if meant else f"; `run` refuses that: {MEND}"
    assert list(subject.caveats(settings, None)) == [
        f"no training example shows 1, which the validation examples show{why}",
        f"no training example shows 2, which the test examples show{why}",
    ]
    assert list(subject.caveats(settings, settings)) == []
    assert len(calls) == 1


@pytest.mark.parametrize("labels", [np.arange(4), np.array(["a", "b", "c", "d"]), np.eye(4)])
def test_data_of_which_training_shows_no_class_of_the_test_are_refused(labels: Any) -> None:
    """As data that lie sorted by class, cut into parts: nothing that is learned could help."""
    train, test = labels[[0, 0, 1, 1, 2, 2]], labels[[3] * 6]
    read = learnable(lambda settings: {"train": (X, train), "test": (X, test)}, SPARSE, (["accuracy"],))
    with pytest.raises(
        DataError, match=r"training shows none of the classes that the test examples show, such as \S+; if"
    ):
        read(None)


ONE_LACKS = [
    (np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 2, 3, 0, 1]), SPARSE),
    (np.array([[0], [0], [1], [1], [2], [2]]), np.array([[3], [1], [2], [1], [0], [1]]), SPARSE),
    (np.eye(4)[[0, 0, 1, 1, 2, 2]], np.eye(4)[[0, 1, 2, 3, 0, 1]], ONE_HOT),
    (np.array(["0", "0", "1", "1", "2", "2"]), np.array(["0", "1", "2", "3", "0", "1"]), SPARSE),
    (np.zeros(6), np.array([0, 3.0, 0, 3, 0, 0]), "binary_crossentropy"),
]


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize(("train", "other", "loss"), ONE_LACKS)
def test_one_class_that_training_lacks_is_refused_unless_it_is_meant(
    train: Any, other: Any, loss: str, part: str
) -> None:
    parts = {"train": (X, train), "validation": (X, train), "test": (X, train)} | {part: (X, other)}
    with pytest.raises(DataError, match=rf"`data`: no training example shows 3, which the {part} examples show; shuf"):
        learnable(lambda settings: parts, loss, ((),))(None)
    assert learnable(lambda settings: parts, loss, ((),), "new kinds")(None) is parts


def test_a_split_of_one_s_own_as_a_tuple_is_looked_at_too() -> None:
    parts = (X, np.array([0, 1] * 3)), (X, np.array([0, 1] * 3)), (X, np.array([0, 2] * 3))
    with pytest.raises(DataError, match="no training example shows 2, which the test examples show"):
        learnable(lambda settings: parts, SPARSE, ((),))(None)


def test_numbers_have_no_classes_that_could_lack() -> None:
    parts = {"train": (X, np.array([0, 0, 1, 1, 2, 2])), "test": (X, np.array([3] * 6))}
    assert learnable(lambda settings, seed=0: parts, "mse", ((),))(None, seed=3) is parts


def test_a_plan_counts_no_examples_of_data_that_cannot_serve_and_a_report_still_tells() -> None:
    from keras_subjects import Small

    from stn_bench.subjects.keras_model import KerasModel

    def data(settings: Small) -> Any:
        x, y = np.zeros((30, 2)), np.repeat([0, 1, 2], 10)
        return (x[:10], y[:10]), (x[10:20], y[10:20]), (x[20:], y[20:])

    subject = KerasModel(Small, data=data, build=lambda settings: None, loss=SPARSE, metrics=["accuracy"])
    with pytest.raises(DataError, match="training shows none of the classes that the validation examples show"):
        subject.known_metrics["test.accuracy"].resolution(Small())
    assert len(list(subject.caveats(Small(), None))) == 2


def test_numbers_that_lie_sorted_are_told() -> None:
    targets = np.linspace(0, 1, 12)
    parts = read_parts({"train": (X, targets[:6]), "test": (X, targets[6:])})
    assert list(beyond_training(parts, "mse", (["mae"],))) == [
        "100 % of the test targets lie outside of those of training, as where examples were sorted before they were "
        "split"
    ]
    mixed = read_parts({"train": (X, targets[::2]), "test": (X, targets[1::2])})
    assert list(beyond_training(mixed, "mse", (["mae"],))) == []
    assert list(beyond_training(parts, SPARSE, ())) == []


def test_examples_of_one_class_are_told() -> None:
    parts = read_parts({"train": (X, np.ones(6, int)), "test": (X, np.ones(6, int))})
    assert list(of_one_class(parts, SPARSE, ())) == ["all examples show class 1: there is nothing to tell apart"]
