"""Which runs a phase of a study wants today, and which of them are done. Pure: results in, specs and jobs out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from stn_bench.analysis.analyse import analyse
from stn_bench.runner.job import Job
from stn_bench.study.plan import Phase, Plan, RunSpec
from stn_bench.subject import Metric
from stn_bench.system.errors import StnBenchError
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import ArmResults, Keys, Results


@dataclass(frozen=True)
class WantedJobs:
    """What a phase of a study wants today.

    Args:
        jobs: label of the arm -> run key -> job, of the runs that are wanted, done ones too.
        known: run key -> job, of all that the phase may come to.
        done: run key -> the run, of the jobs that are done.
    """

    jobs: Mapping[str, Mapping[str, Job]]
    known: Mapping[str, Job]
    done: Mapping[str, RunRecord]

    @classmethod
    def of(
        cls, phase: Phase, results: Results, jobs: Mapping[str, Mapping[str, Job]], *, accept_stale: bool = False
    ) -> WantedJobs:
        """Return what is wanted.

        Args:
            phase: the phase.
            results: what is finished.
            jobs: label of the arm -> run key -> job, of all that the arm may come to in the phase.
            accept_stale: whether runs that other code or libraries trained count as done.
        """
        known = {key: job for some in jobs.values() for key, job in some.items()}
        done = finished_jobs(known, results)
        if accept_stale:
            done |= {key: run for arm in results.arms for key, run in standing_in(phase, arm, jobs[arm.arm.label])}
        own = {key for job in known.values() for key in job.keys}  # a run that merely stands in opens no later look
        seeds = wanted_seeds(phase, results if accept_stale or phase != "verdict" else results.trained_as(own))
        wanted = {
            label: {key: job for key, job in some.items() if job.spec.seed in seeds.get(label, ())}
            for label, some in jobs.items()
        }
        return cls(wanted, known, done)

    def fresh(self, tried: Collection[str] = ()) -> dict[str, Job]:
        """Return run key -> job, of the wanted runs that are neither done nor among those that were tried."""
        wanted = {key: job for some in self.jobs.values() for key, job in some.items()}
        return {key: job for key, job in wanted.items() if key not in self.done and key not in tried}

    @property
    def reused(self) -> int:
        """Number of wanted runs that are done."""
        return sum(key in self.done for some in self.jobs.values() for key in some)


def arm_jobs(
    plan: Plan,
    phase: Phase,
    arm: ArmResults,
    keys: Keys,
    workspace: Workspace,
    *,
    experiment: str = "",
    parent: str = "",
    threads: int = 1,
) -> dict[str, Job]:
    """Return run key -> job, of all runs that an arm may come to in a phase.

    Args:
        plan: the plan.
        phase: the phase.
        arm: what is finished of the arm.
        keys: the run keys of today.
        workspace: where the jobs are trained.
        experiment: MLflow's id of the study; "" where no store is reached.
        parent: MLflow's id of the arm, or "".
        threads: threads of a training.

    Raises:
        StnBenchError: if data vanished.
    """
    jobs = {}
    for spec in planned_specs(phase, arm):
        identity = keys.identity(spec)
        if identity is None:
            raise StnBenchError(f"{spec.label}: its data vanished from {workspace.datasets}; run again")
        jobs[identity.run_key] = Job.of(
            plan.subject,
            spec,
            identity,
            workspace,
            experiment=experiment,
            parent=parent,
            threads=threads,
            former=keys.former(spec),
            metric=told_metric(plan, phase).name,
            question=question_of(plan, arm.arm.ablation),
        )
    return jobs


def planned_specs(phase: Phase, arm: ArmResults) -> tuple[RunSpec, ...]:
    """Return all runs that an arm may come to in a phase; none behind a tuning that is not finished."""
    if phase == "tune":
        return arm.arm.tuning_specs()
    if arm.chosen is None:
        return ()
    return arm.arm.verdict_specs(arm.chosen) if phase == "verdict" else arm.arm.confirm_specs(arm.chosen)


def finished_jobs(jobs: Mapping[str, Job], results: Results) -> dict[str, RunRecord]:
    """Return the run keys of the jobs that are done, each with its run: under today's key, or under a former one."""
    records = {record.run_key: record for record in results.records}
    found = {key: next((records[one] for one in job.keys if one in records), None) for key, job in jobs.items()}
    return {key: record for key, record in found.items() if record}


def standing_in(phase: Phase, arm: ArmResults, jobs: Mapping[str, Job]) -> Iterator[tuple[str, RunRecord]]:
    """Yield the run keys of an arm's jobs, each with the run that is its own or stands in, trained by other code."""
    records = {"tune": arm.trials, "verdict": arm.runs.values(), "confirm": arm.confirmed.values()}[phase]
    found = {(record.seed, record.trial): record for record in records}
    for key, job in jobs.items():
        if record := found.get((job.spec.seed, job.spec.trial)):
            yield key, record


def wanted_seeds(phase: Phase, results: Results) -> Mapping[str, tuple[int, ...]]:
    """Return label of the arm -> the seeds that a phase wants it to be trained on today."""
    if phase == "tune":
        return {arm.label: (arm.tuning_seed,) for arm in results.plan.arms}
    analysis = analyse(results)
    return analysis.wanted_seeds if phase == "verdict" else analysis.confirming_seeds


def question_of(plan: Plan, ablation: str) -> str:
    """Return what the arms of an ablation are to answer; the base, which all share, the study's title."""
    asked = (one.ablation.question for one in plan.questions if one.ablation.name == ablation)
    return next(asked, plan.study.title)


def told_metric(plan: Plan, phase: Phase) -> Metric:
    """Return the metric by which a phase's runs are told apart: what tuning may see, or what the verdict is about."""
    return plan.tuning[0] if phase == "tune" else plan.metric
