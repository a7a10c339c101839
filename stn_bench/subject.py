"""The contract: what the harness asks of a subject, and what it lends to a training.

A *subject* is something that can be trained: its settings, and a function from settings and a seed to metrics. Four
fields are enough, `Subject("toy", Toy, train, (Metric("test.loss", "…", "minimize"),))`. It is found by its name
(`stn_bench/subjects/NAME`) or by an import path (`package.module:attribute`); `stn_bench.testing` checks it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FunctionType
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stn_bench.figure import Figure
from stn_bench.settings import Settings, defaults, override
from stn_bench.system.errors import ConfigError
from stn_bench.system.format import Unit
from stn_bench.system.own_code import import_attribute
from stn_bench.system.sounds import UNSAID, Direction, said
from stn_bench.system.text import did_you_mean, shorten

Scale = Literal["fraction", "number", "seconds", "mebibytes", "count"]
Numbers: TypeAlias = NDArray[Any]

EXAMPLES = "examples.npz"  # file of a run: the value of each metric for each test example, where it told
CLASSES = "#classes"  # the classes of the test examples in that file; no metric can be called so


@dataclass(frozen=True)
class Metric:
    """A number that every run of a subject ends with, or that has one value an epoch.

    Args:
        name: its name, such as "test.accuracy".
        meaning: what it is, in one sentence without its full stop.
        direction: which way it is better; has to be said where the name says that less is.
        scale: what it is measured in; of a "fraction" values are shown in per cent and differences in points.
        resolution: settings -> the smallest step by which it can differ, such as 1 / test examples; None: none.
        chance: settings -> its value for the most frequent answer alone, or None where nothing tells.

    Raises:
        ConfigError: if nobody says which way it is better, and its name says that less is.
    """

    name: str
    meaning: str = ""
    direction: Direction = UNSAID
    scale: Scale = "number"
    resolution: Callable[[Any], float] | None = None
    chance: Callable[[Any], float | None] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", said(self.name, self.direction))

    @property
    def unit(self) -> Unit:
        """The format of its values and differences."""
        return Unit.of(self.name, is_fraction=self.scale == "fraction")

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.direction == "maximize" else -1

    def examples(self, settings: Any) -> int | None:
        """Return on how many examples a fraction is measured, as far as its resolution tells."""
        if self.scale != "fraction" or self.resolution is None:
            return None
        return round(1 / self.resolution(settings))


COSTS = (
    Metric("cost.parameters", "number of weights, moving statistics included", "minimize", "count"),
    Metric("cost.flops", "floating-point operations to predict one example", "minimize", "count"),
    Metric("cost.seconds", "seconds of training and validation", "minimize", "seconds"),
    Metric("cost.cpu_seconds", "processor seconds of the same, all threads", "minimize", "seconds"),
    Metric("cost.step_ms", "milliseconds per training step, median over epochs", "minimize", "number"),
    Metric("cost.peak_memory_mb", "largest resident memory of the training process in MiB", "minimize", "mebibytes"),
)
"""The costs of a run. A subject may measure them itself; otherwise the harness measures seconds and memory."""


@dataclass(frozen=True)
class LayerCost:
    """The floating-point operations of one call of one layer."""

    name: str
    kind: str
    flops: int


@dataclass(frozen=True)
class Cost:
    """The cost of a model, as far as it is known.

    Args:
        parameters: number of weights, moving statistics included.
        flops: floating-point operations to predict one example.
        layers: the operations layer by layer.
        uncounted: layers whose operations are not known.
        training_flops: operations of a whole training, roughly; what hours are scaled by.
    """

    parameters: float | None = None
    flops: float | None = None
    layers: tuple[LayerCost, ...] = ()
    uncounted: tuple[str, ...] = ()
    training_flops: float | None = None


@dataclass(frozen=True)
class TrainedModel:
    """A model that MLflow keeps with a run.

    Args:
        flavour: MLflow's module that keeps it, such as "tensorflow" or "sklearn".
        value: the model.
        inputs: (name, dtype, shape) of each input; -1 stands for the batch.
        outputs: the same of each output; a name may be "".
        requirements: what pip must install to serve it; left to MLflow, inferring them takes 10 s.
        options: further arguments of the flavour's `log_model`.
        keep: writes it to a folder in a form of its own, where there is no MLflow.
    """

    flavour: str
    value: Any
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    requirements: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: Callable[[Path], object] | None = None


@dataclass(frozen=True)
class Outcome:
    """The outcome of a training that came to its end.

    Args:
        metrics: final metrics by name.
        status: "diverged" where a number was not finite; such a seed is counted and shown, never dropped.
        reason: why it diverged.
        history: metrics by name, one value an epoch, NaN where there is none.
        examples: metric -> its value for each test example, `(examples,)`.
        cost: what the model costs.
        model: the model, where MLflow should keep it.
        state: returns every number that the training left, by name, for a bit-by-bit comparison of two trainings.
        classes: the class of each test example as text, `(examples,)`; the report then has the metric by class.
    """

    metrics: Mapping[str, float]
    status: Literal["finished", "diverged"] = "finished"
    reason: str = ""
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    examples: Mapping[str, Numbers] = field(default_factory=dict)
    cost: Cost | None = None
    model: TrainedModel | None = None
    state: Callable[[], Mapping[str, Numbers]] | None = None
    classes: Numbers | None = None


class Run(Protocol):
    """The resources that the harness lends to a training."""

    @property
    def key(self) -> str:
        """Identity of the run: what is in `folder` belongs to this one."""

    @property
    def data(self) -> Path:
        """The folder that `prepare` put the data in."""

    @property
    def folder(self) -> Path:
        """A folder that survives a kill, for checkpoints; it is gone once the run is finished."""

    @property
    def files(self) -> Path:
        """A folder whose files are kept with the run. Those of tuning trials are not."""

    @property
    def start(self) -> Path | None:
        """The file `Subject.start` of the run to go on from, or None to begin afresh."""

    @property
    def is_trial(self) -> bool:
        """Whether this is a tuning trial, which keeps only numbers, and none of test examples: no files, no model."""

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell of a finished epoch, from 1, once its checkpoint is written; first of those that a checkpoint holds.

        Raises:
            Interrupted: when it is time to stop; the last epoch never raises it if the training ends there.
            SubjectError: if it is no later than the last that told one of these metrics; epochs may be left out.
        """


