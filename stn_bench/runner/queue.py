"""The door to Optuna: one study per arm and phase, whose trials are the jobs that workers lease.

Measured with Optuna 5 (several workers on one store): only enqueued trials, leased one at a time in
`study.optimize`, end as one COMPLETE trial per job; the grid samplers repeat jobs, and ask/tell has no heartbeat.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from stn_bench.study.spec import Range
from stn_bench.subject import Direction
from stn_bench.system.errors import Interrupted, LeaseLostError, StnBenchError, StoreError
from stn_bench.system.lock import Lock
from stn_bench.system.machine import disk_full
from stn_bench.system.text import without_secrets
from stn_bench.system.workspace import refuse_foreign, sqlite_file

TRIES = 4  # of a job whose worker dies, before nobody tries it again in this run
GRACE_HEARTBEATS = 4
POLL_SECONDS = 0.5
LOCK_SECONDS = 60  # how long a statement waits for another process's write to end
CLOCK_SECONDS = 5  # by how much a process' start may seem to move while the machine's clock is set
SEED = "seed"
OWNER = "owner"  # user attribute of a trial: the process that works on it
SEEDS = Range(low=0, high=2**31 - 1)
OPEN = (TrialState.WAITING, TrialState.RUNNING)
OURS = {"studies", "trials", "version_info"}  # tables by which a store of Optuna's is known

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # the heartbeat, at each trial


@dataclass(frozen=True)
class QueuedJob:
    """One trial to be: its identity, the values that it tries by name, and the ranges that they come from."""

    run_key: str
    values: Mapping[str, Any]
    space: Mapping[str, Range]


@dataclass(frozen=True)
class Finished:
    """The result of a job: the value of the study's metric and the run that holds the rest."""

    value: float
    run_id: str
    outcome: str


@dataclass(frozen=True)
class Lease:
    """One try of a job, by the worker that holds it.

    A worker that was silent for longer than the grace period, stopped or swapped out, has lost its job to another,
    whatever it does when it wakes.

    Args:
        run_key: identity of the job.
        is_lost: whether another worker may have the job by now.
        ending: holds the store while the result of the job is written, so that nobody else can take it; raises
            LeaseLostError where somebody has.
    """

    run_key: str
    is_lost: Callable[[], bool]
    ending: Callable[[], AbstractContextManager[None]]


