"""Identity: what makes two runs the same run.

A run key is the SHA-256 of the resolved configuration, the seed, the pictures' fingerprint, the code that this
configuration runs, and the versions of the libraries that can change a result. The code is followed from
`nn.train.train` through the definitions that it names in `nn` and in `data.correction`; of a registry there (a
top-level dict with text for keys) only the entries that the configuration names. A model factory's code is followed
through its own package and the modules beside it. A comment, a docstring or a line break changes nothing.
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

from stn_bench.subjects.stn.config import Config
from stn_bench.system.errors import ConfigError, did_you_mean
from stn_bench.system.machine import package_version

ENTRY = ("stn_bench.subjects.stn.nn.train", "train")
OURS = "stn_bench"
FOLLOWED = ("stn_bench.subjects.stn.nn", "stn_bench.subjects.stn.data.correction")
LOOSE = "*"  # stands for the top-level statements of a module that run and define no name
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
    roots, packages = [ENTRY], set(FOLLOWED)
    if config.model.factory:
        module, _, function = config.model.factory.partition(":")
        _check_factory(module, function)
        roots.append((module, function))
        packages |= _beside(module.partition(".")[0])
    return _digests(tuple(roots), tuple(sorted(packages)), names)


def _check_factory(module: str, function: str) -> None:
    if _file(module) is None:
        raise ConfigError(f"`model.factory`: no Python module `{module}` can be found from here")
    if not _module(module).may_define(function):
        known = _module(module).definitions
        raise ConfigError(f"`model.factory`: `{module}` has no `{function}`.{did_you_mean(function, known)}")


def _beside(package: str) -> set[str]:
    """Return the factory's top-level package and, unless it is installed, the modules in the same folder."""
    file = _file(package)
    home = file and (file.parent.parent if file.name == "__init__.py" else file.parent)
    if home is None or home.name in ("site-packages", "dist-packages"):
        return {package}
    beside = {path.stem for path in home.iterdir() if path.suffix == ".py" or path.is_dir()}
    return {package} | beside - {OURS}


@functools.cache
def _digests(roots: tuple[Reference, ...], packages: tuple[str, ...], names: frozenset[str]) -> dict[str, str]:
    digests: dict[str, str] = {}
    seen: set[Reference] = set()
    waiting = list(roots)
    while waiting:
        module, name = waiting.pop()
        if (module, name) in seen or not _inside(module, packages) or _file(module) is None:
            continue
        seen.add((module, name))
        source = _module(module)
        waiting += source.elsewhere(name)
        if source.definitions.get(LOOSE):
            waiting.append((module, LOOSE))
        ours = _inside(module, FOLLOWED)
        sliced = [_slice(node, names) if ours else (node, "") for node in source.definitions.get(name, ())]
        if sliced:
            keys = "".join(keys for _, keys in sliced)
            tree = canonical([_tree(node) for node, _ in sliced])
            digests[f"{_relative(module)}:{name}{keys}"] = hashlib.sha256(tree.encode()).hexdigest()
        waiting += (reference for node, _ in sliced for reference in source.references(node))
    return dict(sorted(digests.items()))


def _relative(module: str) -> str:
    return module.replace("stn_bench.subjects.stn.", "stn_bench.")


