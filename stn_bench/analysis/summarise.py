"""How the summary of a study is made, from its analysis and the files that its runs kept."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stn_bench.analysis.analyse import Analysis
from stn_bench.analysis.by_class import by_class
from stn_bench.analysis.by_metric import by_metric
from stn_bench.analysis.caveats import caveats, suspicions
from stn_bench.analysis.claims import claims_of
from stn_bench.analysis.confirmation import confirmation_of
from stn_bench.analysis.cost import Costs, known_costs, measured_costs, timed_seeds
from stn_bench.analysis.doubts import doubts
from stn_bench.analysis.factorial import effects_of, factor_levels
from stn_bench.analysis.rejudged import rejudged
from stn_bench.analysis.summary import (
    AblationSummary,
    ArmSummary,
    DeviationSummary,
    Fairness,
    PreregistrationSummary,
    Provenance,
    Summary,
)
from stn_bench.analysis.verdicts import ArmVerdict, failed_seeds, rules_of
from stn_bench.stats import (
    ExampleParts,
    Ratio,
    error_ratio,
    example_parts,
    expected_best,
    hedges,
    known,
    known_interval,
    published_p,
    spread,
    superiority,
)
from stn_bench.study.metrics import step_of
from stn_bench.study.plan import COSTLIER, Plan, PlannedQuestion
from stn_bench.study.preregistration import changes_since
from stn_bench.study.spec import BASE
from stn_bench.subject import Metric, Numbers, Subject
from stn_bench.system.errors import StnBenchError
from stn_bench.tracking.found import FoundResults
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import ArmResults

MARKED_COSTS = ("flops", "parameters")

Artifact = Callable[[str, str], Path]
"""(run id, path) -> local path of an artifact of a run."""

Read = Callable[[RunRecord, str], Numbers | None]
"""A run, a metric -> its value for each of the run's test examples, where they are known."""


def summarise(analysis: Analysis, artifact: Artifact | None = None) -> Summary:
    """Return the summary of a study.

    Args:
        analysis: what its results say.
        artifact: where to read the primary metric example by example; without it, that part is left out.
    """
    plan, study, metric = analysis.plan, analysis.plan.study, analysis.plan.metric
    source = analysis.results.source if isinstance(analysis.results, FoundResults) else None
    provenance = _provenance(analysis.results.records, plan.subject)
    if source and source.digest:
        provenance = provenance.model_copy(update={"datasets": {source.name: source.digest}})

    @functools.cache
    def read(run_id: str, name: str) -> Numbers | None:
        if artifact is None or source:  # nobody has the files of runs that others made, of a million maybe
            return None
        try:
            return plan.subject.read_examples(name, functools.partial(artifact, run_id))
        except (OSError, KeyError, ValueError, StnBenchError):
            return None

    ablations = tuple(_ablation(one, analysis, lambda run, name: read(run.run_id, name)) for one in plan.questions)
    return Summary(
        study=study.name,
        title=study.title,
        scope=study.scope,
        digest=plan.digest,
        metric=metric.name,
        meaning=metric.meaning,
        direction=metric.direction,
        scale=metric.scale,
        example=plan.subject.example,
        margin=study.margin,
        seeds=study.seeds,
        looks=study.all_looks,
        family=study.family,
        correction=study.correction,
        levels={arms: rules_of(plan).level(arms) for arms in sorted({1, *plan.families})},
        max_failed=study.max_failed,
        trials=study.tuning.trials,
        base=dict(study.base),
        planned_runs=analysis.planned_runs,
        finished_runs=analysis.results.finished,
        missing_runs=analysis.missing_runs,
        ablations=ablations,
        provenance=provenance,
        preregistration=_preregistration(analysis),
        source=source.name if source else "",
        notes=source.notes if source else (),
        doubts=doubts(analysis.results),
        rejudged=rejudged(study.published, ablations, study.margin, provenance.ended),
    )


def _preregistration(analysis: Analysis) -> PreregistrationSummary | None:
    plan, fixed = analysis.plan, analysis.plan.preregistration
    if fixed is None:
        return None
    return PreregistrationSummary(
        date=fixed.date,
        digest=fixed.digest,
        deviations=tuple(
            DeviationSummary(date=one.date, what="; ".join(one.changes), why=one.because, runs=one.runs)
            for one in fixed.deviations
        ),
        before_first_run=not analysis.is_preregistered_late,
        when=analysis.preregistered_when,
        undeclared=tuple(changes_since(fixed, plan)),
    )


