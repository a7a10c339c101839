"""Any function as a subject: its settings, its run keys, its data, and what cannot be used."""

from __future__ import annotations

import functools
import json
import math
import pickle
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest
from commands import call
from hypothesis import given
from hypothesis import strategies as st
from makers import ablation, arm, make_root, study, write
from pydantic import Field

from stn_bench.runner.job import LentRun
from stn_bench.settings import override
from stn_bench.study.catalogue import bundled_root
from stn_bench.study.load import load_plan
from stn_bench.study.plan import make_plan
from stn_bench.subject import Lent, Metric, find_subject, shipped_subjects
from stn_bench.subjects.function import settings_of, subject_of
from stn_bench.system import own_code
from stn_bench.system.errors import CatalogueError, ConfigError, DataError, Interrupted
from stn_bench.system.own_code import import_attribute
from stn_bench.system.unread import unread
from stn_bench.system.workspace import Workspace
from stn_bench.testing import SubjectContract
from stn_bench.tracking.identity import identify

if TYPE_CHECKING:
    from stn_bench.subject import Run

# The contract --------------------------------------------------------------------------------------------------------


def measure(*, seed: int, run: Run, depth: int = 4, widths: list[int] = [8, 4], epochs: int = 3) -> dict[str, float]:  # noqa: B006
    """Fit a line to what the seed draws, by its mean alone: an example that keeps the contract."""
    state = run.folder / "losses.json"
    losses: list[float] = json.loads(state.read_text()) if state.exists() else []
    for epoch in range(1, epochs + 1):
        if epoch > len(losses):
            losses.append(float(np.random.default_rng([seed, epoch, *widths]).normal(depth)))
            state.write_text(json.dumps(losses))
        run.log(epoch, {"train.loss": losses[epoch - 1]})
    return {"test.loss": np.float64(np.mean(losses))}


measure.curve = "train.loss"  # type: ignore[attr-defined]


class TestAFunction(SubjectContract):
    subject = find_subject("test_function:measure")


def test_the_module_of_functions_is_no_subject() -> None:
    assert shipped_subjects() == ("stn", "toy")


# Settings ------------------------------------------------------------------------------------------------------------


def paths(function: Callable[..., Any]) -> dict[str, Any]:
    return settings_of("m:train", function)().flat()


def test_settings_are_the_keyword_defaults() -> None:
    def train(seed, depth=4, *, rate=0.1, name="a", fast=False, sizes=[3, 4], limit: float | None = None):  # type: ignore[no-untyped-def] # noqa: B006
        return {}

    expected = {"depth": 4, "rate": 0.1, "name": "a", "fast": False, "sizes": (3, 4), "limit": None}
    assert paths(train) == expected


def test_values_are_those_of_the_annotation_where_there_is_one() -> None:
    def train(
        *,
        seed: int,
        rate: float = 1,
        kind: Literal["ridge", "lasso"] = "ridge",
        depth: Annotated[int, Field(ge=1)] = 2,
        sizes: list[int | float] | None = None,
        pair: tuple[int, str] = (1, "a"),
    ) -> dict[str, float]:
        return {}

    schema = settings_of("m:train", train)
    assert isinstance(schema().flat()["rate"], float)
    override(schema(), {"kind": "lasso", "sizes": [1, 2.5], "pair": [2, "b"], "rate": 3})
    for path, value in {"kind": "lars", "depth": 0, "sizes": ["a"], "pair": [1], "rate": "fast"}.items():
        with pytest.raises(ConfigError, match=rf"`{path}"):
            override(schema(), {path: value})


@pytest.mark.parametrize(("default", "other"), [(4, 0.5), (0.5, "a"), (True, 1), ("a", 1), ([1], [0.5]), ((1,), 1)])
def test_a_default_says_the_type(default: Any, other: Any) -> None:
    def train(*, seed: int, it=default) -> dict[str, float]:  # type: ignore[no-untyped-def]
        return {}

    with pytest.raises(ConfigError, match="`it"):
        override(settings_of("m:train", train)(), {"it": other})


FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCALAR = st.one_of(st.booleans(), st.integers(), FINITE, st.text())
LISTS = st.one_of(*(st.lists(one, min_size=1, max_size=4) for one in (st.integers(), FINITE, st.text(), SCALAR)))


@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}_[0-9]", fullmatch=True), st.one_of(SCALAR, LISTS), max_size=5))
def test_whatever_toml_holds_is_a_setting_and_reaches_the_function_as_it_was(values: Mapping[str, Any]) -> None:
    namespace: dict[str, Any] = {"defaults": values}
    parameters = "".join(f", {name}=defaults[{name!r}]" for name in values)
    exec(f"def train(*, seed{parameters}): got.update(locals()); return {{}}", namespace)
    got: dict[str, Any] = {}
    namespace["got"] = got
    subject = subject_of("m:train", namespace["train"])
    assert subject.paths == tuple(values)
    settings = subject.read({name: list(one) if isinstance(one, list) else one for name, one in values.items()})
    assert settings == subject.settings()
    subject.train(settings, 7, lent(Path()))
    assert got == {"seed": 7, **values}
    assert {name: type(one) for name, one in got.items() if name != "seed"} == {n: type(v) for n, v in values.items()}


def lent(folder: Path) -> LentRun:
    return LentRun("k", folder, folder, folder)


def test_settings_can_be_pickled() -> None:
    settings = find_subject("test_function:measure").read({"depth": 7})
    assert pickle.loads(pickle.dumps(settings)) == settings


def no_seed(depth: int = 4) -> None: ...
def positional(seed: int, /, depth: int = 4) -> None: ...
def no_default(*, seed: int, depth: int) -> None: ...
def of_a_path(*, seed: int, where=Path("x")) -> None: ...  # type: ignore[no-untyped-def]
def of_a_table(*, seed: int, options: dict[str, int] = {}) -> None: ...  # noqa: B006
def of_nothing(*, seed: int, limit=None) -> None: ...  # type: ignore[no-untyped-def]
def of_no_elements(*, seed: int, sizes=[]) -> None: ...  # type: ignore[no-untyped-def] # noqa: B006
def of_lists(*, seed: int, sizes: list[list[int]] = [[1]]) -> None: ...  # noqa: B006
def of_rest(*, seed: int, **more: int) -> None: ...
def of_a_method(*, seed: int, copy: bool = True) -> None: ...
def private(*, seed: int, _depth: int = 4) -> None: ...
def unknown_type(*, seed: int, depth: Nope = 4) -> None: ...  # type: ignore[name-defined] # noqa: F821
def wrong_type(*, seed: int, depth: int = 0.5) -> None: ...  # type: ignore[assignment]
def not_finite(*, seed: int, rate: float = math.nan) -> None: ...
def twice(*, seed: int, timeout: int = 3) -> None: ...
def of_a_number_of_numpys(*, seed: int, rate=np.float64(0.5)) -> None: ...  # type: ignore[no-untyped-def] # noqa: B008
def all_rest(*args: Any, **more: Any) -> None: ...
async def later(*, seed: int) -> None: ...
def bit_by_bit(*, seed: int) -> Iterator[float]:
    yield 1.0


async def bit_by_bit_later(*, seed: int) -> AsyncIterator[float]:
    yield 1.0


@functools.wraps(bit_by_bit)
def wrapped(*args: Any, **more: Any) -> Any: ...


