"""The lock: what one process of this machine does at a time. The door to filelock."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from stn_bench.system.errors import MachineError
from stn_bench.system.machine import disk_full


class Lock:
    """A file that one process at a time holds; who holds it already may take it again.

    Args:
        path: the file, made where it is missing.
        wait: whether to wait for whoever holds it.
    """

    def __init__(self, path: Path, *, wait: bool = True) -> None:
        self._path, self._lock = path, FileLock(path, timeout=-1 if wait else 0)

    def __enter__(self) -> None:
        """Hold it, once nobody else does.

        Raises:
            MachineError: if the file cannot be written, on a disk that is full or read-only; or if another process
                holds it, and nobody is to wait.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise MachineError(f"{self._path.parent}: another process is at work there") from None
        except OSError as error:
            reason = error.strerror or error
            raise disk_full(error) or MachineError(
                f"{self._path}: cannot be locked ({reason}); see that this folder can be written, or choose another "
                f"with --root. Finished runs are kept"
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the next one have it."""
        self._lock.release()
