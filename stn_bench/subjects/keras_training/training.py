"""A run of a Keras model from its data to what it leaves, with one `model.fit`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from stn_bench.subject import Numbers, Outcome, Run
from stn_bench.subjects.keras_training.batches import Shuffled, first_batch, in_order, inputs, targets
from stn_bench.subjects.keras_training.checkpoint import CannotGoOn, Checkpoint, read_checkpoint
from stn_bench.subjects.keras_training.compiled import (
    build_model,
    build_variables,
    class_weights,
    keras_as_it_was,
    optimizers,
    told,
    user_callbacks,
)
from stn_bench.subjects.keras_training.data import Part, map_tree
from stn_bench.subjects.keras_training.kept import cost_of, served
from stn_bench.subjects.keras_training.progress import Beginning, Conductor, Progress, assign, values
from stn_bench.subjects.keras_training.recipe import Recipe
from stn_bench.subjects.keras_training.scores import MOST_VALUES, example_scores
from stn_bench.subjects.stn.nn.forget import forget_gradients
from stn_bench.system.errors import ConfigError

LOG = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.npz"
PREDICTIONS = "predictions.npz"
"""File of a run with what the model said of each test example, where that is small."""


def train_model(recipe: Recipe, settings: Any, seed: int, run: Run) -> Outcome:
    """Train a model, or go on from the checkpoint in the run's folder, and return what it ended with.

    The same settings and seed give the same weights, bit for bit, however often training was interrupted, if the data
    are arrays. A dataset of the user's begins anew after an interruption: what it shuffles by itself is then in
    another order, unless that is the same in each epoch. Random numbers that TensorFlow draws by a state of its own,
    as `tf.random` does in a `train_step`, go on in another order too; those of Keras' layers do not.

    Args:
        recipe: what was given to `KerasModel`.
        settings: the settings.
        seed: drives initialisation, order of the examples and dropout.
        run: what the harness lends.

    Raises:
        ConfigError: if the user's functions do not fit together, or raise.
        DataError: if there are no data that can be used.
        Interrupted: if the harness asked to stop before the last epoch; the checkpoint stays.
    """
    with keras_as_it_was():
        try:
            checkpoint = read_checkpoint(run.folder / CHECKPOINT, run.key)
            try:
                return _train(recipe, settings, seed, run, checkpoint)
            except CannotGoOn as error:
                LOG.warning("training starts over: %s", error)
                return _train(recipe, settings, seed, run, None)
        finally:
            forget_gradients()


@dataclass(frozen=True)
class _Trained:
    """A training that came to its end."""

    recipe: Recipe
    settings: Any
    model: keras.Model
    parts: Mapping[str, Part]
    progress: Progress
    run: Run


def _train(recipe: Recipe, settings: Any, seed: int, run: Run, checkpoint: Checkpoint | None) -> Outcome:
    keras.utils.set_random_seed(seed)  # what `data` draws
    parts = recipe.read(settings, seed, run.data)
    model = build_model(recipe, settings, seed)
    callbacks = user_callbacks(recipe, settings)
    size, epochs = recipe.step_size(settings), recipe.num_epochs(settings)
    train, validation = parts["train"], parts.get("validation")
    wanted = [one.name.removeprefix("best.") for one in recipe.final if one.name.startswith("best.validation.")]
    if wanted and validation is None:
        raise ConfigError('`data`: there are no validation examples; return some, or say best="train.loss"')
    if recipe.best is not None and recipe.best.name not in wanted:
        wanted.append(recipe.best.name)
    conductor = Conductor(run, epochs, recipe.best, wanted, callbacks, checkpoint, run.folder / CHECKPOINT)
    shuffled = Shuffled(train, size, seed) if train.dataset is None else None
    with _fitting(model, train, conductor):
        build_variables(model, first_batch(train)[0])
        model.fit(
            shuffled.batches if shuffled else train.dataset,
            epochs=conductor.last,
            initial_epoch=conductor.progress.epoch,
            validation_data=None if validation is None else in_order(validation, size),
            class_weight=class_weights(recipe, settings),
            callbacks=[Beginning(seed, shuffled.begin if shuffled else lambda epoch: None), *callbacks, conductor],
            shuffle=False,
            verbose=0,
        )
    if recipe.best is not None and not conductor.progress.diverged:
        assign(model.variables, conductor.best_weights)
    return _outcome(_Trained(recipe, settings, model, parts, conductor.progress, run))


@contextlib.contextmanager
def _fitting(model: keras.Model, train: Part, conductor: Conductor) -> Iterator[None]:
    """Tell of what does not fit, with the shapes that the data have and that the model asks for.

    Raises:
        ConfigError: for any error that is not ours.
    """
    try:
        with told("`model.fit`"):
            yield
    except ConfigError as error:
        if error.__cause__ is None:
            raise
        if conductor.refused is not None:
            raise conductor.refused from None
        asked = getattr(model, "input_shape", None)
        given = map_tree(lambda one: (None, *one.shape[1:]), first_batch(train)[0])
        shapes = f"; x has {given}" + (f", the model takes {asked}" if asked else "")
        raise ConfigError(str(error).partition("\n")[0] + shapes + _rest(error)) from error.__cause__


def _rest(error: ConfigError) -> str:
    _, newline, rest = str(error).partition("\n")
    return newline + rest


# What it leaves ------------------------------------------------------------------------------------------------------


def _outcome(trained: _Trained) -> Outcome:
    progress, model = trained.progress, trained.model
    metrics: dict[str, float] = {"best.epoch": progress.best_epoch, "epochs": progress.epoch}
    metrics |= {
        "cost.seconds": progress.seconds,
        "cost.cpu_seconds": progress.cpu_seconds,
        "cost.step_ms": _step_ms(progress),
    }
    outcome = Outcome(metrics, history=progress.history, cost=cost_of(model), state=lambda: _state(model))
    if progress.diverged:
        return replace(outcome, status="diverged", reason=progress.diverged)
    tested, examples, predicted = _test(trained)
    best = max(1, progress.best_epoch) - 1
    metrics |= {f"best.{name}": series[best] for name, series in progress.history.items()}
    metrics |= {f"test.{name}": value for name, value in tested.items()}
    known = {one.name for one in trained.recipe.final}
    missing = [name for name in sorted(known) if name not in metrics]
    if missing:
        found = ", ".join(name for name in metrics if name.startswith(missing[0].rpartition(".")[0] + "."))
        raise ConfigError(f"`metrics`: there is no `{missing[0]}`; the model told {found or 'nothing'}")
    kept = {name: value for name, value in metrics.items() if name in known or name.startswith("cost.")}
    named = {f"test.{name}": one for name, one in examples.items() if f"test.{name}" in known}
    is_kept = predicted is not None and not trained.run.is_trial
    model_kept = served(model, first_batch(trained.parts["test"])[0], predicted) if is_kept else None
    return replace(outcome, metrics=kept, examples=named, model=model_kept)


def _step_ms(progress: Progress) -> float:
    """Return the median over epochs; the first, which also traces the graph, counts only if it is the only one."""
    epochs = progress.fit_seconds[1:] or progress.fit_seconds or [0.0]
    return float(np.median(epochs)) / max(1, progress.steps) * 1000


def _test(trained: _Trained) -> tuple[dict[str, float], dict[str, Numbers], Any]:
    """Look at the test examples, once: return metrics, their values for each example, and what the model said."""
    model, part = trained.model, trained.parts["test"]
    size = trained.recipe.step_size(trained.settings)
    with told("`model.evaluate`"):
        told_by_keras = model.evaluate(in_order(part, size), return_dict=True, verbose=0)
    tested = {name: float(value) for name, value in told_by_keras.items()}
    try:
        predicted = map_tree(np.asarray, model.predict(inputs(part, size), verbose=0))
    except Exception as error:  # a loop of its own may have no prediction
        LOG.info("no predictions are kept (%s)", error)
        return tested, {}, None
    arrays = predicted if isinstance(predicted, dict) else None
    flat = {name: one for name, one in (arrays or {}).items()} or {
        f"output_{index}": one for index, one in enumerate(predicted if isinstance(predicted, tuple) else (predicted,))
    }
    if sum(one.size for one in flat.values()) > MOST_VALUES:
        return tested, {}, predicted
    if not trained.run.is_trial:
        np.savez_compressed(trained.run.files / PREDICTIONS, allow_pickle=False, **flat)
    examples = example_scores(model, predicted, targets(part), tested)
    return tested | {name: float(one.mean()) for name, one in examples.items()}, examples, predicted


def _state(model: keras.Model) -> Mapping[str, Numbers]:
    """Return every variable of model and optimizers by its path; where two share one, a number tells them apart."""
    variables = [*model.variables, *(one for optimizer in optimizers(model) for one in optimizer.variables)]
    seen: dict[str, int] = {}
    names = []
    for variable in variables:
        seen[variable.path] = seen.get(variable.path, 0) + 1
        names.append(variable.path if seen[variable.path] == 1 else f"{variable.path} ({seen[variable.path]})")
    return dict(zip(names, values(variables), strict=True))
