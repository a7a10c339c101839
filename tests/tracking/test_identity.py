from __future__ import annotations

import ast
import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from makers import STN, write

import stn_bench.subjects.stn
from stn_bench.settings import override
from stn_bench.study.schema import setting_schemas
from stn_bench.subject import Subject
from stn_bench.subjects.stn.config import Config
from stn_bench.system.errors import ConfigError
from stn_bench.tracking import code
from stn_bench.tracking.identity import Identity, differences, identify

OURS = replace(STN, code=("mine",))
"""The subject, as if `mine` were its own package, whose registries are chosen from by the settings alone."""

DATASET = "d" * 64
MODEL = '''
    """A model of one's own."""
    from mine.layers import block

    RATE = 0.5


    def build(config):
        """Return the model."""
        return block(config.model.width, RATE)  # two of them


    def unused():
        return 1
'''
LAYERS = """
    BUILDERS = {"relu": lambda x: x, "gelu": lambda x: 2 * x}


    def block(width, rate):
        return helper(width) * rate + BUILDERS["relu"](1)


    def helper(x):
        return x + 1
"""
Key = Callable[..., str]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    code.forget()
    for name in ("mine", "bare"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Key:
    """Write the package `mine` and return the run key of a configuration whose factory lies there."""
    monkeypatch.syspath_prepend(tmp_path)

    def of(
        model: str = MODEL,
        layers: str = LAYERS,
        factory: str = "mine.model:build",
        subject: Subject = STN,
        **overrides: object,
    ) -> str:
        write(tmp_path / "mine/__init__.py", "")
        write(tmp_path / "mine/model.py", textwrap.dedent(model))
        write(tmp_path / "mine/layers.py", textwrap.dedent(layers))
        forget()
        settings = {path.replace("__", "."): value for path, value in overrides.items()}
        return identity_of({"model.factory": factory, **settings}, subject).run_key

    return of


def identity_of(overrides: Mapping[str, object] = {}, subject: Subject = STN) -> Identity:
    """Return the identity of a run of these settings, with seed 1."""
    settings = override(Config(), overrides).resolved().flat()
    return identify(subject, settings, 1, DATASET)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# two of them", "# one of them"),
        ('"""Return the model."""', '"""Return something else."""'),
        ("block(config.model.width, RATE)", "block(\n        config.model.width,\n        RATE,\n    )"),
        ("def unused():\n        return 1", "def unused():\n        return 2"),
        ("RATE = 0.5", "\n\n\n    RATE = 0.50"),
        ("    from mine.layers import block\n", "    import os\n    from mine.layers import block\n"),
    ],
    ids=["comment", "docstring", "line break", "unused function", "another spelling", "unused import"],
)
def test_key_stays_where_nothing_that_runs_has_changed(key: Key, old: str, new: str) -> None:
    assert MODEL.count(old) == 1
    assert key(model=MODEL.replace(old, new)) == key()


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"# coding: latin-1\n# \xe9\n"], ids=["mark", "latin-1"])
def test_code_is_read_as_python_reads_it(key: Key, tmp_path: Path, mark: bytes) -> None:
    before = key()
    file = tmp_path / "mine/model.py"
    file.write_bytes(mark + file.read_bytes())
    forget()
    assert identity_of({"model.factory": "mine.model:build"}).run_key == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 0.5", "RATE = 0.25"),
        ("config.model.width, RATE", "RATE, config.model.width"),
        ("return block(", "return 1 + block("),
    ],
    ids=["constant", "order of arguments", "expression"],
)
def test_key_changes_with_the_factorys_code(key: Key, old: str, new: str) -> None:
    assert key(model=MODEL.replace(old, new)) != key()


def test_key_changes_with_what_the_factory_calls_in_another_module(key: Key) -> None:
    assert key(layers=LAYERS.replace("x + 1", "x + 2")) != key()


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("from mine.layers import block as make", "make"),
        ("import mine.layers as parts", "parts.block"),
        ("from mine import layers", "layers.block"),
        ("import mine.layers", "mine.layers.block"),
        ("from .layers import block", "block"),
        ("from . import layers", "layers.block"),
        ("from .layers import *", "block"),
    ],
)
def test_every_form_of_import_is_followed(key: Key, line: str, call: str) -> None:
    model = MODEL.replace("from mine.layers import block", line).replace("return block(", f"return {call}(")
    assert key(model=model, layers=LAYERS.replace("x + 1", "x + 2")) != key(model=model)


