"""Commands about single models: train, predict, rectify."""

from __future__ import annotations

import os
import shutil
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
    find_code,
    messages,
    print_json,
    quietly,
)
from stn_bench.config import Config, override
from stn_bench.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.nn.train import EpochEnd
    from stn_bench.order import CellOrder
    from stn_bench.record import RunRecord
    from stn_bench.tracking import Tracking

OUTSIDE = "train"  # the MLflow experiment of runs outside a study

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model file, or the first letters of a run's id.")]
PicturePaths = Annotated[list[Path], typer.Argument(metavar="PICTURES…", help="Pictures, or folders of pictures.")]
Trust = Annotated[bool, typer.Option("--trust", help="Let the model file call the factory function that it names.")]


@quietly()
def train(
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the model to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train one configuration outside a study, tracked like any other; a finished run is not trained again."""
    workspace = Workspace.at(root, tracking_uri)
    config = override(Config(), assignments(settings), where="--set").resolved()
    _prepare(workspace)
    tracking = _tracking(workspace)
    record = _train_once(config, seed, workspace, tracking)
    if output:
        shutil.copyfile(tracking.file(record.run_id, "model.keras"), output)
    if as_json:
        print_json({"run_id": record.run_id, "run_key": record.run_key, "outcome": record.outcome, **record.metrics})
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
    as_json: AsJson = False,
) -> None:
    """Print the letter of each picture, and the probability that the model gives it."""
    network, config = _load(model, Workspace.at(root, tracking_uri), trust)
    paths, images = _read(pictures, config)
    from stn_bench.nn.train import predict as probabilities_of

    probabilities = probabilities_of(network, images)
    rows = [
        {"picture": str(path), "letter": config.data.alphabet[int(row.argmax())], "probability": float(row.max())}
        for path, row in zip(paths, probabilities, strict=True)
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        console.print(f"{row['picture']}  {row['letter']}  {row['probability']:.4f}", soft_wrap=True, markup=False)


@quietly()
def rectify(
    model: ModelName,
    pictures: PicturePaths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write.")],
    root: Root = None,
    tracking_uri: TrackingUri = None,
    trust: Trust = False,
) -> None:
    """Write a picture of each original | yellow bar | what the transformer makes of it."""
    network, config = _load(model, Workspace.at(root, tracking_uri), trust)
    paths, images = _read(pictures, config)
    from stn_bench.data.pictures import contact_sheet, side_by_side, write_picture
    from stn_bench.nn.rectify import rectify as rectified_of

    pairs = [side_by_side(*pair) for pair in zip(images, rectified_of(network, images).pictures, strict=True)]
    write_picture(output, contact_sheet(pairs, columns=min(4, len(pairs))))
    console.print(f"{len(paths)} pictures, before and after: {output}", soft_wrap=True)


def _prepare(workspace: Workspace) -> None:
    """Set the environment of a process that runs models, before anything is loaded that reads it."""
    from stn_bench.machine import cores, training_environment

    os.environ.update(training_environment(cores()))
    find_code(workspace)


def _tracking(workspace: Workspace) -> Tracking:
    from stn_bench.tracking import Tracking

    return Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))


def _train_once(config: Config, seed: int, workspace: Workspace, tracking: Tracking) -> RunRecord:
    from stn_bench.cell import train_cell
    from stn_bench.data.dataset import make_dataset
    from stn_bench.data.spec import DatasetSpec
    from stn_bench.machine import cores
    from stn_bench.runner import counting_interrupts

    dataset = make_dataset(DatasetSpec.of(config), workspace.datasets, processes=cores())
    order = _order(config, seed, dataset.fingerprint, workspace, tracking)
    done = {run.run_key: run.run_id for run in tracking.finished()}
    if order.identity.run_key in done:
        messages.print("already trained; this is that run")
        return tracking.records([done[order.identity.run_key]])[0]
    with counting_interrupts() as interrupts:
        return train_cell(order, dataset, tracking, on_epoch=_tell, should_stop=lambda: interrupts.count > 0)


def _order(config: Config, seed: int, fingerprint: str, workspace: Workspace, tracking: Tracking) -> CellOrder:
    from stn_bench.catalogue import BASE
    from stn_bench.identity import identify
    from stn_bench.machine import cores
    from stn_bench.order import CellOrder
    from stn_bench.plan import RunSpec

    spec = RunSpec(OUTSIDE, BASE, BASE, "verdict", seed, None, _changes(config), {}, config)
    identity = identify(config, seed, fingerprint)
    experiment = tracking.open_study(OUTSIDE, "Runs outside a study: `stn-bench train`.")
    checkpoint = workspace.checkpoints / identity.run_key / "checkpoint.npz"
    return CellOrder(spec, identity, experiment, None, checkpoint, cores())


def _changes(config: Config) -> dict[str, Any]:
    defaults = Config().resolved().flat()
    return {path: value for path, value in config.flat().items() if value != defaults[path]}


def _tell(epoch: EpochEnd) -> None:
    accuracy = epoch.metrics["validation.accuracy"]
    messages.print(f"epoch {epoch.epoch}/{epoch.epochs}: validation.accuracy {accuracy:.4f}, {epoch.seconds:.0f} s")


def _load(model: str, workspace: Workspace, trust: bool) -> tuple[Any, Config]:
    _prepare(workspace)
    path = Path(model)
    if not path.exists() and not path.suffix:
        tracking = _tracking(workspace)
        path = tracking.file(tracking.find_run(model), "model.keras")
    from stn_bench.nn.model_file import load_model

    return load_model(path, trust=trust)


def _read(pictures: list[Path], config: Config) -> tuple[list[Path], Any]:
    """Return the pictures' paths and the pictures, letterboxed as in training: uint8, (count, size, size, 3)."""
    import numpy as np

    from stn_bench.data.letterbox import letterbox
    from stn_bench.data.pictures import find_pictures, read_picture
    from stn_bench.data.spec import DatasetSpec

    spec = DatasetSpec.of(override(config, {"data.shapes": "varied"}))
    paths = find_pictures(pictures)
    return paths, np.stack([letterbox(read_picture(path), spec.size, spec.pad_byte or 0) for path in paths])
