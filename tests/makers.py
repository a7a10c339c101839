"""Small makers that several tests share: study folders, plans and hand-made records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from stn_bench.runner.leases import TRIES
from stn_bench.runner.queue import Queue
from stn_bench.study.plan import Plan, RunSpec, make_plan
from stn_bench.study.spec import Ablation, Arm, Range, Study, Tuning
from stn_bench.subject import LayerCost, find_subject
from stn_bench.system.errors import ConfigError
from stn_bench.tracking.identity import Identity
from stn_bench.tracking.record import RunRecord, settings_digest, settings_today
from stn_bench.tracking.store import FinishedRun

STN = find_subject("stn")

STUDY = """
title = "A study"
ablations = ["depth"]
seeds = [1, 2, 3]
"""
ABLATION = """
title = "Width"
question = "Does the width matter?"

[arms.narrow]
set = { "model.width" = 0.5 }
"""
LEARNING_RATE = {"optimizer.learning_rate": Range(low=1e-4, high=1e-1, log=True)}


def write(path: Path, text: str) -> Path:
    """Write a text file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def make_root(folder: Path, *, study: str = STUDY, ablation: str = ABLATION) -> Path:
    """Write `studies/small.toml` and `ablations/depth.toml` to a folder and return it."""
    write(folder / "studies/small.toml", study)
    write(folder / "ablations/depth.toml", ablation)
    return folder


def arm(name: str, overrides: Mapping[str, Any], **rest: Any) -> Arm:
    """Return an arm that sets these."""
    return Arm(name=name, set=dict(overrides), **rest)


def ablation(*arms: Arm, name: str = "depth", **rest: Any) -> Ablation:
    """Return an ablation with these arms."""
    return Ablation(name=name, title=name.capitalize(), question=f"Does {name} matter?", arms=arms, **rest)


def study(trials: int = 0, tuning_seed: int = 1000, **rest: Any) -> Study:
    """Return a study over seeds 1, 2 and 3; with trials, it searches the learning rate."""
    tuning = Tuning(trials=trials, seed=tuning_seed, search=LEARNING_RATE if trials else {})
    defaults: dict[str, Any] = {"name": "small", "title": "A study", "ablations": ("depth",), "seeds": (1, 2, 3)}
    return Study(**{**defaults, "tuning": tuning, **rest})


def plan(*ablations: Ablation, trials: int = 0, overrides: Mapping[str, Any] | None = None, **rest: Any) -> Plan:
    """Return the plan of a small study over these ablations."""
    names = tuple(dict.fromkeys(one.name for one in ablations))
    asked = study(trials, ablations=names, **rest)
    return make_plan(asked, ablations, find_subject(asked.subject), overrides or {})


def record(spec: RunSpec, run_id: str, *, outcome: str = "finished", **metrics: float) -> RunRecord:
    """Return the record of a run of `spec`; metrics are named with `_` for the dot after the split."""
    named = {name.replace("_", ".", 1): value for name, value in metrics.items()}
    settings = dict(spec.settings)
    return RunRecord(
        run_id=run_id,
        run_key=f"key-{run_id}",
        study=spec.study,
        ablation=spec.ablation,
        arm=spec.arm,
        phase=spec.phase,
        seed=spec.seed,
        trial=spec.trial,
        outcome=outcome,  # type: ignore[arg-type]
        reason="" if outcome == "finished" else "loss is nan at epoch 2",
        settings=settings,
        changes=dict(spec.changes),
        chosen=dict(spec.chosen),
        metrics={**COSTS, **named},
        history={"validation.accuracy": (0.25, 0.5)},
        layers=(LayerCost(name="dense", kind="Dense", flops=2000),),
        uncounted=(),
        identity=Identity(settings, spec.seed, "f" * 64, {"a:b": "c" * 64}, {"keras": "3.15.0"}),
        machine={"system": "Linux", "processor": "x", "cores": 2, "threads": 1, "memory_gb": 8, "python": "3.12.1"},
        started="2026-01-01T00:00:00+00:00",
        ended="2026-01-01T00:01:00+00:00",
    )


COSTS = {
    "cost.parameters": 1000.0,
    "cost.flops": 2_000_000.0,
    "cost.seconds": 30.0,
    "cost.cpu_seconds": 20.0,
    "cost.step_ms": 12.5,
    "cost.peak_memory_mb": 512.0,
}


class FakeStore:
    """A tracking store in memory; what is given first is the latest."""

    def __init__(self, *records: RunRecord) -> None:
        self._records = {one.run_id: one for one in records}

    def finished(self) -> list[FinishedRun]:
        """Return the runs that did not crash, the latest first."""
        return [_listed(one) for one in self._records.values() if one.outcome != "crashed"]

    def crashed(self, study: str) -> list[FinishedRun]:
        """Return the study's crashed runs, the latest first."""
        return [_listed(one) for one in self._records.values() if one.outcome == "crashed" and one.study == study]

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        """Return the records of runs."""
        return [self._records[run_id] for run_id in run_ids]


def _listed(one: RunRecord) -> FinishedRun:
    trial = "" if one.trial is None else str(one.trial)
    return FinishedRun(
        run_id=one.run_id,
        run_key=one.run_key,
        settings=digest_of(one),
        phase=one.phase,
        seed=one.seed,
        dataset=one.identity.dataset,
        outcome=one.outcome,
        study=one.study,
        ablation=one.ablation,
        arm=one.arm,
        trial=trial,
    )


def digest_of(one: RunRecord) -> str:
    """Return the digest of a run's settings, as its tag has it; what no module holds is the toy by another name."""
    try:
        schema = find_subject(one.subject).settings
    except ConfigError:
        schema = find_subject("toy").settings
    return settings_digest(settings_today(one, schema), schema)


def wear_out(queue: Queue, names: Iterable[str], run_key: str, deaths: int = TRIES) -> None:
    """Let the workers of a job die, one after the other, where nobody sees it but by their silence."""
    trials = queue._storage
    for _ in range(deaths):
        jobs = trials.jobs(trials.studies(names))
        (waiting,) = [one.trial_id for one in jobs if (one.run_key, one.state) == (run_key, TrialState.WAITING)]
        assert trials.claim(waiting)
        assert trials.release(waiting)