def test_import_inside_a_function_is_followed(key: Key) -> None:
    model = "def build(config):\n    from mine.layers import block\n    return block(1, 2)\n"
    assert key(model=model, layers=LAYERS.replace("x + 1", "x + 2")) != key(model=model)


@pytest.mark.parametrize(
    "model",
    [
        "if True:\n    def build(config):\n        return 1\n",
        "PARTS = {}\nPARTS['x'] = 1\n\ndef build(config):\n    return PARTS\n",
        "PARTS = []\nPARTS.append(1)\n\ndef build(config):\n    return PARTS\n",
        "first, second = 0, 1\n\ndef build(config):\n    return second\n",
        "def build(config):\n    return LATER\n\nfor LATER in range(1):\n    pass\n",
    ],
    ids=["condition", "item", "call", "unpacking", "loop"],
)
def test_top_level_code_that_is_no_plain_definition_counts(key: Key, model: str) -> None:
    assert key(model=model.replace("1", "7")) != key(model=model)


def test_a_package_without_init_is_followed(key: Key, tmp_path: Path) -> None:
    write(tmp_path / "bare/model.py", "from bare import parts\n\ndef build(config):\n    return parts.width()\n")
    write(tmp_path / "bare/parts.py", "def width():\n    return 1\n")
    before = key(factory="bare.model:build")
    write(tmp_path / "bare/parts.py", "def width():\n    return 2\n")
    assert key(factory="bare.model:build") != before


def test_a_module_beside_the_factory_is_followed(key: Key, tmp_path: Path) -> None:
    write(tmp_path / "alone.py", "import helping\n\ndef build(config):\n    return helping.width()\n")
    write(tmp_path / "helping.py", "def width():\n    return 1\n")
    before = key(factory="alone:build")
    write(tmp_path / "helping.py", "def width():\n    return 2\n")
    assert key(factory="alone:build") != before


def test_nothing_of_the_factorys_is_imported(key: Key) -> None:
    key(model="raise RuntimeError\n\ndef build(config):\n    return 1\n")
    assert "mine" not in sys.modules


def test_every_statement_that_changes_a_name_counts(key: Key) -> None:
    model = "RATE = 1\nRATE = RATE + 5\n\ndef build(config):\n    return RATE\n"
    assert key(model=model.replace("RATE = 1", "RATE = 2")) != key(model=model)


def test_a_dict_in_the_factorys_code_counts_whole(key: Key) -> None:
    model = "SIZES = {'filters': 1}\n\ndef build(config):\n    return SIZES['filters']\n"
    assert key(model=model.replace("1", "2")) != key(model=model)


def test_entries_of_a_registry_that_the_configuration_does_not_name_do_not_matter(key: Key) -> None:
    assert key(layers=LAYERS.replace("2 * x", "3 * x"), subject=OURS) == key(subject=OURS)


def test_entries_of_a_registry_that_the_configuration_names_matter(key: Key) -> None:
    changed = LAYERS.replace("2 * x", "3 * x")
    named: dict[str, Any] = {"subject": OURS, "model__activation": "gelu"}
    assert key(layers=changed, **named) != key(**named)


def test_builders_behind_unused_entries_are_not_followed(key: Key) -> None:
    layers = LAYERS.replace("lambda x: 2 * x", "slow") + "\n\n    def slow(x):\n        return 5\n"
    assert key(layers=layers.replace("return 5", "return 6"), subject=OURS) == key(layers=layers, subject=OURS)


def test_our_registries_hold_nothing_that_a_setting_cannot_name() -> None:
    """An entry that no setting names would be left out of every identity."""
    values = {value for schema in setting_schemas(STN).values() for value in schema.get("enum", ())}
    package = Path(stn_bench.subjects.stn.__file__).parent
    modules = {name.partition(":")[0] for name in identity_of().code if not name.startswith("stn_bench.")}
    assert {"nn.blocks", "nn.optimizers", "data.correction"} <= modules
    for file in (package / f"{name.replace('.', '/')}.py" for name in sorted(modules)):
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Dict):
                keys = {key.value for key in statement.value.keys if isinstance(key, ast.Constant)}
                assert keys <= values, f"{file.name}: {ast.unparse(statement)}"


