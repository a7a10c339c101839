"""The order of a cell: what the runner hands to a worker, known before anything heavy is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stn_bench.identity import Identity
from stn_bench.plan import RunSpec


@dataclass(frozen=True)
class CellOrder:
    """All that it takes to train one cell.

    Args:
        spec: what to train.
        identity: its identity.
        experiment: MLflow's id of the study.
        parent: MLflow's id of the arm, or None outside a study.
        checkpoint: file that holds the unfinished training.
        threads: threads of the training process, for the record.
    """

    spec: RunSpec
    identity: Identity
    experiment: str
    parent: str | None
    checkpoint: Path
    threads: int

    @property
    def name(self) -> str:
        """Name of the run, such as "transformer/none, seed 2"."""
        spec = self.spec
        what = f"seed {spec.seed}" if spec.trial is None else f"trial {spec.trial}"
        return f"{spec.label}, {what}"

    @property
    def slug(self) -> str:
        """The same name as a file may have it, such as "transformer_none_seed_2"."""
        return re.sub(r"[^a-z0-9]+", "_", self.name)
