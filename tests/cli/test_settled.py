"""A settled study is told so at once, as long as nothing that it depends on has changed; and no command litters."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Cli, call
from makers import make_root, write
from mlflow.tracking import MlflowClient

from stn_bench.report import build
from stn_bench.runner import runner
from stn_bench.system.errors import StnBenchError

WAVES = """
def train(*, seed: int, rate: float = 0.5) -> dict[str, float]:
    return {"score": rate + 0.01 * seed}
"""
STUDY = """
title = "Waves"
subject = "{module}:train"
metric = "score"
direction = "maximize"
ablations = ["depth"]
seeds = [1, 2, 3]
"""
ABLATION = 'title = "Rate"\nquestion = "Does the rate matter?"\n[arms.slow]\nset = { "rate" = 0.25 }\n'


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder for temporary files of this process and its children: an empty one."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        yield folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Path:
    """Return one root for all, since training it takes seconds; what a test changes there, it undoes."""
    root = make_root(tmp_path_factory.mktemp("root"), study=STUDY.format(module="waves_settled"), ablation=ABLATION)
    write(root / "waves_settled.py", WAVES)
    assert call("run", "small", "--root", root, "--workers", "1") == 0
    assert list(temporary.iterdir()) == []
    return root


class TrainsError(StnBenchError):
    """A `run` went the long way."""


def long_way(*_: object, **__: object) -> None:
    raise TrainsError("the long way")


Undo = Callable[[], object]


def deleted(kind: str) -> Callable[[Path], Undo]:
    def change(root: Path) -> Undo:
        client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlruns/mlflow.db")
        (study,) = [one.experiment_id for one in client.search_experiments() if one.name == "small"]
        run_id = client.search_runs([study], f"tags.kind = '{kind}'")[0].info.run_id
        client.delete_run(run_id)
        return lambda: client.restore_run(run_id)

    return change


def changed(path: str, content: Callable[[bytes], bytes] | None) -> Callable[[Path], Undo]:
    """Return what puts another content in place of a file, or nothing; undone, it is the very file that it was."""

    def change(root: Path) -> Undo:
        (file,) = root.glob(path)
        aside = file.with_name(f"{file.name}.aside")
        file.rename(aside)
        if content:
            file.write_bytes(content(aside.read_bytes()))
        moved = root / "aside"
        aside.rename(moved)  # a report may hold no other files
        return lambda: moved.rename(file)

    return change


def replaced(path: str, old: bytes, new: bytes) -> Callable[[Path], Undo]:
    return changed(path, lambda content: content.replace(old, new))


CHANGES: dict[str, Callable[[Path], Undo]] = {
    "a run is deleted": deleted("run"),
    "an arm is deleted": deleted("arm"),
    "the report in the store is deleted": deleted("report"),
    "the code": replaced("waves_settled.py", b"0.01", b"0.02"),
    "a title": replaced("studies/small.toml", b"Waves", b"Surf"),
    "a question": replaced("ablations/depth.toml", b"matter", b"count"),
    "a seed more": replaced("studies/small.toml", b"3]", b"3, 4]"),
    "the page": replaced("reports/small/report.md", b"Waves", b"Other"),
    "a figure is gone": changed("reports/small/figures/verdicts.png", None),
    "the queue is gone": changed("mlruns/optuna.db", None),
    "the queue is damaged": changed("mlruns/optuna.db", lambda content: b"noise"),
    "the records are gone": changed("mlruns/records.db", None),
}


def test_a_settled_study_is_told_so_at_once(trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "train_study", long_way)
    first = cli("run", "small", "--root", trained)
    assert first[0] == 0, first
    assert "report:" in first[1]
    assert cli("run", "small", "--root", trained) == first
    assert cli("run", "small", "--root", trained, "--accept-stale")[2].startswith("stn-bench: the long way")
    for what, change in CHANGES.items():
        undo = change(trained)
        assert cli("run", "small", "--root", trained)[2].startswith("stn-bench: the long way"), what
        undo()
        assert cli("run", "small", "--root", trained) == first, what


def test_a_report_that_is_current_is_not_drawn_again(trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cli("report", "small", "--root", trained)
    monkeypatch.setattr(build, "build_report", long_way)
    assert cli("report", "small", "--root", trained) == first
    for what in ("a run is deleted", "a title", "the page", "a figure is gone"):
        undo = CHANGES[what](trained)
        assert cli("report", "small", "--root", trained)[2].startswith("stn-bench: the long way"), what
        undo()
    assert cli("report", "small", "--root", trained, "--format", "md")[2].startswith("stn-bench: the long way")


def test_no_command_leaves_anything_in_the_temporary_folder(
    trained: Path, cli: Cli, temporary: Path, tmp_path: Path
) -> None:
    key = json.loads(cli("plan", "small", "--json", "--root", trained)[1])["arms"][0]["runs"][0]["run_key"]
    archive, other = tmp_path / "runs.zip", tmp_path / "other"
    other.mkdir()
    for command in (
        ["list", "--root", trained],
        ["show", "small", "--root", trained],
        ["check", "--root", trained],
        ["plan", "small", "--root", trained],
        ["status", "small", "--root", trained],
        ["report", "small", "--root", trained, "--format", "md,html,latex,csv,pdf"],
        ["report", "small", "--root", trained, "--check"],
        ["why", key, "--root", trained],
        ["export", "small", archive, "--root", trained],
        ["import", archive, "--root", other],
        ["run", "small", "--root", trained],
        ["judge", trained / "reports/small/runs.csv", "--metric", "score"],
        ["gc", "--root", trained],
        ["schema", tmp_path / "schema"],
    ):
        code, out, err = cli(*command)
        assert code == 0, (command, out, err)
        assert list(temporary.iterdir()) == [], command