def test_a_module_that_is_not_there_is_named(key: Key) -> None:
    with pytest.raises(ConfigError, match=r"`model\.factory`: no Python module `mine\.modle` can be found"):
        key(factory="mine.modle:build")


def test_a_function_that_is_not_there_is_named(key: Key) -> None:
    with pytest.raises(ConfigError, match=r"`model.factory`: `mine.model` has no `biuld`"):
        key(factory="mine.model:biuld")


def test_our_own_code_is_followed_from_train() -> None:
    digests = identity_of().code
    assert {"hooks:train", "stn_bench.subjects.keras_training.training:fitted"} <= digests.keys()
    assert any(name.startswith("nn.transformer:SpatialTransformer") for name in digests)


def test_settings_of_another_network_reach_other_code() -> None:
    assert identity_of({"model.norm.kind": "none"}).code != identity_of().code


def test_the_digest_does_not_lean_on_asts_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ast.dump` and `ast.unparse` write the same tree differently in different versions of Python."""

    def refuse(*args: object, **kwargs: object) -> str:
        raise AssertionError("used")

    monkeypatch.setattr(ast, "dump", refuse)
    monkeypatch.setattr(ast, "unparse", refuse)
    assert identity_of().code


def test_fields_that_only_some_versions_of_python_have_do_not_count() -> None:
    """Python 3.12 gave functions and classes `type_params`, empty for nearly all."""
    node = ast.parse("def f(x):\n    return x\n").body[0]
    names = {name for name, _ in code._tree(node)[1:]}
    assert names == {"name", "args", "body"}


def test_a_changed_default_changes_the_key() -> None:
    changed = identity_of({"model.dropout": 0.3})  # what `Config()` would be with that default
    assert changed.run_key != identity_of().run_key


def test_settings_hold_every_path_and_not_the_difference_alone() -> None:
    """But what came later, and changes nothing at its default."""
    assert identity_of().settings.keys() == Config().flat().keys() - {"train.timeout"} - Config.later.keys()


def test_how_long_a_run_is_waited_for_is_no_part_of_it() -> None:
    patient, hasty = (identity_of({"train.timeout": seconds}) for seconds in (None, 60.0))
    assert patient.run_key == hasty.run_key


def test_writing_a_default_out_does_not_change_the_key() -> None:
    written = override(Config(), Config().resolved().flat())
    assert identify(STN, written.resolved().flat(), 1, DATASET).run_key == identity_of().run_key


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"dataset": "e" * 64},
        {"libraries": {"keras": "0"}},
        {"start": "s" * 64},
        {"code": {}},
        {"settings": {}},
    ],
)
def test_key_changes_with_every_part(change: dict[str, object]) -> None:
    one = identity_of()
    assert replace(one, **change).run_key != one.run_key  # type: ignore[arg-type]


def test_key_is_64_hexadecimal_digits() -> None:
    assert len(bytes.fromhex(identity_of().run_key)) == 32


@pytest.mark.parametrize(("backend", "library"), [("", "tensorflow"), ("tensorflow", "tensorflow"), ("jax", "jaxlib")])
def test_versions_of_the_backend_that_trains_count(
    monkeypatch: pytest.MonkeyPatch, backend: str, library: str
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert {"keras", "numpy", library} <= set(identity_of().libraries)


def test_differences_names_each_part_that_changed() -> None:
    old = Identity({"a.b": 1, "c": 2}, 1, "d" * 64, {"m:f": "e" * 64}, {"keras": "3.15.0"})
    new = Identity({"a.b": 3, "c": 2}, 2, "f" * 64, {"m:g": "e" * 64}, {"keras": "3.16.0"})
    assert differences(old, new) == [
        "settings a.b: was 1, is 3",
        "seed: was 1, is 2",
        "dataset: was dddddddddddd, is ffffffffffff",
        "code m:f: was eeeeeeeeeeee, is not there",
        "code m:g: was not there, is eeeeeeeeeeee",
        "libraries keras: was '3.15.0', is '3.16.0'",
    ]


def test_same_identities_have_no_difference() -> None:
    assert differences(identity_of(), identity_of()) == []
