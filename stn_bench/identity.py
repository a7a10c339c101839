"""Identity: what makes two runs the same run.

A run key is the SHA-256 of the resolved configuration, the seed, the pictures' fingerprint, the code that this
configuration runs, and the versions of the libraries that can change a result. The code is followed from
`nn.train.train` through the definitions that it names; of a registry (a top-level dict with text for keys) only
the entries that the configuration names are followed. A comment, a docstring or a line break changes nothing.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stn_bench.config import Config
from stn_bench.errors import ConfigError
from stn_bench.machine import package_version

ENTRY = ("stn_bench.nn.train", "train")
FOLLOWED = "stn_bench.nn"
BACKENDS = {"tensorflow": ("tensorflow",), "jax": ("jax", "jaxlib")}

Reference = tuple[str, str]
Parts = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """All that the result of a run depends on.

    Args:
        settings: the resolved configuration by dotted path.
        seed: the run's seed.
        dataset: SHA-256 fingerprint of the pictures.
        code: definition -> digest of its syntax tree.
        libraries: package -> version.
        start: run key of the run that this one was trained on from, or "".
    """

    settings: Parts
    seed: int
    dataset: str
    code: dict[str, str]
    libraries: dict[str, str]
    start: str = ""

    @property
    def run_key(self) -> str:
        """The SHA-256 over canonical JSON of all parts, as 64 hexadecimal digits."""
        return hashlib.sha256(canonical(asdict(self)).encode()).hexdigest()


def identify(config: Config, seed: int, dataset: str, start: str = "") -> Identity:
    """Return the identity of a run.

    Raises:
        ConfigError: if the configuration names a model factory whose code cannot be found.
    """
    settings = json.loads(config.canonical())
    return Identity(settings, seed, dataset, code_digests(config), library_versions(), start)


def differences(old: Identity, new: Identity) -> list[str]:
    """Return one line for each part in which two identities differ: what it was and what it is."""
    lines = []
    for name, before in asdict(old).items():
        after = getattr(new, name)
        if isinstance(before, dict):
            lines += [_difference(f"{name} {key}", before.get(key), after.get(key)) for key in {**before, **after}]
        else:
            lines.append(_difference(name, before, after))
    return [line for line in lines if line]


def _difference(name: str, before: Any, after: Any) -> str:
    if before == after:
        return ""
    return f"{name}: was {_short(before)}, is {_short(after)}"


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else repr(value)


def canonical(value: Any) -> str:
    """Return JSON that is the same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def backend() -> str:
    """Return the name of Keras' backend, as Keras itself chooses it, without importing it."""
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that can change a result."""
    packages = ("keras", "numpy", *BACKENDS.get(backend(), (backend(),)))
    return {package: package_version(package) or "missing" for package in packages}


def code_digests(config: Config) -> dict[str, str]:
    """Return the digest of each definition that training this configuration can reach.

    Raises:
        ConfigError: if the configuration names a model factory whose code cannot be found.
    """
    names = frozenset(value for value in config.flat().values() if isinstance(value, str))
    roots, packages = [ENTRY], (FOLLOWED,)
    if config.model.factory:
        module, _, function = config.model.factory.partition(":")
        roots.append((module, function))
        packages = (FOLLOWED, module.partition(".")[0])
    return _digests(tuple(roots), packages, names)


@functools.cache
def _digests(roots: tuple[Reference, ...], packages: tuple[str, ...], names: frozenset[str]) -> dict[str, str]:
    digests: dict[str, str] = {}
    seen: set[Reference] = set()
    waiting = list(roots)
    while waiting:
        module, name = waiting.pop()
        if (module, name) in seen or not _inside(module, packages):
            continue
        seen.add((module, name))
        source = _module(module)
        node = source.definitions.get(name)
        if node is None:
            waiting += [source.imports[name]] if name in source.imports else []
            continue
        node, keys = _slice(node, names)
        digests[f"{module}:{name}{keys}"] = hashlib.sha256(canonical(_tree(node)).encode()).hexdigest()
        waiting += source.references(node)
    return dict(sorted(digests.items()))


def _inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@dataclass(frozen=True)
class _Module:
    """A parsed module: its top-level definitions by name, and what each imported name stands for."""

    name: str
    definitions: dict[str, ast.stmt]
    imports: dict[str, Reference]

    def references(self, node: ast.AST) -> Iterator[Reference]:
        """Yield every definition that a node names, here or in another module."""
        for child in ast.walk(node):
            if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
                module, attribute = self.imports.get(child.value.id, ("", ""))
                if module:
                    yield (f"{module}.{attribute}" if attribute else module, child.attr)
            if isinstance(child, ast.Name):
                yield self.imports.get(child.id, (self.name, child.id))


@functools.cache
def _module(name: str) -> _Module:
    tree = ast.parse(_source(name))
    definitions, imports = {}, {}
    for statement in tree.body:
        for defined in _defined_names(statement):
            definitions[defined] = statement
    for child in ast.walk(tree):
        if isinstance(child, ast.ImportFrom) and child.module and not child.level:
            imports |= {alias.asname or alias.name: (child.module, alias.name) for alias in child.names}
        if isinstance(child, ast.Import):
            imports |= {alias.asname or alias.name: (alias.name, "") for alias in child.names}
    return _Module(name, definitions, imports)


def _source(name: str) -> str:
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ConfigError(f"`model.factory`: no Python module `{name}` can be found from here")
    return Path(spec.origin).read_text(encoding="utf-8")


def _defined_names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []


def _slice(node: ast.stmt, names: frozenset[str]) -> tuple[ast.stmt, str]:
    """Return a registry with only the entries that the configuration names, and those; anything else as it is."""
    value = getattr(node, "value", None)
    if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(value, ast.Dict):
        return node, ""
    entries = {key.value: entry for key, entry in zip(value.keys, value.values, strict=True) if isinstance(key, ast.Constant)}
    if len(entries) < len(value.keys) or not all(isinstance(key, str) for key in entries):
        return node, ""
    used = {str(key): entry for key, entry in entries.items() if key in names}
    sliced = ast.Dict(keys=[ast.Constant(key) for key in used], values=list(used.values()))
    target = ast.Name(id=_defined_names(node)[0], ctx=ast.Store())
    return ast.Assign(targets=[target], value=sliced), f"[{', '.join(sorted(used))}]"


def _tree(node: Any) -> Any:
    """Return a syntax tree as plain lists, without docstrings, and the same on every Python version."""
    if isinstance(node, list):
        return [_tree(child) for child in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, child) for name, child in ast.iter_fields(node) if child not in (None, [])]
    return [type(node).__name__, *([name, _tree(_without_docstring(name, child))] for name, child in fields)]


def _without_docstring(field: str, child: Any) -> Any:
    """Return a body without its bare strings: docstrings, and the ones that document a field."""
    if field != "body" or not isinstance(child, list):
        return child
    return [s for s in child if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
