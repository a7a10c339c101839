"""Modules: what a source file defines, imports and names, found by parsing it and never by running it.

Of the user's own modules more is read than of ours and of installed ones: everything that a name may stand for, what
an import runs, and, where nobody can read what is named, as in `getattr(nets, name)`, references to whole modules.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stn_bench.system.own_code import is_own
from stn_bench.tracking.former import Reference
from stn_bench.tracking.unfollowed import WHOLE, dotted, opened

LOOSE = "*"  # stands for the top-level statements of a module that run and define no name
VALUE = "**?"  # of a reference: the same, unless the package around has something else of the module's name
RUN = "()"  # of a reference: what a module does as it is imported

KEPT = 2**10  # modules that are kept as they were parsed
MAIN = frozenset({"__main__", "__mp_main__"})
"""Names of a module that runs as a script."""
CHANGERS = frozenset(
    {"add", "append", "clear", "extend", "insert", "pop", "register", "remove", "setdefault", "update"}
)
"""Methods that change their object, of which a statement may keep what they return."""


@dataclass(frozen=True, eq=False)
class Module:
    """A parsed module; one object for one content.

    Args:
        name: its dotted name.
        package: the package that its relative imports begin at.
        definitions: name -> every top-level statement that defines or changes it; LOOSE -> those that define no name.
        imports: name as written here -> all that it may stand for.
        stars: modules of which everything is imported.
        tops: top-level packages that it imports.
        is_own: whether it is the user's, and neither ours nor installed.
        used: all names in it but those of imports.
        written: the names that functions in it write, by `global`.
        loading: the imports that run as it is imported itself.
    """

    name: str
    package: str
    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, tuple[Reference, ...]]
    stars: tuple[str, ...]
    tops: frozenset[str]
    is_own: bool
    used: frozenset[str]
    written: frozenset[str]
    loading: tuple[ast.stmt, ...]

    @property
    def places(self) -> dict[str, str]:
        """What Python calls the module, and the package that it lies in, within it."""
        return {"__name__": self.name, "__package__": self.package}

    def may_define(self, name: str) -> bool:
        """Whether the module has this name, as far as reading it can tell."""
        return bool({name, LOOSE} & self.definitions.keys() or name in self.imports or self.stars)

    def elsewhere(self, name: str) -> list[Reference]:
        """Return where a name that is not defined here may come from."""
        if name in self.definitions:
            return []
        if name in self.imports:
            return list(self.imports[name])
        made = [(self.name, "__getattr__")] if self.is_own and "__getattr__" in self.definitions else []
        return [*((module, name) for module in self.stars), *made]

    def references(self, node: ast.AST) -> Iterator[Reference]:
        """Yield every definition that a node names, here or in another module."""
        for child in ast.walk(node):
            if isinstance(child, ast.Attribute):
                yield from self._attribute(dotted(child).split("."))
            if isinstance(child, ast.Name):
                yield from self._named(child.id)
        if self.is_own:
            yield from self._imported(node)
            yield from self._whole_modules(node)
            for module, mark in opened(node, self.places):
                yield (module or self.name) if mark == WHOLE else self.name, mark

    def whole(self) -> Iterator[Reference]:
        """Yield all that the module holds: its definitions, what it imports by name, and modules of its package."""
        yield from ((self.name, name) for name in self.definitions)
        yield from ((module, WHOLE) for module in self.stars)
        for module, name in (one for some in self.imports.values() for one in some):
            full = f"{module}.{name}" if name else module
            yield module, name
            if full.startswith(f"{self.name}."):
                yield full, WHOLE

    def runs(self) -> Iterator[Reference]:
        """Yield what is run along with the module: the packages around it, and what it imports."""
        parts = self.name.split(".")
        yield from ((".".join(parts[:length]), RUN) for length in range(1, len(parts)))
        for statement in self.loading:
            yield from self._imported(statement)

    def _named(self, name: str) -> Iterator[Reference]:
        """Yield all that a name may stand for: every import of it, and the module's own definition."""
        found = self.imports.get(name, ())
        yield from found
        if not found or (self.is_own and name in self.definitions):
            yield self.name, name

    def _attribute(self, parts: list[str]) -> Iterator[Reference]:
        """Yield what `a.b.c` may stand for: attribute c of the module that `a.b` is here, or of `a`'s submodule b."""
        for length in range(1, len(parts)):
            for module, attribute in self.imports.get(".".join(parts[:length]), ()):
                prefix = [module, *([attribute] if attribute else []), *parts[length:-1]]
                yield ".".join(prefix), parts[-1]

    def _imported(self, node: ast.AST) -> Iterator[Reference]:
        """Yield what the imports in a node run; all of a module that nothing names: it is there for what it does."""
        for child in ast.walk(node):
            if isinstance(child, ast.ImportFrom):
                origin = _origin(child, self.package)
                yield origin, RUN
                yield from ((f"{origin}.{alias.name}", RUN) for alias in child.names)
            if isinstance(child, ast.Import):
                for alias in child.names:
                    is_used = (alias.asname or alias.name.partition(".")[0]) in self.used
                    yield alias.name, RUN if is_used or alias.name.startswith(f"{self.name}.") else WHOLE

    def _whole_modules(self, node: ast.AST) -> Iterator[Reference]:
        """Yield each module that is used as a value of its own: nobody can read which part of it."""
        inner = {id(child.value) for child in ast.walk(node) if isinstance(child, ast.Attribute)}
        for child in ast.walk(node):
            if not isinstance(child, ast.Attribute | ast.Name) or id(child) in inner:
                continue
            parts = dotted(child).split(".")
            parts = parts[:-1] if parts[-1] in ("__dict__", "__path__") else parts
            for length in range(1, len(parts) + 1):
                for module, attribute in self.imports.get(".".join(parts[:length]), ()):
                    yield ".".join([module, *([attribute] if attribute else []), *parts[length:]]), VALUE
            if len(parts) == 1:
                within = (name for name in self.imports if name.startswith(f"{parts[0]}."))
                yield from ((module, VALUE) for name in within for module, _ in self.imports[name])


