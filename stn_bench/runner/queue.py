"""The door to Optuna: one study per arm and phase, whose trials are the jobs that workers lease.

Optuna's own loop reads all trials of one study before each job; a plan has hundreds of studies. So jobs are entered
and leased here, in Optuna's tables by Optuna's own models, and a look costs the same whatever the number of arms and
of finished jobs. Measured with Optuna 5: the grid samplers repeat jobs, and ask/tell has no heartbeat.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import itertools
import json
import math
import os
import shlex
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import psutil
import sqlalchemy
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import (
    StudyDirectionModel,
    StudyModel,
    StudyUserAttributeModel,
    TrialHeartbeatModel,
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from stn_bench.runner.leases import TRIES, Finished, Lease
from stn_bench.runner.turns import Seen, Turns
from stn_bench.study.spec import Range
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
from stn_bench.system.machine import disk_full, machine_name
from stn_bench.system.patience import Patience
from stn_bench.system.postgres import (
    DatabaseHold,
    DatabaseLock,
    check_answers,
    engine_options,
    is_away,
    is_postgres,
    making_tables,
    see_who_is_gone,
)
from stn_bench.system.sounds import Direction
from stn_bench.system.text import without_secrets
from stn_bench.system.workspace import make_whole, refuse_foreign, sqlite_file, tables_of

GRACE_HEARTBEATS = 4
POLL_SECONDS = 1.0  # between two looks of all workers of this machine that wait
LOCK_SECONDS = 60  # how long a statement waits for another process's write to end
CLOCK_SECONDS = 5  # by how much a process' start may seem to move while the machine's clock is set
LATE_SECONDS = 5  # that the last sign of life of a try may take
SEED = "seed"
BETWEEN = " / "  # in the name of a study of Optuna's, which begins with that of ours
SHORT = 12  # hexadecimal digits that tell one study from another
POSTED = "posted"  # user attribute of a study without trials: what workers elsewhere need
OWNER = "owner"  # user attribute of a trial: the process that works on it
HISTORY = "retry_history"  # system attribute of a trial, as Optuna's own retry has it: tries that died before
SEEDS = Range(low=0, high=2**31 - 1)
OPEN = (TrialState.WAITING, TrialState.RUNNING)
GIVEN_BACK = (Interrupted, DataError, MachineError, StoreError)
"""What ends a try through no fault of its job: another worker, of this machine or of another, may do better."""

INDEXES = {
    "stn_bench_trials_by_state": ("trials", "(state, study_id)"),
    "stn_bench_trials_by_run_key": ("trial_user_attributes", "(value_json) WHERE key = 'run_key'"),
}
"""Name of an index of ours in Optuna's tables -> its table, and what it holds: without it a look reads all trials."""

