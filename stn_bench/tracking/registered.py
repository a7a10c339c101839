"""Registered code: definitions that no name leads to, since a decorator, a call or a base class takes note of them.

`@register("small")` keeps a function in a dict, and a training finds it there. So of the user's modules that run, each
definition is followed that a tool has seen which writes to something that the training reaches.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeGuard

from stn_bench.tracking.former import Definition, Reference
from stn_bench.tracking.modules import LOOSE, Module

Definitions = Callable[[str, str], Definition | None]
Modules = Callable[[str], Module]
HOOK = "__init_subclass__"
CONSTANT = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.expr_context)


def registered(
    seen: Collection[Reference], run: Iterable[str], modules: Modules, definitions: Definitions
) -> list[Reference]:
    """Return the definitions that were not seen yet, and that something that was seen may hold.

    Args:
        seen: the definitions that are followed so far.
        run: the user's modules that are imported.
        modules: name of a module -> the module.
        definitions: module, name -> the definition, if it is the user's.
    """
    search = _Search(seen, modules, definitions)
    sources = [modules(name) for name in run]
    return [
        (source.name, name)
        for source in sources
        for name, statements in source.definitions.items()
        if name != LOOSE and (source.name, name) not in seen
        if any(search.knows(source, statement) for statement in statements)
    ]


class _Search:
    """One look at all that was seen."""

    def __init__(self, seen: Collection[Reference], modules: Modules, definitions: Definitions) -> None:
        self._seen, self._modules, self._definitions = seen, modules, definitions
        self._written: dict[Reference, bool] = {}

    def knows(self, source: Module, statement: ast.stmt) -> bool:
        """Whether a statement's definition may be found through what was seen."""
        for tool in _tools(statement):
            method = isinstance(tool, ast.Attribute) and self._is_seen(source, tool.value)
            if method or any(self._writes(one) for one in source.references(tool)):
                return True
        bases = [*statement.bases, *(one.value for one in statement.keywords)] if _is_class(statement) else []
        return any(self._is_seen(source, base) and self._hooks(source, base) for base in bases)

    def _is_seen(self, source: Module, node: ast.expr) -> bool:
        return any(one in self._seen for one in self._resolved(source.references(node)))

    def _resolved(self, references: Iterable[Reference]) -> Iterator[Reference]:
        """Yield references, and where each leads that is imported from elsewhere."""
        waiting, found = list(references), set[Reference]()
        while waiting:
            one = waiting.pop()
            if one not in found and self._definitions(*one) is not None:
                found.add(one)
                yield one
                waiting += self._modules(one[0]).elsewhere(one[1])

    def _writes(self, tool: Reference) -> bool:
        """Whether a tool names something that was seen and can hold things."""
        if tool not in self._written:
            reached, waiting = set[Reference](), [tool]
            while waiting:
                for one in self._resolved([waiting.pop()]):
                    definition = self._definitions(*one)
                    if one not in reached and definition is not None:
                        reached.add(one)
                        waiting += definition.references
            self._written[tool] = any(one in self._seen and self._holds(*one) for one in reached)
        return self._written[tool]

    def _holds(self, module: str, name: str) -> bool:
        source = self._modules(module)
        return name in source.written or any(map(_can_hold, source.definitions.get(name, ())))

    def _hooks(self, source: Module, base: ast.expr) -> bool:
        """Whether a class, or one that it is made of, is told of the classes that are made of it."""
        waiting, found = list(self._resolved(source.references(base))), set[Reference]()
        while waiting:
            module, name = one = waiting.pop()
            if one in found:
                continue
            found.add(one)
            around = self._modules(module)
            for statement in around.definitions.get(name, ()):
                if not isinstance(statement, ast.ClassDef):
                    continue
                if statement.keywords or HOOK in {getattr(inner, "name", "") for inner in statement.body}:
                    return True
                waiting += [ref for one in statement.bases for ref in self._resolved(around.references(one))]
        return False


def _tools(statement: ast.stmt) -> Iterator[ast.expr]:
    """Yield what a statement of the top level calls, and may tell of what it defines."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        decorators = getattr(node, "decorator_list", [])
        yield from (one for one in decorators if not isinstance(one, ast.Call))
        if isinstance(node, ast.Call):
            yield node.func
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += decorators
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _is_class(statement: ast.stmt) -> TypeGuard[ast.ClassDef]:
    return isinstance(statement, ast.ClassDef)


def _can_hold(statement: ast.stmt) -> bool:
    """Whether what a statement makes can take note of something: all but plain functions, classes and constants."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    if isinstance(statement, ast.ClassDef):
        return any(_can_hold(one) for one in statement.body if isinstance(one, ast.Assign | ast.AnnAssign))
    value = getattr(statement, "value", None)
    return value is not None and not all(isinstance(one, CONSTANT) for one in ast.walk(value))
