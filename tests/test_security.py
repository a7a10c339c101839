"""What docs/security.md promises, sentence by sentence."""

from __future__ import annotations

import ast
import functools
import hashlib
import http.client
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import pytest
from commands import call
from hypothesis import example, given
from hypothesis import strategies as st
from makers import STN, FakeStore, ablation, arm, make_root, plan, record, write
from markdown_it import MarkdownIt
from markdown_it.token import Token

import stn_bench
from stn_bench.analysis.analyse import analyse
from stn_bench.report.build import FORMATS, build_report
from stn_bench.report.latex import ESCAPED
from stn_bench.report.page import markdown_table, plain
from stn_bench.runner.packed import PackedJob, PackedStudy, zip_study
from stn_bench.settings import override
from stn_bench.study.catalogue import Catalogue, bundled_root
from stn_bench.study.load import load_plan
from stn_bench.study.plan import Plan, RunSpec
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.folder import import_folder
from stn_bench.subjects.stn.files import MODEL
from stn_bench.system import errors
from stn_bench.system.errors import ArchiveError, CatalogueError, ConfigError, DataError, StoreError
from stn_bench.system.text import Discreet, is_name, printable, without_secrets
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.archive import RECORDS, Archive, Manifest, pack, unpack
from stn_bench.tracking.identity import Identity
from stn_bench.tracking.posted import plan_of, post
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import Keys, gather
from stn_bench.tracking.zipped import MANIFEST

KEPT: dict[str, list[str]] = {}
"""Sentence of docs/security.md -> the tests that keep it."""

Test = TypeVar("Test", bound=Callable[..., object])
Command = Callable[..., tuple[int, str, str]]
PACKAGE = Path(stn_bench.__file__).parent
HIDDEN = "s3cr3t-of-the-store"


def keeps(sentence: str) -> Callable[[Test], Test]:
    """Note that a test keeps the promise that begins with these words."""

    def note(test: Test) -> Test:
        KEPT.setdefault(sentence, []).append(test.__name__)
        return test

    return note


def test_every_promise_is_kept_by_a_test_and_every_test_keeps_one() -> None:
    text = (bundled_root() / "docs/security.md").read_text(encoding="utf-8")
    part = text.partition("## What is promised")[2].partition("\n## ")[0]
    promises = [" ".join(item.split()) for item in part.split("\n- ")[1:]]
    assert len(promises) == len(KEPT)
    for promise in promises:
        assert len([begin for begin in KEPT if promise.startswith(begin)]) == 1, promise


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return what runs `stn-bench …` in this process and returns its exit code, its output and its error."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        code = call(*arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@functools.cache
def trees() -> dict[Path, list[ast.AST]]:
    """Return all nodes of every file of the package."""
    return {
        path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in sorted(PACKAGE.rglob("*.py"))
    }


def nodes(kind: type[ast.AST]) -> Iterator[tuple[str, Any]]:
    """Yield every node of a kind in the package, with the file and the line that it stands in."""
    for path, found in trees().items():
        for node in found:
            if isinstance(node, kind):
                yield f"{path.relative_to(PACKAGE).as_posix()}:{getattr(node, 'lineno', 0)}", node


# The only server -------------------------------------------------------------------------------------------------

SERVER = "The only server, `stn-bench ui`, listens on 127.0.0.1 unless `--host` names another address."
HOST_CHECK = "MLflow's host check stays on"
OPENING = {
    "MLFLOW_HOST": "0.0.0.0",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "*",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    "MLFLOW_UVICORN_OPTS": "--host 0.0.0.0",
    "UVICORN_HOST": "0.0.0.0",
}
"""Variables that would open MLflow's server to others."""

