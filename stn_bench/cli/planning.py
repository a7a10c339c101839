"""The command `plan`: what a study would train, what that costs, what it can show; and freezing it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from stn_bench.analysis.caveats import difference, in_short, in_words
from stn_bench.analysis.cost import Forecast
from stn_bench.analysis.power import ASSUMED_SD, Reach
from stn_bench.analysis.preview import HOUR, Outlook, Probe, arms_of, look_ahead, plan_tree
from stn_bench.cli.options import (
    AsJson,
    Root,
    Settings,
    StudyName,
    Threads,
    TrackingUri,
    Workers,
    console,
    load_plan,
    messages,
    print_json,
)
from stn_bench.stats import FEWEST_SEEDS
from stn_bench.study.plan import Plan, PlannedAblation, PlannedArm
from stn_bench.study.preregistration import freeze, frozen_path, write_frozen
from stn_bench.subjects.stn.nn.layout import flops
from stn_bench.system.errors import PlanError
from stn_bench.system.format import Unit, counted, listed
from stn_bench.system.machine import Crew, load
from stn_bench.system.workspace import Workspace

MINUTE = 60.0
BUSY = 0.5  # processes a core that a probe would have to share it with
SOURCE = "known from"
COLUMNS = ("FLOPs", "train", "reuse", "a run", "in all", SOURCE)


def plan(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    workers: Workers = None,
    threads: Threads = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Train some arms for a short while: hours as the machine is today.")
    ] = False,
    freezing: Annotated[
        bool, typer.Option("--freeze", help="Fix the plan: `run` then refuses another until the change is declared.")
    ] = False,
    because: Annotated[
        str, typer.Option("--because", metavar="WHY", help="With --freeze: why a frozen plan has changed.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what a study would train, what that would cost and what it could show, and train nothing."""
    workspace = Workspace.at(root, tracking_uri)
    planned = load_plan(study, workspace, settings)
    if freezing or because:
        planned = _freeze(planned, workspace, freezing, because)
    outlook = look_ahead(planned, workspace, Crew.of(workers, threads), _probe(workspace) if probe else None)
    if as_json:
        print_json(plan_tree(outlook, workspace))
    else:
        _print_outlook(outlook)


def _freeze(planned: Plan, workspace: Workspace, asked: bool, because: str) -> Plan:
    if not asked:
        raise PlanError("`--because` says why a frozen plan has changed; it belongs to `--freeze`")
    frozen = freeze(planned, because)
    if frozen != planned.frozen:
        write_frozen(workspace.root, frozen)
    messages.print(f"frozen: {frozen_path(workspace.root, frozen.study)}", markup=False)
    return dataclasses.replace(planned, frozen=frozen)


def _probe(workspace: Workspace) -> Probe:
    def measure(arms: list[PlannedArm], crew: Crew) -> dict[str, float]:
        from stn_bench.runner.timing import probe

        busy = load()
        messages.print(f"probing {counted(len(arms), 'arm')} with {_crew(crew)}", markup=False)
        if busy > BUSY:
            messages.print(
                f"this machine is busy with other work (load {busy:.1f} a core): on a quiet one it is faster"
            )
        return probe(arms, workspace, crew)

    return measure


# For people --------------------------------------------------------------------------------------------------------


def _print_outlook(outlook: Outlook) -> None:
    planned, shown = outlook.plan, set[str]()
    study = planned.study
    console.print(f"[bold]{escape(study.title)}[/]")
    console.print(f"metric {study.metric} ({study.direction}), margin {study.margin:g}, plan {planned.digest[:12]}")
    console.print(_frozen_line(outlook), markup=False)
    for one, reach in zip(planned.ablations, outlook.reaches, strict=True):
        console.print(f"\n[bold]{one.ablation.name}[/]: {escape(one.ablation.question)}")
        _print(_budget(one.base), 2)
        for factory, names in _factories(one).items():
            _print(f"! runs code of the root's own, `{factory}`: {', '.join(names)}", 2)
        _print_arms(outlook, one, shown)
        _print_differences(outlook, one)
        for line in _reach_lines(reach, Unit.of(study.metric)):
            _print(line, 2)
    _print_total(outlook)


def _print(text: str, indent: int) -> None:
    console.print(Padding(escape(text), (0, 0, 0, indent), expand=False))


def _frozen_line(outlook: Outlook) -> str:
    planned, frozen = outlook.plan, outlook.plan.frozen
    if frozen is None:
        return f"not frozen; `stn-bench plan {planned.study.name} --freeze` fixes it before the first run"
    when = "after" if outlook.is_frozen_late else "before"
    declared = f", {counted(len(frozen.deviations), 'change')} declared since" if frozen.deviations else ""
    undeclared = frozen.changes(planned)
    changed = f"; changed and not declared: {'; '.join(undeclared)}" if undeclared else ""
    return f"frozen on {frozen.date[:10]}, {when} the first run, as {frozen.digest[:12]}{declared}{changed}"


