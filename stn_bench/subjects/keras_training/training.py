"""A run of a Keras model from its data to what it leaves, with one `model.fit`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    told,
    user_callbacks,
)
from stn_bench.subjects.keras_training.data import Part, map_tree
from stn_bench.subjects.keras_training.flops import Counter
from stn_bench.subjects.keras_training.forget import forget_gradients
from stn_bench.subjects.keras_training.kept import cost_of, served, state_of
from stn_bench.subjects.keras_training.progress import Beginning, Conductor, Course, Progress, assign
from stn_bench.subjects.keras_training.recipe import Epoch, Recipe
from stn_bench.subjects.keras_training.scores import MOST_VALUES, example_scores
from stn_bench.system.errors import ConfigError

LOG = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.npz"
PREDICTIONS = "predictions.npz"
"""File of a run with what the model said of each test example, where that is small."""


@dataclass(frozen=True)
class FittedModel:
    """A training that came to its end, its model with the weights of the last epoch.

    Args:
        recipe: what was trained.
        settings: the settings.
        model: the model.
        parts: the data, by the names of `PARTS`.
        progress: the epochs.
        best: the model's variables at the best epoch; () where the last one is taken.
        run: what the harness lent.
    """

    recipe: Recipe
    settings: Any
    model: keras.Model
    parts: Mapping[str, Part]
    progress: Progress
    best: Sequence[Numbers]
    run: Run

    def take_best(self) -> None:
        """Put the weights of the best epoch into the model; a training that diverged keeps its last."""
        if self.recipe.best and not self.progress.diverged:
            assign(self.model.variables, list(self.best))

    @property
    def at_best(self) -> dict[str, float]:
        """The metrics of the best epoch, or of the first where none was the best."""
        best = max(1, self.progress.best_epoch) - 1
        return {f"best.{name}": series[best] for name, series in self.progress.history.items()}

    def outcome(self, metrics: Mapping[str, float], own: Counter | None = None) -> Outcome:
        """Return what a training ended with: its curves and costs, and some metrics beside.

        Args:
            metrics: what was found out about the trained model.
            own: counts the operations of layers that Keras does not have.
        """
        progress, model = self.progress, self.model
        counts = {"best.epoch": progress.best_epoch, "epochs": progress.epoch}
        return Outcome(
            {**counts, **progress.costs, **metrics},
            status="diverged" if progress.diverged else "finished",
            reason=progress.diverged,
            history=progress.history,
            cost=cost_of(model, own),
            state=lambda: state_of(model),
        )


@contextlib.contextmanager
def fitted(recipe: Recipe, settings: Any, seed: int, run: Run) -> Iterator[FittedModel]:
    """Train a model, or go on from the checkpoint in the run's folder, and lend it until what it left is kept.

    The same settings and seed give the same weights, bit for bit, however often training was interrupted, if the data
    are arrays. A dataset of the user's begins anew after an interruption: what it shuffles by itself is then in
    another order, unless that is the same in each epoch. Random numbers that TensorFlow draws by a state of its own,
    as `tf.random` does in a `train_step`, go on in another order too; those of Keras' layers do not.

    Args:
        recipe: what is trained.
        settings: the settings.
        seed: drives initialisation, order of the examples and dropout.
        run: what the harness lends.

    Raises:
        ConfigError: if the functions of the recipe do not fit together, or raise.
        DataError: if there are no data that can be used.
        Interrupted: if the harness asked to stop before the last epoch; the checkpoint stays.
    """
    with keras_as_it_was():
        try:
            checkpoint = read_checkpoint(run.folder / CHECKPOINT, run.key)
            try:
                trained = _train(recipe, settings, seed, run, checkpoint)
            except CannotGoOn as error:
                LOG.warning("training starts over: %s", error)
                trained = _train(recipe, settings, seed, run, None)
            yield trained
        finally:
            forget_gradients()


def _train(recipe: Recipe, settings: Any, seed: int, run: Run, checkpoint: Checkpoint | None) -> FittedModel:
    keras.utils.set_random_seed(seed)  # what `data` draws
    parts = recipe.read(settings, seed, run.data)
    start = recipe.start(run.start, settings, seed) if recipe.start and run.start else None
    model = build_model(recipe, settings, seed)
    callbacks = user_callbacks(recipe, settings)
    size, train, validation = recipe.step_size(settings), parts["train"], parts.get("validation")
    course = _course(recipe, settings, seed, validation)
    conductor = Conductor(run, course, callbacks, checkpoint, run.folder / CHECKPOINT)
    alter = recipe.alter(settings, seed) if recipe.alter else None
    shuffled = Shuffled(train, size, seed, sized=recipe.sized, alter=alter) if train.dataset is None else None
    with _fitting(model, train, conductor):
        build_variables(model, first_batch(train)[0])
        if start is not None:
            assign(model.variables, list(start))
        model.fit(
            shuffled.batches if shuffled else train.dataset,
            epochs=conductor.last,
            initial_epoch=conductor.progress.epoch,
            validation_data=None if validation is None or course.validate else in_order(validation, size),
            class_weight=class_weights(recipe, settings),
            callbacks=[Beginning(seed, shuffled.begin if shuffled else lambda epoch: None), *callbacks, conductor],
            shuffle=False,
            verbose=0,
        )
    return FittedModel(recipe, settings, model, parts, conductor.progress, conductor.best_weights, run)


def _course(recipe: Recipe, settings: Any, seed: int, validation: Part | None) -> Course:
    wanted = [one.name.removeprefix("best.") for one in recipe.final if one.name.startswith("best.validation.")]
    if wanted and validation is None:
        raise ConfigError('`data`: there are no validation examples; return some, or say best="train.loss"')
    wanted += [one.name for one in recipe.best if one.name not in wanted]
    return Course(recipe.num_epochs(settings), recipe.best, tuple(wanted), _judge(recipe, settings, seed, validation))


def _judge(
    recipe: Recipe, settings: Any, seed: int, validation: Part | None
) -> Callable[[keras.Model, int], Mapping[str, float]] | None:
    """Return what judges each epoch in Keras' place, if anything does."""
    judge = recipe.validate
    if judge is None or validation is None:
        return None
    return lambda model, epoch: judge(model, validation, Epoch(settings, seed, epoch))


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


def train_model(recipe: Recipe, settings: Any, seed: int, run: Run) -> Outcome:
    """Train a Keras model of the user's, test it with the weights of its best epoch, and return what it ended with.

    Args:
        recipe: what was given to `KerasModel`.
        settings: the settings.
        seed: drives initialisation, order of the examples and dropout.
        run: what the harness lends.

    Raises:
        ConfigError, DataError, Interrupted: as `fitted` does.
    """
    with fitted(recipe, settings, seed, run) as trained:
        trained.take_best()
        return _outcome(trained)


def _outcome(trained: FittedModel) -> Outcome:
    outcome, model = trained.outcome({}), trained.model
    if outcome.status == "diverged":
        return outcome
    tested, examples, predicted = _test(trained)
    metrics = {**outcome.metrics, **trained.at_best, **{f"test.{name}": value for name, value in tested.items()}}
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


def _test(trained: FittedModel) -> tuple[dict[str, float], dict[str, Numbers], Any]:
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
