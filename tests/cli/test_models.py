"""The commands about single models, with a model that was really trained, in a store of its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Cli, call, widen
from makers import STN, ablation, arm, plan, record, write
from mlflow.tracking import MlflowClient
from PIL import Image
from stores import finish, open_store, question

from stn_bench.cli.training import _plan_run
from stn_bench.settings import override
from stn_bench.study.plan import RunSpec
from stn_bench.subjects.stn.commands import _read
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.correction import correct
from stn_bench.subjects.stn.data.letterbox import letterbox
from stn_bench.subjects.stn.data.pictures import read_picture, write_picture
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.identity import identify
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import run_tags

pytestmark = pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow, about a class of its own

SETTINGS = {
    "data.count": 120,
    "data.validation": 24,
    "data.test": 30,
    "data.size": 20,
    "data.alphabet": "ABC",
    "model.width": 1 / 32,
    "model.norm.kind": "none",  # traced in half the time
    "train.epochs": 3,
    "optimizer.learning_rate": 0.01,
}
ON = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e-6, "train.epochs": 1}


@pytest.fixture(scope="module")
def command() -> Callable[..., int]:
    """Run the command line in this process, which has Keras loaded, and return the exit code."""

    def run(*arguments: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            widen(patch, 300)
            return call(*arguments)

    return run


@pytest.fixture
def cli(command: Callable[..., int], root: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command on the root, and return exit code, output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = command(*arguments, "--root", root)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def overrides(settings: Mapping[str, object]) -> list[str]:
    return [part for path, value in settings.items() for part in ("--set", f"{path}={value}")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., int]) -> Path:
    """Return a root with one trained model, and its pictures in `pictures/`."""
    folder = tmp_path_factory.mktemp("models")
    assert command("train", *overrides(SETTINGS), "-o", folder / "model.keras", "--root", folder) == 0
    assert command("data", "export", folder / "pictures", *overrides(SETTINGS), "--root", folder) == 0
    return folder


@pytest.fixture(scope="module")
def client(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=Workspace.at(root).tracking)


def runs(client: MlflowClient) -> list[Any]:
    """Return the runs of the store, the first one first."""
    experiment = client.get_experiment_by_name("train")
    assert experiment is not None
    return sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.start_time)


@pytest.fixture(scope="module")
def first(client: MlflowClient) -> Any:
    return runs(client)[0]


def test_pictures(root: Path) -> list[Path]:
    return sorted((root / "pictures").iterdir())[-30:]


test_pictures.__test__ = False  # type: ignore[attr-defined]


def refuse(result: tuple[int, str, str]) -> str:
    """Return the message of a command that ended as bad input should."""
    code, out, err = result
    message = err.removeprefix("already trained; this is that run\n")
    assert (code, out) == (2, "")
    assert 1 <= len(message.splitlines()) <= 2
    assert message.startswith("stn-bench: ")
    return message


# predict ---------------------------------------------------------------------------------------------------------


def test_accuracy_on_the_test_pictures_is_the_runs_own(cli: Cli, root: Path, first: Any) -> None:
    told = json.loads(cli("predict", first.info.run_id[:10], *test_pictures(root), "--json")[1])
    assert told["accuracy"] == pytest.approx(first.data.metrics["test.accuracy"])
    assert told["labelled"] == len(told["pictures"]) == 30


def test_counts_and_mistakes_agree_with_the_lines(cli: Cli, root: Path) -> None:
    told = json.loads(cli("predict", root / "model.keras", *test_pictures(root), "--json")[1])
    pairs = [(row["label"], row["letter"]) for row in told["pictures"]]
    by_hand = [[pairs.count((truth, letter)) for letter in "ABC"] for truth in "ABC"]
    assert told["confusion"] == {"alphabet": "ABC", "counts": by_hand}
    assert len(told["mistakes"]) == sum(truth != letter for truth, letter in pairs) > 0
    probabilities = [row["probability"] for row in told["mistakes"]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_report_holds_both_figures_and_every_mistake(cli: Cli, root: Path, tmp_path: Path) -> None:
    code, out, _ = cli("predict", root / "model.keras", root / "pictures", "--report", tmp_path / "new" / "report")
    assert code == 0
    assert "of 120 labelled pictures read correctly" in out
    files = {path.name: path for path in (tmp_path / "new/report").iterdir()}
    assert set(files) == {"confusion.png", "mistakes.png", "mistakes.csv"}
    for name in ("confusion.png", "mistakes.png"):
        with Image.open(files[name]) as figure:
            assert min(figure.size) > 100
    rows = list(csv.DictReader(files["mistakes.csv"].read_text().splitlines()))
    lines = [line for line in out.splitlines() if " read as " in line]
    assert [f"  {row['picture']}  {row['label']} read as {row['letter']}" for row in rows] == [
        line.rpartition("  ")[0] for line in lines
    ]


def test_a_report_leaves_other_files_alone(cli: Cli, root: Path, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/mine.png").touch()
    assert cli("predict", root / "model.keras", *test_pictures(root)[:3], "--report", tmp_path)[0] == 0
    assert (tmp_path / "figures/mine.png").exists()


def test_pictures_without_labels_are_read_as_ever(cli: Cli, root: Path, tmp_path: Path) -> None:
    picture = tmp_path / "my_photo.png"
    picture.write_bytes(test_pictures(root)[0].read_bytes())
    code, out, _ = cli("predict", root / "model.keras", picture)
    (line,) = out.splitlines()
    assert (code, line.split("  ")[0]) == (0, str(picture))


def test_a_label_that_the_alphabet_lacks_is_named_and_not_counted(cli: Cli, root: Path, tmp_path: Path) -> None:
    for name in ("IMG_1.png", "0002_A.png"):
        (tmp_path / name).write_bytes(test_pictures(root)[0].read_bytes())
    code, out, _ = cli("predict", root / "model.keras", tmp_path)
    assert code == 0
    assert "of 1 labelled pictures" in out
    assert out.splitlines()[-1] == f"  {tmp_path / 'IMG_1.png'}  unknown label 1"


def test_a_report_needs_labels(cli: Cli, root: Path, tmp_path: Path) -> None:
    picture = tmp_path / "photo.png"
    picture.write_bytes(test_pictures(root)[0].read_bytes())
    message = refuse(cli("predict", root / "model.keras", picture, "--report", tmp_path / "report"))
    assert "no picture's name carries a label of this alphabet" in message
    assert not (tmp_path / "report").exists()


def test_a_report_cannot_be_written_where_a_file_lies(cli: Cli, root: Path) -> None:
    model = root / "model.keras"
    assert "model.keras: cannot be written" in refuse(cli("predict", model, *test_pictures(root), "--report", model))


def test_pictures_are_letterboxed_and_then_corrected(tmp_path: Path) -> None:
    picture = np.full((30, 20, 3), 240, np.uint8)
    picture[4:14, 3:9] = 20  # a letter that is not in the middle
    write_picture(tmp_path / "a.png", picture)
    config = override(Config(), {"data.correction.kind": "opencv", "data.size": 40})
    _, images = _read([tmp_path / "a.png"], config)
    boxed = letterbox(read_picture(tmp_path / "a.png"), 40, 0)[np.newaxis]
    np.testing.assert_array_equal(images, correct(boxed, config))
    assert not np.array_equal(images, boxed)


# rectify ---------------------------------------------------------------------------------------------------------


def test_rectify_draws_every_picture_with_its_bar(cli: Cli, root: Path, tmp_path: Path) -> None:
    code, out, _ = cli("rectify", root / "model.keras", *test_pictures(root)[:5], "-o", tmp_path / "out.png")
    assert (code, out.startswith("5 of 5 pictures, before and after")) == (0, True)
    with Image.open(tmp_path / "out.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    bars = (pixels == (255, 255, 0)).all(axis=2)
    height = bars.any(axis=1).sum() / 2  # two rows, of four and of one
    assert height >= 200
    assert bars.sum() == 5 * 10 * height


def test_a_sheet_shows_sixty_and_says_so(cli: Cli, root: Path, tmp_path: Path) -> None:
    out = cli("rectify", root / "model.keras", root / "pictures", "-o", tmp_path / "out.png")[1]
    assert out.startswith("60 of 120 pictures")


def test_the_check_is_drawn_and_its_numbers_printed(cli: Cli, root: Path, tmp_path: Path) -> None:
    code, out, _ = cli("rectify", root / "model.keras", root / "pictures", "--check", tmp_path / "new/check.png")
    assert code == 0
    assert "geometric mean over 120 pictures" in out
    with Image.open(tmp_path / "new/check.png") as figure:
        assert figure.size == (1400, 660)


def test_json_tells_each_picture_and_the_check(cli: Cli, root: Path) -> None:
    told = json.loads(cli("rectify", root / "model.keras", *test_pictures(root), "--json")[1])
    magnification = [row["magnification"] for row in told["pictures"]]
    areas = [abs(np.linalg.det(np.array(row["matrix"])[:, :2])) for row in told["pictures"]]
    np.testing.assert_allclose(magnification, 1 / np.sqrt(areas), rtol=1e-5)
    assert told["check"]["magnification"]["value"] == pytest.approx(np.exp(np.mean(np.log(magnification))))
    assert told["check"]["magnification"]["pictures"] == 30
    inwards = [row["offset_before"] - row["offset_after"] for row in told["pictures"]]
    assert told["check"]["centring"]["value"] == pytest.approx(np.mean(inwards))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "a.txt"], "a.txt: expected a file name that ends in .bmp, .jpeg, .jpg, .png, .webp"),
        (["--check", "a.jpg"], "a.jpg: expected a file name that ends in .png"),
    ],
)
def test_a_file_of_another_kind_is_refused(cli: Cli, root: Path, options: list[str], message: str) -> None:
    assert message in refuse(cli("rectify", root / "model.keras", root / "pictures", *options))


def test_rectify_with_nothing_to_write_says_what_to_ask_for(cli: Cli, root: Path) -> None:
    code, _, err = cli("rectify", root / "model.keras", root / "pictures")
    assert code == 2
    assert "--output FILE or --check FILE" in err


# train --from ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_on(command: Callable[..., int], root: Path, client: MlflowClient, first: Any) -> Any:
    """Return the run that goes on from the first one, with steps of next to no size."""
    assert command("train", "--from", first.info.run_id[:8], *overrides(ON), "--root", root) == 0
    return runs(client)[-1]


def test_settings_are_those_of_the_start_but_for_the_changes(first: Any, trained_on: Any) -> None:
    assert trained_on.data.params == {**first.data.params, **{path: str(value) for path, value in ON.items()}}
    assert trained_on.data.tags["seed"] == first.data.tags["seed"]


def test_the_run_begins_where_the_start_ended(first: Any, trained_on: Any, client: MlflowClient) -> None:
    history = [one.value for one in client.get_metric_history(first.info.run_id, "train.loss")]
    assert trained_on.data.metrics["train.loss"] < history[0]


def test_the_run_shows_its_descent(first: Any, trained_on: Any) -> None:
    tags = trained_on.data.tags
    assert tags["started_from"] == first.info.run_id
    assert tags["started_from_key"] == first.data.tags["run_key"]
    note = tags["mlflow.note.content"]
    assert f"Trained on from run [base, seed 1](#/runs/{first.info.run_id})" in note
    assert "- `optimizer.name` = `sgd`, was `adam`" in note
    assert trained_on.info.run_name == f"base, seed 1, from {first.info.run_id[:8]}"


def test_the_start_is_part_of_the_identity(first: Any, trained_on: Any, client: MlflowClient) -> None:
    record = json.loads(Path(client.download_artifacts(trained_on.info.run_id, "record.json")).read_text())
    assert record["identity"]["start"] == first.data.tags["run_key"]
    assert record["run_key"] == trained_on.data.tags["run_key"]


def test_the_same_again_trains_nothing(cli: Cli, first: Any, trained_on: Any, client: MlflowClient) -> None:
    code, out, err = cli("train", "--from", first.data.tags["run_key"][:12], *overrides(ON), "--json")
    told = json.loads(out)
    assert (code, told["run_id"], told["started_from"]) == (0, trained_on.info.run_id, first.info.run_id)
    assert "already trained" in err
    assert len(runs(client)) == 2


def test_why_knows_the_start(cli: Cli, first: Any, trained_on: Any) -> None:
    code, out, _ = cli("why", trained_on.info.run_id)
    assert (code, out.splitlines()[-1]) == (0, "is reused: nothing that it depends on has changed")
    assert f"continues the run with key {first.data.tags['run_key']}" in out


@pytest.mark.parametrize(("settings", "finished"), [(SETTINGS, 1), (SETTINGS | ON, 0)], ids=["afresh", "on"])
@pytest.mark.usefixtures("trained_on")
def test_a_run_trained_on_stands_in_for_no_planned_run(
    cli: Cli, root: Path, settings: dict[str, Any], finished: int
) -> None:
    """Seed 1 of both studies has a run of the same settings; that of the second one began with another's weights."""
    base = "\n".join(f'"{path}" = {json.dumps(value)}' for path, value in settings.items())
    (root / "studies").mkdir(exist_ok=True)
    study = f'title = "A study"\nablations = ["transformer"]\nseeds = [1, 2, 3]\n[base]\n{base}\n'
    (root / "studies/planned.toml").write_text(study)
    told = json.loads(cli("status", "planned", "--json")[1])
    assert told["finished"] == finished


