from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from commands import Cli, widen
from makers import ABLATION, STUDY, make_root, write
from typer.main import get_command

from stn_bench.cli.app import app
from stn_bench.study.catalogue import Catalogue, bundled_root
from stn_bench.subjects.stn.commands import _read
from stn_bench.subjects.stn.config import Config
from stn_bench.system.errors import DataError, Interrupted

GROUP = get_command(app)
COMMANDS = [name for name in GROUP.list_commands(GROUP.make_context("stn-bench", ["list"])) if name != "data"]
DATA_COMMANDS = ["make", "show", "export", "import"]
QUESTION = Catalogue(bundled_root()).ablation("transformer").question
TUNED = '\n[tuning]\ntrials = 2\n[tuning.search]\n"model.width" = { low = 0.5, high = 1 }\n'
SECOND = '\n[arms.slim]\nset = { "model.width" = 0.5 }\n'
TINY_DATA = '\n[base]\n"data.count" = 4\n"data.validation" = 1\n"data.test" = 1\n"data.size" = 16\n'


def refuse(result: tuple[int, str, str]) -> str:
    """Return the message of a command that ended as bad input should: exit 2, one or two lines, no traceback."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert 1 <= len(err.splitlines()) <= 2
    assert err.startswith("stn-bench: ")
    return err


# What it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), *(["data", name] for name in DATA_COMMANDS)])
def test_every_command_has_help(cli: Cli, command: list[str]) -> None:
    code, out, _ = cli(*command, "--help")
    assert code == 0
    assert "Usage: stn-bench" in out


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), *(["data", name] for name in DATA_COMMANDS)])
def test_help_is_shown_as_it_was_written(cli: Cli, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich takes square brackets for markup, and drops what stands in them."""
    monkeypatch.setenv("COLUMNS", "10000")
    found: Any = GROUP
    for name in command:
        found = found.get_command(found.make_context(name, ["list"], resilient_parsing=True), name)
    _, out, _ = cli(*command, "--help")
    assert [one.help for one in found.params if getattr(one, "help", "") and one.help not in out] == []


def test_every_command_that_was_asked_for_is_there() -> None:
    asked = "list show check plan run status report ui why train predict rectify schema doctor"
    assert set(asked.split()) <= set(COMMANDS)


@pytest.mark.parametrize("command", ["plan", "run", "status", "report"])
def test_commands_about_a_study_take_the_shared_options(cli: Cli, command: str) -> None:
    _, out, _ = cli(command, "--help")
    assert "--root" in out
    assert "--set" in out


def test_version(cli: Cli) -> None:
    from stn_bench import __version__

    assert cli("--version") == (0, f"{__version__}\n", "")


