"""`KerasModel`: what it declares, what it refuses, and that training resumes bit for bit."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import keras_subjects as kinds
import numpy as np
import pytest

from stn_bench.runner.determinism import Trained, first_difference
from stn_bench.runner.job import LentRun
from stn_bench.subject import Lent, Metric, Outcome, Subject
from stn_bench.subjects.keras_model import KerasModel
from stn_bench.system.errors import ConfigError, DataError, Interrupted, StnBenchError
from stn_bench.tracking.identity import identify

Small = kinds.Small
TABLE: dict[str, Any] = {"data": kinds.table_data, "build": kinds.table_model, "loss": "mse"}


@dataclass
class Training:
    """A training, and what it told."""

    folder: Path
    stop: int = 0
    error: type[Exception] = Interrupted
    told: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)

    def tell(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.told.append((epoch, dict(metrics)))
        if epoch == self.stop:
            raise self.error(f"stopped after epoch {epoch}")

    def of(self, subject: Subject, seed: int = 1, **settings: Any) -> Outcome:
        for name in ("checkpoints", "files"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        run = LentRun("k" * 64, self.folder, self.folder / "checkpoints", self.folder / "files", self.tell)
        outcome = subject.train(subject.read(settings), seed, run)
        assert isinstance(outcome, Outcome)
        return outcome


def resumes(
    subject: Subject, folder: Path, caplog: pytest.LogCaptureFixture, *, stop: int = 2, **settings: Any
) -> Outcome:
    """Train in one go and with a stop, and see that both end alike; return the whole one's outcome."""
    whole = Training(folder / "whole")
    outcome = whole.of(subject, **settings)
    with pytest.raises(Interrupted):
        Training(folder / "parts", stop).of(subject, **settings)
    rest = Training(folder / "parts")
    again = rest.of(subject, **settings)
    assert "starts over" not in caplog.text
    assert rest.told == whole.told
    assert first_difference(Trained.of(outcome), Trained.of(again)) is None
    assert outcome.examples.keys() == again.examples.keys()
    return outcome


# Trainings -----------------------------------------------------------------------------------------------------------


def test_a_table_with_callbacks_stops_early_and_resumes_to_the_same_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both callbacks have a state; they see the true epochs."""
    outcome = resumes(kinds.stopped, tmp_path, caplog, stop=3, epochs=40, rate=0.05)
    assert 3 < outcome.metrics["epochs"] < 40
    assert len(outcome.history["train.learning_rate"]) == outcome.metrics["epochs"]
    best = outcome.history["validation.mae"]
    assert outcome.metrics["best.validation.mae"] == min(best)
    assert outcome.metrics["best.epoch"] == best.index(min(best)) + 1
    for name in ("test.mae", "test.loss"):
        assert outcome.examples[name].shape == (32,)
        assert outcome.metrics[name] == outcome.examples[name].mean()
    assert outcome.cost is not None
    assert (outcome.cost.parameters, outcome.cost.flops) == (57, 113)
    assert outcome.model is not None
    assert [one[1:] for one in (*outcome.model.inputs, *outcome.model.outputs)] == [
        ("float32", (-1, 5)),
        ("float32", (-1, 1)),
    ]

    # A machine that dies between the last checkpoint and the end.
    last = int(outcome.metrics["epochs"])
    with pytest.raises(RuntimeError):
        Training(tmp_path / "died", last, RuntimeError).of(kinds.stopped, epochs=40, rate=0.05)
    rest = Training(tmp_path / "died")
    ended = rest.of(kinds.stopped, epochs=40, rate=0.05)
    assert first_difference(Trained.of(outcome), Trained.of(ended)) is None


def test_two_inputs_and_a_loop_of_its_own_resume_to_the_same_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the model compiled is kept, and what its loop tells is recorded."""
    outcome = resumes(kinds.pair, tmp_path, caplog, stop=1, epochs=2)
    assert set(outcome.history) >= {"train.gradient", "train.loss", "validation.loss"}
    assert outcome.state is not None
    assert any("momentum" in name for name in outcome.state())  # of the optimizer that it was compiled with
    assert outcome.model is not None
    assert outcome.model.inputs == (("left", "float32", (-1, 2)), ("right", "float32", (-1, 3)))
    assert outcome.cost is not None
    assert outcome.cost.flops is None  # a subclassed model has no graph to count


