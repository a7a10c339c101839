"""What reading cannot follow: names that are made while running, and the whole modules that may be meant by them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

WHOLE = "**"  # of a reference: all that a module defines
ANY = "import "  # begins that of a reference to every module of a package, or beside the subject where it names none

IMPORTERS = frozenset({"import_module", "__import__"})
"""What imports the module that its first argument names."""
FINDERS = frozenset(
    {"exec_module", "import_string", "load_module", "locate", "resolve_name", "run_module", "run_path"}
)
"""What finds modules, or things in them, in ways of its own."""
SUBCLASSES = "__subclasses__"
READERS = frozenset({"eval", "exec", "globals"})
"""What reaches any name of the module that calls it."""


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for an attribute of an attribute of a name, "" for one of anything else."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def opened(node: ast.AST, places: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (module, WHOLE) and ("", ANY with a package) for whatever a node finds by a name that it makes.

    Args:
        node: the code.
        places: what `__name__` and `__package__` are in its module.
    """
    called = {id(child.func) for child in ast.walk(node) if isinstance(child, ast.Call)}
    for child in ast.walk(node):
        last = child.id if isinstance(child, ast.Name) else child.attr if isinstance(child, ast.Attribute) else ""
        if last in (READERS if isinstance(child, ast.Name) else {SUBCLASSES}):
            yield "", WHOLE
        if last in FINDERS or (last in IMPORTERS and id(child) not in called):
            yield "", ANY
        if isinstance(child, ast.Call):
            yield from _called(child, places)
        if isinstance(child, ast.Subscript) and dotted(child.value) == "sys.modules":
            yield _module_of(child.slice, "", places)


def _called(call: ast.Call, places: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    name = dotted(call.func)
    if name.rpartition(".")[2] in IMPORTERS or name == "sys.modules.get":
        arguments = [*call.args, *(one.value for one in call.keywords if one.arg == "name")]
        package = [*call.args[1:2], *(one.value for one in call.keywords if one.arg == "package")]
        within = _beginning(package[0], places) if package else ("", False)
        yield _module_of(arguments[0], within[0] if within[1] else "", places) if arguments else ("", ANY)
    if name in ("sys.modules.items", "sys.modules.values"):
        yield "", ANY


def _module_of(name: ast.expr, package: str, places: Mapping[str, str]) -> tuple[str, str]:
    """Return the module that a text names; of a text that is made, the package that it begins with.

    Args:
        name: the text.
        package: what it begins at where it is relative, or "".
        places: what `__name__` and `__package__` are.
    """
    text, is_all = _beginning(name, places)
    if text.startswith("."):
        text = package + text if package and not text.startswith("..") else ""
    return (text, WHOLE) if is_all and text else ("", ANY + text.rpartition(".")[0])


def _beginning(text: ast.expr, places: Mapping[str, str]) -> tuple[str, bool]:
    """Return what a text begins with, as far as it is written out, and whether that is all of it."""
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        return text.value, True
    if dotted(text) in places:
        return places[dotted(text)], True
    if isinstance(text, ast.FormattedValue):
        return _beginning(text.value, places)
    if isinstance(text, ast.JoinedStr):
        return _joined(text.values, places)
    if isinstance(text, ast.BinOp) and isinstance(text.op, ast.Add):
        return _joined([text.left, text.right], places)
    if isinstance(text, ast.BinOp):
        return _beginning(text.left, places)[0].partition("%")[0], False
    if isinstance(text, ast.Call) and isinstance(text.func, ast.Attribute) and text.func.attr == "format":
        return _beginning(text.func.value, places)[0].partition("{")[0], False
    return "", False


def _joined(parts: Sequence[ast.expr], places: Mapping[str, str]) -> tuple[str, bool]:
    """Return the same of texts behind each other, up to the first that is made while running."""
    begun = ""
    for part in parts:
        text, is_all = _beginning(part, places)
        begun += text
        if not is_all:
            return begun, False
    return begun, True
