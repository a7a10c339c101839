"""One study from its file to its report, with real stores: of toys, and, slowly, of letters with real pictures."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from commands import Cli, call, widen
from mlflow.tracking import MlflowClient
from PIL import Image
from tiny import STUDY, TUNED_TOYS, make_root, make_toy_root

import stn_bench as stn_bench_package
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.server import serve

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as the queue does


@dataclass(frozen=True)
class Studied:
    """What a study asks: its ablation and arm, what it tunes, and what its page is to show."""

    ablation: str
    arm: str
    tuned: str
    score: str
    """The metric of its verdicts."""
    best: tuple[str, str]
    """What tuning maximises, and what it then minimises."""
    question: str
    figures: int


TOYS = Studied(
    "depth",
    "four",
    "rate",
    "test.score",
    ("last.validation.score", "last.train.loss"),
    "Do four layers reach more than two?",
    6,
)
LETTERS = Studied(
    "transformer",
    "none",
    "optimizer.learning_rate",
    "test.accuracy",
    ("best.validation.accuracy", "best.validation.loss"),
    "Does a spatial transformer in front of the classifier read more letters",
    6,  # all arms; and of the question: differences, curves, costs, tuning, gallery
)
of_letters = pytest.mark.parametrize(
    "asked", [pytest.param(LETTERS, marks=pytest.mark.slow, id="letters")], indirect=True
)


@pytest.fixture(scope="module", params=[TOYS, pytest.param(LETTERS, marks=pytest.mark.slow)], ids=["toys", "letters"])
def asked(request: pytest.FixtureRequest) -> Studied:
    """Return what the study is about."""
    found: Studied = request.param
    return found


@pytest.fixture(scope="module")
def root(asked: Studied, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root whose study is finished."""
    folder = new_root(asked, tmp_path_factory.mktemp("root"))
    assert call("run", "tiny", "--workers", 1, "--root", folder) == 0
    return folder


