"""The trials in Optuna's store: read for many studies at once, and moved from one state to the next."""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy
from optuna.storages._rdb.models import (
    StudyModel,
    TrialHeartbeatModel,
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
)
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from stn_bench.runner.leases import TRIES, Finished
from stn_bench.runner.queue.owner import is_dead, owner
from stn_bench.runner.queue.rows import (
    OWNERS,
    RUN_KEYS,
    SEED,
    NewTrial,
    distribution_of,
    moved,
    numbers_to_come,
    of_studies,
    result_rows,
    rows_of,
    tries,
    with_run_key,
)
from stn_bench.runner.queue.store import Store
from stn_bench.runner.turns import Turns
from stn_bench.system.errors import StoreError
from stn_bench.system.postgres import see_who_is_gone

GRACE_HEARTBEATS = 4
LATE_SECONDS = 5  # that the last sign of life of a try may take
BATCH = 500  # trials that are changed in one statement
BETWEEN = " / "  # in the name of a study of Optuna's, which begins with that of ours
OWNER = "owner"  # user attribute of a trial: the process that works on it
HISTORY = "retry_history"  # system attribute of a trial, as Optuna's own retry has it: tries that died before
OPEN = (TrialState.WAITING, TrialState.RUNNING)


class Trial(NamedTuple):
    """A trial of a job, "" if it is nobody's, and its state."""

    trial_id: int
    study_id: int
    run_key: str
    state: TrialState


class RunningTrial(NamedTuple):
    """A job that is being worked on: by whom, "" if unknown, and whether that one was silent for too long."""

    trial_id: int
    study_id: int
    run_key: str
    owner: str
    is_stale: bool


class LeasedTrial(NamedTuple):
    """A job that was leased, and whether no other try of it is known."""

    trial_id: int
    study_id: int
    run_key: str
    is_first: bool