twice.timeout = 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            no_seed,
            r"expected a parameter `seed`, as in `train\(\*, seed, depth=4\)`; got `no_seed\(depth: 'int' = 4\)`",
        ),
        (
            positional,
            r"expected .* got `positional\(seed: 'int', /, depth: 'int' = 4\)`; what stands before `/` cannot",
        ),
        (all_rest, "expected a parameter `seed`.*; if a decorator made it, give it `@functools.wraps"),
        (later, "expected a function that returns its metrics, got a coroutine; use `return`"),
        (bit_by_bit, "expected a function that returns its metrics, got a generator; use `return`"),
        (bit_by_bit_later, "expected a function that returns its metrics, got a"),
        (wrapped, "expected a function that returns its metrics, got a generator"),
        (of_a_number_of_numpys, r"parameter `rate`: expected int, float, .* got `rate=np.float64\(0.5\)`"),
        (no_default, "parameter `depth`: expected a default, since it is a setting"),
        (of_a_path, r"parameter `where`: expected int, float, str or bool, .* TOML can hold; got `where=PosixPath"),
        (of_a_table, r"parameter `options`: expected int, .* got `options: 'dict\[str, int\]' = {}`"),
        (of_nothing, "parameter `limit`: expected .*annotation such as `float | None`"),
        (of_no_elements, "parameter `sizes`: expected"),
        (of_lists, "parameter `sizes`: expected"),
        (of_rest, "parameter `more`: is given no value by name"),
        (of_a_method, "parameter `copy`: no setting can have this name; rename it"),
        (private, "parameter `_depth`: no setting can have this name"),
        (unknown_type, "parameter `depth`: its annotation cannot be read .*'Nope' is not defined"),
        (wrong_type, "parameter `depth`: input should be a valid integer, got 0.5"),
        (not_finite, "parameter `rate`: input should be a finite number, got nan"),
        (twice, "`timeout` is a parameter and an attribute"),
    ],
)
def test_a_function_that_is_no_subject_is_refused_in_a_line(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"`subject` m:f: {message}") as raised:
        subject_of("m:f", function)
    assert "\n" not in str(raised.value)


# What it says of itself ----------------------------------------------------------------------------------------------


def fresh(**attributes: Any) -> Any:
    """Return a function with these attributes."""

    def train(*, seed: int, run: Run, depth: int = 4) -> dict[str, float]:
        return {"size": float((run.data / "one.txt").stat().st_size)}

    for name, value in attributes.items():
        setattr(train, name, value)
    return train


def test_a_time_limit_is_a_setting_that_changes_no_run_key() -> None:
    subject = subject_of("m:limited", fresh(timeout=60))
    assert (subject.timeout, subject.paths) == ("timeout", ("depth", "timeout"))
    assert subject.read({"timeout": 5.0}).canonical() == subject.settings().canonical()


def prepare(folder: Path) -> None:
    (folder / "one.txt").write_text("one")


def prepare_more(folder: Path) -> None:
    (folder / "one.txt").write_text("more")


def test_data_are_made_once_and_the_training_finds_them(tmp_path: Path) -> None:
    calls: list[Path] = []

    def counted(folder: Path) -> None:
        calls.append(folder)
        prepare(folder)

    subject = subject_of("m:made", fresh(prepare=counted))
    assert subject.prepare
    assert subject.fingerprint
    assert subject.fingerprint(subject.settings(), tmp_path) is None
    for _ in range(2):
        subject.prepare([subject.settings()], Lent(tmp_path))
    assert len(calls) == 1
    assert len(list(tmp_path.iterdir())) == 1
    assert len(subject.fingerprint(subject.settings(), tmp_path) or "") == 64
    assert subject.train(subject.settings(), 1, lent(tmp_path)) == {"size": 3.0}


def test_another_way_to_make_the_data_makes_them_anew(tmp_path: Path) -> None:
    found = set()
    for one in (prepare, prepare_more):
        subject = subject_of("m:anew", fresh(prepare=one))
        assert subject.prepare
        assert subject.fingerprint
        subject.prepare([subject.settings()], Lent(tmp_path))
        found.add(subject.fingerprint(subject.settings(), tmp_path))
    assert len(found) == len(list(tmp_path.iterdir())) == 2


def test_a_file_that_changes_changes_the_fingerprint(tmp_path: Path) -> None:
    subject = subject_of("m:read", fresh(data=(tmp_path / "a.csv", tmp_path / "folder")))
    assert subject.fingerprint
    with pytest.raises(DataError, match=r"`data`: no file or folder .*a\.csv"):
        subject.fingerprint(subject.settings(), tmp_path)
    found = []
    for a, b in (("1", "2"), ("1", "2"), ("11", "2"), ("1", "22")):
        write(tmp_path / "a.csv", a)
        write(tmp_path / "folder/b.csv", b)
        found.append(subject.fingerprint(subject.settings(), tmp_path))
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_fingerprint_of_its_own_is_taken(tmp_path: Path) -> None:
    versions = ["v1", "v1", "v2"]
    subject = subject_of("m:known", fresh(fingerprint=lambda folder: versions.pop(0)))
    assert subject.fingerprint
    found = [subject.fingerprint(subject.settings(), tmp_path) for _ in range(3)]
    assert found[0] == found[1] != found[2]


