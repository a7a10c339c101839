"""The arguments of Python's door: each is checked against its annotation before anything else is done.

Importing this loads nothing; pydantic reads the annotations at the first call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar, get_type_hints

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

WORDS = {
    "Path": "a path",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "Study": "a Study",
    "pd.DataFrame": "a DataFrame",
    "Mapping[str, Any]": "a mapping, as in {'width': 64}",
    "Mapping[str, str]": "a mapping, as in {'acc': 'maximize'}",
    "Mapping[str, float]": "a mapping, as in {'acc': 0.005}",
    "Sequence[str]": "a list of texts",
    "Sequence[int]": "a list of whole numbers",
    "Sequence[float]": "a list of numbers",
}
"""A part of an annotation -> what a person calls it."""

QUOTED = (str, int, float, list, tuple, dict, range)
"""Types whose values a message quotes; of others it names the type."""


def checked(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """Return a function that refuses arguments which it does not have, or of another type, in one line.

    Raises:
        ConfigError: by the function that is returned, for such an argument.
    """
    signature, title = inspect.signature(function), function.__qualname__
    annotations = {name: one.annotation for name, one in signature.parameters.items() if name != "self"}

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        from stn_bench.system.errors import ConfigError
        from stn_bench.system.text import did_you_mean, shorten

        for name in kwargs.keys() - annotations.keys():
            advice = did_you_mean(name, annotations) or f" Known: {', '.join(annotations)}"
            raise ConfigError(f"{title}: no argument `{shorten(name)}`.{advice}")
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise ConfigError(f"{title}: {error}") from None
        kinds = _kinds(function)
        for name, annotation in annotations.items():
            if name in given and not _fits(given[name], kinds[name]):
                told = f"expected {_in_words(annotation)}, got {_shown(given[name])}"
                raise ConfigError(f"{title}: `{name}`: {told}")
        return function(*args, **kwargs)

    return call


def _frame(value: Any) -> Any:
    """Return a DataFrame as it is; pandas is not loaded to tell one."""
    if not any(one.__name__ == "DataFrame" and one.__module__.startswith("pandas") for one in type(value).__mro__):
        raise ValueError
    return value


@functools.cache
def _kinds(function: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    """Return what checks each parameter of a function."""
    from pydantic import ConfigDict, InstanceOf, PlainValidator, TypeAdapter

    from stn_bench.study.spec import Study

    names: dict[str, Any] = {"Path": Path, "Mapping": Mapping, "Sequence": Sequence, "Any": Any}
    names |= {"Study": InstanceOf[Study], "pd": SimpleNamespace(DataFrame=Annotated[Any, PlainValidator(_frame)])}
    annotations = {name: text for name, text in function.__annotations__.items() if name != "return"}
    only = type("Only", (), {"__annotations__": annotations})
    hints = get_type_hints(only, names, include_extras=True)
    return {name: TypeAdapter(kind, config=ConfigDict(strict=True)) for name, kind in hints.items()}


def _fits(value: Any, kind: TypeAdapter[Any]) -> bool:
    from pydantic import ValidationError

    from stn_bench.study.spec import plain

    try:
        kind.validate_python(value if hasattr(value, "columns") else plain(value))
    except ValidationError:
        return False
    return True


def _in_words(annotation: str) -> str:
    parts = [part for part in annotation.split(" | ") if part != "None"]
    parts = [part for part in parts if part != "str" or "Path" not in parts]
    return " or ".join(WORDS[part] for part in parts)


def _shown(value: Any) -> str:
    from stn_bench.system.text import quote

    return quote(value) if value is None or isinstance(value, QUOTED) else f"a {type(value).__name__}"