class Trials(Store):
    """The trials in Optuna's store, asked about many studies at once.

    What belongs together is written in one transaction: a trial whose worker dies on the way from waiting to running
    would have neither an owner nor a heartbeat, and nobody could tell that it is free.
    """

    # Of studies

    def turns(self, names: Iterable[str]) -> Turns:
        """Return what is known of the turns of studies before any open trial was seen."""
        studies = self.studies(names)
        query = of_studies(studies, sqlalchemy.select(TrialModel.study_id, sqlalchemy.func.count()))
        done = self._read(query.where(TrialModel.state == TrialState.COMPLETE).group_by(TrialModel.study_id))
        return Turns(studies, [(study, count) for study, count in done], self.last_trial())

    def any_runs(self, name: str) -> bool:
        """Return whether anybody works on a job of a study of ours, which has one of Optuna's an arm and phase."""
        return any(not (one.is_stale or is_dead(one.owner)) for one in self.running(self._all_of(name)))

    def any_open(self, name: str) -> bool:
        """Return whether any of a study's trials waits or runs."""
        ours = self._all_of(name)
        query = of_studies(ours, sqlalchemy.select(TrialModel.study_id).distinct()).where(TrialModel.state.in_(OPEN))
        return any(study in ours for (study,) in self._read(query))

    def _all_of(self, name: str) -> frozenset[int]:
        """Return the ids of all studies here that belong to one of ours."""
        return frozenset(study for known, study in self._ids().items() if known.startswith(f"{name}{BETWEEN}"))

    # Trials, read

    def jobs(self, studies: Collection[int]) -> list[Trial]:
        """Return the trials of studies, in the order in which they were entered."""
        query = sqlalchemy.select(TrialModel.trial_id, TrialModel.study_id, RUN_KEYS.value_json, TrialModel.state)
        found = self._read(with_run_key(of_studies(studies, query)).order_by(TrialModel.trial_id))
        ours = set(studies)
        return [
            Trial(trial, study, json.loads(run_key or '""'), state)
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
        query = of_studies(studies, sqlalchemy.select(TrialModel.trial_id, TrialModel.study_id, TrialModel.state))
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
        return {state for study, state in self._read(tries(run_key)) if study in studies}

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
        told = told.join(OWNERS, (OWNERS.trial_id == TrialSystemAttributeModel.trial_id) & (OWNERS.key == OWNER))
        told = told.where(TrialSystemAttributeModel.key == HISTORY)
        for start in range(0, len(trial_ids), BATCH):
            some = TrialSystemAttributeModel.trial_id.in_(trial_ids[start : start + BATCH])
            for trial_id, history in self._read(told.where(some)):
                if len(json.loads(history)) >= TRIES - 1:
                    yield trial_id

    def running(self, studies: Collection[int] | None = None) -> list[RunningTrial]:
        """Return the trials that are being worked on: of some studies, or of all."""
        query = sqlalchemy.select(
            TrialModel.trial_id,
            TrialModel.study_id,
            RUN_KEYS.value_json,
            OWNERS.value_json,
            TrialHeartbeatModel.heartbeat,
            self._now,
            sqlalchemy.func.timezone("UTC", sqlalchemy.func.pg_postmaster_start_time())
            if self._is_shared
            else sqlalchemy.null(),
        )
        query = with_run_key(query).join(StudyModel, StudyModel.study_id == TrialModel.study_id)
        query = query.outerjoin(OWNERS, (OWNERS.trial_id == TrialModel.trial_id) & (OWNERS.key == OWNER))
        query = query.outerjoin(TrialHeartbeatModel, TrialHeartbeatModel.trial_id == TrialModel.trial_id)
        query = query.where(TrialModel.state == TrialState.RUNNING).order_by(TrialModel.trial_id)
        found = self._read(query if studies is None else of_studies(studies, query))
        if found and self._was_away:
            self._reached, self._was_away = found[0][5], False
        return [
            RunningTrial(
                trial, study, json.loads(run_key or '""'), json.loads(owner or '""'), self._is_stale(now, *since)
            )
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

    def enter(self, new: Sequence[NewTrial]) -> None:
        """Enter trials with all that is known of them, values too, so that Optuna's own tools see them."""
        if not new:
            return
        now = datetime.datetime.now()  # local, as Optuna keeps it
        table = TrialModel.__table__
        insert = table.insert().returning(table.c.trial_id, sort_by_parameter_order=True)
        with self._writing() as session:
            numbers = numbers_to_come(session, {one.study_id for one in new})
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
                for model, row in rows_of(one):
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

    def claim(self, trial_id: int) -> LeasedTrial | None:
        """Make a waiting trial this process' own; None if it does not wait any more."""
        with self._writing() as session:
            if not moved(session, trial_id, TrialState.WAITING, TrialState.RUNNING):
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
        return LeasedTrial(
            trial_id, study, run_key, not self._read(tries(run_key).where(TrialModel.trial_id != trial_id))
        )

    def _tell_values(self, trial_id: int, space: Mapping[str, Any]) -> None:
        """Write the values of a trial that an older version entered, which left them to its worker."""
        if not space:
            return
        trial = self.get_trial(trial_id)
        for name, values in space.items():
            if name not in trial.params:
                distribution, _ = distribution_of(json.dumps(values), whole=name == SEED)
                value = distribution.to_internal_repr(trial.system_attrs["fixed_params"][name])
                self.set_trial_param(trial_id, name, value, distribution)

    def end(self, trial_id: int, state: TrialState, finished: Finished | None = None) -> bool:
        """End a running trial; return whether it was running."""
        with self._writing() as session:
            if not moved(session, trial_id, TrialState.RUNNING, state):
                return False
            session.get_one(TrialModel, trial_id).datetime_complete = datetime.datetime.now()
            if finished and state == TrialState.COMPLETE:
                session.add_all(model(trial_id=trial_id, **row) for model, row in result_rows(finished))
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
            if trial is None or not moved(session, trial_id, TrialState.RUNNING, TrialState.FAIL):
                return False
            trial.datetime_complete = datetime.datetime.now()
            told = {one.key: json.loads(one.value_json) for one in trial.system_attributes}
            history = [*told.get(HISTORY, ()), *([trial.number] if has_died else [])]
            if len(history) < TRIES:
                self._enter_again(session, trial, {"failed_trial": trial.number, **told, HISTORY: history})
        return True

    def _enter_again(self, session: Session, trial: TrialModel, told: Mapping[str, Any]) -> None:
        study = int(trial.study_id)
        number = next(numbers_to_come(session, {study})[study])
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