class Queue:
    """Optuna's store, and the jobs in it.

    Args:
        url: SQLAlchemy address of the store.
        heartbeat: seconds between a worker's signs of life.
        lock: file under which one planner at a time enqueues jobs.

    Raises:
        StoreError: if the store cannot be opened, or another version of Optuna wrote it.
    """

    def __init__(self, url: str, heartbeat: int, lock: Path) -> None:
        self._lock = Lock(lock)
        self._url = url
        try:
            with self._lock:  # two processes that create the tables at once can break a new store for good
                if path := sqlite_file(url):
                    refuse_foreign(f"job queue {url}", path, OURS, "STN_BENCH_OPTUNA_URL")
                with warnings.catch_warnings():  # Optuna calls heartbeats experimental
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    self._storage = _Store(
                        self._lock,
                        url,
                        engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
                        if url.startswith("sqlite")
                        else None,
                        heartbeat_interval=heartbeat,
                        grace_period=GRACE_HEARTBEATS * heartbeat,
                        heartbeat_stale_trial_callback=_try_again,
                    )
        except StnBenchError:
            raise
        except Exception as error:
            raise StoreError(f"job queue {url}: {_refusal(error, without_secrets(url))}") from None

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise disk_full(error) or StoreError(
                f"job queue {self._url}: cannot be used ({reason}). Finished runs are kept in the tracking "
                f"store: put this one aside, and the next `run` makes it anew"
            ) from error

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Keep others from planning, leasing or ending jobs, so that what is read of the results stays true."""
        with self._lock:
            yield

    def enqueue(
        self,
        name: str,
        direction: Direction,
        jobs: Iterable[QueuedJob],
        done: Mapping[str, Finished],
        tried: Collection[str] = (),
    ) -> None:
        """Check that each job has one trial: COMPLETE where the run is done, else WAITING or RUNNING.

        Args:
            name: name of the Optuna study.
            direction: "maximize" or "minimize".
            jobs: the jobs that are wanted of the arm and phase; waiting trials of others are taken back.
            done: run key -> result of the runs that the tracking store already holds.
            tried: run keys that get no new trial, since they have just failed.
        """
        with self._lock, self._reachable():
            study = self._study(name, direction)
            self._release(study)
            trials = study.get_trials(deepcopy=False)
            jobs = tuple(jobs)
            self._withdraw(study, trials, {job.run_key for job in jobs} - set(done))
            for job in jobs:
                if job.run_key in done or job.run_key not in tried:
                    self._enqueue_job(study, trials, job, done.get(job.run_key))

    def _enqueue_job(
        self, study: optuna.Study, trials: list[FrozenTrial], job: QueuedJob, done: Finished | None
    ) -> None:
        states = {trial.state for trial in trials if trial.user_attrs.get("run_key") == job.run_key}
        if done is not None and TrialState.COMPLETE not in states:
            study.add_trial(_complete_trial(job, done))
        elif done is None and not states & set(OPEN):
            space = {name: values.model_dump(mode="json") for name, values in job.space.items()}
            study.enqueue_trial(dict(job.values), user_attrs={"run_key": job.run_key, "space": space})

    def _withdraw(self, study: optuna.Study, trials: list[FrozenTrial], wanted: set[str]) -> None:
        """Take back the waiting trials that are no longer wanted: code or libraries changed, or the arm is decided."""
        for trial in trials:
            if trial.state == TrialState.WAITING and trial.user_attrs.get("run_key") not in wanted:
                self._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)

    def work(
        self,
        names: Sequence[str],
        objective: Callable[[Lease], Finished],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Lease jobs and work on them until none of these studies has one waiting or running.

        Args:
            names: names of the Optuna studies; the one with the fewest leased jobs is served first.
            objective: a leased job -> what it ended with; an exception makes the trial FAIL.
            should_stop: asked before each lease.
        """
        with self._reachable():
            studies = [self._study(name) for name in names]
            while not should_stop():
                open_trials = {study.study_name: self._open(study) for study in studies}
                waiting = [s for s in studies if any(t.state == TrialState.WAITING for t in open_trials[s.study_name])]
                if waiting:
                    self._lease(min(waiting, key=_leased), objective)
                elif any(open_trials.values()):
                    time.sleep(POLL_SECONDS)
                else:
                    return

    def bury(self, names: Iterable[str], run_key: str) -> bool:
        """Give away what dead workers held, and return whether a job of theirs is lost: nobody tries it again.

        Args:
            names: names of the Optuna studies that the job may be in.
            run_key: identity of the job.
        """
        with self._lock, self._reachable():
            states = set()
            for study in map(self._study, names):
                self._release(study)
                states |= {trial.state for trial in _tries(study, run_key)}
        return not states & {*OPEN, TrialState.COMPLETE}

    def give_up(self, names: Iterable[str], run_key: str, pid: int) -> bool:
        """Fail the try that a process of this machine is at, for good; return whether it was at it.

        Its worker cannot finish it any more, and no other gets it.
        """
        with self._lock, self._reachable():
            for study in map(self._study, names):
                for trial in _tries(study, run_key, (TrialState.RUNNING,)):
                    if trial.user_attrs.get(OWNER, "").startswith(f"{socket.gethostname()} {pid} "):
                        return self._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        return False

    def counts(self, name: str) -> dict[str, int]:
        """Return the number of trials by state name; {} if there is no such study."""
        with self._reachable():
            if name not in optuna.get_all_study_names(self._storage):
                return {}
            states = [trial.state.name for trial in self._study(name).get_trials(deepcopy=False)]
        return {state: states.count(state) for state in sorted(set(states))}

    def leased(self) -> frozenset[str]:
        """Return the run keys of the jobs that are being worked on, as far as anybody knows."""
        states = (TrialState.RUNNING,)
        with self._reachable():
            studies = [self._study(name) for name in optuna.get_all_study_names(self._storage)]
            running = [trial for one in studies for trial in one.get_trials(deepcopy=False, states=states)]
        return frozenset(
            trial.user_attrs.get("run_key", "") for trial in running if not _is_dead(trial.user_attrs.get(OWNER, ""))
        )

    def _study(self, name: str, direction: Direction | None = None) -> optuna.Study:
        if direction is None:
            return optuna.load_study(study_name=name, storage=self._storage, sampler=_OnlyEnqueued())
        return optuna.create_study(
            study_name=name,
            storage=self._storage,
            direction=direction,
            sampler=_OnlyEnqueued(),
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

    def _open(self, study: optuna.Study) -> list[FrozenTrial]:
        optuna.storages.fail_stale_trials(study)
        self._release(study)
        return study.get_trials(deepcopy=False, states=OPEN)

    def _release(self, study: optuna.Study) -> None:
        """Give away the jobs whose worker, on this machine, is known to be dead; no need to wait for its grace."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _is_dead(trial.user_attrs.get(OWNER, "")):
                self._fail(study, trial)

    def _fail(self, study: optuna.Study, trial: FrozenTrial) -> None:
        try:
            failed = self._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        except optuna.exceptions.UpdateFinishedTrialError:
            return  # another process was faster
        if failed:
            _try_again(study, self._storage.get_trial(trial._trial_id))

    def _lease(self, study: optuna.Study, objective: Callable[[Lease], Finished]) -> None:
        """Lease one waiting job and work on it.

        The lock is held from the look at what waits until a trial is ours: Optuna makes a new, empty trial for a
        worker that finds nothing waiting, and no later look could take it back. A job that was
        lost to another worker is not reported: Optuna refuses a second end of a trial. An interrupted one is told as
        an error: what is none would leave its trial RUNNING.
        """
        leasing, leased = ExitStack(), list[Lease]()

        def attempt(trial: Trial) -> float:
            trial.set_user_attr(OWNER, owner())
            leasing.close()
            run_key = trial.user_attrs.get("run_key")
            if run_key is None:
                raise _NothingWaits
            _suggest(trial)
            leased.append(self._held(run_key, trial._trial_id))
            try:
                finished = objective(leased[0])
            except Interrupted as stop:
                raise _Stopped(str(stop)) from stop
            trial.set_user_attr("run_id", finished.run_id)
            trial.set_user_attr("outcome", finished.outcome)
            return finished.value

        with leasing:
            leasing.enter_context(self._lock)
            if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                try:
                    study.optimize(attempt, n_trials=1, catch=(Exception,))
                except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
                    if not leased or not leased[0].is_lost():
                        raise

    def _held(self, run_key: str, trial_id: int) -> Lease:
        def is_lost() -> bool:
            return self._storage.get_trial(trial_id).state != TrialState.RUNNING

        @contextmanager
        def ending() -> Iterator[None]:
            with self._lock:
                if is_lost():
                    raise LeaseLostError
                yield

        return Lease(run_key, is_lost, ending)


def _refusal(error: Exception, url: str) -> str:
    """Return why a store cannot be opened, and what to do: Optuna upgrades none by itself."""
    reason = str(error).splitlines()[0]
    if "optuna storage upgrade" in reason:
        command = f"optuna storage upgrade --storage {shlex.quote(url)}"
        return f"was written by an older Optuna than {optuna.__version__}; make a copy of it, then run: {command}"
    if "no longer compatible with the table schema" in reason:
        return f"was written by a newer Optuna than {optuna.__version__}; run: pip install --upgrade optuna"
    return f"cannot be opened ({reason}); check that it exists and is Optuna's"


def _try_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Let the job of a dead worker wait again: Optuna's own retry, but without the dead owner's name on it."""
    history = [*trial.system_attrs.get("retry_history", ()), trial.number]
    if len(history) >= TRIES:
        return
    retry = optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={name: value for name, value in trial.user_attrs.items() if name != OWNER},
        system_attrs={"failed_trial": trial.number, **trial.system_attrs, "retry_history": history},
    )
    study.add_trial(retry)


