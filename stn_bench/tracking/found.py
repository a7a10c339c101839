"""Results that exist: runs that others made, as the plan, the records and the results that a study would leave.

Nothing is trained and nothing is known but an arm, a seed and numbers. What may be said of them is said by the same
analysis, and by the same report, as of a study of our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stn_bench.settings import Settings
from stn_bench.study.plan import Plan, PlannedArm, PlannedQuestion
from stn_bench.study.spec import BASE, Ablation, Arm, Study, Tuning, complaint
from stn_bench.subject import Metric, Run, Subject
from stn_bench.system.errors import ConfigError, DataError
from stn_bench.system.format import counted
from stn_bench.system.text import did_you_mean, is_name, shorten, unused
from stn_bench.tracking.groups import (
    BEYOND,
    MOST_NAMED,
    FoundGroup,
    FoundRun,
    by_question,
    over_datasets,
    seeds_are,
    some,
)
from stn_bench.tracking.identity import Identity
from stn_bench.tracking.record import RunOutcome, RunRecord
from stn_bench.tracking.results import ArmResults, Results
from stn_bench.tracking.spelling import COMMAND, Spelling

RENAMED = f"{BASE} (arm)"  # an arm that its maker calls `base`, while another one is the base; unless one is so called


@dataclass(frozen=True)
class Source:
    """Where results were found.

    Args:
        name: the file, or the store.
        digest: SHA-256 of the file, or "".
        arm: the column that names the arm.
        base: the arm that the others are compared with, as it is called there.
        notes: what was found while it was read, in sentences without their full stop.
        spelling: how whoever asks writes an option.
    """

    name: str
    digest: str = ""
    arm: str = "arm"
    base: str = BASE
    notes: tuple[str, ...] = ()
    spelling: Spelling = COMMAND


@dataclass(frozen=True)
class Terms:
    """What results are judged by; whoever asks says it, since no plan did.

    Args:
        metric: what is compared.
        margin: smaller differences count as equivalent; 0: nothing does.
        looks: numbers of seeds after which the verdicts were looked at.
        max_failed: seeds of an arm that may have failed before its verdict is invalid.
        family: what is corrected for.
    """

    metric: Metric
    margin: float = 0.0
    looks: tuple[int, ...] = ()
    max_failed: int = 0
    family: str = "question"


@dataclass(frozen=True)
class FoundResults(Results):
    """Results of runs that others made.

    Args:
        source: where they were found.
        renamed: the name here of an arm that its maker calls `base`, while another one is the base.
    """

    source: Source = field(default_factory=lambda: Source(""))
    renamed: str = RENAMED

    def called(self, name: str) -> str:
        """Return what their maker calls the base, and an arm that he calls `base` while another one is it."""
        return {BASE: self.source.base, self.renamed: BASE}.get(name, "")


class Nothing(Settings):
    """What is known of the settings of runs that others made."""


def _train(settings: Any, seed: int, run: Run) -> Mapping[str, float]:
    raise DataError("results that exist cannot be trained again")


SUBJECT = Subject("results", Nothing, _train)  # of results that exist: no settings, and never trained


def results_of(runs: Sequence[FoundRun], source: Source, terms: Terms) -> FoundResults:
    """Return the results that somebody's runs are, with the plan that they would have had.

    Args:
        runs: the runs; no two of the same arm, seed, question and data set.
        source: where they were found.
        terms: what they are judged by.

    Raises:
        DataError: if a question has no runs of the base, there is but one arm, or the looks do not fit the seeds.
    """
    _check_base(runs, source)
    questions, notes = by_question(runs, terms.metric.name)
    groups, more = over_datasets(questions)
    groups, left_out = _for_looks(groups, terms, source)
    for group in groups:
        if source.base not in group.runs:
            lacks = "seed on every data set is one of" if group.is_over_all else "run of"
            raise DataError(f"{source.name}: {group.title}: no {lacks} the base `{source.base}`")
    title = f"{source.name}: {terms.metric.unit.name}"
    if len(groups) == 1:
        groups = [replace(groups[0], title=f"Beside {source.base}")]
    notes += [*more, *left_out, *_missing(groups, source.base), *_failed(groups, terms.metric.name)]
    slugs = _slugs([group.title for group in groups] if len(groups) > 1 else [source.arm])
    study = _study(source, title, slugs, groups, terms)
    renamed = unused(RENAMED, {run.arm for run in runs})
    found = [
        _planned(group, _names(group, source.base, renamed), slug, study, len(groups) == 1)
        for group, slug in zip(groups, slugs, strict=True)
    ]
    arms = tuple(one for question, rows in found for one in rows)
    plan = Plan(study, SUBJECT, tuple(question for question, _ in found), tuple(one.arm for one in arms), terms.metric)
    source = replace(source, notes=(*source.notes, *notes))
    return FoundResults(plan, arms, source=source, renamed=renamed)


def _check_base(runs: Sequence[FoundRun], source: Source) -> None:
    arms = list(dict.fromkeys(run.arm for run in runs))
    if source.base not in arms:
        known = ", ".join(shorten(arm) for arm in arms[:MOST_NAMED]) + ("…" if len(arms) > MOST_NAMED else "")
        told = did_you_mean(source.base, arms)
        raise DataError(f"{source.name}: no arm `{shorten(source.base)}` to be the base.{told} Arms: {known}")
    if len(arms) < 2:
        raise DataError(f"{source.name}: one arm only, `{shorten(arms[0])}`; a verdict compares two or more")


def _for_looks(groups: list[FoundGroup], terms: Terms, source: Source) -> tuple[list[FoundGroup], list[str]]:
    """Return the groups without the seeds that an arm skipped, as it has later ones: no look was ever held at those.

    A study trains what a look still lacks; here nothing will come any more. An arm that ends early has stopped.
    """
    if not terms.looks:
        return groups, []
    every = {seed for group in groups for seed in group.seeds}
    found = [set(runs) for group in groups for runs in group.runs.values()]
    ends = [(seeds, max(seeds)) for seeds in found if seeds]
    skipped = {seed for seeds, last in ends for seed in every - seeds if seed < last}
    if not skipped:
        return groups, []
    if len(skipped) == len(every):
        raise DataError(f"{source.name}: {source.spelling.name('looks')}: every seed is one that some arm lacks")
    return [group.without(skipped) for group in groups], [
        f"{seeds_are(sorted(skipped))} not there for every arm: left out, since looks need all arms"
    ]


# What is to be said --------------------------------------------------------------------------------------------------


def _missing(groups: Iterable[FoundGroup], base: str) -> Iterator[str]:
    """Yield on which seeds arms cannot be paired with the base; over all data sets that follows."""
    told: list[str] = []
    for group in groups:
        theirs = set(group.runs[base])
        for arm, runs in {} if group.is_over_all else group.runs.items():
            told += _lack(f"`{arm}` lacks", theirs - set(runs), group)
            told += _lack(f"`{base}` lacks, beside `{arm}`,", set(runs) - theirs, group)
    if told:
        yield f"pairs are missing: {some(told)}; judged on the pairs that are there"


def _lack(who: str, seeds: set[int], group: FoundGroup) -> Iterator[str]:
    if seeds:
        named = some(sorted(group.was.get(seed, seed) for seed in seeds))
        yield f"{who} seed{'s' * (len(seeds) > 1)} {named}{group.where}"


def _failed(groups: Iterable[FoundGroup], metric: str) -> Iterator[str]:
    """Yield which runs have no value that can be judged, each once."""
    found = {
        run.source: (f"`{run.arm}` on seed {group.was.get(seed, seed)}{_on(run)}", run.broken[metric])
        for group in groups
        if not group.is_over_all
        for runs in group.runs.values()
        for seed, run in runs.items()
        if metric in run.broken
    }
    infinite = [f"{who} ({why})" for who, why in found.values() if not why.endswith(BEYOND)]
    large = [f"{who} ({why.removesuffix(BEYOND).rstrip(', ')})" for who, why in found.values() if why.endswith(BEYOND)]
    if infinite:
        yield f"{_have(infinite)} no finite value and failed: {some(infinite)}"
    if large:
        yield f"{_have(large)} a value {BEYOND} and failed: {some(large)}; rescale the metric to judge such values"


def _on(run: FoundRun) -> str:
    return f" on {run.dataset}" if run.dataset else ""


def _have(runs: Sequence[str]) -> str:
    return f"{counted(len(runs), 'run')} {'has' if len(runs) == 1 else 'have'}"


# The plan and the records --------------------------------------------------------------------------------------------


def _study(source: Source, title: str, slugs: Sequence[str], groups: Sequence[FoundGroup], terms: Terms) -> Study:
    """Return the study that would have left these runs. A margin of 0, which no study may have, is set behind it.

    Raises:
        DataError: if the looks do not fit the seeds.
    """
    seeds = tuple(sorted({seed for group in groups for seed in group.seeds}))
    taken = set(seeds)
    spare = next(seed for seed in range(1000, 1001 + len(seeds)) if seed not in taken)
    try:
        study = Study(
            name=_slugs([source.name])[0],
            title=title,
            subject=SUBJECT.name,
            ablations=tuple(slugs),
            seeds=seeds if terms.looks else seeds[:1],
            looks=terms.looks,
            family="study" if terms.family == "study" else "question",
            max_failed=terms.max_failed,
            metric=terms.metric.name,
            direction=terms.metric.direction,
            base={source.arm: source.base},
            tuning=Tuning(seed=spare),
        )
    except ConfigError as error:
        raise DataError(f"{source.name}: {source.spelling.name('looks')}: {complaint(Study, error)}") from None
    return study.model_copy(update={"seeds": seeds, "margin": terms.margin})


def _names(group: FoundGroup, base: str, renamed: str) -> dict[str, str]:
    """Return what the arms of a group are called where they were found -> what they are called here."""
    return {base: BASE} | {arm: arm if arm != BASE else renamed for arm in group.runs if arm != base}


def _planned(
    group: FoundGroup, names: Mapping[str, str], slug: str, study: Study, is_only: bool
) -> tuple[PlannedQuestion, list[ArmResults]]:
    """Return a question with its runs; these are still called as they were found."""
    base = next(iter(names))
    seeds = tuple(group.seeds)
    planned = {
        name: PlannedArm(
            SUBJECT, study.name, BASE if is_only and name == BASE else slug, name, {}, Nothing(), seeds, 0,
            study.tuning.seed, {},
        )
        for name in names.values()
    }  # fmt: skip
    question = f"Does an arm differ from {base} in {study.metric}?"
    if not is_only:
        question = f"{group.title}: does an arm differ from {base} in {study.metric}?"
    arms = tuple(Arm(name=name) for name in planned if name != BASE)
    rows = []
    for arm, name in names.items():
        template = _template(planned[name])
        records = {seed: _record(run, template, study.metric) for seed, run in sorted(group.runs[arm].items())}
        crashed = {seed: one for seed, one in records.items() if one.outcome == "crashed"}
        runs = {seed: one for seed, one in records.items() if one.outcome != "crashed"}
        rows.append(ArmResults(planned[name], (), {}, runs, crashed))
    return PlannedQuestion(Ablation(name=slug, title=group.title, question=question, arms=arms), planned), rows


def _template(arm: PlannedArm) -> RunRecord:
    return RunRecord(
        run_id="",
        run_key="",
        subject=SUBJECT.name,
        study=arm.study,
        ablation=arm.ablation,
        arm=arm.name,
        phase="verdict",
        seed=0,
        trial=None,
        outcome="finished",
        reason="",
        settings={},
        changes={},
        chosen={},
        metrics={},
        history={},
        layers=(),
        uncounted=(),
        identity=Identity({}, 0, "", {}, {}),
        machine={},
        started="",
        ended="",
    )


def _record(run: FoundRun, template: RunRecord, metric: str) -> RunRecord:
    """Return the record of a run; it is a copy that nothing validates, since a table may have a million of them."""
    broken = run.broken.get(metric)
    outcome: RunOutcome = "finished" if broken is None else "crashed" if broken.startswith("no ") else "diverged"
    told = {"run_id": run.source, "seed": run.seed, "outcome": outcome, "reason": broken or ""}
    return template.model_copy(update={**told, "settings": run.given, "metrics": run.metrics})


def _slugs(texts: Sequence[str]) -> list[str]:
    """Return a name for each text that files and labels may have, no two alike."""
    found: list[str] = []
    for text in texts:
        slug = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40].strip("_")
        slug = slug if is_name(slug) and slug != BASE else f"of_{slug or 'results'}"
        same = sum(one == slug or one.startswith(f"{slug}__") for one in found)
        found.append(f"{slug}__{same + 1}" if same else slug)
    return found


__all__ = ["SUBJECT", "FoundResults", "Source", "Terms", "results_of"]