def new_root(asked: Studied, folder: Path) -> Path:
    """Return a root with the study, on two seeds."""
    if asked is TOYS:
        return make_toy_root(folder, TUNED_TOYS.replace("[1, 2, 3]", "[1, 2]"))
    return make_root(folder, STUDY.replace("[1, 2, 3]", "[1, 2]"))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line in this process, which has the libraries loaded; return exit code, output and error."""

    def run(*arguments: object, root: Path) -> tuple[int, str, str]:
        code = call(*arguments, "--root", root)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    widen(monkeypatch, 200)
    return run


@pytest.fixture(scope="module")
def client(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=Workspace.at(root).tracking)


@pytest.fixture(scope="module")
def summary(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "reports/tiny/report.json").read_text()))


def children(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], "tags.kind = 'run'"))


def runs_csv(root: Path) -> str:
    return (root / "reports/tiny/runs.csv").read_text()


def test_every_cell_has_one_finished_run(client: MlflowClient, asked: Studied) -> None:
    runs = children(client)
    assert {run.info.status for run in runs} == {"FINISHED"}
    cells = [(run.data.tags["ablation"], run.data.tags["arm"], run.data.tags["phase"]) for run in runs]
    assert sorted(cells) == sorted(
        [("base", "base", "tune")] * 2
        + [("base", "base", "verdict")] * 2
        + [(asked.ablation, asked.arm, "tune")] * 2
        + [(asked.ablation, asked.arm, "verdict")] * 2
    )


def test_every_cell_has_one_complete_optuna_trial(root: Path) -> None:
    storage = Workspace.at(root).queue
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    assert sorted((study.study_name.split(" / ")[2], len(study.trials)) for study in studies) == sorted(
        [("tune", 2), ("verdict", 2)] * 2
    )
    assert {trial.state.name for study in studies for trial in study.trials} == {"COMPLETE"}


def test_both_arms_try_the_same_learning_rates(root: Path, asked: Studied) -> None:
    storage = Workspace.at(root).queue
    names = [name for name in optuna.get_all_study_names(storage) if " / tune / " in name]
    studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
    tried = [sorted(trial.params[asked.tuned] for trial in study.trials) for study in studies]
    assert tried[0] == tried[1]
    assert len(set(tried[0])) == 2


def test_the_verdict_uses_what_tuning_found_best(client: MlflowClient, asked: Studied) -> None:
    runs = [run for run in children(client) if run.data.tags["arm"] == "base"]
    trials = [run for run in runs if run.data.tags["phase"] == "tune"]
    score, loss = asked.best
    best = max(trials, key=lambda r: (r.data.metrics[score], -r.data.metrics[loss]))
    verdicts = {r.data.params[asked.tuned] for r in runs if r.data.tags["phase"] == "verdict"}
    assert verdicts == {best.data.params[asked.tuned]}


@of_letters
def test_a_run_carries_settings_epochs_dataset_and_model(client: MlflowClient) -> None:
    run = next(r for r in children(client) if r.data.tags["arm"] == "base" and r.data.tags["phase"] == "verdict")
    assert run.data.params["train.epochs"] == "2"
    assert [one.step for one in client.get_metric_history(run.info.run_id, "validation.accuracy")] == [1, 2]
    assert run.inputs.dataset_inputs[0].dataset.name.startswith("captcha-90x20-square")
    (model,) = run.outputs.model_outputs
    assert client.get_logged_model(model.model_id).name == f"base_seed_{run.data.tags['seed']}"
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"record.json", "predictions.npz", "rectified", "model.keras"} <= artifacts


def test_runs_hang_below_their_arm(client: MlflowClient) -> None:
    for run in children(client):
        parent = client.get_run(run.data.tags["mlflow.parentRunId"])
        assert parent.data.tags["kind"] == "arm"
        assert parent.data.tags["arm"] == run.data.tags["arm"]
        assert parent.data.metrics["seeds"] == 2


def test_the_report_is_an_artifact_of_the_study(client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'report'")
    assert "report/report.md" in {item.path for item in client.list_artifacts(run.info.run_id, "report")}


def test_the_report_has_the_numbers_of_the_runs(client: MlflowClient, summary: dict[str, Any], asked: Studied) -> None:
    for arm in summary["ablations"][0]["arms"]:
        for value, run_id in zip(arm["values"], arm["run_ids"], strict=True):
            assert client.get_run(run_id).data.metrics[asked.score] == pytest.approx(value)
        assert arm["mean"] == pytest.approx(np.mean(arm["values"]))


def test_the_page_shows_question_table_and_pictures(root: Path, asked: Studied) -> None:
    page = (root / "reports/tiny/report.md").read_text()
    assert asked.question in page
    assert f"| `{asked.arm}`" in page
    for line in page.splitlines():
        if line.startswith("!["):
            picture = root / "reports/tiny" / line.rpartition("(")[2].rstrip(")")
            with Image.open(picture) as image:
                assert image.size[0] > 300
    assert page.count("![") == asked.figures


def test_runs_csv_has_one_line_a_run(root: Path) -> None:
    rows = list(csv.DictReader(StringIO(runs_csv(root))))
    assert len(rows) == 8
    assert len({row["run_key"] for row in rows}) == 8
    shared = {"train.epochs": "2"} if "train.epochs" in rows[0] else {"epochs": "3"}
    assert all(row[path] == value for row in rows for path, value in shared.items())


def test_the_report_can_be_made_again_byte_for_byte(cli: Cli, root: Path) -> None:
    assert cli("report", "tiny", "--check", root=root)[0] == 0


def test_a_changed_report_is_stale(cli: Cli, root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "copy", ignore=shutil.ignore_patterns("artifacts", "datasets"))
    page = copy / "reports/tiny/report.md"
    page.write_text(page.read_text().replace("How to read this", "How to read that"))
    code, out, _ = cli("report", "tiny", "--check", root=copy)
    assert (code, "report.md" in out) == (1, True)


def test_a_finished_study_trains_nothing_again(cli: Cli, root: Path, client: MlflowClient) -> None:
    before = {run.info.run_id for run in children(client)}
    code, out, err = cli("run", "tiny", root=root)
    assert (code, "runs to train" in out) == (0, False), err
    assert {run.info.run_id for run in children(client)} == before


def test_another_study_reuses_the_same_runs(cli: Cli, root: Path, client: MlflowClient) -> None:
    study = (root / "studies/tiny.toml").read_text().replace("Tiny:", "Twin:")
    (root / "studies/twin.toml").write_text(study)
    code, out, err = cli("run", "twin", root=root)
    assert (code, "runs to train" in out) == (0, False), err
    reports = [json.loads((root / f"reports/{name}/report.json").read_text()) for name in ("tiny", "twin")]
    ours, theirs = ([arm["run_ids"] for arm in report["ablations"][0]["arms"]] for report in reports)
    assert ours == theirs


def test_python_sees_the_same_runs_and_summary(root: Path, summary: dict[str, Any]) -> None:
    table = stn_bench_package.runs("tiny", root=root)
    assert list(table["run_id"]) == [row["run_id"] for row in csv.DictReader(StringIO(runs_csv(root)))]
    told = stn_bench_package.summary("tiny", root=root).model_dump(mode="json")
    assert told == {"source": "", "notes": [], "doubts": []} | summary  # report.json leaves out what is empty


def test_status_counts_the_finished_runs(cli: Cli, root: Path, asked: Studied) -> None:
    status = json.loads(cli("status", "tiny", "--json", root=root)[1])
    assert (status["planned"], status["finished"]) == (8, 8)
    assert [arm["arm"] for arm in status["arms"]] == ["base", f"{asked.ablation}/{asked.arm}"]


def test_why_says_that_a_run_is_reused(cli: Cli, root: Path, summary: dict[str, Any]) -> None:
    run_id = summary["ablations"][0]["arms"][0]["run_ids"][0]
    told = json.loads(cli("why", run_id[:12], "--json", root=root)[1])
    told.pop("conditions", None)  # one worker had all cores; `run` would share them out today
    assert told == {"run_id": run_id, "run_key": told["run_key"], "reused": True, "changed": []}


@of_letters
def test_why_names_a_library_that_changed(
    cli: Cli, root: Path, summary: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    told = cli("why", summary["ablations"][0]["arms"][0]["run_ids"][0], root=root)[1]
    assert "would be trained again, since:" in told
    assert "libraries tensorflow" in told


@of_letters
def test_predict_reads_exported_pictures(cli: Cli, root: Path, summary: dict[str, Any], tmp_path: Path) -> None:
    tiny = ("--set", "data.count=90", "--set", "data.size=20", "--set", "data.alphabet=AB", "--set", "data.test=26")
    cli("data", "export", tmp_path / "pictures", *tiny, "--set", "data.validation=26", root=root)
    run_id = summary["ablations"][0]["arms"][0]["run_ids"][0]
    told = json.loads(cli("predict", run_id, tmp_path / "pictures", "--json", root=root)[1])
    assert (len(told["pictures"]), told["labelled"]) == (90, 90)
    right = [Path(row["picture"]).stem[-1] == row["letter"] for row in told["pictures"][-26:]]
    assert np.mean(right) == pytest.approx(summary["ablations"][0]["arms"][0]["values"][0])


@of_letters
def test_rectify_writes_original_bar_and_rectified(cli: Cli, root: Path, client: MlflowClient, tmp_path: Path) -> None:
    run = next(r for r in children(client) if r.data.tags["arm"] == "base" and r.data.tags["phase"] == "verdict")
    model = client.download_artifacts(run.info.run_id, "model.keras")
    picture = next(Path(client.download_artifacts(run.info.run_id, "rectified")).glob("*.png"))
    code, _, err = cli("rectify", model, picture, "-o", tmp_path / "out.png", root=root)
    assert code == 0, err
    with Image.open(tmp_path / "out.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels == (255, 255, 0)).all(axis=2).sum() >= 10 * 20


@of_letters
def test_the_plain_cnn_has_nothing_to_rectify(cli: Cli, root: Path, summary: dict[str, Any], tmp_path: Path) -> None:
    run_id = summary["ablations"][0]["arms"][1]["run_ids"][0]
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    code, _, err = cli("rectify", run_id, tmp_path / "a.png", "-o", tmp_path / "out.png", root=root)
    assert (code, "no SpatialTransformer" in err) == (2, True)


@of_letters
def test_the_logged_model_loads_where_nobody_has_imported_us(root: Path, client: MlflowClient) -> None:
    run = next(r for r in children(client) if r.data.tags["arm"] == "base" and r.data.tags["phase"] == "verdict")
    script = (
        "import sys, mlflow, numpy as np\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model(sys.argv[2])\n"
        "print(np.asarray(model.predict(np.zeros((3, 20, 20, 3), np.uint8))).sum(axis=1).tolist())\n"
    )
    arguments = [Workspace.at(root).tracking, f"models:/{run.outputs.model_outputs[0].model_id}"]
    loaded = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout.splitlines()[-1]) == pytest.approx([1.0, 1.0, 1.0])


@pytest.fixture
def ui(root: Path) -> Iterator[str]:
    """Yield the address of the MLflow UI on the finished store."""
    server = serve(Workspace.at(root).tracking, 5987)
    address = "http://127.0.0.1:5987"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).read()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_the_ui_serves_the_study_and_its_report(ui: str, root: Path, client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'report'")
    address = f"{ui}/get-artifact?path=report/report.md&run_uuid={run.info.run_id}"
    page = urllib.request.urlopen(address, timeout=30).read().decode()
    assert page == (root / "reports/tiny/report.md").read_text()


def test_a_second_root_in_one_process_has_its_own_store(root: Path, tmp_path: Path, asked: Studied) -> None:
    other = new_root(asked, tmp_path)
    assert len(stn_bench_package.runs("tiny", root=root)) == 8
    assert len(stn_bench_package.runs("tiny", root=other)) == 0


def test_tracking_opens_a_store_that_is_there(root: Path) -> None:
    workspace = Workspace.at(root)
    tracking = Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))
    assert len({run.run_key for run in tracking.finished()}) == 8


@pytest.fixture(scope="module")
def clone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what git would carry of the root, with the exported runs beside the report, imported."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("studies", "ablations", "reports"):
        if (root / name).exists():
            shutil.copytree(root / name, folder / name)
    runs = folder / "reports/tiny/runs.zip"
    assert call("export", "tiny", runs, "--root", root) == 0
    assert call("import", runs, "--root", folder) == 0
    return folder


def test_runs_travel_in_a_file_and_arrive_once(root: Path, clone: Path, tmp_path: Path, cli: Cli) -> None:
    assert "8 runs of study tiny" in cli("export", "tiny", tmp_path / "runs.zip", root=root)[1]
    told = cli("import", tmp_path / "runs.zip", root=clone)[1]
    assert "0 runs of study tiny merged, 8 skipped, since the store has them" in told


def test_a_fresh_clone_makes_the_same_report_from_the_exported_runs(cli: Cli, clone: Path) -> None:
    assert cli("report", "tiny", "--check", root=clone)[0] == 0
    assert not (clone / "mlruns/datasets").exists()


def test_a_fresh_clone_trains_none_of_the_exported_runs(cli: Cli, root: Path, clone: Path, asked: Studied) -> None:
    code, out, err = cli("run", "tiny", root=clone)
    assert code == 0, out + err
    assert asked is TOYS or "made 90 pictures" in out
    assert "runs to train" not in out
    assert runs_csv(clone) == runs_csv(root)


def test_an_imported_run_is_known_by_the_id_that_it_had(cli: Cli, clone: Path, summary: dict[str, Any]) -> None:
    run_id = summary["ablations"][0]["arms"][0]["run_ids"][0]
    told = json.loads(cli("why", run_id[:12], "--json", root=clone)[1])
    assert (told["run_id"], told["reused"]) == (run_id, True)


@of_letters
def test_an_imported_run_has_no_model(cli: Cli, clone: Path, summary: dict[str, Any], tmp_path: Path) -> None:
    run_id = summary["ablations"][0]["arms"][0]["run_ids"][0]
    code, _, err = cli("predict", run_id, tmp_path, root=clone)
    assert (code, "the run was imported, and models stay where they were trained" in err) == (2, True)
