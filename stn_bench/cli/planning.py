"""The command `plan`: what a study would train, what that costs, what it can show; and freezing it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stn_bench.analysis.analyse import analyse, nothing_finished
from stn_bench.analysis.caveats import difference, in_words
from stn_bench.analysis.cost import Clock, CostEstimate
from stn_bench.analysis.factorial import never_told
from stn_bench.analysis.power import ASSUMED_SD, Power
from stn_bench.analysis.preview import Preview, Probe, plan_tree, preview
from stn_bench.cli.options import (
    AsJson,
    Root,
    Settings,
    Storage,
    StudyName,
    Threads,
    TrackingUri,
    Workers,
    console,
    messages,
    print_json,
    print_table,
    tell_lost,
)
from stn_bench.runner.shares import share_out
from stn_bench.stats import FEWEST_SEEDS
from stn_bench.study.calibration import calibrated_anew
from stn_bench.study.load import load_plan
from stn_bench.study.plan import Plan, PlannedArm, PlannedQuestion
from stn_bench.study.preregistration import (
    changes_since,
    preregister,
    preregistration_path,
    write_preregistration,
)
from stn_bench.subject import is_shipped
from stn_bench.system.errors import PlanError
from stn_bench.system.format import Unit, counted, duration, in_short, listed
from stn_bench.system.machine import Resources, describe_machine, load
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.results import Keys, Results, as_read, check_code, check_data, gather

BUSY = 0.5  # processes a core that a probe would have to share it with
SOURCE = "known from"
COLUMNS = ("FLOPs", "train", "reuse", "a run", "in all", SOURCE)


def plan(
    study: StudyName,
    root: Root = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    settings: Settings = None,
    workers: Workers = None,
    threads: Threads = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Train some arms for a short while, for a cost estimate at today's speed.")
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
    workspace = Workspace.at(root, tracking_uri, storage)
    planned = as_read(load_plan(study, workspace, settings or ()), workspace.datasets, freezing=freezing)
    keys = Keys(planned.subject, workspace.datasets)
    analysis = analyse(finished_of(planned, workspace, keys))
    if analysis.missing_runs:
        check_code(planned)
        check_data(planned, workspace.datasets)
    if freezing or because:
        fixed = _freeze(planned, workspace, freezing, because)
        analysis = analyse(dataclasses.replace(analysis.results, plan=fixed))
    resources = share_out(planned, workers, threads)
    clock = Clock(describe_machine(resources.threads))
    found = preview(analysis, keys, clock, resources, _probe(workspace) if probe else None)
    if as_json:
        print_json(plan_tree(found, keys))
    else:
        _print_preview(found)


def finished_of(planned: Plan, workspace: Workspace, keys: Keys) -> Results:
    """Return what is finished of a plan; a fresh root answers without MLflow, which takes seconds to load."""
    if not workspace.has_tracking:
        return nothing_finished(planned)
    from stn_bench.runner.stores import open_runs

    found = gather(planned, open_runs(workspace), workspace.datasets, keys)
    tell_lost(found)
    return found


def _freeze(planned: Plan, workspace: Workspace, asked: bool, because: str) -> Plan:
    if not asked:
        raise PlanError("`--because` says why a frozen plan has changed; it belongs to `--freeze`")
    planned = planned if planned.preregistration and not because else calibrated_anew(planned)
    runs = _ended(planned, workspace)
    fixed = preregister(planned, because, runs)
    if fixed != planned.preregistration:
        write_preregistration(workspace.root, fixed)
        if runs:
            what = f"{counted(runs, 'run')} of study `{fixed.study}` had ended already, and the report says so"
            messages.print(f"fixed late: {what}", markup=False)
    messages.print(f"frozen: {preregistration_path(workspace.root, fixed.study)}", markup=False)
    return dataclasses.replace(planned, preregistration=fixed)


def _ended(planned: Plan, workspace: Workspace) -> int:
    """Return how many runs of a study have ended, of whatever settings: what they say may have led to the plan."""
    if not workspace.has_tracking:
        return 0
    from stn_bench.runner.stores import open_runs

    runs, name = open_runs(workspace), planned.study.name
    return sum(one.study == name for one in (*runs.finished(), *runs.crashed(name)))


def _probe(workspace: Workspace) -> Probe:
    def measure(arms: list[PlannedArm], resources: Resources) -> dict[str, float]:
        from stn_bench.runner.timing import probe

        busy = load()
        messages.print(f"probing {counted(len(arms), 'arm')} with {_shared_out(resources)}", markup=False)
        if busy > BUSY:
            messages.print(
                f"this machine is busy with other work (load {busy:.1f} per core); a quiet machine is faster"
            )
        return probe(arms, workspace, resources)

    return measure


# For people --------------------------------------------------------------------------------------------------------


def _print_preview(found: Preview) -> None:
    planned, shown = found.plan, set[str]()
    study, metric = planned.study, planned.metric
    console.print(Text(study.title, "bold"))
    _print(f"metric {metric.name} ({metric.direction}), margin {study.margin:g}, plan {planned.digest[:12]}")
    for doubt in found.doubts:
        _print(f"! {doubt}")
    _print(_freeze_line(found))
    if not is_shipped(study.subject):
        _print(f"! runs code of the root's own, `{study.subject}`: the subject")
        for line in _when_it_runs(found):
            _print(line, 2)
    for question, power in zip(planned.questions, found.powers, strict=True):
        console.print(Text.assemble("\n", (question.ablation.name, "bold"), ": ", question.ablation.question))
        _print(_budget(question.base), 2)
        for code, names in _foreign_code(question).items():
            _print(f"! runs code of the root's own, `{code}`: {', '.join(names)}", 2)
            _print("called by `run`, `train` and `plan --probe`, not by `plan`", 4)
        _print_arms(found, question, shown)
        _print_differences(found, question)
        if untold := never_told(question):
            _print(f"! its factors' effects cannot be told: {untold}", 2)
        for line in _power_lines(power, metric.unit, planned.subject.example):
            _print(line, 2)
    _print_total(found)


CALLED_HERE = ("fingerprint", "describe", "split", "idle", "cost", "match", "caveats", "given", "steps")
"""The hooks of a subject that `plan`, `status` and `report` call; `run` calls all."""


def _when_it_runs(found: Preview) -> Iterator[str]:
    """Yield which code of a subject of the root's own runs in which command."""
    subject, module = found.plan.subject, found.plan.subject.name.partition(":")[0]
    yield f"`{module}` is imported by each command that reads this study, and by each worker"
    here = [f"`{name}`" for name in CALLED_HERE if getattr(subject, name)]
    if found.plan.metric.resolution:
        here.append(f"the resolution of `{found.plan.metric.name}`, which may read the data,")
    if here:
        yield f"`plan`, `status` and `report` call {listed(here)} too"
    training = f"its `train` is called by `run`, in {counted(found.resources.workers, 'worker')}"
    prepared = "; `prepare` before it, once" if subject.prepare else ""
    yield f"{training}{prepared}{'; `plan --probe` trains for a short while' if subject.probe else ''}"


