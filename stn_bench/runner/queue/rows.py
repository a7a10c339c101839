"""The rows of Optuna's tables that a job is, and the queries that find them."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.storages._rdb.models import (
    StudyDirectionModel,
    StudyModel,
    TrialModel,
    TrialParamModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.orm import Session

from stn_bench.runner.leases import Finished
from stn_bench.study.spec import Range
from stn_bench.system.sounds import Direction

SEED = "seed"
SEEDS = Range(low=0, high=2**31 - 1)


@dataclass(frozen=True)
class QueuedJob:
    """One trial to be: its identity, the values that it tries by name, and the ranges that they come from."""

    run_key: str
    values: Mapping[str, Any]
    space: Mapping[str, Range]


class NewTrial(NamedTuple):
    """A trial to be entered: its study, its job, and the result if there is one."""

    study_id: int
    job: QueuedJob
    done: Finished | None


RUN_KEYS = sqlalchemy.orm.aliased(TrialUserAttributeModel)
OWNERS = sqlalchemy.orm.aliased(TrialUserAttributeModel)
DIRECTIONS: dict[Direction, StudyDirection] = {
    "maximize": StudyDirection.MAXIMIZE,
    "minimize": StudyDirection.MINIMIZE,
}


def of_studies(studies: Collection[int], query: sqlalchemy.Select[Any]) -> sqlalchemy.Select[Any]:
    """Ask for trials of studies, and of those with ids in between: a list of a thousand would be slower."""
    return query.where(TrialModel.study_id.between(min(studies, default=0), max(studies, default=-1)))


def with_run_key(query: sqlalchemy.Select[Any]) -> sqlalchemy.Select[Any]:
    """Ask for the run key of each trial too, as a column of `RUN_KEYS`."""
    return query.outerjoin(RUN_KEYS, (RUN_KEYS.trial_id == TrialModel.trial_id) & (RUN_KEYS.key == "run_key"))


def tries(run_key: str) -> sqlalchemy.Select[Any]:
    """Ask for the study and state of each trial of a job; the literal lets the store see that its index will do."""
    is_run_key = TrialUserAttributeModel.key == sqlalchemy.literal_column("'run_key'")
    query = sqlalchemy.select(TrialModel.study_id, TrialModel.state)
    query = query.join(TrialUserAttributeModel, TrialUserAttributeModel.trial_id == TrialModel.trial_id)
    return query.where(is_run_key, TrialUserAttributeModel.value_json == json.dumps(run_key))


def moved(session: Session, trial_id: int, before: TrialState, after: TrialState) -> bool:
    """Compare and set: change the state of a trial; return whether it was the expected one before."""
    change = sqlalchemy.update(TrialModel).where(TrialModel.trial_id == trial_id, TrialModel.state == before)
    return bool(session.connection().execute(change.values(state=after)).rowcount)


def study_row(name: str, direction: Direction) -> StudyModel:
    """Return the row of a study with one objective."""
    return StudyModel(study_name=name, directions=[StudyDirectionModel(objective=0, direction=DIRECTIONS[direction])])


def numbers_to_come(session: Session, studies: Collection[int]) -> dict[int, Iterator[int]]:
    """Return studies, each with the numbers of its trials to come; nobody else enters any until the session ends."""
    lock = sqlalchemy.select(StudyModel.study_id).where(StudyModel.study_id.between(min(studies), max(studies)))
    session.execute(lock.order_by(StudyModel.study_id).with_for_update())
    past = of_studies(studies, sqlalchemy.select(TrialModel.study_id, sqlalchemy.func.count()))
    counts: dict[int, int] = {study: count for study, count in session.execute(past.group_by(TrialModel.study_id))}
    return {study: itertools.count(counts.get(study, 0)) for study in studies}


def rows_of(new: NewTrial) -> Iterator[tuple[type, dict[str, Any]]]:
    """Yield the rows of a new trial beside its own, each with the table that it belongs to."""
    yield TrialUserAttributeModel, {"key": "run_key", "value_json": json.dumps(new.job.run_key)}
    for name, value in new.job.values.items():
        distribution, told = distribution_of(new.job.space[name].model_dump_json(), whole=name == SEED)
        internal = distribution.to_internal_repr(value)
        yield TrialParamModel, {"param_name": name, "param_value": internal, "distribution_json": told}
    if new.done:
        yield from result_rows(new.done)


def result_rows(finished: Finished) -> Iterator[tuple[type, dict[str, Any]]]:
    """Yield the rows of a result, each with the table that it belongs to."""
    value, kind = TrialValueModel.value_to_stored_repr(finished.value)
    yield TrialValueModel, {"objective": 0, "value": value, "value_type": kind}
    for key, told in {"run_id": finished.run_id, "outcome": finished.outcome}.items():
        yield TrialUserAttributeModel, {"key": key, "value_json": json.dumps(told)}


@functools.cache
def distribution_of(
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
