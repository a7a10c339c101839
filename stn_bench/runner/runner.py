"""The runner: takes a plan to its end, with workers that train, and can be stopped and started at any moment."""

from __future__ import annotations

import bisect
import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.analysis.verdicts import ArmVerdict
from stn_bench.runner.crashes import Crashes
from stn_bench.runner.data import prepare_data
from stn_bench.runner.elsewhere import agree_with_others, check_still_posted
from stn_bench.runner.engine import Engine, Processes
from stn_bench.runner.job import Job
from stn_bench.runner.leases import Finished
from stn_bench.runner.pool import Pool, Watcher
from stn_bench.runner.queue.rows import SEED, SEEDS, QueuedJob
from stn_bench.runner.queue.trials import BETWEEN
from stn_bench.runner.registrar import JobRegistrar
from stn_bench.runner.stores import Stores, have_runs_come, last_import, open_stores
from stn_bench.runner.wanted import WantedJobs, arm_jobs, planned_specs, told_metric
from stn_bench.runner.worker import Assignment
from stn_bench.stats import spread
from stn_bench.study.plan import Phase, Plan, PlannedArm
from stn_bench.study.spec import Range
from stn_bench.system.errors import Interrupted, StnBenchError
from stn_bench.system.machine import Resources
from stn_bench.system.signals import counting_interrupts
from stn_bench.system.text import in_markdown
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.planned_code import PlannedCode
from stn_bench.tracking.record import RunRecord, arm_note, arm_tags
from stn_bench.tracking.results import ArmResults, Keys, Results, check_code, gather
from stn_bench.tracking.store import ArmPage, lost_line

if TYPE_CHECKING:
    from stn_bench.tracking.mlflow import Tracking
    from stn_bench.tracking.posted import Posted


@dataclass(frozen=True)
class _Study:
    """A study as it is trained: its experiment in MLflow, and what other machines train of it, where any can."""

    experiment: str
    shared: Posted | None


@dataclass(frozen=True)
class _Round:
    """The jobs of one round.

    Args:
        names: the Optuna studies that hold them.
        jobs: run key -> job, of those to train.
        known: the same of all that the phase may come to: another `run` of the study may be a round ahead.
        reused: number of those that are finished.
        imported: which import of runs was the last before.
        code: the user's own code that they are planned with.
    """

    names: tuple[str, ...]
    jobs: Mapping[str, Job]
    known: Mapping[str, Job]
    reused: int
    imported: str
    code: PlannedCode


