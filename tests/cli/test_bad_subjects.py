"""Subjects of others, and files, that cannot be used: one line, exit 2, and nothing of the others is lost."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from commands import Cli
from makers import make_root, write
from tiny import stn_bench

STUDY = """
title = "Own"
subject = "{name}:train"
ablations = ["depth"]
seeds = [1, 2, 3]
metric = "test.error"
direction = "minimize"
"""
ABLATION = 'title = "Depth"\nquestion = "Does depth matter?"\n[arms.deep]\nset = { depth = 8 }\n'
GOOD = "def train(*, seed, depth=4):\n    return {'test.error': seed + (1 + seed / 100) / depth}\n"
SHARED = "def train(*, seed, depth=4):\n    return {'test.error': [][seed + depth]}\n"


def own_root(folder: Path, name: str, text: str = GOOD) -> Path:
    """Return a root with a study of the function `train` of a module, whose name no other test has."""
    write(folder / f"{name}.py", text)
    return make_root(folder, study=STUDY.format(name=name), ablation=ABLATION)


# Files that cannot be used -------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return a root with a sound study, and with two ablations and a study that cannot be used."""
    root = own_root(tmp_path, "bad_mixed")
    write(root / "ablations/wordless.toml", "title = 3\n")
    write(root / "ablations/cut.toml", "title = \n")
    write(root / "studies/a_lost.toml", STUDY.format(name="bad_nowhere"))  # asks the sound question, too
    return root


REASONS = ("wordless.toml: `title`: ", "cut.toml: not valid TOML", "a_lost.toml: `subject` bad_nowhere:train: ")


def test_list_shows_what_is_sound_and_a_line_for_each_that_is_not(cli: Cli, mixed: Path) -> None:
    code, out, err = cli("list", "--root", mixed)
    assert code == 0
    assert "Does depth matter?" in out
    lines = err.splitlines()
    assert len(lines) == 3
    for reason in REASONS:
        assert sum(line.startswith("stn-bench: ") and reason in line for line in lines) == 1
    tree = json.loads(cli("list", "--json", "--root", mixed)[1])
    assert [one["name"] for one in tree["studies"] if not one["bundled"]] == ["small"]
    assert len(tree["unsound"]) == 3


def test_check_tells_of_all_that_is_not_sound(cli: Cli, mixed: Path) -> None:
    code, out, err = cli("check", "--root", mixed)
    assert (code, out) == (2, "")
    assert all(reason in err for reason in REASONS)
    assert len(err.splitlines()) == 3


@pytest.mark.parametrize("command", [["plan", "small"], ["show", "small"], ["show", "depth"], ["status", "small"]])
def test_a_study_that_reaches_no_bad_file_is_as_if_there_were_none(cli: Cli, mixed: Path, command: list[str]) -> None:
    code, _, err = cli(*command, "--root", mixed)
    assert (code, err) == (0, "")


def test_list_in_an_empty_folder_says_that_it_holds_nothing_of_its_own(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("list", "--root", tmp_path)
    assert (code, err) == (0, "")
    first, _, rest = out.partition("\n")
    assert first == f"{tmp_path} has none of its own; `stn-bench new NAME` writes one"
    assert "ablations, which come with stn-bench\n" in rest
    assert "studies, which come with stn-bench\n" in rest
    assert all(one["bundled"] for one in json.loads(cli("list", "--json", "--root", tmp_path)[1])["studies"])


def test_list_shows_a_root_s_own_apart_from_what_comes_along(cli: Cli, tmp_path: Path) -> None:
    out = cli("list", "--root", own_root(tmp_path, "bad_apart"))[1]
    own, _, bundled = out.partition("ablations, which come with stn-bench")
    assert "none of its own" not in out
    assert "small\n" in own
    assert "quickstart\n" not in own
    assert "quickstart\n" in bundled


# What check finds without training -----------------------------------------------------------------------------------


PICTURES = '''
from stn_bench.settings import Settings
from stn_bench.subjects.keras_model import KerasModel
from stn_bench.subjects.picture_folder import PictureFolder


class Pets(Settings):
    """What it is trained with."""

    depth: int = 2
    """Number of layers."""
    rate: float = 0.5
    """Learning rate."""


def build(settings):
    raise RuntimeError("nothing is built here")


subject = KerasModel(Pets, data=PictureFolder("pets", image_size=8), build=build, metrics=["accuracy"])
'''


def pictures_root(folder: Path, name: str, text: str = PICTURES) -> Path:
    """Return a root with a study of pictures in the folder `pets`, which is not there."""
    root = own_root(folder, name, text)
    study = STUDY.format(name=name).replace(":train", ":subject").replace("test.error", "test.accuracy")
    write(root / "studies/small.toml", study.replace("minimize", "maximize"))
    return root


def pictures_in(folder: Path, **classes: int) -> None:
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.png").write_bytes(f"{name} {number}".encode())


@pytest.mark.parametrize("command", [["check"], ["plan", "small"]], ids=lambda one: one[0])
@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "pets: no such folder; expected one folder a class"),
        ({}, "pets: expected one folder a class, as in cat/1.png and dog/1.png; found no folder"),
        ({"cat": 4, "dog": 0}, "pets: class folder `dog` holds no pictures"),
        ({"cat": 4}, "pets: expected two classes or more, got only `cat`"),
        (
            {"cat": 4, "dog": 1},
            "pets: class `dog` has 1 picture; expected 3 or more, one for each of train, test, valid",
        ),
    ],
    ids=["missing", "empty", "empty_class", "one_class", "one_picture"],
)
def test_pictures_that_cannot_be_used_are_told_of_before_training(
    cli: Cli, tmp_path: Path, command: list[str], classes: dict[str, int] | None, message: str
) -> None:
    root = pictures_root(tmp_path, f"bad_{tmp_path.name}")
    if classes is not None:
        (root / "pets").mkdir()
        pictures_in(root / "pets", **classes)
    code, out, err = cli(*command, "--root", root)
    assert (code, err.count("\n")) == (2, 1), (out, err)
    assert message in err
    assert not list(root.glob("mlruns/datasets/*"))