class _Stopped(Exception):
    """A job was interrupted, told to Optuna as an error."""


class _NothingWaits(Exception):
    """A worker on another machine, beyond our lock, took the last job: the empty trial fails at once."""


class _Store(RDBStorage):
    """Optuna's store, in which one process at a time changes a trial's state.

    Optuna reads the state and then writes it. SQLite has no lock on a row, so that two workers can lease the same
    trial, or give the same dead worker's job away twice.
    """

    def __init__(self, lock: Lock, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._state_lock = lock

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        with self._state_lock:
            return super().set_trial_state_values(trial_id, state, values)


class _OnlyEnqueued(optuna.samplers.BaseSampler):
    """A sampler that never samples: every value was planned and enqueued."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        raise StoreError(f"job queue: the plan has no value for `{param_name}`")


def owner() -> str:
    """Return the name of this process, which no later process on this machine can have."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def _is_dead(name: str) -> bool:
    host, _, rest = name.partition(" ")
    if host != socket.gethostname():
        return False
    pid, _, created = rest.partition(" ")
    try:
        process = psutil.Process(int(pid))
        is_another = abs(process.create_time() - float(created)) > CLOCK_SECONDS
        return is_another or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _tries(study: optuna.Study, run_key: str, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False, states=states)
    return [trial for trial in trials if trial.user_attrs.get("run_key") == run_key]


def _leased(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING)))


def _suggest(trial: Trial) -> None:
    """Ask for every planned value, so that Optuna's own tools see the parameters."""
    for name, values in trial.user_attrs["space"].items():
        distribution = _distribution(Range.model_validate_json(json.dumps(values)), whole=name == SEED)
        if isinstance(distribution, CategoricalDistribution):
            trial.suggest_categorical(name, distribution.choices)
        elif isinstance(distribution, IntDistribution):
            trial.suggest_int(name, distribution.low, distribution.high)
        else:
            trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _distribution(values: Range, *, whole: bool) -> CategoricalDistribution | IntDistribution | FloatDistribution:
    if values.choices:
        return CategoricalDistribution(values.choices)
    low, high = values.low or 0, values.high or 0
    return IntDistribution(int(low), int(high)) if whole else FloatDistribution(low, high, log=values.log)


def _complete_trial(job: QueuedJob, done: Finished) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        value=done.value,
        params=dict(job.values),
        distributions={name: _distribution(values, whole=name == SEED) for name, values in job.space.items()},
        user_attrs={"run_key": job.run_key, "run_id": done.run_id, "outcome": done.outcome},
    )