@dataclass(frozen=True)
class Runner:
    """Takes one plan to its end.

    Args:
        plan: the plan.
        stores: where its runs are kept and its jobs wait.
        workspace: where all else is.
        resources: processes and threads.
        watcher: what is told of the progress.
        accept_stale: whether runs that other code or libraries trained are kept, instead of trained again.
        engine: what starts the workers; None: processes of this machine.
        given: what was posted of the plan, where it was taken from the store.
    """

    plan: Plan
    stores: Stores
    workspace: Workspace
    resources: Resources
    watcher: Watcher
    accept_stale: bool = False
    engine: Engine | None = None
    given: Posted | None = None

    def run(self, *, confirm: bool = False) -> Analysis:
        """Train what is not trained yet and return what the results say.

        Args:
            confirm: whether the best arm of each question is trained on fresh seeds at the end.

        Raises:
            Interrupted: after Ctrl-C, SIGTERM or a hang-up.
            StnBenchError: if data or stores cannot be had.
        """
        plan, tracking = self.plan, self.stores.tracking
        settings = [arm.config.resolved() for arm in plan.arms]
        prepare_data(plan.subject, settings, self.workspace, self.resources, self.watcher.preparing)
        shared = agree_with_others(
            plan, self.stores.queue, self.workspace, self.given, confirm=confirm, accept_stale=self.accept_stale
        )
        experiment = tracking.open_study(plan.study.name, study_note(plan))
        try:
            self._rounds(_Study(experiment, shared), confirm=confirm)
            return self._describe_arms(experiment)
        except BaseException:
            # The store may be what is broken, and whoever was asked to stop waits for none.
            with contextlib.suppress(StnBenchError), self.stores.waiting_until(lambda: True):
                if not self.stores.queue.leased():  # who goes on elsewhere needs them open
                    tracking.kill_open(experiment, kind="arm")
            raise

    def _rounds(self, study: _Study, *, confirm: bool) -> None:
        self._round("tune", study)
        begun = tried = self._round("verdict", study)
        while begun and self.plan.study.looks:
            begun = self._round("verdict", study, tried)
            tried |= begun
        if confirm:
            self._round("confirm", study)

    def gather(self) -> Results:
        """Return what is finished so far."""
        return gather(self.plan, self.stores.tracking, self.workspace.datasets)

    def _round(self, phase: Phase, study: _Study, tried: frozenset[str] = frozenset()) -> frozenset[str]:
        """Train the runs that a phase wants today, but for those that were tried; return their run keys."""

        def plan() -> _Round:
            with self.stores.queue.planning():
                if study.shared:
                    check_still_posted(study.shared, self.stores.queue)
                return self._prepare(phase, study.experiment, tried)

        found = self.stores.queue.patience.insist(plan)
        if found.jobs:
            for line in _later_looks(self.plan, phase, found.jobs.values()):
                self.watcher.say(line)
            self.watcher.phase(phase, found.jobs, found.reused)
            self._train(phase, found)
        return frozenset(found.jobs)

    def _prepare(self, phase: Phase, experiment: str, tried: frozenset[str]) -> _Round:
        self._code(arm.settings for arm in self.plan.arms).check()  # run keys are those of the first look
        imported = last_import(self.workspace)
        keys = Keys(self.plan.subject, self.workspace.datasets)  # of this round: data may change behind it
        results = gather(self.plan, self.stores.tracking, self.workspace.datasets, keys)
        if results.lost:
            self.watcher.say(lost_line(results.lost))
        arms = self.stores.tracking.arm_pages(experiment)
        jobs = {arm.arm.label: self._jobs(phase, arm, experiment, arms, keys) for arm in results.arms}
        wanted = WantedJobs.of(phase, results, jobs, accept_stale=self.accept_stale)
        names: list[str] = []
        for arm in results.arms:
            if these := wanted.jobs[arm.arm.label]:
                names.append(optuna_name(arm.arm, phase))
                self._enqueue(names[-1], phase, [_queued(job, arm.arm) for job in these.values()], wanted.done, tried)
        code = self._code(job.spec.settings for job in wanted.known.values())
        return _Round(tuple(names), wanted.fresh(tried), wanted.known, wanted.reused, imported, code)

    def _code(self, settings: Iterable[Mapping[str, Any]]) -> PlannedCode:
        return PlannedCode.of(self.plan.subject, settings, self.workspace.root)

    def _enqueue(
        self, name: str, phase: Phase, jobs: list[QueuedJob], done: Mapping[str, RunRecord], tried: frozenset[str]
    ) -> None:
        metric = told_metric(self.plan, phase)
        finished = {  # by the job's own key: a run that is done under a former one, or stands in, has another
            job.run_key: Finished(
                record.metrics.get(metric.name, -metric.sign * float("inf")), record.run_id, record.outcome
            )
            for job in jobs
            if (record := done.get(job.run_key))
        }
        self.stores.queue.enqueue(name, metric.direction, jobs, finished, tried)

    def _open_arm(self, experiment: str, arm: PlannedArm, arms: Mapping[tuple[str, str], ArmPage]) -> str:
        if known := arms.get((arm.ablation, arm.name)):
            return known.run_id
        tags = arm_tags(arm.study, arm.ablation, arm.name)
        return self.stores.tracking.open_arm(experiment, arm.label, tags, arm_note(arm))

    def _jobs(
        self, phase: Phase, arm: ArmResults, experiment: str, arms: Mapping[tuple[str, str], ArmPage], keys: Keys
    ) -> dict[str, Job]:
        """Return run key -> job, of all runs that an arm may come to in a phase, below the arm's own run."""
        parent = self._open_arm(experiment, arm.arm, arms) if planned_specs(phase, arm) else ""
        threads = self.resources.threads
        return arm_jobs(
            self.plan, phase, arm, keys, self.workspace, experiment=experiment, parent=parent, threads=threads
        )

    def _train(self, phase: Phase, found: _Round) -> None:
        metric, threads = told_metric(self.plan, phase), self.resources.threads
        places = functools.partial(open_stores, self.workspace)
        assignment = Assignment(
            self.workspace,
            places,
            threads,
            found.names,
            found.known,
            metric.name,
            metric.direction,
            code=found.code,
            have_runs_come=functools.partial(have_runs_come, self.workspace, found.imported),
        )
        engine = self.engine or Processes(self.resources)
        count = engine.count(len(found.jobs))
        registrar = JobRegistrar(self.stores, found.names, found.known, self.plan.subject.timeout)
        crashes = Crashes(found.jobs, found.reused, self.workspace.logs)
        with counting_interrupts() as interrupts, self.stores.waiting_until(lambda: interrupts.count > 0):
            Pool(engine, assignment, count, self.watcher, registrar, interrupts, crashes).run()
        if interrupts.count:
            goes_on = f"`stn-bench run {self.plan.study.name}` goes on from here"
            raise Interrupted(f"stopped; {goes_on}", interrupts.signum)
        self._record_lost(registrar, found)

    def _record_lost(self, registrar: JobRegistrar, found: _Round) -> None:
        """Record as crashed what nobody tries again and nobody told of: machines died with all that could tell."""
        queue, tracking = self.stores.queue, self.stores.tracking

        def record() -> None:
            with queue.planning():  # of several machines, the first does
                if lost := queue.lost(found.names) & found.jobs.keys():
                    told = {run.run_key for run in tracking.crashed(self.plan.study.name)}
                    for run_key in sorted(lost - told):
                        registrar.lost_elsewhere(run_key)

        queue.patience.insist(record)

    def _describe_arms(self, experiment: str) -> Analysis:
        analysis = analyse(self.gather())
        arms = self.stores.tracking.arm_pages(experiment)
        for arm in analysis.results.arms:
            verdict = analysis.verdicts.get(arm.arm.ablation, {}).get(arm.arm.name)  # of the arm's own question
            metrics = arm_metrics(arm, self.plan.metric.name) | (verdict_metrics(verdict) if verdict else {})
            tags = {"phase": "arm"} | (verdict_tags(verdict) if verdict else {})  # a base has no verdict
            known = arms.get((arm.arm.ablation, arm.arm.name))
            if not known or not known.says(metrics, tags):
                self.stores.tracking.describe(self._open_arm(experiment, arm.arm, arms), metrics, tags)
        return analysis


