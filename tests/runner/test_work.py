"""A packed study from its root to a machine without a store and back: on toys, and slowly on a Keras model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from commands import call
from packs import BLOCKER, check_alike, home_of, numbers, pack, wait_until, work, working
from processes import runs, values
from tiny import DEPTH, TOYS, TUNED_TOYS, make_root, make_toy_root, slow_toys

from stn_bench.runner.folder_queue import FolderQueue, open_folders
from stn_bench.runner.leases import TRIES, Finished
from stn_bench.runner.packed import PackedStudy, read_packed, zip_study
from stn_bench.runner.work import Saving
from stn_bench.runner.worker import JobEnded, JobStarted
from stn_bench.system.errors import LeaseLostError
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.archive import TRAINED, read_archive
from stn_bench.tracking.record import RunRecord

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as the queue does

LOOKS = TUNED_TOYS.replace("[1, 2, 3]", "[1, 2, 3, 4]\nlooks = [3, 4]").replace("[base]", '[base]\n"noise" = 0.5')
"""A study with tuning whose arms are open after the first look."""


# There and back --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(make_toy_root(tmp_path_factory.mktemp("work") / "root"))


@pytest.fixture(scope="module")
def results(packed: Path) -> Path:
    return work(packed)


@pytest.mark.slow
def test_a_study_that_was_packed_reports_as_one_that_was_run(results: Path, tmp_path: Path) -> None:
    embedded, root = (make_toy_root(tmp_path / name) for name in ("embedded", "root"))
    assert call("run", "tiny", "--workers", 1, "--root", embedded) == 0
    assert call("import", results, "--root", root) == 0
    check_alike(root, embedded)


@pytest.mark.slow
def test_looks_and_shards_report_as_one_run(tmp_path: Path, capsys: Any) -> None:
    confirmed = LOOKS.replace("margin", "confirm = [101, 102]\nmargin")
    embedded = make_toy_root(tmp_path / "embedded", confirmed)
    assert call("run", "tiny", "--confirm", "--workers", 1, "--root", embedded) == 0
    root = make_toy_root(tmp_path / "root", confirmed)
    trained = []
    for turn in range(3):  # tuning, the first look, the second
        file = pack(root, f"work{turn}.zip")
        trained.append({(job.spec.phase, job.spec.seed) for job in read_packed(file).jobs})
        for number in (2, 1):
            results = work(file, f"results{turn}-{number}.zip", "--shard", f"{number}/2")
            assert call("import", results, "--root", root) == 0
    assert trained == [{("tune", 1000)}, {("verdict", 1), ("verdict", 2), ("verdict", 3)}, {("verdict", 4)}]
    capsys.readouterr()
    assert call("pack", "tiny", tmp_path / "more.zip", "--root", root) == 2
    assert "nothing to pack" in capsys.readouterr().err
    assert not (tmp_path / "more.zip").exists()
    file = pack(root, "confirm.zip", "--confirm")
    assert {(job.spec.phase, job.spec.seed) for job in read_packed(file).jobs} == {("confirm", 101), ("confirm", 102)}
    assert call("import", work(file, "confirmed.zip"), "--root", root) == 0
    check_alike(root, embedded)
    assert call("run", "tiny", "--confirm", "--workers", 1, "--root", root) == 0  # which finds nothing to train
    assert len(runs(root)) == 2 * (2 + 4 + 2)


def test_results_are_an_archive_of_all_that_runs_keep(results: Path) -> None:
    archive = read_archive(results)
    assert (archive.kind, archive.study, len(archive.records)) == (TRAINED, "tiny", 6)
    for record in archive.records:
        assert sorted(archive.files[record.run_key]) == ["examples.npz", "model.json", "skill.npz"]
        assert record.run_id == record.run_key[:32]


def test_each_run_comes_in_once_and_the_first_wins(results: Path, tmp_path: Path, capsys: Any) -> None:
    root = make_toy_root(tmp_path / "root")
    again = work(pack(root), "again.zip")
    for file, told in ((results, "6 runs of study tiny merged, 0"), (again, "0 runs of study tiny merged, 6 skipped")):
        capsys.readouterr()
        assert call("import", file, "--root", root) == 0
        assert told in capsys.readouterr().out
    first = {record.run_key: record.started for record in read_archive(results).records}
    kept = [json.loads((home_of(root, run) / "record.json").read_text()) for run in runs(root)]
    assert {record["run_key"]: record["started"] for record in kept} == first
    assert all((home_of(root, run) / "model.json").is_file() for run in runs(root))


@pytest.mark.slow
def test_the_files_of_a_model_can_be_trained_on(results: Path, tmp_path: Path, capsys: Any) -> None:
    root = make_toy_root(tmp_path / "root")
    assert call("import", results, "--root", root) == 0
    run_id = read_archive(results).records[0].run_id
    assert call("train", "--subject", "toy", "--from", run_id[:12], "--root", root) == 0


def test_what_is_finished_is_not_trained_again(packed: Path, results: Path, capsys: Any) -> None:
    before = results.read_bytes()
    capsys.readouterr()
    assert work(packed) == results
    assert "to train" not in capsys.readouterr().out
    assert results.read_bytes() == before


@pytest.mark.parametrize("name", ["work.zip", "folder", "other.zip"])
def test_no_file_of_anothers_is_written_over(name: str, packed: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "other.zip").write_bytes(b"of somebody")
    (tmp_path / "work.zip").write_bytes(packed.read_bytes())
    assert call("work", tmp_path / "work.zip", "-o", tmp_path / name) == 2
    assert "is there already, and not by `work`" in capsys.readouterr().err
    assert (tmp_path / "work.zip").read_bytes() == packed.read_bytes()
    assert (tmp_path / "other.zip").read_bytes() == b"of somebody"


def test_files_that_find_no_room_are_left_out_those_of_models_first(
    packed: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    whole = read_archive(results)
    arrays = sum(len(one) for some in whole.files.values() for name, one in some.items() if name.endswith(".npz"))
    told = sum(len(one.model_dump_json()) for one in whole.records)
    monkeypatch.setattr("stn_bench.runner.work.ROOM", arrays + told + 50)  # of one model, and no second
    before = results.read_bytes()
    work(packed)
    assert "files of 5 runs have no place in it" in capsys.readouterr().out
    cut = read_archive(results)
    assert cut.records == whole.records
    kept = [name for some in cut.files.values() for name in some]
    assert (kept.count("examples.npz"), kept.count("skill.npz"), kept.count("model.json")) == (6, 6, 1)
    monkeypatch.undo()
    work(packed)
    assert results.read_bytes() == before


def test_results_are_written_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    told, written = list[object](), list[int]()

    class Listener:
        def event(self, event: object) -> None:
            told.append(event)

        def say(self, line: str) -> None:
            told.append(line)

    saving = Saving(Listener(), lambda: written.append(len(told)))
    events = [JobStarted("a"), JobEnded("a", "finished", ""), JobEnded("b", "crashed", "why")]
    for event in events:
        saving.event(event)
    saving.say("a line")
    assert (told, written) == ([*events, "a line"], [])  # a minute has not passed
    monkeypatch.setattr("stn_bench.runner.work.SAVE_SECONDS", 0.0)
    for event in events:
        saving.event(event)
    assert written == [6, 7]


def test_a_results_file_that_is_gone_is_written_anew(packed: Path, results: Path) -> None:
    before = results.read_bytes()
    results.unlink()
    work(packed)
    assert results.read_bytes() == before


# A machine without a store ---------------------------------------------------------------------------------------


def test_it_takes_no_library_of_a_store(packed: Path, results: Path, tmp_path: Path) -> None:
    with working(packed, tmp_path) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "6 runs of study tiny" in output
    code = "import mlflow"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    assert (
        b"is not installed here"
        in subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False).stderr
    )
    assert numbers(tmp_path / "results.zip") == numbers(results)


def test_a_command_of_the_stores_says_there_what_it_lacks(results: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    command = [sys.executable, "-m", "stn_bench", "import", str(results), "--root", str(tmp_path)]
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("stn-bench: this command takes the module `mlflow`, which is not installed here")
    assert len(done.stderr.splitlines()) == 1


# Stopped ---------------------------------------------------------------------------------------------------------

LONG = slow_toys(epochs=30)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(make_toy_root(tmp_path_factory.mktemp("long") / "root", LONG))


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stop_keeps_what_is_finished_and_the_same_command_goes_on(signum: int, tmp_path: Path, capsys: Any) -> None:
    few = slow_toys(epochs=6, seeds=1)
    file = pack(make_toy_root(tmp_path / "root", few))
    with working(file, tmp_path, "--workers", "1") as process:
        wait_until(lambda: list(tmp_path.glob("results.work/runs/*")), process)
        wait_until(lambda: list(tmp_path.glob("results.work/root/mlruns/checkpoints/*/*/*")), process)
        os.killpg(process.pid, signum)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, output
    assert "a second signal stops at once" in output or "press Ctrl-C again" in output
    assert "stopped; 1 run in " in output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    assert len(read_archive(tmp_path / "results.zip").records) == 1
    assert list(tmp_path.glob("results.work/root/mlruns/checkpoints/*/*/*"))
    assert list(tmp_path.glob("results.work/tries/*")) == []
    capsys.readouterr()
    work(file)
    assert "1 runs to train, 1 finished before" in capsys.readouterr().out
    undisturbed = work(file, "undisturbed.zip")
    assert numbers(tmp_path / "results.zip") == numbers(undisturbed)


@pytest.mark.slow
def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    file = pack(make_toy_root(tmp_path / "root", slow_toys(epochs=3, seconds=60)))
    with working(file, tmp_path, "--workers", "1") as process:
        wait_until(lambda: list(tmp_path.glob("results.work/tries/*")), process)
        for _ in range(2):
            os.killpg(process.pid, signal.SIGTERM)
            time.sleep(0.5)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 143, output
    assert not (tmp_path / "results.zip").exists()


@pytest.mark.slow
def test_a_kill_loses_no_run_and_the_same_command_goes_on(long: Path, tmp_path: Path) -> None:
    with working(long, tmp_path, "--workers", "2") as process:
        wait_until(lambda: list(tmp_path.glob("results.work/runs/*")), process)
        wait_until(lambda: list(tmp_path.glob("results.work/root/mlruns/checkpoints/*/*/*")), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finished = {path.name for path in tmp_path.glob("results.work/runs/*")}
    with working(long, tmp_path, "--workers", "2") as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert f"{6 - len(finished)} runs to train, {len(finished)} finished before" in output
    assert numbers(tmp_path / "results.zip") == numbers(work(long, "undisturbed.zip"))


@pytest.mark.slow
def test_a_killed_workers_job_is_trained_by_another(long: Path, tmp_path: Path) -> None:
    import psutil

    with working(long, tmp_path, "--workers", "2") as process:
        wait_until(lambda: list(tmp_path.glob("results.work/root/mlruns/checkpoints/*/*/*")), process)
        victim = next(one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline()))
        victim.kill()
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "its process died" in output
    assert len(numbers(tmp_path / "results.zip")) == 6


def test_two_at_once_on_one_file_is_a_line(long: Path, tmp_path: Path, capsys: Any) -> None:
    with working(long, tmp_path, "--workers", "1") as process:
        wait_until(lambda: list(tmp_path.glob("results.work/tries/*")), process)
        capsys.readouterr()
        assert call("work", long, "-o", tmp_path / "results.zip") == 2
        assert "another process is at work there" in capsys.readouterr().err


def test_results_of_another_study_are_not_written_over(packed: Path, long: Path, results: Path, capsys: Any) -> None:
    assert call("work", long, "-o", results) == 2
    assert "holds what came of another archive" in capsys.readouterr().err


# What does not finish --------------------------------------------------------------------------------------------

BROKEN = f'{DEPTH}\n[arms.broken]\nset = {{ "fate" = "raise" }}\n[arms.lost]\nset = {{ "fate" = "diverge" }}\n'


def test_a_crash_is_told_kept_and_tried_again(tmp_path: Path, capsys: Any) -> None:
    root = make_toy_root(tmp_path / "root", TOYS.replace("[1, 2, 3]", "[1, 2]"), BROKEN)
    file = pack(root)
    results = work(file, code=1)
    assert "2 runs did not finish" in capsys.readouterr().out
    outcomes = [one.outcome for one in read_archive(results).records]
    assert sorted(outcomes) == ["crashed"] * 2 + ["diverged"] * 2 + ["finished"] * 4
    assert call("import", results, "--root", root) == 0
    assert call("status", "tiny", "--root", root) == 0
    assert "this toy cannot be trained" in capsys.readouterr().out
    work(file, code=1)
    assert "2 runs to train, 6 finished before" in capsys.readouterr().out
    assert len(read_packed(pack(root, "again.zip")).jobs) == 2


def test_a_worker_that_always_dies_is_a_crash(tmp_path: Path, capsys: Any) -> None:
    dying = DEPTH.replace('"depth" = 4', '"fate" = "die"')
    root = make_toy_root(tmp_path / "root", TOYS.replace("[1, 2, 3]", "[1]"), dying)
    records = read_archive(work(pack(root), code=1)).records
    assert [one.outcome for one in records if one.arm == "four"] == ["crashed"]
    assert f"died in each of {TRIES} tries" in next(one.reason for one in records if one.arm == "four")


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_a_crash(tmp_path: Path) -> None:
    hanging = DEPTH.replace('"depth" = 4', '"fate" = "hang", "timeout" = 1.0')
    root = make_toy_root(tmp_path / "root", TOYS.replace("[1, 2, 3]", "[1]"), hanging)
    records = read_archive(work(pack(root), code=1)).records
    assert "took longer than `timeout` = 1 s" in next(one.reason for one in records if one.arm == "four")


# Code and data of one's own --------------------------------------------------------------------------------------

STUDY = """
title = "Sums"
subject = "sums:train"
ablations = ["power"]
seeds = [1, 2, 3]
metric = "test.error"
direction = "minimize"
margin = 0.01
"""
POWER = 'title = "Power"\nquestion = "Is a square better?"\n[arms.square]\nset = { power = 2 }\n'
SUMS = """
from parts import shapes


