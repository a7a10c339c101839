"""Classes of settings: the values of their fields are in a run's key, so that of the class itself the rest counts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from stn_bench.settings import Group, Settings
from stn_bench.tracking.unfollowed import dotted

SCHEMAS = frozenset({Group.__name__, Settings.__name__})
VALIDATORS = frozenset({"field_validator", "model_validator"})
UNKEYED = frozenset({"unkeyed", "later"})  # of a class of settings: they say which values are in the key, and no more


def _is_schema(node: ast.AST) -> bool:
    """Whether a statement is a class of settings: the values of its fields are in the key themselves."""
    return isinstance(node, ast.ClassDef) and bool(SCHEMAS & set(map(_last, node.bases)))


def _last(node: ast.expr) -> str:
    return dotted(node).rpartition(".")[2]


def relevant(node: ast.stmt, *, is_own: bool) -> ast.stmt:
    """Return a definition; of a class of settings all but its fields and validators, and of ours the methods alone."""
    if not isinstance(node, ast.ClassDef) or not _is_schema(node):
        return node
    body = [one for one in node.body if not isinstance(one, ast.FunctionDef) or not VALIDATORS & set(_decorators(one))]
    if not is_own:
        methods = [one for one in body if isinstance(one, ast.FunctionDef)]
        return ast.ClassDef(name=node.name, bases=[], keywords=[], body=list(methods), decorator_list=[])
    return ast.ClassDef(
        name=node.name,
        bases=[base for base in node.bases if _last(base) not in SCHEMAS],
        keywords=node.keywords,
        body=[one for one in body if not _is_field(one) and not is_text(one)],
        decorator_list=node.decorator_list,
    )


def _is_field(statement: ast.stmt) -> bool:
    """Whether a statement in a class of settings makes a field, or says how fields are keyed."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    names = {one.id for one in targets if isinstance(one, ast.Name)}
    if names & UNKEYED:
        return True
    if any(isinstance(one, ast.keyword) and one.arg == "exclude" for one in ast.walk(statement)):
        return False  # its value is in no key
    if not isinstance(statement, ast.AnnAssign) or any(name.startswith("_") for name in names):
        return False
    parts = [getattr(one, "id", getattr(one, "attr", "")) for one in ast.walk(statement.annotation)]
    return "ClassVar" not in [*parts, *(_said(statement.annotation))]


def _said(annotation: ast.expr) -> Iterator[str]:
    """Yield the names in an annotation that is written as text."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield from re.findall(r"\w+", annotation.value)


def is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a docstring, or documents a field."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def field_types(node: ast.stmt) -> Iterator[ast.expr]:
    """Yield the types of the fields of a class of settings: groups have methods of their own."""
    for one in node.body if isinstance(node, ast.ClassDef) and _is_schema(node) else ():
        if isinstance(one, ast.AnnAssign):
            yield one.annotation


def _decorators(function: ast.FunctionDef) -> Iterator[str]:
    for one in function.decorator_list:
        yield dotted(one.func if isinstance(one, ast.Call) else one).rpartition(".")[2]