def test_an_option_of_pictures_that_is_unknown_is_told_of(cli: Cli, tmp_path: Path) -> None:
    text = PICTURES.replace("image_size=8", 'image_size=8, color_mood="rgb"')
    code, _, err = cli("check", "--root", pictures_root(tmp_path, "bad_pets_option", text))
    assert (code, "Traceback" in err) == (2, False)
    assert "PictureFolder: no argument `color_mood`. Did you mean `color_mode`?" in err


def test_check_finds_data_that_are_not_there(cli: Cli, tmp_path: Path) -> None:
    root = own_root(tmp_path, "bad_data", f"{GOOD}train.data = 'nowhere.csv'\n")
    code, out, err = cli("check", "--root", root)
    assert (code, out) == (2, "")
    assert err == f"stn-bench: `subject` bad_data:train: `data`: no file or folder {tmp_path}/nowhere.csv\n"


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("bad_nowhere:build", "no Python module `bad_nowhere` can be found from here"),
        ("bad_factory:bild", "`bad_factory` has no `bild`. Did you mean `build`?"),
    ],
)
def test_a_factory_that_is_not_there_is_found_before_anything_is_made(
    cli: Cli, tmp_path: Path, factory: str, reason: str
) -> None:
    arm = f'title = "Own"\nquestion = "Own?"\n[arms.own]\nset = {{ "model.factory" = "{factory}" }}\n'
    root = make_root(tmp_path, ablation=arm)
    write(root / "bad_factory.py", "def build(config): ...\n")
    for command in (("check",), ("plan", "small"), ("run", "small")):
        code, out, err = cli(*command, "--root", root)
        assert (code, out) == (2, ""), "before pictures are made"
        assert err == f"stn-bench: studies/small.toml: depth/own: `model.factory`: {reason}\n"


COIN = """
from pathlib import Path
from stn_bench.settings import Settings
from stn_bench.subject import Metric, Subject
class Coin(Settings):
    depth: int = 4
    bias: {kind} = {default}
def train(settings, seed, run):
    return {{"test.error": seed}}
subject = Subject("coin", Coin, {train}, {metrics})
"""
HEADS = '(Metric("test.heads", "what it is"),)'


@pytest.mark.parametrize("command", [("check",), ("plan", "small"), ("run", "small"), ("train",), ("doctor",)])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "list[int]", "default": "[1]"}, "setting `bias`: expected int, float, str or bool, "),
        ({"kind": "Path", "default": "Path('a')"}, "got PosixPath('a'); write `str`"),
        ({"train": "print"}, "`train`: expected a function, `def train(settings, seed, run)`"),
        ({"metrics": "('test.error',)"}, "`metrics`: expected a tuple of Metric"),
    ],
    ids=["list", "path", "train", "metrics"],
)
def test_a_subject_that_breaks_the_contract_is_told_of_in_a_line(
    cli: Cli, tmp_path: Path, command: tuple[str, ...], change: dict[str, str], message: str
) -> None:
    text = COIN.format(**{"kind": "int", "default": "1", "train": "train", "metrics": HEADS, **change})
    root = own_root(tmp_path, "bad_coin", text)
    write(root / "studies/small.toml", STUDY.format(name="bad_coin").replace(":train", ":subject"))
    named = ("--subject", "bad_coin:subject") if command[0] in ("train", "doctor") else ()
    code, out, err = cli(*command, *named, "--root", root)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("stn-bench: ")
    assert "`subject` bad_coin:subject: " in err
    assert message in err