def _print(text: str, indent: int = 0) -> None:
    with console.capture() as captured:
        console.print(Padding(Text(text), (0, 0, 0, indent), expand=False))
    for line in captured.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def _freeze_line(found: Preview) -> str:
    planned, fixed = found.plan, found.plan.preregistration
    if fixed is None:
        return f"not frozen; `stn-bench plan {planned.study.name} --freeze` fixes it before the first run"
    declared = f", {counted(len(fixed.deviations), 'change')} declared since" if fixed.deviations else ""
    undeclared = changes_since(fixed, planned)
    changed = f"; changed and not declared: {'; '.join(undeclared)}" if undeclared else ""
    when = found.analysis.preregistered_when
    return f"frozen on {fixed.date[:10]}, {when}, as {fixed.digest[:12]}{declared}{changed}"


def _budget(base: PlannedArm) -> str:
    tuning = f"{counted(base.trials, 'tuning trial')} on seed {base.tuning_seed}, then " if base.trials else ""
    seeds = f"seed{'s' * (len(base.seeds) > 1)} {listed([str(seed) for seed in base.seeds])}"
    epochs = base.subject.num_epochs(base.settings)
    return f"each arm: {tuning}{seeds}" + (f"; {counted(epochs, 'epoch')}" if epochs else "")


def _foreign_code(question: PlannedQuestion) -> dict[str, list[str]]:
    """Return what code outside its subject a question would run, and in which arms."""
    found: dict[str, list[str]] = {}
    for name, arm in question.arms.items():
        for address in arm.subject.foreign_code(arm.config):
            if address == arm.subject.name:  # told once, above
                continue
            found.setdefault(address, []).append(name)
    return found


def _print_arms(found: Preview, question: PlannedQuestion, shown: set[str]) -> None:
    table = Table("arm", box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == SOURCE else "right")
    for name, arm in question.arms.items():
        costs = ("", "", "", "", "above") if arm.label in shown else _cost_row(found, arm)
        on_paper = arm.subject.cost(arm.config) if arm.subject.cost else None
        flops = on_paper.flops if on_paper else None
        table.add_row(name, "–" if flops is None else in_short(flops), *costs)
        shown.add(arm.label)
    console.print()
    print_table(table, 2)
    console.print()