@functools.lru_cache(KEPT)
def parse(name: str, content: bytes, package: str, *, is_own: bool) -> Module:
    """Return a module by the content of its file."""
    tree = ast.parse(content)  # bytes, as Python reads it: marks, encodings
    statements = [one for statement in tree.body for one in _running(statement)]
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in statements:
        for defined in dict.fromkeys([*defined_names(statement), *(_changed(statement) if is_own else ())]):
            definitions.setdefault(defined, []).append(statement)
    imports: dict[str, dict[Reference, None]] = {}
    stars, tops = [], set[str]()
    for child in ast.walk(tree):
        if isinstance(child, ast.ImportFrom):
            tops |= {(child.module or "").partition(".")[0]} if not child.level else set()
            stars += [_origin(child, package) for alias in child.names if alias.name == "*"]
        if isinstance(child, ast.Import):
            tops |= {alias.name.partition(".")[0] for alias in child.names}
        for bound, reference in _bound(child, package):
            imports.setdefault(bound, {})[reference] = None
    if is_own:
        definitions = _with_changes_elsewhere(definitions, imports)
    return Module(
        name,
        package,
        definitions,
        {bound: tuple(found) for bound, found in imports.items()},
        tuple(stars),
        frozenset(tops),
        is_own,
        frozenset(child.id for child in ast.walk(tree) if isinstance(child, ast.Name)),
        frozenset(name for child in ast.walk(tree) if isinstance(child, ast.Global) for name in child.names),
        tuple(_loading(statements)),
    )


def find(name: str) -> Path | None:
    """Return a module's source file, or a namespace package's folder; None where there is neither. Imports nothing."""
    return found(name, tuple(sys.path))


@functools.cache
def found(name: str, path: tuple[str, ...]) -> Path | None:
    """Return the same for a path of Python's."""
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


def modules_in(package: str) -> Iterator[str]:
    """Yield the modules of the user's in a package, itself included; folders that hold no code are no packages."""
    file = find(package)
    if file is None or not is_own(str(file)):
        return
    folder = file if file.is_dir() else file.parent if file.name == "__init__.py" else None
    if folder is None or any(folder.glob("*.py")):
        yield package
    for path in sorted(folder.iterdir()) if folder else ():
        name = path.stem if path.suffix == ".py" else path.name
        if path.is_symlink() and path.is_dir() and file.resolve().is_relative_to(path.resolve()):
            continue  # a folder within itself
        if name.isidentifier() and name != "__init__" and (path.suffix == ".py" or any(path.glob("*.py"))):
            yield from modules_in(f"{package}.{name}")


