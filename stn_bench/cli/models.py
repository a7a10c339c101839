"""Commands about single models: train, predict, rectify."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stn_bench.cli.options import (
    AsJson,
    Root,
    Settings,
    TrackingUri,
    assignments,
    console,
    messages,
    print_json,
    quietly,
)
from stn_bench.subjects.stn.config import LOWER_BOUND, Config, override
from stn_bench.system.errors import ConfigError, DataError, MachineError, ModelFileError, StoreError
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stn_bench.runner.order import CellOrder, Start
    from stn_bench.study.plan import RunSpec
    from stn_bench.subjects.stn.nn.rectify import Rectified
    from stn_bench.subjects.stn.nn.train import EpochEnd
    from stn_bench.subjects.stn.predictions import Readings
    from stn_bench.tracking.mlflow import Tracking
    from stn_bench.tracking.record import RunRecord

OUTSIDE = "train"  # the MLflow experiment of runs outside a study
SHOWN = 60  # pictures on a sheet, at most: more is no picture that anybody looks at
FOLLOWING = ("data.pad", "model.transformer.fill")  # settings that are the lower bound of the input range, unset

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model file, or the first letters of a run's id.")]
PicturePaths = Annotated[list[Path], typer.Argument(metavar="PICTURES…", help="Pictures, or folders of pictures.")]
Trust = Annotated[bool, typer.Option("--trust", help="Let the model file call the factory function that it names.")]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="RUN", help="Train the model of this run on, with its settings but for --set."),
]


@quietly()
def train(
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    origin: From = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed [default: 1, or that of --from].")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the model to this file.")] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Train one configuration outside a study, tracked like any other; a finished run is not trained again.

    With --from it begins with the weights of a finished run's best epoch and with a fresh optimizer.
    """
    workspace = Workspace.at(root, tracking_uri)
    overrides = assignments(settings)
    if not origin:  # a mistake is told before a store is opened
        override(Config(), overrides, where="--set")
    _prepare()
    tracking = _tracking(workspace)
    earlier = _find_start(origin, tracking, trust) if origin else None
    spec, start = _plan_run(earlier, overrides, seed)
    if trust or spec.config.model.factory:
        workspace.find_code()
    record = _train_once(spec, start, workspace, tracking)
    if output:
        _copy_model(record, tracking, output)
    if as_json:
        told = {"run_id": record.run_id, "run_key": record.run_key, "outcome": record.outcome}
        print_json({**told, "started_from": start and start.run_id, **record.metrics})
        return
    for name, value in record.metrics.items():
        console.print(f"{name}: {value:.6g}")
    console.print(f"run {record.run_id}: {record.outcome}", soft_wrap=True)


@quietly()
def predict(
    model: ModelName,
    pictures: PicturePaths,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    trust: Trust = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="DIR", help="Write confusion.png, mistakes.png and mistakes.csv to this folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the letter of each picture, and the probability that the model gives it.

    Where names carry labels (0001_K.png is a K), also print the accuracy and each mistake. Pictures with a label
    outside the model's alphabet are named, and count neither as right nor as wrong.
    """
    network, config = _load(model, Workspace.at(root, tracking_uri), trust)
    paths, images = _read(pictures, config)
    readings = _readings(network, config, paths, images)
    if report:
        _write_files(report, _report_files(readings, images))
    if as_json:
        print_json(readings.tree())
        return
    for line in readings.lines():
        console.print(line, soft_wrap=True, markup=False)
    if report:
        console.print(f"confusion matrix and mistakes: {report}", soft_wrap=True, markup=False)


@quietly()
def rectify(
    model: ModelName,
    pictures: PicturePaths,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Picture to write.")] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check", metavar="FILE", help="Figure to write: do letters become larger, and move to the middle?"
        ),
    ] = None,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Write a picture of each original | yellow bar | what the transformer makes of it.

    The frame on the original shows what is sampled: its corners become the corners of the rectified picture.
    """
    if not (output or check or as_json):
        raise typer.BadParameter("nothing to write: name --output FILE or --check FILE, or ask for --json")
    _check_endings(output, check)
    network, config = _load(model, Workspace.at(root, tracking_uri), trust)
    paths, images = _read(pictures, config)
    from stn_bench.subjects.stn.nn.rectify import rectify as rectified_of

    rectified = rectified_of(network, images)
    say = messages if as_json else console
    if output:
        shown = _write_sheet(images, rectified, output)
        say.print(f"{shown} of {len(paths)} pictures, before and after: {output}", soft_wrap=True, markup=False)
    if check or as_json:
        _tell_letters(network, paths, images, rectified, check, as_json)


def _prepare() -> None:
    """Set the environment of a process that runs models, before anything is loaded that reads it."""
    from stn_bench.system.machine import cores, training_environment

    os.environ.update(training_environment(cores()))


def _tracking(workspace: Workspace) -> Tracking:
    from stn_bench.tracking.mlflow import Tracking

    return Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))


