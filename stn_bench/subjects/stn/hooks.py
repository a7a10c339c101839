"""The subject `stn`: the Spatial Transformer Network of ARTICLE.md, which reads captcha letters.

Importing it loads no library that draws, trains or plots: each hook imports what it needs when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stn_bench.figure import Figure
from stn_bench.settings import override
from stn_bench.subject import Cost, DataNote, FormerKey, KeptRun, Lent, Metric, Numbers, Outcome, Run, Scale, Subject
from stn_bench.subjects.stn.caveats import caveats
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.dataset import make_dataset, read_fingerprint
from stn_bench.subjects.stn.data.spec import DRAWN, DatasetSpec
from stn_bench.subjects.stn.files import GALLERY, MODEL, PREDICTIONS
from stn_bench.subjects.stn.idle import idle
from stn_bench.subjects.stn.libraries import check, keyed_libraries, network_libraries
from stn_bench.subjects.stn.nn.layout import flops, matching_width, parameters
from stn_bench.system.errors import ConfigError

HOME = "stn_bench.subjects.stn"

FORMER = str(Path(__file__).with_name("former_code.json"))
"""The code of the training that `stn` had of its own, for the keys of its runs."""

BACKWARD = 2
"""A step's backward pass costs this many forward passes: the gradients of the weights and those of the values."""

TRANSFORMER = "model.transformer."
"""The prefix of the transformer's settings."""

READ_CORRECTLY = "test.accuracy"
"""The metric that is known for each test picture."""


# Metrics ------------------------------------------------------------------------------------------------------------


def _accuracy(name: str, meaning: str, part: Literal["train", "validation", "test"]) -> Metric:
    """Return a fraction of the pictures of a part, which moves in steps of one picture."""

    def one_picture(settings: Config) -> float:
        return 1 / int(getattr(settings.data, part))

    return Metric(name, meaning, "maximize", "fraction", one_picture)


def _less(name: str, meaning: str, scale: Scale = "number") -> Metric:
    return Metric(name, meaning, "minimize", scale)


CHOSEN = "weights of the best epoch by validation, unless `train.weights` asks for the last"

METRICS = (
    _accuracy(READ_CORRECTLY, f"fraction of test pictures read correctly, {CHOSEN}", "test"),
    _less("test.loss", f"mean cross-entropy on the test pictures in nats, {CHOSEN}"),
    _accuracy("test.last_accuracy", "fraction of test pictures read correctly, weights of the last epoch", "test"),
    _less("test.last_loss", "mean cross-entropy on the test pictures in nats, weights of the last epoch"),
    _accuracy(
        "best.validation.accuracy", "fraction of validation pictures read correctly, at the best epoch", "validation"
    ),
    _less("best.validation.loss", "mean cross-entropy on the validation pictures in nats, at the best epoch"),
    _accuracy(
        "best.train.accuracy",
        "fraction of training pictures read correctly while training, at the best epoch",
        "train",
    ),
    _less("best.train.loss", "mean cross-entropy on the training pictures while training in nats, at the best epoch"),
    _accuracy(
        "last.validation.accuracy",
        "fraction of validation pictures read correctly, after the last epoch",
        "validation",
    ),
    _less("last.validation.loss", "mean cross-entropy on the validation pictures in nats, after the last epoch"),
    _less("early.train.loss", "mean cross-entropy while training in nats, over the first tenth of the epochs"),
    Metric("letter.magnification", "how many times longer the transformer makes lengths, mean over test pictures"),
    Metric(
        "letter.centring",
        "pixels by which it moves the letter's centre of mass to the middle, mean over test pictures",
    ),
    _less("best.epoch", "the epoch, from 1, with the best validation accuracy", "count"),
    _less("epochs", "epochs trained", "count"),
    _less("cost.parameters", "number of weights, moving statistics included", "count"),
    _less("cost.flops", "floating-point operations to read one picture", "count"),
    _less("cost.seconds", "seconds of training and validation", "seconds"),
    _less(
        "cost.cpu_seconds",
        "processor seconds of the same, all threads: what else the machine does adds little to them",
        "seconds",
    ),
    _less("cost.step_ms", "milliseconds per training step, median over epochs"),
    _less("cost.peak_memory_mb", "largest resident memory of the training process in MiB", "mebibytes"),
)
"""Every final metric, the primary one first.

Beside these, `train.accuracy`, `train.loss`, `validation.accuracy` and `validation.loss` have one value an epoch.
"""


