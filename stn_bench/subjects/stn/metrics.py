"""The metrics that every run ends with, and what a reader is told of each.

Beside these, `train.accuracy`, `train.loss`, `validation.accuracy` and `validation.loss` have one value an epoch.
"""

from __future__ import annotations

METRICS = {
    "test.accuracy": "fraction of test pictures read correctly, weights of the best epoch by validation",
    "test.loss": "mean cross-entropy on the test pictures in nats, weights of the best epoch by validation",
    "test.last_accuracy": "fraction of test pictures read correctly, weights of the last epoch",
    "test.last_loss": "mean cross-entropy on the test pictures in nats, weights of the last epoch",
    "best.validation.accuracy": "fraction of validation pictures read correctly, at the best epoch",
    "best.validation.loss": "mean cross-entropy on the validation pictures in nats, at the best epoch",
    "best.train.accuracy": "fraction of training pictures read correctly while training, at the best epoch",
    "best.train.loss": "mean cross-entropy on the training pictures while training in nats, at the best epoch",
    "last.validation.accuracy": "fraction of validation pictures read correctly, after the last epoch",
    "last.validation.loss": "mean cross-entropy on the validation pictures in nats, after the last epoch",
    "early.train.loss": "mean cross-entropy while training in nats, over the first tenth of the epochs",
    "letter.magnification": "how many times longer the transformer makes lengths, mean over test pictures",
    "letter.centring": "pixels by which it moves the letter's centre of mass to the middle, mean over test pictures",
    "best.epoch": "the epoch, from 1, with the best validation accuracy",
    "epochs": "epochs trained",
    "cost.parameters": "number of weights, moving statistics included",
    "cost.flops": "floating-point operations to read one picture",
    "cost.seconds": "seconds of training and validation",
    "cost.cpu_seconds": "processor seconds of the same, all threads: what else the machine does adds little to them",
    "cost.step_ms": "milliseconds per training step, median over epochs",
    "cost.peak_memory_mb": "largest resident memory of the training process in MiB",
}

TUNING_METRIC = "best.validation.accuracy"
"""What tuning maximises: the test pictures are kept for the verdict."""


def is_better_high(metric: str) -> bool:
    """Return whether a larger value of the metric is the better one: accuracies are, losses and costs are not."""
    return metric.endswith("accuracy") or metric.startswith("letter.")