def _inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@dataclass(frozen=True)
class _Module:
    """A parsed module.

    Args:
        name: its dotted name.
        definitions: name -> every top-level statement that defines or changes it; LOOSE -> those that define no name.
        imports: name as written here -> what it stands for.
        stars: modules of which everything is imported.
    """

    name: str
    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, Reference]
    stars: tuple[str, ...]

    def may_define(self, name: str) -> bool:
        """Whether the module has this name, as far as reading it can tell."""
        return bool({name, LOOSE} & self.definitions.keys() or name in self.imports or self.stars)

    def elsewhere(self, name: str) -> list[Reference]:
        """Return where a name that is not defined here may come from."""
        if name in self.definitions:
            return []
        return [self.imports[name]] if name in self.imports else [(module, name) for module in self.stars]

    def references(self, node: ast.AST) -> Iterator[Reference]:
        """Yield every definition that a node names, here or in another module."""
        for child in ast.walk(node):
            if isinstance(child, ast.Attribute):
                yield from self._attribute(_dotted(child).split("."))
            if isinstance(child, ast.Name):
                yield self.imports.get(child.id, (self.name, child.id))

    def _attribute(self, parts: list[str]) -> Iterator[Reference]:
        """Yield what `a.b.c` may stand for: attribute c of the module that `a.b` is here, or of `a`'s submodule b."""
        for length in range(1, len(parts)):
            module, attribute = self.imports.get(".".join(parts[:length]), ("", ""))
            if module:
                prefix = [module, *([attribute] if attribute else []), *parts[length:-1]]
                yield ".".join(prefix), parts[-1]


def _dotted(node: ast.expr) -> str:
    """Return `a.b.c` for an attribute of an attribute of a name, "" for one of anything else."""
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@functools.cache
def _module(name: str) -> _Module:
    file = _file(name)
    is_package = file is None or file.is_dir() or file.name == "__init__.py"
    tree = ast.parse(file.read_text(encoding="utf-8") if file and file.is_file() else "")
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for defined in _defined_names(statement):
            definitions.setdefault(defined, []).append(statement)
    imports: dict[str, Reference] = {}
    stars = []
    for child in ast.walk(tree):
        if isinstance(child, ast.ImportFrom):
            origin = _origin(child, name if is_package else name.rpartition(".")[0])
            imports |= {alias.asname or alias.name: (origin, alias.name) for alias in child.names}
            stars += [origin for alias in child.names if alias.name == "*"]
        if isinstance(child, ast.Import):
            imports |= {alias.asname or alias.name: (alias.name, "") for alias in child.names}
    return _Module(name, definitions, imports, tuple(stars))


def _origin(statement: ast.ImportFrom, package: str) -> str:
    """Return the absolute name of the module that `from … import` names."""
    if not statement.level:
        return statement.module or ""
    parents = package.split(".")
    above = parents[: len(parents) - statement.level + 1]
    return ".".join([*above, *([statement.module] if statement.module else [])])


def _file(name: str) -> Path | None:
    """Return a module's source file, or a namespace package's folder; None where there is neither. Imports nothing."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    origin = spec.origin if spec and spec.origin and spec.origin.endswith(".py") else None
    found = Path(origin) if origin else next(iter(folders), None)
    for part in rest:
        choices = (folder / end for folder in folders for end in (f"{part}/__init__.py", f"{part}.py", part))
        found = next((path for path in choices if path.exists()), None)
        folders = [folder / part for folder in folders]
    return found


def _defined_names(statement: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines or changes; LOOSE if it runs and defines none."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [child.id for target in targets for child in ast.walk(target) if isinstance(child, ast.Name)]
    return [] if _does_nothing(statement) else [LOOSE]


def _does_nothing(statement: ast.stmt) -> bool:
    """Whether a top-level statement is an import, a docstring, or for type checkers or scripts alone."""
    if isinstance(statement, ast.If):
        names = {child.id for child in ast.walk(statement.test) if isinstance(child, ast.Name)}
        return bool(names & {"TYPE_CHECKING", "__name__"})
    is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_docstring or isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass)


def _slice(node: ast.stmt, names: frozenset[str]) -> tuple[ast.stmt, str]:
    """Return a registry with only the entries that the configuration names, and those; anything else as it is."""
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if not isinstance(value, ast.Dict) or len(_defined_names(node)) != 1:
        return node, ""
    pairs = zip(value.keys, value.values, strict=True)
    entries = {key.value: entry for key, entry in pairs if isinstance(key, ast.Constant)}
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
