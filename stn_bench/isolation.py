"""Isolation: every training begins from the same global state, and leaves none.

What all code of a process shares is read before a training and put back behind it, however it ended. A library that a
training is the first to load is put back to how it was right after its import: `watch_imports` takes note of that.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import stn_bench.subjects
from stn_bench.system.global_state import (
    ASPECTS,
    Aspect,
    Library,
    is_same,
    keeping_generators,
    seed_generators,
)
from stn_bench.system.library_state import LIBRARIES
from stn_bench.system.own_code import is_own

NOTHING = object()
"""Stands for an aspect that cannot be read: this version of its library has none."""

_active: list[Isolation] = []
"""The trainings of this process, the innermost last."""

_imported: dict[str, dict[str, Any]] = {}
"""Library whose import was watched -> its aspects as they were right after it."""


@contextlib.contextmanager
def isolated(seed: int = 0, tell: Callable[[Sequence[str]], None] = lambda residue: None) -> Iterator[Isolation]:
    """Begin from the global state that every training begins from, and put back what was there before.

    Python's and numpy's generators of random numbers, and those of loaded libraries, begin in a state that the seed
    determines. Libraries that were loaded by others, as in a notebook, begin with their own defaults; those whose
    import was watched begin as the user's module set them while it was imported.

    Args:
        seed: the seed of the training.
        tell: called afterwards if something cannot be put back, with what that is: another training needs another
            process.
    """
    watch_imports()
    isolation = Isolation(seed)
    _active.append(isolation)
    try:
        with keeping_generators():
            isolation.begin()
            yield isolation
    finally:
        _active.remove(isolation)
        isolation.end()
        if isolation.residue:
            tell(isolation.residue)


class Isolation:
    """The global state before a training.

    Args:
        seed: the seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._before: dict[str, Any] = {}
        self._begun: dict[str, Any] = {}
        self._spoilt: list[str] = []
        self.facts: dict[str, str] = {}
        self.residue: tuple[str, ...] = ()

    def begin(self) -> None:
        """Take note of everything, and put libraries into the state that trainings begin from."""
        libraries = _loaded()
        self._before = _read(_aspects(libraries))
        for library in libraries:
            if library.name not in _imported:
                _write(library.aspects, library.defaults)
            self._take_in(library)
        seed_generators(self._seed)
        self._begun = _read(_aspects(libraries))

    def end(self) -> None:
        """Put everything back; `residue` says afterwards what another process is needed for."""
        aspects = _aspects(_loaded())
        changed = [one.name for one in aspects if one.name in self._begun and not _has(one, self._begun[one.name])]
        _write(aspects, self._before)
        left = [one.name for one in aspects if one.name in changed and not _has(one, self._before[one.name])]
        self.residue = (*left, *self._spoilt)

    def now(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return every aspect as it is, and as the training began."""
        return _read(_aspects(_loaded())), dict(self._begun)

    def spoilt(self, module: str, values: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
        """Take note of what a module of the user's set while it was imported: for the next training it will not."""
        after, begun_now = self.now()
        changed = [name for name in after if name in values and not is_same(values[name], after[name])]
        own = [name for name in changed if is_same(begun.get(name), begun_now.get(name))]  # no library that it imports
        self._spoilt += [f"what the import of `{module}` sets ({name})" for name in own[:1]]

    def imported(self, library: Library | None, before: Mapping[str, Any]) -> None:
        """Keep what a library set while it was imported: it will not do so again."""
        now = _read(ASPECTS)
        for kept in (self._before, self._begun):
            for name in [name for name in now if name in before and not is_same(before[name], now[name])]:
                kept[name] = _rebased(kept.get(name, NOTHING), before[name], now[name])
            if library:
                kept.update(_imported[library.name])
        if library:
            self._take_in(library)

    def _take_in(self, library: Library) -> None:
        with keeping_generators(), contextlib.suppress(AttributeError):  # of another version
            library.seed(self._seed)
            self.facts |= library.facts()


def _rebased(kept: Any, before: Any, after: Any) -> Any:
    """Return a value that is kept, with what changed from one moment to the next; the next where that is all."""
    if isinstance(kept, dict) and isinstance(before, dict) and isinstance(after, dict):
        changed = {name: after[name] for name in after if name not in before or not is_same(before[name], after[name])}
        return {**kept, **changed}
    return after if is_same(kept, before) else kept


def _aspects(libraries: Sequence[Library]) -> tuple[Aspect, ...]:
    """Return all aspects, in the order in which they are put back: libraries may change Python's own."""
    return (*(aspect for one in libraries for aspect in one.aspects), *ASPECTS)


def _value(aspect: Aspect) -> Any:
    try:
        return aspect.read()
    except Exception:  # another version of the library
        return NOTHING


def _has(aspect: Aspect, value: Any) -> bool:
    return is_same(_value(aspect), value)


def _read(aspects: Sequence[Aspect]) -> dict[str, Any]:
    found = {aspect.name: _value(aspect) for aspect in aspects}
    return {name: value for name, value in found.items() if value is not NOTHING}


def _write(aspects: Sequence[Aspect], values: Mapping[str, Any]) -> None:
    """Set the aspects that have another value than these, as far as that can be done."""
    for aspect in aspects:
        if aspect.name in values and not _has(aspect, values[aspect.name]):
            with contextlib.suppress(Exception):  # whoever looks afterwards is told
                aspect.write(values[aspect.name])


# Libraries -----------------------------------------------------------------------------------------------------------


@functools.cache
def _known() -> dict[str, Library]:
    """Return every library whose settings are known, by its name."""
    own = (importlib.import_module(name).LIBRARIES for name in stn_bench.subjects.STATES)
    return {one.name: one for one in (*LIBRARIES, *(library for found in own for library in found))}


def _loaded() -> list[Library]:
    return [one for one in _known().values() if isinstance(sys.modules.get(one.name), ModuleType)]


def unheeded() -> list[str]:
    """Return what is set of libraries outside of code on this machine, and is heeded by no training."""
    return [line for library in _known().values() for line in library.unheeded()]


def watch_imports() -> None:
    """Take note from now on of how libraries are right after their import, in this process.

    A library's settings outside of code, such as a file in the home folder, are kept from it while it is imported.
    """
    if not any(isinstance(one, _Watcher) for one in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


class _Watcher(MetaPathFinder):
    """Finds what others find, and is there while it is imported."""

    def __init__(self) -> None:
        self._finding: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec of a library or of a user's module with a loader that takes note; None leaves it to others.

        Modules inside a library are its own affair.
        """
        top, _, rest = name.partition(".")
        if top in sys.stdlib_module_names or name in self._finding or name in sys.modules:
            return None
        if rest and not (_active and _is_of_the_user(top)):
            return None
        if not (rest or _active or name in _known()):
            return None
        self._finding.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finding.discard(name)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Witness(spec.loader, _known().get(name), bool(spec.origin and is_own(spec.origin)))
        return spec


def _is_of_the_user(module: str) -> bool:
    file = getattr(sys.modules.get(module), "__file__", None)
    return isinstance(file, str) and is_own(file)


class _Witness(Loader):
    """Loads a module as its own loader does, which has its place back before the module's code runs."""

    def __init__(self, loader: Any, library: Library | None, is_own: bool) -> None:
        self._loader, self._library, self._is_own = loader, library, is_own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module, as its own loader makes it."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code; what it draws is the same whichever training comes first, and shifts no draw of that.

        Raises:
            MachineError: if a library lacks what it needs here.
        """
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        with keeping_generators():
            if self._is_own and _active:
                self._run_own(module)
            else:
                self._run_library(module)

    def _run_own(self, module: ModuleType) -> None:
        before = [isolation.now() for isolation in _active]
        seed_generators(0)
        self._loader.exec_module(module)
        for isolation, (values, begun) in zip(_active, before, strict=True):
            isolation.spoilt(module.__name__, values, begun)

    def _run_library(self, module: ModuleType) -> None:
        library, before = self._library, _read(ASPECTS) if _active else {}
        with library.importing() if library else contextlib.nullcontext():
            self._loader.exec_module(module)
        if library:
            _imported[library.name] = _read(library.aspects)
        for isolation in _active:
            isolation.imported(library, before)
