"""The predictions of a model: accuracy, mistakes and confusion, as far as the pictures' names tell. Pure."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """The prediction of a model for one picture.

    Args:
        picture: the file.
        label: the character that its name or its folder says it is, or "".
        letter: the character that the model gives the highest probability.
        probability: that probability.
    """

    picture: Path
    label: str
    letter: str
    probability: float


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model for some pictures.

    A picture whose name says a character that the model does not know is in none of the numbers: the model cannot be
    right about it. It is listed in `unknown`.

    Args:
        alphabet: the characters that the model knows.
        pictures: what it read, picture by picture.
    """

    alphabet: str
    pictures: tuple[Prediction, ...]

    @property
    def labelled(self) -> tuple[int, ...]:
        """Indices of the pictures whose names say a character of the alphabet."""
        return tuple(index for index, one in enumerate(self.pictures) if one.label and one.label in self.alphabet)

    @property
    def unknown(self) -> tuple[int, ...]:
        """Indices of the pictures whose names say another character."""
        return tuple(index for index, one in enumerate(self.pictures) if one.label and one.label not in self.alphabet)

    @property
    def mistakes(self) -> tuple[int, ...]:
        """Indices of the labelled pictures read wrongly, the most confident first."""
        wrong = (index for index in self.labelled if self.pictures[index].letter != self.pictures[index].label)
        return tuple(sorted(wrong, key=lambda index: -self.pictures[index].probability))

    @property
    def correct(self) -> int:
        """Number of labelled pictures read correctly."""
        return len(self.labelled) - len(self.mistakes)

    @property
    def accuracy(self) -> float | None:
        """Fraction of the labelled pictures read correctly, or None if none is labelled."""
        return self.correct / len(self.labelled) if self.labelled else None

    def confusion(self) -> NDArray[np.int64]:
        """Return how many pictures of each character were read as each, `(truth, letter)` in the alphabet's order."""
        counts = np.zeros((len(self.alphabet), len(self.alphabet)), np.int64)
        for index in self.labelled:
            one = self.pictures[index]
            counts[self.alphabet.index(one.label), self.alphabet.index(one.letter)] += 1
        return counts

    def sentence(self) -> str:
        """Return how many pictures were read correctly, in words."""
        if self.accuracy is None:
            return "no picture's name carries a label of the model's alphabet"
        return f"{self.correct} of {len(self.labelled)} labelled pictures read correctly, {100 * self.accuracy:.2f} %"

    def lines(self) -> list[str]:
        """Return what was read, a line a picture; behind them accuracy and mistakes, where names carry labels."""
        read = [f"{one.picture}  {one.letter}  {one.probability:.4f}" for one in self.pictures]
        if any(one.label for one in self.pictures):
            read += ["", f"accuracy: {self.sentence()}"]
        wrong = [self.pictures[index] for index in self.mistakes]
        if wrong:
            read.append(f"{_count('mistake', len(wrong))}, the most confident first:")
        read += [f"  {one.picture}  {one.label} read as {one.letter}  {one.probability:.4f}" for one in wrong]
        unlabelled = sum(not one.label for one in self.pictures)
        if self.labelled and unlabelled:
            read.append(f"{_count('picture', unlabelled)} without a label in the name, not counted")
        unknown = [self.pictures[index] for index in self.unknown]
        if unknown:
            read.append(f"{_count('picture', len(unknown))} with a label outside {self.alphabet}, not counted:")
        return read + [f"  {one.picture}  unknown label {one.label}" for one in unknown]

    def tree(self) -> dict[str, Any]:
        """Return the same as plain data, for JSON."""
        return {
            "accuracy": self.accuracy,
            "correct": self.correct,
            "labelled": len(self.labelled),
            "pictures": [_tree(one) for one in self.pictures],
            "mistakes": [_tree(self.pictures[index]) for index in self.mistakes],
            "unknown_labels": [_tree(self.pictures[index]) for index in self.unknown],
            "confusion": {"alphabet": self.alphabet, "counts": self.confusion().tolist()} if self.labelled else None,
        }


def _tree(one: Prediction) -> dict[str, Any]:
    return {
        "picture": str(one.picture),
        "label": one.label or None,
        "letter": one.letter,
        "probability": one.probability,
    }


def _count(noun: str, number: int) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def mistakes_csv(predictions: Predictions) -> str:
    """Return every mistake as a line of CSV, the most confident first."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("picture", "label", "letter", "probability"))
    for one in (predictions.pictures[index] for index in predictions.mistakes):
        table.writerow((one.picture, one.label, one.letter, f"{one.probability:.6f}"))
    return text.getvalue()