def _ablation(question: PlannedQuestion, analysis: Analysis, read: Read) -> AblationSummary:
    ablation, results = question.ablation, analysis.results
    rows = {name: results.of(arm) for name, arm in question.arms.items()}
    costs = measured_costs(question, results)
    known = known_costs(question, costs)
    found = analysis.verdicts[ablation.name]
    is_found = isinstance(results, FoundResults)  # of runs that others made, nothing tells what they were given
    effects, no_effects = effects_of(question, analysis)
    arms: dict[str, ArmSummary] = {}
    for name, arm in rows.items():
        summary = _arm_summary(question, name, arm, analysis, costs[name])
        if name != BASE:
            numbers = _comparison(found[name], arm, rows[BASE], analysis.plan, read)
            summary = _beside(summary.model_copy(update=numbers), arms[BASE], ablation.published_pictures)
        told = (*caveats(question, name, known), *suspicions(question, name, analysis))
        arms[name] = summary.model_copy(update={"caveats": told})
    return AblationSummary(
        name=ablation.name,
        title=ablation.title,
        question=ablation.question,
        source=ablation.source,
        answer=ablation.answer,
        remark=analysis.plan.study.remarks.get(ablation.name, ""),
        published_pictures=ablation.published_pictures,
        arms=tuple(arms.values()),
        claims=claims_of(question, analysis),
        factors=factor_levels(question),
        effects=effects,
        no_effects=no_effects,
        fairness={} if is_found else {name: _fairness(arm) for name, arm in rows.items()},
        expected_best={
            name: curve for name, arm in rows.items() if (curve := _expected_best(arm, results.plan.tuning))
        },
        confirmation=confirmation_of(question, analysis),
        timed=timed_seeds(question, results),
        classes=() if is_found else by_class(rows, analysis.plan.metric.name, read),
        others=() if is_found else by_metric(rows, analysis.plan),
    )


def _arm_summary(
    question: PlannedQuestion, name: str, arm: ArmResults, analysis: Analysis, costs: Costs
) -> ArmSummary:
    """Return an arm as it stands for itself."""
    values = arm.values(analysis.plan.metric.name)
    spreads, one = spread(list(values.values())), next(iter(arm.runs.values()), None)
    written = None if name == BASE else question.written(name)
    settings = (
        written.set
        if written
        else {path: value for path, value in question.ablation.base.items() if path not in arm.arm.space}
    )
    parts = arm.arm.subject.parts
    return ArmSummary(
        name=name,
        label=arm.arm.label,
        words=written.label if written else "",
        called=analysis.results.called(name),
        set=dict(settings),
        matched={path: value for path, value in question.matched(name).items() if path in settings},
        without={path: parts[path] for path, value in settings.items() if path in parts and value == "none"},
        chosen=dict(arm.chosen or {}),
        planned=analysis.planned_seeds[arm.arm.label],
        seeds=tuple(values),
        values=tuple(values.values()),
        failed=failed_seeds(arm, analysis.plan.metric.name),
        mean=known(spreads.mean),
        sd=known(spreads.sd),
        together=written.together if written else "",
        match=(written.match or "") if written else "",
        **dataclasses.asdict(costs),
        layers=one.layers if one else (),
        uncounted=one.uncounted if one else (),
        published=dict(written.published if written else question.ablation.published),
        run_ids=tuple(arm.runs[seed].run_id for seed in values),
    )


def _comparison(verdict: ArmVerdict, arm: ArmResults, base: ArmResults, plan: Plan, read: Read) -> dict[str, Any]:
    """Return the numbers of an arm beside its base."""
    judgement, comparison = verdict.judgement, verdict.judgement.comparison
    both = arm.values(plan.metric.name).keys() & base.values(plan.metric.name).keys()
    seeds = [seed for seed in plan.study.seeds if seed in both][: comparison.n]
    ratio = _error_ratio(arm, base, plan.metric, seeds, 1 - comparison.level)
    parts = _example_parts(arm, base, plan.metric.name, seeds, read)
    return {
        "difference": known(comparison.difference),
        "interval": known_interval(comparison.low, comparison.high),
        "level": comparison.level,
        "p": known(comparison.p),
        "p_adjusted": known(judgement.p_adjusted),
        "holm_p": known(judgement.holm_p),
        "equivalence_p": known(judgement.equivalence_p) if plan.study.margin else None,
        "sign_flip_p": known(comparison.flip_p),
        "correlation": known(comparison.correlation),
        "pairs": comparison.n,
        "wins": comparison.wins,
        "losses": comparison.losses,
        "superiority": known_interval(*superiority(comparison.wins, comparison.losses)),
        "effect_size": known(hedges(comparison)),
        "error_ratio": ratio and known(ratio.value),
        "error_ratio_interval": ratio and known_interval(ratio.low, ratio.high),
        "seed_se": known(comparison.se),
        "example_se": parts and known(parts.examples),
        "verdict": verdict.word,
        "reason": verdict.reason,
        "look": judgement.look,
        "lacks": judgement.lacks,
        "first_look": judgement.rules.looks[0],
        "stopped": verdict.stopped,
        "more_seeds": judgement.more_seeds if verdict.word == "undecided" else None,
    }


