"""The command `train`: one configuration, outside a study."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stn_bench.cli.options import (
    AsJson,
    Root,
    Settings,
    SubjectName,
    TrackingUri,
    assignments,
    console,
    is_trusted,
    messages,
    print_json,
    quietly,
)
from stn_bench.settings import Settings as AnySettings
from stn_bench.settings import override
from stn_bench.study.plan import RunSpec
from stn_bench.study.soundness import sound_subject
from stn_bench.study.spec import BASE, OUTSIDE
from stn_bench.subject import DEFAULT, Lent, Subject, is_shipped
from stn_bench.system.errors import ConfigError, Interrupted, MachineError, StnBenchError, StoreError, SubjectError
from stn_bench.system.machine import cores, disk_full, training_environment
from stn_bench.system.own_code import own_lines, reason, root_cause
from stn_bench.system.text import in_code, in_markdown
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.runner.epochs import EpochEnd
    from stn_bench.runner.job import Start
    from stn_bench.tracking.mlflow import Tracking
    from stn_bench.tracking.record import RunRecord

Trust = Annotated[bool, typer.Option("--trust", help="Let the run call code that its settings name.")]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="RUN", help="Continue training this run's model; --set changes its settings."),
]


@quietly()
def train(
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    subject: SubjectName = DEFAULT,
    origin: From = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed (default: 1, or that of --from).")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the model to this file.")] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Train one configuration outside a study, tracked like any other; a finished run is not trained again.

    With --from it begins with the weights of a finished run's best epoch and with a fresh optimizer.
    """
    workspace = Workspace.at(root, tracking_uri)
    if trust or not is_shipped(subject):
        workspace.find_code()
    studied = sound_subject(subject)
    overrides = assignments(settings, studied.settings)
    if not origin:  # a mistake is told before a store is opened
        override(studied.settings(), overrides, where="--set")
    os.environ.update(training_environment(cores()))  # before anything is loaded that reads it
    from stn_bench.runner.stores import open_tracking

    tracking = open_tracking(workspace)
    earlier = _find_start(origin, studied, tracking, trust, workspace) if origin else None
    spec, start = _plan_run(studied, earlier, overrides, seed)
    if studied.foreign_code(studied.read(spec.settings)):
        workspace.find_code()
    record = _train_once(studied, spec, start, workspace, tracking)
    if output:
        _copy_model(record, studied, tracking, output)
    if as_json:
        told = {"run_id": record.run_id, "run_key": record.run_key, "outcome": record.outcome}
        print_json({**told, "started_from": start and start.run_id, **record.metrics})
        return
    for name, value in record.metrics.items():
        console.print(f"{name}: {value:.6g}")
    console.print(f"run {record.run_id}: {record.outcome}", soft_wrap=True)


def _find_start(
    name: str, subject: Subject, tracking: Tracking, trust: bool, workspace: Workspace | None = None
) -> RunRecord:
    """Return the record of the finished run that is to be trained on.

    Raises:
        StoreError: if there is no such run, or it kept no model.
        ConfigError: if it is another subject's, or names code that is not trusted.
    """
    (record,) = tracking.records([tracking.find_run(name)])
    if record.subject != subject.name:
        raise ConfigError(f"run {record.run_id}: is one of subject `{record.subject}`; add --subject {record.subject}")
    try:
        if not subject.start:
            raise StoreError("a subject that keeps nothing to go on from")
        tracking.file(record.run_id, subject.start)
    except StoreError:
        raise StoreError(
            f"run {record.run_id}: keeps no model to continue from; tuning trials, diverged or imported runs have none"
        ) from None
    foreign = subject.foreign_code(subject.read(record.settings, where=f"run {record.run_id}"))
    if foreign and not (trust or (workspace and is_trusted(foreign[0], workspace))):
        raise ConfigError(
            f"run {record.run_id}: was built by `{foreign[0]}`, code that the store names but does not hold; "
            f"add --trust if you trust it"
        )
    return record