def read_examples(metric: str, file: Callable[[str], Path]) -> Numbers | None:
    """Return which test pictures a run read correctly, `(pictures,)`; no other metric is known for each picture."""
    if metric != READ_CORRECTLY:
        return None
    with np.load(file(PREDICTIONS), allow_pickle=False) as arrays:
        return np.asarray(arrays["labels"] == arrays["predicted"])


# Training -----------------------------------------------------------------------------------------------------------


def train(settings: Config, seed: int, run: Run) -> Outcome:
    """Train a network on the pictures of its settings; see `training.train_network`."""
    from stn_bench.subjects.stn.training import train_network

    return train_network(settings, seed, run)


def vet(settings: Config) -> None:
    """Look at what a factory built before it is trained.

    Raises:
        ConfigError: if its model is compiled, and nobody would heed what it says of its training; or if it holds a
            layer that an earlier training has changed.
    """
    if settings.model.factory:
        from stn_bench.subjects.stn.nn.factory import check_factory

        check_factory(settings)


def probe(settings: Config, lent: Lent, scratch: Path) -> float:
    """Return how many seconds one run takes here, from a short training."""
    from stn_bench.subjects.stn.timing import measure, take_sample

    return measure(take_sample(settings, lent, scratch)).run(settings)


# Pictures -----------------------------------------------------------------------------------------------------------


def prepare(settings: Sequence[Config], lent: Lent) -> None:
    """Make every data set that the settings need, each once."""
    for spec in dict.fromkeys(map(DatasetSpec.of, settings)):

        def tell(done: int, count: int, name: str = spec.folder_name) -> None:
            lent.tell(name, done, count)

        make_dataset(spec, lent.data, processes=lent.processes, on_progress=tell)


def fingerprint(settings: Config, data: Path) -> str | None:
    """Return the SHA-256 of the pictures, or None while they are not made."""
    return read_fingerprint(DatasetSpec.of(settings), data)


def originals(settings: Config, data: Path) -> Iterator[Path]:
    """Yield the folder of pictures that were imported; drawn ones are drawn anew."""
    spec = DatasetSpec.of(settings)
    if spec.source != DRAWN:
        yield data / spec.folder_name


def describe(settings: Mapping[str, Any]) -> DataNote | None:
    """Return the pictures of a run; settings that are younger than it count at their default.

    None where its settings are none that describe pictures today.
    """
    known = Config().flat().keys()
    told = {path: value for path, value in settings.items() if path.startswith("data.") and path in known}
    if not told:
        return None
    try:
        config = override(Config(), {**told, "model.input_range": settings["model.input_range"]})
    except (ConfigError, KeyError):
        return None
    data, spec = config.data, DatasetSpec.of(config)
    is_drawn = data.source == DRAWN
    return DataNote(
        name=spec.folder_name,
        title=f"{data.source}, {data.count} pictures" + (f", {data.shapes}, seed {data.seed}" if is_drawn else ""),
        shape=(spec.count, spec.size, spec.size, 3),
        dtype="uint8",
        classes=len(spec.alphabet),
        source=f"stn-bench data {'make' if is_drawn else 'import'}",
    )


def split(settings: Config, data: Path) -> str:
    """Return how the pictures are split, and see that they can serve; see `data.parts`."""
    from stn_bench.subjects.stn.data.parts import split_in_words

    return split_in_words(settings, data)


# Costs --------------------------------------------------------------------------------------------------------------


def cost(settings: Config) -> Cost | None:
    """Return what a network costs on paper, or None for one of the reader's own, which only building it can tell."""
    if settings.model.factory:
        return None
    passes = (1 + BACKWARD) * settings.data.train + settings.data.validation
    return Cost(
        parameters=parameters(settings),
        flops=flops(settings),
        training_flops=float(flops(settings)) * passes * settings.train.epochs,
    )