TRAP = "import pathlib\npathlib.Path(__file__).with_suffix('.sprung').touch()\nraise ImportError('sprung')\n"
"""A module that leaves a trace beside it when it is imported."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Served:
    """A `stn-bench ui` in a folder full of traps, with an environment that would open it."""

    def __init__(self, folder: Path) -> None:
        for name in ("flask", "fastapi", "graphene", "numpy", "yaml", "sitecustomize", "mlflow", "uvicorn"):
            write(folder / f"{name}.py", TRAP)
        self.folder, self.port = folder, free_port()
        program = Path(sys.executable).with_name("stn-bench")
        self.process = subprocess.Popen(
            [program, "ui", "--root", folder, "--port", str(self.port)],
            cwd=folder,
            env={**os.environ, **OPENING},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, host: str, method: str = "GET", **headers: str) -> int:
        """Return the status of the answer to a request that calls the server by this name; 0 where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        path, body = "/ajax-api/2.0/mlflow/experiments/search", '{"max_results": 1}' if method == "POST" else None
        try:
            connection.request(
                method,
                path + ("?max_results=1" if method == "GET" else ""),
                body,
                {"Host": host, "Content-Type": "application/json", **headers},
            )
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def wait(self) -> None:
        """Return once it answers."""
        for _ in range(240):
            if self.ask(f"127.0.0.1:{self.port}") == 200:
                return
            assert self.process.poll() is None
            time.sleep(0.5)
        raise AssertionError("the UI does not answer")

    def family(self) -> list[psutil.Process]:
        """Return the processes of the server."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def end(self) -> None:
        """End it."""
        family = self.family()
        for process in family:
            process.terminate()
        psutil.wait_procs(family[1:], timeout=20)
        self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("hostile"))
    try:
        server.wait()
        yield server
    finally:
        server.end()


@pytest.mark.slow
@keeps(SERVER)
def test_the_ui_listens_on_this_machine_alone(served: Served) -> None:
    listening = [
        connection.laddr
        for process in served.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening if address.port == served.port} == {"127.0.0.1"}


@keeps(SERVER)
def test_nothing_else_listens() -> None:
    names = {"bind", "listen", "create_server", "HTTPServer", "ThreadingHTTPServer", "start_server"}
    calls = [where for where, node in nodes(ast.Call) if getattr(node.func, "attr", "") in names]
    assert [where.partition(":")[0] for where in calls] == [
        "study/arguments.py",  # arguments, to a signature
        "study/soundness.py",
    ]
    everywhere = [where for where, node in nodes(ast.Constant) if node.value in ("0.0.0.0", "::")]
    assert [where.partition(":")[0] for where in everywhere] == ["tracking/server.py"] * 2  # by `--host` alone


@pytest.mark.slow
@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "10.evil.example:{port}", "127.0.0.1.nip.io"])
@keeps(HOST_CHECK)
def test_a_request_by_a_foreign_name_is_refused(served: Served, host: str) -> None:
    assert served.ask(host.format(port=served.port)) == 403


@pytest.mark.slow
@keeps(HOST_CHECK)
def test_a_request_by_an_own_name_is_answered_but_not_from_a_foreign_page(served: Served) -> None:
    for name in (f"localhost:{served.port}", f"127.0.0.1:{served.port}"):
        assert served.ask(name) == 200
        assert served.ask(name, "POST", Origin=f"http://{name}") == 200
        assert served.ask(name, "POST", Origin="http://evil.example") == 403


@pytest.mark.parametrize("host", ["*", "0.0.0.0,evil.example", "evil example", "", "a;b"])
@keeps(HOST_CHECK)
def test_a_host_that_is_no_address_is_refused(host: str, command: Command, tmp_path: Path) -> None:
    from stn_bench.tracking.server import serve

    with pytest.raises(errors.StoreError, match="expected an address of this machine"):
        serve(f"sqlite:///{tmp_path / 'mlflow.db'}", 5000, host)


@keeps(HOST_CHECK)
def test_a_server_for_the_network_may_be_called_by_names_of_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stn_bench.tracking import server

    started: list[list[str]] = []
    monkeypatch.setattr(server.subprocess, "Popen", lambda command, env: started.append(command))
    server.serve("sqlite:///x.db", 5000, "0.0.0.0")
    (line,) = started
    allowed = line[line.index("--allowed-hosts") + 1].split(",")
    own = {one.address.partition("%")[0] for all_of in psutil.net_if_addrs().values() for one in all_of}
    for name in allowed:
        bare = name.removesuffix(":5000").strip("[]")
        assert bare in own | {"localhost", "0.0.0.0", "::1", socket.gethostname(), socket.getfqdn()}
    assert not any("*" in name for name in allowed)


# Names -----------------------------------------------------------------------------------------------------------

NAMES = "The name of a study, an ablation, an arm or a data set leads to no other folder"
BAD_NAMES = [
    "../x", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "C:x", "c:\\x", "~", "~root", "con", "CON", "nul", "lpt1",
    "com9", "aux", "a.b", "a ", " a", "a\n", "a\x00b", "-a", "_a", "A", "ä", "а",
    "a\u0301", "\uff0e\uff0e", "\u2024\u2024",
    "a\u202eb", "a\u200bb", "１", "ⅰ", "ﬁ", "a" * 101, "%2e%2e", "$HOME", "a;b", "a'b", "a`b", "*", "a?",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@keeps(NAMES)
def test_a_name_that_is_none_opens_no_file(name: str, tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    write(tmp_path / "x.toml", (root / "studies/small.toml").read_text())  # what `../x` would lead to
    for kind in ("studies", "ablations"):
        with pytest.raises(CatalogueError):
            Catalogue(root).path(kind, name)  # type: ignore[arg-type]
    if name not in ("-a", "_a"):
        assert not is_name(name)


@given(st.text(st.characters(codec="utf-8"), max_size=12) | st.from_regex(r"[a-z0-9_.\\/-]{1,110}", fullmatch=True))
@example("con")
@example("a" * 100)
@keeps(NAMES)
def test_a_name_is_one_plain_part_of_a_path_on_every_system(name: str) -> None:
    from pathlib import PureWindowsPath

    if not is_name(name):
        return
    root = Path("/root/reports")
    assert (root / name).parent == root
    assert os.path.normpath(root / name) == str(root / name)
    windows = PureWindowsPath("C:/reports") / f"{name}.toml"
    assert (windows.parent, windows.is_reserved()) == (PureWindowsPath("C:/reports"), False)
    assert name.isascii()
    assert name == name.casefold() == name.strip()
    assert 1 <= len(name) <= 100


@keeps(NAMES)
def test_names_inside_files_are_checked_too(tmp_path: Path) -> None:
    for number, (study, question) in enumerate(
        [
            ('title = "x"\nablations = ["../depth"]\nseeds = [1, 2, 3]', None),
            ('extends = "../small"', None),
            (None, 'title = "x"\nquestion = "x?"\n[arms."../x"]\nset = { "model.width" = 0.5 }'),
        ]
    ):
        texts = {name: text for name, text in {"study": study, "ablation": question}.items() if text}
        root = make_root(tmp_path / str(number), **texts)
        with pytest.raises(CatalogueError, match="expected a name"):
            Catalogue(root).study("small") if study else Catalogue(root).ablation("depth")


@pytest.mark.parametrize("name", ["../x", "/x", "con", "a.b", "x" * 101, "", "A"])
@keeps(NAMES)
def test_the_name_of_a_data_set_is_checked(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--name"):
        import_folder(tmp_path, name, tmp_path / "datasets", size=20, alphabet="AB")
    assert list(tmp_path.iterdir()) == []


# The terminal ----------------------------------------------------------------------------------------------------

TERMINAL = "No file of others steers the terminal or reorders what it shows"
STEERING = ["\x1b[2J", "\x9b2J", "\x07", "\u202e", "\u2066", "\x7f"]


@pytest.mark.parametrize("text", STEERING, ids=ascii)
@keeps(TERMINAL)
def test_a_study_file_that_steers_a_terminal_is_refused(text: str, tmp_path: Path, command: Command) -> None:
    escaped = "".join(f"\\u{ord(character):04X}" for character in text)
    root = make_root(tmp_path, study=f'title = "x{escaped}"\nablations = ["depth"]\nseeds = [1, 2, 3]\n')
    code, out, error = command("show", "small", "--root", root)
    assert (code, out) == (2, "")
    for told in (error, command("list", "--root", root)[2]):
        assert f"U+{ord(text[0]):04X}" in told
        assert text[0] not in told


@pytest.mark.parametrize("text", STEERING, ids=ascii)
@keeps(TERMINAL)
def test_an_archive_that_steers_a_terminal_is_refused(text: str) -> None:
    with pytest.raises(ArchiveError, match=rf"U\+{ord(text[0]):04X}"):
        unpack(archive_with(identity={"libraries": {"keras": text}}))


@given(st.text())
@keeps(TERMINAL)
def test_a_message_shows_only_what_a_terminal_shows_as_it_is(text: str) -> None:
    shown = printable(text)
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    assert "\x1b" not in shown
    assert printable(shown) == shown


def archive_with(**changes: Any) -> bytes:
    """Return an archive of one run, changed; what is given for its identity is merged."""
    (spec,) = plan(ablation(arm("wide", {"model.width": 2.0}))).arms[0].verdict_specs({})[:1]
    tree = record(spec, "0" * 32, test_accuracy=0.9).model_dump(mode="json")
    tree |= {"run_key": "a" * 64} | changes | {"identity": tree["identity"] | changes.get("identity", {})}
    return pack(Archive("small", (RunRecord.model_validate(tree),), {}))


# Nothing is executed ---------------------------------------------------------------------------------------------

TOML = "Study and ablation files are TOML"
FACTORY = "`model.factory` is taken from the study, its ablations and `--set` alone"
FOLDER = "Nothing that lies in the current folder or under the root is imported"
ELSEWHERE = "`worker` takes a study from the store, but imports no subject and calls no factory that only the store"
MODELS = "stn-bench reads only numbers from a model file"
EXECUTING = {"eval", "exec", "compile", "__import__", "execfile"}
UNPICKLING = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "code", "runpy"}


def spring(root: Path, name: str) -> Path:
    """Write a module under the root that leaves a trace when it is imported; return the trace."""
    write(root / f"{name}.py", TRAP + "def make(config): ...\n")
    return root / f"{name}.sprung"


@keeps(TOML)
def test_the_package_has_no_way_to_execute_what_it_reads() -> None:
    calls = [where for where, node in nodes(ast.Call) if getattr(node.func, "id", "") in EXECUTING]
    imported = [
        where
        for kind in (ast.Import, ast.ImportFrom)
        for where, node in nodes(kind)
        if {(getattr(node, "module", "") or "").split(".")[0], *(one.name.split(".")[0] for one in node.names)}
        & UNPICKLING
    ]
    shells = [
        where
        for where, node in nodes(ast.Call)
        if ast.unparse(node.func) in ("os.system", "os.popen") or any(k.arg == "shell" for k in node.keywords)
    ]
    assert (calls, shells) == ([], [])
    assert [where for where in imported if not where.startswith("testing.py:")] == []  # pytest alone loads that one
    importing = {where for where, node in nodes(ast.Call) if getattr(node.func, "attr", "") == "import_module"}
    assert {where.partition(":")[0] for where in importing} == {
        "subjects/stn/nn/build.py",  # the factory
        "subject.py",  # what makes a subject of a function
        "system/own_code.py",  # a subject by its import path
        "cli/app.py",  # the commands of a subject that comes with stn-bench
        "tracking/mlflow/__init__.py",  # MLflow's own module for a kind of model
        "testing.py",  # the contract suite, of what it is told to test
        "isolation.py",  # our own modules that know libraries' global states
        "subjects/keras_training/global_state.py",  # TensorFlow's own modules
    }


@keeps(TOML)
def test_arrays_are_read_without_pickles() -> None:
    loads = [node for _, node in nodes(ast.Call) if ast.unparse(node.func) == "np.load"]
    assert loads
    for node in loads:
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert said.get("allow_pickle") == "False", ast.unparse(node)


@keeps(TOML)
@pytest.mark.parametrize("ending", ["yaml", "json", "py", "toml.py"])
def test_other_files_than_toml_are_not_even_found(ending: str, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    before = Catalogue(root).names("studies")
    write(root / f"studies/other.{ending}", TRAP)
    assert Catalogue(root).names("studies") == before


def factory_root(folder: Path, name: str) -> Path:
    """Return a root whose study names a factory for its base, under the root itself."""
    study = f'title = "x"\nablations = ["depth"]\nseeds = [1, 2, 3]\n[base]\n"model.factory" = "{name}:make"\n'
    return make_root(folder, study=study)


@keeps(FACTORY)
def test_a_study_that_is_only_looked_at_runs_no_factory(tmp_path: Path, command: Command) -> None:
    root = factory_root(tmp_path, "trap_looked_at")
    trace = spring(root, "trap_looked_at")
    for line in (["list"], ["show", "small"], ["check"], ["plan", "small"], ["status", "small"], ["gc"]):
        code, _, error = command(*line, "--root", root)
        assert code == 0, error
    assert not trace.exists()


@keeps(FACTORY)
def test_a_plan_shows_the_factory(tmp_path: Path, command: Command) -> None:
    root = factory_root(tmp_path, "trap_shown")
    spring(root, "trap_shown")
    arms = json.loads(command("plan", "small", "--json", "--root", root)[1])["arms"]
    assert {arm["settings"]["model.factory"] for arm in arms} == {"trap_shown:make"}
    assert "trap_shown:make" in command("plan", "small", "--root", root)[1]


@keeps(FACTORY)
def test_a_root_is_no_place_for_code_unless_a_factory_is_named(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_root(tmp_path)
    before = list(sys.path)
    assert command("check", "--root", root)[0] == 0
    assert sys.path == before
    monkeypatch.setattr(sys, "path", list(before))
    Workspace.at(root).find_code()
    assert sys.path == [*before, str(root)]  # behind all that is installed


class OneRun:
    """A store with one finished run and the model file that it is said to have kept."""

    def __init__(self, found: RunRecord, model: Path) -> None:
        self._found, self._model = found, model

    def find_run(self, name: str) -> str:
        """Return its id."""
        return self._found.run_id

    def records(self, run_ids: list[str]) -> list[RunRecord]:
        """Return its record."""
        return [self._found]

    def file(self, run_id: str, path: str) -> Path:
        """Return its model file."""
        assert path == MODEL
        return self._model


def model_file(path: Path, **settings: object) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("stn_bench.json", json.dumps({"settings": settings}))
        file.writestr("model.weights.h5", b"")
        file.writestr("config.json", json.dumps({"module": "builtins", "class_name": "eval", "config": "1"}))
    return path


@keeps(FACTORY)
def test_training_on_calls_no_factory_of_the_start_without_trust(tmp_path: Path) -> None:
    from stn_bench.cli.training import _find_start

    (spec,) = plan(ablation(arm("other", {"model.factory": "trap:make"}))).arms[-1].verdict_specs({})[:1]
    store: Any = OneRun(record(spec, "run", test_accuracy=0.5), model_file(tmp_path / MODEL))
    with pytest.raises(ConfigError, match=r"`trap:make`.*--trust"):
        _find_start("run", STN, store, False)
    assert _find_start("run", STN, store, True).run_id == "run"


@pytest.mark.parametrize("own", [None, "another:make"], ids=["none", "another"])
@keeps(FACTORY)
def test_training_on_calls_no_factory_that_the_file_alone_names(
    own: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may hold another file than its record tells of."""
    from stn_bench.subjects.stn.nn.start import starting_weights

    monkeypatch.syspath_prepend(tmp_path)
    trace = spring(tmp_path, "trap_in_a_start")
    model = model_file(tmp_path / MODEL, **{"model.factory": "trap_in_a_start:make"})
    with pytest.raises(errors.ModelFileError, match=r"`trap_in_a_start:make`.*--trust"):
        starting_weights(model, override(Config(), {"model.factory": own}), 1)
    assert not trace.exists()