def _find_start(name: str, tracking: Tracking, trust: bool) -> RunRecord:
    """Return the record of the finished run that is to be trained on.

    Raises:
        StoreError: if there is no such run, or it kept no model.
        ConfigError: if its model was built by a factory, and is not trusted.
    """
    from stn_bench.tracking.record import MODEL

    (record,) = tracking.records([tracking.find_run(name)])
    try:
        model = tracking.file(record.run_id, MODEL)
    except StoreError:
        raise StoreError(
            f"run {record.run_id}: keeps no model to train on; trials of tuning and diverged or imported runs do not"
        ) from None
    factory = record.settings.get("model.factory") or _factory_of(model)
    if factory and not trust:
        raise ConfigError(
            f"run {record.run_id}: was built by `{factory}`, code that the store names but does not hold; "
            f"add --trust if you trust it"
        )
    return record


def _factory_of(model: Path) -> str | None:
    """Return the factory that a model file names: a store may hold another file than its record tells of."""
    from stn_bench.subjects.stn.nn.model_file import read_note

    try:
        return read_note(model).get("model.factory")
    except ModelFileError:
        return None  # nothing can be built from it; loading says why


def _plan_run(
    earlier: RunRecord | None, overrides: Mapping[str, Any], seed: int | None
) -> tuple[RunSpec, Start | None]:
    """Return what to train, and on from what."""
    from stn_bench.runner.order import Start
    from stn_bench.study.catalogue import BASE
    from stn_bench.study.plan import RunSpec

    before = _settings_of(earlier) if earlier else Config()
    config = override(before, overrides, where="--set").resolved()
    chosen = seed if seed is not None else earlier.seed if earlier else 1
    spec = RunSpec(OUTSIDE, BASE, BASE, "verdict", chosen, None, _changes(config, Config()), {}, config)
    start = Start(earlier.run_id, earlier.run_key, _note(earlier, before, spec)) if earlier else None
    return spec, start


def _settings_of(record: RunRecord) -> Config:
    """Return a run's settings; a pad or fill that was the input range's lower bound follows the range again."""
    config = override(Config(), record.settings, where=f"run {record.run_id}")
    bound = LOWER_BOUND[config.model.input_range]
    return override(config, {path: None for path in FOLLOWING if record.settings[path] == bound})


def _note(earlier: RunRecord, before: Config, spec: RunSpec) -> str:
    """Return what the page of a run says of the one that it was trained on from, as Markdown."""
    old = before.resolved().flat()
    changes = [f"- `{path}` = `{value}`, was `{old[path]}`" for path, value in _changes(spec.config, before).items()]
    changes += [f"- seed {spec.seed}, was {earlier.seed}"] * (spec.seed != earlier.seed)
    accuracy = f"test accuracy {100 * earlier.metrics['test.accuracy']:.2f} %"
    return (
        f"Trained on from run [{earlier.label}, seed {earlier.seed}](#/runs/{earlier.run_id}) of **{earlier.study}** "
        f"(run `{earlier.run_id}`, run key `{earlier.run_key[:12]}`, {accuracy}): it begins with the weights of that "
        f"run's best epoch and with a fresh optimizer.\n\n" + ("\n".join(changes) or "Its settings are the same.")
    )