def _plan_run(
    subject: Subject, earlier: RunRecord | None, overrides: Mapping[str, Any], seed: int | None
) -> tuple[RunSpec, Start | None]:
    """Return what to train, and on from what."""
    from stn_bench.runner.job import Start

    fresh = subject.settings()
    before = subject.read(earlier.settings, where=f"run {earlier.run_id}").unresolved() if earlier else fresh
    config = override(before, overrides, where="--set").resolved()
    chosen = seed if seed is not None else earlier.seed if earlier else 1
    spec = RunSpec(OUTSIDE, BASE, BASE, "verdict", chosen, None, _changes(config, fresh), {}, config.flat())
    if earlier is None:
        return spec, None
    old = before.resolved().flat()
    changes = [
        f"- {in_code(path)} = {in_code(str(value))}, was {in_code(str(old[path]))}"
        for path, value in _changes(config, before).items()
    ]
    changes += [f"- seed {spec.seed}, was {earlier.seed}"] * (spec.seed != earlier.seed)
    return spec, Start(earlier.run_id, earlier.run_key, _note(subject, earlier, changes))


def _note(subject: Subject, earlier: RunRecord, changes: list[str]) -> str:
    """Return the Markdown that a run's page shows about the run that it continues."""
    metric = subject.metrics[0] if subject.metrics else None
    value = earlier.metrics.get(metric.name) if metric else None
    unit = metric.unit.to_show([value]) if metric and value is not None else None
    told = f", {unit.name} {unit.value(value)}{unit.suffix}" if unit else ""
    return (
        f"Trained on from run [{in_markdown(earlier.label)}, seed {earlier.seed}](#/runs/{earlier.run_id}) of "
        f"**{in_markdown(earlier.study)}** (run `{earlier.run_id}`, run key `{earlier.run_key[:12]}`{told}): it "
        f"begins with the weights of that run's best epoch and with a fresh optimizer.\n\n"
        + ("\n".join(changes) or "Its settings are the same.")
    )


def _changes(config: AnySettings, before: AnySettings) -> dict[str, Any]:
    old = before.resolved().flat()
    return {path: value for path, value in config.flat().items() if value != old[path]}


def _train_once(
    subject: Subject, spec: RunSpec, start: Start | None, workspace: Workspace, tracking: Tracking
) -> RunRecord:
    from stn_bench.runner.job import Job, train_job
    from stn_bench.system.signals import counting_interrupts
    from stn_bench.tracking.identity import identify
    from stn_bench.tracking.planned_code import PlannedCode
    from stn_bench.tracking.results import fingerprint_of
    from stn_bench.tracking.store import finished_record

    if subject.prepare:
        subject.prepare([subject.read(spec.settings)], Lent(workspace.datasets, cores()))
    fingerprint = fingerprint_of(spec.settings, subject, workspace.datasets) or ""
    identity = identify(subject, spec.settings, spec.seed, fingerprint, start.run_key if start else "")
    if finished := finished_record(tracking, identity.run_key, is_trial=False):
        messages.print("already trained; this is that run")
        return finished
    experiment = tracking.open_study(OUTSIDE, "Runs outside a study: `stn-bench train`.")
    job = Job.of(subject, spec, identity, workspace, experiment=experiment, parent=None, threads=cores(), start=start)
    with counting_interrupts(most=1) as interrupts:
        try:
            return train_job(
                job,
                tracking,
                on_epoch=lambda epoch: _tell(subject, epoch),
                should_stop=lambda: interrupts.count > 0,
                check_code=PlannedCode.of(subject, [spec.settings], workspace.root).check,
            )
        except Interrupted as stop:
            raise Interrupted(str(stop), interrupts.signum) from None
        except (StnBenchError, MemoryError):
            raise
        except Exception as error:
            if full := disk_full(error):
                raise full from error
            cause = root_cause(error)
            raise SubjectError(
                f"subject `{subject.name}`: training failed ({reason(cause)}){own_lines(cause)}"
            ) from error


def _tell(subject: Subject, epoch: EpochEnd) -> None:
    curve = subject.curve.name if subject.curve else next(iter(epoch.metrics), "")
    shown = f"{curve} {epoch.metrics[curve]:.4f}, " if curve in epoch.metrics else ""
    count = f"/{epoch.epochs}" if epoch.epochs else ""
    messages.print(f"epoch {epoch.epoch}{count}: {shown}{epoch.seconds:.0f} s")


def _copy_model(record: RunRecord, subject: Subject, tracking: Tracking, output: Path) -> None:
    if record.outcome != "finished":
        raise StoreError(f"run {record.run_id}: {record.outcome} ({record.reason}), so there is no model to write")
    if not subject.start:
        raise ConfigError(f"--output: subject `{subject.name}` keeps no model")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tracking.file(record.run_id, subject.start), output)
    except OSError as error:
        raise MachineError(f"{output}: the model cannot be written ({error.strerror or error})") from None