def _error_ratio(
    arm: ArmResults, base: ArmResults, metric: Metric, seeds: Sequence[int], alpha: float
) -> Ratio | None:
    """Return the ratio of the arms' error rates; None unless the metric is a fraction."""
    if metric.scale != "fraction":
        return None
    ours, theirs = ({seed: one.runs[seed].metrics[metric.name] for seed in seeds} for one in (arm, base))
    if metric.direction == "minimize":  # it is the error rate already
        ours, theirs = ({seed: 1 - value for seed, value in values.items()} for values in (ours, theirs))
    return error_ratio(ours, theirs, alpha, max(step_of(metric, one.arm.config) for one in (arm, base)))


def _example_parts(
    arm: ArmResults, base: ArmResults, metric: str, seeds: Sequence[int], read: Read
) -> ExampleParts | None:
    """Return what seeds and what examples leave uncertain, or None where the examples are not known one by one."""
    if len(seeds) < 2:
        return None
    ours, theirs = ([read(one.runs[seed], metric) for seed in seeds] for one in (arm, base))
    known_ones = [one for one in (*ours, *theirs) if one is not None]
    if len(known_ones) < 2 * len(seeds) or len({one.shape for one in known_ones}) > 1:
        return None
    return example_parts(np.stack(known_ones[: len(seeds)]), np.stack(known_ones[len(seeds) :]))


def _beside(arm: ArmSummary, base: ArmSummary, examples: int) -> ArmSummary:
    """Return an arm with what it costs beside its base, and Fisher's p of their published accuracies."""
    costlier = {}
    for name in MARKED_COSTS:
        ours, theirs = getattr(arm, name), getattr(base, name)
        if ours and theirs and ours / theirs - 1 > COSTLIER:
            costlier[name] = ours / theirs - 1
    right, base_right = arm.published.get("accuracy"), base.published.get("accuracy")
    p = None
    if examples and right is not None and base_right is not None:
        p = published_p(round(right * examples), round(base_right * examples), examples)
    return arm.model_copy(update={"costlier": costlier, "published_p": p})


def _fairness(arm: ArmResults) -> Fairness:
    subject = arm.arm.subject
    given = dict(subject.given(arm.arm.config)) if subject.given else {}
    return Fairness(trials=arm.arm.trials, searched=len(arm.arm.space), given=given)


def _expected_best(arm: ArmResults, tuning: Sequence[Metric]) -> tuple[float | None, ...]:
    """Return the expected best of 1, 2, … tuning trials, in what tuning looks at first; () before all are finished.

    A trial that diverged has the worst value that a fraction can have, or else the worst of the other trials.
    """
    metric = next(iter(tuning), None)
    if metric is None or len(arm.trials) != arm.arm.trials:
        return ()
    found = [trial.metrics.get(metric.name) if trial.outcome == "finished" else None for trial in arm.trials]
    scores = [math.nan if value is None else metric.sign * value for value in found]
    sound = [score for score in scores if math.isfinite(score)]
    if metric.scale == "fraction":
        worst = 0.0 if metric.direction == "maximize" else -1.0
    elif sound:
        worst = min(sound)
    else:
        return ()
    best = expected_best([score if math.isfinite(score) else worst for score in scores])
    return tuple(known(metric.sign * value) for value in best)


# Where the numbers come from ---------------------------------------------------------------------------------------


def _provenance(records: Sequence[RunRecord], subject: Subject) -> Provenance:
    return Provenance(
        started=min((record.started for record in records), default=""),
        ended=max((record.ended for record in records), default=""),
        datasets=_datasets(records, subject),
        code=_versions(record.identity.code for record in records),
        libraries=_versions(record.identity.libraries for record in records),
        machines=tuple(sorted({machine_in_words(record.machine) for record in records if record.machine})),
    )


def _datasets(records: Sequence[RunRecord], subject: Subject) -> dict[str, str]:
    found = {}
    for record in records:
        note = subject.describe(record.settings) if subject.describe else None
        if record.identity.dataset:
            title = note.title if note else f"of {subject.name}"
            found[f"{title}; {record.split}" if record.split else title] = record.identity.dataset
    return dict(sorted(found.items()))


def _versions(parts: Iterable[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for versions in parts:
        for name, version in versions.items():
            found.setdefault(name, set()).add(version)
    return {name: tuple(sorted(versions)) for name, versions in sorted(found.items())}


def machine_in_words(machine: Mapping[str, Any]) -> str:
    """Return a machine in one line, with what a run's record tells of it."""
    threads = f" ({_some(machine['threads'], 'thread')} a run)" if "threads" in machine else ""
    told = {**machine, "cores": f"{_some(machine.get('cores'), 'core')}{threads}"}
    texts = {
        "processor": "{processor}",
        "cores": "{cores}",
        "memory_gb": "{memory_gb} GB",
        "system": "{system}",
        "python": "Python {python}",
    }
    return ", ".join(text.format(**told) for part, text in texts.items() if part in machine)


def _some(count: Any, noun: str) -> str:
    """Return a number of things as a record tells it; one from an archive may tell anything."""
    return f"{count} {noun if count == 1 else f'{noun}s'}"


__all__ = ["Artifact", "machine_in_words", "summarise"]
