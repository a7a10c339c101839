"""The door to Optuna: one study per arm and phase, whose trials are the jobs that workers lease.

Optuna's own loop reads all trials of one study before each job; a plan has hundreds of studies. So jobs are entered
and leased here, in Optuna's tables by Optuna's own models, and a look costs the same whatever the number of arms and
of finished jobs. Measured with Optuna 5: the grid samplers repeat jobs, and ask/tell has no heartbeat.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from stn_bench.runner.leases import Finished, Lease
from stn_bench.runner.queue.owner import is_dead
from stn_bench.runner.queue.rows import NewTrial, QueuedJob
from stn_bench.runner.queue.store import OURS, POSTED, is_half_made, refusal
from stn_bench.runner.queue.trials import BETWEEN, OPEN, LeasedTrial, RunningTrial, Trial, Trials
from stn_bench.runner.turns import Seen, Turns
from stn_bench.system.errors import (
    DataError,
    Interrupted,
    LeaseLostError,
    MachineError,
    StnBenchError,
    StoreAwayError,
    StoreError,
)
from stn_bench.system.lock import Lock
from stn_bench.system.machine import disk_full
from stn_bench.system.patience import Patience
from stn_bench.system.postgres import (
    DatabaseHold,
    DatabaseLock,
    check_answers,
    is_away,
    is_postgres,
    making_tables,
)
from stn_bench.system.sounds import Direction
from stn_bench.system.text import first_line, without_secrets
from stn_bench.system.workspace import make_whole, refuse_foreign, sqlite_file

POLL_SECONDS = 1.0  # between two looks of all workers of this machine that wait
SHORT = 12  # hexadecimal digits that tell one study from another
GIVEN_BACK = (Interrupted, DataError, MachineError, StoreError)
"""What ends a try through no fault of its job: another worker, of this machine or of another, may do better."""

SEEN = {
    TrialState.WAITING: Seen.WAITING,
    TrialState.RUNNING: Seen.RUNNING,
    TrialState.COMPLETE: Seen.DONE,
    TrialState.FAIL: Seen.FAILED,
    TrialState.PRUNED: Seen.FAILED,
}

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class _Wanted:
    """What `Queue.enqueue` is asked for."""

    name: str
    direction: Direction
    jobs: tuple[QueuedJob, ...]
    done: Mapping[str, Finished]
    tried: Collection[str]

    def unwanted(self, found: Iterable[Trial]) -> list[int]:
        """Return the waiting trials that are to be taken back: code or libraries changed, or the arm is decided."""
        wanted = {job.run_key for job in self.jobs} - set(self.done)
        return [one.trial_id for one in found if one.state == TrialState.WAITING and one.run_key not in wanted]

    def lacking(self, found: Iterable[Trial]) -> Iterator[tuple[QueuedJob, Finished | None]]:
        """Yield the jobs that lack a trial, each with its result if it has one.

        A job whose run is closed may still be running here, for the moment until its worker tells of it.
        """
        states = dict[str, set[TrialState]]()
        for one in found:
            states.setdefault(one.run_key, set()).add(one.state)
        for job in self.jobs:
            had, done = states.get(job.run_key, set()), self.done.get(job.run_key)
            is_known = TrialState.COMPLETE in had or TrialState.RUNNING in had
            if not is_known if done else job.run_key not in self.tried and not had & set(OPEN):
                yield job, done


class Queue:
    """Optuna's store, and the jobs in it.

    Args:
        url: SQLAlchemy address of the store.
        heartbeat: seconds between a worker's signs of life.
        lock: file under which one process of this machine at a time plans, leases and ends jobs. Beyond it, on other
            machines, a lock of the database keeps these from happening while somebody plans.

    Raises:
        StoreError: if the store cannot be opened, or another version of Optuna wrote it.
    """

    def __init__(self, url: str, heartbeat: int, lock: Path) -> None:
        self._lock = Lock(lock)
        self._looked = self._looks = lock.with_suffix(".looked")  # of one study each, see `work`
        self._url = url
        self._planned: list[_Wanted] | None = None
        self.patience = Patience()
        check_answers("job queue", url, "--storage")
        try:
            with (
                self._lock,
                making_tables(url, "alembic_version"),
            ):  # two processes that create the tables at once can break a new store for good
                if path := sqlite_file(url):
                    if not path.exists() or is_half_made(path):
                        make_whole(path, lambda address: Trials(address, heartbeat).engine.dispose())
                    refuse_foreign(f"job queue {url}", path, OURS, "--storage")
                self._storage = Trials(url, heartbeat)
        except StnBenchError:
            raise
        except Exception as error:
            raise StoreError(f"job queue {url}: {refusal(error, without_secrets(url))}") from None
        is_shared = is_postgres(url)
        self._everywhere = DatabaseLock(self._storage.engine, "stn-bench, planning") if is_shared else None

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = first_line(str(error.__cause__ or error))
            if is_away(error):
                self._storage.note_away()
                raise StoreAwayError(f"job queue {self._url}: does not answer for now ({reason})") from error
            raise disk_full(error) or StoreError(
                f"job queue {self._url}: cannot be used ({reason}). Finished runs are kept in the tracking "
                f"store: put this one aside, and the next `run` makes it anew"
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[DatabaseHold | None]:
        """Keep all others, on all machines, from planning, leasing and ending jobs."""
        with self._lock, self._reachable():
            if self._everywhere is None:
                yield None
                return
            with self._everywhere.held() as hold:
                yield hold

    @contextmanager
    def _leasing(self) -> Iterator[None]:
        """Keep planners of all machines away, and all others of this one, while a job is leased or ended."""
        with self._lock, self._reachable():
            if self._everywhere is None:
                yield
                return
            with self._everywhere.held(shared=True):
                yield

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Keep others from planning, leasing or ending jobs, so that what is read of the results stays true.

        What is enqueued meanwhile is entered as the planning ends: of a thousand arms together, not one after another.

        Raises:
            StoreAwayError: if the database was away meanwhile, and let others in; plan again.
        """
        with self._alone() as hold:
            self._planned = []
            try:
                yield
                if self._planned:
                    if hold:
                        hold.check()
                    self._enter(self._planned)
            finally:
                self._planned = None

    def enqueue(
        self,
        name: str,
        direction: Direction,
        jobs: Iterable[QueuedJob],
        done: Mapping[str, Finished],
        tried: Collection[str] = (),
    ) -> None:
        """See that each job has one trial: COMPLETE where the run is done, else WAITING or RUNNING.

        Args:
            name: name of the Optuna study.
            direction: "maximize" or "minimize".
            jobs: the jobs that are wanted of the arm and phase; waiting trials of others are taken back.
            done: run key -> result of the runs that the tracking store already holds.
            tried: run keys that get no new trial, since they have just failed.
        """
        wanted = _Wanted(name, direction, tuple(jobs), done, tried)
        if self._planned is not None:
            self._planned.append(wanted)
            return
        with self._alone():
            self._enter([wanted])

    def _enter(self, all_wanted: Sequence[_Wanted]) -> None:
        ids = self._storage.open_studies({one.name: one.direction for one in all_wanted})
        self._release(ids.values())
        found: dict[int, list[Trial]] = {study: [] for study in ids.values()}
        for job in self._storage.jobs(ids.values()):
            found[job.study_id].append(job)
        unwanted, new = list[int](), list[NewTrial]()
        for wanted in all_wanted:
            study = ids[wanted.name]
            unwanted += wanted.unwanted(found[study])
            new += [NewTrial(study, job, done) for job, done in wanted.lacking(found[study])]
        self._storage.withdraw(unwanted)
        self._storage.enter(new)

    def work(
        self,
        names: Sequence[str],
        objective: Callable[[Lease], Finished],
        should_stop: Callable[[], bool] = lambda: False,
        is_doubtful: Callable[[], bool] = lambda: False,
    ) -> None:
        """Lease jobs and work on them until none of these studies has one waiting or running.

        A worker that finds nothing to lease waits: of all that wait on this machine, one looks again each second.

        Args:
            names: names of the Optuna studies; the one with the fewest leased jobs is served first.
            objective: a leased job -> what it ended with; an exception makes the trial FAIL.
            should_stop: asked before each lease.
            is_doubtful: asked before each lease: whether two studies are to be served in turn before the others, so
                that few jobs tell whether any can be done.
        """
        study = hashlib.sha256(names[0].partition(BETWEEN)[0].encode()).hexdigest()[:SHORT] if names else ""
        self._looked = self._looks.with_suffix(f".{study}.looked")  # who waits for another study looks for itself
        turns, waits = self.patience.insist(lambda: self._turns(names)), False
        while not should_stop():
            if waits and not self._is_due():
                time.sleep(POLL_SECONDS / 4)
                continue
            claimed = self.patience.insist(functools.partial(self._look, turns, is_doubtful(), waits))
            if claimed:
                if not self._attempt(claimed, objective):
                    turns.handicap(claimed.study_id)
            elif not turns.any_run:
                return
            waits = claimed is None

    def _turns(self, names: Sequence[str]) -> Turns:
        with self._reachable():
            return self._storage.turns(names)

    def _look(self, turns: Turns, is_doubtful: bool, waits: bool) -> LeasedTrial | None:
        """Lease a job if there is one; None if there is none, or another of this machine has just looked."""
        with self._leasing():
            if waits and not self._is_due():
                return None
            claimed = self._claim(turns, is_doubtful)
            self._note_look(in_vain=claimed is None and turns.any_run)
            return claimed

    def _is_due(self) -> bool:
        """Return whether nobody on this machine has looked for jobs in vain for a while."""
        try:
            age = time.time() - self._looked.stat().st_mtime
        except FileNotFoundError:
            return True
        return not 0 <= age < POLL_SECONDS  # the clock may have been set back

    def _note_look(self, *, in_vain: bool) -> None:
        """Tell the workers that wait when the next of them looks: in a while, or at once after a look that led on."""
        if in_vain:
            self._looked.touch()
        else:
            self._looked.unlink(missing_ok=True)

    def bury(self, names: Iterable[str], run_key: str) -> bool:
        """Give away what dead workers held, and return whether a job of theirs is lost: nobody tries it again.

        Args:
            names: names of the Optuna studies that the job may be in.
            run_key: identity of the job.
        """

        def give_away() -> bool:
            with self._alone():
                studies = self._storage.studies(names)
                self._release(studies)
                return not self._storage.states_of(studies, run_key) & {*OPEN, TrialState.COMPLETE}

        return self.patience.insist(give_away)

    def lost(self, names: Iterable[str]) -> frozenset[str]:
        """Return the run keys of the jobs whose workers died so often that nobody tries them again."""
        with self._reachable():
            return self._storage.lost(self._storage.studies(names))

    def give_up(self, names: Iterable[str], run_key: str, host: str, pid: int) -> bool:
        """Fail the try that a process of a machine is at, for good; return whether it was at it.

        Its worker cannot finish it any more, and no other gets it.
        """

        def fail() -> bool:
            with self._leasing():
                for trial in self._storage.running(self._storage.studies(names)):
                    if trial.run_key == run_key and trial.owner.startswith(f"{host} {pid} "):
                        return self._storage.end(trial.trial_id, TrialState.FAIL)
            return False

        return self.patience.insist(fail)

    @property
    def is_shared(self) -> bool:
        """Whether several machines may take jobs from it."""
        return self._everywhere is not None

    def posted(self, study: str) -> str:
        """Return what was posted of a study for its workers; "" if nothing was."""
        with self._reachable():
            return self._storage.posted(f"{study}{BETWEEN}{POSTED}")

    def post(self, study: str, text: str, agree: Callable[[str], None]) -> None:
        """Post what the workers of a study need; what they have already must agree with it while any is at work.

        Args:
            study: its name.
            text: what they need.
            agree: called with what was posted before, to raise if it does not agree.
        """
        with self._alone():
            before = self._storage.posted(f"{study}{BETWEEN}{POSTED}")
            if before and before != text and self._storage.any_runs(study):
                agree(before)
            if before != text:
                self._storage.post(f"{study}{BETWEEN}{POSTED}", text)

    def any_open(self, study: str) -> bool:
        """Return whether a job of a study waits, or was being worked on when it was last heard of."""
        with self._reachable():
            return self._storage.any_open(study)

    def counts(self, name: str) -> dict[str, int]:
        """Return the number of trials by state name; {} if there is no such study."""
        with self._reachable():
            return self._storage.counts(name)

    def leased(self) -> frozenset[str]:
        """Return the run keys of the jobs that are being worked on, as far as anybody knows."""
        with self._reachable():
            return frozenset(one.run_key for one in self._storage.running() if not is_dead(one.owner))

    def _release(self, studies: Collection[int]) -> list[RunningTrial]:
        """Give away the jobs of workers that are dead, or silent for too long; return those that run on."""
        left = []
        for trial in self._storage.running(studies):
            if not (trial.is_stale or is_dead(trial.owner)):
                left.append(trial)
            elif not self._storage.release(trial.trial_id):
                left.append(trial)  # its worker is about to end it, or has
        return left

    def _claim(self, turns: Turns, is_doubtful: bool) -> LeasedTrial | None:
        """Lease the job whose turn it is; None where none waits. To be called under the lock.

        SQLite locks no row, so that one process at a time chooses; beyond our lock, on other machines, the change of a
        trial's state tells who was faster.
        """
        running = {trial.trial_id for trial in self._release(turns.arms)}
        last = self._storage.last_trial()
        for trial_id, study_id, state in self._storage.news(
            turns.arms, turns.last_seen, last, all_open=not turns.any_wait
        ):
            turns.add(trial_id, study_id, SEEN[state])
        turns.last_seen = last
        gone = turns.gone(running)
        while (ahead := turns.ahead(is_doubtful=is_doubtful)) or gone:
            for trial_id, study_id, state in self._storage.states([*ahead, *gone]):
                turns.change(trial_id, study_id, SEEN[state])
            gone = []
            still_next = ahead and turns.ahead(is_doubtful=is_doubtful)[:1] == ahead[:1]
            if still_next and (claimed := self._storage.claim(ahead[0])):
                turns.change(claimed.trial_id, claimed.study_id, Seen.RUNNING)
                return claimed
        return None

    def _attempt(self, claimed: LeasedTrial, objective: Callable[[Lease], Finished]) -> bool:
        """Work on a leased job, and tell Optuna how it ended; return whether it was done.

        A job that was lost to another worker is not told: its trial has ended. One that was interrupted has failed,
        and so has one whose value is no number.
        """
        state, finished, is_given_back, has_died = TrialState.FAIL, None, False, True
        with self._storage.beating(claimed.trial_id):
            try:
                finished = objective(self._held(claimed.run_key, claimed.trial_id, is_first=claimed.is_first))
                state = TrialState.FAIL if math.isnan(finished.value) else TrialState.COMPLETE
            except GIVEN_BACK as error:
                is_given_back, has_died = True, not isinstance(error, Interrupted | StoreAwayError)
            except Exception as error:  # the objective has told of it
                is_given_back = disk_full(error) is not None
            finally:
                self.patience.insist(lambda: self._end(claimed, state, finished, is_given_back, has_died))
        return state == TrialState.COMPLETE

    def _end(
        self, claimed: LeasedTrial, state: TrialState, finished: Finished | None, is_given_back: bool, has_died: bool
    ) -> None:
        with self._leasing():
            if is_given_back:
                self._storage.release(claimed.trial_id, has_died=has_died)
            else:
                self._storage.end(claimed.trial_id, state, finished)

    def _held(self, run_key: str, trial_id: int, *, is_first: bool = False) -> Lease:
        def is_lost() -> bool:
            try:
                with self._reachable():
                    return self._storage.state(trial_id) != TrialState.RUNNING
            except StoreAwayError:
                return False  # nobody can tell; who ends the job asks again

        @contextmanager
        def ending() -> Iterator[None]:
            if self._everywhere is None:
                with self._lock:
                    if is_lost():
                        raise LeaseLostError
                    yield
                return
            with self._reachable(), self._storage.holding(trial_id) as is_ours:
                if not is_ours:
                    raise LeaseLostError
                yield

        return Lease(run_key, is_lost, ending, is_first)
