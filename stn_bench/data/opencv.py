"""The OpenCV door: the one place that imports cv2, and says what to install where that fails."""

from __future__ import annotations

from types import ModuleType

from stn_bench.errors import MachineError


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
