"""Code: the digests of the definitions that a training can reach, found by reading and never by running.

From the function that trains, every top-level definition that it names is followed through the subject's packages. A
comment, a docstring, a line break or an import changes nothing. Of a registry (a top-level dict with text for keys) in
packages that keep the rule, only the entries that the settings name are followed. Of a class of settings only its
methods are: the values are in the key themselves, so that a new setting trains nothing again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn_bench.settings import Group, Settings, canonical
from stn_bench.subject import Subject, is_shipped
from stn_bench.system.own_code import is_own, stamp_of
from stn_bench.tracking.former import Definition, Reference, read_former

LOOSE = "*"  # stands for the top-level statements of a module that run and define no name
SCHEMAS = frozenset({Group.__name__, Settings.__name__})
VALIDATORS = frozenset({"field_validator", "model_validator"})
OURS = "stn_bench"
KEPT = 2**14  # definitions that are kept as they were read; a trail of `stn` has a thousand


@dataclass(frozen=True)
class Trail:
    """Where code is followed from, and through what.

    Args:
        roots: the definitions to begin with.
        packages: the packages to follow them through.
        sliced: those of them whose registries keep the rule.
        names: what the settings name: the entries of registries that count.
        home: the package that names of modules are relative to.
        prefix: what stands before those.
        former: file with the code of modules that were replaced, which is followed instead of today's, or "".
    """

    roots: tuple[Reference, ...]
    packages: tuple[str, ...]
    sliced: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    home: str = ""
    prefix: str = ""
    former: str = ""

    def named(self, module: str) -> str:
        """Return the name of a module as the digests have it: moving the house changes none."""
        if not self.home or not is_inside(module, (self.home,)):
            return module
        return self.prefix + (module.removeprefix(f"{self.home}.") if module != self.home else "__init__")


@functools.cache
def digests(trail: Trail) -> dict[str, str]:
    """Return definition -> SHA-256 of its syntax tree, of every definition on a trail, sorted."""
    found = {}
    for module, name in _reached(trail):
        read = _definition(module, name, trail)
        if read is not None and read.digest:
            found[f"{trail.named(module)}:{name}{read.entries}"] = read.digest
    return dict(sorted(found.items()))


def own_digests(trail: Trail) -> dict[str, str]:
    """Return the same of the definitions on a trail that are none of ours, by the names of their modules."""
    own = {(module, name) for module, name in _reached(trail) if not is_inside(module, (OURS,))}
    read = {(module, name): _definition(module, name, trail) for module, name in sorted(own)}
    return {f"{module}:{name}": one.digest for (module, name), one in read.items() if one is not None and one.digest}


@dataclass(frozen=True)
class OwnFile:
    """A file of the user's as it was read for run keys.

    Args:
        module: the module that it is.
        file: where it lies.
        stamp: when it was changed before it was read, and its size.
        names: the definitions in it that trainings reach.
        digest: SHA-256 of these, and of what the module imports.
    """

    module: str
    file: Path
    stamp: tuple[int, int]
    names: tuple[str, ...]
    digest: str

    def is_as_read(self) -> bool:
        """Return whether trainings reach the same in it now; it is read again only if it was written meanwhile."""
        if stamp_of(self.file) == self.stamp:
            return True
        try:
            now = _parsed(self.module, self.file.read_bytes(), _package(self.module, self.file))
        except (OSError, SyntaxError, ValueError):  # it is gone, or half-written
            return False
        return _digest_of(now, self.names) == self.digest


def files_on(trails: Iterable[Trail]) -> tuple[OwnFile, ...]:
    """Return the user's own files on trails, as they were read."""
    reached: dict[str, set[str]] = {}
    for trail in trails:
        for module, name in _reached(trail):
            reached.setdefault(module, {LOOSE}).add(name)
    found = []
    for module, names in sorted(reached.items()):
        file = None if is_inside(module, (OURS,)) else _file(module)
        if file and file.is_file() and is_own(str(file)):
            known = tuple(sorted(names))
            found.append(OwnFile(module, file, _content(file)[0], known, _digest_of(_module(module), known)))
    return tuple(found)