@keeps(MODELS)
def test_a_model_file_names_a_factory_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stn_bench.subjects.stn.nn.model_file import load_model

    monkeypatch.syspath_prepend(tmp_path)
    trace = spring(tmp_path, "trap_in_a_model")
    model = model_file(tmp_path / "m.keras", **{"model.factory": "trap_in_a_model:make"})
    with pytest.raises(errors.ModelFileError, match="--trust"):
        load_model(model)
    assert not trace.exists()
    with pytest.raises((ImportError, ConfigError)):
        load_model(model, trust=True)
    assert trace.exists()  # the trap was a trap


@keeps(MODELS)
def test_no_code_of_a_model_file_is_read() -> None:
    used = {(where.partition(":")[0], ast.unparse(node.func)) for where, node in nodes(ast.Call)}
    reading = {"load_model", "model_from_json", "deserialize_keras_object", "enable_unsafe_deserialization"}
    found = {(file, name) for file, name in used if name.rpartition(".")[2] in reading}
    assert found <= {
        ("subjects/stn/commands.py", "load_model"),  # that of nn/model_file
        ("subjects/stn/nn/start.py", "load_model"),
        (
            "subjects/stn/nn/transformer.py",
            "keras.saving.deserialize_keras_object",
        ),  # what Keras calls, in its safe mode
    }
    assert "safe_mode" not in {keyword.arg for _, node in nodes(ast.Call) for keyword in node.keywords}


