"""The analysis of a study: its verdicts, and all that follows from them, worked out once. Pure.

Runner, status, report and command line are handed the same `Analysis`; nobody judges the results a second time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from stn_bench.analysis.looks import Standings, final_seeds, selected_arm, standings, wanted_seeds
from stn_bench.analysis.verdicts import Verdicts, verdicts
from stn_bench.study.plan import Plan
from stn_bench.study.preregistration import is_later
from stn_bench.system.format import counted
from stn_bench.tracking.results import ArmResults, Results


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a study's results say today.

    Args:
        results: the results.
        verdicts: question -> name of the arm in it -> its verdict.
        standings: question -> how far each of its arms has come.
    """

    results: Results
    verdicts: Verdicts
    standings: Standings

    @property
    def plan(self) -> Plan:
        """The study's plan."""
        return self.results.plan

    @functools.cached_property
    def wanted_seeds(self) -> Mapping[str, tuple[int, ...]]:
        """Label of the arm -> the seeds that the verdict wants it to be trained on."""
        return wanted_seeds(self.plan, self.standings)

    @functools.cached_property
    def final_seeds(self) -> Mapping[str, tuple[int, ...]]:
        """Label of the arm -> the seeds that it will have in the end: all of them, or those of its last look."""
        return final_seeds(self.plan, self.standings, self.wanted_seeds)

    @functools.cached_property
    def planned_seeds(self) -> Mapping[str, int]:
        """Label of the arm -> on how many seeds the verdict phase ends for it: those wanted, and those it has."""
        labels = {arm.arm.label: arm for arm in self.results.arms}
        return {label: len({*self.wanted_seeds[label], *arm.runs}) for label, arm in labels.items()}

    @property
    def planned_runs(self) -> int:
        """Number of tuning trials and verdict runs of the study; it grows as long as arms stay open."""
        return sum(arm.arm.trials for arm in self.results.arms) + sum(self.planned_seeds.values())

    @property
    def missing_runs(self) -> int:
        """Number of these that are still to finish."""
        return self.planned_runs - self.results.finished

    @functools.cached_property
    def selected(self) -> Mapping[str, str]:
        """Question -> its best arm, where all of its verdicts are there."""
        found = {name: selected_arm(arms) for name, arms in self.standings.items()}
        return {name: arm for name, arm in found.items() if arm is not None}

    @functools.cached_property
    def confirming_seeds(self) -> Mapping[str, tuple[int, ...]]:
        """Label of the arm -> the fresh seeds that `run --confirm` trains it on: selected arms and their bases."""
        seeds: dict[str, tuple[int, ...]] = {}
        for question in self.plan.questions:
            if name := self.selected.get(question.ablation.name):
                seeds |= {arm.label: arm.confirm for arm in (question.base, question.arms[name])}
        return seeds

    @property
    def confirming_runs(self) -> int:
        """Number of runs on fresh seeds that `run --confirm` has still to finish."""
        finished = {arm.arm.label: arm.confirmed.keys() for arm in self.results.arms}
        return sum(len(set(seeds) - finished[label]) for label, seeds in self.confirming_seeds.items())

    def unfinished(self, confirm: bool) -> int:
        """Return the number of runs that a `run` has still to finish, with those on fresh seeds if it confirms."""
        return self.missing_runs + (self.confirming_runs if confirm else 0)

    @property
    def is_preregistered_late(self) -> bool:
        """Whether a run had ended when the plan was preregistered, or one of the plan's own had begun."""
        fixed, started = self.plan.preregistration, [run.started for run in self.results.records]
        return fixed is not None and (fixed.runs > 0 or (bool(started) and is_later(fixed.date, min(started))))

    @property
    def preregistered_when(self) -> str:
        """When that was, beside the study's runs."""
        if self.plan.preregistration is None or not self.is_preregistered_late:
            return "before the first run"
        runs = self.plan.preregistration.runs
        return f"after {counted(runs, 'run')} of the study had ended" if runs else "after the first run"

    @functools.cached_property
    def stops(self) -> Mapping[int, tuple[str, ...]]:
        """Look -> the arms that it decided early, as "question/arm"."""
        arms: dict[int, list[str]] = {}
        for question, found in self.verdicts.items():
            for name, verdict in found.items():
                if verdict.stopped:
                    arms.setdefault(verdict.judgement.look, []).append(f"{question}/{name}")
        return {look: tuple(names) for look, names in sorted(arms.items())}


def analyse(results: Results) -> Analysis:
    """Return what a study's results say today."""
    found = verdicts(results)
    return Analysis(results, found, standings(results, found))


def nothing_finished(plan: Plan) -> Results:
    """Return the results of a plan of which nothing is trained."""
    return Results(plan, tuple(ArmResults(arm, (), None if arm.trials else {}, {}, {}) for arm in plan.arms))


__all__ = ["Analysis", "analyse", "nothing_finished"]