def match(settings: Config, base: Config) -> Mapping[str, Any]:
    """Return the width that gives a network the base's FLOPs.

    Raises:
        ConfigError: if there is none.
    """
    return {"model.width": matching_width(settings, flops(base))}


def given(settings: Config) -> Mapping[str, int]:
    """Return what a run has to learn from."""
    return {"epoch": settings.train.epochs, "training picture": settings.data.train}


def steps(settings: Config) -> int:
    """Return the training steps of a whole run."""
    return settings.train.epochs * math.ceil(settings.data.train / settings.train.batch_size)


def extensions(settings: Config) -> tuple[str, ...]:
    """Return the model factory, where the settings name one."""
    return (settings.model.factory,) if settings.model.factory else ()


# Figures ------------------------------------------------------------------------------------------------------------


def figures(moved: frozenset[str], arms: Mapping[str, Sequence[KeptRun]]) -> Iterator[Figure]:
    """Yield what each arm's transformer does to some test pictures, where a question is about the transformer."""
    if not any(path.startswith(TRANSFORMER) for path in moved):
        return
    from stn_bench.subjects.stn.data.pictures import side_by_side
    from stn_bench.subjects.stn.drawings import Example, at_height, draw_gallery

    for name, runs in arms.items():
        run = next((run for run in sorted(runs, key=lambda run: run.seed) if _keeps_gallery(run.settings)), None)
        if run is None:
            continue
        with np.load(run.file(GALLERY), allow_pickle=False) as file:
            height, shown = file["originals"].shape[1], file["rectified"].shape[1]
            triples = zip(file["letters"], file["originals"], at_height(file["rectified"], height), strict=True)
            examples = [Example(str(letter), side_by_side(before, after)) for letter, before, after in triples]
        sizes = "" if shown == height else f", of {shown} pixels where the original has {height}, drawn as large"
        caption = f"What the transformer of `{name}` does (seed {run.seed}): original | yellow bar | rectified{sizes}"
        yield Figure(f"gallery_{name}", caption, draw_gallery(examples))


def _keeps_gallery(settings: Mapping[str, Any]) -> bool:
    return settings.get(f"{TRANSFORMER}kind", "none") != "none" and not settings.get("model.factory")


# The subject --------------------------------------------------------------------------------------------------------

subject = Subject(
    name="stn",
    settings=Config,
    train=train,
    metrics=METRICS,
    curve=Metric("validation.accuracy", "fraction of validation pictures read correctly", scale="fraction"),
    tune_on=("best.validation.accuracy", "best.validation.loss"),
    budget=("train.epochs", "data.count", "data.validation", "data.test"),
    example="picture",
    epochs="train.epochs",
    timeout="train.timeout",
    start=MODEL,
    travels=(PREDICTIONS,),
    code=(HOME, "stn_bench.subjects.keras_training"),
    libraries=keyed_libraries,
    small={
        "data.count": 200,
        "data.validation": 40,
        "data.test": 40,
        "data.size": 20,
        "model.width": 1 / 32,
        "train.batch_size": 40,  # of 120: a smaller last batch would be traced on its own
        "train.epochs": 2,
    },
    commands=f"{HOME}.commands",
    prepare=prepare,
    fingerprint=fingerprint,
    originals=originals,
    describe=describe,
    split=split,
    idle=idle,
    cost=cost,
    match=match,
    caveats=caveats,
    given=given,
    steps=steps,
    extensions=extensions,
    probe=probe,
    vet=vet,
    figures=figures,
    read_examples=read_examples,
    check=check,
    former=(
        FormerKey(  # while `stn` had a training of its own
            roots=((train.__module__, train.__qualname__),),
            packages=(HOME,),
            prefix="",
            libraries=keyed_libraries,
            code=FORMER,
        ),
        FormerKey(  # and before the house had wings
            roots=((f"{HOME}.nn.train", "train"),),
            packages=(f"{HOME}.nn", f"{HOME}.data.correction"),
            prefix="stn_bench.",
            libraries=network_libraries,
            code=FORMER,
        ),
    ),
    parts={f"{TRANSFORMER}kind": "the transformer", "model.norm.kind": "normalisation"},
)