@keeps(FOLDER)
def test_the_command_imports_nothing_from_the_folder_it_is_started_in(tmp_path: Path) -> None:
    names = (
        "typer",
        "rich",
        "pydantic",
        "numpy",
        "psutil",
        "captcha",
        "cv2",
        "PIL",
        "optuna",
        "sitecustomize",
        "email",
    )
    root = make_root(tmp_path / "root")
    traces = [spring(folder, name) for folder in (tmp_path, root) for name in names]
    program = Path(sys.executable).with_name("stn-bench")
    small = ["data.count=40", "data.validation=3", "data.test=3", "data.size=16"]
    settings = [word for setting in small for word in ("--set", setting)]
    for line in (["plan", "small", "--root", root], ["data", "make", "--root", root, "--processes", "2", *settings]):
        done = subprocess.run([program, *line], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
    assert [trace.name for trace in traces if trace.exists()] == []


@pytest.mark.slow
@keeps(FOLDER)
def test_the_server_imports_nothing_from_the_folder_it_is_started_in(served: Served) -> None:
    assert sorted(path.name for path in served.folder.glob("*.sprung")) == []


# Subjects ---------------------------------------------------------------------------------------------------------

SUBJECT = "A `subject` with a colon in it is imported by every command that reads its study"


def subject_root(folder: Path, name: str) -> Path:
    """Return a root whose study names a subject under the root itself."""
    write(folder / f"{name}.py", "from stn_bench.subjects.toy import subject\n")
    gate = 'title = "Gate"\nquestion = "Does the gate matter?"\n[arms.none]\nset = { "gate" = "none" }\n'
    study = f'title = "x"\nsubject = "{name}:subject"\nablations = ["depth"]\nseeds = [1, 2, 3]\n'
    return make_root(folder, study=study, ablation=gate)


@keeps(SUBJECT)
def test_a_plan_shows_the_subject_that_it_imports(tmp_path: Path, command: Command) -> None:
    root = subject_root(tmp_path, "subject_shown")
    code, out, error = command("plan", "small", "--root", root)
    assert (code, "`subject_shown:subject`" in out) == (0, True), error


@keeps(SUBJECT)
def test_a_subject_is_imported_where_its_study_is_read_and_nowhere_else(tmp_path: Path, command: Command) -> None:
    root = subject_root(tmp_path, "subject_trap")
    trace = spring(root, "subject_trap")
    assert command("plan", "quickstart", "--root", root)[0] == 0
    assert not trace.exists()
    code, _, error = command("plan", "small", "--root", root)
    assert (code, "cannot be imported" in error) == (2, True)
    assert trace.exists()  # the trap was a trap


@keeps(SUBJECT)
def test_a_subject_is_trained_by_run_alone(tmp_path: Path, command: Command) -> None:
    """Neither its training nor what prepares its data runs where a study is only looked at."""
    told = (
        "from pathlib import Path\ndef train(*, seed, depth=4):\n    Path(__file__).with_name('sprung').touch(depth)\n"
    )
    told += "def prepare(folder):\n    Path(__file__).with_name('sprung').touch()\ntrain.prepare = prepare\n"
    study = 'title = "x"\nsubject = "subject_looked_at:train"\nablations = ["depth"]\nseeds = [1, 2, 3]\n'
    root = make_root(
        tmp_path,
        study=study + 'metric = "test.error"\ndirection = "minimize"\n',
        ablation='title = "x"\nquestion = "x?"\n[arms.deep]\nset = { depth = 8 }\n',
    )
    write(root / "subject_looked_at.py", told)
    for line in (["check"], ["list"], ["show", "small"], ["plan", "small"], ["status", "small"], ["gc"]):
        code, out, error = command(*line, "--root", root)
        assert code == 0, error
        if line[0] == "plan":
            assert "its `train` is called by `run`, in " in out
    assert not (root / "sprung").exists()


@keeps(SUBJECT)
def test_a_run_makes_nobody_import_its_subject(tmp_path: Path, command: Command) -> None:
    root = make_root(tmp_path)
    trace = spring(root, "subject_of_a_run")
    write(tmp_path / "runs.zip", "")
    (tmp_path / "runs.zip").write_bytes(archive_with(subject="subject_of_a_run:subject"))
    code, out, error = command("import", tmp_path / "runs.zip", "--root", root)
    assert (code, "1 runs of study small merged" in out) == (0, True), error
    code, _, error = command("why", "a" * 64, "--root", root)
    assert (code, "which no study here names" in error) == (2, True)
    for line, expected in ((["status", "small"], 0), (["report", "small"], 2), (["gc"], 0), (["list"], 0)):
        assert command(*line, "--root", root)[0] == expected, line  # it is no run of this study's subject
    assert not trace.exists()


# Archives --------------------------------------------------------------------------------------------------------


@keeps(ELSEWHERE)
def test_a_worker_runs_no_code_that_only_the_store_names(tmp_path: Path) -> None:
    root = factory_root(tmp_path, "trap_of_the_store")
    trace = spring(root, "trap_of_the_store")
    (tmp_path / "elsewhere").mkdir()
    own, other = Workspace.at(root), Workspace.at(tmp_path / "elsewhere")
    plan = load_plan("small", own)
    posted = post(plan, Keys(plan.subject, own.datasets))
    subject = posted.model_copy(update={"study": {**posted.study, "subject": "trap_of_the_store:train"}})
    for one in (posted, subject):
        with pytest.raises(StoreError, match="add --trust"):
            plan_of(one, other)
    assert not trace.exists()


ARCHIVES = "An archive of runs is checked whole before anything of it is kept"


def zipped(members: dict[str, bytes]) -> bytes:
    """Return a zip file with a manifest that tells the digests of its members."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    manifest = Manifest(kind="stn-bench runs", format=1, study="small", runs=1, members=digests)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {MANIFEST: manifest.model_dump_json().encode(), **members}.items():
            file.writestr(name, content)
    return buffer.getvalue()


def records_line() -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive_with())) as file:
        return file.read(RECORDS)


def arrays(**content: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)  # type: ignore[arg-type]
    return buffer.getvalue()


PLACES = [
    "../x.npz",
    "/x.npz",
    f"runs/{'a' * 64}/../x.npz",
    "runs\\x.npz",
    f"runs/{'a' * 64}/x.npz/../../y.npz",
    "C:x.npz",
]


@pytest.mark.parametrize("place", PLACES)
@keeps(ARCHIVES)
def test_a_member_that_leads_out_is_refused(place: str) -> None:
    with pytest.raises(ArchiveError, match="which no archive of runs has"):
        unpack(zipped({RECORDS: records_line(), place: arrays(x=np.zeros(3))}))


class Pickled:
    """What leaves a trace in the current folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("sprung",)


@keeps(ARCHIVES)
def test_a_pickle_in_an_archive_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = arrays(x=np.array([Pickled()], dtype=object))
    with pytest.raises(ArchiveError, match="does not hold plain arrays"):
        unpack(zipped({RECORDS: records_line(), f"runs/{'a' * 64}/x.npz": content}))
    assert list(tmp_path.iterdir()) == []
    np.load(io.BytesIO(content), allow_pickle=True)["x"]
    assert (tmp_path / "sprung").is_dir()  # the trap was a trap


@pytest.mark.parametrize("inside", [False, True], ids=["member", "array"])
@keeps(ARCHIVES)
def test_what_unpacks_to_too_much_is_refused(inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_bench.tracking.zipped.MOST_BYTES", 1 << 20)  # a bomb of 1 GiB would only be slower
    bomb = arrays(x=np.zeros(1 << 21, np.uint8)) if inside else bytes(1 << 21)
    assert len(bomb) < 1 << 20 or not inside
    with pytest.raises(ArchiveError, match="unpack to more than"):
        unpack(zipped({RECORDS: records_line(), f"runs/{'a' * 64}/x.npz": bomb}))


# Packed studies --------------------------------------------------------------------------------------------------

PACKED = "A packed study is checked as strictly before anything of it is written"
PACKED_TRAP = (
    b"from pathlib import Path\n\nPath(__file__).with_name('sprung').touch()\n\n\ndef train(*, seed):\n    return {}\n"
)


def packed_with(versions: dict[str, str], files: dict[str, bytes]) -> bytes:
    """Return a packed study of a root's own code, with one job."""
    spec = RunSpec("small", "base", "base", "verdict", 1, None, {}, {}, {})
    job = PackedJob(spec=spec, identity=Identity({}, 1, "", {}, {}), metric="")
    return zip_study(PackedStudy("small", "trap:train", (job,), versions, {"trap.py": PACKED_TRAP, **files}))


@pytest.mark.parametrize("place", ["../x.py", "/x.py", "a/../../x.py", "mlruns/mlflow.db", "C:x.py", "x\x1b[2J.py"])
@keeps(PACKED)
def test_a_packed_file_that_leads_out_is_refused(place: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "work.zip").write_bytes(packed_with({}, {place: b"x"}))
    code, _, err = command("work", tmp_path / "work.zip", "-o", tmp_path / "results.zip")
    assert code == 2
    assert "which no archive of work has" in err
    assert [path.name for path in tmp_path.iterdir()] == ["work.zip"]


@keeps(PACKED)
def test_no_code_of_a_packed_study_runs_under_other_versions(tmp_path: Path, command: Command) -> None:
    (tmp_path / "work.zip").write_bytes(packed_with({"numpy": "0.1"}, {}))
    code, _, err = command("work", tmp_path / "work.zip", "-o", tmp_path / "results.zip")
    assert code == 2
    assert "instead of 0.1" in err
    assert [path.name for path in tmp_path.iterdir()] == ["work.zip"]
    (tmp_path / "work.zip").write_bytes(packed_with({}, {}))
    code, out, _ = command("work", tmp_path / "work.zip", "-o", tmp_path / "results.zip")
    assert code == 2  # its key is none of this code
    assert "runs code of small's own, with your rights: trap.py" in out
    assert (tmp_path / "results.work/root/sprung").exists()  # the trap was a trap


# Reports ---------------------------------------------------------------------------------------------------------

REPORTS = "Reports hold names and texts as text"
LIVE = {"html_inline", "html_block"}
ATTACKS = [
    "<script>alert(1)</script>",
    r"\<script>alert(2)</script>",
    '<img src=x onerror="alert(3)">',
    r"\\<iframe src=http://evil.example></iframe>",
    "![p](http://evil.example/p.png)",
    r"!\[p\](http://evil.example/p.png)",
    "[l](javascript:alert(4))",
    r"[l\](http://evil.example)",
    "[r]: http://evil.example/r",
    "[r] and ![r] and [x][r]",
    "<http://evil.example> <javascript:alert(5)> <a@evil.example>",
    r"| a \| b \\| **better** |",
    "`<b>` ``\\<b>`` `",
    "&lt;script&gt;alert(6)&lt;/script&gt; &#60;b&#62;",
    r"\input{/etc/passwd} \write18{rm} ^^5cinput{x} %",
    r"}\end{document}\catcode`\@=11 $\frac{$ #1",
    "<!-- --> <?php ?> <![CDATA[ ]]> </td></tr></table><style>*{}</style>",
    "\"><svg/onload=alert(7)> '",
]


def attack(number: int) -> str:
    return ATTACKS[number % len(ATTACKS)]


def hostile(everywhere: int) -> dict[str, bytes]:
    """Return a report whose every text is an attack, beginning with this one."""
    from stn_bench.study.spec import Claim

    texts = iter(range(everywhere, everywhere + 100))
    arms = (
        arm("wide", {"model.width": 2.0}, published={"accuracy": 0.9}),
        arm("both", {"model.width": 0.5, "model.dropout": 0.1}, together=attack(next(texts))),
    )
    claims = (Claim(says=attack(next(texts)), asked=attack(next(texts)), arm="wide"),)
    asked = ablation(*arms, source=attack(next(texts)), claims=claims).model_copy(
        update={"title": attack(next(texts)), "question": attack(next(texts))}
    )
    planned = plan(
        asked,
        title=attack(next(texts)),
        scope=attack(next(texts)),
        max_failed=3,
        base={"data.fonts": (attack(next(texts)),)},
    )
    found = []
    for one in planned.arms:
        for spec in one.verdict_specs({}):
            made = record(spec, f"{one.name}{spec.seed}", test_accuracy=0.9 + 0.01 * spec.seed)
            libraries = {f"keras{attack(next(texts))}": attack(next(texts))}
            changes: dict[str, Any] = {
                "machine": {**made.machine, "processor": attack(next(texts))},
                "identity": type(made.identity)(**{**made.identity.__dict__, "libraries": libraries}),
                "uncounted": (attack(next(texts)),),
            }
            if one.name == "both" and spec.seed == 3:
                changes |= {"outcome": "crashed", "reason": attack(next(texts))}
            found.append(made.model_copy(update=changes))
    return report_of(planned, *found, formats=tuple(FORMATS))


def report_of(planned: Plan, *records: RunRecord, formats: tuple[str, ...]) -> dict[str, bytes]:
    """Return the report of these runs."""
    analysis = analyse(gather(planned, FakeStore(*records), Path("nowhere")))
    return build_report(analysis, lambda *_: Path("nowhere"), formats)


@pytest.fixture(scope="module", params=[0, 7], ids=str)
def report(request: pytest.FixtureRequest) -> dict[str, bytes]:
    return hostile(request.param)


class Page(HTMLParser):
    """The tags and the attributes of a page, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the tag and its attributes."""
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        self.words += data


KNOWN_TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title style body h1 h2 p ul li a code strong em div table thead tbody tr th td span img "
        "blockquote details summary",
    )
)


