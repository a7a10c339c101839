"""The libraries that training needs: which of them are in a run key, and which of them this machine lacks.

Nothing is imported to look at them but OpenCV, which may be installed and still not load.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from stn_bench.subject import Finding
from stn_bench.system.errors import StnBenchError
from stn_bench.system.machine import package_version

BACKENDS = {"tensorflow": ("tensorflow",), "jax": ("jax", "jaxlib")}
"""Keras' backends that are tested -> the distributions of each."""

OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
"""The distributions of OpenCV, of which one is enough."""

PACKAGES = ("keras", "captcha", OPENCV[0], "pillow")
"""The libraries that training imports; the harness looks for its own."""


def backend() -> str:
    """Return the name of Keras' backend, as Keras itself chooses it, without importing it."""
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def network_libraries() -> tuple[str, ...]:
    """Return the distributions that compute a network's numbers."""
    return ("keras", "numpy", *BACKENDS.get(backend(), (backend(),)))


def keyed_libraries() -> tuple[str, ...]:
    """Return the distributions that can change a result: the network's, and the one that corrects pictures."""
    return (*network_libraries(), _installed(OPENCV) or OPENCV[0])


def _installed(names: Iterable[str]) -> str | None:
    return next((name for name in names if package_version(name)), None)


def check() -> Iterable[Finding]:
    """Return what training needs of a machine, and whether it is there; nothing is installed or changed."""
    yield _opencv()
    yield _backend()
    for name in PACKAGES:
        installed = _installed(OPENCV if name in OPENCV else (name,))
        found = package_version(installed) if installed else None
        yield Finding(name, found is not None, found or "not installed", "" if found else f"pip install {name}")


def _opencv() -> Finding:
    from stn_bench.subjects.stn.data.opencv import load_opencv

    try:
        return Finding("OpenCV", True, f"{load_opencv().__version__} loads")
    except StnBenchError as error:
        return Finding("OpenCV", False, "cannot be loaded", str(error))


def _backend() -> Finding:
    name = backend()
    if name not in BACKENDS:
        return Finding("Keras backend", False, name, f"set KERAS_BACKEND to one of {', '.join(BACKENDS)}")
    versions = {package: package_version(package) for package in BACKENDS[name]}
    missing = [package for package, version in versions.items() if version is None]
    installed = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
    advice = f"pip install {' '.join(missing)}" if missing else ""
    return Finding("Keras backend", not missing, f"{name} ({installed or 'not installed'})", advice)