@pytest.mark.parametrize("raised", ["FileNotFoundError(2, 'No such file', 'weights.npz')", "ValueError('no weights')"])
def test_train_tells_what_a_training_raised_in_a_line(cli: Cli, tmp_path: Path, raised: str) -> None:
    name = f"bad_{raised[:4].lower()}"
    root = own_root(tmp_path, name, f"def train(*, seed, depth=4):\n    raise {raised}\n")
    code, out, err = cli("train", "--subject", f"{name}:train", "--root", root)
    assert (code, out) == (2, "")
    assert err.startswith(f"stn-bench: subject `{name}:train`: training failed ({raised.partition('(')[0]}")
    assert "Traceback" not in err


def test_what_is_no_finite_number_beside_the_metric_changes_no_verdict(cli: Cli, tmp_path: Path) -> None:
    text = GOOD.replace("/ depth}", "/ depth, 'test.recall': float('nan'), 'cost.flops': float('nan')}")
    root = own_root(tmp_path, "bad_recall", text)
    code, out, err = cli("run", "small", "--workers", 1, "--root", root)
    assert (code, err) == (0, "")
    assert "better: with depth = 8 (deep) test error falls by" in out
    page = (root / "reports/small/report.md").read_text()
    assert "| `test.recall` | –      | –      |" in page


# Code of others in a plan --------------------------------------------------------------------------------------------


def test_plan_says_which_code_runs_and_when(cli: Cli, tmp_path: Path) -> None:
    prepared = f"{GOOD}train.prepare = lambda folder: None\n"
    code, out, err = cli("plan", "small", "--workers", 2, "--root", own_root(tmp_path, "bad_when", prepared))
    assert (code, err) == (0, "")
    assert "! runs code of the root's own, `bad_when:train`: the subject" in out
    assert "`bad_when` is imported by each command that reads this study, and by each worker" in out
    assert "its `train` is called by `run`, in 2 workers; `prepare` before it, once" in out
    assert "`plan`, `status` and `report` call `fingerprint` too" in out


# Errors that all runs share ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_that_every_run_shares_stops_the_study(cli: Cli, tmp_path: Path, workers: int) -> None:
    """Within three runs a worker, with the user's own line; the crashes are kept, and put right it goes on."""
    name = f"bad_shared_{workers}"
    root = own_root(tmp_path, name, SHARED)
    study = STUDY.format(name=name).replace("[1, 2, 3]", "[1, 2, 3, 4, 5, 6]")
    write(root / "studies/small.toml", study)
    code, out, err = cli("run", "small", "--workers", workers, "--root", root)
    assert code == 2
    first, line = err.splitlines()
    assert first.startswith("stn-bench: study `small`: its runs crash alike (IndexError: list index out of range); ")
    assert line == f"  {root}/{name}.py:2: return {{'test.error': [][seed + depth]}}"
    log = Path(first.rpartition(" ")[2])
    assert "IndexError: list index out of range" in log.read_text()
    tried = out.count(": crashed (")
    assert 3 <= tried <= 3 * workers
    code, out, err = cli("status", "small", "--root", root)
    assert "IndexError: list index out of range" in out
    code, _, err = cli("report", "small", "--root", root)
    assert code == 2
    assert "start with" not in err
    assert "crashed (the last: IndexError: list index out of range)" in err
    sys.modules.pop(name, None)
    write(root / f"{name}.py", GOOD)
    code, out, err = cli("run", "small", "--workers", workers, "--root", root)
    assert (code, err) == (0, "")
    assert "better: with depth = 8 (deep) test error falls by 0.1294" in out


EDITED = """
import pathlib
import time

FACTOR = 1.0


def train(*, seed, depth=4):
    if (seed, depth) == (2, 8):
        file = pathlib.Path(__file__)
        file.write_text(file.read_text().replace("FACTOR = 1.0", "FACTOR = 20.0"))
    return {"test.error": FACTOR * (seed + (1 + seed / 100) / depth)}
"""


def test_code_that_is_edited_while_a_study_runs_stops_it(cli: Cli, tmp_path: Path) -> None:
    root = own_root(tmp_path, "bad_edited", EDITED)
    code, out, err = cli("run", "small", "--workers", 1, "--root", root)
    assert (code, err) == (2, "stn-bench: `bad_edited.py` changed after the study was planned; run again\n")
    assert 2 <= out.count(": finished") < 6
    assert "crashed" not in out
    code, out, err = cli("run", "small", "--workers", 1, "--root", root)
    assert (code, err) == (0, "")
    assert out.count(": finished") == 6


