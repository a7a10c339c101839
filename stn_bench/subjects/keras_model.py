"""A Keras model of one's own as a subject: its data, its network, and what it is judged by.

    subject = KerasModel(Digits, data=data, build=build, loss="sparse_categorical_crossentropy", metrics=["accuracy"])

A study names it by its import path, `subject = "digits:subject"`. The harness trains with one `model.fit`, resumes bit
for bit, evaluates the weights of the best epoch on the test examples, once, and keeps a value for each of them.
Importing this module loads no Keras. The subject `stn` is trained by the same code.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from pathlib import Path
from typing import Any

from stn_bench.settings import Settings, defaults, override
from stn_bench.subject import DataNote, FormerKey, Lent, Metric, Outcome, Run, Subject
from stn_bench.subjects.keras_by_class import Noting, with_classes
from stn_bench.subjects.keras_classes import Look, learnable
from stn_bench.subjects.keras_training.libraries import check, keyed_libraries
from stn_bench.subjects.keras_training.metrics import declare, final_metrics, part_of
from stn_bench.subjects.keras_training.recipe import Recipe
from stn_bench.subjects.keras_training.shared_layers import refusing_trained
from stn_bench.subjects.keras_training.vetted import check_names, check_weight_table, vetting
from stn_bench.system.errors import ConfigError, DataError
from stn_bench.system.text import did_you_mean, shorten

TRAINING = ("stn_bench.subjects.keras_training.training", "train_model")
"""Module and function that train."""

FORMER = (
    FormerKey(  # before `stn` was trained by the same code
        roots=(TRAINING,),
        packages=("stn_bench.subjects.keras_training",),
        prefix="",
        libraries=keyed_libraries,
        code=str(Path(__file__).with_name("keras_training") / "former_code.json"),
    ),
)

EPOCHS, BATCH_SIZE = "epochs", "batch_size"
"""The settings that are looked for where no others are named; without them it is 10 epochs, and 32 examples."""

MODEL = "model.keras"
"""File of a run that was trained where there is no MLflow, which keeps models in a form of its own."""

NO_VALIDATION = '`data`: there are no validation examples; set some apart, or say best="train.loss"'

TAKEN_ALONG = ("prepare", "fingerprint", "originals", "split", "caveats", "example")
"""Fields of a subject that are taken from `data` where it has them, beside `describe`."""


def KerasModel(
    settings: type[Settings],
    *,
    data: Callable[..., Any],
    build: Callable[[Any], Any],
    loss: Any = None,
    metrics: Any = (),
    weighted_metrics: Any = (),
    optimizer: Callable[[Any], Any] | str | None = None,
    class_weight: Callable[[Any], Any] | Mapping[int, float] | None = None,
    callbacks: Callable[[Any], Sequence[Any]] | None = None,
    best: str = "validation.loss",
    epochs: str = EPOCHS,
    batch_size: str = BATCH_SIZE,
    small: Mapping[str, Any] | None = None,
    unseen_classes: str = "",
    **more: Any,
) -> Subject:
    """Return a Keras model as a subject.

    Final metrics are `test.M` and `best.validation.M` of each metric M and of the loss, with the weights of the best
    epoch; each epoch has `train.M` and `validation.M`. What a model compiled itself is kept; a `loss`, `optimizer` or
    metric object beside it is refused.

    Args:
        settings: the class of the settings.
        data: settings, or settings and `seed` -> (train, validation, test), or a mapping with these keys. Each is
            (x, y), (x, y, sample weights), or a `tf.data.Dataset` of batches; x and y are arrays, or tuples or dicts
            of arrays. Without validation, `best` is a metric of training. A parameter `folder` gets the folder of
            all data. Hooks that are attributes of it are taken along: a `PictureFolder` has them.
        build: settings -> a `keras.Model`, compiled or not.
        loss: as in `compile`.
        metrics: names, classes or objects as in `compile`, for several outputs by their names; and `Metric`s, which
            say what others mean, or name what the model itself tells of.
        weighted_metrics: the same, weighted by the sample weights.
        optimizer: settings -> optimizer, or its name; unset, Adam.
        class_weight: class -> weight, or a function of the settings that returns this.
        callbacks: settings -> new callbacks. They see the true epochs, also after an interruption.
        best: the metric of an epoch by which the best is chosen, earlier ones first; or "last".
        epochs: the setting that counts epochs.
        batch_size: the setting that holds the examples of a step; a `Dataset` makes its own.
        small: settings of a training of seconds; unset, 2 epochs.
        unseen_classes: why validation or test may show classes that training does not; unset, that is refused.
        more: further fields of `Subject`, such as `prepare`, `example`, `caveats`.

    Raises:
        ConfigError: if these cannot be used together.
    """
    _check(settings, data=data, build=build, callbacks=callbacks, epochs=epochs, batch_size=batch_size)
    if optimizer is not None and not isinstance(optimizer, str) and not _is_function(optimizer):
        raise ConfigError(
            "KerasModel: `optimizer`: expected a function of the settings that returns an optimizer, got "
            f"{type(optimizer).__name__}; one object would go from one training to the next"
        )
    has_loss = loss is not None or best.endswith(".loss") or not (metrics or weighted_metrics)
    if class_weight is not None and not callable(class_weight):
        check_weight_table(class_weight)
    declared = declare((metrics, weighted_metrics), has_loss=has_loss)
    check_names(loss=loss, optimizer=optimizer, metrics=metrics, weighted_metrics=weighted_metrics)
    chosen = part_of(best, declared)
    recipe = Recipe(
        data=data,
        build=refusing_trained(build),
        epochs=epochs,
        batch_size=batch_size,
        best=() if chosen is None else (chosen,),
        loss=loss,
        metrics=metrics,
        weighted_metrics=weighted_metrics,
        optimizer=optimizer,
        class_weight=class_weight,
        callbacks=callbacks,
    )
    more = _taken_along(settings, data) | more
    look = Look(recipe, unseen_classes)
    final = final_metrics(declared, best, look.count, more.get("example", "example"))
    final = tuple(replace(one, chance=look.chance) if _is_accuracy(one) else one for one in final)
    recipe = replace(recipe, final=final, data=learnable(data, loss, (metrics, weighted_metrics), unseen_classes))
    has_epochs = epochs in defaults(settings)

    def train(values: Any, seed: int, run: Run) -> Outcome:
        from stn_bench.subjects.keras_training.training import train_model

        noting = Noting.of(recipe)
        try:
            outcome = train_model(noting, values, seed, run)
        except DataError as error:
            if hasattr(data, "prepare") or isinstance(error.__cause__, OSError):
                raise  # every arm shares what was prepared, and the disk
            raise ConfigError(str(error)) from error.__cause__
        return _storable(with_classes(outcome, noting, [one.name for one in final if _is_accuracy(one)], run))

    # Its code is followed from there; what only describes a subject, in this module, is in no run key.
    train.__module__, train.__qualname__ = TRAINING

    def probe(values: Any, lent: Lent, scratch: Path) -> float:
        from stn_bench.subjects.keras_training.timing import measure_run

        return measure_run(recipe, values, lent, scratch)

    own_split = more.pop("split", None)

    def split(values: Any, folder: Path) -> str:
        _check_sizes(values.flat(), epochs, batch_size)
        words: str = own_split(values, folder) if own_split else ""
        if best.startswith("validation.") and hasattr(data, "lacks") and data.lacks("validation"):
            raise DataError(NO_VALIDATION)
        return words

    @functools.cache
    def addresses() -> tuple[str, ...]:
        return _addresses(train, build, data)

    known = [one.name for one in fields_of(Subject)]
    for name in more:
        if name not in known:
            arguments = [*inspect.signature(KerasModel).parameters, *known]
            raise ConfigError(f"KerasModel: no argument `{shorten(name)}`.{did_you_mean(name, arguments)}")
    fields: dict[str, Any] = {
        "name": "keras_model",
        "curve": _curve(declared, best, chosen),
        "tune_on": tuple(m.name for m in final if m.name == f"best.{best}" and best.startswith("validation.")),
        "budget": (epochs,) if has_epochs else (),
        "epochs": epochs if has_epochs else "",
        "small": small if small is not None else ({epochs: 2} if has_epochs else {}),
        "vet": vetting(recipe),
        "probe": probe,
        "split": split,
        "caveats": look.caveats,
        "libraries": keyed_libraries,
        "extensions": lambda values: addresses(),
        "check": check,
        "former": FORMER,
    }
    return Subject(settings=settings, train=train, metrics=final, **(fields | more))


def _check(
    settings: Any,
    *,
    data: Any,
    build: Any,
    callbacks: Any,
    epochs: str,
    batch_size: str,
) -> None:
    if not (isinstance(settings, type) and issubclass(settings, Settings)):
        raise ConfigError("KerasModel: expected a class of settings first, as in `class Digits(Settings)`")
    for name, value in (("data", data), ("build", build), ("callbacks", callbacks)):
        if not callable(value) and not (name == "callbacks" and value is None):
            raise ConfigError(f"KerasModel: `{name}`: expected a function of the settings, got {type(value).__name__}")
    known = defaults(settings)
    for option, path, usual in (("epochs", epochs, EPOCHS), ("batch_size", batch_size, BATCH_SIZE)):
        if path not in known and path != usual:
            raise ConfigError(f"KerasModel: `{option}`: no setting `{shorten(path)}`.{did_you_mean(path, known)}")


def _check_sizes(flat: Mapping[str, Any], *paths: str) -> None:
    """Check that there are epochs, and examples in a step.

    Raises:
        ConfigError: if there are to be none.
    """
    for path in paths:
        value = flat.get(path, 1)
        if isinstance(value, int | float) and value < 1:
            raise ConfigError(f"`{path}`: expected 1 or more, got {value:g}")


def _is_accuracy(metric: Metric) -> bool:
    """Return whether a metric of the test is how often the answer is right, and not whether it is among some."""
    name = metric.name.removeprefix("test.")
    return name != metric.name and "top_k" not in name and (name == "acc" or name.endswith("accuracy"))


def _storable(outcome: Outcome) -> Outcome:
    """Return an outcome whose model can be kept where there is no MLflow: as Keras' own file."""
    model = outcome.model
    if model is None:
        return outcome
    return replace(outcome, model=replace(model, keep=lambda folder: model.value.save(folder / MODEL)))


