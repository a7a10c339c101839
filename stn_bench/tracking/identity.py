"""Identity: what makes two runs the same run.

A run key is the SHA-256 of the resolved settings, the seed, the fingerprint of the data, the code that these settings
reach, and the versions of the libraries that can change a result. Code is named relative to the subject's package, so
that a move of the house changes no key.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from stn_bench.settings import canonical
from stn_bench.subject import FormerKey, Subject, is_shipped
from stn_bench.system.errors import ConfigError
from stn_bench.system.machine import package_version
from stn_bench.system.text import did_you_mean, shorten
from stn_bench.tracking.code import (
    OURS,
    OwnFile,
    Trail,
    beside,
    digests,
    files_on,
    is_inside,
    is_there,
    libraries_of,
    names_in,
    own_digests,
)
from stn_bench.tracking.former import Reference, read_former

Parts = dict[str, Any]
ABSENT = object()


@dataclass(frozen=True)
class Identity:
    """All that the result of a run depends on.

    Args:
        settings: the resolved settings by dotted path.
        seed: the run's seed.
        dataset: SHA-256 fingerprint of the data, or "" where the training loads its own.
        code: definition -> digest of its syntax tree.
        libraries: package -> version.
        start: run key of the run that this one was trained on from, or "".
    """

    settings: Parts
    seed: int
    dataset: str
    code: dict[str, str]
    libraries: dict[str, str]
    start: str = ""

    @property
    def run_key(self) -> str:
        """The SHA-256 over canonical JSON of all parts, as 64 hexadecimal digits."""
        return self.keyed()(self.seed)

    def keyed(self) -> Callable[[int], str]:
        """Return what gives the run key of this run on any seed: all but the seed is hashed once."""
        parts = {one.name: getattr(self, one.name) for one in fields(self)}
        del parts["seed"]
        before = {name: value for name, value in parts.items() if name < "seed"}
        behind = {name: value for name, value in parts.items() if name > "seed"}
        begun = hashlib.sha256(f'{canonical(before)[:-1]},"seed":'.encode())
        rest = f",{canonical(behind)[1:]}"

        def key(seed: int) -> str:
            whole = begun.copy()
            whole.update(f"{seed}{rest}".encode())
            return whole.hexdigest()

        return key


def identify(subject: Subject, settings: Mapping[str, Any], seed: int, dataset: str, start: str = "") -> Identity:
    """Return the identity of a run.

    Args:
        subject: what is trained.
        settings: its resolved settings by dotted path.
        seed: the run's seed.
        dataset: fingerprint of the data.
        start: run key of the run to go on from, or "".

    Raises:
        ConfigError: if the settings name code that cannot be found, or nothing of the training's can be read.
    """
    trail = _trail(subject, settings)
    code = digests(trail)
    if not code:  # no change of it would be seen
        raise ConfigError(
            f"`subject` {shorten(subject.name)}: the code of its `train` cannot be read; "
            "expected a function in a Python file, or a statement there that makes the subject"
        )
    libraries = _versions(_libraries(subject, trail))
    return Identity(_keyed(subject, settings), seed, dataset, code, libraries, start)


def libraries_named(subject: Subject, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the distributions that a training with these settings needs, as far as its run key tells."""
    return _libraries(subject, _trail(subject, settings))


def _libraries(subject: Subject, trail: Trail) -> tuple[str, ...]:
    return (subject.libraries() if callable(subject.libraries) else subject.libraries) or libraries_of(trail)


