"""A study that is settled: all that it wants is trained, told to MLflow and reported, and nothing has changed since.

To say so takes neither MLflow nor Optuna nor a figure. At the end of a `run` that left nothing to do, the digest of
all that it depended on is noted in the file of records. The next `run` that comes to this digest has nothing to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn_bench.analysis.analyse import Analysis
from stn_bench.runner.stores import analyse_stored, open_tracking
from stn_bench.settings import canonical
from stn_bench.study.plan import Plan
from stn_bench.system.machine import package_version
from stn_bench.system.own_code import stamps
from stn_bench.system.workspace import Workspace, sqlite_file
from stn_bench.tracking.ended import reading
from stn_bench.tracking.kept import KeptRecords
from stn_bench.tracking.quick import quick_runs, quick_state
from stn_bench.tracking.results import Keys
from stn_bench.tracking.stored import StoredRuns

LIBRARIES = ("matplotlib", "numpy", "scipy", "pandas", "pydantic", "jinja2", "markdown-it-py", "mlflow", "optuna")
"""What a report is made with, beside the code of ours and of the subject."""


@dataclass(frozen=True)
class Settled:
    """Whether a study is settled in a workspace. It is made before a command does anything.

    Args:
        plan: the plan.
        workspace: where its runs and its report are.
        command: "run", or "report", which leaves nothing to do although runs are missing.
        confirm: whether the best arms are to be confirmed.
        code: the user's modules that are imported, as they are.
    """

    plan: Plan
    workspace: Workspace
    command: str
    confirm: bool
    code: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, plan: Plan, workspace: Workspace, *, command: str = "run", confirm: bool = False) -> Settled:
        """Return it for the code that is imported now."""
        return cls(plan, workspace, command, confirm, stamps())

    def look(self) -> tuple[Analysis, StoredRuns] | None:
        """Return what the results of a settled study say, with its runs; None if there may be something to do."""
        kept = KeptRecords(self.workspace.records)
        noted = kept.note(self._name)
        if not noted or (self.command == "run" and not self._has_queue()):
            return None
        if quick_runs(self.workspace.tracking, kept, lambda: open_tracking(self.workspace)) is None:
            return None
        analysis, runs = analyse_stored(self.plan, self.workspace)
        if not isinstance(runs, StoredRuns) or self._digest(analysis) != noted:
            return None
        return analysis, runs

    def note(self, analysis: Analysis) -> None:
        """Take note of a study if nothing of it is left to do."""
        is_done = self.command == "report" or not analysis.unfinished(self.confirm)
        if is_done and (digest := self._digest(analysis)):
            KeptRecords(self.workspace.records).write_note(self._name, digest)

    @property
    def _name(self) -> str:
        return f"{self.command} {self.plan.study.name}"

    def _has_queue(self) -> bool:
        """Return whether the job queue is there: a `run` makes a missing one, and tells of a damaged one."""
        file = sqlite_file(self.workspace.queue)
        if file is None or not file.is_file():
            return False
        with contextlib.suppress(sqlite3.Error), reading(file) as ask:
            return bool(ask("SELECT 1 FROM trials LIMIT 1", {}))
        return False

    def _digest(self, analysis: Analysis) -> str:
        """Return a digest of all that a `run` depends on; "" if a run merely stands in, or the store is a server's."""
        state = quick_state(self.workspace.tracking, self.plan.study.name)
        keys = list(self._keys(analysis))
        if not state or not all(keys):
            return ""
        parts = [
            self._asked(),
            keys,
            [record.run_id for record in (*analysis.results.records, *analysis.results.crashed)],
            state,
            list(self._files()),
            sorted(self.code.items()),
            [package_version(name) for name in LIBRARIES],
        ]
        return hashlib.sha256(canonical(parts).encode()).hexdigest()

    def _asked(self) -> list[Any]:
        plan = self.plan
        fixed = plan.preregistration and plan.preregistration.model_dump(mode="json")
        questions = [question.ablation.model_dump(mode="json") for question in plan.questions]
        return [
            plan.digest,
            plan.study.model_dump(mode="json"),
            questions,
            fixed,
            self.confirm,
            self.workspace.tracking,
        ]

    def _keys(self, analysis: Analysis) -> Iterator[str]:
        """Yield under which run key of today each run is known; "" for one that is none of today's."""
        keys = Keys(self.plan.subject, self.workspace.datasets)
        for arm in analysis.results.arms:
            if arm.chosen is None:
                yield ""
                continue
            found = {
                (one.seed, one.trial): one.run_key
                for one in (*arm.trials, *arm.runs.values(), *arm.confirmed.values())
            }
            specs = (*arm.arm.tuning_specs(), *arm.arm.verdict_specs(arm.chosen), *arm.arm.confirm_specs(arm.chosen))
            for spec in specs:
                if run_key := found.get((spec.seed, spec.trial)):
                    yield run_key if run_key in keys(spec) else ""

    def _files(self) -> Iterator[Any]:
        """Yield what the files of the report are, and when those of this package were changed."""
        for path in _under(self.workspace.report(self.plan.study.name)):
            yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()
        home = Path(__file__).parent.parent
        for path in _under(home):
            if path.suffix != ".pyc":
                found = path.stat()
                yield path.relative_to(home).as_posix(), found.st_mtime_ns, found.st_size


def _under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


__all__ = ["Settled"]