def _bound(node: ast.AST, package: str) -> Iterator[tuple[str, Reference]]:
    """Yield the names that an import binds, each with what it stands for."""
    if isinstance(node, ast.ImportFrom):
        origin = _origin(node, package)
        yield from ((alias.asname or alias.name, (origin, alias.name)) for alias in node.names)
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name, (alias.name, "")
            if not alias.asname and "." in alias.name:
                top = alias.name.partition(".")[0]
                yield top, (top, "")


def _origin(statement: ast.ImportFrom, package: str) -> str:
    """Return the absolute name of the module that `from … import` names."""
    if not statement.level:
        return statement.module or ""
    parents = package.split(".")
    above = parents[: len(parents) - statement.level + 1]
    return ".".join([*above, *([statement.module] if statement.module else [])])


def _loading(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the imports that run as a module is imported, and not only where a function is called."""
    waiting: list[ast.AST] = list(reversed(statements))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def defined_names(statement: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines or changes; LOOSE if it runs and defines none."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return [
            child.id for target in _targets(statement) for child in ast.walk(target) if isinstance(child, ast.Name)
        ]
    return [] if _does_nothing(statement) else [LOOSE]


def _targets(statement: ast.stmt) -> list[ast.expr]:
    """Return what a statement assigns to."""
    if isinstance(statement, ast.Assign):
        return statement.targets
    return [statement.target] if isinstance(statement, ast.AnnAssign | ast.AugAssign) else []


def _changed(statement: ast.stmt) -> Iterator[str]:
    """Yield the names whose objects a statement changes beside those that it defines, as in `old = D.pop("a")`."""
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) else None
    for child in ast.walk(value) if value else ():
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in CHANGERS:
            yield from [top for top in [dotted(child.func).partition(".")[0]] if top]


def _with_changes_elsewhere(
    definitions: dict[str, list[ast.stmt]], imports: dict[str, dict[Reference, None]]
) -> dict[str, list[ast.stmt]]:
    """Return definitions in which what changes another module's, as `cfg.WIDTH = 64` does, is LOOSE as well."""
    loose = [*definitions.get(LOOSE, ())]
    for name in definitions.keys() & {bound.partition(".")[0] for bound in imports}:
        for statement in definitions[name]:
            written = any(isinstance(target, ast.Name) and target.id == name for target in _targets(statement))
            if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) and not written:
                loose.append(statement)
    unique = sorted({id(one): one for one in loose}.values(), key=lambda one: (one.lineno, one.col_offset))
    return {**definitions, **({LOOSE: unique} if unique else {})}


def _running(statement: ast.stmt) -> list[ast.stmt]:
    """Return what an import runs of a statement: the other side of a choice for scripts or for type checkers."""
    side = _imported_side(statement.test) if isinstance(statement, ast.If) else None
    if not isinstance(statement, ast.If) or side is None:
        return [statement]
    return [inner for one in (statement.body if side else statement.orelse) for inner in _running(one)]


def _imported_side(test: ast.expr) -> bool | None:
    """Return what a test gives in a module that is imported, and None where it is about anything else."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        side = _imported_side(test.operand)
        return None if side is None else not side
    if isinstance(test, ast.BoolOp):
        is_and = isinstance(test.op, ast.And)
        return (not is_and) if (not is_and) in [_imported_side(one) for one in test.values] else None
    if dotted(test).rpartition(".")[2] == "TYPE_CHECKING":
        return False
    if not isinstance(test, ast.Compare) or "__name__" not in map(dotted, (test.left, *test.comparators)):
        return None
    texts = {child.value for child in ast.walk(test) if isinstance(child, ast.Constant)}
    if not texts or not texts <= MAIN or len(test.ops) > 1:
        return None
    return {ast.Eq: False, ast.In: False, ast.NotEq: True, ast.NotIn: True}.get(type(test.ops[0]))


def _does_nothing(statement: ast.stmt) -> bool:
    """Whether a top-level statement is an import, a docstring or nothing at all."""
    is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_docstring or isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass)