def _digest_of(source: _Module, names: Iterable[str]) -> str:
    """Return the SHA-256 of some definitions of a module, and of what it imports."""
    definitions = [[name, _read(source, name, None).digest] for name in names]
    return hashlib.sha256(canonical([definitions, sorted(source.imports.items()), source.stars]).encode()).hexdigest()


def forget() -> None:
    """Read all code anew: in a process that goes on for long, such as a notebook's, files change.

    What was found out about a file is known by its content, and stays.
    """
    for read in (digests, libraries_of, _reached, _module, _content, _found):
        read.cache_clear()
    importlib.invalidate_caches()


def _definition(module: str, name: str, trail: Trail) -> Definition | None:
    """Return a definition as a trail has it: that of a module which was replaced, or today's."""
    former = read_former(trail.former)
    if module in former.definitions:
        return former.find(module, name, trail.names)
    source = _module(module)
    return _read(source, name, trail.names & _texts(source, name) if is_inside(module, trail.sliced) else None)


@functools.lru_cache(KEPT)
def _read(source: _Module, name: str, names: frozenset[str] | None) -> Definition:
    """Return a definition of a module, of registries with these entries alone; None keeps them whole."""
    nodes = [_relevant(node) for node in source.definitions.get(name, ())]
    kept = [(node, "") if names is None else _slice(node, names) for node in nodes]
    tree = canonical([_tree(node) for node, _ in kept])
    return Definition(
        "".join(entries for _, entries in kept),
        hashlib.sha256(tree.encode()).hexdigest() if kept else "",
        tuple(reference for node, _ in kept for reference in source.references(node)),
    )


@functools.lru_cache(KEPT)
def _texts(source: _Module, name: str) -> frozenset[str]:
    """Return the texts that a definition holds: every entry of a registry that settings may name is one of them."""
    nodes = (child for node in source.definitions.get(name, ()) for child in ast.walk(node))
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


@functools.cache
def libraries_of(trail: Trail) -> tuple[str, ...]:
    """Return the distributions that the modules on a trail import, sorted."""
    former = read_former(trail.former).tops
    reached = {module for module, _ in _reached(trail)}
    tops = {top for module in reached for top in (former[module] if module in former else _module(module).tops)}
    known = _distributions()
    return tuple(sorted({name for top in tops - {OURS} for name in known.get(top, ())}))


@functools.cache
def _distributions() -> Mapping[str, Sequence[str]]:
    """Return top-level package -> the distributions that hold it; reading all that is installed takes a while."""
    import importlib.metadata

    return importlib.metadata.packages_distributions()


@functools.cache
def _reached(trail: Trail) -> tuple[Reference, ...]:
    seen: dict[Reference, None] = {}
    waiting, former = list(trail.roots), read_former(trail.former).definitions
    while waiting:
        module, name = waiting.pop()
        if (module, name) in seen or not is_inside(module, trail.packages):
            continue
        definition = _definition(module, name, trail) if module in former or _file(module) else None
        if definition is None:
            continue
        seen[module, name] = None
        waiting += definition.references
        if module in former:
            continue
        source = _module(module)
        waiting += source.elsewhere(name)
        if source.definitions.get(LOOSE):
            waiting.append((module, LOOSE))
    return tuple(seen)


@functools.lru_cache(KEPT)
def is_inside(module: str, packages: tuple[str, ...]) -> bool:
    """Return whether a module is one of some packages, or lies in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def is_there(module: str) -> bool:
    """Return whether a module can be found from here."""
    return _file(module) is not None


def names_in(module: str, name: str) -> tuple[bool, tuple[str, ...]]:
    """Return whether a module may define a name, as far as reading it can tell, and the names that it defines."""
    source = _module(module)
    return source.may_define(name), tuple(source.definitions)


def own_modules(subject: Subject, settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the modules of the user's own that trainings with these settings name: the subject's and foreign code."""
    named = {code for some in settings for code in subject.foreign_code(subject.read(some))}
    named |= set() if is_shipped(subject.name) else {subject.name}
    return sorted({one.partition(":")[0] for one in named})


