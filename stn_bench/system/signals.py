"""Signals that ask this process to stop: Ctrl-C, SIGTERM and the hang-up of a terminal. The door to their handlers."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from stn_bench.system.errors import Interrupted

HANG_UP = getattr(signal, "SIGHUP", None)
SENT = tuple(filter(None, (signal.SIGTERM, HANG_UP, getattr(signal, "SIGBREAK", None))))
"""Signals that programs send: a batch system, a container's host, `timeout`, a shell that ends."""

STOPS = (signal.SIGINT, *SENT)

ECHO_SECONDS = 0.25
"""A signal that follows another within this time is its echo: `timeout` and shells send theirs to a process and to its
whole group at the same moment."""

RAISE_AGAIN_SECONDS = 0.05

Handler = Callable[[int, FrameType | None], None]
_raised: weakref.ref[Interrupted] | None = None  # what is on its way to who answers it
_last = -math.inf  # moment of the monotonic clock at which a signal was heard that was no echo


@dataclass
class Interrupts:
    """How often this process was asked to stop, and by which signal first."""

    count: int = 0
    signum: int = signal.SIGINT


@contextmanager
def counting_interrupts(*, most: float = math.inf) -> Iterator[Interrupts]:
    """Count what asks to stop instead of raising in the middle of something; handlers are put back afterwards.

    Only the main thread hears it. A hang-up that is ignored, as under `nohup`, stays ignored.

    Args:
        most: how many are counted; the next one raises.

    Raises:
        Interrupted: at the signal after so many.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def count(signum: int, frame: FrameType | None) -> None:
        if not _is_new(signum):
            return
        interrupts.count += 1
        interrupts.signum = interrupts.signum if interrupts.count > 1 else signum
        if interrupts.count > most:
            raise Interrupted("stopped at once; what was finished is kept", signum)

    before = _listen(count)
    try:
        yield interrupts
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def raise_interrupts() -> None:
    """Let what asks this process to stop raise `Interrupted`, wherever it is; again where that is dropped on its way.

    Whoever catches it for good says so (`arrived`).
    """
    _listen(_interrupt)
    sys.unraisablehook = _hide_interrupt


def _listen(handler: Handler) -> dict[int, Any]:
    """Set the handler of all signals to stop, and return those of before."""
    global _last
    _last = -math.inf
    heard = [one for one in STOPS if one == signal.SIGINT or signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.getsignal(one) for one in heard}
    before = {one: known for one, known in before.items() if known is not None}  # None: not set by Python, left alone
    for one in before:
        signal.signal(one, handler)
    return before


def _is_new(signum: int) -> bool:
    global _last
    if signum == HANG_UP:
        _leave_terminal()
    now, before = time.monotonic(), _last
    if now - before < ECHO_SECONDS:
        return False
    _last = now
    return True


def _leave_terminal() -> None:
    """Let what would go to a terminal that is gone go nowhere: it refuses each word with an error."""
    descriptors = {1, 2}
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # it is none, closed, or no file
            descriptors.add(stream.fileno())
    for descriptor in descriptors:
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _raised
    if not _is_new(signum):
        return
    stop = Interrupted("stopped; what was finished is kept", signum)
    _raised = weakref.ref(stop, lambda dropped: _raise_soon(signum))
    try:
        raise stop
    finally:
        del stop  # its traceback holds this frame: the name would keep it


def _hide_interrupt(dropped: sys.UnraisableHookArgs) -> None:
    """Say nothing where Python has to drop the exception, as in a weak reference's callback: imports have such."""
    if not isinstance(dropped.exc_value, Interrupted):
        sys.__unraisablehook__(dropped)


def _raise_soon(signum: int) -> None:
    """Interrupt again, since Python or a library that catches everything dropped the exception."""
    threading.Timer(RAISE_AGAIN_SECONDS, _raise_again, (threading.main_thread().ident, signum)).start()


def _raise_again(thread: int, signum: int) -> None:
    global _last
    _last = -math.inf
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, signum)
    else:
        signal.raise_signal(signum)


def arrived(error: BaseException) -> Interrupted | None:
    """Return the signal that an exception comes of, or None; it has come to where it is answered, and is not repeated.

    A library may make an error of its own of it: `ImportError: initialization failed`.
    """
    global _raised
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Interrupted):
            _raised = None
            return one
        seen.append(one)
        waiting += [more for more in (one.__cause__, one.__context__) if more is not None and more not in seen]
    return None


def is_stop(error: BaseException) -> bool:
    """Return whether an exception asks this process to stop: ours does, and Python's where Ctrl-C would raise it."""
    is_pythons = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, Interrupted) or (isinstance(error, KeyboardInterrupt) and is_pythons)


# Children ------------------------------------------------------------------------------------------------------------


@contextmanager
def children_ignore_interrupts() -> Iterator[None]:
    """Start processes that hear nothing until they say what signals mean to them: a blocked signal is inherited.

    A whole group is signalled at once by a terminal and by batch systems. What comes meanwhile reaches the parent
    afterwards. Each child calls `leave_to_parent` or `follow_parent` first of all.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        resource_tracker.ensure_running()  # hang-ups stay blocked there; on its way it unblocks the other signals
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent() -> None:
    """Leave it to the parent of this process what a signal to stop means: it tells by other ways.

    Processes that this one starts hear SIGTERM as any other does, since that is how they are ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for one in SENT:
        if signal.getsignal(one) is signal.SIG_DFL:
            signal.signal(one, _leave)
    if hasattr(os, "register_at_fork"):  # blocked meanwhile: one that comes at once must not meet our handler
        os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_hear_again)
    _unblock()


def _leave(signum: int, frame: FrameType | None) -> None:
    pass


def _hear_again() -> None:
    for one in SENT:
        if signal.getsignal(one) is _leave:
            signal.signal(one, signal.SIG_DFL)
    _unblock()


def follow_parent() -> None:
    """Leave Ctrl-C to the parent of this process, end at any other signal to stop, and with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _unblock()
    end_with_parent()


def _block() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, SENT)


def _unblock() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT)


def end_with_parent() -> None:
    """End this process with its parent, even if that is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