def test_what_its_prepare_raises_is_told_by_its_own_lines(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        raise OSError("no network")

    subject = subject_of("m:broken", fresh(prepare=broken))
    assert subject.prepare
    with pytest.raises(
        DataError, match=r"its `prepare` failed \(OSError: no network\)\n  .*test_function.py:\d+: "
    ) as one:
        subject.prepare([subject.settings()], Lent(tmp_path))
    assert len(str(one.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"prepare": 3}, "`prepare`: expected a function of a folder, got 3"),
        ({"fingerprint": "x"}, "`fingerprint`: expected a function of a folder, got 'x'"),
        ({"curve": 3}, "`curve`: expected the name of a metric, got 3"),
        ({"timeout": "long"}, "`timeout`: input should be a valid number, got 'long'"),
    ],
)
def test_an_attribute_of_another_type_is_refused(attributes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        subject_of("m:odd", fresh(**attributes))


# Run keys ------------------------------------------------------------------------------------------------------------

MODULE = '''
import numpy as np
from {name}_beside import SCALE

NOISE = 0.1  # how much
OTHER = 1


def decorated(function):
    return function


@decorated
def train(*, seed, run=None, depth=4, rate=0.5):
    """Return the error."""
    return {{"test.error": abs(rate - 0.1) + NOISE * np.random.default_rng(seed).normal() * SCALE / depth}}


fit = lambda *, seed, rate=0.5: {{"test.error": NOISE}}
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a module under a name of its own, which stays loaded, and return the name."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(text: str = MODULE, beside: str = "SCALE = 1.0\n") -> str:
        name = f"own_{tmp_path.name}_{len(list(tmp_path.iterdir()))}".replace("-", "_")
        write(tmp_path / f"{name}_beside.py", beside)
        write(tmp_path / f"{name}.py", text.format(name=name))
        return name

    return make


def key(name: str, attribute: str = "train") -> dict[str, str]:
    """Return the digests of a function's code, by name in its module, and the libraries of its key."""
    subject = find_subject(f"{name}:{attribute}")
    identity = identify(subject, subject.settings().flat(), 1, "")
    return {one.replace(name, "it"): digest for one, digest in (identity.code | identity.libraries).items()}


def test_the_run_key_follows_the_function_and_its_module(module: Callable[..., str]) -> None:
    before = key(module())
    assert {one.partition(":")[2] for one in before} >= {"train", "NOISE", "SCALE", "decorated"}
    assert "numpy" in before
    for old, new in (
        ("NOISE = 0.1", "NOISE = 0.2"),
        ("rate - 0.1", "rate - 0.2"),
        ("return function", "return function or None"),
    ):
        after = key(module(MODULE.replace(old, new)))
        assert after.keys() == before.keys()
        assert after != before
    assert key(module(beside="SCALE = 2.0\n")) != before


@pytest.mark.parametrize(("old", "new"), [("# how much", "# how little"), ("Return the", "The"), ("OTHER = 1", "")])
def test_a_comment_changes_no_run_key(module: Callable[..., str], old: str, new: str) -> None:
    assert key(module(MODULE.replace(old, new))) == key(module())


def test_a_function_without_a_name_is_followed_too(module: Callable[..., str]) -> None:
    assert key(module(), "fit") != key(module(MODULE.replace("NOISE = 0.1", "NOISE = 0.2")), "fit")


# Importing it --------------------------------------------------------------------------------------------------------

STUDY = 'title = "Own"\nsubject = "{name}"\nablations = ["depth"]\nseeds = [1, 2, 3]\nmetric = "test.error"\n'
STUDY += 'direction = "minimize"\n'
ABLATION = 'title = "Depth"\nquestion = "Does depth matter?"\n[arms.deep]\nset = { depth = 8 }\n'


def own_root(folder: Path, name: str, text: str) -> Path:
    """Return a root with a study of the function `train` of a module, whose name no other test has."""
    write(folder / f"{name}.py", text)
    return make_root(folder, study=STUDY.format(name=f"{name}:train"), ablation=ABLATION)


GOOD = "def train(*, seed, depth=4):\n    return {'test.error': seed + (1 + seed / 100) / depth}\n"


def test_what_a_module_prints_spoils_no_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own_root(tmp_path, "own_talkative", f"print('hello')\n{GOOD}")
    assert call("plan", "small", "--json", "--root", root) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["metric"] == "test.error"
    assert err == "hello\n"


@pytest.mark.parametrize(
    ("name", "text", "message", "lines"),
    [
        ("own_raises", "X = 1\nLIMIT = X / 0\n", "(ZeroDivisionError: division by zero)", ["2: LIMIT = X / 0"]),
        ("own_typo", "def train(:\n", "(SyntaxError: ", ["1: def train(:"]),
        ("own_lacks", "import no_such_thing\n", "No module named 'no_such_thing')", ["1: import no_such_thing"]),
        ("own_ends", "import sys\nsys.exit(3)\n", "(SystemExit: 3)", ["2: sys.exit(3)"]),
        (
            "own_library",
            "import numpy as np\ndef f():\n    return np.zeros(3).reshape(2)\nf()\n",
            "(ValueError: cannot reshape",
            ["4: f()", "3: return np.zeros(3).reshape(2)"],
        ),
        ("own_other", "def trian(*, seed): ...\n", "`own_other` has no `train`. Did you mean `trian`?", []),
        ("own_class", "class train: ...\n", "expected a Subject or a function, got type; write a function", []),
        ("own_none", "train = None\n", "expected a Subject or a function, got NoneType", []),
        ("own_seedless", "def train(depth=4): ...\n", "expected a parameter `seed`", []),
    ],
)
def test_a_module_that_cannot_be_used_is_told_by_its_own_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str, lines: list[str]
) -> None:
    root = own_root(tmp_path, name, text)
    assert call("plan", "small", "--root", root) == 2
    out, err = capsys.readouterr()
    first, *rest = err.splitlines()
    assert out == ""
    assert message in first
    assert f"`subject` {name}:train: " in first
    assert rest == [f"  {tmp_path / name}.py:{line}" for line in lines]


def test_an_error_of_ours_in_a_module_keeps_its_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is longer than a message quotes of other errors."""
    monkeypatch.syspath_prepend(tmp_path)
    raised = f"raise ConfigError('{'long ' * 40}. Did you mean `accuracy`?')\n"
    write(tmp_path / "own_advised.py", f"from stn_bench.system.errors import ConfigError\n{raised}")
    with pytest.raises(ConfigError) as one:
        import_attribute("own_advised:train", "`subject` x")
    first, line = str(one.value).splitlines()
    assert first.startswith("`subject` x: long long ")
    assert first.endswith("Did you mean `accuracy`?")
    assert line.startswith(f"  {tmp_path}/own_advised.py:2: ")


def test_an_import_that_takes_long_says_so_once_and_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(own_code, "SLOW_SECONDS", 0.05)
    write(tmp_path / "own_waits.py", f"import time\ntime.sleep(0.5)\n{GOOD}")
    import_attribute("own_waits:train", "`subject`")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "still importing `own_waits`" in err
    assert '`if __name__ == "__main__":`' in err
    monkeypatch.setattr(own_code, "SLOW_SECONDS", 60.0)
    import_attribute("own_waits:train", "`subject`")  # again, and at once
    assert capsys.readouterr().err == ""


def test_the_origin_of_an_error_is_its_innermost_own_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "own_places.py", "def f(x):\n    return 1 / x\n\ndef g(x):\n    return int(x)\n")
    f, g = (import_attribute(f"own_places:{name}", "") for name in "fg")

    def origin(function: Callable[[Any], Any], value: Any) -> str:
        with pytest.raises((ZeroDivisionError, ValueError)) as one:
            function(value)
        try:
            raise ConfigError("said again") from one.value
        except ConfigError as error:
            return own_code.origin(error)

    assert origin(f, 0) == origin(f, 0.0) == f"ZeroDivisionError {tmp_path}/own_places.py:2"
    assert origin(g, "a") == origin(g, "b") == f"ValueError {tmp_path}/own_places.py:5"


def test_ctrl_c_during_an_import_is_no_error_of_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "own_slow.py", "from stn_bench.system.errors import Interrupted\nraise Interrupted('stopped')\n")
    with pytest.raises(Interrupted):
        import_attribute("own_slow:train", "`subject`")


def test_a_file_for_a_module_is_told_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "own_file.py", GOOD)
    with pytest.raises(ConfigError, match="name the module, `own_file`"):
        import_attribute("own_file.py:train", "`subject`")


@pytest.mark.parametrize("address", ["own:", ":train"])
def test_half_an_import_path_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="expected an import path, `module:attribute`"):
        import_attribute(address, "`subject`")


# Training it ---------------------------------------------------------------------------------------------------------


def test_a_metric_that_it_does_not_return_stops_the_study_at_the_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = own_root(tmp_path, "own_misnamed", GOOD.replace("test.error", "test.eror"))
    assert call("run", "small", "--workers", "1", "--root", root) == 2
    out, err = capsys.readouterr()
    assert err == (
        "stn-bench: subject `own_misnamed:train`: study `small` asks for metric `test.error`, which training did not "
        "return. Did you mean `test.eror`? It returned: test.eror\n"
    )
    assert out.count("interrupted") == 1
    call("status", "small", "--json", "--root", root)
    told = json.loads(capsys.readouterr().out)
    assert told["finished"] == 0
    assert all(one["crashed"] == 0 for one in told["arms"])
    sys.modules.pop("own_misnamed", None)
    write(root / "own_misnamed.py", GOOD)  # put right, it goes on
    assert call("run", "small", "--workers", "1", "--root", root) == 0
    assert "better: with depth = 8 (deep) test error falls by 0.1275" in capsys.readouterr().out
    small = (root / "studies/small.toml").read_text(encoding="utf-8")
    write(root / "studies/other.toml", small.replace("test.error", "test.eror"))
    for command in (("run", "--workers", "1"), ("status",), ("plan",), ("report",)):  # of the same runs
        assert call(command[0], "other", *command[1:], "--root", root) == 2
        assert capsys.readouterr().err == (
            "stn-bench: study `other`: `metric`: none of its finished runs returned `test.eror`. Did you mean "
            "`test.error`? They returned: test.error\n"
        )
    assert not (root / "reports/other").exists()


def test_a_metric_that_only_some_arms_returned_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """def train(*, seed, depth=4):
    found = {"test.error": 0.1 * depth + 0.01 * seed}
    return found | ({"test.deep": 1.0 * seed} if depth > 4 else {})
"""
    root = own_root(tmp_path, "own_sometimes", text)
    assert call("run", "small", "--workers", "1", "--root", root) == 0
    small = (root / "studies/small.toml").read_text(encoding="utf-8")
    write(root / "studies/other.toml", small.replace("test.error", "test.deep"))
    capsys.readouterr()
    for command in ("run", "plan", "report"):
        assert call(command, "other", "--root", root) == 2
        assert capsys.readouterr().err == (
            "stn-bench: study `other`: `metric`: finished runs of base did not return `test.deep`. Did you mean "
            "`test.error`? They returned: test.error\n"
        )


def test_the_readme_s_function_runs_as_it_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (bundled_root() / "README.md").read_text(encoding="utf-8")
    told = readme.partition("### Ask about any function\n")[2].partition("\n### ")[0]
    files = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", told, re.DOTALL)
    assert [name for name, _ in files] == ["waves.py", "studies/waves.toml", "ablations/degree.toml"]
    for name, text in files:
        write(tmp_path / name, text)
    (command,) = re.findall(r"```\nstn-bench (.*)\n```", told)
    assert call(*command.split(), "--workers", 1, "--root", tmp_path) == 0
    assert "better: with degree = 3 (cubic) test error falls by" in capsys.readouterr().out
    (tuning,) = re.findall(r"```toml\n(\[tuning\]\n.*?)```", told, re.DOTALL)
    trained = files[0][1].replace("degree=1", "degree=1, rate=0.01")
    trained = trained.replace("return {", 'return {"validation.error": rate, ')
    write(tmp_path / "tuned_waves.py", trained)
    write(tmp_path / "studies/tuned.toml", files[1][1].replace("waves:", "tuned_waves:") + tuning)
    plan = load_plan("tuned", Workspace.at(tmp_path))
    first, second = ([trial.chosen["rate"] for trial in arm.tuning_specs()] for arm in plan.arms)
    assert first == second
    assert len(set(first)) == 8
    assert all(1e-3 <= rate <= 1e-1 for rate in first)
    assert (plan.tuning[0].name, plan.tuning[0].direction) == ("validation.error", "minimize")


# Metrics -------------------------------------------------------------------------------------------------------------


def test_a_function_may_say_what_its_metrics_are() -> None:
    def train(*, seed: int) -> dict[str, float]:
        return {}

    error = Metric("test.error", "how often it is wrong", "minimize", "fraction")
    curve = Metric("train.error", "how often it is wrong while training", "minimize")
    train.metrics, train.curve = [error, curve], "train.error"  # type: ignore[attr-defined]
    subject = subject_of("m:train", train)
    assert (subject.metrics, subject.curve) == ((error, curve), curve)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("test.error", "`metrics`: expected a list of stn_bench.subject.Metric, got 'test.error'"),
        (["test.error"], "`metrics`: expected a list of stn_bench.subject.Metric, got ['test.error']"),
        ([Metric("a"), Metric("a")], "`metrics`: expected each once, got `a` more than once"),
    ],
)
def test_what_are_no_metrics_is_refused(metrics: Any, message: str) -> None:
    def train(*, seed: int) -> dict[str, float]:
        return {}

    train.metrics = metrics  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=re.escape(message)):
        subject_of("m:train", train)


def test_a_misspelt_attribute_is_told_and_others_are_left_alone() -> None:
    def train(*, seed: int) -> dict[str, float]:
        return {"test.score": 1.0}

    train.mine = 3  # type: ignore[attr-defined]
    assert subject_of("m:mine", train).timeout == ""
    train.tiemout = 600.0  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"no attribute `tiemout` is read\. Did you mean `timeout`\?"):
        subject_of("m:misspelt", train)


# What nothing reads --------------------------------------------------------------------------------------------------


def reads_some(*, seed: int, depth: int = 4, rate: float = 0.5, width: int = 3, name: str = "a") -> dict[str, float]:
    rate = 0.5 * depth  # what was given is gone
    return {"skill": sum(width * one for one in range(3)) + (lambda: rate)()}


def reads_all(*, seed: int, depth: int = 4) -> dict[str, float]:
    return dict(locals())


def reads_within(*, seed: int, depth: int = 4) -> dict[str, float]:
    def deeper() -> float:
        return float(depth)

    return {"skill": deeper()}


@functools.wraps(reads_some)
def decorated(*, name: str, **given: Any) -> dict[str, float]:
    return reads_some(**given, name=name)


@pytest.mark.parametrize(
    ("function", "idle"),
    [(reads_some, {"name", "seed"}), (reads_all, set()), (reads_within, {"seed"}), (decorated, set())],
)
def test_which_parameters_a_function_never_reads(function: Any, idle: set[str]) -> None:
    assert unread(function) == idle


def test_an_arm_that_sets_what_the_function_never_reads_is_refused_unless_it_is_meant() -> None:
    subject = subject_of("test_function:reads_some", reads_some)
    asked = study(subject=subject.name, metric="skill", direction="maximize")
    with pytest.raises(CatalogueError, match="`name` has no effect here: `reads_some` never reads it; leave it out"):
        make_plan(asked, (ablation(arm("b", {"name": "b"})),), subject)
    assert make_plan(asked, (ablation(arm("b", {"name": "b"}, no_effect="shows what noise does")),), subject).arms
    assert make_plan(asked, (ablation(arm("b", {"width": 4})),), subject).arms
