"""Output whose reader may leave: `stn-bench list | head -1`, or `run` whose terminal page is closed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

Returned = TypeVar("Returned")
LEFT = {errno.EPIPE} | ({errno.EINVAL} if os.name == "nt" else set())


class Unbroken:
    """A text stream that writes to nowhere once nobody reads it any more, so that the command goes on to its end.

    Args:
        stream: the stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text, or drop it where nobody reads it."""
        return self._kept(lambda: self.stream.write(text), len(text))

    def writelines(self, lines: list[str]) -> None:
        """Write lines, or drop them where nobody reads them."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Write what is held back, or drop it where nobody reads it."""
        self._kept(self.stream.flush, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _kept(self, act: Callable[[], Returned], dropped: Returned) -> Returned:
        try:
            return act()
        except OSError as error:
            if error.errno not in LEFT:
                raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
        return dropped


@contextmanager
def unbroken_output() -> Iterator[None]:
    """Let a command go on when the reader of its output or of its messages leaves, as `head` does after its lines."""
    output, messages = sys.stdout, sys.stderr
    if output is not None:  # closed by `>&-`
        sys.stdout = Unbroken(output)
    if messages is not None:
        sys.stderr = Unbroken(messages)
    try:
        yield
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()  # Python does so at its end, and calls a broken pipe there a fault
        sys.stdout, sys.stderr = output, messages


__all__ = ["Unbroken", "unbroken_output"]
