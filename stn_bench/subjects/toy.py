"""The subject `toy`: a training of microseconds whose best settings are known, `rate` 0.1 and `depth` 4.

It imports no Keras, resumes bit for bit, and fails on request: the harness is tested with it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from stn_bench.figure import Figure, new_figure
from stn_bench.settings import Settings
from stn_bench.subject import Cost, DataNote, KeptRun, LayerCost, Lent, Metric, Outcome, Run, Subject
from stn_bench.system.errors import ConfigError
from stn_bench.system.files import write_whole

MODEL = "model.json"
"""File of a run that another training can go on from."""

SKILL = "skill.npz"
"""File of a run with what its figure shows."""

STATE = "state.json"
"""Checkpoint of an unfinished training."""


class Toy(Settings):
    """What a toy is trained with; the two that matter, and how it goes about."""

    unkeyed: ClassVar[tuple[str, ...]] = ("timeout",)

    rate: float = Field(0.01, gt=0, le=1)
    """Learning rate; 0.1 is the best."""
    depth: int = Field(2, ge=1, le=8)
    """Number of layers; 4 is the best."""
    gate: Literal["open", "none"] = "open"
    """A part that doubles what a layer costs, and nothing else."""
    noise: float = Field(0.02, ge=0, le=1)
    """Standard deviation of what the seed adds to the skill."""
    epochs: int = Field(3, ge=1)
    """Each brings the skill half-way to what the settings can reach."""
    examples: int = Field(40, ge=2)
    """Number of test examples."""
    seconds: float = Field(0.0, ge=0)
    """Seconds that an epoch takes."""
    fate: Literal["finish", "diverge", "raise", "starve", "die", "hang"] = "finish"
    """What becomes of the training."""
    timeout: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Seconds after which a study gives a run up; unset, never. It is no part of a run's identity."""


# Training -----------------------------------------------------------------------------------------------------------


def reach(settings: Toy) -> float:
    """Return the skill that settings lead to, at most 1."""
    return math.exp(-(math.log10(settings.rate / 0.1) ** 2) - ((settings.depth - 4) / 4) ** 2)


def train(settings: Toy, seed: int, run: Run) -> Outcome:
    """Bring the skill nearer to what the settings can reach, epoch by epoch, and look at the test examples once."""
    skill, history = _restore(settings, run)
    for epoch in range(len(history["train.loss"]) + 1, settings.epochs + 1):
        _meet_fate(settings)
        time.sleep(settings.seconds)
        skill += (reach(settings) - skill) / 2
        luck = settings.noise * np.random.default_rng([seed, settings.depth, epoch]).normal()
        history["train.loss"].append((1 - skill) ** 2)
        history["validation.score"].append(float(skill + luck) if settings.fate != "diverge" else math.nan)
        _write(run.folder / STATE, {"key": run.key, "skill": skill, "history": history})
        run.log(epoch, {name: series[-1] for name, series in history.items()})
        if settings.fate == "diverge":
            return Outcome(
                {"epochs": epoch}, "diverged", f"validation.score is not finite after epoch {epoch}", history
            )
    _write(run.files / MODEL, {"skill": skill, "depth": settings.depth})
    np.savez(run.files / SKILL, skill=np.array(skill))
    luck = settings.noise * np.random.default_rng([seed, settings.depth]).normal()
    difficulties = np.load(_file(settings, run.data), allow_pickle=False)
    behind = difficulties - (skill + luck)  # by how much each example is too difficult
    examples = {"test.score": (behind < 0).astype(np.float64), "test.loss": np.log1p(np.exp(10 * behind))}
    last = {f"last.{name}": series[-1] for name, series in history.items()}
    return Outcome(
        {name: float(one.mean()) for name, one in examples.items()} | last | {"epochs": settings.epochs},
        history=history,
        examples=examples,
        cost=cost(settings),
        state=lambda: {"skill": np.array(skill)},
    )


def _restore(settings: Toy, run: Run) -> tuple[float, dict[str, list[float]]]:
    """Return the skill and the history to go on from, and tell of the epochs that are behind."""
    skill, history = 0.0, dict[str, list[float]]({"train.loss": [], "validation.score": []})
    if run.start:
        earlier = json.loads(run.start.read_text())
        if earlier["depth"] != settings.depth:
            raise ConfigError(
                f"`depth`: expected {earlier['depth']} as in the run to go on from, got {settings.depth}"
            )
        skill = earlier["skill"]
    try:
        state = json.loads((run.folder / STATE).read_text())
    except (OSError, ValueError):  # none yet, or a damaged one
        return skill, history
    if state["key"] != run.key:
        return skill, history
    for epoch, values in enumerate(zip(*state["history"].values(), strict=True), start=1):
        run.log(epoch, dict(zip(state["history"], values, strict=True)))
    return state["skill"], state["history"]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(content).encode())