@keeps(REPORTS)
def test_html_has_no_script_and_nothing_of_elsewhere(report: dict[str, bytes]) -> None:
    page = Page(report["report.html"].decode())
    assert page.tags <= KNOWN_TAGS
    assert {name for name, _ in page.attributes} <= {
        "lang", "charset", "name", "content", "http-equiv", "id", "href", "src", "alt", "class", "style", "title",
    }  # fmt: skip
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert all(value.startswith("data:image/png;base64,") for name, value in page.attributes if name == "src")
    assert all(re.fullmatch("text-align:(left|right|center)", v) for n, v in page.attributes if n == "style")
    for text in ("alert(1)", "alert(2)", "alert(3)", "/etc/passwd"):
        assert text in page.words  # shown, not lost


def live(tokens: list[Token]) -> Iterator[str]:
    """Yield what is more than text in Markdown: HTML, and where links and pictures lead."""
    for token in tokens:
        if token.type in LIVE:
            yield token.content
        if token.type in ("link_open", "image"):
            yield str(token.attrGet("href") or token.attrGet("src") or "")
        yield from live(token.children or [])


def read_markdown(text: str) -> list[str]:
    """Return what is live in a page, as a site reads it that lets HTML pass."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    return list(live(parser.parse(text)))


FOLD = re.compile(r"(?:<details>\n<summary>([^<>&]*)</summary>|</details>)\n")
OURS = {
    "How to read this page", "How sure, and how fair", "Main effects and interactions of the factors", "By class",
    "Cost", "N more figure", "N more figures", "Every run", "Each claim, and what was asked here",
    "Remark: what was looked into", "Each word that changed", "All that the arms of many settings set",
    "Other metrics", "All arms in one figure", "Provenance", "More on the setting",
}  # fmt: skip
"""What folded parts are called, with N for a number: words of the template alone."""


@keeps(REPORTS)
def test_markdown_has_only_the_links_of_the_report_itself(report: dict[str, bytes]) -> None:
    own = {path for path in report if path.startswith("figures/")} | {
        "report.json", "runs.csv", "../../docs/statistics.md",
    }  # fmt: skip
    found = {target for target in read_markdown(report["report.md"].decode()) if not target.startswith("#")}
    assert {target for target in found if not FOLD.fullmatch(target)} == own
    titles = {match[1] for match in map(FOLD.fullmatch, found) if match and match[1]}
    assert {re.sub(r"\d+", "N", title) for title in titles} <= OURS


MARKS = "[]()<>!\\`|#:/*_&\"' ab.1-=~^@;"


@given(st.text(MARKS, max_size=40))
@example(r"\<b>")
@example(r"\\](a)")
@example("[a]: b")
@example(r"[a\]b]: c")
@example(r"`\<b>` <b>")
@example(r"\`<b>`")
@example(r"\\`<b>` `<b>")
@example(r"``<b>` <b>")
@keeps(REPORTS)
def test_any_text_is_text_in_markdown(text: str) -> None:
    for page in (plain(text), f"# {plain(text)}", f"- {plain(text)}", markdown_table(("x",), [(text,)])):
        assert [target for target in read_markdown(page) if not target.startswith("#")] == []


def code(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "code_inline":
            yield token.content
        yield from code(token.children or [])


@pytest.mark.parametrize("name", ["<unk>", "a](b)", "<!-- x", "[a]: b", "z\\", "x\\y", "<unk> a|b", "-->", "../../x"])
@keeps(REPORTS)
def test_what_is_set_as_code_is_shown_as_it_is(name: str) -> None:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    table = markdown_table(("arm",), [(f"`{name}`",)])
    assert list(code(parser.parse(plain(f"with `{name}` more; also `{name}`.")))) == [name, name]
    assert list(code(parser.parse(table))) == [name]


@given(st.lists(st.text(MARKS, max_size=9), max_size=5))
@example(["x`", "`<b>`"])
@example(["a ``", "`` <b>", "`"])
@example(["\\`", "`<b>` `"])
@keeps(REPORTS)
def test_no_text_makes_code_of_what_stands_beside_it(texts: list[str]) -> None:
    page = " x ".join(map(plain, texts))
    assert [target for target in read_markdown(page) if not target.startswith("#")] == []


@given(st.text(MARKS, max_size=20))
@example(r"a \| b")
@example("\\")
@keeps(REPORTS)
def test_any_text_stays_in_its_cell(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown_table(("x", "y"), [(text, "end")]))
    cells = [tokens[index + 1].content for index, token in enumerate(tokens) if token.type == "td_open"]
    assert len(cells) == 2
    assert cells[1] == "end"


@keeps(REPORTS)
def test_latex_has_no_command_of_a_text(report: dict[str, bytes]) -> None:
    asked = ablation(arm("wide", {"model.width": 2.0, "model.dropout": 0.1}, together="x"))
    planned = plan(asked, scope="x")
    specs = [(one, spec) for one in planned.arms for spec in one.verdict_specs({})]
    runs = [record(spec, f"{one.name}{spec.seed}", test_accuracy=0.9) for one, spec in specs]
    calm = report_of(planned, *runs, formats=("latex",))["report.tex"].decode()
    commands = re.compile(r"\\(?:[A-Za-z@]+|.)", re.DOTALL)
    known = set(commands.findall(calm)) | set(commands.findall(" ".join(ESCAPED.values()))) | {r"\textbf", r"\emph"}
    text = report["report.tex"].decode()
    assert set(commands.findall(text)) <= known
    assert text.count(r"\end{document}") == 1
    assert "^^" not in text
    body = text.partition(r"\begin{document}")[2]
    assert not re.search(r"(?<!\\)[%#]", body)


# Secrets ---------------------------------------------------------------------------------------------------------

SECRETS = "The password or token in the address of a store reaches no message"
VISIBLE = st.characters(min_codepoint=33, max_codepoint=126)
AROUND = st.sampled_from(["", "tracking store ", "('", "uri=", '"', "`", "error: (psycopg.OperationalError) "])
BEHIND = st.sampled_from(["", ": cannot be used", "')", '"', "`; start it", " (mail a.person@example.org)", "\nagain"])
SCHEMES = st.sampled_from(
    ["postgresql", "postgresql+psycopg", "mysql+pymysql", "mssql", "http", "https", "redis", "HTTPS"]
)
USERS = st.from_regex(r"[a-z0-9._%-]{0,8}(@[a-z]{1,5})?", fullmatch=True)
PATHS = st.sampled_from(["", "/", "/tracking", ":5432/tracking", "/db?sslmode=require", "/db?a=b&c=d#e"])
KEYS = [
    "password",
    "sslpassword",
    "token",
    "access_token",
    "PASSWORD",
    "client_secret",
    "api_key",
    "apikey",
    "pwd",
    "Pwd",
]


@given(AROUND, SCHEMES, USERS, st.text(VISIBLE, max_size=12), PATHS, BEHIND)
@example("", "postgresql", "me@srv", "/x@y:z?#", "/tracking", "")
@keeps(SECRETS)
def test_a_password_never_shows_and_its_host_always_does(
    around: str, scheme: str, user: str, password: str, path: str, behind: str
) -> None:
    secret = f"{HIDDEN}{password}"
    shown = without_secrets(f"{around}{scheme}://{user}:{secret}@db.example{path}{behind}")
    assert HIDDEN not in shown
    assert shown.endswith(f"@db.example{path}{behind}")
    assert without_secrets(shown) == shown


@given(
    AROUND,
    st.sampled_from(["http", "https", "HTTPS"]),
    st.from_regex(r"[\w.~%!$&'()*+,;=-]{0,9}", fullmatch=True),
    BEHIND,
)
@keeps(SECRETS)
def test_a_token_before_the_host_never_shows(around: str, scheme: str, token: str, behind: str) -> None:
    shown = without_secrets(f"{around}{scheme}://{HIDDEN}{token}@mlflow.example:80/x{behind}")
    assert HIDDEN not in shown
    assert "@mlflow.example:80/x" in shown


@given(AROUND, st.sampled_from(KEYS), st.text(VISIBLE, max_size=12).map(lambda text: text.replace("&", "")), BEHIND)
@example("", "password", "'ab'cd", "")
@keeps(SECRETS)
def test_a_secret_behind_the_question_mark_never_shows(around: str, key: str, value: str, behind: str) -> None:
    for secret in (f"{HIDDEN}{value}", f"{value}{HIDDEN}", f"'{HIDDEN} {HIDDEN}'"):
        shown = without_secrets(f"{around}postgresql://db.example/tracking?{key}={secret}&sslmode=require{behind}")
        assert HIDDEN not in shown
        assert "db.example" in shown


@pytest.mark.parametrize(
    "text",
    [
        "nobody answers at http://127.0.0.1:5000/api (connection refused); mail a@b.example",
        "postgresql://bench@db.example:5432/tracking",
        "sqlite:////tmp/mlruns/mlflow.db",
        "expected a name, got `../x`; file:///C:/x",
        "model.width = 2, seed = 3",
        "max_tokens of 5, a secretary, the password of the store",
    ],
)
@keeps(SECRETS)
def test_what_is_no_secret_is_left_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


def error_kinds(kind: type[errors.StnBenchError] = errors.StnBenchError) -> list[type[errors.StnBenchError]]:
    return [kind, *(one for child in kind.__subclasses__() for one in error_kinds(child))]


@pytest.mark.parametrize("kind", error_kinds(), ids=lambda kind: kind.__name__)
@keeps(SECRETS)
def test_no_error_of_ours_tells_a_password(kind: type[errors.StnBenchError]) -> None:
    error = kind(f"store postgresql://user:{HIDDEN}@db.example/x: gone")
    assert str(error) == "store postgresql://user:***@db.example/x: gone"
    assert HIDDEN not in repr(error)


def raise_chained() -> None:
    address = f"postgresql://user:{HIDDEN}@db.example/x"
    try:
        raise OSError(f"could not parse {address!r}")
    except OSError as error:
        raise RuntimeError(f"cannot open {address}") from error


@keeps(SECRETS)
def test_a_log_holds_no_password_of_any_error_in_a_chain() -> None:
    log = io.StringIO()
    try:
        raise_chained()
    except RuntimeError:
        traceback.print_exc(file=Discreet(log))  # type: ignore[arg-type]
    assert log.getvalue().count("db.example/x") == 2
    assert HIDDEN not in log.getvalue().replace("{HIDDEN}", "")


@keeps(SECRETS)
def test_a_fault_of_ours_tells_no_password(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("stn_bench.cli.app.app", raise_chained)
    with pytest.raises(RuntimeError) as raised:
        command("list")
    sys.excepthook(raised.type, raised.value, raised.tb)
    told = capsys.readouterr().err
    assert "RuntimeError: cannot open postgresql://user:***@db.example/x" in told
    assert HIDDEN not in told


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set addresses of stores at which nobody answers, with passwords."""
    address = f"postgresql+psycopg://bench:{HIDDEN}@127.0.0.1:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/tracking")
    monkeypatch.setenv("STN_BENCH_OPTUNA_URL", f"{address}/search?sslpassword={HIDDEN}")


