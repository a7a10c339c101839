"""Commands of this subject: data make, show, export and import, predict, rectify."""

from __future__ import annotations

import os
import re
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
    is_trusted,
    messages,
    print_json,
    quietly,
)
from stn_bench.isolation import isolated
from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.files import MODEL
from stn_bench.subjects.stn.repacked import plainly_packed
from stn_bench.system.errors import ConfigError, DataError, MachineError, ModelFileError
from stn_bench.system.text import shorten
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stn_bench.subjects.labelled import Labelled
    from stn_bench.subjects.stn.data.dataset import Dataset
    from stn_bench.subjects.stn.nn.rectify import Rectified
    from stn_bench.subjects.stn.predictions import Predictions

ON_A_SHEET = 40  # pictures that `data show` draws
MOST_SHOWN = 60  # pictures on any other sheet, at most: more is no picture that anybody looks at

Processes = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Processes that draw (default: one a core).", show_default=False),
]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model file, or the first letters of a run's id.")]
PicturePaths = Annotated[list[Path], typer.Argument(metavar="PICTURES…", help="Pictures, or folders of pictures.")]
Trust = Annotated[bool, typer.Option("--trust", help="Let the model file call the factory function that it names.")]

Ground = Annotated[
    str,
    typer.Option("--ground", metavar="COLOUR", help="Behind transparent pixels: white, black, or as in #ffcc00."),
]

data = typer.Typer(help="Make, show, export and import pictures.", no_args_is_help=True)


def mount(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(predict)
    app.command()(rectify)
    app.add_typer(data, name="data")


# Pictures -----------------------------------------------------------------------------------------------------------


@data.command()
def make(root: Root = None, settings: Settings = None, processes: Processes = None) -> None:
    """Make the pictures of a configuration, unless they are there and sound."""
    dataset = _dataset(root, settings, processes)
    console.print(
        f"{dataset.folder}\n{len(dataset.labels)} pictures, SHA-256 {dataset.fingerprint}",
        soft_wrap=True,
        markup=False,
    )


@data.command()
def show(
    root: Root = None,
    settings: Settings = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write.")] = Path("pictures.png"),
    as_json: AsJson = False,
) -> None:
    """Write a sheet with the first pictures of a configuration, and tell of the rest."""
    from stn_bench.subjects.stn.data.pictures import contact_sheet, write_picture

    dataset = _dataset(root, settings, None)
    write_picture(output, contact_sheet(list(dataset.images[:ON_A_SHEET]), columns=10))
    about = {
        "folder": str(dataset.folder),
        "pictures": len(dataset.labels),
        "fingerprint": dataset.fingerprint,
        "first": "".join(dataset.spec.alphabet[label] for label in dataset.labels[:ON_A_SHEET]),
        "sheet": str(output),
    }
    if as_json:
        print_json(about)
        return
    for name, value in about.items():
        console.print(f"{name}: {value}", soft_wrap=True, markup=False)


@data.command()
def export(
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the pictures.")],
    root: Root = None,
    settings: Settings = None,
) -> None:
    """Write the pictures of a configuration as files, `0001_K.png` and so on."""
    from stn_bench.subjects.stn.data.folder import export_folder

    count = export_folder(_dataset(root, settings, None), folder)
    console.print(f"{count} pictures in {folder}", soft_wrap=True, markup=False)


@data.command("import")
def import_(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder with pictures named like `0001_K.png`, or one folder a class; or a CSV table."),
    ],
    name: Annotated[str, typer.Option("--name", help="Name for `data.source`.")],
    root: Root = None,
    settings: Settings = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be used.")] = False,
    ground: Ground = "white",
    keep_order: Annotated[
        bool, typer.Option("--keep-order", help="Split by the order of names, as exported letters are numbered.")
    ] = False,
) -> None:
    """Read a folder of pictures of any size; `--set data.source=NAME` then trains on them.

    They are shuffled by `--set data.seed` and stratified: training, validation and test show each class in proportion.
    """
    from stn_bench.subjects.stn.data.folder import import_folder
    from stn_bench.subjects.stn.data.spec import DatasetSpec

    config = override(Config(), assignments(settings, Config), where="--set")
    spec = DatasetSpec.of(override(config, {"data.shapes": "varied"}))  # any shape may come: the pad byte is needed
    report = import_folder(
        folder,
        name,
        Workspace.at(root).datasets,
        size=spec.size,
        alphabet=spec.alphabet,
        pad_byte=spec.pad_byte or 0,
        skip_bad=skip_bad,
        seed=None if keep_order else config.data.seed,
        ground=_colour(ground),
    )
    for path, reason in report.skipped:
        console.print(f"left out {path}: {reason}", soft_wrap=True, markup=False)
    console.print(f"{report.count} pictures; use them with --set data.source={name} --set data.count={report.count}")
    how = "in the order of names" if report.seed is None else f"shuffled by seed {report.seed} and stratified"
    console.print(f"{how}; transparent pixels lie on {ground}", markup=False)
    if report.parts:
        told = " ".join(f"--set data.{part}={count}" for part, count in report.parts.items())
        console.print(f"its parts are kept with {told}", soft_wrap=True)


