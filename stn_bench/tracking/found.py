"""Results that exist: runs that others made, as the plan, the records and the results that a study would leave.

Nothing is trained and nothing is known but an arm, a seed and numbers. What may be said of them is said by the same
analysis, and by the same report, as of a study of our own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from stn_bench.settings import Settings
from stn_bench.stats.values import FEWEST_SEEDS
from stn_bench.study.plan import Plan, PlannedArm, PlannedQuestion
from stn_bench.study.spec import BASE, Ablation, Arm, Study, Tuning, complaint
from stn_bench.subject import Metric, Run, Subject
from stn_bench.system.errors import ConfigError, DataError
from stn_bench.system.format import counted, listed
from stn_bench.system.text import did_you_mean, is_name, shorten
from stn_bench.tracking.identity import Identity
from stn_bench.tracking.record import RunOutcome, RunRecord
from stn_bench.tracking.results import ArmResults, Results
from stn_bench.tracking.spelling import COMMAND, Spelling

MOST_NAMED = 4  # things that a note names; the others are counted
ALL_DATASETS = "All data sets"
RENAMED = f"{BASE} (arm)"  # an arm that its maker calls `base`, while another one is the base


class FoundRun(NamedTuple):
    """A run that somebody else made.

    Args:
        question: the question that it belongs to, "" where there is one; what is shared by all has "" too.
        dataset: its data set, or "".
        arm: its arm.
        seed: its seed.
        metrics: its finite metrics by name.
        broken: the other metrics by name -> what stands in place of a number.
        source: where it stands, such as "row 7", or the id that a store gave it.
        given: what its file calls arm, seed and so on, where that says more.
    """

    question: str
    dataset: str
    arm: str
    seed: int
    metrics: dict[str, float]
    broken: Mapping[str, str]
    source: str
    given: dict[str, str]


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
    """Results of runs that others made."""

    source: Source = field(default_factory=lambda: Source(""))

    def called(self, name: str) -> str:
        """Return what their maker calls the base, and an arm that he calls `base` while another one is it."""
        return {BASE: self.source.base, RENAMED: BASE}.get(name, "")


class Nothing(Settings):
    """What is known of the settings of runs that others made."""


def _train(settings: Any, seed: int, run: Run) -> Mapping[str, float]:
    raise DataError("results that exist cannot be trained again")


SUBJECT = Subject("results", Nothing, _train)  # of results that exist: no settings, and never trained


@dataclass(frozen=True)
class _Group:
    """The runs of one question.

    Args:
        title: its heading.
        runs: arm -> seed -> run.
    """

    title: str
    runs: dict[str, dict[int, FoundRun]]

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for runs in self.runs.values() for seed in runs})

    def without(self, seeds: set[int]) -> _Group:
        """Return the runs on the other seeds."""
        kept = {arm: {seed: runs[seed] for seed in runs if seed not in seeds} for arm, runs in self.runs.items()}
        return replace(self, runs=kept)


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
    groups, notes = _over_datasets(_by_question(runs, terms.metric.name))
    groups, left_out = _for_looks(groups, terms, source)
    for group in groups:
        if source.base not in group.runs:
            raise DataError(f"{source.name}: {group.title}: no run of the base `{source.base}`")
    title = f"{source.name}: {terms.metric.unit.name}"
    if len(groups) == 1:
        groups = [replace(groups[0], title=f"Beside {source.base}")]
    notes += [*left_out, *_missing(groups, source.base), *_failed(groups, terms.metric.name)]
    slugs = _slugs([group.title for group in groups] if len(groups) > 1 else [source.arm])
    study = _study(source, title, slugs, groups, terms)
    found = [_planned(group, slug, study, source, len(groups) == 1) for group, slug in zip(groups, slugs, strict=True)]
    arms = tuple(one for question, rows in found for one in rows)
    plan = Plan(study, SUBJECT, tuple(question for question, _ in found), tuple(one.arm for one in arms), terms.metric)
    source = replace(source, notes=(*source.notes, *notes))
    return FoundResults(plan, arms, source=source)


def _check_base(runs: Sequence[FoundRun], source: Source) -> None:
    arms = list(dict.fromkeys(run.arm for run in runs))
    if source.base not in arms:
        known = ", ".join(shorten(arm) for arm in arms[:MOST_NAMED]) + ("…" if len(arms) > MOST_NAMED else "")
        told = did_you_mean(source.base, arms)
        raise DataError(f"{source.name}: no arm `{shorten(source.base)}` to be the base.{told} Arms: {known}")
    if len(arms) < 2:
        raise DataError(f"{source.name}: one arm only, `{shorten(arms[0])}`; a verdict compares two or more")


# Questions and data sets ---------------------------------------------------------------------------------------------


def _by_question(runs: Sequence[FoundRun], metric: str) -> dict[str, dict[str, _Group]]:
    """Return question -> data set -> its runs that tell of the metric; runs of no question belong to each."""
    questions = list(dict.fromkeys(run.question for run in runs if run.question)) or [""]
    found: dict[str, dict[str, _Group]] = {question: {} for question in questions}
    for run in runs:
        if metric not in run.metrics and metric not in run.broken:
            continue
        for question in [run.question] if run.question else questions:
            groups = found[question]
            if run.dataset not in groups:
                groups[run.dataset] = _Group(": ".join(filter(None, (question, run.dataset))), {})
            groups[run.dataset].runs.setdefault(run.arm, {})[run.seed] = run
    return found


def _over_datasets(questions: Mapping[str, Mapping[str, _Group]]) -> tuple[list[_Group], list[str]]:
    """Return every question on every data set, and on all of them; and what is to be said of that.

    Where three seeds or more are on all data sets, a seed's value over all is its mean. Else each pair of data set and
    seed stands for itself: the data set's own level falls out of a pair's difference.
    """
    if all(len(groups) == 1 for groups in questions.values()):
        return [group for groups in questions.values() for group in groups.values()], []
    is_crossed = all(len(_common(groups)) >= FEWEST_SEEDS for groups in questions.values())
    found: list[_Group] = []
    notes = []
    if not is_crossed:
        questions = _numbered(questions)
        notes.append("seeds are not the same on all data sets: over all, pairs are of data set and seed")
    for question, groups in questions.items():
        found += groups.values()
        title = ": ".join(filter(None, (question, ALL_DATASETS)))
        if len(groups) > 1:
            found.append(_mean(title, groups) if is_crossed else _joined(title, groups))
    if is_crossed:
        notes.append("over all data sets, the value of a seed is its mean over the data sets")
        partial = {seed for groups in questions.values() for one in groups.values() for seed in one.seeds}
        partial -= {seed for groups in questions.values() for seed in _common(groups)}
        if partial:
            notes.append(f"{_seeds(sorted(partial))} not on every data set: left out over all")
    return found, notes


def _common(groups: Mapping[str, _Group]) -> set[int]:
    return set.intersection(*(set(group.seeds) for group in groups.values()))


def _numbered(questions: Mapping[str, Mapping[str, _Group]]) -> dict[str, dict[str, _Group]]:
    """Return the groups with a seed of its own for each pair of data set and seed."""
    pairs = dict.fromkeys(
        (dataset, seed) for groups in questions.values() for dataset, group in groups.items() for seed in group.seeds
    )
    numbers = {pair: number for number, pair in enumerate(pairs, start=1)}
    return {
        question: {
            dataset: _Group(
                group.title,
                {
                    arm: {numbers[dataset, seed]: _as_seed(run, numbers[dataset, seed]) for seed, run in runs.items()}
                    for arm, runs in group.runs.items()
                },
            )
            for dataset, group in groups.items()
        }
        for question, groups in questions.items()
    }


def _as_seed(run: FoundRun, seed: int) -> FoundRun:
    return run._replace(seed=seed, given={"given.seed": str(run.seed), **run.given})


def _joined(title: str, groups: Mapping[str, _Group]) -> _Group:
    found: dict[str, dict[int, FoundRun]] = {}
    for group in groups.values():
        for arm, runs in group.runs.items():
            found.setdefault(arm, {}).update(runs)
    return _Group(title, found)


def _mean(title: str, groups: Mapping[str, _Group]) -> _Group:
    """Return each arm's means over the data sets, on the seeds that it has on all of them."""
    found: dict[str, dict[int, FoundRun]] = {}
    for arm in dict.fromkeys(arm for group in groups.values() for arm in group.runs):
        on = [group.runs.get(arm, {}) for group in groups.values()]
        seeds = set.intersection(*map(set, on))
        if seeds:
            found[arm] = {seed: _mean_run([runs[seed] for runs in on]) for seed in sorted(seeds)}
    return _Group(title, found)