def own_code(subject: Subject, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return definition -> digest of the user's own code that a run reaches: what the harness brings is left out.

    Raises:
        ConfigError: if the settings name code that cannot be found.
    """
    return own_digests(_trail(subject, settings))


def own_files(subject: Subject, settings: Iterable[Mapping[str, Any]]) -> tuple[OwnFile, ...]:
    """Return the user's own files that runs with these settings reach, as they were read for the run keys."""
    return files_on({_trail(subject, one) for one in settings})


def former_identities(subject: Subject, identity: Identity) -> list[Identity]:
    """Return the identities that older versions would give a run of the same results, the latest first."""
    found = (_in_form_of(former, subject, identity) for former in subject.former)
    return [one for one in found if one is not None]


def former_identity(subject: Subject, old: Identity, new: Identity) -> Identity | None:
    """Return a run's identity of today in the form of an older one; None if that has today's form, or may differ.

    The form is the one whose definitions have the most names in common with the old identity's.
    """
    found = (_in_form_of(former, subject, new) for former in subject.former)
    forms = [new, *(one for one in found if one is not None)]
    likest = max(forms, key=lambda one: len(one.code.keys() & old.code.keys()))
    return None if likest is new else likest


def _in_form_of(former: FormerKey, subject: Subject, identity: Identity) -> Identity | None:
    """Return an identity as an older version had it; None if its results may be others."""
    if not _gives_the_same(former, subject, identity):
        return None
    extensions = _extensions(subject, identity.settings)
    followed = {package for module, _ in extensions for package in beside(module.partition(".")[0])}
    trail = Trail(
        roots=(*former.roots, *extensions),
        packages=tuple(sorted({*former.packages, *followed})),
        sliced=former.packages,
        names=_named(identity.settings),
        home=home_of(subject),
        prefix=former.prefix,
        former=former.code,
    )
    names = former.libraries() if callable(former.libraries) else former.libraries
    return replace(identity, code=digests(trail), libraries=_versions(names or libraries_of(trail)))


def _gives_the_same(former: FormerKey, subject: Subject, identity: Identity) -> bool:
    """Return whether all that took the place of former code is as it was when it gave the same results."""
    if not former.code:
        return True
    table = read_former(former.code)
    if not table.extensions and _extensions(subject, identity.settings):
        return False
    then = digests(replace(_trail(subject, identity.settings), former=former.code))
    shown = table.replacements
    return all(then.get(name) == digest or shown.get(name) == digest for name, digest in identity.code.items())


def _trail(subject: Subject, settings: Mapping[str, Any]) -> Trail:
    """Return where a subject's code is followed from: its `train`, what makes it, and what the settings name."""
    first, *others = _roots(subject)
    named = _extensions(subject, settings)
    home = home_of(subject)
    packages = set(subject.code) or (beside(home) if "." not in home else {home})
    for module, _ in (*others, *named):
        packages |= beside(module.partition(".")[0])
    return Trail((first, *others, *named), tuple(sorted(packages)), subject.code, _named(settings), home)


def _roots(subject: Subject) -> tuple[Reference, ...]:
    """Return the definitions of a subject: its `train` and, of a user's, the class of its settings.

    Where one of them is no definition by itself, such as a lambda or what `make(64)` returns, the statement that makes
    the subject is one, too. Elsewhere it is none: it says what is judged, not how it is trained.
    """
    train, statement = _definition_of(subject.train), _statement_of(subject)
    if is_shipped(subject.name):
        return (train or statement,)
    schema = _definition_of(subject.settings)
    own = [schema] if schema and not is_inside(schema[0], (OURS,)) else []
    made = not _is_definition(subject.train) or (own and not _is_definition(subject.settings))
    return tuple(dict.fromkeys([train or statement, *own, *([statement] if made else [])]))


def _definition_of(thing: Any) -> Reference | None:
    """Return the top-level definition that a function or a class comes from; None of an object that has no name."""
    name = getattr(thing, "__qualname__", "")
    return (thing.__module__, name.partition(".")[0]) if name else None


def _is_definition(thing: Any) -> bool:
    """Whether a function or a class is what a module holds by its name."""
    module = sys.modules.get(getattr(thing, "__module__", ""))
    return getattr(module, getattr(thing, "__qualname__", ""), None) is thing


def _statement_of(subject: Subject) -> Reference:
    """Return the statement that makes a subject, by its import path."""
    module, _, name = subject.name.partition(":")
    return module, name.partition(".")[0]


def home_of(subject: Subject) -> str:
    """Return the package of a subject: that of a shipped one, or the top-level package of a user's."""
    module, _ = _definition_of(subject.train) or _statement_of(subject)
    parts = module.split(".")
    return ".".join(parts[:3] if parts[:2] == ["stn_bench", "subjects"] else parts[:1])


def _named(settings: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(value for value in settings.values() if isinstance(value, str))


def _keyed(subject: Subject, settings: Mapping[str, Any]) -> Parts:
    return dict(json.loads(canonical(subject.settings.keyed(settings))))


def _versions(libraries: tuple[str, ...]) -> dict[str, str]:
    return {name: _version(name, package_version) for name in libraries}


@functools.cache
def _version(name: str, version_of: Callable[[str], str | None]) -> str:
    return version_of(name) or "missing"


def _extensions(subject: Subject, settings: Mapping[str, Any]) -> tuple[Reference, ...]:
    """Return the definitions outside the subject that settings name.

    Raises:
        ConfigError: if one cannot be found.
    """
    if subject.extensions is None:
        return ()
    found = []
    for address in subject.extensions(subject.read(settings)):
        module, _, name = address.partition(":")
        where = next((f"`{path}`" for path, value in settings.items() if value == address), f"`{address}`")
        if not is_there(module):
            raise ConfigError(f"{where}: no Python module `{module}` can be found from here")
        may_define, known = names_in(module, name)
        if not may_define:
            raise ConfigError(f"{where}: `{module}` has no `{name}`.{did_you_mean(name, known)}")
        found.append((module, name))
    return tuple(found)


def differences(old: Identity, new: Identity) -> list[str]:
    """Return one line for each part in which two identities differ: what it was and what it is."""
    lines = []
    for name, before in asdict(old).items():
        after = getattr(new, name)
        if isinstance(before, dict):
            for key in {**before, **after}:
                lines += _difference(f"{name} {key}", before.get(key, ABSENT), after.get(key, ABSENT))
        else:
            lines += _difference(name, before, after)
    return lines


def _difference(name: str, before: Any, after: Any) -> list[str]:
    def told(value: Any) -> str:
        if value is ABSENT:
            return "not there"
        return value[:12] if isinstance(value, str) and len(value) == 64 else repr(value)

    return [] if before == after else [f"{name}: was {told(before)}, is {told(after)}"]
