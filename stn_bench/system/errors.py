"""The errors a person may see, as one tree.

    StnBenchError
    ├── ConfigError       a setting that is unknown, of the wrong type or out of range
    ├── CatalogueError    an ablation or study file that cannot be used
    ├── PlanError         a plan that is not the preregistered one, or a preregistration that cannot be read
    ├── SubjectError      a training that returned something else than the numbers that its study asks for
    ├── CodeChangedError  code of the user's that is no more what its study was planned with
    ├── DataError         data that cannot be made, read or trusted
    ├── ModelFileError    a model file that is missing or not one of ours
    ├── StoreError        a tracking store or a job queue that cannot be reached or read
    │   └── StoreAwayError    one that was reached before, and does not answer for now
    ├── LeaseLostError    a job that another worker has by now
    ├── ArchiveError      an archive of runs that cannot be written, or not be trusted
    ├── ReportError       a report that cannot be written, or is stale
    └── MachineError      something the machine lacks: a package, a system library, disk space

    Interrupted           Ctrl-C, SIGTERM or a hang-up: a later run goes on; no error: `except Exception` lets it by

Every message says where, what was expected, what was received and what to do, in one or two lines.
"""

from __future__ import annotations

import signal

from stn_bench.system.text import without_secrets

SIGNALLED = 128
"""The exit code of a process that a signal ended, as a shell tells it, less the number of the signal."""


class StnBenchError(Exception):
    """Base of every error that the command line turns into a line of text and exit code 2; it tells no password."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


class ConfigError(StnBenchError):
    """A setting is unknown, of the wrong type or out of range."""


class CatalogueError(StnBenchError):
    """An ablation or study file cannot be used."""


class PlanError(StnBenchError):
    """A plan is not the preregistered one, or the file of the preregistration cannot be used."""


class SubjectError(StnBenchError):
    """A training returned something else than the numbers that its study asks for."""


class CodeChangedError(StnBenchError):
    """Code of the user's is no more what its study was planned with."""


class DataError(StnBenchError):
    """Data cannot be made, read or trusted."""


class ModelFileError(StnBenchError):
    """A model file is missing or was not written by stn-bench."""


class StoreError(StnBenchError):
    """A tracking store or a job queue cannot be reached or read."""


class StoreAwayError(StoreError):
    """A store that was reached before does not answer for now: it restarts, or the network is down."""


class LeaseLostError(StnBenchError):
    """Another worker has the job by now: what this one trained of it is not to be kept."""

    def __init__(self, message: str = "this worker was silent for too long: its job went to another") -> None:
        super().__init__(message)


class ArchiveError(StnBenchError):
    """An archive of runs cannot be written, or is not one that can be trusted."""


class ReportError(StnBenchError):
    """A report cannot be written, or no longer agrees with the store."""


class MachineError(StnBenchError):
    """The machine lacks something: a package, a system library, disk space."""


NOBODYS_FAULT = (CodeChangedError, DataError, MachineError, StoreError, SubjectError)
"""Errors that no arm causes: the study stops, nothing is recorded."""


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or a hang-up: what was finished is kept, and a later run goes on from there.

    No `Exception`, as Python's own KeyboardInterrupt is none: it can come anywhere, and a library or a training of
    the user's that catches every error must not swallow it. (It is no KeyboardInterrupt, which typer answers itself.)

    Args:
        message: what a person is told.
        signum: the signal that asked to stop.
    """

    def __init__(self, message: str = "stopped", signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """How a process ends of it, as a shell tells it: 130 after Ctrl-C, 143 after SIGTERM, 129 after a hang-up."""
        return SIGNALLED + self.signum