BATCH = 500  # trials that are changed in one statement
SEEN = {
    TrialState.WAITING: Seen.WAITING,
    TrialState.RUNNING: Seen.RUNNING,
    TrialState.COMPLETE: Seen.DONE,
    TrialState.FAIL: Seen.FAILED,
    TrialState.PRUNED: Seen.FAILED,
}
LAST = ("version_info", "alembic_version")  # tables that Optuna fills last
OURS = {"studies", "trials", "version_info"}  # tables by which a store of Optuna's is known

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class QueuedJob:
    """One trial to be: its identity, the values that it tries by name, and the ranges that they come from."""

    run_key: str
    values: Mapping[str, Any]
    space: Mapping[str, Range]


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
                    if not path.exists() or _is_half_made(path):
                        make_whole(path, lambda address: _Store(address, heartbeat).engine.dispose())
                    refuse_foreign(f"job queue {url}", path, OURS, "--storage")
                self._storage = _Store(url, heartbeat)
        except StnBenchError:
            raise
        except Exception as error:
            raise StoreError(f"job queue {url}: {_refusal(error, without_secrets(url))}") from None
        is_shared = is_postgres(url)
        self._everywhere = DatabaseLock(self._storage.engine, "stn-bench, planning") if is_shared else None

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
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
        found: dict[int, list[_Job]] = {study: [] for study in ids.values()}
        for job in self._storage.jobs(ids.values()):
            found[job.study_id].append(job)
        unwanted, new = list[int](), list[_New]()
        for wanted in all_wanted:
            study = ids[wanted.name]
            unwanted += wanted.unwanted(found[study])
            new += [_New(study, job, done) for job, done in wanted.lacking(found[study])]
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

    def _look(self, turns: Turns, is_doubtful: bool, waits: bool) -> _Claim | None:
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
            return frozenset(one.run_key for one in self._storage.running() if not _is_dead(one.owner))

    def _release(self, studies: Collection[int]) -> list[_Running]:
        """Give away the jobs of workers that are dead, or silent for too long; return those that run on."""
        left = []
        for trial in self._storage.running(studies):
            if not (trial.is_stale or _is_dead(trial.owner)):
                left.append(trial)
            elif not self._storage.release(trial.trial_id):
                left.append(trial)  # its worker is about to end it, or has
        return left

    def _claim(self, turns: Turns, is_doubtful: bool) -> _Claim | None:
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

    def _attempt(self, claimed: _Claim, objective: Callable[[Lease], Finished]) -> bool:
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
        self, claimed: _Claim, state: TrialState, finished: Finished | None, is_given_back: bool, has_died: bool
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


# Optuna's tables -----------------------------------------------------------------------------------------------------


class _Job(NamedTuple):
    """A trial of a job, "" if it is nobody's, and its state."""

    trial_id: int
    study_id: int
    run_key: str
    state: TrialState


class _New(NamedTuple):
    """A trial to be entered: its study, its job, and the result if there is one."""

    study_id: int
    job: QueuedJob
    done: Finished | None


@dataclass(frozen=True)
class _Wanted:
    """What `Queue.enqueue` is asked for."""

    name: str
    direction: Direction
    jobs: tuple[QueuedJob, ...]
    done: Mapping[str, Finished]
    tried: Collection[str]

    def unwanted(self, found: Iterable[_Job]) -> list[int]:
        """Return the waiting trials that are to be taken back: code or libraries changed, or the arm is decided."""
        wanted = {job.run_key for job in self.jobs} - set(self.done)
        return [one.trial_id for one in found if one.state == TrialState.WAITING and one.run_key not in wanted]

    def lacking(self, found: Iterable[_Job]) -> Iterator[tuple[QueuedJob, Finished | None]]:
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


class _Running(NamedTuple):
    """A job that is being worked on: by whom, "" if unknown, and whether that one was silent for too long."""

    trial_id: int
    study_id: int
    run_key: str
    owner: str
    is_stale: bool


class _Claim(NamedTuple):
    """A job that was leased, and whether no other try of it is known."""

    trial_id: int
    study_id: int
    run_key: str
    is_first: bool