def _train_once(spec: RunSpec, start: Start | None, workspace: Workspace, tracking: Tracking) -> RunRecord:
    from stn_bench.runner.cell import train_cell
    from stn_bench.runner.pool import counting_interrupts
    from stn_bench.subjects.stn.data.dataset import make_dataset
    from stn_bench.subjects.stn.data.spec import DatasetSpec
    from stn_bench.system.machine import cores

    dataset = make_dataset(DatasetSpec.of(spec.config), workspace.datasets, processes=cores())
    order = _order(spec, start, dataset.fingerprint, workspace, tracking)
    done = {run.run_key: run.run_id for run in tracking.finished()}
    if order.identity.run_key in done:
        messages.print("already trained; this is that run")
        return tracking.records([done[order.identity.run_key]])[0]
    with counting_interrupts() as interrupts:
        return train_cell(order, dataset, tracking, on_epoch=_tell, should_stop=lambda: interrupts.count > 0)


def _order(
    spec: RunSpec, start: Start | None, fingerprint: str, workspace: Workspace, tracking: Tracking
) -> CellOrder:
    from stn_bench.runner.order import CellOrder
    from stn_bench.system.machine import cores
    from stn_bench.tracking.identity import identify

    identity = identify(spec.config, spec.seed, fingerprint, start.run_key if start else "")
    experiment = tracking.open_study(OUTSIDE, "Runs outside a study: `stn-bench train`.")
    checkpoints = workspace.checkpoints / identity.run_key
    return CellOrder(spec, identity, experiment, None, checkpoints, cores(), start)


def _changes(config: Config, before: Config) -> dict[str, Any]:
    old = before.resolved().flat()
    return {path: value for path, value in config.flat().items() if value != old[path]}


def _copy_model(record: RunRecord, tracking: Tracking, output: Path) -> None:
    from stn_bench.tracking.record import MODEL

    if record.outcome != "finished":
        raise StoreError(f"run {record.run_id}: {record.outcome} ({record.reason}), so there is no model to write")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tracking.file(record.run_id, MODEL), output)
    except OSError as error:
        raise MachineError(f"{output}: the model cannot be written ({error.strerror or error})") from None


def _tell(epoch: EpochEnd) -> None:
    accuracy = epoch.metrics["validation.accuracy"]
    messages.print(f"epoch {epoch.epoch}/{epoch.epochs}: validation.accuracy {accuracy:.4f}, {epoch.seconds:.0f} s")


def _load(model: str, workspace: Workspace, trust: bool) -> tuple[Any, Config]:
    _prepare()
    if trust:
        workspace.find_code()
    path = Path(model)
    if not path.exists() and not path.suffix:
        tracking = _tracking(workspace)
        path = tracking.file(tracking.find_run(model), "model.keras")
    from stn_bench.subjects.stn.nn.model_file import load_model

    return load_model(path, trust=trust)


def _read(pictures: list[Path], config: Config) -> tuple[list[Path], NDArray[np.uint8]]:
    """Return paths and pictures, letterboxed and corrected as in training: uint8, (count, size, size, 3)."""
    import numpy as np

    from stn_bench.subjects.stn.data.correction import correct
    from stn_bench.subjects.stn.data.letterbox import letterbox
    from stn_bench.subjects.stn.data.pictures import find_pictures, read_picture
    from stn_bench.subjects.stn.data.spec import pad_byte

    paths = find_pictures(pictures)
    pad = pad_byte(config)
    images = np.stack([letterbox(read_picture(path), config.data.size, pad) for path in paths])
    return paths, correct(images, config)