def _colour(text: str) -> tuple[int, int, int]:
    """Return the colour that somebody named.

    Raises:
        ConfigError: if it is none.
    """
    named = {"white": "#ffffff", "black": "#000000"}.get(text.lower(), text)
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", named):
        raise ConfigError(f"--ground: expected white, black, or a colour as in #ffcc00, got `{shorten(text)}`")
    return int(named[1:3], 16), int(named[3:5], 16), int(named[5:7], 16)


def _dataset(root: Path | None, settings: list[str] | None, processes: int | None) -> Dataset:
    from stn_bench.subjects.stn.data.dataset import make_dataset
    from stn_bench.subjects.stn.data.spec import DatasetSpec
    from stn_bench.system.machine import cores

    config = override(Config(), assignments(settings, Config), where="--set")
    return make_dataset(DatasetSpec.of(config), Workspace.at(root).datasets, processes=processes or cores())


# Models -------------------------------------------------------------------------------------------------------------

GroundOfModel = Annotated[
    str | None,
    typer.Option(
        "--ground", metavar="COLOUR", help="Behind transparent pixels; unset, as the model's pictures were imported."
    ),
]


@quietly()
@isolated()
def predict(
    model: ModelName,
    pictures: PicturePaths,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    trust: Trust = False,
    ground: GroundOfModel = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="DIR", help="Write confusion.png, mistakes.png and mistakes.csv to this folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the letter of each picture, and the probability that the model gives it.

    Where names (0001_K.png is a K), class folders or a table say the labels, also print the accuracy and each
    mistake. Pictures with a label outside the model's alphabet are named, and count neither as right nor as wrong.
    """
    behind, workspace = _colour(ground) if ground else None, Workspace.at(root, tracking_uri)
    network, config = _load(model, workspace, trust)
    found, images = _read(pictures, config, behind or _ground_of(config, workspace))
    predictions = _predict(network, config, found, images)
    if report:
        _write_files(report, _report_files(predictions, images))
    if as_json:
        print_json(predictions.tree())
        return
    for line in predictions.lines():
        console.print(line, soft_wrap=True, markup=False)
    if report:
        console.print(f"confusion matrix and mistakes: {report}", soft_wrap=True, markup=False)


@quietly()
@isolated()
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
    ground: GroundOfModel = None,
    as_json: AsJson = False,
) -> None:
    """Write a picture of each original | yellow bar | what the transformer makes of it.

    The frame on the original shows what is sampled: its corners become the corners of the rectified picture.
    """
    if not (output or check or as_json):
        raise typer.BadParameter("nothing to write: name --output FILE or --check FILE, or ask for --json")
    _check_endings(output, check)
    behind, workspace = _colour(ground) if ground else None, Workspace.at(root, tracking_uri)
    network, config = _load(model, workspace, trust)
    found, images = _read(pictures, config, behind or _ground_of(config, workspace))
    paths = [one.file for one in found]
    from stn_bench.subjects.stn.nn.rectify import rectify as rectified_of

    rectified = rectified_of(network, images)
    say = messages if as_json else console
    if output:
        shown = _write_sheet(images, rectified, output)
        say.print(f"{shown} of {len(paths)} pictures, before and after: {output}", soft_wrap=True, markup=False)
    if check or as_json:
        _tell_letters(network, paths, images, rectified, check, as_json)


def _load(model: str, workspace: Workspace, trust: bool) -> tuple[Any, Config]:
    """Return the model of a file, or of a run, and its settings.

    Raises:
        ModelFileError: if it cannot be used, or a factory built it that neither `trust` nor a study of the root names.
    """
    from stn_bench.system.machine import cores, training_environment

    os.environ.update(training_environment(cores()))  # before anything is loaded that reads it
    path, where = Path(model), model
    if not path.exists() and not path.suffix:
        from stn_bench.runner.stores import open_tracking

        tracking = open_tracking(workspace)
        run = tracking.find_run(model)
        path, where = tracking.file(run, MODEL), f"run {run}"
    with plainly_packed(path) as plain:
        try:
            return _load_plain(plain, where, workspace, trust=trust)
        except ModelFileError as error:
            raise ModelFileError(str(error).replace(str(plain), str(path))) from None


def _load_plain(path: Path, where: str, workspace: Workspace, *, trust: bool) -> tuple[Any, Config]:
    from stn_bench.subjects.stn.nn.model_file import load_model, read_note

    factory = read_note(path).get("model.factory")
    if factory and not trust and not is_trusted(factory, workspace):
        raise ModelFileError(
            f"{where}: was built by `{shorten(str(factory))}`, code that it names but does not hold; add --trust if "
            f"you trust it (no study of {workspace.root} names it)"
        )
    if factory:
        workspace.find_code()
    return load_model(path, trust=bool(factory))


def _ground_of(config: Config, workspace: Workspace) -> tuple[int, int, int]:
    """Return what the pictures that a model was trained on were laid on: white, where they are not here to tell."""
    from stn_bench.subjects.stn.data.store import read_note
    from stn_bench.subjects.transparency import WHITE

    try:
        ground = read_note(workspace.datasets / config.data.source).get("ground")
    except DataError:
        return WHITE
    return (ground[0], ground[1], ground[2]) if isinstance(ground, list) and len(ground) == 3 else WHITE


def _read(
    pictures: list[Path], config: Config, ground: tuple[int, int, int] = (255, 255, 255)
) -> tuple[list[Labelled], NDArray[np.uint8]]:
    """Return labelled files, and pictures, letterboxed and corrected as in training: uint8, (count, size, size, 3)."""
    import numpy as np

    from stn_bench.subjects.stn.data.correction import correct
    from stn_bench.subjects.stn.data.folder import find_letters
    from stn_bench.subjects.stn.data.letterbox import letterbox
    from stn_bench.subjects.stn.data.pictures import read_picture
    from stn_bench.subjects.stn.data.spec import pad_byte

    found = find_letters(pictures)
    pad = pad_byte(config)
    images = np.stack([letterbox(read_picture(one.file, ground), config.data.size, pad) for one in found])
    return found, correct(images, config)


def _predict(network: Any, config: Config, found: list[Labelled], images: NDArray[np.uint8]) -> Predictions:
    from stn_bench.subjects.stn.nn.scores import predict as probabilities_of
    from stn_bench.subjects.stn.predictions import Prediction, Predictions

    alphabet = config.data.alphabet
    rows = zip(found, probabilities_of(network, images), strict=True)
    return Predictions(
        alphabet,
        tuple(Prediction(one.file, one.label, alphabet[int(row.argmax())], float(row.max())) for one, row in rows),
    )


def _report_files(predictions: Predictions, images: NDArray[np.uint8]) -> dict[str, bytes]:
    from stn_bench.subjects.stn.drawings import Mistake, draw_confusion, draw_mistakes
    from stn_bench.subjects.stn.predictions import mistakes_csv

    if predictions.accuracy is None:
        raise DataError("--report: no picture's name carries a label of this alphabet; expected names like 0001_K.png")
    shown = [(predictions.pictures[index], images[index]) for index in predictions.mistakes[:MOST_SHOWN]]
    mistakes = [
        Mistake(image, f"{one.label} read as {one.letter}, {100 * one.probability:.0f} %", one.picture.name)
        for one, image in shown
    ]
    count, told = len(predictions.mistakes), predictions.sentence()
    rest = f"; the {MOST_SHOWN} most confident of {count} mistakes" if count > MOST_SHOWN else ""
    return {
        "confusion.png": draw_confusion(predictions.confusion(), predictions.alphabet, told),
        "mistakes.png": draw_mistakes(mistakes, told + rest),
        "mistakes.csv": mistakes_csv(predictions).encode(),
    }


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    from stn_bench.system.files import write_whole

    try:
        for name, content in files.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be written ({error.strerror or error})") from None


def _check_endings(output: Path | None, check: Path | None) -> None:
    """Check that both files can be written as what their names say, before anything slow begins."""
    from stn_bench.subjects.stn.data.pictures import check_ending

    if output:
        check_ending(output)
    if check:
        check_ending(check, frozenset({".png"}))


def _write_sheet(images: NDArray[np.uint8], rectified: Rectified, output: Path) -> int:
    """Write the first pictures before and after, and return how many."""
    from stn_bench.subjects.stn.data.pictures import contact_sheet, frame_margin, framed_pair, write_picture

    shown = min(MOST_SHOWN, len(images))
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