def _mean_run(runs: Sequence[FoundRun]) -> FoundRun:
    first = runs[0]
    broken = {name: f"{why} on {run.dataset}" for run in runs for name, why in run.broken.items()}
    whole = [name for name in first.metrics if all(name in run.metrics for run in runs)]
    metrics = {name: math.fsum(run.metrics[name] for run in runs) / len(runs) for name in whole}
    source = f"mean of {len(runs)} from {first.source}"
    return first._replace(dataset=ALL_DATASETS, metrics=metrics, broken=broken, source=source)


def _for_looks(groups: list[_Group], terms: Terms, source: Source) -> tuple[list[_Group], list[str]]:
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
        f"{_seeds(sorted(skipped))} not there for every arm: left out, since looks need all arms"
    ]


# What is to be said --------------------------------------------------------------------------------------------------


def _missing(groups: Iterable[_Group], base: str) -> Iterator[str]:
    """Yield on which seeds arms cannot be paired with the base."""
    found: dict[str, set[int]] = {}
    for group in groups:
        theirs = set(group.runs[base])
        for arm, runs in group.runs.items():
            found.setdefault(f"`{arm}` lacks", set()).update(theirs - set(runs))
            found.setdefault(f"`{base}` lacks, beside `{arm}`,", set()).update(set(runs) - theirs)
    told = [f"{text} seed{'s' * (len(seeds) > 1)} {_some(sorted(seeds))}" for text, seeds in found.items() if seeds]
    if told:
        yield f"pairs are missing: {_some(told)}; judged on the pairs that are there"


