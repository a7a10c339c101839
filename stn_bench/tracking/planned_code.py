"""The user's own code as a study was planned with it: a run that other code trained would have another's key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn_bench.subject import Subject
from stn_bench.system.errors import CodeChangedError
from stn_bench.tracking.code import OwnFile
from stn_bench.tracking.identity import own_files


@dataclass(frozen=True)
class PlannedCode:
    """The user's own files that run keys were taken from.

    Args:
        root: the folder that messages name them by.
        files: the files, as they were read then.
    """

    root: Path = Path()
    files: tuple[OwnFile, ...] = ()

    @classmethod
    def of(cls, subject: Subject, settings: Iterable[Mapping[str, Any]], root: Path) -> PlannedCode:
        """Return the code of trainings with these settings, as this process has read it for their run keys."""
        distinct = {id(one): one for one in settings}  # seeds share theirs
        return cls(root, own_files(subject, distinct.values()))

    def check(self) -> None:
        """Check that the files still hold what was planned; none is read unless it was written since.

        Raises:
            CodeChangedError: if one does not.
        """
        for one in self.files:
            if not one.is_as_read():
                file = one.file.relative_to(self.root) if one.file.is_relative_to(self.root) else one.file
                raise CodeChangedError(f"`{file}` changed after the study was planned; run again")


NO_CODE = PlannedCode()

__all__ = ["NO_CODE", "PlannedCode"]