def files_of(modules: Iterable[str]) -> dict[str, Path]:
    """Return module -> file, of modules that are none of ours, with all that they import, wherever in them.

    Nothing installed is followed.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = None if name in found or is_inside(name, (OURS,)) else _file(name)
        if file is None or not is_own(str(file)):
            continue
        if file.is_file():
            found[name] = file
        source = _module(name)
        waiting += [name.rpartition(".")[0]] * ("." in name)
        waiting += [
            one for module, top in source.imports.values() for one in (module, f"{module}.{top}") if top or one
        ]
        waiting += source.stars
    return dict(sorted(found.items()))


def beside(package: str) -> set[str]:
    """Return a top-level package and, unless it is installed, the modules in the same folder."""
    file = _file(package)
    home = file and (file.parent.parent if file.name == "__init__.py" else file.parent)
    if home is None or home.name in ("site-packages", "dist-packages"):
        return {package}
    found = {path.stem for path in home.iterdir() if path.suffix == ".py" or path.is_dir()}
    return {package} | found - {OURS}


def _relevant(node: ast.stmt) -> ast.stmt:
    """Return a definition; of a class of settings its methods alone, without its validators."""
    if not isinstance(node, ast.ClassDef) or not SCHEMAS & {_dotted(base).rpartition(".")[2] for base in node.bases}:
        return node
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef) and not VALIDATORS & set(_decorators(one))]
    return ast.ClassDef(name=node.name, bases=[], keywords=[], body=list(methods), decorator_list=[])


def _decorators(function: ast.FunctionDef) -> Iterator[str]:
    for one in function.decorator_list:
        yield _dotted(one.func if isinstance(one, ast.Call) else one).rpartition(".")[2]


@dataclass(frozen=True, eq=False)
class _Module:
    """A parsed module; one object for one content.

    Args:
        name: its dotted name.
        definitions: name -> every top-level statement that defines or changes it; LOOSE -> those that define no name.
        imports: name as written here -> what it stands for.
        stars: modules of which everything is imported.
        tops: top-level packages that it imports.
    """

    name: str
    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, Reference]
    stars: tuple[str, ...]
    tops: frozenset[str]

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
    return _parsed(name, _content(file)[1] if file and file.is_file() else b"", _package(name, file))


def _package(name: str, file: Path | None) -> str:
    """Return the package that the relative imports of a module begin at."""
    is_package = file is None or file.is_dir() or file.name == "__init__.py"
    return name if is_package else name.rpartition(".")[0]


@functools.cache
def _content(file: Path) -> tuple[tuple[int, int], bytes]:
    """Return a file as it is read once, behind its stamp from before: one that is written just then is seen later."""
    return stamp_of(file), file.read_bytes()


@functools.lru_cache(KEPT // 16)
def _parsed(name: str, content: bytes, package: str) -> _Module:
    tree = ast.parse(content)  # bytes, as Python reads it: marks, encodings
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for defined in _defined_names(statement):
            definitions.setdefault(defined, []).append(statement)
    imports: dict[str, Reference] = {}
    stars, tops = [], set[str]()
    for child in ast.walk(tree):
        if isinstance(child, ast.ImportFrom):
            tops |= {(child.module or "").partition(".")[0]} if not child.level else set()
            origin = _origin(child, package)
            imports |= {alias.asname or alias.name: (origin, alias.name) for alias in child.names}
            stars += [origin for alias in child.names if alias.name == "*"]
        if isinstance(child, ast.Import):
            tops |= {alias.name.partition(".")[0] for alias in child.names}
            imports |= {alias.asname or alias.name: (alias.name, "") for alias in child.names}
    return _Module(name, definitions, imports, tuple(stars), frozenset(tops))


def _origin(statement: ast.ImportFrom, package: str) -> str:
    """Return the absolute name of the module that `from … import` names."""
    if not statement.level:
        return statement.module or ""
    parents = package.split(".")
    above = parents[: len(parents) - statement.level + 1]
    return ".".join([*above, *([statement.module] if statement.module else [])])


def _file(name: str) -> Path | None:
    """Return a module's source file, or a namespace package's folder; None where there is neither. Imports nothing."""
    return _found(name, tuple(sys.path))


@functools.cache
def _found(name: str, path: tuple[str, ...]) -> Path | None:
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
