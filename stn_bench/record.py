"""The record of a finished run: a frozen value, all that a report sees."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from stn_bench.config import Config
from stn_bench.identity import Identity
from stn_bench.plan import Phase, RunSpec, arm_label

RunOutcome = Literal["finished", "diverged", "crashed"]


class LayerCost(BaseModel):
    """What one layer costs."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    flops: int


class RunRecord(BaseModel):
    """One run, as it was trained.

    Args:
        run_id: MLflow's name of the run.
        run_key: identity of the run.
        study: the study that trained it.
        ablation: the ablation that owned its arm there.
        arm: the arm.
        phase: "tune" or "verdict".
        seed: the run's seed.
        trial: number of the tuning trial, or None.
        outcome: finished, diverged (a number was not finite) or crashed.
        reason: why it diverged or crashed.
        settings: every resolved setting by its dotted path.
        chosen: the hyperparameters among them that came from tuning.
        metrics: final metrics and costs by name.
        history: metrics by name, one value an epoch.
        layers: FLOPs by layer.
        uncounted: layers whose FLOPs are not known.
        identity: all parts that the run key is taken from.
        machine: what it was trained on.
        started: when it began, ISO 8601 in UTC.
        ended: when it ended.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    run_id: str
    run_key: str
    study: str
    ablation: str
    arm: str
    phase: Phase
    seed: int
    trial: int | None
    outcome: RunOutcome
    reason: str
    settings: dict[str, Any]
    changes: dict[str, Any]
    chosen: dict[str, Any]
    metrics: dict[str, float]
    history: dict[str, tuple[float, ...]]
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...]
    identity: Identity
    machine: dict[str, Any]
    started: str
    ended: str

    @property
    def label(self) -> str:
        """Name of the arm within its study."""
        return arm_label(self.ablation, self.arm)


def settings_digest(config: Config) -> str:
    """Return a digest of a resolved configuration alone: equal for runs that only code or libraries set apart."""
    return hashlib.sha256(config.canonical().encode()).hexdigest()[:16]


def run_tags(spec: RunSpec, identity: Identity) -> dict[str, str]:
    """Return the flat tags by which any run can be found."""
    tags = {
        "study": spec.study,
        "ablation": spec.ablation,
        "arm": spec.arm,
        "phase": spec.phase,
        "seed": str(spec.seed),
        "trial": "" if spec.trial is None else str(spec.trial),
        "run_key": identity.run_key,
        "settings": settings_digest(spec.config),
        "dataset": identity.dataset,
    }
    return {name: value for name, value in tags.items() if value}