def test_list_shows_every_question(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("list", "--root", make_root(tmp_path))
    assert code == 0
    assert "Does the width matter?" in out
    assert QUESTION in out


def test_list_names_every_study(cli: Cli, tmp_path: Path) -> None:
    _, out, _ = cli("list", "--root", make_root(tmp_path))
    assert {"small", "quickstart"} <= {line.partition(" ")[0] for line in out.splitlines()}


def test_list_as_json_holds_arms_and_questions(cli: Cli, tmp_path: Path) -> None:
    tree = json.loads(cli("list", "--json", "--root", make_root(tmp_path))[1])
    found = next(one for one in tree["ablations"] if one["name"] == "depth")
    assert found["question"] == "Does the width matter?"
    assert [arm["set"] for arm in found["arms"]] == [{"model.width": 0.5}]


@pytest.mark.parametrize("name", ["small", "depth"])
def test_show_as_json_is_the_file(cli: Cli, tmp_path: Path, name: str) -> None:
    tree = json.loads(cli("show", name, "--json", "--root", make_root(tmp_path))[1])
    assert tree["name"] == name


def test_show_tells_the_arms_with_what_they_change(cli: Cli, tmp_path: Path) -> None:
    _, out, _ = cli("show", "depth", "--root", make_root(tmp_path))
    assert "narrow: model.width = 0.5" in out


def test_plan_shows_each_arm_and_the_number_of_runs(cli: Cli, tmp_path: Path) -> None:
    _, out, _ = cli("plan", "small", "--root", make_root(tmp_path))
    assert "depth/narrow: model.width 1 → 0.5" in out
    assert out.splitlines()[-1].startswith("6 runs to train, 0 reused: time not known")


def test_plan_tells_what_sets_an_arm_apart(cli: Cli, tmp_path: Path) -> None:
    both = '[arms.both]\nset = { "model.dropout" = 0.5, "model.activation" = "tanh" }\n'
    root = make_root(tmp_path, ablation=ABLATION + both)
    _, out, _ = cli("plan", "small", "--root", root)
    assert "! FLOPs −72 %:" in out
    assert "! moves more than one factor: `model.dropout`, `model.activation`" in out
    tree = json.loads(cli("plan", "small", "--json", "--root", root)[1])["ablations"][0]
    assert tree["differences"]["narrow"] == {"model.width": [1.0, 0.5]}
    assert [len(tree["caveats"][name]) for name in ("base", "narrow", "both")] == [0, 2, 1]


def test_plan_says_what_the_study_can_show(cli: Cli, tmp_path: Path) -> None:
    root = make_root(tmp_path, study=STUDY.replace("[1, 2, 3]", "[1, 2, 3, 4, 5]\nlooks = [3, 5]"))
    _, out, _ = cli("plan", "small", "--root", root)
    shown = r"can show a difference of 2\.\d\d points \(80 % power, 5 seeds, 1 arm; sd over seeds 1.00 points, assumed"
    assert re.search(shown, out)
    assert "at the first of 2 looks, after 3 seeds: " in out
    assert "1,000 pictures alone: standard error 0.95 points of one accuracy (90.00 %, assumed)" in out
    assert "6 to 10 runs to train, 0 reused" in out
    power = json.loads(cli("plan", "small", "--json", "--root", root)[1])["ablations"][0]["power"]
    assert power["smallest"] < power["smallest_at_first_look"]


def test_plan_fits_a_terminal_of_80_columns(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    widen(monkeypatch, 80)
    for study in Catalogue(bundled_root()).names("studies"):
        _, out, _ = cli("plan", study, "--root", tmp_path)
        assert max(map(len, out.splitlines())) <= 80


# Freezing a plan -------------------------------------------------------------------------------------------------


def test_a_plan_is_frozen_and_says_so(cli: Cli, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    assert "not frozen" in cli("plan", "small", "--root", root)[1]
    code, out, err = cli("plan", "small", "--freeze", "--root", root)
    assert (code, err) == (0, f"frozen: {root / 'studies/small.plan.json'}\n")
    assert out.splitlines()[2].startswith("frozen on 20")
    tree = json.loads(cli("plan", "small", "--json", "--root", root)[1])
    assert (tree["preregistration"]["digest"], tree["preregistration"]["deviations"]) == (tree["digest"], [])


def test_run_refuses_a_silently_changed_plan_before_anything_starts(cli: Cli, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    cli("plan", "small", "--freeze", "--root", root)
    refused = refuse(cli("run", "small", "--root", root, "--set", "train.epochs=3"))
    assert "frozen on" in refused
    assert "train.epochs: was 400, is 3" in refused
    make_root(tmp_path, study=f"{STUDY}\nmargin = 0.05\n")
    assert "margin: was 0.005, is 0.05" in refuse(cli("run", "small", "--root", root))
    assert not (root / "mlruns").exists()


def test_a_changed_plan_is_shown_with_its_change_and_frozen_anew_only_with_a_reason(cli: Cli, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    cli("plan", "small", "--freeze", "--root", root)
    make_root(tmp_path, study=f"{STUDY}\nmargin = 0.05\n")
    assert "changed and not declared: margin: was 0.005, is 0.05" in cli("plan", "small", "--root", root)[1]
    assert '--freeze --because "why"' in refuse(cli("plan", "small", "--freeze", "--root", root))
    _, out, _ = cli("plan", "small", "--freeze", "--because", "a coarser question", "--root", root)
    assert "1 change declared since" in out.splitlines()[2]
    (deviation,) = json.loads(cli("plan", "small", "--json", "--root", root)[1])["preregistration"]["deviations"]
    assert (deviation["because"], deviation["changes"]) == ("a coarser question", ["margin: was 0.005, is 0.05"])


def test_a_reason_needs_a_frozen_plan_to_be_frozen_anew(cli: Cli, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    assert "belongs to `--freeze`" in refuse(cli("plan", "small", "--because", "why", "--root", root))
    assert "has none yet" in refuse(cli("plan", "small", "--freeze", "--because", "why", "--root", root))


@pytest.mark.parametrize("command", [["plan", "small"], ["run", "small"], ["check"]], ids=" ".join)
def test_a_damaged_frozen_plan_is_named(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    root = make_root(tmp_path)
    write(root / "studies/small.plan.json", "{}")
    assert "small.plan.json: not a frozen plan of stn-bench" in refuse(cli(*command, "--root", root))


def test_dry_run_is_the_plan(cli: Cli, tmp_path: Path) -> None:
    make_root(tmp_path)
    assert cli("run", "small", "--dry-run", "--root", tmp_path) == cli("plan", "small", "--root", tmp_path)


def test_plan_as_json_speaks_the_names_of_the_report(cli: Cli, tmp_path: Path) -> None:
    tree = json.loads(cli("plan", "small", "--json", "--root", make_root(tmp_path))[1])
    assert {"study", "digest", "metric", "margin", "ablations", "arms", "runs"} <= tree.keys()
    base, narrow = tree["arms"]
    assert (base["label"], narrow["set"], narrow["seeds"]) == ("base", {"model.width": 0.5}, [1, 2, 3])
    assert [(run["phase"], run["seed"]) for run in base["runs"]] == [("verdict", seed) for seed in (1, 2, 3)]


def test_plan_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    before = sorted(make_root(tmp_path).rglob("*"))
    cli("plan", "small", "--root", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_set_reaches_every_arm(cli: Cli, tmp_path: Path) -> None:
    make_root(tmp_path)
    _, out, _ = cli("plan", "small", "--json", "--root", tmp_path, "--set", "train.epochs=2", "--set", "data.size=32")
    settings = [arm["settings"] for arm in json.loads(out)["arms"]]
    assert [(one["train.epochs"], one["data.size"]) for one in settings] == [(2, 32), (2, 32)]


def test_check_says_that_all_is_sound(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("check", "--root", make_root(tmp_path))
    assert (code, "are sound" in out) == (0, True)


def test_schema_writes_both_files(cli: Cli, tmp_path: Path) -> None:
    assert cli("schema", tmp_path / "schema")[0] == 0
    assert {path.name for path in (tmp_path / "schema").iterdir()} == {"ablation.json", "study.json"}


def test_a_factory_under_the_root_is_found_from_anywhere(cli: Cli, tmp_path: Path) -> None:
    study = STUDY + TINY_DATA + '"model.factory" = "own_model:build"\n'
    write(make_root(tmp_path, study=study) / "own_model.py", "def build(config):\n    return None\n")
    data = [f"--set={line.replace(chr(34), '')}" for line in TINY_DATA.splitlines() if " = " in line]
    assert cli("data", "make", "--processes", 1, "--root", tmp_path, *(one.replace(" ", "") for one in data))[0] == 0
    code, out, err = cli("plan", "small", "--json", "--root", tmp_path)
    assert (code, err) == (0, "")
    assert all(run["run_key"] for arm in json.loads(out)["arms"] for run in arm["runs"])


def test_interrupted_is_130_and_says_how_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise Interrupted("stopped; `stn-bench run small` goes on from here")

    monkeypatch.setattr("stn_bench.cli.app.app", stop)
    assert cli() == (130, "", "stn-bench: stopped; `stn-bench run small` goes on from here\n")


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("study", "ablation", "message"),
    [
        (STUDY + '[base]\n"model.widht" = 1', ABLATION, "no setting `model.widht`. Did you mean `model.width`?"),
        (STUDY + '[base]\n"train.epochs" = "5"', ABLATION, "`train.epochs`: input should be a valid integer, got '5'"),
        (STUDY + "oops", ABLATION, "studies/small.toml: not valid TOML: "),
        (STUDY, ABLATION + "oops", "ablations/depth.toml: not valid TOML: "),
        (STUDY, ABLATION.replace("0.5", "1.0"), "[arms.narrow]: changes nothing in study `small`"),
        (STUDY, ABLATION + SECOND, "[arms.slim]: is the same as [arms.narrow]"),
        (STUDY + TUNED, ABLATION, "[arms.narrow]: sets `model.width`, which study `small` searches"),
        (STUDY.replace("1, 2, 3", "1, 2, 1"), ABLATION, "`seeds` must differ from one another, got 1 more than once"),
        (STUDY.replace('"depth"', '"dephth"'), ABLATION, "no ablation `dephth`. Did you mean `depth`?"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_bad_study_is_refused_before_anything_starts(
    cli: Cli, tmp_path: Path, study: str, ablation: str, message: str, command: str
) -> None:
    make_root(tmp_path, study=study, ablation=ablation)
    assert message in refuse(cli(command, "small", "--root", tmp_path))
    assert not (tmp_path / "mlruns").exists()


def test_toml_error_tells_its_line(cli: Cli, tmp_path: Path) -> None:
    make_root(tmp_path, study='title = "A"\nseeds = [1, 2\nmargin = 1\n')
    assert "line 3" in refuse(cli("plan", "small", "--root", tmp_path))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.epoch=3", "--set: no setting `train.epoch`. Did you mean `train.epochs`?"),
        ("train.epochs=many", "--set: `train.epochs`: input should be a valid integer, got 'many'"),
        ("train.epochs", "--set train.epochs: expected PATH=VALUE"),
        ("train.epochs=0", "greater than or equal to 1, got 0"),
    ],
)
@pytest.mark.parametrize("command", [["plan", "small"], ["data", "make"], ["train"]], ids=" ".join)
def test_bad_setting_is_refused(cli: Cli, tmp_path: Path, command: list[str], setting: str, message: str) -> None:
    make_root(tmp_path)
    assert message in refuse(cli(*command, "--set", setting, "--root", tmp_path))


@pytest.mark.parametrize("command", ["plan", "run", "status", "report"])
def test_unknown_study_suggests_the_nearest(cli: Cli, tmp_path: Path, command: str) -> None:
    make_root(tmp_path)
    assert "no study `smal`. Did you mean `small`?" in refuse(cli(command, "smal", "--root", tmp_path))


def test_show_of_an_unknown_name_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert "no ablation `dept`. Did you mean `depth`?" in refuse(cli("show", "dept", "--root", make_root(tmp_path)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "quickstart", "--workers", "zwei"), "got `zwei`; `stn-bench run --help` shows how"),
        (("run", "quickstart", "--workers=0"), "greater than or equal to 1, got `0`; `stn-bench run --help`"),
        (("run",), "Missing argument 'STUDY'; `stn-bench run --help` shows how"),
        (("rnu",), "No such command 'rnu'. Did you mean 'run'? `stn-bench --help` shows how"),
        (("list", "--rot", "."), "No such option: --rot"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_line(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = cli(*arguments)
    assert (code, out, err.count("\n"), said in err) == (2, "", 1, True)
    assert err.startswith("stn-bench: ")


def test_unknown_option_is_exit_2(cli: Cli) -> None:
    code, _, err = cli("list", "--rot", ".")
    assert (code, "No such option: --rot" in err) == (2, True)


def test_a_factory_that_is_not_there_is_refused(cli: Cli, tmp_path: Path) -> None:
    make_root(tmp_path, study=STUDY + TINY_DATA)
    data = [f"--set={line.replace(chr(34), '').replace(' ', '')}" for line in TINY_DATA.splitlines() if " = " in line]
    cli("data", "make", "--processes", 1, "--root", tmp_path, *data)
    result = cli("plan", "small", "--json", "--root", tmp_path, "--set", "model.factory=no_such:build")
    assert "no Python module `no_such` can be found" in refuse(result)


def test_something_that_is_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"letter\.png"):
        _read([write(tmp_path / "letter.png", "not a picture")], Config())


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"letter\.png"):
        _read([tmp_path / "letter.png"], Config())


# Stores and models ------------------------------------------------------------------------------------------------


def test_a_store_that_is_no_database_is_refused(cli: Cli, tmp_path: Path) -> None:
    store = write(tmp_path / "store.db", "not a database " * 100)
    message = refuse(cli("status", "small", "--tracking-uri", f"sqlite:///{store}", "--root", make_root(tmp_path)))
    assert "store.db: cannot be used (file is not a database)" in message


def test_a_store_of_another_program_is_refused_and_left_alone(cli: Cli, tmp_path: Path) -> None:
    store = tmp_path / "notes.db"
    with sqlite3.connect(store) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()
    assert "notes.db" in refuse(
        cli("status", "small", "--tracking-uri", f"sqlite:///{store}", "--root", make_root(tmp_path))
    )
    with sqlite3.connect(store) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("notes",)]


def test_a_store_where_nobody_answers_is_refused(cli: Cli, tmp_path: Path) -> None:
    result = cli("status", "small", "--tracking-uri", "http://127.0.0.1:9", "--root", make_root(tmp_path))
    assert "tracking store http://127.0.0.1:9" in refuse(result)


def test_a_model_file_that_is_not_ours_is_refused(cli: Cli, tmp_path: Path) -> None:
    model = write(tmp_path / "model.keras", "not a model")
    message = refuse(cli("predict", model, tmp_path / "a.png", "--root", make_root(tmp_path)))
    assert "model.keras: expected a model file written by stn-bench, got something else" in message


def test_ctrl_c_while_pictures_are_drawn_leaves_nothing_half_made(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "stn_bench",
        "data",
        "make",
        "--root",
        str(tmp_path),
        "--set",
        "data.count=100000",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("mlruns/datasets/*.partial*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert [path.name for path in (tmp_path / "mlruns/datasets").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "swallowing",
    [
        "class Dropped:\n    def __del__(self): signal.raise_signal(signal.SIGINT)\nDropped()",
        "import weakref\ndrop = lambda reference: signal.raise_signal(signal.SIGINT)\n"
        "kept = set()\nreference = weakref.ref(kept, drop)\ndel kept",
        "try:\n    signal.raise_signal(signal.SIGINT)\nexcept Exception:\n    pass",
        "try:\n    signal.raise_signal(signal.SIGINT)\nexcept:\n    pass",
        "try:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException as stop:\n    raise ImportError from stop",
        "try:\n    try:\n        signal.raise_signal(signal.SIGINT)\n    except:\n        raise ImportError\n"
        "except ImportError:\n    pass",
    ],
    ids=["finalizer", "weak reference", "except Exception", "except", "as an error of its own", "optional import"],
)
def test_ctrl_c_is_not_lost_where_python_or_a_library_drops_exceptions(swallowing: str, tmp_path: Path) -> None:
    (tmp_path / "stops.py").write_text(f"import signal, time\n{swallowing}\ntime.sleep(30)\n", encoding="utf-8")
    write(
        tmp_path / "studies/stops.toml", 'title = "t"\nsubject = "stops:subject"\nablations = ["x"]\nseeds = [1, 2]\n'
    )
    write(tmp_path / "ablations/x.toml", 'title = "t"\nquestion = "q"\n[arms.a]\nset = { x = 1 }\n')
    command = [sys.executable, "-m", "stn_bench", "plan", "stops", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (130, "stn-bench: stopped; what was finished is kept\n")


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("check",),
        ("plan", "quickstart"),
        ("run", "quickstart"),
        ("status", "quickstart"),
        ("new", "mine", "--function"),
        ("import", "runs.zip"),
        ("doctor",),
        ("gc",),
        ("why", "abc"),
    ],
)
def test_a_root_that_is_not_there_is_named_and_not_made(cli: Cli, tmp_path: Path, command: tuple[str, ...]) -> None:
    error = refuse(cli(*command, "--root", tmp_path / "misspelt"))
    if command[0] != "import":  # whose file is read first
        assert f"{tmp_path / 'misspelt'}: no such folder; make it first, or name another" in error
    assert not (tmp_path / "misspelt").exists()


def test_the_folder_of_an_export_is_named_and_not_made(cli: Cli, tmp_path: Path) -> None:
    make_root(tmp_path)
    error = refuse(cli("export", "small", tmp_path / "gone/runs.zip", "--root", tmp_path))
    assert f"{tmp_path / 'gone'}: no such folder" in error
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("command", ["export", "pack"])
def test_a_file_of_somebody_elses_is_never_written_over(cli: Cli, tmp_path: Path, command: str) -> None:
    make_root(tmp_path)
    (tmp_path / "keep.csv").write_text("method,seed,acc\n")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("manifest.json", '{"kind": "stn-bench results"}')
    for name in ("keep.csv", "other.zip"):
        before = (tmp_path / name).read_bytes()
        error = refuse(cli(command, "small", tmp_path / name, "--root", tmp_path))
        assert f"{tmp_path / name}: is there already, and no file that this command wrote" in error
        assert (tmp_path / name).read_bytes() == before
    assert "is a folder; name a file in it" in refuse(cli(command, "small", tmp_path, "--root", tmp_path))