def _is_half_made(path: Path) -> bool:
    """Return whether Optuna began to make its tables in a file, and never came to its end: no job is in it then."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = tables_of(connection)
        if not tables:
            return path.stat().st_size == 0
        if "studies" not in tables or not tables <= {*StudyModel.metadata.tables, *LAST}:
            return False
        if connection.execute("SELECT count(*) FROM studies").fetchone()[0]:
            return False
        told = [one for one in LAST if one in tables]
        return not tables >= OURS or len(
            [one for one in told if connection.execute(f"SELECT 1 FROM {one}").fetchone()]
        ) < len(LAST)


class _Store(RDBStorage):
    """Optuna's store, asked about many studies at once.

    What belongs together is written in one transaction: a trial whose worker dies on the way from waiting to running
    would have neither an owner nor a heartbeat, and nobody could tell that it is free.

    Args:
        url: SQLAlchemy address of the store.
        heartbeat: seconds between a worker's signs of life.
    """

    def __init__(self, url: str, heartbeat: int) -> None:
        wait = {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite") else engine_options(url)
        super().__init__(url, engine_kwargs=wait)
        self._address, self._heartbeat = url, heartbeat
        self._is_shared, self._was_away = is_postgres(url), False
        self._reached: datetime.datetime | None = None  # when it was reached again, by its own clock
        for name, (table, columns) in INDEXES.items():
            if not any(index["name"] == name for index in sqlalchemy.inspect(self.engine).get_indexes(table)):
                with contextlib.suppress(SQLAlchemyError), self.engine.begin() as connection:  # then looks are slow
                    connection.execute(sqlalchemy.text(f"CREATE INDEX {name} ON {table} {columns}"))

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with Session(self.engine) as session, session.begin():
            if self._is_shared:
                see_who_is_gone(session.connection())
            yield session

    def _read(self, query: sqlalchemy.Select[Any]) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(query).all()

    @property
    def _now(self) -> sqlalchemy.ColumnElement[datetime.datetime]:
        """The time by the clock of the database, the only one that leases depend on, in UTC."""
        now = sqlalchemy.func.now()
        return sqlalchemy.func.timezone("UTC", now) if self._is_shared else now

    def note_away(self) -> None:
        """Take note that the server did not answer: signs of life of others may be missing for that alone."""
        self._was_away = True

    # Studies

    def _ids(self) -> dict[str, int]:
        return dict(self._read(sqlalchemy.select(StudyModel.study_name, StudyModel.study_id)))

    def studies(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the ids of studies, in the order of their names; of those that are there."""
        ids = self._ids()
        return tuple(ids[name] for name in names if name in ids)

    def open_studies(self, directions: Mapping[str, Direction]) -> dict[str, int]:
        """Return name -> id of studies, made where they are missing.

        Args:
            directions: name -> "maximize" or "minimize".
        """
        ids = self._ids()
        if missing := [name for name in directions if name not in ids]:
            try:
                with self._writing() as session:
                    session.add_all(_study(name, directions[name]) for name in missing)
            except IntegrityError:  # another machine was faster with one of them
                for name in missing:
                    with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
                        self.create_new_study([_DIRECTIONS[directions[name]]], name)
            ids = self._ids()
        return {name: ids[name] for name in directions}

    def turns(self, names: Iterable[str]) -> Turns:
        """Return what is known of the turns of studies before any open trial was seen."""
        studies = self.studies(names)
        query = _of(studies, sqlalchemy.select(TrialModel.study_id, sqlalchemy.func.count()))
        done = self._read(query.where(TrialModel.state == TrialState.COMPLETE).group_by(TrialModel.study_id))
        return Turns(studies, [(study, count) for study, count in done], self.last_trial())

    def counts(self, name: str) -> dict[str, int]:
        """Return the number of a study's trials by the name of their state, in the order of the names."""
        query = sqlalchemy.select(TrialModel.state, sqlalchemy.func.count())
        found = self._read(query.where(TrialModel.study_id == self._ids().get(name)).group_by(TrialModel.state))
        return dict(sorted((state.name, count) for state, count in found))

    def posted(self, name: str) -> str:
        """Return the text that a study without trials holds; "" if there is none."""
        query = sqlalchemy.select(StudyUserAttributeModel.value_json)
        query = query.where(StudyUserAttributeModel.study_id == self._ids().get(name))
        return "".join(json.loads(value) for (value,) in self._read(query))

    def post(self, name: str, text: str) -> None:
        """Let a study without trials hold a text, in place of an older one."""
        study = self.open_studies({name: "maximize"})[name]
        with self._writing() as session:
            old = sqlalchemy.delete(StudyUserAttributeModel).where(StudyUserAttributeModel.study_id == study)
            session.execute(old)
            session.add(StudyUserAttributeModel(study_id=study, key=POSTED, value_json=json.dumps(text)))

    def any_runs(self, name: str) -> bool:
        """Return whether anybody works on a job of a study of ours, which has one of Optuna's an arm and phase."""
        return any(not (one.is_stale or _is_dead(one.owner)) for one in self.running(self._all_of(name)))

    def any_open(self, name: str) -> bool:
        """Return whether any of a study's trials waits or runs."""
        ours = self._all_of(name)
        query = _of(ours, sqlalchemy.select(TrialModel.study_id).distinct()).where(TrialModel.state.in_(OPEN))
        return any(study in ours for (study,) in self._read(query))

    def _all_of(self, name: str) -> frozenset[int]:
        """Return the ids of all studies here that belong to one of ours."""
        return frozenset(study for known, study in self._ids().items() if known.startswith(f"{name}{BETWEEN}"))

    # Trials, read

    def jobs(self, studies: Collection[int]) -> list[_Job]:
        """Return the trials of studies, in the order in which they were entered."""
        query = sqlalchemy.select(TrialModel.trial_id, TrialModel.study_id, _RUN_KEY.value_json, TrialModel.state)
        found = self._read(_with_run_key(_of(studies, query)).order_by(TrialModel.trial_id))
        ours = set(studies)
        return [
            _Job(trial, study, json.loads(run_key or '""'), state)
            for trial, study, run_key, state in found
            if study in ours
        ]

    def last_trial(self) -> int:
        """Return the id of the trial that was entered last, 0 if there is none."""
        ((last,),) = self._read(sqlalchemy.select(sqlalchemy.func.max(TrialModel.trial_id)))
        return last or 0

    def news(
        self, studies: Collection[int], seen: int, last: int, *, all_open: bool
    ) -> Sequence[tuple[int, int, TrialState]]:
        """Return the trials that were entered after one and up to another, each with its study and state.

        Args:
            studies: whose trials are asked for; a few of others may be among them.
            seen: id of the last trial that was seen.
            last: id of the last that is asked for.
            all_open: whether all earlier ones that wait or run are returned too: another machine may have entered
                some under lower ids.
        """
        query = _of(studies, sqlalchemy.select(TrialModel.trial_id, TrialModel.study_id, TrialModel.state))
        query = query.order_by(TrialModel.trial_id)
        earlier = query.where(TrialModel.state.in_(OPEN), TrialModel.trial_id <= seen)
        news = query.where(TrialModel.trial_id > seen, TrialModel.trial_id <= last)
        return [*(self._read(earlier) if all_open else ()), *(self._read(news) if last > seen else ())]

    def states(self, trial_ids: Collection[int]) -> Sequence[tuple[int, int, TrialState]]:
        """Return some trials, each with its study and state."""
        query = sqlalchemy.select(TrialModel.trial_id, TrialModel.study_id, TrialModel.state)
        found = self._read(query.where(TrialModel.trial_id.in_(trial_ids)))
        if len(found) < len(trial_ids):
            raise StoreError(f"job queue {self._address}: jobs were deleted while they waited; run again")
        return found

    def state(self, trial_id: int) -> TrialState:
        """Return the state of a trial."""
        return self.states([trial_id])[0][2]

    def states_of(self, studies: Collection[int], run_key: str) -> set[TrialState]:
        """Return the states of all trials of a job."""
        return {state for study, state in self._read(_tries(run_key)) if study in studies}

    def lost(self, studies: Collection[int]) -> frozenset[str]:
        """Return the run keys of jobs without an open or a complete trial, whose last one was its last death."""
        last: dict[str, int] = {}
        alive = set[str]()
        for one in self.jobs(studies):
            last[one.run_key] = one.trial_id
            if one.state in (*OPEN, TrialState.COMPLETE):
                alive.add(one.run_key)
        ended = {trial_id: run_key for run_key, trial_id in last.items() if run_key not in alive}
        return frozenset(ended[trial_id] for trial_id in self._worn_out(list(ended)))

    def _worn_out(self, trial_ids: Sequence[int]) -> Iterator[int]:
        """Yield those of some trials that somebody worked on, as the last of so many deaths."""
        told = sqlalchemy.select(TrialSystemAttributeModel.trial_id, TrialSystemAttributeModel.value_json)
        told = told.join(_OWNER, (_OWNER.trial_id == TrialSystemAttributeModel.trial_id) & (_OWNER.key == OWNER))
        told = told.where(TrialSystemAttributeModel.key == HISTORY)
        for start in range(0, len(trial_ids), BATCH):
            some = TrialSystemAttributeModel.trial_id.in_(trial_ids[start : start + BATCH])
            for trial_id, history in self._read(told.where(some)):
                if len(json.loads(history)) >= TRIES - 1:
                    yield trial_id

    def running(self, studies: Collection[int] | None = None) -> list[_Running]:
        """Return the trials that are being worked on: of some studies, or of all."""
        query = sqlalchemy.select(
            TrialModel.trial_id,
            TrialModel.study_id,
            _RUN_KEY.value_json,
            _OWNER.value_json,
            TrialHeartbeatModel.heartbeat,
            self._now,
            sqlalchemy.func.timezone("UTC", sqlalchemy.func.pg_postmaster_start_time())
            if self._is_shared
            else sqlalchemy.null(),
        )
        query = _with_run_key(query).join(StudyModel, StudyModel.study_id == TrialModel.study_id)
        query = query.outerjoin(_OWNER, (_OWNER.trial_id == TrialModel.trial_id) & (_OWNER.key == OWNER))
        query = query.outerjoin(TrialHeartbeatModel, TrialHeartbeatModel.trial_id == TrialModel.trial_id)
        query = query.where(TrialModel.state == TrialState.RUNNING).order_by(TrialModel.trial_id)
        found = self._read(query if studies is None else _of(studies, query))
        if found and self._was_away:
            self._reached, self._was_away = found[0][5], False
        return [
            _Running(trial, study, json.loads(run_key or '""'), json.loads(owner or '""'), self._is_stale(now, *since))
            for trial, study, run_key, owner, beat, now, began in found
            for since in [(beat, began, self._reached)]
            if studies is None or study in studies
        ]

    def _is_stale(
        self, now: datetime.datetime, beat: datetime.datetime | None, *since: datetime.datetime | None
    ) -> bool:
        """Return whether a worker was silent for too long, while it could be heard.

        Args:
            now: the time, as all of these by the clock of the database.
            beat: its last sign of life.
            since: from when on the server can be reached, where that is known.
        """
        grace = datetime.timedelta(seconds=GRACE_HEARTBEATS * self._heartbeat)
        return beat is not None and now - max(filter(None, (beat, *since))) > grace

    # Trials, written

    def enter(self, new: Sequence[_New]) -> None:
        """Enter trials with all that is known of them, values too, so that Optuna's own tools see them."""
        if not new:
            return
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)  # as Optuna keeps it
        table = TrialModel.__table__
        insert = table.insert().returning(table.c.trial_id, sort_by_parameter_order=True)
        with self._writing() as session:
            numbers = _numbers(session, {one.study_id for one in new})
            trials = [
                {
                    "study_id": one.study_id,
                    "number": next(numbers[one.study_id]),
                    "state": TrialState.COMPLETE if one.done else TrialState.WAITING,
                    "datetime_start": now if one.done else None,
                    "datetime_complete": now if one.done else None,
                }
                for one in new
            ]
            ids = session.connection().execute(insert, trials).scalars().all()
            rows: dict[type, list[dict[str, Any]]] = {}
            for trial_id, one in zip(ids, new, strict=True):
                for model, row in _rows(one):
                    rows.setdefault(model, []).append({"trial_id": trial_id, **row})
            for model, those in rows.items():
                session.execute(sqlalchemy.insert(model), those)

    def withdraw(self, trial_ids: Sequence[int]) -> None:
        """Take back waiting trials, as FAIL."""
        for start in range(0, len(trial_ids), BATCH):
            with self._writing() as session:
                some = TrialModel.trial_id.in_(trial_ids[start : start + BATCH])
                waiting = sqlalchemy.select(TrialModel).where(some, TrialModel.state == TrialState.WAITING)
                for trial in session.scalars(waiting.with_for_update()):
                    trial.state, trial.datetime_complete = TrialState.FAIL, datetime.datetime.now()

    def claim(self, trial_id: int) -> _Claim | None:
        """Make a waiting trial this process' own; None if it does not wait any more."""
        with self._writing() as session:
            if not _moved(session, trial_id, TrialState.WAITING, TrialState.RUNNING):
                return None
            trial = session.get_one(TrialModel, trial_id)
            trial.datetime_start = datetime.datetime.now()
            attributes = {one.key: one for one in trial.user_attributes}
            if dead := attributes.get(OWNER):  # as Optuna's own retry leaves it
                dead.value_json = json.dumps(owner())
            else:
                session.add(TrialUserAttributeModel(trial_id=trial_id, key=OWNER, value_json=json.dumps(owner())))
            session.add(TrialHeartbeatModel(trial_id=trial_id, heartbeat=self._now))
            study = int(trial.study_id)
            told = {key: json.loads(one.value_json) for key, one in attributes.items()}
        self._tell_values(trial_id, told.get("space", {}))
        run_key = told.get("run_key", "")
        return _Claim(trial_id, study, run_key, not self._read(_tries(run_key).where(TrialModel.trial_id != trial_id)))

    def _tell_values(self, trial_id: int, space: Mapping[str, Any]) -> None:
        """Write the values of a trial that an older version entered, which left them to its worker."""
        if not space:
            return
        trial = self.get_trial(trial_id)
        for name, values in space.items():
            if name not in trial.params:
                distribution, _ = _distribution(json.dumps(values), whole=name == SEED)
                value = distribution.to_internal_repr(trial.system_attrs["fixed_params"][name])
                self.set_trial_param(trial_id, name, value, distribution)

    def end(self, trial_id: int, state: TrialState, finished: Finished | None = None) -> bool:
        """End a running trial; return whether it was running."""
        with self._writing() as session:
            if not _moved(session, trial_id, TrialState.RUNNING, state):
                return False
            session.get_one(TrialModel, trial_id).datetime_complete = datetime.datetime.now()
            if finished and state == TrialState.COMPLETE:
                session.add_all(model(trial_id=trial_id, **row) for model, row in _result(finished))
        return True

    def release(self, trial_id: int, *, has_died: bool = True) -> bool:
        """Fail a running trial and let its job wait again, in one step; return whether it was running.

        As Optuna's own retry does, but without the owner's name. One that its worker is about to end stays as it is.

        Args:
            trial_id: the trial.
            has_died: whether its worker is dead, as far as anybody knows: after so many tries, nobody tries it again.
        """
        with self._writing() as session:
            running = sqlalchemy.select(TrialModel).where(
                TrialModel.trial_id == trial_id, TrialModel.state == TrialState.RUNNING
            )
            trial = session.scalars(running.with_for_update(skip_locked=True)).one_or_none()
            if trial is None or not _moved(session, trial_id, TrialState.RUNNING, TrialState.FAIL):
                return False
            trial.datetime_complete = datetime.datetime.now()
            told = {one.key: json.loads(one.value_json) for one in trial.system_attributes}
            history = [*told.get(HISTORY, ()), *([trial.number] if has_died else [])]
            if len(history) < TRIES:
                self._enter_again(session, trial, {"failed_trial": trial.number, **told, HISTORY: history})
        return True

    def _enter_again(self, session: Session, trial: TrialModel, told: Mapping[str, Any]) -> None:
        study = int(trial.study_id)
        number = next(_numbers(session, {study})[study])
        again = TrialModel(study_id=study, number=number, state=TrialState.WAITING)
        session.add(again)
        session.flush()
        rows: list[Any] = [
            TrialUserAttributeModel(key=one.key, value_json=one.value_json)
            for one in trial.user_attributes
            if one.key != OWNER
        ]
        rows += [TrialSystemAttributeModel(key=key, value_json=json.dumps(value)) for key, value in told.items()]
        rows += [
            TrialParamModel(
                param_name=one.param_name, param_value=one.param_value, distribution_json=one.distribution_json
            )
            for one in trial.params
        ]
        for row in rows:
            row.trial_id = again.trial_id
        session.add_all(rows)

    @contextmanager
    def holding(self, trial_id: int) -> Iterator[bool]:
        """Keep a running trial from being given away; tells whether it still runs. Nothing is written."""
        mine = sqlalchemy.select(TrialModel.state).where(TrialModel.trial_id == trial_id)
        connection = self.engine.connect()
        try:
            self._beat(trial_id)
            if self._is_shared:
                see_who_is_gone(connection)
            held = connection.execute(mine.with_for_update(key_share=True)).scalar()
            yield held == TrialState.RUNNING
        finally:
            with contextlib.suppress(SQLAlchemyError):  # what was done meanwhile was done elsewhere
                connection.close()

    def _beat(self, trial_id: int) -> None:
        alive = sqlalchemy.update(TrialHeartbeatModel).where(TrialHeartbeatModel.trial_id == trial_id)
        with self._writing() as session:
            session.connection().execute(alive.values(heartbeat=self._now))

    @contextmanager
    def beating(self, trial_id: int) -> Iterator[None]:
        """Give signs of life for a trial, from a thread."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._heartbeat):
                with contextlib.suppress(SQLAlchemyError):  # the next may come
                    self._beat(trial_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(LATE_SECONDS)  # where the network is cut it may wait for an answer


_RUN_KEY = sqlalchemy.orm.aliased(TrialUserAttributeModel)
_OWNER = sqlalchemy.orm.aliased(TrialUserAttributeModel)
_DIRECTIONS: dict[Direction, StudyDirection] = {
    "maximize": StudyDirection.MAXIMIZE,
    "minimize": StudyDirection.MINIMIZE,
}


def _of(studies: Collection[int], query: sqlalchemy.Select[Any]) -> sqlalchemy.Select[Any]:
    """Ask for trials of studies, and of those with ids in between: a list of a thousand would be slower."""
    return query.where(TrialModel.study_id.between(min(studies, default=0), max(studies, default=-1)))


def _with_run_key(query: sqlalchemy.Select[Any]) -> sqlalchemy.Select[Any]:
    return query.outerjoin(_RUN_KEY, (_RUN_KEY.trial_id == TrialModel.trial_id) & (_RUN_KEY.key == "run_key"))


def _tries(run_key: str) -> sqlalchemy.Select[Any]:
    """Ask for the study and state of each trial of a job; the literal lets the store see that its index will do."""
    is_run_key = TrialUserAttributeModel.key == sqlalchemy.literal_column("'run_key'")
    query = sqlalchemy.select(TrialModel.study_id, TrialModel.state)
    query = query.join(TrialUserAttributeModel, TrialUserAttributeModel.trial_id == TrialModel.trial_id)
    return query.where(is_run_key, TrialUserAttributeModel.value_json == json.dumps(run_key))


def _moved(session: Session, trial_id: int, before: TrialState, after: TrialState) -> bool:
    """Compare and set: change the state of a trial; return whether it was the expected one before."""
    change = sqlalchemy.update(TrialModel).where(TrialModel.trial_id == trial_id, TrialModel.state == before)
    return bool(session.connection().execute(change.values(state=after)).rowcount)


def _study(name: str, direction: Direction) -> StudyModel:
    return StudyModel(study_name=name, directions=[StudyDirectionModel(objective=0, direction=_DIRECTIONS[direction])])


def _numbers(session: Session, studies: Collection[int]) -> dict[int, Iterator[int]]:
    """Return studies, each with the numbers of its trials to come; nobody else enters any until the session ends."""
    lock = sqlalchemy.select(StudyModel.study_id).where(StudyModel.study_id.between(min(studies), max(studies)))
    session.execute(lock.order_by(StudyModel.study_id).with_for_update())
    past = _of(studies, sqlalchemy.select(TrialModel.study_id, sqlalchemy.func.count())).group_by(TrialModel.study_id)
    counts: dict[int, int] = {study: count for study, count in session.execute(past)}
    return {study: itertools.count(counts.get(study, 0)) for study in studies}


def _rows(new: _New) -> Iterator[tuple[type, dict[str, Any]]]:
    """Yield the rows of a new trial beside its own, each with the table that it belongs to."""
    yield TrialUserAttributeModel, {"key": "run_key", "value_json": json.dumps(new.job.run_key)}
    for name, value in new.job.values.items():
        distribution, told = _distribution(new.job.space[name].model_dump_json(), whole=name == SEED)
        internal = distribution.to_internal_repr(value)
        yield TrialParamModel, {"param_name": name, "param_value": internal, "distribution_json": told}
    if new.done:
        yield from _result(new.done)


def _result(finished: Finished) -> Iterator[tuple[type, dict[str, Any]]]:
    """Yield the rows of a result, each with the table that it belongs to."""
    value, kind = TrialValueModel.value_to_stored_repr(finished.value)
    yield TrialValueModel, {"objective": 0, "value": value, "value_type": kind}
    for key, told in {"run_id": finished.run_id, "outcome": finished.outcome}.items():
        yield TrialUserAttributeModel, {"key": key, "value_json": json.dumps(told)}


def _refusal(error: Exception, url: str) -> str:
    """Return why a store cannot be opened, and what to do: Optuna upgrades none by itself."""
    reason = str(error).splitlines()[0]
    if isinstance(error, ArgumentError):  # no such kind of database, or no address at all
        return "is no address of a database; expected one such as postgresql+psycopg://USER@HOST/NAME"
    if "optuna storage upgrade" in reason:
        command = f"optuna storage upgrade --storage {shlex.quote(url)}"
        return f"was written by an older Optuna than {optuna.__version__}; make a copy of it, then run: {command}"
    if "no longer compatible with the table schema" in reason:
        return f"was written by a newer Optuna than {optuna.__version__}; run: pip install --upgrade optuna"
    return f"cannot be opened ({reason}); check that it exists and is Optuna's"


def owner() -> str:
    """Return the name of this process, which no later process on this machine can have."""
    return f"{machine_name()} {os.getpid()} {psutil.Process().create_time():.2f}"


def _is_dead(name: str) -> bool:
    host, _, rest = name.partition(" ")
    if host != machine_name():
        return False
    pid, _, created = rest.partition(" ")
    try:
        process = psutil.Process(int(pid))
        is_another = abs(process.create_time() - float(created)) > CLOCK_SECONDS
        return is_another or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@functools.cache
def _distribution(
    values: str, *, whole: bool
) -> tuple[CategoricalDistribution | IntDistribution | FloatDistribution, str]:
    """Return the distribution of a range, given as JSON, as Optuna has it, and as it writes it."""
    distribution: CategoricalDistribution | IntDistribution | FloatDistribution
    found = Range.model_validate_json(values)
    low, high = found.low or 0, found.high or 0
    if found.choices:
        distribution = CategoricalDistribution(found.choices)
    elif whole:
        distribution = IntDistribution(int(low), int(high))
    else:
        distribution = FloatDistribution(low, high, log=found.log)
    return distribution, distribution_to_json(distribution)
