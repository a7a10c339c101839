"""Former code: definitions that were replaced, as run keys of their day hold them.

A table holds every definition of the modules that were replaced, by its digest and by what it named, so that the key
of that day is computed as it was, through the rest of the code as it is now. Beside them it holds the digests of what
took their place when that was shown to give the same results.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Reference = tuple[str, str]
"""(module, name of a top-level definition in it)."""


@dataclass(frozen=True)
class Definition:
    """A top-level definition: the entries that are left of a registry, its digest, and what it names."""

    entries: str
    digest: str
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class FormerCode:
    """The code of some modules as it was.

    Args:
        definitions: module -> name -> the definition, by the entries that are left of it.
        tops: module -> the top-level packages that it imported.
        replacements: definition of today -> its digest when the results were shown to be the same.
        extensions: whether they are the same where settings name code outside the subject, too.
    """

    definitions: Mapping[str, Mapping[str, Mapping[str, Definition]]] = field(default_factory=dict)
    tops: Mapping[str, frozenset[str]] = field(default_factory=dict)
    replacements: Mapping[str, str] = field(default_factory=dict)
    extensions: bool = True

    def find(self, module: str, name: str, names: frozenset[str]) -> Definition | None:
        """Return a definition of one of the modules, of registries with the entries that settings name."""
        forms = self.definitions[module].get(name)
        if forms is None:
            return None
        known = {entry for form in forms for entry in form.strip("[]").split(", ") if entry}
        return forms[f"[{', '.join(sorted(names & known))}]" if known else ""]


@functools.cache
def read_former(file: str) -> FormerCode:
    """Return the table in a file of ours; "": none."""
    if not file:
        return FormerCode()
    table = json.loads(Path(file).read_text(encoding="utf-8"))
    return FormerCode(
        definitions={
            module: {
                name: {
                    form: Definition(form, digest, tuple((where, what) for where, what in references))
                    for form, (digest, references) in forms.items()
                }
                for name, forms in content["definitions"].items()
            }
            for module, content in table["modules"].items()
        },
        tops={module: frozenset(content["imports"]) for module, content in table["modules"].items()},
        replacements=table["replacements"],
        extensions=table["extensions"],
    )
