"""A subject of one's own: a module under the root, named by `module:attribute`."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Cli, widen
from makers import make_root, record, write

from stn_bench.cli.options import console, messages

MINE = '''
from stn_bench.settings import Settings
from stn_bench.subject import Metric, Outcome, Subject


class Mine(Settings):
    """What it is trained with."""

    rate: float = 0.5
    """Learning rate."""
    depth: int = 2
    """Number of layers."""


def train(settings, seed, run):
    return {"test.error": abs(settings.rate - 0.1) + 0.001 * seed + HELP}


HELP = 0.0
NUMBER = 3
subject = Subject("mine", Mine, train, (Metric("test.error", "how far the rate is off", "minimize"),))
'''
STUDY = 'title = "Mine"\nsubject = "{name}"\nablations = ["depth"]\nseeds = [1, 2, 3]\n'
ABLATION = 'title = "Rate"\nquestion = "Does the rate matter?"\n[arms.slow]\nset = { "rate" = 0.25 }\n'


def own_root(folder: Path, module: str, text: str = MINE, *, attribute: str = "subject", written: bool = True) -> Path:
    """Return a root with a study of a subject under it; each test has a module of its own name, which stays loaded."""
    if written:
        write(folder / f"{module}.py", text)
    return make_root(folder, study=STUDY.format(name=f"{module}:{attribute}"), ablation=ABLATION)


def test_it_is_planned(cli: Cli, tmp_path: Path) -> None:
    root = own_root(tmp_path, "mine_planned")
    code, out, err = cli("plan", "small", "--json", "--root", root)
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["metric"], told["direction"], told["runs"]) == ("test.error", "minimize", 6)
    assert [one["settings"] for one in told["arms"]] == [{"rate": 0.5, "depth": 2}, {"rate": 0.25, "depth": 2}]
    assert all(run["run_key"] for one in told["arms"] for run in one["runs"])  # it has no data to be made first


def test_no_line_of_a_narrow_plan_ends_with_blanks(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = own_root(tmp_path, "mine_narrow")
    widen(monkeypatch, 50)
    code, out, _ = cli("plan", "small", "--root", root)
    assert code == 0
    assert [line for line in out.splitlines() if line != line.rstrip()] == []


def test_its_plan_is_shown_and_says_whose_code_it_runs(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("plan", "small", "--root", own_root(tmp_path, "mine_shown"))
    assert (code, err) == (0, "")
    assert "depth/slow: rate 0.5 → 0.25" in out
    assert "! runs code of the root's own, `mine_shown:subject`: the subject" in out
    assert "6 runs to train, 0 reused" in out


@pytest.mark.parametrize("command", [["check"], ["list"], ["show", "small"], ["show", "depth"]], ids=" ".join)
def test_commands_that_read_its_study_find_it(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    root = own_root(tmp_path, f"mine_read_{'_'.join(command)}")
    code, _, err = cli(*command, "--root", root)
    assert (code, err) == (0, "")


def test_its_schemas_are_written(cli: Cli, tmp_path: Path) -> None:
    root = own_root(tmp_path, "mine_schema")
    code, _, err = cli("schema", tmp_path / "schema", "--subject", "mine_schema:subject", "--root", root)
    assert (code, err) == (0, "")
    arms = json.loads((tmp_path / "schema/ablation.json").read_text())["properties"]["arms"]["additionalProperties"]
    assert set(arms["properties"]["set"]["properties"]) == {"rate", "depth"}


def test_its_code_is_in_the_run_key(cli: Cli, tmp_path: Path) -> None:
    """Also what `train` reads beside its own body."""
    keys = []
    for number, text in enumerate((MINE, MINE.replace("HELP = 0.0", "HELP = 0.1"), MINE.replace("NUMBER = 3", ""))):
        root = own_root(tmp_path / str(number), f"mine_keyed_{number}", text)
        told = json.loads(cli("plan", "small", "--json", "--root", root)[1])
        write(tmp_path / f"{number}.json", json.dumps(told))
        from stn_bench.study.load import load_plan
        from stn_bench.system.workspace import Workspace
        from stn_bench.tracking.results import Keys

        workspace = Workspace.at(root)
        planned = load_plan("small", workspace)
        identity = Keys(planned.subject, workspace.datasets).identity(planned.arms[0].verdict_specs({})[0])
        assert identity is not None
        assert identity.run_key == told["arms"][0]["runs"][0]["run_key"]
        keys.append({name.partition(":")[2]: digest for name, digest in identity.code.items()})
    assert "HELP" in keys[0]
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]


def test_a_definition_is_told_by_its_name(cli: Cli, tmp_path: Path) -> None:
    """With the module that it is in; `:train:` is no train, as rich would have it."""
    from stn_bench.study.load import load_plan
    from stn_bench.system.workspace import Workspace
    from stn_bench.tracking.results import Keys
    from stn_bench.tracking.why import compare_with_today

    root = own_root(tmp_path, "mine_named")
    planned = load_plan("small", Workspace.at(root))
    (spec, *_) = planned.arms[0].verdict_specs({})
    identity = Keys(planned.subject, Workspace.at(root).datasets).identity(spec)
    assert identity is not None
    before = dataclasses.replace(identity, code={**identity.code, "__init__:train": "0" * 64})
    run = record(spec, "r").model_copy(update={"subject": planned.subject.name, "identity": before})
    (line,) = compare_with_today(run, Workspace.at(root)).changed
    assert line.startswith("code mine_named:train: was 000000000000, is ")


def test_what_is_printed_holds_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    for one in (console, messages):
        one.print("code mine:train: was")
    told = capsys.readouterr()
    assert told.out == told.err == "code mine:train: was\n"


@pytest.mark.parametrize("set_", ["rates=0.3", "rate=fast"])
def test_a_setting_that_it_has_not_is_refused(cli: Cli, tmp_path: Path, set_: str) -> None:
    root = own_root(tmp_path, f"mine_set_{len(set_)}")
    assert "`rate" in refuse(cli("plan", "small", "--set", set_, "--root", root))


# What cannot be used -------------------------------------------------------------------------------------------------


def refuse(result: tuple[int, str, str]) -> str:
    """Return the message of a command that ended as bad input should: exit 2, one line and the user's own."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert all(line.startswith("  ") and ".py:" in line for line in err.splitlines()[1:]), err
    assert err.startswith("stn-bench: ")
    return err


