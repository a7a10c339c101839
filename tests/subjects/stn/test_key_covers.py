"""Whether a run key knows all that a training runs: what ran, and what it names, is changed piece by piece."""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FrameType

import pytest
from lent import SMALL, LentRun

import stn_bench
from stn_bench.settings import Group, override
from stn_bench.subject import Lent
from stn_bench.subjects.stn import subject
from stn_bench.subjects.stn.config import Config
from stn_bench.tracking import code, identity
from stn_bench.tracking.identity import identify

PACKAGE = "stn_bench.subjects.stn"
KERAS = "stn_bench.subjects.keras_training"
ROOT = Path(stn_bench.__file__).parent.parent
HOMES = tuple(str(ROOT.joinpath(*package.split("."))) for package in (PACKAGE, KERAS))
ONE_EPOCH = {**SMALL, "train.epochs": 1}
OTHER = {
    "data.shapes": "varied",
    "data.correction.kind": "opencv",
    "model.input_range": "[-1,1]",
    "model.transformer.sampler": "article",
    "model.transformer.shared_blocks": 1,
    "model.downsampling": "blur_pool",
    "model.norm.kind": "batch",
    "model.norm.position": "before",
    "model.activation": "gelu",
    "model.scores": "relu",
    "optimizer.name": "sgd",
    "optimizer.schedule": "cosine",
    "optimizer.warmup_epochs": 0.5,
    "optimizer.weight_decay": 0.01,
    "optimizer.averaging": 0.5,
    "train.weights": "last",
    "train.label_smoothing": 0.1,
    "train.augmentation.rotation": 20.0,
    "train.augmentation.contrast": 0.2,
    "train.augmentation.noise": 0.05,
    "train.validation": "shuffled_cut",
    "data.count": 59,
    "data.validation": 20,
}
"""Another value than the default for what names a part of the network or of its training."""

TRAININGS = {"default": {}, "other": OTHER}

UNKEYED = {
    "config:Config._check": "it refuses settings; those that it lets pass are in the key by their values",
    "config:DataConfig._check": "the same",
    "config:OptimizerConfig._check": "the same",
}
"""What a training runs and no key knows, with the reason."""


@dataclass(frozen=True)
class Piece:
    """A function, a class or a constant: the top-level definition that it lies in, and its line within the module."""

    module: str
    definition: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.module.removeprefix(f'{PACKAGE}.').removeprefix('stn_bench.subjects.')}:{self.name}"


# What runs ----------------------------------------------------------------------------------------------------------


def watch(settings: Config, run: LentRun) -> set[CodeType]:
    """Train, and return the code of the subject that ran meanwhile."""
    ran: set[CodeType] = set()

    def see(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HOMES):
            ran.add(frame.f_code)

    importlib.import_module(f"{PACKAGE}.training")  # what runs while it is imported is told by what it defines
    threading.setprofile(see)
    sys.setprofile(see)
    try:
        subject.train(settings, 1, run)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return ran


@functools.cache
def tree(module: str) -> ast.Module:
    file = ROOT.joinpath(*module.split("."))
    return ast.parse((file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text(encoding="utf-8"))


def module_of(ran: CodeType) -> str:
    parts = Path(ran.co_filename).relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def piece_at(module: str, line: int) -> tuple[Piece, ast.AST]:
    """Return the innermost function, or the constant, at a line, and its node."""
    top = next(node for node in tree(module).body if first_line(node) <= line <= (node.end_lineno or 0))
    functions = [node for node in ast.walk(top) if isinstance(node, ast.FunctionDef)]
    around = [node for node in functions if first_line(node) <= line <= (node.end_lineno or 0)]
    inner: ast.stmt = max(around, key=first_line, default=top)  # type: ignore[assignment]
    name, own = defined(top), defined(inner)
    return Piece(module, name, name if inner is top else f"{name}.{own}", inner.lineno), inner


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])


def defined(node: ast.AST) -> str:
    """Return the name that a top-level statement defines, or ""."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    targets = (
        node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    )
    return next((target.id for target in targets if isinstance(target, ast.Name)), "")


# What it names ------------------------------------------------------------------------------------------------------


def named_by(module: str, node: ast.AST) -> Iterator[Piece]:
    """Yield the subject's top-level definitions that a function names."""
    origins = imported(module)
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            yield from find(*origins.get(child.id, (module, child.id)))
        if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name) and child.value.id in origins:
            yield from find(".".join(origins[child.value.id]), child.attr)


