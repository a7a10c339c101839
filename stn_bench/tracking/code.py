"""Code: the digests of the definitions that a training can reach, found by reading and never by running.

From the function that trains, every top-level definition that it names is followed through the subject's packages. A
comment, a docstring, a line break or a library's import changes nothing. Of a registry (a top-level dict with text for
keys) in packages that keep the rule, only the entries that the settings name are followed. Of a class of settings the
fields are not: their values are in the key themselves, so that a new setting trains nothing again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn_bench.settings import canonical
from stn_bench.subject import Subject, is_shipped
from stn_bench.system.own_code import is_own, stamp_of
from stn_bench.tracking.former import Definition, Reference, read_former
from stn_bench.tracking.modules import LOOSE, RUN, VALUE, Module, defined_names, find, found, modules_in, parse
from stn_bench.tracking.registered import registered
from stn_bench.tracking.schemas import field_types, is_text, relevant
from stn_bench.tracking.unfollowed import ANY, WHOLE
from stn_bench.tracking.unfollowed import opened as unfollowed

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
    found: dict[str, str] = {}
    for module, name in sorted(_reached(trail), key=lambda one: not is_inside(one[0], (trail.home,))):
        read = _definition(module, name, trail)
        if read is not None and read.digest:
            label = f"{trail.named(module)}:{name}{read.entries}"
            found[f".{label}" if label in found else label] = read.digest  # a module at home, and one beside it
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
            now = _source(self.module, self.file, self.file.read_bytes())
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
        file = None if is_inside(module, (OURS,)) else find(module)
        if file and file.is_file() and is_own(str(file)):
            known = tuple(sorted(names))
            found.append(OwnFile(module, file, _content(file)[0], known, _digest_of(_module(module), known)))
    return tuple(found)


def _digest_of(source: Module, names: Iterable[str]) -> str:
    """Return the SHA-256 of some definitions of a module, and of what it imports."""
    definitions = [[name, _read(source, name, None).digest] for name in names]
    return hashlib.sha256(canonical([definitions, sorted(source.imports.items()), source.stars]).encode()).hexdigest()


def forget() -> None:
    """Read all code anew: in a process that goes on for long, such as a notebook's, files change.

    What was found out about a file is known by its content, and stays.
    """
    for read in (digests, libraries_of, _reached, _module, _content, found):
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
def _read(source: Module, name: str, names: frozenset[str] | None) -> Definition:
    """Return a definition of a module, of registries with these entries alone; None keeps them whole."""
    statements = source.definitions.get(name, ())
    nodes = [relevant(node, is_own=source.is_own) for node in statements]
    types = [one for node in statements if source.is_own for one in field_types(node)]
    kept = [(node, "") if names is None else _slice(node, names) for node in nodes]
    tree = canonical([_tree(node) for node, _ in kept])
    return Definition(
        "".join(entries for _, entries in kept),
        hashlib.sha256(tree.encode()).hexdigest() if kept else "",
        tuple(reference for node in (*(node for node, _ in kept), *types) for reference in source.references(node)),
    )


@functools.lru_cache(KEPT)
def _texts(source: Module, name: str) -> frozenset[str]:
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
    run: dict[str, None] = {}  # modules of the user's that run as they are imported
    opened: set[Reference] = set()
    while waiting:
        module, name = waiting.pop()
        if name in (WHOLE, VALUE, RUN) or name.startswith(ANY):
            if (module, name) not in opened:
                opened.add((module, name))
                waiting += _marked(module, name, trail, run)
        elif (module, name) not in seen and is_inside(module, trail.packages):
            definition = _definition(module, name, trail) if module in former or find(module) else None
            if definition is not None:
                seen[module, name] = None
                waiting += definition.references
                if module not in former:
                    waiting += _beside(module, name)
        if not waiting:
            waiting += registered(seen, run, _module, functools.partial(_own_definition, trail=trail))
    return tuple(seen)


def _beside(module: str, name: str) -> list[Reference]:
    """Return what a definition brings along: where a name comes from that is not here, and what its module does."""
    source = _module(module)
    found = source.elsewhere(name)
    if source.is_own:
        found.append((module, RUN))
    if source.definitions.get(LOOSE):
        found.append((module, LOOSE))
    return found


def _marked(module: str, mark: str, trail: Trail, run: dict[str, None]) -> list[Reference]:
    """Return what a reference to more than a definition stands for, in the user's own modules alone."""
    if mark.startswith(ANY):
        package = mark.removeprefix(ANY)
        packages = [package] if package else trail.packages
        return [(one, WHOLE) for within in packages for one in modules_in(within) if _can_be_read(one)]
    source = _own_module(module, trail)
    if source is None or (mark == VALUE and _is_hidden(module)):
        return []
    if mark in (WHOLE, VALUE):
        return [*source.whole(), (module, RUN)]
    run[module] = None
    return [*source.runs(), *([(module, LOOSE)] if source.definitions.get(LOOSE) else ())]


