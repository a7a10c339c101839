"""The record of a finished run: a frozen value, all that a report sees."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, field_validator, model_serializer

from stn_bench.settings import Settings, canonical, defaults
from stn_bench.study.plan import Phase, PlannedArm, RunSpec, arm_label
from stn_bench.subject import DEFAULT, LayerCost
from stn_bench.system.text import in_code, in_markdown, printable, without_secrets
from stn_bench.tracking.identity import Identity

RECORD = "record.json"
"""Artifact of every run that ended by itself, crashed ones too: the record."""

UNCHANGED = "The base: it changes nothing."
TRAINED_FOR = {
    "tune": "for tuning",
    "verdict": "for the verdict",
    "confirm": "to confirm, on a fresh seed",
}

RunOutcome = Literal["finished", "diverged", "crashed"]


class RunRecord(BaseModel):
    """One run, as it was trained.

    Args:
        run_id: MLflow's name of the run, in the store that trained it.
        run_key: identity of the run.
        subject: what was trained.
        study: the study that trained it.
        ablation: the ablation that owned its arm there.
        arm: the arm.
        phase: "tune", "verdict" or "confirm".
        seed: the run's seed.
        trial: number of the tuning trial, or None.
        outcome: finished, diverged (a number was not finite) or crashed.
        reason: why it diverged or crashed.
        settings: every resolved setting by its dotted path, as it was then: plain data.
        chosen: the hyperparameters among them that came from tuning.
        metrics: final metrics and costs by name.
        history: metrics by name, one value an epoch; NaN before a number is an epoch that was not told.
        layers: FLOPs by layer.
        uncounted: layers whose FLOPs are not known.
        identity: all parts that the run key is taken from.
        machine: what it was trained on: the machine, the `conditions` that may change the last digits of its numbers
            and are in no key, and the settings that `libraries` began with.
        split: how its data were split into parts, in words, where the subject tells it.
        started: when it began, ISO 8601 in UTC.
        ended: when it ended.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    run_id: str
    run_key: str
    subject: str = DEFAULT
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
    split: str = ""

    @field_validator("reason", "split")
    @classmethod
    def _harmless(cls, text: str) -> str:
        """Keep of an error's text, which is no text of ours, nothing secret and nothing that steers a terminal."""
        return printable(without_secrets(text))

    @model_serializer(mode="wrap")
    def _as_before(self, to_tree: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not told, so that a run of older versions keeps its bytes."""
        tree: dict[str, Any] = to_tree(self)
        return {name: value for name, value in tree.items() if name != "split" or value}

    @property
    def tree(self) -> dict[str, Any]:
        """The record as JSON holds it: there a metric that is no finite number is text, which reads as the number."""
        told = json.loads(self.model_dump_json(include={"metrics", "history"}))
        return {**self.model_dump(mode="json"), **told}

    @property
    def label(self) -> str:
        """Name of the arm within its study."""
        return arm_label(self.ablation, self.arm)


def told_epochs(series: Sequence[float]) -> dict[int, float]:
    """Return epoch, from 1 -> value, of the epochs in which a training told a metric.

    A NaN that a number follows stands for an epoch that was not told; one at the end is a value.
    """
    told = [epoch for epoch, value in enumerate(series, start=1) if not math.isnan(value)]
    behind = range(max(told, default=0) + 1, len(series) + 1)
    return {epoch: series[epoch - 1] for epoch in (*told, *behind)}


def settings_digest(settings: Mapping[str, Any], schema: type[Settings] | None = None, start: str = "") -> str:
    """Return a digest of resolved settings alone: equal for runs that only code or libraries set apart.

    Args:
        settings: the settings by dotted path.
        schema: the settings of their subject, which tells those that are in no identity; None where they are left out.
        start: run key of the run that it was trained on from: it must not stand in for one that began afresh.
    """
    return _digest(canonical(schema.keyed(settings) if schema else settings) + start)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settings_today(record: RunRecord, schema: type[Settings]) -> dict[str, Any]:
    """Return the settings of a record as today's have them, so far as that is the same run.

    A setting that is younger than the record takes today's default. One that no longer exists is left out, unless it
    is what set the run's arm or trial apart.
    """
    fresh = schema().resolved().flat()
    kept = record.settings.keys() & (fresh.keys() | record.changes.keys() | record.chosen.keys())
    return {**fresh, **{path: record.settings[path] for path in kept}}


def schema_digest(schema: type[Settings]) -> str:
    """Return a digest of the names of all settings: runs of another one are compared setting by setting."""
    return _digest(canonical(sorted(defaults(schema))))


def run_tags(run: RunSpec | RunRecord, identity: Identity, schema: type[Settings] | None = None) -> dict[str, str]:
    """Return the flat tags by which any run can be found, whether it is still to be trained or already recorded.

    Args:
        run: the run.
        identity: its identity.
        schema: the settings of its subject; None where that cannot be found here.
    """
    settings = settings_today(run, schema) if schema and isinstance(run, RunRecord) else identity.settings
    tags = {
        "study": run.study,
        "ablation": run.ablation,
        "arm": run.arm,
        "phase": run.phase,
        "seed": str(run.seed),
        "trial": "" if run.trial is None else str(run.trial),
        "run_key": run.run_key if isinstance(run, RunRecord) else identity.run_key,  # a record's was made in its day
        "settings": settings_digest(settings, schema, identity.start),
        "schema": schema_digest(schema) if schema else "",
        "dataset": identity.dataset,
        "started_from_key": identity.start,
    }
    return {name: value for name, value in tags.items() if value}


def run_name(run: RunSpec | RunRecord) -> str:
    """Return the name of a run, such as "transformer/none, seed 2"."""
    what = f"seed {run.seed}" if run.trial is None else f"trial {run.trial}"
    return f"{run.label}, {what}"


def arm_tags(study: str, ablation: str, arm: str) -> dict[str, str]:
    """Return the flat tags of an arm's parent run."""
    return {"study": study, "ablation": ablation, "arm": arm, "phase": "arm"}


def arm_note(arm: PlannedArm | RunRecord) -> str:
    """Return the Markdown that MLflow shows on an arm's page, from its plan or from the record of one of its runs."""
    changes = "\n".join(f"- {one}" for one in _assigned(arm.changes))
    return f"Arm **{in_markdown(arm.label)}** of study **{in_markdown(arm.study)}**.\n\n{changes or UNCHANGED}"


def run_note(run: RunSpec | RunRecord, run_key: str, question: str = "", *, has_arm: bool = True) -> str:
    """Return the Markdown that MLflow shows on the page of a single run: what it is, and where the rest is found.

    Args:
        run: the run, planned or recorded.
        run_key: its identity.
        question: what its arm is to answer, where that is known.
        has_arm: whether it stands under the run of an arm, as in a study.
    """
    arm = "its parent run is the arm, with mean and verdict; the run `report` of this experiment carries the report"
    lines = [
        f"arm **{in_markdown(run.label)}**: {', '.join(_assigned(run.changes)) or UNCHANGED}",
        f"{TRAINED_FOR[run.phase]}, seed {run.seed}" + ("" if run.trial is None else f", trial {run.trial}"),
        *([f"chosen by tuning: {', '.join(_assigned(run.chosen))}"] if run.chosen else []),
        "*Model metrics* draws what it logs by epoch; *Artifacts* holds `record.json`, all that a report sees of it",
        *([arm] if has_arm else []),
        f"{in_code(f'stn-bench why {run_key[:12]}')} says whether it is valid today",
    ]
    asked = f"\n\n{in_markdown(question)}" if question else ""
    head = f"**{in_markdown(run_name(run))}** of study **{in_markdown(run.study)}**{asked}"
    return f"{head}\n\n" + "\n".join(f"- {line}" for line in lines)


def _assigned(values: Mapping[str, Any]) -> list[str]:
    return [f"{in_code(path)} = {in_code(str(value))}" for path, value in values.items()]