@functools.cache
def imported(module: str) -> dict[str, tuple[str, str]]:
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def find(module: str, name: str) -> Iterator[Piece]:
    spec = importlib.util.find_spec(module) if module.startswith((PACKAGE, KERAS)) and module in sys.modules else None
    if spec is not None:
        found = (node for node in tree(module).body if defined(node) == name)
        yield from (Piece(module, name, name, node.lineno) for node in found if not is_settings(module, name))


def is_settings(module: str, name: str) -> bool:
    """Whether a name is a class of settings: its values are in the key, and of it only what runs counts."""
    value = getattr(sys.modules[module], name)
    return isinstance(value, type) and issubclass(value, Group)


# Whether a key knows it ---------------------------------------------------------------------------------------------


def digests_with(piece: Piece, settings: Config, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the digests of the code that settings reach, if this piece of it were another."""
    names = {value for value in settings.resolved().flat().values() if isinstance(value, str)}
    module_of_name, read, texts = code._module, code._read, code._texts
    source = module_of_name(piece.module)
    nodes = [changed(node, piece.line, names) for node in source.definitions[piece.definition]]
    other = replace(source, definitions={**source.definitions, piece.definition: nodes})

    def today(asked: code._Module, name: str) -> code._Module:
        """Return the module to read a definition of: today's, unless it is the changed one."""
        return source if asked is other and name != piece.definition else asked

    with monkeypatch.context() as patch:
        patch.setattr(code, "_module", lambda name: other if name == piece.module else module_of_name(name))
        patch.setattr(code, "_read", lambda asked, name, entries: read(today(asked, name), name, entries))
        patch.setattr(code, "_texts", lambda asked, name: texts(today(asked, name), name))
        patch.setattr(code, "_reached", code._reached.__wrapped__)
        patch.setattr(identity, "digests", code.digests.__wrapped__)
        return digests_of(settings)


def digests_of(settings: Config) -> dict[str, str]:
    return identify(subject, settings.resolved().flat(), 1, "").code


def changed(statement: ast.stmt, line: int, names: set[str]) -> ast.stmt:
    """Return a copy in which the function or class of a line does more, or a constant is another."""
    statement = copy.deepcopy(statement)
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno == line:
            node.body.append(ast.Assert(test=ast.Constant(True)))
        if isinstance(node, ast.Assign | ast.AnnAssign) and node is statement:
            if isinstance(node.value, ast.Dict):  # of a registry, what the settings name of it
                keys = [key.value if isinstance(key, ast.Constant) else None for key in node.value.keys]
                entries = zip(keys, node.value.values, strict=True)
                node.value.values = [wrapped(value) if key in names else value for key, value in entries]
            else:
                assert node.value is not None
                node.value = wrapped(node.value)
    return statement


def wrapped(value: ast.expr) -> ast.expr:
    return ast.Call(func=ast.Name("changed", ast.Load()), args=[value], keywords=[])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("training", ["default", pytest.param("other", marks=pytest.mark.slow)])
def test_a_change_of_whatever_a_training_runs_or_names_changes_the_key(
    training: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = override(Config(), {**ONE_EPOCH, **TRAININGS[training]})
    assert subject.prepare
    subject.prepare([settings], Lent(data))
    ran = watch(settings, LentRun(tmp_path, data))
    pieces: set[Piece] = set()
    for one in ran:
        piece, node = piece_at(module_of(one), one.co_firstlineno)
        pieces |= {piece, *named_by(piece.module, node)}
    assert {"hooks:train", "training:train_network", "keras_training.training:_train", "data.spec:pad_byte"} <= set(
        map(str, pieces)
    )
    before = digests_of(settings)
    unknown = {str(piece) for piece in pieces if digests_with(piece, settings, monkeypatch) == before}
    assert unknown == UNKEYED.keys()


def test_the_key_knows_the_ends_of_the_input_range_and_the_correction() -> None:
    """What no key knew until 2026-11: constants of other modules than the network's, and OpenCV."""
    found = identify(subject, override(Config(), ONE_EPOCH | OTHER).resolved().flat(), 1, "")
    assert {"data.spec:LOWER_BOUND[[-1,1]]", "data.spec:pad_byte", "data.dataset:Dataset"} <= found.code.keys()
    assert any(name.startswith("opencv") for name in found.libraries)
