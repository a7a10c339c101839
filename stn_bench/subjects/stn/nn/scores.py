"""What a network says of pictures, and how far that is right."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np

from stn_bench.subjects.stn.data.dataset import Pictures

PREDICT_BATCH = 256
SMALLEST_PROBABILITY = 1e-7  # Keras' own epsilon: keeps the loss of a certain mistake finite


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the class probabilities, shape (count, classes), of every picture."""
    batches = math.ceil(len(images) / PREDICT_BATCH)
    even = math.ceil(len(images) / batches)  # equal batches: one traced function serves all
    return np.asarray(model.predict(np.asarray(images), batch_size=even, verbose=0), np.float32)


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return accuracy and mean cross-entropy in nats of probabilities, shape (count, classes)."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    accuracy = np.mean(probabilities.argmax(axis=1) == labels)
    loss = -np.mean(np.log(np.clip(chosen, SMALLEST_PROBABILITY, None)))
    return {"accuracy": float(accuracy), "loss": float(loss)}


def whole_validation(pictures: Pictures, batch_size: int, seed: int, epoch: int) -> Pictures:
    """Return all validation pictures."""
    return pictures


def shuffled_cut_validation(pictures: Pictures, batch_size: int, seed: int, epoch: int) -> Pictures:
    """Return the validation pictures of an epoch as the article takes them: whole batches only, in a new order.

    Its generator was asked for `floor(n / batch)` batches and shuffled each epoch: others were left out each time.
    """
    kept = len(pictures) // batch_size * batch_size
    order = np.sort(np.random.default_rng([seed, epoch, 1]).permutation(len(pictures))[:kept])
    return Pictures(pictures.images[order], pictures.labels[order])


VALIDATIONS: dict[str, Callable[[Pictures, int, int, int], Pictures]] = {
    "whole": whole_validation,
    "shuffled_cut": shuffled_cut_validation,
}