def _failed(groups: Iterable[_Group], metric: str) -> Iterator[str]:
    """Yield which runs have no finite value, each once."""
    found = {
        run.source: f"`{run.arm}` on seed {run.seed} ({run.broken[metric]})"
        for group in groups
        for runs in group.runs.values()
        for run in runs.values()
        if metric in run.broken and run.dataset != ALL_DATASETS
    }
    if found:
        have = "has" if len(found) == 1 else "have"
        yield f"{counted(len(found), 'run')} {have} no finite value and failed: {_some(list(found.values()))}"


def _some(parts: Sequence[object]) -> str:
    more = len(parts) - MOST_NAMED
    named = list(map(str, parts[:MOST_NAMED]))
    return listed([*named, f"{more} more"] if more > 0 else named)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]} is" if len(seeds) == 1 else f"seeds {_some(seeds)} are"


# The plan and the records --------------------------------------------------------------------------------------------


def _study(source: Source, title: str, slugs: Sequence[str], groups: Sequence[_Group], terms: Terms) -> Study:
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


def _planned(
    group: _Group, slug: str, study: Study, source: Source, is_only: bool
) -> tuple[PlannedQuestion, list[ArmResults]]:
    """Return a question with its runs; these are still called as they were found."""
    names = {source.base: BASE}
    names |= {arm: arm if arm != BASE else RENAMED for arm in group.runs if arm != source.base}
    seeds = tuple(group.seeds)
    planned = {
        name: PlannedArm(
            SUBJECT, study.name, BASE if is_only and name == BASE else slug, name, {}, Nothing(), seeds, 0,
            study.tuning.seed, {},
        )
        for name in names.values()
    }  # fmt: skip
    question = f"Does an arm differ from {source.base} in {study.metric}?"
    if not is_only:
        question = f"{group.title}: does an arm differ from {source.base} in {study.metric}?"
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


__all__ = ["SUBJECT", "FoundResults", "FoundRun", "Source", "Terms", "results_of"]