Train = Callable[[Any, int, Run], Outcome | Mapping[str, float]]
"""(settings, seed, run) -> what it ended with; a mapping is the metrics of a finished run."""


@dataclass(frozen=True)
class DataNote:
    """The data of a run, as its pages name them.

    Args:
        name: short name, such as that of a folder.
        title: what they are, in a few words.
        shape: shape of all of them, the first axis counts examples.
        dtype: numpy's name of their type.
        classes: number of classes, or 0.
        example: the noun for one of them.
        source: the command or address that they come from.
    """

    name: str
    title: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    classes: int = 0
    example: str = "example"
    source: str = ""


@dataclass(frozen=True)
class Lent:
    """The resources that the harness lends to `prepare` and `probe`.

    Args:
        data: folder for data, shared by all runs.
        processes: how many processes may prepare them.
        tell: called with the name of the data, and how many of how many examples are done.
    """

    data: Path
    processes: int = 1
    tell: Callable[[str, int, int], None] = lambda name, done, count: None


@dataclass(frozen=True)
class KeptRun:
    """A finished run as `figures` sees it.

    Args:
        seed: its seed.
        settings: its settings by dotted path, as they were then.
        file: name of a kept file -> a local path; an archive takes along what is read so, numpy's .npz alone.
    """

    seed: int
    settings: Mapping[str, Any]
    file: Callable[[str], Path]


@dataclass(frozen=True)
class Finding:
    """One thing that `doctor` looked at.

    Args:
        check: what was looked at.
        sound: whether training can go on with it.
        found: what was found.
        advice: what to do where it is not sound, or "".
        fault: what is wrong with it then, in a word.
    """

    check: str
    sound: bool
    found: str
    advice: str = ""
    fault: str = "missing"