def _budget(base: PlannedArm) -> str:
    tuning = f"{counted(base.trials, 'tuning trial')} on seed {base.tuning_seed}, then " if base.trials else ""
    seeds = f"seed{'s' * (len(base.seeds) > 1)} {listed([str(seed) for seed in base.seeds])}"
    return f"each arm: {tuning}{seeds}; {counted(base.config.train.epochs, 'epoch')}"


def _factories(planned: PlannedAblation) -> dict[str, list[str]]:
    """Return what code that is not ours a question would run, and in which arms."""
    found: dict[str, list[str]] = {}
    for name, arm in arms_of(planned).items():
        if arm.config.model.factory:
            found.setdefault(arm.config.model.factory, []).append(name)
    return found


def _print_arms(outlook: Outlook, planned: PlannedAblation, shown: set[str]) -> None:
    table = Table("arm", box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == SOURCE else "right")
    for name, arm in arms_of(planned).items():
        costs = ("", "", "", "", "above") if arm.label in shown else _cost_row(outlook, arm)
        table.add_row(name, "–" if arm.config.model.factory else in_short(flops(arm.config)), *costs)
        shown.add(arm.label)
    console.print(Padding(table, (1, 0, 1, 2), expand=False))


def _cost_row(outlook: Outlook, arm: PlannedArm) -> tuple[str, ...]:
    found = outlook.forecast.of(arm.label)
    share, pace = outlook.forecast.share(found), found.pace
    runs = str(found.cells) if found.sure == found.cells else f"{found.sure}–{found.cells}"
    seconds = "?" if pace is None else _duration(pace.seconds)
    in_all = _duration(share) if share else ""
    return (runs, str(found.reused), seconds if found.cells else "", in_all, pace.source if pace and share else "")


def _print_differences(outlook: Outlook, planned: PlannedAblation) -> None:
    found = outlook.flags(planned)
    for name, arm in arms_of(planned).items():
        changed = in_words(difference(arm.config, planned.base.config))
        if changed or found[name]:
            _print(": ".join(filter(None, (arm.label, ", ".join(changed)))), 2)
        for flag in found[name]:
            _print(f"! {flag}", 4)


def _reach_lines(reach: Reach, unit: Unit) -> Iterator[str]:
    if reach.design.seeds < FEWEST_SEEDS:
        yield f"can show nothing: a verdict needs {FEWEST_SEEDS} seeds"
    elif reach.sd is None:
        yield f"what it can show is not known before {FEWEST_SEEDS} seeds of the base are trained"
    else:
        design = f"80 % power, {counted(reach.design.seeds, 'seed')}, {counted(reach.design.arms, 'arm')}"
        spread = f"sd over seeds {unit.value(reach.sd.value)}{unit.points}, {reach.sd.source}"
        yield f"can show a difference of {unit.value(reach.smallest)}{unit.points} ({design}; {spread})"
    if reach.first and reach.smallest_at_first is not None:
        smallest = f"{unit.value(reach.smallest_at_first)}{unit.points}"
        yield f"at the first of {reach.first.looks} looks, after {reach.first.seeds} seeds: {smallest}"
    if reach.picture_error is not None and reach.accuracy:
        error = f"{unit.value(reach.picture_error)}{unit.points}"
        accuracy = f"{unit.value(reach.accuracy.value)}{unit.suffix}, {reach.accuracy.source}"
        yield f"{reach.pictures:,} pictures alone: standard error {error} of one accuracy ({accuracy})"


def _print_total(outlook: Outlook) -> None:
    planned, found = outlook.plan, outlook.forecast
    console.print()
    if any(reach.sd == ASSUMED_SD for reach in outlook.reaches):
        console.print("assumed: no runs of the base tell yet, and arm and base are uncorrelated over the seeds")
    shared = sum(1 + len(one.arms) for one in planned.ablations) - len(planned.arms)
    if shared:
        console.print(f"{counted(shared, 'arm')} shared between questions and trained once")
    if found.unknown:
        console.print(f"the time of a run is not known for {counted(len(found.unknown), 'arm')}; --probe measures it")
    if planned.study.confirm:
        console.print(
            f"`run --confirm` adds {counted(len(planned.study.confirm), 'seed')} of each best arm and its base"
        )
    console.print(_total(found) + (f" with {_crew(outlook.crew)}" if found.cells else ""))
    if found.cells and not found.is_probed and not found.unknown:
        console.print("if this machine is as fast as when the runs were trained that tell; --probe looks")


def _total(found: Forecast) -> str:
    if not found.cells:
        return f"nothing to train, {counted(found.reused, 'run')} reused"
    runs = (
        counted(found.cells, "run") if found.sure == found.cells else f"{found.sure} to {counted(found.cells, 'run')}"
    )
    return f"{runs} to train, {found.reused} reused: {_time(found)}"


def _time(found: Forecast) -> str:
    if found.seconds is None or found.sure_seconds is None:
        return "time not known"
    if found.sure == found.cells:
        return f"about {_duration(found.seconds)}"
    return f"about {_duration(found.sure_seconds)} to the next look, {_duration(found.seconds)} to the last"


def _crew(crew: Crew) -> str:
    return f"{counted(crew.workers, 'worker')} of {counted(crew.threads, 'thread')}"


def _duration(seconds: float) -> str:
    if seconds < 10 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"
