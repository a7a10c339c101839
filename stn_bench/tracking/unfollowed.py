"""What reading cannot follow: names that are made while running, and the whole modules that may be meant by them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

WHOLE = "**"  # of a reference: all that a module defines
ANY = "import "  # begins that of a reference to every module of a package, or beside the subject where it names none

IMPORTERS = frozenset({"import_module", "__import__"})
"""What imports the module that its first argument names."""
FINDERS = frozenset(
    {"exec_module", "import_string", "load_module", "locate", "resolve_name", "run_module", "run_path"}
)
"""What finds modules, or things in them, in ways of its own."""
READERS = frozenset({"eval", "exec", "globals", "__subclasses__"})
"""What reaches any name of the module that calls it."""


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for an attribute of an attribute of a name, "" for one of anything else."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def opened(node: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """Yield (module, WHOLE) and ("", ANY with a package) for whatever a node finds by a name that it makes.

    Args:
        node: the code.
        package: the package that relative names begin at.
    """
    called = {id(child.func) for child in ast.walk(node) if isinstance(child, ast.Call)}
    for child in ast.walk(node):
        last = child.id if isinstance(child, ast.Name) else child.attr if isinstance(child, ast.Attribute) else ""
        if last in (READERS if isinstance(child, ast.Name) else {"__subclasses__"}):
            yield "", WHOLE
        if last in FINDERS or (last in IMPORTERS and id(child) not in called):
            yield "", ANY
        if isinstance(child, ast.Call):
            yield from _called(child, package)
        if isinstance(child, ast.Subscript) and dotted(child.value) == "sys.modules":
            yield _module_of(child.slice, package) if dotted(child.slice) != "__name__" else ("", WHOLE)


def _called(call: ast.Call, package: str) -> Iterator[tuple[str, str]]:
    name = dotted(call.func)
    if name.rpartition(".")[2] in IMPORTERS or name == "sys.modules.get":
        arguments = [*call.args, *(one.value for one in call.keywords if one.arg == "name")]
        yield _module_of(arguments[0], _package_of(call, package)) if arguments else ("", ANY)
    if name in ("sys.modules.items", "sys.modules.values"):
        yield "", ANY


def _package_of(call: ast.Call, package: str) -> str:
    """Return the package that a call gives for relative names, "" where nobody can read it."""
    given = [*call.args[1:2], *(one.value for one in call.keywords if one.arg == "package")]
    if not given or dotted(given[0]) in ("__package__", "__name__"):
        return package
    text, is_all = _beginning(given[0])
    return text if is_all else ""


def _module_of(name: ast.expr, package: str) -> tuple[str, str]:
    """Return the module that a text names; of a text that is made, the package that it begins with."""
    text, is_all = _beginning(name)
    if text.startswith("."):
        text = package + text if package and not text.startswith("..") else ""
    return (text, WHOLE) if is_all and text else ("", ANY + text.rpartition(".")[0])


def _beginning(text: ast.expr) -> tuple[str, bool]:
    """Return what a text begins with, as far as it is written out, and whether that is all of it."""
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        return text.value, True
    if isinstance(text, ast.JoinedStr) and text.values:
        return _beginning(text.values[0])[0], False
    if isinstance(text, ast.BinOp):
        return _beginning(text.left)[0].partition("%")[0], False
    if isinstance(text, ast.Call) and isinstance(text.func, ast.Attribute) and text.func.attr == "format":
        return _beginning(text.func.value)[0].partition("{")[0], False
    return "", False