def _readings(network: Any, config: Config, paths: list[Path], images: NDArray[np.uint8]) -> Readings:
    from stn_bench.subjects.stn.data.folder import label_of
    from stn_bench.subjects.stn.nn.train import predict as probabilities_of
    from stn_bench.subjects.stn.predictions import Reading, Readings

    alphabet = config.data.alphabet
    rows = zip(paths, probabilities_of(network, images), strict=True)
    return Readings(
        alphabet,
        tuple(Reading(path, label_of(path), alphabet[int(row.argmax())], float(row.max())) for path, row in rows),
    )


def _report_files(readings: Readings, images: NDArray[np.uint8]) -> dict[str, bytes]:
    from stn_bench.subjects.stn.drawings import Mistake, draw_confusion, draw_mistakes
    from stn_bench.subjects.stn.predictions import mistakes_csv

    if readings.accuracy is None:
        raise DataError("--report: no picture's name carries a label of this alphabet; expected names like 0001_K.png")
    shown = [(readings.pictures[index], images[index]) for index in readings.mistakes[:SHOWN]]
    mistakes = [
        Mistake(image, f"{one.label} read as {one.letter}, {100 * one.probability:.0f} %", one.picture.name)
        for one, image in shown
    ]
    count = len(readings.mistakes)
    rest = f"; the {SHOWN} most confident of {count} mistakes" if count > SHOWN else ""
    return {
        "confusion.png": draw_confusion(readings.confusion(), readings.alphabet, readings.sentence()),
        "mistakes.png": draw_mistakes(mistakes, readings.sentence() + rest),
        "mistakes.csv": mistakes_csv(readings).encode(),
    }


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    from stn_bench.report.build import write_whole

    try:
        for name, content in files.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be written ({error.strerror or error})") from None


def _check_endings(output: Path | None, check: Path | None) -> None:
    """See that both files can be written as what their names say, before anything slow begins."""
    from stn_bench.subjects.stn.data.pictures import check_ending

    if output:
        check_ending(output)
    if check:
        check_ending(check, frozenset({".png"}))


def _write_sheet(images: NDArray[np.uint8], rectified: Rectified, output: Path) -> int:
    """Write the first pictures before and after, and return how many."""
    from stn_bench.subjects.stn.data.pictures import contact_sheet, frame_margin, framed_pair, write_picture

    shown = min(SHOWN, len(images))
    margin = frame_margin(rectified.frames[:shown], (images.shape[1], images.shape[2]))
    triples = zip(images[:shown], rectified.pictures, rectified.frames, strict=False)
    write_picture(output, contact_sheet([framed_pair(*triple, margin) for triple in triples], columns=4, margin=12))
    return shown


def _tell_letters(
    network: Any,
    paths: list[Path],
    images: NDArray[np.uint8],
    rectified: Rectified,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Print, and draw if there is a file to draw to, how much larger letters became and how far they moved."""
    from stn_bench.subjects.stn.letters import check_letters
    from stn_bench.subjects.stn.nn.rectify import measure_letters

    measure = measure_letters(network, images, rectified)
    measured = (measure.magnification, measure.offset_before, measure.offset_after)
    check = check_letters(*measured)
    if figure:
        from stn_bench.subjects.stn.drawings import draw_letter_check

        _write_files(figure.parent, {figure.name: draw_letter_check(*measured, check)})
    if as_json:
        rows = zip(paths, rectified.matrices, rectified.frames, *measured, strict=True)
        print_json({"check": check.tree(), "pictures": [_letter_tree(*row) for row in rows]})
        return
    for line in check.lines():
        console.print(line, soft_wrap=True, markup=False)
    if figure:
        console.print(f"both in a figure: {figure}", soft_wrap=True, markup=False)


def _letter_tree(
    path: Path, matrix: NDArray[np.float32], frame: NDArray[np.float64], *measured: float
) -> dict[str, Any]:
    names = ("magnification", "offset_before", "offset_after")
    numbers = {name: float(value) if value == value else None for name, value in zip(names, measured, strict=True)}
    return {"picture": str(path), "matrix": matrix.tolist(), "frame": frame.tolist(), **numbers}