def _meet_fate(settings: Toy) -> None:
    if settings.fate == "raise":
        raise RuntimeError("this toy cannot be trained")
    if settings.fate == "starve":
        np.ones(1 << 48, np.uint8)
    if settings.fate == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.fate == "hang":
        time.sleep(3600)


# Data ---------------------------------------------------------------------------------------------------------------


def prepare(settings: Sequence[Toy], lent: Lent) -> None:
    """Write how difficult the test examples are."""
    for one in settings:
        path = _file(one, lent.data)
        if not path.exists():
            content = io.BytesIO()
            np.save(content, (np.arange(one.examples) + 0.5) / one.examples)
            write_whole(path, content.getvalue())
            lent.tell(path.stem, one.examples, one.examples)


def fingerprint(settings: Toy, data: Path) -> str | None:
    """Return the SHA-256 of the examples, or None while they are not written."""
    path = _file(settings, data)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def describe(settings: Mapping[str, Any]) -> DataNote | None:
    """Return what MLflow shows of the examples, or None where the settings do not count them."""
    count = settings.get("examples")
    return count and DataNote(
        f"toy-{count}", f"{count} difficulties from 0 to 1", (count,), "float64", source="stn-bench run"
    )


def _file(settings: Toy, data: Path) -> Path:
    return data / f"toy-{settings.examples}.npy"


# What the other hooks tell ------------------------------------------------------------------------------------------


def cost(settings: Toy) -> Cost:
    """Return what a toy costs on paper: two operations a layer, four with the gate."""
    each = 4 if settings.gate == "open" else 2
    layers = tuple(LayerCost(f"layer_{index}", "Layer", each) for index in range(settings.depth))
    total = each * settings.depth
    return Cost(settings.depth, total, layers, training_flops=float(total * settings.epochs * settings.examples))


def match(settings: Toy, base: Toy) -> Mapping[str, Any]:
    """Return the depth that gives a toy the base's FLOPs."""
    depth = round(settings.depth * (cost(base).flops or 0) / (cost(settings).flops or 1))
    if not 1 <= depth <= 8:
        raise ConfigError(f"no depth from 1 to 8 has the base's FLOPs; {depth} would have")
    return {"depth": depth}


def caveats(settings: Toy, base: Toy | None) -> Iterator[str]:
    """Yield what a reader should know of an arm."""
    if not settings.noise:
        yield "Without noise, seeds hardly differ: their spread says nothing of another draw."


def given(settings: Toy) -> Mapping[str, int]:
    """Return what a run has to learn from."""
    return {"epoch": settings.epochs, "example": settings.examples}


def probe(settings: Toy, lent: Lent, scratch: Path) -> float:
    """Return how many seconds a run takes."""
    return settings.epochs * max(settings.seconds, 0.001)


def figures(moved: frozenset[str], arms: Mapping[str, Sequence[KeptRun]]) -> Iterator[Figure]:
    """Yield the skill of each seed, where a question is about the depth."""
    if "depth" not in moved:
        return
    with new_figure(4.0, 3.0) as (canvas, png):
        axes = canvas.add_subplot(xlabel="seed", ylabel="skill")
        for name, runs in arms.items():
            skills = [float(np.load(run.file(SKILL), allow_pickle=False)["skill"]) for run in runs]
            axes.plot([run.seed for run in runs], skills, label=name)
    yield Figure("skill", "Skill of each seed after its last epoch", png.getvalue())


# The subject --------------------------------------------------------------------------------------------------------


def _one_example(settings: Toy) -> float:
    return 1 / settings.examples


subject = Subject(
    name="toy",
    settings=Toy,
    train=train,
    metrics=(
        Metric("test.score", "fraction of test examples that the skill exceeds", "maximize", "fraction", _one_example),
        Metric("test.loss", "mean logistic loss on the test examples", "minimize"),
        Metric("last.validation.score", "skill and luck of the last epoch", "maximize", "fraction"),
        Metric("last.train.loss", "square of what the skill lacks after the last epoch", "minimize"),
        Metric("epochs", "epochs trained", "minimize", "count"),
    ),
    curve=Metric("validation.score", "skill and luck of an epoch", "maximize", "fraction"),
    tune_on=("last.validation.score", "last.train.loss"),
    budget=("epochs", "examples"),
    epochs="epochs",
    timeout="timeout",
    start=MODEL,
    small={"epochs": 3},
    prepare=prepare,
    fingerprint=fingerprint,
    describe=describe,
    cost=cost,
    match=match,
    caveats=caveats,
    given=given,
    probe=probe,
    figures=figures,
    parts={"gate": "the gate"},
)