def _own_module(module: str, trail: Trail) -> Module | None:
    """Return a module if it is one of the user's on a trail."""
    is_there = is_inside(module, trail.packages) and find(module) is not None
    return _module(module) if is_there and _can_be_read(module) and _module(module).is_own else None


def _own_definition(module: str, name: str, trail: Trail) -> Definition | None:
    """Return a definition if it is one of the user's on a trail."""
    return _definition(module, name, trail) if _own_module(module, trail) else None


def _is_hidden(module: str) -> bool:
    """Whether a package has something else by the name of a module in it, as after `from .train import train`."""
    package, _, name = module.rpartition(".")
    if not package or not _can_be_read(package):
        return False
    around = _module(package)
    others = (one for one in around.imports.get(name, ()) if one not in ((package, name), (module, "")))
    return name in around.definitions or any(others)


def _can_be_read(module: str) -> bool:
    """Whether a module can be parsed: what cannot, is imported by nobody."""
    try:
        _module(module)
    except (SyntaxError, ValueError):
        return False
    return True


@functools.lru_cache(KEPT)
def is_inside(module: str, packages: tuple[str, ...]) -> bool:
    """Return whether a module is one of some packages, or lies in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def is_there(module: str) -> bool:
    """Return whether a module can be found from here."""
    return find(module) is not None


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
        file = None if name in found or is_inside(name, (OURS,)) else find(name)
        if file is None or not is_own(str(file)) or not _can_be_read(name):
            continue
        if file.is_file():
            found[name] = file
        source = _module(name)
        waiting += [name.rpartition(".")[0]] * ("." in name)
        waiting += [
            one
            for imports in source.imports.values()
            for module, top in imports
            for one in (module, f"{module}.{top}")
            if top or one
        ]
        waiting += [*source.stars, *_named_while_running(source)]
    return dict(sorted(found.items()))


def _named_while_running(source: Module) -> Iterator[str]:
    """Yield the modules that a module may import by a name that it makes."""
    nodes = (node for statements in source.definitions.values() for node in statements)
    for module, mark in (one for node in nodes for one in unfollowed(node, source.places)):
        if mark == WHOLE:
            yield module
        else:
            package = mark.removeprefix(ANY)
            packages = [package] if package else sorted(beside(source.name.partition(".")[0]))
            yield from (one for within in packages for one in modules_in(within))


def beside(package: str) -> set[str]:
    """Return a top-level package and, unless it is installed, the modules in the same folder."""
    file = find(package)
    home = file and (file.parent.parent if file.name == "__init__.py" else file.parent)
    if home is None or home.name in ("site-packages", "dist-packages"):
        return {package}
    found = {path.stem for path in home.iterdir() if path.suffix == ".py" or path.is_dir()}
    return {package} | found - {OURS}


@functools.cache
def _module(name: str) -> Module:
    file = find(name)
    return _source(name, file, _content(file)[1] if file and file.is_file() else b"")


def _source(name: str, file: Path | None, content: bytes) -> Module:
    """Return a module as it is parsed, from what its file holds."""
    is_package = file is None or file.is_dir() or file.name == "__init__.py"
    package = name if is_package else name.rpartition(".")[0]
    own = file is not None and not is_inside(name, (OURS,)) and is_own(str(file))
    return parse(name, content, package, is_own=own)


@functools.cache
def _content(file: Path) -> tuple[tuple[int, int], bytes]:
    """Return a file as it is read once, behind its stamp from before: one that is written just then is seen later."""
    return stamp_of(file), file.read_bytes()


def _slice(node: ast.stmt, names: frozenset[str]) -> tuple[ast.stmt, str]:
    """Return a registry with only the entries that the configuration names, and those; anything else as it is."""
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if not isinstance(value, ast.Dict) or len(defined_names(node)) != 1:
        return node, ""
    pairs = zip(value.keys, value.values, strict=True)
    entries = {key.value: entry for key, entry in pairs if isinstance(key, ast.Constant)}
    if len(entries) < len(value.keys) or not all(isinstance(key, str) for key in entries):
        return node, ""
    used = {str(key): entry for key, entry in entries.items() if key in names}
    sliced = ast.Dict(keys=[ast.Constant(key) for key in used], values=list(used.values()))
    target = ast.Name(id=defined_names(node)[0], ctx=ast.Store())
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
    return [one for one in child if not is_text(one)]