def _cost_row(found: Preview, arm: PlannedArm) -> tuple[str, ...]:
    cost = found.estimate.of(arm.label)
    share, pace = found.estimate.share(cost), cost.pace
    runs = str(cost.jobs) if cost.sure == cost.jobs else f"{cost.sure}–{cost.jobs}"
    seconds = "?" if pace is None else duration(pace.seconds)
    in_all = duration(share) if share else ""
    return (runs, str(cost.reused), seconds if cost.jobs else "", in_all, pace.source if pace and share else "")


def _print_differences(found: Preview, question: PlannedQuestion) -> None:
    caveats = found.caveats(question)
    for name, arm in question.arms.items():
        changed = in_words(difference(arm.settings, question.base.settings))
        if changed or caveats[name]:
            _print(": ".join(filter(None, (arm.label, ", ".join(changed)))), 2)
        for caveat in caveats[name]:
            _print(f"! {caveat}", 4)


def _power_lines(power: Power, unit: Unit, example: str) -> Iterator[str]:
    assumed = [one.value for one in (power.collapsed, power.sd) if one]
    sizes = (*assumed, power.smallest, power.smallest_at_first, power.example_error)
    unit = unit.to_show((), [size for size in sizes if size is not None])
    if power.design.seeds < FEWEST_SEEDS:
        yield f"can show nothing: a verdict needs {FEWEST_SEEDS} seeds"
    elif power.collapsed:
        value = f"{unit.value(power.collapsed.value)}{unit.suffix}"
        yield f"its power is unknown: {power.collapsed.source} have one value, {value}, and no spread over seeds"
    elif power.sd is None:
        yield f"its power is unknown until {FEWEST_SEEDS} seeds of the base are trained"
    else:
        design = f"80 % power, {counted(power.design.seeds, 'seed')}, {counted(power.design.arms, 'arm')}"
        spread = f"sd over seeds {unit.value(power.sd.value)}{unit.points}, {power.sd.source}"
        yield f"can show a difference of {unit.value(power.smallest)}{unit.points} ({design}; {spread})"
    if power.smallest_at_first is not None:
        smallest, looks = f"{unit.value(power.smallest_at_first)}{unit.points}", power.design.looks
        yield f"at the first of {len(looks)} looks, after {looks[0]} seeds: {smallest}"
    if power.example_error is not None and power.mean:
        error = f"{unit.value(power.example_error)}{unit.points}"
        mean = f"{unit.value(power.mean.value)}{unit.suffix}, {power.mean.source}"
        name = unit.name.split()[-1]
        yield f"{power.examples:,} {example}s alone: standard error {error} of one {name} ({mean})"


def _print_total(found: Preview) -> None:
    planned, estimate = found.plan, found.estimate
    console.print()
    if any(power.sd == ASSUMED_SD for power in found.powers):
        _print("assumed, for lack of runs of the base: the sd over seeds, and no correlation of arm and base")
    shared = sum(len(question.arms) for question in planned.questions) - len(planned.arms)
    if shared:
        _print(f"{counted(shared, 'arm')} shared between questions and trained once")
    if estimate.unknown:
        told = f"the time of a run is not known for {counted(len(estimate.unknown), 'arm')}"
        _print(f"{told}; --probe measures it" if planned.subject.probe else told)
    if planned.study.confirm:
        _print(f"`run --confirm` adds {counted(len(planned.study.confirm), 'seed')} of each best arm and its base")
    _print(_total(estimate) + (f" with {_shared_out(found.resources)}" if estimate.jobs else ""))
    if estimate.jobs and not estimate.is_probed and not estimate.unknown:
        _print("this assumes that the machine is as fast as in its finished runs; --probe measures it")


def _total(estimate: CostEstimate) -> str:
    if not estimate.jobs:
        return f"nothing to train, {counted(estimate.reused, 'run')} reused"
    most = counted(estimate.jobs, "run")
    is_certain = estimate.sure == estimate.jobs
    runs = most if is_certain else f"{estimate.sure} to {most}"
    if estimate.seconds is None or estimate.sure_seconds is None:
        time = "time not known"
    elif is_certain:
        time = f"about {duration(estimate.seconds)}"
    else:
        time = f"about {duration(estimate.sure_seconds)} to the next look, {duration(estimate.seconds)} to the last"
    return f"{runs} to train, {estimate.reused} reused: {time}"


def _shared_out(resources: Resources) -> str:
    on_gpus = f" on {counted(len(resources.gpus), 'GPU')}" if resources.gpus else ""
    return f"{counted(resources.workers, 'worker')} of {counted(resources.threads, 'thread')}{on_gpus}"
