"""The record of a finished run: a frozen value, all that a report sees."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from stn_bench.study.plan import Phase, PlannedArm, RunSpec, arm_label
from stn_bench.subjects.stn.config import Config, override
from stn_bench.system.errors import without_secrets
from stn_bench.system.text import printable
from stn_bench.tracking.identity import Identity, canonical

MODEL = "model.keras"
"""Artifact of every run but tuning trials: its model, with the weights of the best epoch by validation."""

RECORD = "record.json"
"""Artifact of every run that ended by itself, crashed ones too: the record."""

PREDICTIONS = "predictions.npz"
"""Artifact of every run but tuning trials: label, prediction and probability of each test picture."""

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
        run_id: MLflow's name of the run, in the store that trained it.
        run_key: identity of the run.
        study: the study that trained it.
        ablation: the ablation that owned its arm there.
        arm: the arm.
        phase: "tune", "verdict" or "confirm".
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

    @field_validator("reason")
    @classmethod
    def _harmless(cls, reason: str) -> str:
        """Keep of an error's text, which is no text of ours, nothing secret and nothing that steers a terminal."""
        return printable(without_secrets(reason))

    @property
    def label(self) -> str:
        """Name of the arm within its study."""
        return arm_label(self.ablation, self.arm)


def settings_digest(config: Config) -> str:
    """Return a digest of a resolved configuration alone: equal for runs that only code or libraries set apart."""
    return _digest(config.canonical())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_tags(run: RunSpec | RunRecord, identity: Identity) -> dict[str, str]:
    """Return the flat tags by which any run can be found, whether it is still to be trained or already recorded."""
    tags = {
        "study": run.study,
        "ablation": run.ablation,
        "arm": run.arm,
        "phase": run.phase,
        "seed": str(run.seed),
        "trial": "" if run.trial is None else str(run.trial),
        "run_key": run.run_key if isinstance(run, RunRecord) else identity.run_key,  # a record's was made in its day
        # With the start: a run that was trained on must not stand in for one that began afresh.
        "settings": _digest(_settings(run, identity) + identity.start),
        "dataset": identity.dataset,
        "started_from_key": identity.start,
    }
    return {name: value for name, value in tags.items() if value}


def _settings(run: RunSpec | RunRecord, identity: Identity) -> str:
    """Return the resolved settings as text; settings that are younger than a record take today's defaults."""
    if isinstance(run, RunRecord):
        return override(Config(), run.settings, where=f"run {run.run_id}").canonical()
    return canonical(identity.settings)


def run_name(run: RunSpec | RunRecord) -> str:
    """Return the name of a run, such as "transformer/none, seed 2"."""
    what = f"seed {run.seed}" if run.trial is None else f"trial {run.trial}"
    return f"{run.label}, {what}"


def arm_tags(study: str, ablation: str, arm: str) -> dict[str, str]:
    """Return the flat tags of an arm's parent run."""
    return {"study": study, "ablation": ablation, "arm": arm, "phase": "arm"}


def arm_note(arm: PlannedArm | RunRecord) -> str:
    """Return the Markdown that MLflow shows on an arm's page, from its plan or from the record of one of its runs."""
    changes = "\n".join(f"- `{path}` = `{value}`" for path, value in arm.changes.items())
    return f"Arm **{arm.label}** of study **{arm.study}**.\n\n{changes or 'The base: it changes nothing.'}"