@pytest.mark.parametrize(
    "line", [["status", "small"], ["status", "small", "--json"], ["report", "small"], ["run", "small"], ["gc"]]
)
@keeps(SECRETS)
def test_a_command_whose_store_is_not_there_tells_no_password(
    line: list[str], tmp_path: Path, command: Command, unreachable: None
) -> None:
    small = ["--set", "data.count=10", "--set", "data.validation=3", "--set", "data.test=3", "--set", "data.size=16"]
    settings = [] if line == ["gc"] else small
    code, out, error = command(*line, "--root", make_root(tmp_path), *settings)
    assert (code, "bench:***@127.0.0.1:1" in error) == (2, True)
    assert HIDDEN not in out + error
    assert len(error.strip().splitlines()) <= 2


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
@keeps(SECRETS)
def test_the_doctor_tells_no_password(options: list[str], tmp_path: Path, command: Command, unreachable: None) -> None:
    code, out, error = command("doctor", "--root", tmp_path, *options)
    assert code == 1
    assert out.count("bench:***@127.0.0.1:1") >= 4  # each store: where it is, and what is wrong
    assert HIDDEN not in out + error


@keeps(SECRETS)
def test_the_address_of_a_server_with_its_own_ui_is_told_without_its_password(
    tmp_path: Path, command: Command
) -> None:
    address = f"http://me:{HIDDEN}@mlflow.example:5000"
    code, out, _ = command("ui", "--root", tmp_path, "--tracking-uri", address)
    assert (code, out.strip()) == (0, "the store has its own UI: http://me:***@mlflow.example:5000")


@keeps(SECRETS)
def test_a_record_holds_no_password(tmp_path: Path) -> None:
    (spec,) = plan(ablation(arm("wide", {"model.width": 2.0}))).arms[0].verdict_specs({})[:1]
    tree = record(spec, "run", outcome="crashed").model_dump(mode="json")
    made = RunRecord.model_validate(tree | {"reason": f"OSError: postgresql://u:{HIDDEN}@db.example/x \x1b[2J"})
    assert made.reason == r"OSError: postgresql://u:***@db.example/x \x1b[2J"


@pytest.mark.slow
@keeps(SECRETS)
def test_the_address_of_the_store_is_in_no_command_of_the_server(served: Served) -> None:
    commands = [" ".join(process.cmdline()) for process in served.family()]
    assert len(commands) > 1
    assert not [line for line in commands if "sqlite" in line or "mlflow.db" in line]