def train(*, seed, run, power=1):
    from parts.late import read

    run.log(1, {"test.error": 1.0})
    (run.files / "notes").mkdir()
    (run.files / "notes/a note.txt").write_text("kept")
    return {"test.error": shapes.bend(read(), power) + seed / 1000}


train.data = "numbers.csv"
"""


def own_root(folder: Path) -> Path:
    root = make_root(folder, STUDY)
    (root / "ablations").mkdir()
    (root / "ablations/power.toml").write_text(POWER)
    (root / "parts").mkdir()
    (root / "sums.py").write_text(SUMS)
    (root / "parts/__init__.py").write_text("")
    (root / "parts/shapes.py").write_text("def bend(values, power):\n    return sum(values) ** power\n")
    (root / "parts/late.py").write_text(
        "from pathlib import Path\n\n\ndef read():\n"
        '    return map(float, (Path(__file__).parent.parent / "numbers.csv").read_text().split())\n'
    )
    (root / "numbers.csv").write_text("1 2 3\n")
    (root / "unrelated.py").write_text("raise SystemExit\n")
    return root


def test_code_and_data_of_ones_own_travel(tmp_path: Path, capsys: Any) -> None:
    root = own_root(tmp_path / "root")
    file = pack(root)
    assert sorted(read_packed(file).files) == [
        "ablations/power.toml",
        "numbers.csv",
        "parts/__init__.py",
        "parts/late.py",
        "parts/shapes.py",
        "studies/tiny.toml",
        "sums.py",
    ]
    results = work(file)
    assert "! runs code of tiny's own, with your rights: parts/__init__.py, " in capsys.readouterr().out
    assert call("import", results, "--root", root) == 0
    assert call("report", "tiny", "--root", root) == 0
    assert values(root) == [[6.001, 6.002, 6.003], [36.001, 36.002, 36.003]]
    assert (home_of(root, runs(root)[0]) / "notes/a note.txt").read_text() == "kept"


def edited(file: Path, place: str, content: bytes) -> Path:
    """Return a packed study with another file in it, whose checksums agree."""
    packed = read_packed(file)
    other = PackedStudy(packed.study, packed.subject, packed.jobs, packed.versions, {**packed.files, place: content})
    file.with_name("edited.zip").write_bytes(zip_study(other))
    return file.with_name("edited.zip")


@pytest.mark.parametrize(
    ("place", "content", "told"),
    [
        ("parts/shapes.py", b"def bend(values, power):\n    return 0.5\n", "code parts.shapes:bend: was "),
        ("numbers.csv", b"1 2 4\n", "its data are others here"),
        ("sums.py", b"raise RuntimeError('boom')\n", "boom"),
        ("sums.py", b"train = 3\n", "expected a Subject or a function"),
    ],
)
def test_an_edited_archive_is_refused_before_anything_is_trained(
    place: str, content: bytes, told: str, tmp_path: Path, capsys: Any
) -> None:
    file = edited(pack(own_root(tmp_path / "root")), place, content)
    capsys.readouterr()
    work(file, code=2)
    err = capsys.readouterr().err
    assert told in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("results.work/runs/*"))
    assert not (tmp_path / "results.zip").exists()


def test_what_nothing_tells_of_is_named(tmp_path: Path, capsys: Any) -> None:
    root = own_root(tmp_path / "root")
    (root / "more").mkdir()
    (root / "more/a.txt").write_text("a")
    (root / "more/__pycache__").mkdir()
    (root / "more/__pycache__/x.pyc").write_bytes(b"x")
    assert "more/a.txt" in read_packed(pack(root, "work.zip", "--with", "more")).files
    assert not any("pycache" in place for place in read_packed(pack(root, "work.zip", "--with", "more")).files)
    capsys.readouterr()
    outside = "only what lies under the root"
    for path, told in (("none", "no such file"), ("/etc/hostname", outside), ("../work.zip", outside)):
        assert call("pack", "tiny", tmp_path / "x.zip", "--root", root, "--with", path) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()


def test_code_outside_the_root_cannot_be_packed(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = own_root(tmp_path / "root")
    (tmp_path / "lib").mkdir()
    (root / "sums.py").rename(tmp_path / "lib/sums.py")
    (root / "numbers.csv").rename(tmp_path / "lib/numbers.csv")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    assert call("pack", "tiny", tmp_path / "work.zip", "--root", root) == 2
    assert "only what lies under the root is packed" in capsys.readouterr().err


# The queue -------------------------------------------------------------------------------------------------------


def test_each_job_is_leased_once(tmp_path: Path) -> None:
    one, other = FolderQueue(tmp_path / "leases"), FolderQueue(tmp_path / "leases")
    seen: list[str] = []

    def train(lease: Any) -> Finished:
        seen.append(lease.run_key)
        if len(seen) == 2:
            other.work(["a", "b", "c", "d"], train)
        return Finished(0.0, "", "finished")

    one.work(["a", "b", "c", "d"], train)
    assert seen == ["a", "b", "c", "d"]
    one.clear()
    one.work(["a"], train)
    assert seen[-1] == "a"


def test_a_job_is_given_away_until_its_tries_are_over(tmp_path: Path) -> None:
    queue, seen = FolderQueue(tmp_path / "leases"), list[str]()
    for number in range(1, TRIES + 1):
        queue.work(["a"], lambda lease: seen.append(lease.run_key) or Finished(0.0, "", "finished"))  # type: ignore[func-returns-value]
        assert len(seen) == number
        assert queue.bury(["a"], "a") == (number == TRIES)
    queue.work(["a"], lambda lease: pytest.fail("its tries are over"))


def test_a_job_that_was_given_up_cannot_be_ended(tmp_path: Path) -> None:
    queue, found = FolderQueue(tmp_path / "leases"), list[str]()

    def train(lease: Any) -> Finished:
        assert queue.give_up(["a"], "a", "here", os.getpid() + 1) is False
        assert queue.give_up(["a"], "a", "here", os.getpid())
        with pytest.raises(LeaseLostError), lease.ending():
            pass
        found.append("held")
        raise LeaseLostError

    queue.work(["a"], train)
    assert found == ["held"]
    assert queue.give_up(["b"], "b", "here", os.getpid()) is False


def test_a_record_that_a_fault_left_half_written_is_none(results: Path, tmp_path: Path) -> None:
    runs = open_folders(tmp_path).tracking
    record: RunRecord = read_archive(results).records[0]
    runs.start_run("", "", "", {"run_key": record.run_key})
    runs.finish_run(record, record.metrics)
    assert runs.finished_as(record.run_key, is_trial=False) == record.run_id
    (tmp_path / "runs" / record.run_id / "record.json").write_bytes(b"{")
    assert runs.finished_as(record.run_key, is_trial=False) is None
    assert runs.ended() == []


def test_a_workspace_of_its_own_is_no_store(results: Path) -> None:
    assert not Workspace.at(results.with_name("results.work") / "root").has_tracking
    with zipfile.ZipFile(results) as file:
        assert not [name for name in file.namelist() if "mlruns" in name]
