from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from stn_bench.subjects.stn.predictions import Prediction, Predictions, mistakes_csv

# Truth and letter read of nine labelled pictures, one without a label, and one that the alphabet does not have.
PAIRS = ["AA", "AB", "AA", "BB", "BA", "BA", "BC", "CC", "CC"]
PROBABILITIES = [0.9, 0.4, 0.8, 0.7, 0.6, 0.95, 0.5, 0.99, 0.3]


def prediction(label: str, letter: str, probability: float, name: str = "") -> Prediction:
    return Prediction(Path(name or f"0001_{label}.png"), label, letter, probability)


@pytest.fixture
def predictions() -> Predictions:
    known = [prediction(*pair, probability) for pair, probability in zip(PAIRS, PROBABILITIES, strict=True)]
    return Predictions("ABC", (*known, prediction("", "A", 0.5, "photo.png"), prediction("x", "B", 0.5)))


def test_confusion_counts_each_pair(predictions: Predictions) -> None:
    by_hand = [[PAIRS.count(truth + letter) for letter in "ABC"] for truth in "ABC"]
    assert predictions.confusion().tolist() == by_hand == [[2, 1, 0], [2, 1, 1], [0, 0, 2]]


def test_accuracy_is_of_the_labelled_pictures_alone(predictions: Predictions) -> None:
    assert (predictions.correct, len(predictions.labelled), predictions.accuracy) == (5, 9, 5 / 9)
    assert np.trace(predictions.confusion()) == predictions.correct


def test_mistakes_come_with_the_most_confident_first(predictions: Predictions) -> None:
    wrong = [predictions.pictures[index] for index in predictions.mistakes]
    assert [(one.label + one.letter, one.probability) for one in wrong] == [
        ("BA", 0.95),
        ("BA", 0.6),
        ("BC", 0.5),
        ("AB", 0.4),
    ]


def test_csv_holds_every_mistake(predictions: Predictions) -> None:
    rows = list(csv.DictReader(StringIO(mistakes_csv(predictions))))
    assert [(row["label"], row["letter"], float(row["probability"])) for row in rows] == [
        (one.label, one.letter, one.probability)
        for one in (predictions.pictures[index] for index in predictions.mistakes)
    ]


def test_csv_keeps_a_comma_in_a_file_name() -> None:
    one = Predictions("AB", (prediction("A", "B", 0.5, 'a, "b"_A.png'),))
    assert next(csv.DictReader(StringIO(mistakes_csv(one))))["picture"] == 'a, "b"_A.png'


def test_lines_tell_accuracy_mistakes_and_what_was_not_counted(predictions: Predictions) -> None:
    assert predictions.lines() == [
        *[f"{one.picture}  {one.letter}  {one.probability:.4f}" for one in predictions.pictures],
        "",
        "accuracy: 5 of 9 labelled pictures read correctly, 55.56 %",
        "4 mistakes, the most confident first:",
        "  0001_B.png  B read as A  0.9500",
        "  0001_B.png  B read as A  0.6000",
        "  0001_B.png  B read as C  0.5000",
        "  0001_A.png  A read as B  0.4000",
        "1 picture without a label in the name, not counted",
        "1 picture with a label outside ABC, not counted:",
        "  0001_x.png  unknown label x",
    ]


def test_unlabelled_pictures_have_their_lines_and_no_accuracy() -> None:
    assert Predictions("AB", (prediction("", "A", 0.5, "photo.png"),)).lines() == ["photo.png  A  0.5000"]


def test_tree_has_no_accuracy_without_labels() -> None:
    tree = Predictions("AB", (prediction("", "A", 0.5, "photo.png"), prediction("x", "A", 0.5))).tree()
    assert (tree["accuracy"], tree["confusion"], tree["labelled"], tree["mistakes"]) == (None, None, 0, [])
    assert [row["label"] for row in tree["pictures"]] == [None, "x"]
    assert [row["label"] for row in tree["unknown_labels"]] == ["x"]
