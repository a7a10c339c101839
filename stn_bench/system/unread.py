"""Which parameters a function never reads: an arm that sets one of these alone would be compared with noise."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

ALL_AT_ONCE = frozenset({"locals", "vars", "eval", "exec", "dir"})
"""Calls that may read any parameter."""


def unread(function: Callable[..., Any]) -> frozenset[str]:
    """Return the parameters that no instruction of a function reads; none where that cannot be told.

    A decorator may read what the function inside does not, so of a decorated one nothing is told.
    """
    if not isinstance(function, FunctionType) or inspect.unwrap(function) is not function:
        return frozenset()
    code = function.__code__
    if ALL_AT_ONCE & set(code.co_names) or any(ALL_AT_ONCE & set(one.co_names) for one in _inner(code)):
        return frozenset()
    read = set(code.co_cellvars)  # of a function within
    for instruction in dis.get_instructions(code):
        if "LOAD" in instruction.opname:
            read |= set(instruction.argval) if isinstance(instruction.argval, tuple) else {instruction.argval}
    return frozenset(inspect.signature(function).parameters) - read


def _inner(code: CodeType) -> list[CodeType]:
    found = [one for one in code.co_consts if isinstance(one, CodeType)]
    return found + [one for outer in found for one in _inner(outer)]


__all__ = ["unread"]
