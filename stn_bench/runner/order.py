"""The order of a cell: what the runner hands to a worker, known before anything heavy is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stn_bench.study.plan import RunSpec
from stn_bench.system.machine import describe_machine, now
from stn_bench.tracking.identity import Identity
from stn_bench.tracking.record import RunOutcome, RunRecord, run_name


@dataclass(frozen=True)
class Start:
    """The finished run whose weights a training begins with.

    Args:
        run_id: MLflow's id of it.
        run_key: its identity.
        note: Markdown that says so on the page of the new run.
    """

    run_id: str
    run_key: str
    note: str


@dataclass(frozen=True)
class CellOrder:
    """All that it takes to train one cell.

    Args:
        spec: what to train.
        identity: its identity.
        experiment: MLflow's id of the study.
        parent: MLflow's id of the arm, or None outside a study.
        checkpoints: folder of the files that hold the unfinished training, one of each try.
        threads: threads of the training process, for the record.
        start: the run that this one is trained on from, or None for fresh weights.
    """

    spec: RunSpec
    identity: Identity
    experiment: str
    parent: str | None
    checkpoints: Path
    threads: int
    start: Start | None = None

    @property
    def name(self) -> str:
        """Name of the run, such as "transformer/none, seed 2"."""
        return run_name(self.spec) + (f", from {self.start.run_id[:8]}" if self.start else "")

    @property
    def slug(self) -> str:
        """The same name as a file may have it, such as "transformer_none_seed_2"."""
        return re.sub(r"[^a-z0-9]+", "_", self.name)

    def record(self, run_id: str, started: str, outcome: RunOutcome, reason: str) -> RunRecord:
        """Return the record of the cell's run, ended now, without what a training adds: metrics, history, layers."""
        spec = self.spec
        return RunRecord(
            run_id=run_id,
            run_key=self.identity.run_key,
            study=spec.study,
            ablation=spec.ablation,
            arm=spec.arm,
            phase=spec.phase,
            seed=spec.seed,
            trial=spec.trial,
            outcome=outcome,
            reason=reason,
            settings=spec.config.flat(),
            changes=dict(spec.changes),
            chosen=dict(spec.chosen),
            metrics={},
            history={},
            layers=(),
            uncounted=(),
            identity=self.identity,
            machine=describe_machine(self.threads),
            started=started,
            ended=now(),
        )
