"""The OpenCV door: the one place that imports cv2, and says what to install where that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from stn_bench.system.errors import MachineError


def load_opencv() -> ModuleType:
    """Return the module `cv2`, imported on first use.

    Raises:
        MachineError: if it is missing, or lacks a system library.
    """
    try:
        import cv2
    except ImportError as error:
        raise MachineError(
            f"OpenCV cannot be imported: {error}.\nInstall the package `opencv-python-headless` in place of "
            "`opencv-python`, or the system packages libgl1 and libglib2.0-0."
        ) from error
    module: ModuleType = cv2
    return module


@contextmanager
def muted() -> Iterator[None]:
    """Send what OpenCV and the libraries below it write to standard error nowhere.

    They tell of broken pictures there, libpng past every log level of OpenCV's; we say so in a line of our own.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