def train_study(
    plan: Plan,
    workspace: Workspace,
    resources: Resources,
    watcher: Watcher,
    *,
    confirm: bool = False,
    accept_stale: bool = False,
    engine: Engine | None = None,
    given: Posted | None = None,
) -> tuple[Analysis, Tracking]:
    """Train what is not trained yet of a plan, and return what its results say, with the store that holds them.

    Args:
        plan: the plan.
        workspace: where all is kept.
        resources: processes and threads.
        watcher: what is told of the progress.
        confirm: whether the best arm of each question is trained on fresh seeds at the end.
        accept_stale: whether runs that other code or libraries trained are kept, instead of trained again.
        engine: what starts the workers; None: processes of this machine.
        given: what was posted of the plan, where it was taken from the store.

    Raises:
        Interrupted: after Ctrl-C, SIGTERM or a hang-up.
        StnBenchError: if data or stores cannot be had, or something is another here than where the plan is from.
    """
    check_code(plan)
    stores = open_stores(workspace)
    stores.wait_aloud(watcher.say)
    runner = Runner(plan, stores, workspace, resources, watcher, accept_stale, engine, given)
    return runner.run(confirm=confirm), stores.tracking


# Which jobs ----------------------------------------------------------------------------------------------------------


def _queued(job: Job, arm: PlannedArm) -> QueuedJob:
    values: dict[str, Any] = {SEED: job.spec.seed, **(job.spec.chosen if job.is_trial else {})}
    space: dict[str, Range] = {SEED: SEEDS, **(arm.space if job.is_trial else {})}
    return QueuedJob(job.identity.run_key, values, space)


def optuna_name(arm: PlannedArm, phase: Phase) -> str:
    """Return the name of an arm's Optuna study; other settings under the same names have another."""
    return BETWEEN.join((arm.study, arm.label, phase, arm.digest))


# What MLflow shows ---------------------------------------------------------------------------------------------------


def _later_looks(plan: Plan, phase: Phase, jobs: Iterable[Job]) -> Iterator[str]:
    """Yield the arms that go on beyond the first look, a line for each look."""
    looks, arms = plan.study.all_looks, dict[int, dict[str, None]]()
    for job in jobs if phase == "verdict" else ():
        look = bisect.bisect(looks, plan.study.seeds.index(job.spec.seed)) + 1
        arms.setdefault(look, {})[job.spec.label] = None
    for look, labels in sorted(arms.items()):
        if look > 1:
            yield f"look {look} of {len(looks)}: {', '.join(labels)}"


def study_note(plan: Plan) -> str:
    """Return the Markdown that MLflow shows on a study's page."""
    questions = "\n".join(f"- **{one.ablation.name}**: {in_markdown(one.ablation.question)}" for one in plan.questions)
    return (
        f"**{in_markdown(plan.study.title)}**\n\n{questions}\n\nOne parent run an arm, one child run a seed "
        f"or a tuning trial. The run `report` carries the whole report as an artifact."
    )


def arm_metrics(results: ArmResults, metric: str) -> dict[str, float]:
    """Return an arm's aggregates: mean and standard deviation of the primary metric, and the number of runs."""
    values = spread(list(results.values(metric).values()))
    return _known({f"{metric}.mean": values.mean, f"{metric}.sd": values.sd, "seeds": float(values.n)})


def verdict_metrics(verdict: ArmVerdict) -> dict[str, float]:
    """Return the numbers of a verdict by which MLflow's table of arms can be sorted, named as in `report.json`."""
    judgement, comparison = verdict.judgement, verdict.judgement.comparison
    return _known(
        {
            "difference": comparison.difference,
            "difference.low": comparison.low,
            "difference.high": comparison.high,
            "p": comparison.p,
            "p_adjusted": judgement.p_adjusted,
        }
    )


def verdict_tags(verdict: ArmVerdict) -> dict[str, str]:
    """Return the verdict as tags; the reason is "" unless it is invalid."""
    return {"verdict": verdict.word, "verdict.reason": verdict.reason}


def _known(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value == value}