def test_another_shape_is_refused_and_leaves_no_result(
    cli: Cli, first: Any, trained_on: Any, client: MlflowClient
) -> None:
    before = len(runs(client))
    message = refuse(cli("train", "--from", first.info.run_id, "--set", "model.width=0.0625"))
    assert "`model.width` (was 0.03125, is 0.0625)" in message
    (refused,) = runs(client)[before:]
    assert (refused.info.status, refused.data.tags.get("outcome")) == ("KILLED", None)


def test_a_setting_that_contradicts_the_starts_is_refused(cli: Cli, first: Any) -> None:
    message = refuse(cli("train", "--from", first.info.run_id, "--set", "optimizer.momentum=0.9"))
    assert "`optimizer.momentum` belongs to sgd, got 0.9 with adam" in message


def test_a_start_that_is_not_there_is_refused(cli: Cli) -> None:
    assert "0 finished runs begin with `nothing`" in refuse(cli("train", "--from", "nothing"))


def test_a_start_without_a_model_is_refused(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(tmp_path / "mlruns")
    trial = finish(question().arms[0].tuning_specs()[0], store)
    code = command("train", "--from", trial.run_id, "--root", tmp_path)
    captured = capsys.readouterr()
    assert "keeps no model to continue from" in refuse((code, captured.out, captured.err))


def test_a_factory_of_the_start_needs_trust(
    cli: Cli, root: Path, first: Any, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Tracking.records

    def with_factory(self: Tracking, run_ids: list[str]) -> list[Any]:
        return [
            record.model_copy(update={"settings": {**record.settings, "model.factory": "own:build"}})
            for record in records(self, run_ids)
        ]

    monkeypatch.setattr(Tracking, "records", with_factory)
    message = refuse(cli("train", "--from", first.info.run_id))
    assert "was built by `own:build`" in message
    assert "--trust" in message


FACTORY_ARM = 'title = "O"\nquestion = "O?"\n[arms.own]\nset = { "model.factory" = "own:build" }\n'


def test_a_factory_of_a_run_needs_trust_or_a_study_that_names_it(
    cli: Cli, root: Path, first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the run, and no file that nobody knows."""
    monkeypatch.setattr("stn_bench.subjects.stn.nn.model_file.read_note", lambda path: {"model.factory": "own:build"})
    message = refuse(cli("predict", first.info.run_id[:8], root / "nowhere.png"))
    assert message.startswith(f"stn-bench: run {first.info.run_id}: was built by `own:build`, ")
    assert f"add --trust if you trust it (no study of {root} names it)" in message
    study = write(root / "studies/own.toml", 'title = "O"\nablations = ["own"]\nseeds = [1]\n')
    ablation = write(root / "ablations/own.toml", FACTORY_ARM)
    try:
        called = refuse(cli("predict", first.info.run_id[:8], root / "nowhere.png"))  # and is not there
        assert "`model.factory` own:build: expected an importable package.module:function" in called
    finally:
        study.unlink()
        ablation.unlink()


def test_a_model_cannot_be_written_below_a_file(cli: Cli, root: Path, first: Any) -> None:
    message = refuse(cli("train", *overrides(SETTINGS), "-o", root / "model.keras/other.keras"))
    assert "other.keras: the model cannot be written (" in message


# What a start means, without training --------------------------------------------------------------------------


def test_only_a_start_sets_the_tags_of_equal_settings_apart() -> None:
    settings = Config().resolved().flat()
    spec = RunSpec("train", "base", "base", "verdict", 1, None, {}, {}, settings)
    fresh, on, other = (
        run_tags(spec, identify(STN, settings, 1, "f" * 64, start), Config) for start in ("", "a" * 64, "b" * 64)
    )
    assert len({tags["settings"] for tags in (fresh, on, other)}) == 3
    assert "started_from_key" not in fresh
    assert on["started_from_key"] == "a" * 64


@pytest.mark.parametrize("input_range", ["[0,1]", "[-1,1]"])
def test_a_fill_that_was_the_lower_bound_follows_a_new_input_range(input_range: str) -> None:
    (spec,) = (
        plan(ablation(arm("other", {"model.width": 2.0})), overrides={"model.input_range": input_range})
        .arms[0]
        .verdict_specs({})[:1]
    )
    for new, bound in (("[0,1]", 0), ("[-1,1]", -1)):
        planned, _ = _plan_run(STN, record(spec, "r"), {"model.input_range": new}, None)
        assert (planned.settings["model.transformer.fill"], planned.settings["data.pad"]) == (bound, bound)
