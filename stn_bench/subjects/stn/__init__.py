"""The article's network that reads captcha letters, with and without a spatial transformer.

hooks        the subject: what the harness sees of all this
config       its settings
data         its pictures: drawn or imported, and their correction
nn           all that knows Keras: the network, what it says, and its files
training     a run from its pictures to what it leaves, trained as any Keras model is
timing       how long a run takes here
libraries    what training needs of a machine
caveats      what a reader should know beside a verdict
idle         which settings nothing reads
files        what a run keeps
commands     `data`, `predict` and `rectify`, with predictions, letters and drawings
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stn_bench.subjects.stn.hooks import subject

__all__ = ["subject"]


def __getattr__(name: str) -> Any:
    """Return the subject, loaded when it is first asked for: a process that draws pictures starts without it."""
    if name != "subject":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stn_bench.subjects.stn.hooks import subject

    return subject
