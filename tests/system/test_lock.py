from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from stn_bench.system import lock
from stn_bench.system.errors import MachineError
from stn_bench.system.lock import Lock


def test_one_at_a_time_holds_it(tmp_path: Path) -> None:
    order: list[str] = []
    own, others = Lock(tmp_path / "one.lock"), Lock(tmp_path / "one.lock")

    def wait() -> None:
        with others:
            order.append("other")

    with own:
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(timeout=0.2)
        order.append("own")
    thread.join()
    assert order == ["own", "other"]


def test_who_holds_it_may_take_it_again(tmp_path: Path) -> None:
    own = Lock(tmp_path / "deep" / "one.lock")
    with own, own:
        pass
    with own:
        pass


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EROFS, r"one\.lock: cannot be locked \(Read-only file system\); see that this folder can be written"),
        (errno.ENOSPC, r"the disk is full: make room, then run again"),
    ],
)
def test_a_disk_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def fail(self: object) -> None:
        raise OSError(number, "Read-only file system" if number == errno.EROFS else "No space left on device")

    monkeypatch.setattr(lock.FileLock, "acquire", fail)
    with pytest.raises(MachineError, match=message), Lock(tmp_path / "one.lock"):
        pass