@pytest.mark.slow
def test_two_outputs_have_metrics_by_their_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcome = resumes(kinds.outputs, tmp_path, caplog)
    assert [one.name for one in kinds.outputs.metrics][:3] == ["test.price_mae", "test.kind_accuracy", "test.loss"]
    assert {"test.price_mae", "test.kind_accuracy"} == set(outcome.examples)
    assert outcome.model is not None
    assert [name for name, _, _ in outcome.model.inputs] == ["left", "right"]


@pytest.mark.slow
def test_a_dataset_with_class_weights_resumes_where_it_is_deterministic(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = resumes(kinds.dataset, tmp_path, caplog)
    assert outcome.examples["test.accuracy"].shape == (32,)
    accuracy = kinds.dataset.metrics[0]
    assert accuracy.examples(kinds.dataset.settings()) == 32
    lighter = KerasModel(
        Small, data=kinds.dataset_data, build=kinds.two_classes, loss="sparse_categorical_crossentropy"
    )
    assert Training(tmp_path / "lighter").of(lighter).metrics["test.loss"] != outcome.metrics["test.loss"]


@pytest.mark.slow
def test_sample_weights_weigh_what_they_should(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcome = resumes(kinds.weighted, tmp_path, caplog)
    assert outcome.metrics["test.weighted_accuracy"] != outcome.metrics["test.accuracy"]
    assert set(outcome.examples) == {"test.accuracy"}  # AUC is no mean, the others are weighted


@pytest.mark.slow
def test_several_optimizers_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcome = resumes(kinds.halves, tmp_path, caplog)
    assert outcome.state is not None
    assert sum("momentum" in name for name in outcome.state()) == 4  # kernel and bias of each half


@pytest.mark.slow
def test_a_short_training_tells_how_long_a_run_takes(tmp_path: Path) -> None:
    assert kinds.digits.probe is not None
    short, long = (kinds.digits.probe(Small(epochs=epochs), Lent(tmp_path), tmp_path) for epochs in (2, 2000))
    assert long > 2 * short > 0


class Counting(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps an object that no checkpoint can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = random.Random(0)


def test_a_callback_that_cannot_be_kept_makes_training_start_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subject = KerasModel(Small, **TABLE, callbacks=lambda settings: [Counting()])
    with caplog.at_level(logging.WARNING), pytest.raises(Interrupted):
        Training(tmp_path, 1).of(subject, epochs=2)
    assert "callback Counting keeps `generator`, which no checkpoint can hold" in caplog.text
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_damaged_checkpoint_and_one_of_another_run_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from stn_bench.subjects.keras_training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

    file, kept = (
        tmp_path / "checkpoint.npz",
        {"wait": 1, "best": np.float32(0.1), "weights": [np.arange(3)], "x": None},
    )
    write_checkpoint(file, Checkpoint("a", {"epoch": 2}, [kept], [np.ones(2)], [], [np.zeros(2)]))
    found = read_checkpoint(file, "a")
    assert found is not None
    assert repr(found.callbacks) == repr([kept])
    assert found.progress == {"epoch": 2}
    assert read_checkpoint(file, "b") is None
    for content in (b"", file.read_bytes()[:-40]):
        file.write_bytes(content)
        assert read_checkpoint(file, "a") is None
    assert "damaged checkpoint, training starts over" in caplog.text


def test_numbers_that_are_not_finite_are_a_divergence(tmp_path: Path) -> None:
    subject = KerasModel(Small, **TABLE, optimizer=lambda settings: keras.optimizers.SGD(1e30))
    outcome = Training(tmp_path).of(subject)
    assert (outcome.status, outcome.reason) == ("diverged", "train.loss is not finite after epoch 1")


def test_keras_is_left_as_it_was(tmp_path: Path) -> None:
    def build(settings: Small) -> keras.Model:
        keras.config.set_floatx("float64")
        keras.config.set_epsilon(0.5)
        raise RuntimeError("enough")

    with pytest.raises(ConfigError, match=r"`build` failed \(RuntimeError: enough\)"):
        Training(tmp_path).of(KerasModel(Small, **(TABLE | {"build": build})))
    assert (keras.config.floatx(), keras.config.epsilon()) == ("float32", 1e-7)
    assert keras.config.dtype_policy().name == "float32"


# What it declares ----------------------------------------------------------------------------------------------------


def test_metrics_know_their_direction_and_their_step() -> None:
    accuracy, loss, *_ = kinds.digits.metrics
    assert (accuracy.name, accuracy.direction, accuracy.scale) == ("test.accuracy", "maximize", "fraction")
    assert accuracy.examples(Small()) == 32
    assert (loss.name, loss.direction, loss.resolution) == ("test.loss", "minimize", None)
    assert kinds.digits.tune_on == ("best.validation.loss",)
    assert kinds.stopped.tune_on == ("best.validation.mae",)
    assert (kinds.stopped.epochs, kinds.stopped.budget, kinds.stopped.example) == ("epochs", ("epochs",), "row")


@pytest.mark.parametrize(
    ("metric", "name", "direction"),
    [
        ("mae", "mae", "minimize"),
        ("acc", "acc", "maximize"),
        (keras.metrics.AUC(name="area"), "area", "maximize"),
        (keras.metrics.RootMeanSquaredError, "root_mean_squared_error", "minimize"),
        (keras.metrics.MeanIoU(num_classes=2, name="overlap"), "overlap", "maximize"),
        (keras.losses.huber, "huber", "minimize"),
        ("sparse_top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy", "maximize"),
        (Metric("test.own", "a metric of its own", "maximize"), "own", "maximize"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_metric_is_known(metric: Any, name: str, direction: str) -> None:
    first = KerasModel(Small, **TABLE, metrics=[metric]).metrics[0]
    assert (first.name, first.direction) == (f"test.{name}", direction)


def test_the_run_key_holds_the_users_code_and_ours() -> None:
    identity = identify(kinds.digits, Small().flat(), 1, "")
    code = identity.code
    assert {"keras_subjects:digits", "keras_subjects:digits_data", "keras_subjects:digits_model"} <= code.keys()
    assert {"training:train_model", "progress:Conductor", "batches:Shuffled"} <= code.keys()
    assert "keras_subjects:table_model" not in code
    assert {"keras", "numpy", "tensorflow"} <= identity.libraries.keys()


def test_without_metrics_the_loss_decides() -> None:
    """Also where the model brings its own, and another metric chooses the epoch."""
    subject = KerasModel(Small, data=kinds.table_data, build=kinds.table_model, best="validation.mae")
    assert [one.name for one in subject.metrics[:2]] == ["test.loss", "best.validation.loss"]
    assert subject.curve is not None
    assert subject.curve.name == "validation.loss"


def test_importing_it_loads_no_keras() -> None:
    code = "import sys, stn_bench.subjects.keras_model; print(sorted({'keras', 'tensorflow'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# What it refuses -----------------------------------------------------------------------------------------------------


def pinball(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), -1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["maee"]}, "nothing tells which way `maee` is better. Did you mean `mae`?"),
        ({"metrics": [pinball]}, 'Add Metric("pinball", "what it is", "maximize")'),
        ({"metrics": [3]}, "`metrics`: expected a metric, got int"),
        ({"metrics": [["mae"], ["mse"]]}, "`metrics`: name the outputs"),
        ({"best": "val_loss"}, "`best`: expected `validation.METRIC`, `train.METRIC` or `last`, got val_loss"),
        ({"best": "validation.foo"}, "nothing tells which way `foo` is better"),
        ({"epochs": "epoch"}, "`epochs`: no setting `epoch`. Did you mean `epochs`?"),
        ({"callback": 3}, "no argument `callback`. Did you mean `callbacks`?"),
        ({"build": 3}, "`build`: expected a function of the settings, got int"),
        ({"optimizer": keras.optimizers.SGD}, "`optimizer`: expected a function of the settings"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_does_not_fit_together_is_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KerasModel(Small, **(TABLE | changes))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def compiled(settings: Small) -> keras.Model:
    model = kinds.table_model(settings)
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def parts(**changed: Any) -> Callable[[Small], Any]:
    x, y = kinds.table()
    return lambda settings: {"train": (x, y), "validation": (x, y), "test": (x, y)} | changed


X, Y = kinds.table()


@pytest.mark.parametrize(
    ("error", "changes", "message"),
    [
        (ConfigError, {"build": lambda settings: None}, "`build`: expected a keras.Model, got NoneType"),
        (ConfigError, {"build": compiled}, "`loss`: the model that `build` returns is compiled already"),
        (
            ConfigError,
            {"build": compiled, "loss": None, "optimizer": lambda settings: "adam"},
            "`optimizer`: the model that `build` returns is compiled already",
        ),
        (ConfigError, {"data": parts(train=(X, Y[:5]))}, "expected as many examples everywhere, got x 160, y 5"),
        (ConfigError, {"data": parts(test=(X[:0], Y[:0]))}, "test: there are no examples"),
        (ConfigError, {"data": parts(test=None)}, "there are no test examples"),
        (ConfigError, {"data": parts(tset=(X, Y))}, "got `tset`. Did you mean `test`?"),
        (ConfigError, {"data": parts(train=([[1, 2], [3]], Y[:2]))}, "train: x: expected an array, got rows"),
        (ConfigError, {"data": parts(train=iter([X]))}, "train: a generator can be read once only"),
        (ConfigError, {"data": lambda settings: (X, Y)}, "expected (train, validation, test), or a mapping"),
        (ConfigError, {"data": lambda settings: settings.nothing}, "`data` failed (AttributeError: "),
        (ConfigError, {"data": parts(validation=None)}, "there are no validation examples"),
        (ConfigError, {"data": parts(train=(X[:, :3], Y))}, "x has (None, 3), the model takes (None, 5)"),
        (ConfigError, {"callbacks": lambda settings: [1]}, "expected a list of Keras callbacks, got int in it"),
    ],
    ids=lambda one: "" if isinstance(one, dict) else str(getattr(one, "__name__", one)),
)
def test_what_a_training_cannot_use_is_told_in_a_line(
    tmp_path: Path, error: type[StnBenchError], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(error) as caught:
        Training(tmp_path).of(KerasModel(Small, **(TABLE | changes)))
    first, *own = str(caught.value).splitlines()
    assert message in first
    assert all(line.startswith("  ") for line in own)  # lines of the user's own code


class Prepared:
    """Data that are made once, for all arms."""

    def prepare(self, settings: Any, lent: Lent) -> None:
        """Make them."""

    def __call__(self, settings: Small) -> Any:
        raise DataError("shelf/7.png: is no picture")


def lost(settings: Small) -> Any:
    raise FileNotFoundError(2, "No such file or directory", "table.csv")


@pytest.mark.parametrize(("data", "message"), [(Prepared(), "shelf/7.png: is no picture"), (lost, "table.csv")])
def test_data_that_every_arm_shares_are_no_arm_s_fault(tmp_path: Path, data: Any, message: str) -> None:
    """A DataError stops the study and counts for no arm; what `data` does of one arm is that arm's crash, above."""
    with pytest.raises(DataError, match=message):
        Training(tmp_path).of(KerasModel(Small, **(TABLE | {"data": data})))


def test_a_metric_that_the_model_does_not_tell_of_is_named(tmp_path: Path) -> None:
    subject = KerasModel(Small, **TABLE, metrics=[Metric("gain", "what is gained")])
    with pytest.raises(ConfigError, match=r"no `validation.gain` in an epoch, which has train.loss, validation.loss"):
        Training(tmp_path).of(subject)