@dataclass(frozen=True)
class FormerKey:
    """How an older version took a run key, so that the runs of its day are known.

    Args:
        roots: (module, definition) that it followed the code from.
        packages: the packages that it followed it through.
        prefix: what stood before a module's name, which was relative to the subject's package behind it.
        libraries: the distributions whose versions were in the key; (): those that the code imported.
        code: table of code that was replaced since, by what gives the same results; "": none was.
    """

    roots: tuple[tuple[str, str], ...]
    packages: tuple[str, ...]
    prefix: str
    libraries: tuple[str, ...] | Callable[[], tuple[str, ...]]
    code: str = ""


def read_examples(metric: str, file: Callable[[str], Path]) -> Numbers | None:
    """Return a metric's value for each test example of a run, `(examples,)`, as the harness keeps them."""
    with np.load(file(EXAMPLES), allow_pickle=False) as arrays:
        return np.asarray(arrays[metric]) if metric in arrays.files else None


@dataclass(frozen=True)
class Subject:
    """Something that can be trained.

    Args:
        name: what a study calls it; of one that is not shipped `find_subject` makes it the import path.
        settings: the class of its settings, whose defaults are the base.
        train: (settings, seed, run) -> what the training ended with.
        metrics: the final metrics, the primary one first. None: a study names its own metric and direction.
        curve: the metric of an epoch that is drawn and shown while training.
        tune_on: names of the metrics that tuning looks at, the later ones where the earlier tie; never a test metric.
        budget: settings in which arms must be equal to be compared fairly.
        example: the noun for what it is tested on, such as "picture".
        epochs: the setting that counts epochs, or "".
        timeout: the setting that holds the seconds after which a run is given up, or ""; it is in `Settings.unkeyed`.
        start: the kept file that another training can go on from, or "".
        travels: files of a run that an exported archive takes along, numpy's .npz alone.
        code: packages whose code is in the run key; (): the package of `train`.
        libraries: distributions whose versions are in the run key; (): those that the code imports.
        small: settings of a training of seconds, for the contract suite and `doctor --determinism`.
        commands: module of commands of its own, with `mount(app)`; "": none.
        prepare: makes the data of some settings, each once; None: the training loads its own.
        fingerprint: settings, folder of data -> SHA-256 of the data in hexadecimal, or None while they are not made.
        describe: a run's settings by dotted path -> its data, or None where they do not say.
        originals: settings, folder of data -> files and folders that `prepare` reads, or cannot make; they travel.
        split: settings, folder of data -> how these are split, or ""; raises DataError if they cannot serve.
        idle: settings -> path of each that nothing reads, given the others -> why, in a clause.
        cost: settings -> what the model costs on paper.
        match: settings, the base's settings -> overrides that give a model the base's FLOPs; raises ConfigError.
        caveats: an arm's settings, its base's or None for a base itself -> what a reader should know, in sentences.
        given: settings -> what a run has to learn from: a noun in the singular -> its number.
        steps: settings -> training steps of a whole run.
        extensions: settings -> import paths `module:attribute` of code outside the subject that they name.
        vet: settings -> nothing, in a worker before each training, in no run key; raises ConfigError.
        probe: settings, what is lent, a scratch folder -> seconds of one run, from a short training.
        figures: paths that a question's arms set, arm -> its finished runs -> figures of its own.
        read_examples: metric, name of a kept file -> path -> the metric's value for each test example, or None.
        check: what it needs of a machine.
        former: how older versions took their run keys, the latest first.
        parts: settings that take a part away when they are "none" -> the part's name in sentences.
    """

    name: str
    settings: type[Settings]
    train: Train
    metrics: tuple[Metric, ...] = ()
    curve: Metric | None = None
    tune_on: tuple[str, ...] = ()
    budget: tuple[str, ...] = ()
    example: str = "example"
    epochs: str = ""
    timeout: str = ""
    start: str = ""
    travels: tuple[str, ...] = (EXAMPLES,)
    code: tuple[str, ...] = ()
    libraries: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    small: Mapping[str, Any] = field(default_factory=dict)
    commands: str = ""
    prepare: Callable[[Sequence[Any], Lent], None] | None = None
    fingerprint: Callable[[Any, Path], str | None] | None = None
    describe: Callable[[Mapping[str, Any]], DataNote | None] | None = None
    originals: Callable[[Any, Path], Iterable[Path]] | None = None
    split: Callable[[Any, Path], str] | None = None
    idle: Callable[[Any], Mapping[str, str]] | None = None
    cost: Callable[[Any], Cost | None] | None = None
    match: Callable[[Any, Any], Mapping[str, Any]] | None = None
    caveats: Callable[[Any, Any], Iterable[str]] | None = None
    given: Callable[[Any], Mapping[str, int]] | None = None
    steps: Callable[[Any], int] | None = None
    extensions: Callable[[Any], tuple[str, ...]] | None = None
    vet: Callable[[Any], None] | None = None
    probe: Callable[[Any, Lent, Path], float] | None = None
    figures: Callable[[frozenset[str], Mapping[str, Sequence[KeptRun]]], Iterable[Figure]] | None = None
    read_examples: Callable[[str, Callable[[str], Path]], Numbers | None] = read_examples
    check: Callable[[], Iterable[Finding]] | None = None
    former: tuple[FormerKey, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    def read(self, flat: Mapping[str, Any], *, where: str = "settings") -> Settings:
        """Return settings from their dotted paths; a path or a value that is none raises ConfigError."""
        return override(self.settings(), flat, where=where)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every dotted path that an override may set."""
        return tuple(defaults(self.settings))

    @property
    def known_metrics(self) -> dict[str, Metric]:
        """Every metric that a study may name: the subject's own, and the costs that it does not declare itself."""
        own = {metric.name: metric for metric in self.metrics}
        return own | {cost.name: cost for cost in COSTS if cost.name not in own}

    @property
    def tuning(self) -> tuple[Metric, ...]:
        """The metrics that tuning looks at, in their order."""
        return tuple(self.known_metrics[name] for name in self.tune_on)

    def num_epochs(self, settings: Mapping[str, Any]) -> int | None:
        """Return how many epochs a run of these settings has, or None where nothing tells."""
        return settings.get(self.epochs)

    def foreign_code(self, settings: Any) -> tuple[str, ...]:
        """Return the import paths of code outside the subject that settings name."""
        return self.extensions(settings) if self.extensions else ()


DEFAULT = "stn"  # the subject of a study that names none

DEFINITION = re.compile(r'^(subject(: Subject)? = |__all__ = \["subject"\])', re.MULTILINE)  # of a shipped subject


def shipped_subjects() -> tuple[str, ...]:
    """Return the names of the subjects that come with stn-bench: modules that define a `subject`, read alone."""
    import stn_bench.subjects

    folders = map(Path, stn_bench.subjects.__path__)
    files = [file for folder in folders for file in (*folder.glob("*.py"), *folder.glob("*/__init__.py"))]
    found = (file for file in files if DEFINITION.search(file.read_text(encoding="utf-8")))
    return tuple(sorted(file.parent.name if file.stem == "__init__" else file.stem for file in found))


def is_shipped(name: str) -> bool:
    """Return whether a subject comes with stn-bench; finding any other subject runs the user's code."""
    return ":" not in name


def find_subject(name: str) -> Subject:
    """Return a subject by its name, or by the import path `package.module:attribute` of a Subject or a function.

    Raises:
        ConfigError: if there is none.
    """
    where, address = f"`subject` {shorten(name)}", name
    if is_shipped(name):
        known = shipped_subjects()
        if name not in known:
            told = f"`subject`: no subject `{shorten(name)}`.{did_you_mean(name, known)} Known: {', '.join(known)}"
            raise ConfigError(f"{told}; name your own by its import path, `module:attribute`")
        address = f"stn_bench.subjects.{name}:subject"
    if isinstance(found := import_attribute(address, where), FunctionType):
        found = importlib.import_module("stn_bench.subjects.function").subject_of(name, found)
    if not isinstance(found, Subject):
        hint = "; write a function `train(*, seed, …)` that calls it" if callable(found) else ""
        raise ConfigError(f"{where}: expected a Subject or a function, got {type(found).__name__}{hint}")
    return found if is_shipped(name) else replace(found, name=name)