@pytest.mark.parametrize(
    ("module", "attribute", "message"),
    [
        ("mine_missing", "subject", "`subject` mine_missing:subject: cannot be imported (ModuleNotFoundError: "),
        ("mine", "subjekt", "`subject` mine:subjekt: `mine` has no `subjekt`. Did you mean `subject`?"),
        ("mine", "NUMBER", "`subject` mine:NUMBER: expected a Subject or a function, got int"),
        ("mine", "Mine", "`subject` mine:Mine: expected a Subject or a function, got "),
        ("mine", "", "`subject` mine:: "),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run", "status", "report"])
def test_what_is_no_subject_is_refused_in_a_line(
    cli: Cli, tmp_path: Path, command: str, module: str, attribute: str, message: str
) -> None:
    own = f"{module}_{command}_{attribute.lower()}"
    root = own_root(tmp_path, own, attribute=attribute, written=module == "mine")
    told = refuse(cli(command, "small", "--root", root))
    assert f"{root / 'studies/small.toml'}: " in told
    assert message.replace(f"{module}:", f"{own}:").replace(f"`{module}`", f"`{own}`") in told
    assert not (root / "mlruns").exists()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("raises", "raise RuntimeError('no GPU')\n", "cannot be imported (RuntimeError: no GPU)"),
        ("typo", "def train(:\n", "cannot be imported (SyntaxError: "),
        ("exits", "import sys\nsys.exit(3)\n", "cannot be imported (SystemExit: 3)"),
        ("stops", "raise KeyboardInterrupt\n", "cannot be imported (KeyboardInterrupt)"),
        ("panics", "raise BaseException('panicked')\n", "cannot be imported (BaseException: panicked)"),
        ("blank", "raise ValueError('\\n\\nno room')\n", "cannot be imported (ValueError: no room)"),
    ],
)
def test_a_module_that_raises_is_named_with_what_it_raised(
    cli: Cli, tmp_path: Path, name: str, text: str, reason: str
) -> None:
    root = own_root(tmp_path, f"mine_{name}", text)
    code, out, err = cli("plan", "small", "--root", root)
    assert (code, out) == (2, "")
    assert reason in err.splitlines()[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["queue", "colorsys", "email.mine"])
def test_a_module_that_is_called_like_one_of_pythons_is_told_so(cli: Cli, tmp_path: Path, name: str) -> None:
    top = name.partition(".")[0]
    write(tmp_path / f"{top}.py", "def train(*, seed, depth=4):\n    return {'test.error': seed / depth}\n")
    root = make_root(tmp_path, study=STUDY.format(name=f"{name}:train"), ablation=ABLATION)
    told = refuse(cli("plan", "small", "--root", root))
    assert f"`{top}` is imported from " in told
    assert "has no" not in told
    assert "give one of them another name" in told


def test_a_misspelt_name_of_a_shipped_subject_suggests_the_nearest(cli: Cli, tmp_path: Path) -> None:
    root = make_root(tmp_path, study=STUDY.format(name="tyo"), ablation=ABLATION)
    told = refuse(cli("plan", "small", "--root", root))
    assert "no subject `tyo`. Did you mean `toy`?" in told
    assert "stn" in told.partition("Known: ")[2]


@pytest.mark.parametrize("value", ["3", '""', '["stn"]', "{ name = 'stn' }"])
def test_a_subject_that_is_no_name_is_refused(cli: Cli, tmp_path: Path, value: str) -> None:
    root = make_root(tmp_path, study=STUDY.replace('"{name}"', value), ablation=ABLATION)
    assert "`subject`: " in refuse(cli("plan", "small", "--root", root))


def test_tensorflow_is_told_to_be_silent_before_a_user_s_module_can_import_it(tmp_path: Path) -> None:
    root = own_root(tmp_path, "mine_loud", f"import os\nprint(os.environ['TF_CPP_MIN_LOG_LEVEL'])\n{MINE}")
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-m", "stn_bench", "plan", "small", "--root", root],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "3\n")