def _is_function(value: Any) -> bool:
    """Return whether a value can be called with the settings; a class of optimizers, or one of them, cannot."""
    return callable(value) and not isinstance(value, type) and not hasattr(value, "apply_gradients")


def _taken_along(settings: type[Settings], data: Any) -> dict[str, Any]:
    """Return the hooks of a subject that its data bring with them."""
    found = {name: getattr(data, name) for name in TAKEN_ALONG if hasattr(data, name)}
    if hasattr(data, "describe"):

        def describe(flat: Mapping[str, Any]) -> DataNote | None:
            known = {path: value for path, value in flat.items() if path in defaults(settings)}
            note: DataNote | None = data.describe(override(settings(), known)) if known else None
            return note

        found["describe"] = describe
    return found


def _curve(declared: Sequence[Metric], best: str, chosen: Metric | None) -> Metric:
    """Return what is drawn of each epoch: the first metric on the validation examples, where there are some."""
    if best.startswith("validation."):
        first = declared[0]
        return replace(first, name=f"validation.{first.name}", resolution=None, meaning=f"{first.meaning}, validation")
    return chosen or Metric("train.loss", "loss while training", "minimize")


def _addresses(train: Callable[..., Any], build: Callable[..., Any], data: Callable[..., Any]) -> tuple[str, ...]:
    """Return where the user's code begins: the statement that makes the subject, or else the functions that it names.

    The statement holds the loss, the metrics and all else that was said in it.
    """
    near = [name for name in (build.__module__, data.__module__) if name in sys.modules]
    for name, module in (*((name, sys.modules[name]) for name in near), *list(sys.modules.items())):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if isinstance(value, Subject) and value.train is train:
                return (f"{name}:{attribute}",)
    functions = [one for one in (data, build) if hasattr(one, "__qualname__")]
    return tuple(f"{one.__module__}:{one.__qualname__.partition('.')[0]}" for one in functions)


__all__ = ["KerasModel"]