ODD = """
import os


def train(*, seed, depth=4):
    if depth == 5:
        raise ValueError("\\n\\nno room")
    if depth == 6:
        raise BaseException("panicked")
    if depth == 7:
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
    return {"test.error": seed + (1 + seed / 100) / depth}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks there")
def test_odd_ends_of_trainings_are_told_and_spoil_nothing(cli: Cli, tmp_path: Path) -> None:
    """A child that training forks and that comes back, an error that begins with blank lines, one that is none."""
    root = own_root(tmp_path, "bad_odd", ODD)
    write(root / "studies/small.toml", STUDY.format(name="bad_odd").replace("[1, 2, 3]", "[1, 2]"))
    arms = "".join(f"[arms.a{depth}]\nset = {{ depth = {depth} }}\n" for depth in (5, 6, 7))
    write(root / "ablations/depth.toml", ABLATION.partition("[arms")[0] + arms)
    code, out, _ = cli("run", "small", "--workers", 1, "--root", root)
    assert code == 1
    assert out.count(": crashed (ValueError: no room)") == 2
    assert out.count(": crashed (RuntimeError: training raised BaseException: panicked)") == 2
    assert out.count(": finished") == 4
    out = cli("status", "small", "--root", root)[1]
    assert "1 more: ValueError: no room" in out


@pytest.mark.slow
def test_a_seed_on_which_no_arm_can_be_trained_stops_nothing(cli: Cli, tmp_path: Path) -> None:
    body = "def train(*, seed, depth=4):\n    return {'test.error': 1 / (seed - 1) + 0 * depth}\n"
    root = own_root(tmp_path, "bad_seed", body)
    code, out, _ = cli("run", "small", "--workers", 1, "--root", root)
    assert code == 1
    assert out.count(": crashed (") == 2
    assert out.count(": finished") == 4
    assert "! deep equals the base on each of" not in out


@pytest.mark.slow
def test_runs_that_crash_are_told_though_older_ones_stand_in(cli: Cli, tmp_path: Path) -> None:
    root = own_root(tmp_path, "bad_stand_in")
    assert cli("run", "small", "--workers", 1, "--root", root)[0] == 0
    half = GOOD.replace("    return", "    if depth == 8:\n        raise ValueError('too deep')\n    return")
    write(root / "bad_stand_in.py", half)
    told = stn_bench("run", "small", "--workers", 1, root=root)  # a process of its own, which reads the code anew
    assert told.returncode == 1
    out = told.stdout
    assert "3 runs crashed, and runs of other code or libraries stand in for them" in out


@pytest.mark.slow
def test_arms_that_are_one_are_not_equivalent_without_a_word(cli: Cli, tmp_path: Path) -> None:
    root = own_root(tmp_path, "bad_same", "def train(*, seed, depth=4):\n    return {'test.error': 0.5 + 0 * depth}\n")
    code, out, _ = cli("run", "small", "--workers", 1, "--root", root)
    assert code == 0
    assert "equivalent: " in out
    assert "! deep equals the base on each of 3 seeds; perhaps training does not use what it sets" in out
    assert "! base has one value on all 3 seeds, 0.5000; perhaps training does not use the seed" in out
    page = (root / "reports/small/report.md").read_text()
    assert "Caveats of `deep`: equals the base on each of 3 seeds" in page


NAN = (
    "def train(*, seed, depth=4):\n    return {'test.error': depth * float('nan') if depth < LIMIT else 0.1 * seed}\n"
)


@pytest.mark.parametrize("again", [False, True])
def test_a_study_whose_runs_all_return_no_number_ends_in_one_line(cli: Cli, tmp_path: Path, again: bool) -> None:
    root = own_root(tmp_path, f"bad_nan_{again}".lower(), NAN.replace("LIMIT", "99"))
    if again:
        cli("run", "small", "--root", root)
    code, _, err = cli("run", "small", "--root", root)
    assert code == 2
    (line,) = (line for line in err.splitlines() if line.startswith("stn-bench: "))
    assert "all 6 runs diverged (test.error is not finite)" in line
    assert "Traceback" not in err
    assert json.loads(cli("status", "small", "--json", "--root", root)[1])["finished"] == 6  # kept


def test_an_arm_whose_runs_return_no_number_is_invalid_and_no_error(cli: Cli, tmp_path: Path) -> None:
    root = own_root(tmp_path, "bad_nan_arm", NAN.replace("depth < LIMIT", "depth == 8"))
    code, out, _ = cli("run", "small", "--root", root)
    assert code == 0
    assert "invalid" in out
